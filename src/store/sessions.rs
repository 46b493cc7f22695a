//! Sessions of browsers: opened durably, used from memory, written down behind the requests, ended durably.
//!
//! A use is judged by what this process knows of the session, where it has read it within [`FRESH_MS`], and within the leeway of
//! a handle that was replaced; else it is read, which waits for no write. What a use changes (a handle was replaced, or came back; the session was used) is written behind the
//! answer, and merged with whatever other replicas have written: should it be lost, the next use heals it
//! (`decide::session::browser`). Nobody is refused by what may be old, with one exception: that a handle came back after its
//! time, this process has seen with its own eyes.
//!
//! While the store is silent, what was read within [`GRACE_MS`] goes on, and is told to be old: who was ended meanwhile is
//! known by marks (`store::revocations`), which have a bound of their own.
mod content;
#[cfg(test)]
mod tests;

pub use content::{Content, Kept, Shown, Who};

use crate::store::seal::{Keyring, Place, SealError};
use crate::store::state::{Expect, Kind, Put, Record, Silent, State};
use aws_lc_rs::rand;
use decide::facts::Identity;
use decide::session::browser::{Ending, Life, Over, Rules, Use};
use decide::session::handle::Handle;
use moka::sync::Cache;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a process goes by what it has read of a session, milliseconds; no longer than a replaced handle is good.
pub const FRESH_MS: u64 = 5_000;
/// Sessions that a process remembers; each takes about a kilobyte. More are read for each use.
pub const REMEMBERED: u64 = 100_000;
/// How long it goes by that while the store is silent, milliseconds.
pub const GRACE_MS: u64 = 60_000;
/// How long what was read stays in memory.
const FORGET: Duration = Duration::from_millis(GRACE_MS);
/// Rounds of reading, merging and writing before a write is given up: others would have to write all the time.
const ROUNDS: usize = 16;
/// The word that handles are marked under.
const MARKED: &str = "session handle";
/// The word that they are listed under.
const INDEXED: &str = "session index";

/// Whose sessions are meant, and how they live: of one tenant, under one snapshot.
#[derive(Clone, Debug)]
pub struct Realm {
    /// What they are sealed and marked with.
    pub ring: Arc<Keyring>,
    /// The tenant that the host names, or nothing.
    pub tenant: Arc<str>,
    /// How long they last, and how often their handles are replaced.
    pub rules: Rules,
    /// After what else.
    pub renewing: Renewing,
}

/// After what a session gets another handle, besides by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewing {
    /// After a fresh or stronger authentication.
    pub step_up: bool,
    /// When its user's roles changed.
    pub role_change: bool,
}

/// A session that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The text of its first handle: a secret.
    pub handle: String,
    /// Who it makes of whoever presents it.
    pub identity: Arc<Identity>,
}

/// What a presented text leads to.
#[derive(Debug)]
pub enum Presented {
    /// It is good.
    Good {
        /// Whose session it is.
        identity: Arc<Identity>,
        /// The text of the handle that the answer hands out, if any.
        hand: Option<String>,
        /// Whether that is known from before only, because the store is silent now.
        stale: bool,
    },
    /// It is no handle of ours for this tenant.
    Foreign(&'static str),
    /// Its session is not there, or not any more.
    Unknown,
    /// Its session is over.
    Over(Over),
    /// Two hold it: whoever asks is to end the session for that ([`Sessions::end`]).
    Reused {
        /// Whose session it is.
        identity: Arc<Identity>,
        /// The session.
        key: [u8; 32],
        /// The address that it was in use from.
        other: Option<IpAddr>,
    },
}

/// Why nothing can be said or done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The store is silent.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// Something could not be sealed, or does not open.
    #[error("sessions: {0}")]
    Seal(#[from] SealError),
    /// Others write the same session all the time.
    #[error("sessions: one session is written by too many at once")]
    Busy,
}

/// All sessions, as this process knows them.
pub struct Sessions {
    state: Arc<State>,
    known: Cache<[u8; 32], Arc<Known>>,
}

/// A session that was used here a moment ago.
struct Known {
    identity: Arc<Identity>,
    read_at_ms: u64,
    now: Mutex<Now>,
}

struct Now {
    life: Life,
    client: Option<IpAddr>,
}

impl Sessions {
    /// Over this state.
    pub fn new(state: Arc<State>) -> Sessions {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(FORGET).build();
        Sessions { state, known }
    }

    /// Sessions that were used here within the last minute or so.
    pub fn active(&self) -> u64 {
        self.known.run_pending_tasks();
        self.known.entry_count()
    }

    /// Opens a session for an identity, with a handle that nobody has had before. It is written when this returns.
    pub async fn open(
        &self,
        realm: &Realm,
        identity: &Identity,
        client: Option<IpAddr>,
        kept: Option<Kept>,
        now_ms: u64,
    ) -> Result<Opened, Fault> {
        let mut id = [0; 32];
        rand::fill(&mut id).map_err(|_| SealError::CannotSeal)?;
        let handle = Handle::new(id, 1);
        let key = handle.key(&realm.tenant);
        let content = Content { life: Life::open(now_ms), who: Who::of(identity), client, kept, before: None };
        let text = realm.mark(handle)?;
        let record = realm.record(&key, &content)?;
        match self.state.put(Kind::Session, &key, Expect::Absent, record).await? {
            Put::Written { .. } => {}
            // Of 2^256 ids.
            Put::Conflict(_) => return Err(Fault::Busy),
        }
        let known = self.remember(realm, key, &content, now_ms);
        Ok(Opened { handle: text, identity: known.identity.clone() })
    }

    /// Judges what a cookie holds, at `now_ms`, for a client. Waits for the store only where the session was not read a moment
    /// ago, and for no write.
    pub async fn present(
        self: &Arc<Self>,
        realm: &Realm,
        text: &str,
        client: IpAddr,
        now_ms: u64,
    ) -> Result<Presented, Fault> {
        let Some(handle) = Handle::parse(text) else { return Ok(Presented::Foreign("the cookie is no handle")) };
        if !realm.is_marked(&handle) {
            return Ok(Presented::Foreign("the handle was not made by this gateway for this tenant"));
        }
        let key = handle.key(&realm.tenant);
        let old = self.known.get(&key);
        // Were it older than the leeway, a copy would be served here while its successor is in use elsewhere.
        let fresh_ms = FRESH_MS.min(realm.rules.leeway_ms);
        let mut known = old.clone().filter(|known| known.is_within(fresh_ms, now_ms));
        let (mut read, mut silence) = (known.is_none(), None);
        loop {
            let session = match known.take() {
                Some(known) => known,
                None => match self.state.get(Kind::Session, &key).await {
                    Ok(Some(record)) => {
                        let content = Content::open(&realm.ring, &realm.tenant, &key, &record.value)?;
                        self.remember(realm, key, &content, now_ms)
                    }
                    Ok(None) => {
                        self.known.invalidate(&key);
                        return Ok(Presented::Unknown);
                    }
                    Err(silent) => {
                        // What was forgotten meanwhile was ended or changed here.
                        let still = old.as_ref().filter(|_| self.known.contains_key(&key));
                        let Some(known) = still.filter(|known| known.is_within(GRACE_MS, now_ms)) else {
                            return Err(silent.into());
                        };
                        silence = Some(silent);
                        known.clone()
                    }
                },
            };
            let (verdict, other, changed) = session.judge(handle.generation, client, now_ms, &realm.rules);
            match verdict {
                Use::Good { hand, .. } => {
                    if changed && silence.is_none() {
                        let (sessions, realm) = (self.clone(), realm.clone());
                        let write = async move { sessions.learn(&realm, key, handle.generation, client, now_ms).await };
                        tokio::spawn(write);
                    }
                    let hand = hand.map(|generation| realm.mark(handle.at(generation))).transpose()?;
                    return Ok(Presented::Good { identity: session.identity.clone(), hand, stale: silence.is_some() });
                }
                Use::Reused(_) => {
                    return Ok(Presented::Reused { identity: session.identity.clone(), key, other });
                }
                Use::Over(over) => match silence {
                    // It may have been in use elsewhere.
                    Some(silent) if over == Over::Idle => return Err(silent.into()),
                    _ if read || matches!(over, Over::Ended(_)) => return Ok(Presented::Over(over)),
                    // Another replica may know better.
                    _ => read = true,
                },
            }
        }
    }

    /// Which session a text is of, without using it; `None` where it is no handle of ours for this tenant.
    pub fn key_of(&self, realm: &Realm, text: &str) -> Option<[u8; 32]> {
        let handle = Handle::parse(text).filter(|handle| realm.is_marked(handle))?;
        Some(handle.key(&realm.tenant))
    }

    /// Ends a session. It is written when this returns; whether there was one that had not ended before.
    pub async fn end(&self, realm: &Realm, key: [u8; 32], ending: Ending) -> Result<bool, Fault> {
        let ended = self.change(realm, key, |content| content.life = content.life.end(ending)).await?;
        if ended.is_none() {
            self.known.invalidate(&key);
        }
        Ok(ended.is_some_and(|changed| changed))
    }

    /// Another word of who the user is, in a session: a fresh or stronger authentication, or other roles. Its handle is
    /// replaced with the next use, where the realm says so. `false` where there is no such session.
    pub async fn promote(
        &self,
        realm: &Realm,
        key: [u8; 32],
        identity: &Identity,
        kept: Option<Kept>,
    ) -> Result<bool, Fault> {
        let changed = self.change(realm, key, |content| {
            content.become_who(Who::of(identity), realm.renewing);
            content.before = None;
            if kept.is_some() {
                content.kept.clone_from(&kept);
            }
        });
        Ok(changed.await?.is_some())
    }

    /// The same where the user has shown a second factor of ours, which can be taken back ([`Sessions::weaken`]).
    pub async fn strengthen(&self, realm: &Realm, key: [u8; 32], identity: &Identity) -> Result<bool, Fault> {
        let changed = self.change(realm, key, |content| {
            let before = content.before.take().unwrap_or_else(|| Shown::of(&content.who));
            content.become_who(Who::of(identity), realm.renewing);
            content.before = Some(before);
        });
        Ok(changed.await?.is_some())
    }

    /// A session is again as strong as the sign-in has made it; whether a second factor had made it stronger. Durable when this
    /// returns, and known to all replicas within [`FRESH_MS`].
    pub async fn weaken(&self, realm: &Realm, key: [u8; 32]) -> Result<bool, Fault> {
        let changed = self.change(realm, key, |content| {
            if let Some(Shown { auth_time, acr, amr }) = content.before.take() {
                content.who = Who { auth_time, acr, amr, ..content.who.clone() };
            }
        });
        Ok(changed.await? == Some(true))
    }

    /// What is kept of a session, as it stands in the store.
    pub async fn content(&self, realm: &Realm, key: &[u8; 32]) -> Result<Option<Content>, Fault> {
        let Some(record) = self.state.get(Kind::Session, key).await? else { return Ok(None) };
        Ok(Some(Content::open(&realm.ring, &realm.tenant, key, &record.value)?))
    }

    /// What this process knows of a session is read anew with its next use: somebody has ended or changed it elsewhere.
    pub fn forget(&self, key: &[u8; 32]) {
        self.known.invalidate(key);
    }

    /// Changes what is kept, whoever else does; durable when this returns. `None` where there is no such session, else
    /// whether there was anything to change.
    pub async fn change(
        &self,
        realm: &Realm,
        key: [u8; 32],
        mut change: impl FnMut(&mut Content),
    ) -> Result<Option<bool>, Fault> {
        for _ in 0..ROUNDS {
            let Some(record) = self.state.get(Kind::Session, &key).await? else { return Ok(None) };
            let before = Content::open(&realm.ring, &realm.tenant, &key, &record.value)?;
            let mut content = before.clone();
            change(&mut content);
            if content == before {
                self.known.invalidate(&key);
                return Ok(Some(false));
            }
            let next = realm.record(&key, &content)?;
            if let Put::Written { .. } =
                self.state.put(Kind::Session, &key, Expect::Version(record.version), next).await?
            {
                // Read anew: what a use has changed meanwhile is in memory only, and heals.
                self.known.invalidate(&key);
                return Ok(Some(true));
            }
        }
        Err(Fault::Busy)
    }

    /// Writes down that a generation was presented. What cannot be written heals with the next use.
    async fn learn(&self, realm: &Realm, key: [u8; 32], presented: u32, client: IpAddr, at_ms: u64) {
        let written = async {
            for _ in 0..ROUNDS {
                let Some(record) = self.state.get(Kind::Session, &key).await? else { return Ok(()) };
                let before = Content::open(&realm.ring, &realm.tenant, &key, &record.value)?;
                let Use::Good { life, .. } = before.life.present(presented, at_ms, &realm.rules) else { return Ok(()) };
                if life == before.life {
                    return Ok(());
                }
                let next = realm.record(&key, &Content { life, client: Some(client), ..before })?;
                let put = self.state.put(Kind::Session, &key, Expect::Version(record.version), next).await?;
                if matches!(put, Put::Written { .. }) {
                    return Ok(());
                }
            }
            Err(Fault::Busy)
        };
        if let Err(fault) = written.await {
            tracing::debug!(%fault, "the use of a session is written down with its next use");
        }
    }

    fn remember(&self, realm: &Realm, key: [u8; 32], content: &Content, now_ms: u64) -> Arc<Known> {
        let identity = content.identity(&key, content.life.expires_at_ms(&realm.rules));
        let now = Mutex::new(Now { life: content.life.clone(), client: content.client });
        let known = Arc::new(Known { identity: Arc::new(identity), read_at_ms: now_ms, now });
        self.known.insert(key, known.clone());
        known
    }
}

impl Known {
    /// Whether it was read within this time.
    fn is_within(&self, ms: u64, now_ms: u64) -> bool {
        now_ms < self.read_at_ms.saturating_add(ms)
    }

    /// Judges, and remembers what is new. With the address that the session was in use from, and whether there is something to
    /// write.
    fn judge(&self, presented: u32, client: IpAddr, now_ms: u64, rules: &Rules) -> (Use, Option<IpAddr>, bool) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = now.life.present(presented, now_ms, rules);
        let (other, mut changed) = (now.client, false);
        if let Use::Good { life, .. } = &verdict {
            changed = *life != now.life;
            if changed {
                now.life = life.clone();
            }
            if presented == now.life.generation {
                now.client = Some(client);
            }
        }
        (verdict, other, changed)
    }
}

impl Realm {
    /// The text of a handle under our mark.
    fn mark(&self, handle: Handle) -> Result<String, SealError> {
        let content = handle.content();
        let mark = self.ring.mark(self.marked(&content))?;
        Ok(handle.marked(mark).text())
    }

    fn is_marked(&self, handle: &Handle) -> bool {
        self.ring.is_marked(self.marked(&handle.content()), &handle.mark)
    }

    fn marked<'a>(&'a self, content: &'a [u8]) -> Place<'a> {
        Place { kind: MARKED, tenant: &self.tenant, key: content }
    }

    fn record(&self, key: &[u8; 32], content: &Content) -> Result<Record, SealError> {
        let sealed = content.seal(&self.ring, &self.tenant, key)?;
        let who = &content.who;
        let indices = indices(&self.ring, &who.issuer, who.tenant.as_deref(), &who.subject);
        let index = indices.first().ok_or(SealError::CannotSeal)?;
        Ok(Record::new(sealed, content.life.expires_at_ms(&self.rules)).indexed(*index))
    }
}

/// What all sessions of one user are found by, as [`Keyring::indices`] has it: issuer, tenant and subject.
pub fn indices(ring: &Keyring, issuer: &str, tenant: Option<&str>, subject: &str) -> Vec<[u8; 32]> {
    ring.of_user(INDEXED, issuer, tenant, subject)
}
