//! Sessions and API keys that are not what they were: what a session opened while it was stronger is judged by what it is now,
//! and what a key opened ends with it.
use super::{Exchange, Pull, SHARDS, end};
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::serve::run::now_ms;
use crate::store::key_sets::Fault;
use decide::facts::Identity;
use decide::session::handle::public_id;
use std::sync::Arc;

/// Looks at all sessions and keys that were changed since it last did, here or by another replica. Those whose store is
/// silent are looked at with the next.
pub(super) async fn look_again(shared: &Shared) {
    let places = shared.revocations.take_changed();
    if places.is_empty() {
        return;
    }
    let active = shared.active();
    let mut silent = Vec::new();
    for place in places {
        shared.sessions.forget(&place);
        shared.key_sets.forget(&place);
        if let Err(fault) = bind(shared, &active, &place).await {
            tracing::warn!(%fault, "what an API key that was rotated has opened is not bound to its end yet");
            silent.push(place);
        }
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

/// What the API key in a place has opened ends with the key.
async fn bind(shared: &Shared, active: &Active, place: &[u8; 32]) -> Result<(), Fault> {
    for exchange in (0..SHARDS).flat_map(|shard| shared.live.shelf(shard)) {
        let Some((shelf, id)) = exchange.caller().and_then(|caller| active.shelf_of(caller)) else { continue };
        if shelf.place(id)? == *place
            && let Some((key, _)) = shared.key_sets.find(shelf, id, now_ms()).await?
        {
            exchange.end_by(key.identity.expires_at);
        }
    }
    Ok(())
}
