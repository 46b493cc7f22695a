//! Tells the audit log of changed keys and of a shared store that comes and goes, and remembers what happened before
//! there is a log.
use crate::serve::keys::KeyChange;
use crate::store::audit::AuditLog;
use decide::record::Event;
use std::sync::{Arc, Mutex, PoisonError};

/// Between the key sets, which are fetched first, and the log, which is opened last.
#[derive(Default)]
pub struct Herald(Mutex<News>);

/// Something that the log should have.
enum Change {
    Keys(KeyChange),
    Store(&'static str, Result<(), String>),
}

#[derive(Default)]
struct News {
    log: Option<Arc<AuditLog>>,
    untold: Vec<Change>,
}

impl Herald {
    /// The keys of an issuer have changed.
    pub fn keys_changed(&self, change: KeyChange) {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &news.log {
            Some(log) => tell(log, &change),
            None => news.untold.push(Change::Keys(change)),
        }
    }

    /// A store that replicas share is of use again, or no longer.
    pub fn store_changed(&self, store: &'static str, state: Result<(), &str>) {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &news.log {
            Some(log) => tell_store(log, store, state),
            None => news.untold.push(Change::Store(store, state.map_err(str::to_owned))),
        }
    }

    /// From now on there is a log.
    pub fn begin(&self, log: Arc<AuditLog>) {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in news.untold.drain(..) {
            match change {
                Change::Keys(change) => tell(&log, &change),
                Change::Store(store, state) => tell_store(&log, store, state.as_ref().copied().map_err(String::as_str)),
            }
        }
        news.log = Some(log);
    }
}

fn tell(audit: &AuditLog, change: &KeyChange) {
    let event = Event::KeysChange { owner: &change.issuer, added: &change.added, removed: &change.removed };
    if let Err(error) = audit.system(event) {
        tracing::error!(issuer = &*change.issuer, %error, "a change of keys has no audit entry");
    }
}

fn tell_store(audit: &AuditLog, store: &str, state: Result<(), &str>) {
    let event = match state {
        Ok(()) => Event::StoreBack { store },
        Err(reason) => Event::StoreLost { store, reason },
    };
    if let Err(error) = audit.system(event) {
        tracing::error!(%error, "a change of the shared store has no audit entry");
    }
}
