//! Reload: another bundle is compiled whole and put in force at once, or nothing changes.
use crate::config::settings::Snapshot;
use crate::serve::active::Active;
use crate::serve::reloads::{LastReload, Outcome, Trigger};
use crate::serve::run::{Running, limits, now_ms};
use crate::serve::watch::Watch;
use decide::record::Event;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why a bundle was not put in force: its problems, rendered for the operator, and their number.
#[derive(Debug)]
pub struct Refused {
    /// How many problems.
    pub problems: u64,
    /// All of them.
    pub text: String,
}

/// Loads the bundle anew. Called off the async threads.
pub type Loader = Arc<dyn Fn() -> Result<Snapshot, Refused> + Send + Sync>;

/// What two snapshots differ in, as far as an operator must know.
pub struct Difference {
    /// What only a restart can change; any of it refuses the reload.
    pub needs_restart: Vec<String>,
    /// What the new one allows that the old one did not; recorded in the audit log.
    pub loosened: Vec<String>,
}

/// Compares two snapshots.
pub type Comparer = fn(&Snapshot, &Snapshot) -> Difference;

/// Runs until SIGTERM or SIGINT: reloads on SIGHUP and when files change.
pub async fn supervise(running: &Running, load: Loader, compare: Comparer) -> std::io::Result<()> {
    let (mut hup, mut term, mut int) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut watch = Watch::new();
    loop {
        let snapshot = running.shared.active().snapshot.clone();
        let folder = snapshot.tls.iter().map(|tls| tls.certificates.as_path());
        watch.follow(snapshot.files.iter().map(|file| file.as_path()).chain(folder));
        let trigger = tokio::select! {
            _ = received(&mut hup) => Trigger::Hangup,
            () = watch.changed() => Trigger::Files,
            _ = received(&mut term) => return Ok(()),
            _ = received(&mut int) => return Ok(()),
        };
        if trigger == Trigger::Hangup {
            running.notifier.reloading();
        }
        refresh_certificates(running).await;
        let loader = load.clone();
        match tokio::task::spawn_blocking(move || loader()).await {
            Ok(Ok(next)) if snapshot.digest == next.digest => {
                if trigger != Trigger::Files {
                    tracing::info!(digest = next.digest, "reloaded: nothing has changed");
                    running.shared.metrics.config_loaded(&next.digest, env!("CARGO_PKG_VERSION"), now_ms() / 1000);
                    record(running, trigger, Outcome::Unchanged);
                }
            }
            Ok(Ok(next)) => apply(running, trigger, next, compare).await,
            Ok(Err(refused)) => refuse(running, trigger, refused),
            Err(error) => refuse(running, trigger, Refused { problems: 1, text: error.to_string() }),
        }
        if trigger == Trigger::Hangup {
            running.notifier.ready();
        }
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Puts another snapshot in force.
async fn apply(running: &Running, trigger: Trigger, next: Snapshot, compare: Comparer) {
    let before = running.shared.active();
    let difference = compare(&before.snapshot, &next);
    if !difference.needs_restart.is_empty() {
        let text = format!("needs a restart: {}", difference.needs_restart.join(", "));
        refuse(running, trigger, Refused { problems: difference.needs_restart.len() as u64, text });
        return;
    }
    let event = Event::ConfigLoad {
        digest: &next.digest,
        previous: Some(&before.snapshot.digest),
        loosened: &difference.loosened,
    };
    // What may not go unrecorded does not happen.
    if let Err(error) = running.shared.audit.system(event) {
        let text = format!("the audit log cannot record the change: {error}");
        refuse(running, trigger, Refused { problems: 1, text });
        return;
    }
    let next = Arc::new(next);
    let issuers = running.rings.rings(&next.issuers, next.token_cache, Some(before.issuers())).await;
    let metrics = &running.shared.metrics;
    let active = Active::new(next.clone(), issuers, running.quotas.clone(), metrics, Some(&before));
    running.shared.activate(Arc::new(active));
    running.quotas.reconfigure(&limits(&next));
    metrics.config_loaded(&next.digest, env!("CARGO_PKG_VERSION"), now_ms() / 1000);
    tracing::info!(digest = next.digest, loosened = ?difference.loosened, "reloaded");
    record(running, trigger, Outcome::Applied { loosened: difference.loosened });
}

fn refuse(running: &Running, trigger: Trigger, refused: Refused) {
    running.shared.metrics.config_refused(now_ms() / 1000);
    let _ = running.shared.audit.system(Event::ConfigRefuse { problems: refused.problems });
    tracing::error!(problems = refused.text, "not reloaded: the running configuration stays");
    record(running, trigger, Outcome::Refused { problems: refused.problems, text: refused.text });
}

/// Writes down how an attempt ended, for the status page.
fn record(running: &Running, trigger: Trigger, outcome: Outcome) {
    let digest = running.shared.active().snapshot.digest.clone();
    running.shared.reloads.record(LastReload { at_ms: now_ms(), trigger, digest, outcome });
}

/// Certificates follow their files by themselves: of a pair that does not hold, the last good one stays.
async fn refresh_certificates(running: &Running) {
    let Some(store) = running.certificates.clone() else { return };
    let reading = store.clone();
    let Ok(report) = tokio::task::spawn_blocking(move || reading.refresh()).await else { return };
    for problem in &report.problems {
        tracing::error!(file = %problem.file.display(), hint = problem.hint, "certificate not taken: {}", problem.message);
    }
    for warning in &report.warnings {
        tracing::warn!(file = %warning.file.display(), hint = warning.hint, "{}", warning.message);
    }
    let status = store.status();
    for name in &report.changed {
        let Some(certificate) = status.iter().find(|c| *c.name == **name) else { continue };
        let not_after_ms = u64::try_from(certificate.not_after_s).unwrap_or_default().saturating_mul(1000);
        let event = Event::CertificateChange { name, fingerprint: &certificate.fingerprint, not_after_ms };
        let _ = running.shared.audit.system(event);
        tracing::info!(certificate = name, "certificate changed");
    }
}
