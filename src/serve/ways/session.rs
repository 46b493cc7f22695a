//! A session that the gateway holds, by the cookie with its handle.
use super::{Way, invalid};
use crate::serve::metrics::SessionEvent;
use crate::serve::sessions::{OLD, present};
use crate::store::sessions::Presented;
use decide::cookie;
use decide::facts::{Answer, Carrier, Credential};
use decide::session::browser::{Ending, Over};
use http::HeaderValue;
use http::header::COOKIE;

/// Judges the handle in the cookie of this name; `None` where the request has no such cookie.
pub(super) async fn verify(way: Way<'_>, name: &str) -> Option<Answer> {
    let text = match cookie::find(way.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes), name) {
        Ok(Some(text)) => text,
        Ok(None) => return None,
        Err(refusal) => return Some(invalid(refusal.cause)),
    };
    let Some(held) = way.active.held() else { return Some(invalid("the gateway holds no sessions")) };
    let realm = match held.realm_of(&way.active.snapshot.rules, way.request, way.found.seat.as_ref()) {
        Ok(realm) => realm,
        Err(refusal) => return Some(invalid(refusal.cause)),
    };
    let metrics = &way.shared.metrics;
    let presented = match present(way.shared, &realm, text, (way.facts.client.0, way.facts.at_ms)).await {
        Ok(presented) => presented,
        Err(fault) => return Some(Answer::Unavailable(fault.to_string())),
    };
    Some(Answer::Credential(match presented {
        Presented::Good { stale: true, .. } if way.found.route.audit.durable => {
            return Some(Answer::Unavailable(OLD.to_owned()));
        }
        Presented::Good { identity, hand, stale } => {
            if stale {
                metrics.session(SessionEvent::Stale);
            }
            if let Some(hand) = hand.and_then(|hand| held.hand(&hand)) {
                metrics.session(SessionEvent::Rotated);
                // Only one credential decides, so nothing is there yet.
                let _ = way.hand.set(hand);
            }
            Credential::Valid { identity, carrier: Carrier::Session }
        }
        Presented::Foreign(cause) => Credential::Invalid(cause.to_owned()),
        Presented::Unknown => Credential::Expired("the session is not known any more".to_owned()),
        Presented::Over(over) => over_cause(over),
        Presented::Reused { identity, other, .. } => {
            let id = identity.session.as_deref().unwrap_or_default();
            let other = other.map_or_else(|| "elsewhere".to_owned(), |other| other.to_string());
            let cause = format!(
                "a replaced handle of session `{id}` came back from {} while its successor was in use from {other}",
                way.facts.client.0
            );
            Credential::Reused(cause)
        }
    }))
}

fn over_cause(over: Over) -> Credential {
    match over {
        Over::Expired => Credential::Expired("the session has lived as long as it may".to_owned()),
        Over::Idle => Credential::Expired("the session was not used for too long".to_owned()),
        Over::Ended(Ending::Reused) => Credential::Revoked("the session was used twice".to_owned()),
        Over::Ended(Ending::Revoked) => Credential::Revoked("the session was revoked".to_owned()),
        Over::Ended(Ending::SignedOut) => Credential::Revoked("its user signed out".to_owned()),
        Over::Ended(Ending::Replaced) => Credential::Revoked("its user signed in anew".to_owned()),
    }
}
