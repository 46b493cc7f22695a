//! Orders of operators about API keys in the state engine: what is asked, and what is answered.
//!
//! These orders give access, so that being on this machine is not enough for them: each is proven by the pepper of its set, which
//! only who runs the gateway can read. `moat keys` reads it where the configuration says.
mod orders;
#[cfg(test)]
mod tests;

use super::answer::{problem, response, told};
use super::sessions::read;
use super::{Desk, guard};
use crate::serve::api_keys::equal;
use crate::serve::run::now_ms;
use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

/// How long an order is good for, in seconds: the clocks of both sides may differ by as much.
const GOOD_S: u64 = 60;

/// An order, and proof that whoever gives it knows the pepper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// A [`Demand`] as JSON.
    demand: String,
    /// Its keyed hash.
    proof: [u8; 32],
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Which set.
    pub set: String,
    /// What is to be done.
    pub wish: Wish,
    /// Who gives the order, by their own word.
    pub actor: Option<String>,
    /// When it was given, seconds since the epoch.
    pub at_s: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// Tell all keys.
    List,
    /// Make a key.
    New(Who),
    /// Make a successor of a key.
    Rotate {
        /// Its id.
        id: String,
        /// How long the old one works beside it, in seconds.
        overlap_s: u64,
    },
    /// Revoke a key.
    Revoke {
        /// Its id.
        id: String,
    },
    /// Take over a key that another program made.
    Import {
        /// What it begins with.
        id: String,
        /// Its bcrypt hash.
        hash: String,
        /// Who it is.
        who: Who,
    },
}

/// Who a key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// What it is for, in words.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant: Option<String>,
    /// What it may do.
    pub roles: Vec<String>,
    /// The permissions that it is good for, of those that its roles grant; all of them where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Whom the application is told of; `key:` and the id where nobody says.
    pub subject: Option<String>,
    /// How long it works, in seconds; until it is revoked where nobody says.
    pub expires_s: Option<u64>,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Receipt {
    /// All keys.
    Keys(Vec<Row>),
    /// A key was made. This is the only time that it is told.
    Made {
        /// The key: a secret.
        key: String,
        /// Its id.
        id: String,
    },
    /// A successor was made.
    Rotated {
        /// The successor: a secret.
        key: String,
        /// Its id.
        id: String,
        /// When the old one ceases to work.
        until: String,
    },
    /// It is revoked.
    Revoked {
        /// Whether it was before.
        again: bool,
    },
    /// It is taken over.
    Imported,
}

/// A key, as it is listed. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// Whom the application is told of; in a file perhaps nobody says.
    pub subject: Option<String>,
    /// The tenant that it belongs to.
    pub tenant: Option<String>,
    /// What it may do.
    pub roles: Vec<String>,
    /// The permissions that it is good for, of those that its roles grant; `None` for all of them.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// `active`, `expired` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created: String,
    /// From when on it is expired.
    pub expires: Option<String>,
    /// When it was revoked.
    pub revoked: Option<String>,
    /// Id of the key that takes its place.
    pub successor: Option<String>,
    /// When it last let somebody in.
    pub last_used: Option<String>,
}

impl Proven {
    /// An order, proven by the pepper of its set.
    pub fn new(demand: &Demand, pepper: &hmac::Key) -> serde_json::Result<Proven> {
        let demand = serde_json::to_string(demand)?;
        Ok(Proven { proof: proof(&demand, pepper), demand })
    }
}

/// No key of anybody's is a text with a NUL, so that this is never the hash of one.
fn proof(demand: &str, pepper: &hmac::Key) -> [u8; 32] {
    let tag = hmac::sign(pepper, format!("order\0{demand}").as_bytes());
    tag.as_ref().try_into().unwrap_or_default()
}

/// Answers one order.
pub(super) async fn answer(desk: &Desk, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !guard::may_change(request.headers()) {
        return problem(StatusCode::FORBIDDEN);
    }
    let Some(shared) = desk.gateway.upgrade() else { return problem(StatusCode::SERVICE_UNAVAILABLE) };
    let proven: Proven = match read(request).await {
        Ok(proven) => proven,
        Err(answer) => return answer,
    };
    let demand: Demand = match serde_json::from_str(&proven.demand) {
        Ok(demand) => demand,
        Err(error) => return told(StatusCode::BAD_REQUEST, &format!("the order is not understood: {error}")),
    };
    let active = shared.active();
    let Some(named) = active.key_set(&demand.set) else {
        return told(StatusCode::UNPROCESSABLE_ENTITY, &format!("no route names the set `{}`", demand.set));
    };
    let now_ms = now_ms();
    if !equal(&proven.proof, &proof(&proven.demand, &named.settings.pepper)) {
        return told(StatusCode::FORBIDDEN, "the order is not proven: the gateway has another pepper");
    }
    if demand.at_s.abs_diff(now_ms / 1000) > GOOD_S {
        return told(StatusCode::FORBIDDEN, "the order is old, or the clock of whoever gives it is wrong");
    }
    match orders::obey(&shared, &active, named, &demand, now_ms).await {
        Ok(receipt) => match serde_json::to_vec(&receipt) {
            Ok(text) => response(StatusCode::OK, "application/json", text.into()),
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR),
        },
        Err(orders::Undone(status, why)) => told(status, &why),
    }
}
