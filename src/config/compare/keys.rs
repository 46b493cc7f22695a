//! API keys that let in what they did not before.
use super::Lines;
use crate::config::settings::{ApiKey, ApiKeys, Snapshot};
use std::sync::Arc;

pub(super) fn loosened(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    for (file, keys) in &new.api_keys {
        let Some(before) = old.api_keys.get(file) else { continue };
        let mut ids: Vec<(&str, &Arc<ApiKey>)> = keys.keys.iter().map(|(id, key)| (&**id, key)).collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        for (id, key) in ids {
            compare(id, before, key, lines);
        }
    }
}

fn compare(id: &str, before: &ApiKeys, key: &ApiKey, lines: &mut Lines) {
    let Some(was) = before.key(id) else {
        lines.when(!key.revoked, || format!("API key `{id}` is new"));
        return;
    };
    let (old, new) = (&was.identity, &key.identity);
    lines.when(was.revoked && !key.revoked, || format!("API key `{id}` is no longer revoked"));
    lines.when(new.expires_at > old.expires_at, || format!("API key `{id}` lives longer"));
    lines.when(new.roles.iter().any(|role| !old.roles.contains(role)), || format!("API key `{id}` has more roles"));
    let wider = match (&old.scopes, &new.scopes) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => new.iter().any(|scope| !old.contains(scope)),
    };
    lines.when(wider, || format!("API key `{id}` has more scopes"));
    lines.when(new.tenant != old.tenant, || format!("API key `{id}` belongs to another tenant"));
    lines.when(new.subject != old.subject, || format!("API key `{id}` speaks for somebody else"));
}
