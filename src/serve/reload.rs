//! Reload: another bundle is compiled whole and put in force at once, or nothing changes.
pub mod asks;
mod prepare;
pub mod report;

use crate::config::Loaded;
use crate::config::compare::{loosened, needs_restart};
use crate::config::settings::Snapshot;
use crate::serve::active::Active;
use crate::serve::reloads::{LastReload, Outcome, Trigger};
use crate::serve::run::{Running, limits, now_ms};
use crate::serve::watch::Watch;
use asks::Ask;
use decide::record::Event;
pub use prepare::keep;
use report::{Report, Restart, Verdict};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Longer ago than any start takes.
const LATELY: Duration = Duration::from_secs(300);

/// Why a bundle was not put in force: its problems and their number.
#[derive(Debug)]
pub struct Refused {
    /// How many problems.
    pub problems: u64,
    /// All of them, rendered for the operator.
    pub text: String,
    /// All of them as a JSON list; empty where they are not the bundle's.
    pub list: serde_json::Value,
}

impl Refused {
    /// One problem that is not the bundle's own.
    pub fn because(text: impl Into<String>) -> Refused {
        Refused { problems: 1, text: text.into(), list: serde_json::Value::Array(Vec::new()) }
    }
}

/// Loads the bundle anew. Called off the async threads.
pub type Loader = Arc<dyn Fn() -> Result<Loaded, Refused> + Send + Sync>;

/// SIGHUP, from now on: without somebody who listens it ends the process, also while that starts.
pub struct Hangups(Signal);

impl Hangups {
    /// Listens. What comes before anybody acts on it is not lost. Needs a tokio runtime.
    pub fn new() -> std::io::Result<Hangups> {
        signal(SignalKind::hangup()).map(Hangups)
    }
}

/// Runs until SIGTERM or SIGINT: reloads on SIGHUP, when files change, and when somebody asks through the admin listener.
pub async fn supervise(running: &Running, load: Loader, hangups: Hangups) -> std::io::Result<()> {
    let Hangups(mut hup) = hangups;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut watch = Watch::new();
    let mut asks = running.shared.asks.receive();
    let mut watched = false;
    loop {
        let snapshot = running.shared.active().snapshot.clone();
        let folder = snapshot.tls.iter().map(|tls| tls.certificates.as_path());
        watch.follow(snapshot.files.iter().map(|file| file.as_path()).chain(folder));
        if !std::mem::replace(&mut watched, true) && changed_meanwhile(&snapshot, &load).await {
            attempt(running, &load, Trigger::Files, false).await;
            continue;
        }
        let (trigger, ask) = tokio::select! {
            _ = received(&mut hup) => (Trigger::Hangup, None),
            () = watch.changed() => (Trigger::Files, None),
            ask = asked(&mut asks) => (Trigger::Command, Some(ask)),
            _ = received(&mut term) => return Ok(()),
            _ = received(&mut int) => return Ok(()),
        };
        if trigger == Trigger::Hangup {
            running.notifier.reloading();
        }
        let report = attempt(running, &load, trigger, ask.as_ref().is_some_and(|ask| ask.dry_run)).await;
        // What reading the files has taken; what was in force before follows once nobody holds it.
        tokio::task::spawn_blocking(heap::give_back);
        if let Some(ask) = ask {
            ask.answer(report);
        }
        if trigger == Trigger::Hangup {
            running.notifier.ready();
        }
    }
}

/// Whether files that hold are other ones than those that the process started with: nobody watched them until now.
async fn changed_meanwhile(snapshot: &Snapshot, load: &Loader) -> bool {
    // Most starts find files that nobody has touched for long, and need not read them twice.
    let lately = SystemTime::now().checked_sub(LATELY);
    let touched = |file: &std::path::PathBuf| file.metadata().and_then(|about| about.modified()).ok() >= lately;
    if snapshot.fallback.is_none() && !snapshot.files.iter().any(touched) {
        return false;
    }
    let loader = load.clone();
    let loaded = tokio::task::spawn_blocking(move || loader()).await;
    matches!(loaded, Ok(Ok(now)) if now.snapshot.digest != snapshot.digest
        || now.snapshot.sessions != snapshot.sessions
        || snapshot.fallback.is_some())
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn asked(asks: &mut Option<mpsc::Receiver<Ask>>) -> Ask {
    match asks {
        Some(asks) => match asks.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Loads the bundle, compares it with what is in force, and puts it in force unless this is a `dry_run`.
async fn attempt(running: &Running, load: &Loader, trigger: Trigger, dry_run: bool) -> Report {
    if !dry_run {
        prepare::refresh_certificates(running).await;
    }
    let before = running.shared.active();
    let mut report = Report::new(&before.snapshot.digest);
    let loader = load.clone();
    let loaded = match tokio::task::spawn_blocking(move || loader()).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(refused)) => return refuse(running, trigger, dry_run, report, refused),
        Err(error) => return refuse(running, trigger, dry_run, report, Refused::because(error.to_string())),
    };
    let next = &loaded.snapshot;
    report.candidate = Some(next.digest.clone());
    report.changes = before.snapshot.outline.changes(&next.outline);
    report.loosened = loosened(&before.snapshot, next);
    // Files that hold again are put in force, also where they are what was kept of them.
    // The digest knows files of the bundle; keys are elsewhere.
    let same = before.snapshot.digest == next.digest && before.snapshot.sessions == next.sessions;
    if same && before.snapshot.fallback.is_none() {
        if trigger != Trigger::Files && !dry_run {
            tracing::info!(digest = next.digest, "reloaded: nothing has changed");
            running.shared.metrics.config_loaded(&next.digest, env!("CARGO_PKG_VERSION"), now_ms() / 1000);
            record(running, trigger, Outcome::Unchanged);
        }
        report.verdict = Verdict::Unchanged;
        return report;
    }
    let fixed = needs_restart(&before.snapshot, next);
    report.needs_restart = fixed.into_iter().map(|key| Restart::of(key, &loaded)).collect();
    if !report.needs_restart.is_empty() {
        let keys: Vec<String> = report.needs_restart.iter().map(Restart::to_string).collect();
        let text = format!("needs a restart: {}", keys.join(", "));
        let problems = keys.len() as u64;
        let mut report = refuse(running, trigger, dry_run, report, Refused { problems, ..Refused::because(text) });
        report.verdict = Verdict::NeedsRestart;
        return report;
    }
    if dry_run {
        report.verdict = Verdict::WouldReload;
        return report;
    }
    let Loaded { snapshot: next, bundle, .. } = loaded;
    match apply(running, &before, next, &report.loosened).await {
        Ok(digest) => {
            prepare::keep(running, bundle).await;
            tracing::info!(digest, loosened = ?report.loosened, "reloaded");
            record(running, trigger, Outcome::Applied { loosened: report.loosened.clone() });
            report.verdict = Verdict::Reloaded;
            report.digest = digest;
            report
        }
        Err(refused) => refuse(running, trigger, dry_run, report, refused),
    }
}

/// Puts another snapshot in force; returns its digest. Everything that can fail comes first.
async fn apply(running: &Running, before: &Active, next: Snapshot, loosened: &[String]) -> Result<String, Refused> {
    let prepared = prepare::prepare(running, &before.snapshot, &next).await?;
    let event =
        Event::ConfigLoad { digest: &next.digest, previous: Some(&before.snapshot.digest), loosened, fallback: None };
    // What may not go unrecorded does not happen.
    if let Err(error) = running.shared.audit.system(event) {
        return Err(Refused::because(format!("the audit log cannot record the change: {error}")));
    }
    let next = Arc::new(next);
    let issuers = running.rings.rings(&next.issuers, next.token_cache, Some(before.issuers())).await;
    let metrics = &running.shared.metrics;
    metrics.resize_tenants(next.telemetry.tenant_top);
    let active = Active::new(next.clone(), issuers, running.quotas.clone(), metrics, Some(before));
    active.settled().await;
    running.shared.activate(Arc::new(active));
    running.quotas.reconfigure(&limits(&next));
    prepared.carry_out(running, &next);
    metrics.config_loaded(&next.digest, env!("CARGO_PKG_VERSION"), now_ms() / 1000);
    Ok(next.digest.clone())
}

fn refuse(running: &Running, trigger: Trigger, dry_run: bool, mut report: Report, refused: Refused) -> Report {
    if !dry_run {
        running.shared.metrics.config_refused(now_ms() / 1000);
        let _ = running.shared.audit.system(Event::ConfigRefuse { problems: refused.problems });
        tracing::error!(problems = refused.text, "not reloaded: the running configuration stays");
        record(running, trigger, Outcome::Refused { problems: refused.problems, text: refused.text.clone() });
    }
    report.verdict = Verdict::Problems;
    (report.problems, report.text, report.list) = (refused.problems, refused.text, refused.list);
    report
}

/// Writes down how an attempt ended, for the status page.
fn record(running: &Running, trigger: Trigger, outcome: Outcome) {
    let digest = running.shared.active().snapshot.digest.clone();
    running.shared.reloads.record(LastReload { at_ms: now_ms(), trigger, digest, outcome });
}
