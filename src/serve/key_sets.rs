//! API keys of the state engine at work: which key of a set a text is, at any replica.
//!
//! **Cost.** What was not made by the gateway fails by its form, checksum or mark, before anything is looked up. A key that was
//! read within the last seconds costs two keyed hashes; the bcrypt hash of an imported one is checked once, by whichever replica
//! meets it first, and written down as a keyed hash.
use crate::config::settings::KeySet;
use crate::serve::api_keys::{self, equal, imported};
use crate::serve::sessions::OLD;
use crate::serve::ways::{Way, invalid};
use crate::store::key_sets::{Content, Hash, Key, Shelf};
use decide::api_key;
use decide::facts::{Answer, Carrier, Credential, Identity};
use decide::rules::Rules;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A set that some route names, and where its keys lie.
#[derive(Debug)]
pub struct Named {
    /// Its settings.
    pub settings: Arc<KeySet>,
    /// Its place in the state engine.
    pub shelf: Arc<Shelf>,
}

impl Named {
    /// By these settings.
    pub fn new(settings: Arc<KeySet>) -> Named {
        let shelf = Arc::new(Shelf::new(settings.name.clone(), &settings.sealing_key()));
        Named { settings, shelf }
    }
}

/// Judges what the header of a key holds.
pub(super) async fn judge(way: Way<'_>, set: &str, text: &str) -> Answer {
    let Some(Named { settings, shelf }) = way.active.key_set(set) else { return invalid("there are no API keys") };
    if text.len() > api_keys::MAX_BYTES {
        return invalid("the API key is too long");
    }
    let (sets, now_ms) = (&way.shared.key_sets, way.facts.at_ms);
    let (found, wrong) = match api_key::parse(text, &settings.prefix) {
        Ok(written) if written.is_marked(&settings.mark(written.draft)) => {
            (sets.find(shelf, written.id, now_ms).await, "no such API key")
        }
        Ok(_) => (sets.find_imported(shelf, text, now_ms).await, "the API key was not made here"),
        Err(flaw) => (sets.find_imported(shelf, text, now_ms).await, flaw.cause()),
    };
    let (key, stale) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return invalid(wrong),
        Err(fault) => return Answer::Unavailable(fault.to_string()),
    };
    match is_right(way, shelf, settings, &key, text).await {
        Err(cause) => return Answer::Unavailable(cause.to_owned()),
        Ok(false) => return invalid("the API key's secret is wrong"),
        Ok(true) => {}
    }
    if key.content.revoked_s.is_some() {
        return Answer::Credential(Credential::Revoked("the API key was revoked".to_owned()));
    }
    if let Err(cause) = at_home(&way.active.snapshot.rules, &key.identity) {
        return invalid(cause);
    }
    if stale {
        if way.found.route.audit.durable {
            return Answer::Unavailable(OLD.to_owned());
        }
        way.shared.metrics.api_key_stale();
    }
    note(way, settings, &key);
    Answer::Credential(Credential::Valid { identity: key.identity.clone(), carrier: Carrier::ApiKey })
}

/// Whether tenant and roles of a key are in force: a reload may have taken them away since it was made.
pub fn at_home(rules: &Rules, identity: &Identity) -> Result<(), &'static str> {
    if identity.tenant.as_deref().is_some_and(|id| rules.seat(id, "api_key").is_err()) {
        return Err("the tenant of the API key is not known any more");
    }
    if !identity.roles.iter().all(|role| rules.policy.knows(role)) {
        return Err("a role of the API key is not known any more");
    }
    Ok(())
}

async fn is_right(
    way: Way<'_>,
    shelf: &Arc<Shelf>,
    settings: &KeySet,
    key: &Key,
    text: &str,
) -> Result<bool, &'static str> {
    let hash = settings.hash(text);
    let bcrypt = match &key.content.hash {
        Hash::Hmac(known) => return Ok(equal(known, &hash)),
        Hash::Bcrypt(bcrypt) => bcrypt,
    };
    let first = key.seen.get().is_none();
    let right = imported(hash, text, bcrypt, &key.seen).await?;
    if right && first {
        // From now on no replica does it the slow way; where that cannot be written, the next use tries again.
        let (sets, shelf, id) = (way.shared.key_sets.clone(), shelf.clone(), key.content.id.clone());
        tokio::spawn(async move {
            let hashed = |content: &mut Content| {
                content.hash = Hash::Hmac(hash);
                true
            };
            if let Err(fault) = sets.change(&shelf, &id, hashed).await {
                tracing::debug!(%fault, "the hash of an imported API key is written down with its next use");
            }
        });
    }
    Ok(right)
}

/// At most once for each time that a key is read, and not for one that has expired.
fn note(way: Way<'_>, settings: &KeySet, key: &Key) {
    let now_s = way.facts.at_s();
    let first = key.used_s.load(Ordering::Relaxed) == 0 && now_s < key.identity.expires_at;
    if first && key.used_s.swap(now_s, Ordering::Relaxed) == 0 {
        way.shared.key_sets.used(settings.use_place(&key.content.id), now_s);
    }
}
