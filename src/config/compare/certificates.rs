//! Client certificates that let in what they did not before.
use super::Lines;
use crate::config::settings::{AskedOfClients, ClientCertificates, Listener, Snapshot};
use decide::certificate::{Holders, Subject};
use std::sync::Arc;

pub(super) fn loosened(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    for (name, certificates) in &new.client_certificates {
        match old.client_certificates.get(name) {
            None => lines.when(true, || format!("`client_certificates.{name}` is new")),
            Some(before) => compare(name, before, certificates, lines),
        }
    }
    for listener in &new.listeners {
        if let Some(before) = old.listeners.iter().find(|other| other.name == listener.name) {
            compare_listeners(before, listener, lines);
        }
    }
}

fn compare(name: &str, before: &ClientCertificates, after: &ClientCertificates, lines: &mut Lines) {
    // A newer revocation list is the everyday change of it, and lets nobody in.
    lines.when(before.authority.roots != after.authority.roots, || {
        format!("`client_certificates.{name}` has other authorities")
    });
    lines.when(before.authority.next_update_s.is_some() && after.authority.next_update_s.is_none(), || {
        format!("`client_certificates.{name}` has no revocation list any more")
    });
    let (Some(old), Some(new)) = (before.holders.as_deref(), after.holders.as_deref()) else {
        lines.when(after.holders.is_some(), || format!("certificates of `{name}` are somebody now"));
        return;
    };
    compare_holders(name, old, new, lines);
}

fn compare_holders(name: &str, old: &Holders, new: &Holders, lines: &mut Lines) {
    for pattern in new.patterns.iter().filter(|pattern| !old.patterns.contains(pattern)) {
        lines.when(true, || format!("certificates of `{name}` may be for `{pattern}` too"));
    }
    lines.when(new.roles.iter().any(|role| !old.roles.contains(role)), || {
        format!("holders of certificates of `{name}` have more roles")
    });
    lines.when(new.tenant != old.tenant, || format!("certificates of `{name}` belong to other tenants"));
    lines.when(new.subject != old.subject, || match new.subject {
        Subject::Name => format!("certificates of `{name}` are known by their names instead of one by one"),
        Subject::Fingerprint => format!("certificates of `{name}` are known one by one instead of by their names"),
    });
}

fn compare_listeners(old: &Arc<Listener>, new: &Arc<Listener>, lines: &mut Lines) {
    let name = &new.name;
    let required = |listener: &Listener| listener.client_certificates.as_ref().is_some_and(|asked| asked.required);
    lines.when(required(old) && !required(new), || format!("listener `{name}` takes clients without certificate"));
    let names = |asked: &Option<Arc<AskedOfClients>>| -> Vec<Arc<str>> {
        asked.iter().flat_map(|asked| &asked.authorities).map(|one| one.name.clone()).collect()
    };
    let known = names(&old.client_certificates);
    for other in names(&new.client_certificates).iter().filter(|other| !known.contains(other)) {
        lines.when(true, || format!("listener `{name}` accepts certificates of `{other}` too"));
    }
}
