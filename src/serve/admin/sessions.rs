//! Orders of operators about sessions: which are to end, and how many that would be.
use super::answer::{problem, response, told};
use super::{Desk, guard};
use crate::config::settings::Snapshot;
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::serve::own::sessions::{Look, held_for};
use crate::serve::revocation::{Order, Via};
use crate::serve::run::now_ms;
use crate::store::families::FamilyId;
use crate::store::state::Kind;
use bytes::Bytes;
use decide::facts::Identity;
use decide::policy::nearest;
use decide::revocation::{FAMILIES, Mark, NEVER, OWN_SESSIONS, Target, Within};
use decide::rules::{Seat, UnknownTenant};
use decide::token::mint::OURS;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Largest order, in bytes.
const MOST: usize = 16 << 10;
/// Longest name of somebody who gives an order, in bytes.
const LONGEST_ACTOR: usize = 256;

/// What is to end. Issuers go by their names in `gateway.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// A session or family of refresh tokens: of ours by our id of it, of an issuer by its `sid`.
    Session {
        /// Whose `sid` it is; absent for ours.
        issuer: Option<String>,
        /// Its id.
        id: String,
    },
    /// All sessions of a user.
    Subject {
        /// Whose user; may be absent where nobody else vouches for people.
        issuer: Option<String>,
        /// The user.
        subject: String,
        /// Only those in this tenant.
        tenant: Option<String>,
    },
    /// All sessions of a tenant.
    Tenant {
        /// Its id.
        id: String,
    },
    /// A token by its `jti`.
    Token {
        /// Who issued it; may be absent where nobody else vouches for people.
        issuer: Option<String>,
        /// Its id.
        id: String,
    },
    /// All tokens that a key signed, by its `kid`.
    Key {
        /// Whose key; may be absent where nobody else vouches for people.
        issuer: Option<String>,
        /// Its id.
        id: String,
    },
    /// All sessions of an issuer.
    Issuer {
        /// Its name.
        name: String,
    },
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// What is to end.
    pub what: What,
    /// Only count.
    pub dry_run: bool,
    /// Who gives the order, by their own word.
    pub actor: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whether it was ended, or only counted.
    pub ended: bool,
    /// Tokens that this replica has verified in the last minutes and that it ends.
    pub tokens: u64,
    /// Requests, streams and WebSockets of this replica that it ends.
    pub running: u64,
    /// What the mark is found by, as in the audit log.
    pub handle: String,
}

/// Whose sessions are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    /// Whose user, by its name in `gateway.yaml`; may be absent where nobody else vouches for people.
    pub issuer: Option<String>,
    /// The user.
    pub subject: String,
    /// In which tenant; absent for sessions of none.
    pub tenant: Option<String>,
}

impl Whose {
    /// The name of the user's issuer, and the seat of the tenant. The error is for the operator.
    pub(super) fn found<'a>(&'a self, active: &'a Active) -> Result<(&'a str, Option<Seat>), String> {
        let rules = &active.snapshot.rules;
        let seat = self.tenant.as_ref().map(|id| rules.seat(id, "operator"));
        let seat =
            seat.transpose().map_err(|_| format!("there is no tenant `{}`", self.tenant.as_deref().unwrap_or("")))?;
        Ok((chosen(users(&active.snapshot), self.issuer.as_deref())?, seat))
    }
}

/// What a request says; else how it is answered.
pub(super) async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Response<Full<Bytes>>> {
    let body = Limited::new(request.into_body(), MOST).collect().await;
    let body = body.map_err(|_| problem(StatusCode::PAYLOAD_TOO_LARGE))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| told(StatusCode::BAD_REQUEST, &format!("the order is not understood: {error}")))
}

/// Lists what the gateway holds for a user.
pub(super) async fn list(desk: &Desk, request: Request<Incoming>) -> Response<Full<Bytes>> {
    // Whose sessions there are is nobody's business who cannot give orders.
    if !guard::may_change(request.headers()) {
        return problem(StatusCode::FORBIDDEN);
    }
    let Some(shared) = desk.gateway.upgrade() else { return problem(StatusCode::SERVICE_UNAVAILABLE) };
    let whose: Whose = match read(request).await {
        Ok(whose) => whose,
        Err(answer) => return answer,
    };
    let active = shared.active();
    let (issuer, seat) = match whose.found(&active) {
        Ok(found) => found,
        Err(why) => return told(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    let who = (issuer, whose.tenant.as_deref(), &*whose.subject);
    match held_for(&shared, &active, Look::Anywhere(seat.as_ref()), who).await {
        Ok((rows, _)) => {
            let rows: Vec<_> = rows.iter().map(|row| row.told(false)).collect();
            let text = serde_json::json!({ "sessions": rows }).to_string();
            response(StatusCode::OK, "application/json", text.into())
        }
        Err(cause) => told(StatusCode::SERVICE_UNAVAILABLE, &cause),
    }
}

/// Who gives an order, as told; the error is for them.
pub(super) fn actor(named: Option<&str>) -> Result<&str, String> {
    let actor = named.unwrap_or("admin listener");
    if actor.is_empty() || actor.len() > LONGEST_ACTOR || actor.chars().any(char::is_control) {
        return Err("the actor is not a short name".to_owned());
    }
    Ok(actor)
}

/// Ends something, or counts what would end.
pub(super) async fn revoke(desk: &Desk, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !guard::may_change(request.headers()) {
        return problem(StatusCode::FORBIDDEN);
    }
    let Some(shared) = desk.gateway.upgrade() else { return problem(StatusCode::SERVICE_UNAVAILABLE) };
    let active = shared.active();
    if !active.snapshot.revocation.listen.admin {
        return told(StatusCode::FORBIDDEN, "`sessions.revocation.listen` does not list `admin`");
    }
    let demand: Demand = match read(request).await {
        Ok(demand) => demand,
        Err(answer) => return answer,
    };
    match obey(&shared, &active, &demand).await {
        Ok(receipt) => match serde_json::to_vec(&receipt) {
            Ok(text) => response(StatusCode::OK, "application/json", text.into()),
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR),
        },
        Err((status, why)) => told(status, &why),
    }
}

async fn obey(shared: &Arc<Shared>, active: &Active, demand: &Demand) -> Result<Receipt, (StatusCode, String)> {
    let bad = |why: String| (StatusCode::UNPROCESSABLE_ENTITY, why);
    let actor = actor(demand.actor.as_deref()).map_err(bad)?;
    let mut target = demand.what.target(active).map_err(bad)?;
    if let Target::Session { issuer: issuer @ OWN_SESSIONS, id } = &mut target
        && is_family(shared, id).await.map_err(|fault| (StatusCode::SERVICE_UNAVAILABLE, fault))?
    {
        *issuer = FAMILIES;
    }
    let at_ms = now_ms();
    let tolerance_s = active.snapshot.revocation.clock_tolerance_s;
    let mark = Mark::of(&target, at_ms, tolerance_s, NEVER);
    let ends = |identity: &Identity| mark.ends(&identity.handles, identity.began_s());
    let signed = active.issuers().values().next().map_or(0, |ring| ring.remembered(ends));
    let asked = active.issuers().values().map(|ring| ring.asked_about(ends));
    let looked_up = active.app_sessions().values().map(|store| store.remembered(ends));
    let tokens = asked.chain(looked_up).fold(signed, u64::saturating_add);
    let running = shared.live.callers(ends);
    if !demand.dry_run {
        let order = Order { targets: &[target], at_ms, actor, via: Via::Admin };
        shared.end(order).await.map_err(|fault| (StatusCode::SERVICE_UNAVAILABLE, fault.to_string()))?;
    }
    Ok(Receipt { ended: !demand.dry_run, tokens, running, handle: mark.handle.to_string() })
}

/// Whether an id of ours is that of a family of refresh tokens.
async fn is_family(shared: &Shared, id: &str) -> Result<bool, String> {
    let Some(id) = FamilyId::parse(id) else { return Ok(false) };
    let found = shared.state.get(Kind::Family, &id.0).await;
    Ok(found.map_err(|silent| silent.to_string())?.is_some())
}

impl What {
    /// The same with issuers by their `iss`; the error is for the operator.
    fn target<'a>(&'a self, active: &'a Active) -> Result<Target<'a>, String> {
        let snapshot = &active.snapshot;
        let issuer =
            |name: &'a Option<String>| Ok::<_, String>(iss(snapshot, chosen(users(snapshot), name.as_deref())?));
        let signer =
            |name: &'a Option<String>| Ok::<_, String>(iss(snapshot, chosen(signers(snapshot), name.as_deref())?));
        let target = match self {
            What::Session { issuer: None, id } => Target::Session { issuer: OWN_SESSIONS, id },
            What::Session { issuer: name, id } => Target::Session { issuer: issuer(name)?, id },
            What::Subject { issuer: name, subject, tenant } => {
                let within = tenant.as_deref().map_or(Within::Anywhere, Within::Tenant);
                Target::Subject { issuer: issuer(name)?, subject, within }
            }
            What::Tenant { id } => Target::Tenant { id },
            What::Token { issuer: name, id } => Target::Token { issuer: signer(name)?, id },
            What::Key { issuer: name, id } => Target::Key { issuer: signer(name)?, id },
            What::Issuer { name } => Target::Issuer { issuer: iss(snapshot, chosen(users(snapshot), Some(name))?) },
        };
        let tenant = match &target {
            Target::Tenant { id } => Some(*id),
            Target::Subject { within: Within::Tenant(id), .. } => Some(*id),
            Target::Subject { .. }
            | Target::Session { .. }
            | Target::Token { .. }
            | Target::Key { .. }
            | Target::Issuer { .. }
            | Target::Known { .. } => None,
        };
        // A misspelt name would end nothing, and say that it had.
        let rules = &active.snapshot.rules;
        let listed = !rules.resolve.is_empty() && matches!(rules.unknown_tenant, UnknownTenant::Reject);
        match tenant.filter(|id| listed && !rules.tenants.contains_key(*id)) {
            Some(id) => Err(format!("there is no tenant `{id}`")),
            None => Ok(target),
        }
    }
}

/// The names of all who can say who a user is: issuers but our own, and ways in without tokens.
fn users(snapshot: &Snapshot) -> Vec<&str> {
    let issuers = snapshot.issuers.iter().map(|issuer| &*issuer.rules.name).filter(|name| *name != OURS);
    let grant = snapshot.sessions.browser.as_ref().and_then(|browser| browser.grant.as_ref());
    let grant = grant.map(|grant| &*grant.issuer);
    let certificates = snapshot.client_certificates.keys().map(|name| &**name);
    let stores = snapshot.app_sessions.iter().map(|store| &*store.sessions.name);
    let services = snapshot.ext_auth.iter().map(|service| &*service.name);
    issuers.chain(grant).chain(certificates).chain(stores).chain(services).collect()
}

/// The names of all whose keys or token ids there may be: them, and ourselves where we sign tokens.
fn signers(snapshot: &Snapshot) -> Vec<&str> {
    let ours = snapshot.issuers.iter().map(|issuer| &*issuer.rules.name).find(|name| *name == OURS);
    users(snapshot).into_iter().chain(ours).collect()
}

/// The one that is named, or the only one. A wrong guess would end nobody, and say that it had.
fn chosen<'a>(known: Vec<&'a str>, name: Option<&str>) -> Result<&'a str, String> {
    let listed = || known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (name, known.as_slice()) {
        (_, []) => Err("there is no issuer".to_owned()),
        (None, [only]) => Ok(*only),
        (None, _) => Err(format!("there is not just one issuer\n  hint: name one of {}", listed())),
        (Some(name), _) => known.iter().copied().find(|known| *known == name).ok_or_else(|| {
            let hint = nearest(name, known.iter().copied()).unwrap_or_else(|| format!("there are {}", listed()));
            format!("there is no issuer `{name}`\n  hint: {hint}")
        }),
    }
}

/// The `iss` of an issuer; of whoever else says who somebody is, the name.
fn iss<'a>(snapshot: &'a Snapshot, name: &'a str) -> &'a str {
    let found = snapshot.issuers.iter().find(|issuer| &*issuer.rules.name == name);
    found.map_or(name, |issuer| &issuer.rules.issuer)
}
