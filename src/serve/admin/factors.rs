//! Orders of operators about second factors: how a user stands, and an app that is taken away.
use super::answer::{problem, response, told};
use super::sessions::{Whose, actor, read};
use super::{Desk, guard};
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::serve::own::sessions::{Look, held_for};
use crate::serve::run::now_ms;
use crate::store::factors::{Factors, Owner};
use bytes::Bytes;
use decide::facts::Person;
use decide::record::Event;
use decide::rules::Seat;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

/// What is to be known, or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Whose factor.
    pub whose: Whose,
    /// Take it away; else only say how it stands.
    pub remove: bool,
    /// Who gives the order, by their own word.
    pub actor: Option<String>,
}

/// How the factor of a user stands, or stood before it was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `none`, `unconfirmed` or `enrolled`; after an order to remove it `none`.
    pub factor: String,
    /// Recovery codes that have not been used.
    pub recovery_codes_left: usize,
    /// Whether there was one, and it was taken away.
    pub removed: bool,
    /// Sessions of the user that were as strong as a code, and are as the sign-in left them.
    pub weakened: usize,
}

/// Answers one order.
pub(super) async fn answer(desk: &Desk, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !guard::may_change(request.headers()) {
        return problem(StatusCode::FORBIDDEN);
    }
    let Some(shared) = desk.gateway.upgrade() else { return problem(StatusCode::SERVICE_UNAVAILABLE) };
    let demand: Demand = match read(request).await {
        Ok(demand) => demand,
        Err(answer) => return answer,
    };
    let active = shared.active();
    match obey(&shared, &active, &demand).await {
        Ok(standing) => match serde_json::to_vec(&standing) {
            Ok(text) => response(StatusCode::OK, "application/json", text.into()),
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR),
        },
        Err((status, why)) => told(status, &why),
    }
}

async fn obey(shared: &Shared, active: &Active, demand: &Demand) -> Result<Standing, (StatusCode, String)> {
    let bad = |why: String| (StatusCode::UNPROCESSABLE_ENTITY, why);
    let silent = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    let held = active.held().filter(|_| active.snapshot.sessions.totp.is_some());
    let held =
        held.ok_or_else(|| bad("the gateway keeps no second factors: there is no `sessions.totp`".to_owned()))?;
    let (whose, actor) = (&demand.whose, actor(demand.actor.as_deref()).map_err(bad)?);
    let (issuer, seat) = whose.found(active).map_err(bad)?;
    let realm = held.realm(seat.as_ref(), None);
    let factors = Factors { state: &shared.state, ring: &realm.ring };
    let (tenant, subject) = (whose.tenant.as_deref(), &*whose.subject);
    let owner = Owner { issuer, tenant: tenant.unwrap_or_default(), subject };
    if !demand.remove {
        let factor = factors.get(owner).await.map_err(|unknown| silent(unknown.to_string()))?;
        return Ok(Standing {
            factor: factor.as_ref().map_or("none", |factor| factor.state()).to_owned(),
            recovery_codes_left: factor.map_or(0, |factor| factor.recovery_left()),
            removed: false,
            weakened: 0,
        });
    }
    // Before the effect: what cannot be written down is not done.
    let event = Event::FactorRemove { actor: Person(actor), issuer, subject: Person(subject), tenant };
    let written = shared.audit.system(event);
    written.map_err(|error| silent(format!("the audit log cannot take an entry: {error}")))?;
    // One that cannot be opened any more is taken away too.
    let removed = factors.remove(owner).await.map_err(|unknown| silent(unknown.to_string()))?;
    let weakened = weaken(shared, active, seat.as_ref(), (issuer, tenant, subject)).await;
    let weakened =
        weakened.map_err(|why| silent(format!("the factor is gone, and sessions may still be strong: {why}")))?;
    Ok(Standing { factor: "none".to_owned(), recovery_codes_left: 0, removed, weakened })
}

/// What a code has made stronger is as the sign-in left it. Done anew where an order is given again.
async fn weaken(
    shared: &Shared,
    active: &Active,
    seat: Option<&Seat>,
    who: (&str, Option<&str>, &str),
) -> Result<usize, String> {
    let (mut weakened, mut places) = (0, Vec::new());
    for row in held_for(shared, active, Look::All(seat), who).await?.0 {
        let Some((realm, key)) = row.place() else { continue };
        let changed = shared.sessions.weaken(realm, key).await.map_err(|fault| fault.to_string())?;
        weakened += usize::from(changed);
        places.push(key);
    }
    // What they have opened meanwhile ends where it is not theirs any more, on all replicas.
    shared.revocations.change(&places, now_ms()).await.map_err(|silent| silent.to_string())?;
    Ok(weakened)
}
