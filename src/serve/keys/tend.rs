//! Brings an issuer's keys: fetches them again and again, puts them in use, and keeps a copy of the last good ones.
use super::life::{Life, Rhythm};
use super::{Inner, KeyChange, Published, copy, fetch};
use crate::config::settings::KeySource;
use decide::token::KeySet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a key file is read again.
const FILE_POLL: Duration = Duration::from_secs(5);

/// Fetches, pauses, and fetches again, as long as the ring lives.
pub(super) async fn tend(inner: Arc<Inner>) {
    loop {
        let pause = inner.attempt().await;
        let due = tokio::time::Instant::from_std(later(Instant::now(), pause));
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                () = inner.called.notified() => {
                    // A request may have asked while the fetch that answers it was under way.
                    if inner.wanted.load(Ordering::Acquire) > inner.life.borrow().attempts {
                        break;
                    }
                }
            }
        }
    }
}

impl Inner {
    /// Fetches once, publishes what came, and returns the pause until the next fetch.
    async fn attempt(&self) -> Duration {
        self.life.send_modify(Life::begin);
        let issuer = self.issuer.clone();
        // In a task of its own, so that no mistake in a fetch can end the tending.
        let fetched = match tokio::spawn(async move { fetch::fetch(&issuer).await }).await {
            Ok(Ok(fetched)) => Ok(fetched),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the fetch ended abnormally".to_owned()),
        };
        let now = Instant::now();
        let now_s = wall_s();
        // Whatever was asked for, keys are fetched again well before they would be too old.
        let refresh = self.issuer.refresh.min(self.issuer.max_stale / 2);
        let rhythm = Rhythm { refresh, min_interval: self.issuer.min_interval };
        match fetched {
            Ok(fetched) => {
                let max_age = fetched.max_age;
                self.publish(fetched.keys, fetched.skipped, later(now, self.issuer.max_stale), false);
                self.keep(now_s, fetched.document).await;
                if self.life.borrow().failures > 0 {
                    tracing::info!(issuer = %self.issuer.rules.name, "keys can be fetched again");
                }
                self.life.send_modify(|life| life.succeed(now, now_s));
                match self.issuer.keys {
                    KeySource::File(_) => FILE_POLL.min(refresh),
                    KeySource::Url(_) | KeySource::Discovery | KeySource::Ours(_) | KeySource::Nowhere => {
                        rhythm.after_success(max_age, chance())
                    }
                }
            }
            Err(cause) => {
                tracing::warn!(issuer = %self.issuer.rules.name, %cause, "keys could not be fetched");
                let from_copy = if self.published.load().is_none() { self.recall(now, now_s).await } else { None };
                let mut pause = Duration::ZERO;
                self.life.send_modify(|life| {
                    life.fail(now, cause.into());
                    life.last_success_s = life.last_success_s.or(from_copy);
                    let usable = self.published.load().as_ref().is_some_and(|published| now < published.stale_at);
                    pause = rhythm.after_failure(life.failures, usable);
                });
                pause
            }
        }
    }

    /// Puts a key set in use. The same keys again only live longer; other keys are a new generation.
    fn publish(&self, keys: KeySet, skipped: Vec<String>, stale_at: Instant, from_copy: bool) {
        let before = self.published.load_full();
        let same = before.as_ref().filter(|before| before.keys.digest() == keys.digest());
        let (epoch, generation) = match (same, &before) {
            (Some(same), _) => (same.epoch, same.generation),
            (None, before) => {
                let generation = before.as_ref().map_or(0, |before| before.generation);
                (self.shared.epochs.fetch_add(1, Ordering::Relaxed), generation.saturating_add(1))
            }
        };
        let change = same.is_none().then(|| {
            let old = before.as_ref().map(|before| before.keys.key_ids()).unwrap_or_default();
            let new = keys.key_ids();
            let only = |these: &[&str], those: &[&str]| {
                these.iter().filter(|id| !those.contains(id)).map(|id| (*id).to_owned()).collect()
            };
            KeyChange {
                issuer: self.issuer.rules.name.clone(),
                generation,
                keys: keys.count(),
                added: only(&new, &old),
                removed: only(&old, &new),
                from_copy,
            }
        });
        if let Some(change) = &change {
            tracing::info!(issuer = %change.issuer, generation, keys = change.keys, from_copy, "keys changed");
            for reason in &skipped {
                tracing::warn!(issuer = %change.issuer, %reason, "a key cannot be used");
            }
        }
        self.published.store(Some(Arc::new(Published { keys, skipped, epoch, generation, stale_at })));
        if let Some(change) = change {
            (self.shared.on_change)(change);
        }
    }

    /// Writes the copy on disk. The keys are in use whether or not this succeeds.
    async fn keep(&self, now_s: u64, document: Vec<u8>) {
        let Some(path) = copy::path(&self.shared.state_dir, &self.issuer) else { return };
        let issuer = self.issuer.clone();
        let write = move || copy::write(&path, &issuer.rules.issuer, now_s, &document);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            tracing::warn!(issuer = %self.issuer.rules.name, %error, "the copy of the keys could not be written");
        }
    }

    /// Puts the copy on disk in use, if it is young enough, and says when it was fetched.
    async fn recall(&self, now: Instant, now_s: u64) -> Option<u64> {
        let path = copy::path(&self.shared.state_dir, &self.issuer)?;
        let issuer = self.issuer.clone();
        let read = move || {
            let (copy, age) = copy::read(&path, &issuer.rules.issuer, now_s, issuer.max_stale)?;
            let (keys, skipped) = fetch::parse(&issuer, copy.document.as_bytes()).map_err(|error| error.to_string())?;
            Ok::<_, String>((keys, skipped, copy.fetched_at, age))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok((keys, skipped, fetched_at, age))) => {
                let left = self.issuer.max_stale.saturating_sub(age);
                self.publish(keys, skipped, later(now, left), true);
                Some(fetched_at)
            }
            Ok(Err(cause)) => {
                tracing::warn!(issuer = %self.issuer.rules.name, %cause, "no keys");
                None
            }
            Err(_) => None,
        }
    }
}

/// Wall clock, seconds since the epoch; 0 before it.
pub(super) fn wall_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `now` and a pause, which the operator may have chosen beyond what the clock can tell.
fn later(now: Instant, pause: Duration) -> Instant {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    now + pause.min(TEN_YEARS)
}

/// One random byte. Without randomness the pauses only lose their spread.
fn chance() -> u8 {
    let mut byte = [0];
    match aws_lc_rs::rand::fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => 0,
    }
}
