//! What a reload changes around the snapshot: made ready before anything is put in force, then put in force at once.
use super::Refused;
use crate::config::last_good::Bundle;
use crate::config::settings::{Snapshot, Tls};
use crate::serve::certificates::{CertStatus, CertStore, RefreshReport};
use crate::serve::doors::Plan;
use crate::serve::logs;
use crate::serve::run::{Running, audit_options, load_certificates, now_ms};
use crate::serve::storage::{Ready, Storage};
use decide::record::Event;
use std::sync::Arc;

/// All that is ready.
pub(super) struct Prepared {
    certificates: Option<CertStore>,
    doors: Plan,
    log: Option<logs::Change>,
    storage: Ready,
}

/// Makes ready what `next` needs, or says why it cannot be had; nothing has changed then.
pub(super) async fn prepare(running: &Running, before: &Snapshot, next: &Snapshot) -> Result<Prepared, Refused> {
    let place = |tls: &Option<Tls>| tls.as_ref().map(|tls| (tls.certificates.clone(), tls.default_certificate.clone()));
    let certificates = match &next.tls {
        _ if place(&before.tls) == place(&next.tls) => None,
        None => Some(CertStore::empty()),
        Some(tls) => {
            let tls = tls.clone();
            let loaded = tokio::task::spawn_blocking(move || load_certificates(&tls)).await;
            let loaded = loaded.map_err(|error| Refused::because(error.to_string()))?;
            Some(loaded.map_err(|error| Refused::because(error.to_string()))?)
        }
    };
    let log = match (&before.telemetry, &next.telemetry) {
        (old, new) if old.json == new.json && old.level == new.level => None,
        (_, new) => {
            let change = logs::Change::prepare(new.json, &new.level);
            Some(change.map_err(|error| Refused::because(error.to_string()))?)
        }
    };
    let (redis, instance) = (next.redis.clone(), next.server.instance.clone());
    let storage = tokio::task::spawn_blocking(move || Storage::prepare(redis.as_ref(), &instance)).await;
    let storage = storage.map_err(|error| Refused::because(error.to_string()))?.map_err(Refused::because)?;
    // Last: the sockets that it opens are closed again by nobody but a failure here.
    let doors = running.doors.plan(next, running.certificates.as_ref()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Refused { problems: lines.len() as u64, ..Refused::because(lines.join("\n")) }
    })?;
    Ok(Prepared { certificates, doors, log, storage })
}

impl Prepared {
    /// Puts it in force. Nothing in here can fail.
    pub(super) fn carry_out(self, running: &Running, next: &Snapshot) {
        if let (Some(other), Some(store)) = (&self.certificates, &running.certificates) {
            let before = store.status();
            store.adopt(other);
            let changed = |now: &&CertStatus| !before.iter().any(|old| old.fingerprint == now.fingerprint);
            store.status().iter().filter(changed).for_each(|certificate| tell(running, certificate));
        }
        running.quotas.share(running.storage.adopt(self.storage));
        running.doors.resize(next.server.max_connections);
        running.shared.unread.resize(next.server.unread_answers);
        running.doors.carry_out(self.doors);
        let mut addresses = running.doors.addresses();
        let admin = running.shared.addresses.load().iter().find(|(name, _)| **name == *"admin").cloned();
        addresses.extend(admin);
        running.shared.addresses.store(Arc::new(addresses));
        running.shared.audit.reconfigure(audit_options(next));
        running.shared.access.resample(next.telemetry.access_share);
        if let Some(change) = self.log {
            change.apply();
        }
    }
}

/// Keeps the bundle that is in force for a start that finds a broken one. Its failure is no reason to serve less.
pub async fn keep(running: &Running, bundle: Bundle) {
    let state_dir = running.shared.active().snapshot.server.state_dir.clone();
    let bundle = Bundle { kept_at_ms: now_ms(), ..bundle };
    let kept = tokio::task::spawn_blocking(move || bundle.keep(&state_dir)).await;
    if let Err(error) = kept.map_err(std::io::Error::other).flatten() {
        tracing::error!(%error, "the bundle could not be kept: a start with broken files has none to fall back to");
    }
}

/// Certificates follow their files by themselves: of a pair that does not hold, the last good one stays.
pub(super) async fn refresh_certificates(running: &Running) {
    let Some(store) = running.certificates.clone() else { return };
    let reading = store.clone();
    let Ok(report) = tokio::task::spawn_blocking(move || reading.refresh()).await else { return };
    let RefreshReport { changed, removed: _, problems, warnings } = &report;
    for problem in problems {
        tracing::error!(file = %problem.file.display(), hint = problem.hint, "certificate not taken: {}", problem.message);
    }
    for warning in warnings {
        tracing::warn!(file = %warning.file.display(), hint = warning.hint, "{}", warning.message);
    }
    let status = store.status();
    status.iter().filter(|c| changed.iter().any(|name| **name == *c.name)).for_each(|c| tell(running, c));
}

fn tell(running: &Running, certificate: &CertStatus) {
    let CertStatus { name, fingerprint, not_after_s, .. } = certificate;
    let not_after_ms = u64::try_from(*not_after_s).unwrap_or_default().saturating_mul(1000);
    let _ = running.shared.audit.system(Event::CertificateChange { name, fingerprint, not_after_ms });
    tracing::info!(certificate = &**name, "certificate changed");
}
