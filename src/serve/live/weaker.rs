//! Sessions that have lost a standing: what they opened while they were stronger is judged by what they are now.
use super::{Exchange, Pull, SHARDS, end};
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use decide::facts::Identity;
use decide::session::handle::public_id;
use std::sync::Arc;

/// Looks at all sessions that were changed since it last did, here or by another replica. Those whose store is silent are
/// looked at with the next.
pub(super) async fn look_again(shared: &Shared) {
    let places = shared.revocations.take_changed();
    if places.is_empty() {
        return;
    }
    let active = shared.active();
    let mut silent = Vec::new();
    for place in places {
        shared.sessions.forget(&place);
        let id = public_id(&place);
        let opened_by = |exchange: &Arc<Exchange>| {
            exchange.caller().is_some_and(|caller| caller.handles.is_held() && caller.session.as_deref() == Some(&*id))
        };
        for exchange in (0..SHARDS).flat_map(|shard| shared.live.shelf(shard)).filter(opened_by) {
            match now(shared, &active, &exchange, &place).await {
                Ok(Some(identity)) => {
                    if let Err(refusal) = exchange.judge_as(&active.snapshot, identity) {
                        let cause = format!("its session is not what it was: {}", refusal.cause);
                        end(shared, &exchange, Pull { code: refusal.code, cause });
                    }
                }
                // Its mark ends it.
                Ok(None) => {}
                Err(fault) => {
                    tracing::warn!(fault, "what a session that was made weaker has opened is not judged yet");
                    silent.push(place);
                    break;
                }
            }
        }
    }
    shared.revocations.look_at_later(&silent);
}

/// Who a session makes of its holder now.
async fn now(
    shared: &Shared,
    active: &Active,
    exchange: &Exchange,
    place: &[u8; 32],
) -> Result<Option<Identity>, String> {
    let Some(held) = active.held() else { return Ok(None) };
    let seat = active.snapshot.rules.seat_of_host(exchange.request()).map_err(|refusal| refusal.cause.into_owned())?;
    let realm = held.realm(seat.as_ref(), None);
    let content = shared.sessions.content(&realm, place).await.map_err(|fault| fault.to_string())?;
    Ok(content.map(|content| content.identity(place, content.life.expires_at_ms(&realm.rules))))
}
