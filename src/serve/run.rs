//! Starts the gateway from a snapshot (audit log, keys, listeners, admin), and ends it in order.
use crate::config::settings::{self, Fallback, Snapshot};
use crate::serve::active::Active;
use crate::serve::admin::{AdminServer, Check, Paths};
use crate::serve::assertion::Assertions;
use crate::serve::certificates::CertStore;
use crate::serve::doors::Doors;
use crate::serve::drain::Drain;
use crate::serve::factor_keys;
use crate::serve::fallback;
use crate::serve::gateway::{Gateway, Shared};
use crate::serve::handover::Predecessor;
use crate::serve::herald::Herald;
use crate::serve::inherited::Inherited;
use crate::serve::key_use;
use crate::serve::keys::KeyRings;
use crate::serve::limits::Budget;
use crate::serve::listener::{self, Bound, House};
use crate::serve::listening::Listening;
use crate::serve::live;
use crate::serve::logs::{AccessLog, Lines, QUEUE_BYTES};
use crate::serve::memory;
use crate::serve::metrics::{Metrics, Stream};
use crate::serve::notify::Notifier;
use crate::serve::proxy_settings;
use crate::serve::reloads::{LastReload, Outcome, Trigger};
use crate::serve::revocation;
use crate::serve::state;
use crate::serve::status::Status;
use crate::serve::storage::Storage;
use crate::serve::traces::{Exporting, Traces};
use crate::store::audit::{self, AuditLog};
use crate::store::quota::{Janitor, Quotas};
use crate::store::state::State;
use anyhow::{Context as _, Result, anyhow, bail};
use decide::record::Event;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often limits forget keys whose quota is whole again.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long the first reading of what was ended is waited for at the start.
const FIRST_READ: Duration = Duration::from_secs(1);

/// A gateway that runs.
pub struct Running {
    /// What its requests share.
    pub shared: Arc<Shared>,
    /// Bound addresses by listener; `admin` is one of them.
    pub addresses: Vec<(Arc<str>, SocketAddr)>,
    /// Looks after key sets over reloads.
    pub rings: KeyRings,
    /// The certificates in use; an empty store without TLS.
    pub certificates: Option<Arc<CertStore>>,
    /// The limits, kept over reloads.
    pub quotas: Arc<Quotas>,
    /// The store that replicas share, kept over reloads.
    pub storage: Arc<Storage>,
    /// The sockets that are accepted from.
    pub listening: Listening,
    /// The listeners, kept over reloads as far as their addresses are.
    pub doors: Doors,
    /// The way to the service manager; to none, unless set.
    pub notifier: Arc<Notifier>,
    /// The orderly end.
    pub drain: Drain,
    pub(super) tasks: JoinSet<()>,
    /// Ends the admin listener.
    pub(super) close_admin: watch::Sender<bool>,
    pub(super) exporting: Exporting,
    _janitor: Janitor,
}

/// A gateway that is ready but for its audit log: nothing has been written, nobody has been accepted.
pub struct Prepared {
    snapshot: Arc<Snapshot>,
    certificates: Option<Arc<CertStore>>,
    bound: Vec<Bound>,
    given: Inherited,
    metrics: Arc<Metrics>,
    access: AccessLog,
    assertions: Assertions,
    herald: Arc<Herald>,
    rings: KeyRings,
    quotas: Arc<Quotas>,
    storage: Arc<Storage>,
    state: Arc<State>,
    active: Arc<Active>,
    log: Option<Arc<Lines>>,
}

impl Running {
    /// Starts. Everything that can fail is tried before the first connection is accepted.
    pub async fn start(snapshot: Snapshot, log: Option<Arc<Lines>>, given: Inherited) -> Result<Running> {
        let prepared = Prepared::new(snapshot, log, given).await?;
        let options = audit_options(&prepared.snapshot);
        let audit = AuditLog::open(options, Arc::new(now_ms)).context("the audit log")?;
        prepared.run(audit).await
    }

    /// Starts in place of another process, which serves until this one does, and goes on should this one fail. Sockets
    /// that it gave are taken first.
    pub async fn succeed(
        snapshot: Snapshot,
        log: Option<Arc<Lines>>,
        given: Inherited,
        mut predecessor: Predecessor,
    ) -> Result<Running> {
        let prepared = Prepared::new(snapshot, log, given).await?;
        if let Some(doubt) = prepared.doubt() {
            let reason = format!("not ready: {doubt}");
            predecessor.give_up(&reason);
            bail!(reason);
        }
        let options = audit_options(&prepared.snapshot);
        let yours = tokio::task::block_in_place(|| predecessor.log(&options.directory))?;
        let open = if yours { AuditLog::succeed } else { AuditLog::open };
        let running = match open(options, Arc::new(now_ms)).context("the audit log") {
            Ok(audit) => prepared.run(audit).await,
            Err(error) => Err(error),
        };
        match running {
            Ok(running) => {
                let audit = running.shared.audit.clone();
                tokio::task::block_in_place(|| predecessor.retire(audit, &running.drain))?;
                Ok(running)
            }
            Err(error) => {
                predecessor.give_up(&format!("{error:#}"));
                Err(error)
            }
        }
    }
}

impl Prepared {
    /// Takes sockets, reads certificates and keys, fetches key sets. Sockets that were `given` are taken first.
    pub async fn new(snapshot: Snapshot, log: Option<Arc<Lines>>, mut given: Inherited) -> Result<Prepared> {
        let snapshot = Arc::new(snapshot);
        let state_dir = &snapshot.server.state_dir;
        make_private(state_dir).with_context(|| format!("cannot use the state folder `{}`", state_dir.display()))?;
        let certificates = Some(Arc::new(match &snapshot.tls {
            Some(tls) => load_certificates(tls)?,
            None => CertStore::empty(),
        }));
        let bound = snapshot
            .listeners
            .iter()
            .map(|settings| listener::bind(settings, certificates.as_ref(), &mut given, snapshot.server.reuse_port))
            .collect::<Result<Vec<_>, _>>()?;
        let metrics = Arc::new(Metrics::new(snapshot.telemetry.tenant_top)?);
        let access = AccessLog::new(
            Arc::new(Lines::start("access", Box::new(std::io::stdout()), QUEUE_BYTES)?),
            snapshot.telemetry.access_share,
        );
        let assertions = Assertions::open(state_dir, &snapshot.server.instance).context("the assertion key")?;
        let herald = Arc::new(Herald::default());
        let heard = herald.clone();
        let rings = KeyRings::new(state_dir.clone(), move |change| heard.keys_changed(change));
        let quotas = Arc::new(Quotas::new());
        quotas.reconfigure(&limits(&snapshot));
        let storage = Arc::new(Storage::new(metrics.store(), herald.clone()));
        let reading = snapshot.clone();
        let ready =
            tokio::task::spawn_blocking(move || Storage::prepare(reading.redis.as_ref(), &reading.server.instance))
                .await?
                .map_err(|e| anyhow!(e))?;
        let state = Arc::new(state::open(&snapshot, (metrics.state(), metrics.store()), &herald).await?);
        let common = storage.adopt(ready);
        quotas.share(common.clone());
        // So that the first request finds it, where it can be found. A silent store is no reason not to start.
        if let Some(common) = common {
            common.store.tried().await;
        }
        let issuers = rings.rings(&snapshot.issuers, snapshot.token_cache, None).await;
        let active = Arc::new(Active::new(snapshot.clone(), issuers, quotas.clone(), &metrics, None));
        active.settled().await;
        Ok(Prepared {
            snapshot,
            certificates,
            bound,
            given,
            metrics,
            access,
            assertions,
            herald,
            rings,
            quotas,
            storage,
            state,
            active,
            log,
        })
    }

    /// Why it would not be ready.
    fn doubt(&self) -> Option<String> {
        let dark = self.active.issuers().values().map(|ring| ring.status()).find(|status| !status.usable);
        dark.map(|status| format!("no usable key set for issuer `{}`", status.issuer))
    }

    /// Begins to write this log, and to serve.
    pub async fn run(self, audit: AuditLog) -> Result<Running> {
        if let Some(doubt) = memory::doubt(&self.snapshot, memory::allowed()) {
            tracing::warn!("{doubt}");
        }
        let Prepared { snapshot, certificates, bound, mut given, metrics, access, assertions, .. } = self;
        let Prepared { herald, rings, quotas, storage, state, active, log, .. } = self;
        let audit = Arc::new(audit);
        let (traces, exporter) = Traces::new(metrics.traces());
        let shared = Arc::new(Shared::new(active, (audit.clone(), state), access, metrics.clone(), assertions, traces));
        let fallback = snapshot.fallback.as_ref();
        let loaded = Event::ConfigLoad {
            digest: &snapshot.digest,
            previous: None,
            loosened: &[],
            fallback: fallback.map(|fallback| fallback.problems),
        };
        shared.audit.system(loaded).map_err(|e| anyhow!("the audit log: {e}"))?;
        herald.begin(audit);
        metrics.config_loaded(&snapshot.digest, env!("CARGO_PKG_VERSION"), now_ms() / 1000);
        let outcome = match fallback {
            None => Outcome::Applied { loosened: Vec::new() },
            Some(Fallback { problems, text, .. }) => Outcome::LastGood { problems: *problems, text: text.clone() },
        };
        let started = LastReload { at_ms: now_ms(), trigger: Trigger::Start, digest: snapshot.digest.clone(), outcome };
        shared.reloads.record(started);

        let admin = &snapshot.admin;
        let paths = Paths::of(&snapshot);
        before_scrape(&metrics, &shared, certificates.clone(), (quotas.clone(), storage.clone()), log);
        let drain = Drain::new();
        let desk =
            AdminServer::bind(admin.address, paths, metrics, checks(&shared, certificates.clone(), &drain), &mut given)
                .await
                .with_context(|| format!("the admin listener cannot use `{}`", admin.address))?;

        given.finish().map_err(|message| anyhow!(message))?;
        let mut addresses: Vec<(Arc<str>, SocketAddr)> = bound.iter().map(|b| (b.name.clone(), b.address)).collect();
        addresses.push((Arc::from("admin"), desk.address()));
        shared.addresses.store(Arc::new(addresses.clone()));
        let listening = Listening::default();
        let status = Status::new(shared.clone(), certificates.clone(), quotas.clone(), storage.clone(), drain.clone());
        let status = snapshot.admin.status_page.then(|| Arc::new(status));
        let desk = desk.with_orders(&shared);
        let desk = match &status {
            Some(status) => desk.with_status(status.clone()),
            None => desk,
        };
        let gateway = Gateway::new(shared.clone());
        let house = House {
            app: Arc::new(proxy_settings::proxy(gateway.clone(), &snapshot)),
            front: Arc::new(gateway),
            drain: drain.clone(),
            budget: Budget::new(snapshot.server.max_connections),
            listening: listening.clone(),
        };
        let mut tasks = JoinSet::new();
        // Who was ended is known before the first is let in; where the store is silent, they are told to come back.
        tasks.spawn(shared.revocations.clone().follow());
        shared.revocations.read_within(FIRST_READ).await;
        let doors = Doors::new(house);
        bound.into_iter().for_each(|bound| doors.open(bound));
        tasks.spawn(live::watch_over(shared.clone()));
        let retired = shared.retired.clone();
        tasks.spawn(async move { retired.clear_out().await });
        tasks.spawn(fallback::remind(shared.clone()));
        tasks.spawn(key_use::keep(shared.clone()));
        tasks.spawn(factor_keys::keep(shared.clone()));
        tasks.spawn(quotas.clone().keep_together());
        tasks.spawn(shared.state.clone().keep_house());
        tasks.spawn(revocation::watch_over(shared.clone()));
        if let Some(status) = status {
            tasks.spawn(status.keep_time());
        }
        // Readiness says "draining" until the last connection is gone.
        let (close_admin, mut admin_closed) = watch::channel(false);
        let desk = desk.serve(listening.clone(), async move { drop(admin_closed.wait_for(|over| *over).await) });
        tasks.spawn(async move {
            if let Err(error) = desk.await {
                tracing::error!(listener = "admin", %error, "the listener has stopped");
            }
        });
        for (name, address) in &addresses {
            tracing::info!(target: "moat::listening", listener = &**name, address = %address, "listening");
        }
        tracing::info!(digest = snapshot.digest, "ready");
        let janitor = Janitor::start(quotas.clone(), SWEEP_EVERY)?;
        let exporting = exporter.start(shared.clone());
        Ok(Running {
            shared,
            addresses,
            rings,
            certificates,
            quotas,
            storage,
            listening,
            doors,
            notifier: Arc::default(),
            drain,
            tasks,
            close_admin,
            exporting,
            _janitor: janitor,
        })
    }
}

/// All certificates of the folder, or every problem with them.
pub fn load_certificates(tls: &settings::Tls) -> Result<CertStore> {
    CertStore::load(&tls.certificates, tls.default_certificate.as_deref()).map_err(|problems| {
        let lines: Vec<String> =
            problems.iter().map(|p| format!("{}: {}\n  hint: {}", p.file.display(), p.message, p.hint)).collect();
        anyhow!("certificates:\n{}", lines.join("\n"))
    })
}

/// Every limit that a route names, or the gateway's own resources are under, once.
pub fn limits(snapshot: &Snapshot) -> Vec<Arc<decide::rules::Limit>> {
    let mut limits: Vec<_> = snapshot.rules.routes.iter().flat_map(|route| route.limits.iter().cloned()).collect();
    limits.extend(snapshot.sessions.limits.iter().cloned());
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    limits.dedup_by(|a, b| a.name == b.name);
    limits
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn audit_options(snapshot: &Snapshot) -> audit::Options {
    let from = &snapshot.audit;
    let state_dir = snapshot.server.state_dir.clone();
    let mut options = audit::Options::new(from.directory.clone(), state_dir, snapshot.server.instance.clone());
    options.roll_bytes = from.roll_bytes;
    options.retain = from.retain;
    options.durability = match from.durability {
        settings::Durability::Batch => audit::Durability::Batch,
        settings::Durability::Each => audit::Durability::Each,
        settings::Durability::Os => audit::Durability::Os,
    };
    options.checkpoint_every = from.checkpoint_every;
    options.checkpoint_entries = from.checkpoint_entries;
    options.heartbeat = from.heartbeat;
    options.key = from.key.clone();
    options.folding = audit::Folding {
        after: from.fold.after,
        per_second: from.fold.per_second,
        in_all_per_second: from.fold.in_all_per_second,
    };
    options.capacity = snapshot.server.requests_under_way;
    options
}

fn checks(shared: &Arc<Shared>, certificates: Option<Arc<CertStore>>, drain: &Drain) -> Vec<Check> {
    let (audit, drain, keys) = (shared.audit.clone(), drain.clone(), Arc::downgrade(shared));
    let revocations = Arc::downgrade(&shared.revocations);
    let pools = keys.clone();
    let config = keys.clone();
    vec![
        Check::noting("config", move || fallback::note(&config.upgrade()?.active().snapshot)),
        Check::new(
            "draining",
            move || if drain.announced() { Err("the process is ending".to_owned()) } else { Ok(()) },
        ),
        Check::new("keys", move || {
            let Some(shared) = keys.upgrade() else { return Ok(()) };
            let active = shared.active();
            let dark = active.issuers().values().map(|ring| ring.status()).find(|status| !status.usable);
            match dark {
                None => Ok(()),
                Some(status) => Err(format!("no usable key set for issuer `{}`", status.issuer)),
            }
        }),
        Check::new("revocations", move || match revocations.upgrade() {
            Some(revocations) if !revocations.is_ready() => Err(match revocations.shut() {
                0 => "what was ended has not been read yet".to_owned(),
                shut => format!("no key of `sessions.keys` opens {shut} of the revocations"),
            }),
            Some(_) | None => Ok(()),
        }),
        Check::new("audit", move || match audit.state().failing_since_ms {
            None => Ok(()),
            Some(since) => Err(format!("cannot write since {}", decide::record::time::format(since))),
        }),
        Check::new("certificates", move || {
            let status = certificates.as_ref().map(|c| c.status()).unwrap_or_default();
            match status.iter().find(|c| !c.valid) {
                None => Ok(()),
                Some(certificate) => Err(format!("`{}` has expired or is not valid yet", certificate.name)),
            }
        }),
        Check::note("upstreams", move || {
            let Some(shared) = pools.upgrade() else { return String::new() };
            let active = shared.active();
            active.upstreams.iter().map(|pool| pool.summary()).collect::<Vec<_>>().join(", ")
        }),
    ]
}

fn before_scrape(
    metrics: &Metrics,
    shared: &Arc<Shared>,
    certificates: Option<Arc<CertStore>>,
    (quotas, storage): (Arc<Quotas>, Arc<Storage>),
    log: Option<Arc<Lines>>,
) {
    let store = metrics.store();
    let shared = Arc::downgrade(shared);
    metrics.before_scrape(move |metrics| {
        let Some(shared) = shared.upgrade() else { return };
        let state = shared.audit.state();
        for (class, total) in
            [("request", state.requests), ("intent", state.intents), ("system", state.system), ("head", state.heads)]
        {
            metrics.audit_entries(class, total);
        }
        let head = (state.last_head_s > 0).then_some(state.last_head_s);
        metrics.audit_folded(state.folded);
        metrics.unread_answers(shared.unread.taken());
        metrics.audit_state(state.write_errors, usize::try_from(state.backlog).unwrap_or(usize::MAX), head);
        metrics.upstreams(&shared.active().upstreams);
        for ring in shared.active().issuers().values() {
            let status = ring.status();
            metrics.issuer_keys(&status.issuer, status.keys, status.last_success_s);
            if let Some(asked) = ring.asked() {
                metrics.introspections(&status.issuer, asked.totals());
            }
        }
        for (name, store) in shared.active().app_sessions() {
            metrics.app_sessions(name, store.health().is_ok(), store.counts().totals());
        }
        if let Some(certificates) = &certificates {
            metrics.certificates(certificates.status().iter().map(|c| (c.name.to_string(), c.not_after_s)));
        }
        let active = shared.active();
        metrics.revocation_lists(active.snapshot.client_certificates.iter().filter_map(|(name, entry)| {
            Some((name.to_string(), i64::try_from(entry.authority.next_update_s?).unwrap_or(i64::MAX)))
        }));
        metrics.quota_keys(quotas.keys());
        metrics.quota_held(quotas.held(), quotas.waiting());
        metrics.quota_shared(quotas.lost(), quotas.busy());
        store.health(storage.health().as_ref().map(|(_, health)| health));
        metrics.revocations_known(|scope| shared.revocations.count(scope), shared.revocations.silence());
        metrics.sessions_active(shared.sessions.active());
        metrics.state().up(shared.state.health().iter().map(|(engine, health)| (*engine, health.is_ok())));
        metrics.config_last_good(shared.active().snapshot.fallback.is_some());
        metrics.panics(crate::panics::count());
        metrics.clock(now_ms());
        metrics.log_lines_dropped(Stream::Access, shared.access.lines().dropped());
        if let Some(log) = &log {
            metrics.log_lines_dropped(Stream::Log, log.dropped());
        }
    });
}

/// Makes a folder that only its owner can look into.
fn make_private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
