//! Tells the audit log of changed keys, and remembers those of the time before there is a log.
use crate::serve::keys::KeyChange;
use crate::store::audit::AuditLog;
use decide::record::Event;
use std::sync::{Arc, Mutex, PoisonError};

/// Between the key sets, which are fetched first, and the log, which is opened last.
#[derive(Default)]
pub struct Herald(Mutex<News>);

#[derive(Default)]
struct News {
    log: Option<Arc<AuditLog>>,
    untold: Vec<KeyChange>,
}

impl Herald {
    /// The keys of an issuer have changed.
    pub fn keys_changed(&self, change: KeyChange) {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &news.log {
            Some(log) => tell(log, &change),
            None => news.untold.push(change),
        }
    }

    /// From now on there is a log.
    pub fn begin(&self, log: Arc<AuditLog>) {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in news.untold.drain(..) {
            tell(&log, &change);
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
