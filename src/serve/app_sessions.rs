//! Looks up sessions that an application keeps in a store of its own.
use crate::config::settings::{AppSessionStore, PostgresPlace, RedisPlace, SecretSource, SessionSource};
use crate::serve::authorities::client_tls;
use crate::serve::inquiry::{Counts, Inquiry, No, Verdict};
use crate::store::app_sessions::Source;
use crate::store::shared::{self, Password, SharedStore};
use crate::store::state::postgres;
use arc_swap::ArcSwapOption;
use decide::app_session::Whom;
use decide::facts::Identity;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

/// Pause before authorities that could not be read are read again.
const PAUSE: Duration = Duration::from_secs(2);

/// The sessions of one application, and the way to them.
pub struct AppSessions {
    /// Their settings.
    pub settings: Arc<AppSessionStore>,
    inquiry: Option<Inquiry>,
    source: Arc<ArcSwapOption<Source>>,
    under_way: Arc<Semaphore>,
    counts: Arc<Counts>,
    tried: watch::Receiver<bool>,
    starter: JoinHandle<()>,
}

impl Drop for AppSessions {
    fn drop(&mut self) {
        self.starter.abort();
    }
}

impl AppSessions {
    /// Begins to connect; goes on counting where `before` did. Needs a tokio runtime.
    pub fn start(settings: Arc<AppSessionStore>, before: Option<&AppSessions>) -> AppSessions {
        let counts = before.map(|before| before.counts.clone()).unwrap_or_default();
        let source = Arc::new(ArcSwapOption::empty());
        let (tell, tried) = watch::channel(false);
        AppSessions {
            inquiry: Inquiry::new(settings.keep, counts.clone()),
            under_way: Arc::new(Semaphore::new(settings.max_in_flight)),
            starter: tokio::spawn(begin(settings.clone(), source.clone(), tell)),
            source,
            counts,
            tried,
            settings,
        }
    }

    /// Whose the session is that a cookie of this value names.
    pub async fn judge(&self, value: &str, now_s: u64) -> Verdict {
        let id = match self.settings.sessions.id(value) {
            Ok(id) => id,
            Err(cause) => return Verdict::Refused(No::Invalid(cause)),
        };
        let Some(inquiry) = &self.inquiry else { return Verdict::unavailable("the system has no randomness") };
        let begin = || {
            let name = &self.settings.sessions.name;
            let place = self.under_way.clone().try_acquire_owned();
            let place = place.map_err(|_| format!("`{name}` has `max_in_flight` look-ups under way"))?;
            let Some(source) = self.source.load_full() else {
                return Err(format!("the store of `{name}` is not connected"));
            };
            Ok(look_up(self.settings.clone(), source, place, id.clone(), now_s))
        };
        inquiry.ask(&id, now_s, begin).await
    }

    /// How many remembered sessions are of identities like this.
    pub fn remembered(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        self.inquiry.as_ref().map_or(0, |inquiry| inquiry.matching(like))
    }

    /// How look-ups ended.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether the store is of use; else why not.
    pub fn health(&self) -> Result<(), String> {
        let source = self.source.load_full();
        source.map_or_else(|| Err("not connected yet".to_owned()), |source| source.health())
    }

    /// Waits until the first attempt to connect has ended, one way or the other, and no longer than it may take.
    pub async fn settled(&self) {
        let patience = self.settings.connect_timeout.saturating_mul(2);
        // The sender goes where it has told, or where it never will.
        let _ = tokio::time::timeout(patience, self.tried.clone().wait_for(|tried| *tried)).await;
    }
}

async fn look_up(
    settings: Arc<AppSessionStore>,
    source: Arc<Source>,
    _place: OwnedSemaphorePermit,
    id: String,
    now_s: u64,
) -> Verdict {
    let name = &settings.sessions.name;
    match source.read(&id).await {
        Err(cause) => Verdict::unavailable(format!("the store of `{name}`: {cause}")),
        Ok(None) => Verdict::Refused(No::Over("the application knows no such session")),
        Ok(Some(session)) => match settings.sessions.whom(&session, &id, now_s) {
            Whom::Known(identity) => Verdict::Known(Arc::from(identity)),
            Whom::Nobody => Verdict::Refused(No::Nobody),
            Whom::Nonsense(cause) => Verdict::unavailable(format!("`{name}`: {cause}")),
        },
    }
}

/// Makes the source, as soon as what it needs can be read.
async fn begin(settings: Arc<AppSessionStore>, made: Arc<ArcSwapOption<Source>>, tell: watch::Sender<bool>) {
    loop {
        match source(&settings).await {
            Ok(source) => {
                let source = Arc::new(source);
                made.store(Some(source.clone()));
                source.tried().await;
                tell.send_replace(true);
                return;
            }
            Err(cause) => {
                tracing::error!(store = %settings.sessions.name, %cause, "a store of sessions cannot be used");
                tell.send_replace(true);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn source(settings: &AppSessionStore) -> Result<Source, String> {
    let watcher = Arc::new(Watcher { name: settings.sessions.name.clone() });
    let readable =
        |place: &Option<SecretSource>| place.clone().map(|place| -> Password { Arc::new(move || place.read()) });
    Ok(match &settings.source {
        SessionSource::Redis { place, tls, username, password, database, key } => {
            let options = shared::Options {
                place: match place {
                    RedisPlace::Tcp(host, port) => shared::Place::Tcp { host: host.clone(), port: *port },
                    RedisPlace::Unix(path) => shared::Place::Unix(path.clone()),
                },
                tls: trust(tls.as_ref().map(|tls| tls.ca.clone())).await?,
                username: username.clone(),
                password: readable(password),
                database: *database,
                prefix: String::new(),
                instance: None,
                connect_timeout: settings.connect_timeout,
                command_timeout: settings.timeout,
            };
            Source::Redis(SharedStore::start(options, watcher), key.clone())
        }
        SessionSource::Postgres { place, tls, user, password, database, statement, connections } => {
            let options = postgres::Options {
                place: match place {
                    PostgresPlace::Tcp(host, port) => postgres::Place::Tcp { host: host.clone(), port: *port },
                    PostgresPlace::Unix(path) => postgres::Place::Unix(path.clone()),
                },
                tls: trust(tls.as_ref().map(|tls| tls.ca.clone())).await?,
                user: user.clone(),
                password: readable(password),
                database: database.clone(),
                instance: settings.instance.clone(),
                reads: None,
                connections: *connections,
                connect_timeout: settings.connect_timeout,
                command_timeout: settings.timeout,
            };
            Source::Postgres(postgres::Reader::start(options, statement, watcher))
        }
    })
}

/// TLS under the authorities of a file, or under the system's; `None` speaks in the clear.
async fn trust(tls: Option<Option<PathBuf>>) -> Result<Option<Arc<rustls::ClientConfig>>, String> {
    let Some(ca) = tls else { return Ok(None) };
    let config = tokio::task::spawn_blocking(move || client_tls(ca.as_deref())).await;
    config.map_err(|_| "the certificate authorities could not be read".to_owned())?.map(|config| Some(Arc::new(config)))
}

/// Tells when a store comes and goes.
struct Watcher {
    name: Arc<str>,
}

impl Watcher {
    fn tell(&self, state: Result<(), &str>) {
        match state {
            Ok(()) => tracing::info!(store = %self.name, "a store of sessions is of use"),
            Err(reason) => {
                tracing::error!(store = %self.name, reason, "a store of sessions is not of use: its users are refused")
            }
        }
    }
}

impl shared::Observer for Watcher {
    // Look-ups are counted by how they end for requests.
    fn called(&self, _: shared::Op, _: &'static str, _: Duration) {}

    fn changed(&self, state: Result<(), &str>) {
        self.tell(state);
    }
}

impl postgres::Watcher for Watcher {
    fn changed(&self, state: Result<(), &str>) {
        self.tell(state);
    }
}
