//! The life of a family of refresh tokens (RFC 6749, 6; RFC 9700, 4.14.2): each token is good for one successor, and one
//! that comes back after its successor was handed out gives the theft away.
//!
//! A token is a family and a generation under our seal, so that nobody but us can have made it. The row of a family says
//! which generation was handed out last. What is presented is one of these:
//!
//! | presented | meaning | answer |
//! | --- | --- | --- |
//! | the row's generation | its holder wants the next one | the row moves on |
//! | one before, exchanged a moment ago | the same client asks twice, or did not hear the answer | the same successor again |
//! | one before, exchanged earlier | two hold what one was given | the family ends |
//! | one before, which the row has forgotten while the request waited for it | nobody can say | the client comes back |
//! | a newer one | the row has lost a write: the seal is proof that we had moved on | the row catches up, and moves on |
//!
//! Because a successor follows from its predecessor alone, it does not matter how often or by which replica it is made,
//! and a write whose fate is unknown may be treated as done: if it was lost, the successor heals the row.
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// Most exchanges that a row remembers.
const MAX_EXCHANGES: usize = 8;
/// From when on the wait for a row was long, milliseconds, unless the clocks of replicas may differ by more. It is not
/// shorter where they may not differ at all: every row takes a little, and a thief must not be spared for it.
const LONG_MS: u64 = 1_000;

/// What a family's row says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The generation that was handed out last; the first is 1.
    pub generation: u64,
    /// When the last few were exchanged for their successors, milliseconds since the epoch: the last of these times is
    /// that of the predecessor of `generation`. Kept as long as the leeway, and at most eight.
    pub exchanged_ms: Vec<u64>,
    /// When the family was opened, milliseconds since the epoch.
    pub opened_at_ms: u64,
    /// Why it is over, where it is.
    pub ended: Option<Ending>,
}

/// Why a family was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// A token came back that had been exchanged for its successor.
    Reused,
    /// Somebody who may do so ended it.
    Revoked,
}

/// How long things last: the platform's rules, made stricter by those of the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// From the opening to the end, whatever happens, milliseconds.
    pub ttl_ms: u64,
    /// Greatest pause between two refreshes, milliseconds; `None` for any.
    pub idle_ms: Option<u64>,
    /// Whether a token is good for one successor; otherwise it stays what it is.
    pub single_use: bool,
    /// How long a token that was exchanged still gives the same successor, milliseconds.
    pub leeway_ms: u64,
    /// How far the clocks of two replicas may differ, milliseconds.
    pub skew_ms: u64,
}

impl Rules {
    /// These rules, with the bounds of a tenant where they are stricter. Never laxer.
    pub fn bounded(self, ttl_ms: Option<u64>, idle_ms: Option<u64>) -> Rules {
        let stricter = |ours: u64, theirs: Option<u64>| theirs.map_or(ours, |theirs| theirs.min(ours));
        Rules {
            ttl_ms: stricter(self.ttl_ms, ttl_ms),
            idle_ms: self.idle_ms.map(|ours| stricter(ours, idle_ms)).or(idle_ms),
            ..self
        }
    }

    /// Whether an exchange is so young that whoever asks again may be the one who asked then. A replica whose clock is
    /// off by more than it may be is not believed in either direction.
    fn is_recent(&self, at_ms: u64, moment: Moment) -> bool {
        let latest = at_ms.saturating_add(self.leeway_ms).saturating_add(self.skew_ms);
        moment.asked_ms <= latest && at_ms <= moment.now_ms.saturating_add(self.skew_ms)
    }
}

/// When a token was presented and when it is judged, by the clock of one replica. In between the row is read, which may
/// take its time: what was exchanged meanwhile is younger than the request, and who asked in time is not late for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When all of the request was here, milliseconds since the epoch.
    pub asked_ms: u64,
    /// When the row had been read, milliseconds since the epoch.
    pub now_ms: u64,
}

impl Moment {
    /// A row that was there at once.
    pub fn at(now_ms: u64) -> Moment {
        Moment { asked_ms: now_ms, now_ms }
    }
}

/// What a presented token leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This row is to be written, and its generation handed out.
    Rotate(Family),
    /// Nothing is to be written: this generation was handed out before, and is again.
    Again(u64),
    /// This row is to be written, and nothing handed out: the token came back after its time.
    Reused(Family),
    /// Nothing is handed out: while this waited for the row, the row has forgotten when the token was exchanged.
    Late,
    /// Nothing is handed out.
    Over(Over),
}

/// Why nothing more comes of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its time is up, or it lay idle for too long.
    Expired,
    /// It was ended.
    Ended(Ending),
}

/// What became of a write under the condition that nobody else had written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done.
    Yes,
    /// Somebody else had written: this is what stands there now; `None` where the row is gone.
    Conflict(Option<Family>),
    /// It was sent, and nobody knows whether it was done.
    Unknown,
    /// It was not done.
    No,
}

/// What follows from a step and the fate of its write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The token of this generation is handed out.
    Grant(u64),
    /// The token is to be judged again, against this row.
    Again(Family),
    /// The family is unknown.
    Unknown,
    /// A token was reused, and the family has ended for it.
    Reused,
    /// It is over.
    Over(Over),
    /// It could not be written: the client keeps its token and comes back.
    Unavailable,
    /// The row came so late that nobody can say: the client keeps its token and comes back.
    Late,
}

impl Family {
    /// A family that begins: its first token is of generation 1.
    pub fn open(now_ms: u64) -> Family {
        Family { generation: 1, exchanged_ms: Vec::new(), opened_at_ms: now_ms, ended: None }
    }

    /// When it ends at the latest, milliseconds since the epoch; exclusive.
    pub fn expires_at_ms(&self, rules: &Rules) -> u64 {
        self.opened_at_ms.saturating_add(rules.ttl_ms)
    }

    /// Judges a token of this family, of whose seal the caller is sure.
    ///
    /// A family that has ended says so before its time is looked at: a thief must not learn that it is merely late.
    pub fn present(&self, presented: u64, moment: Moment, rules: &Rules) -> Step {
        let Moment { asked_ms, now_ms } = moment;
        if let Some(ending) = self.ended {
            return Step::Over(Over::Ended(ending));
        }
        let last = self.exchanged_ms.last().copied().unwrap_or(self.opened_at_ms);
        let idle = rules.idle_ms.is_some_and(|idle_ms| now_ms.saturating_sub(last) >= idle_ms);
        if idle || now_ms >= self.expires_at_ms(rules) {
            return Step::Over(Over::Expired);
        }
        if presented == self.generation && !rules.single_use {
            return Step::Again(presented);
        }
        let Some(successor) = presented.checked_add(1) else { return Step::Over(Over::Expired) };
        if presented >= self.generation {
            return Step::Rotate(self.exchange(successor, now_ms, rules));
        }
        match self.exchanged_at(presented) {
            Some(at_ms) if rules.is_recent(at_ms, moment) => Step::Again(successor),
            None if now_ms > asked_ms.saturating_add(rules.skew_ms.max(LONG_MS)) => Step::Late,
            Some(_) | None => Step::Reused(self.end(Ending::Reused)),
        }
    }

    /// This family, ended. The first reason stays.
    pub fn end(&self, ending: Ending) -> Family {
        Family { ended: Some(self.ended.unwrap_or(ending)), ..self.clone() }
    }

    /// The row after this exchange. Exchanges that it has lost count as made now.
    fn exchange(&self, successor: u64, now_ms: u64, rules: &Rules) -> Family {
        let made = usize::try_from(successor.saturating_sub(self.generation)).unwrap_or(MAX_EXCHANGES);
        let made = made.min(MAX_EXCHANGES);
        let young = self.exchanged_ms.iter().rev().take_while(|at_ms| rules.is_recent(**at_ms, Moment::at(now_ms)));
        let young = young.take(MAX_EXCHANGES - made).count();
        let kept = self.exchanged_ms.get(self.exchanged_ms.len() - young..).unwrap_or_default();
        let exchanged_ms = kept.iter().copied().chain(std::iter::repeat_n(now_ms, made)).collect();
        Family { generation: successor, exchanged_ms, ..self.clone() }
    }

    /// When a token was exchanged, as far as the row remembers.
    fn exchanged_at(&self, presented: u64) -> Option<u64> {
        let back = usize::try_from(self.generation.checked_sub(presented)?).ok()?;
        self.exchanged_ms.get(self.exchanged_ms.len().checked_sub(back)?).copied()
    }
}

impl Step {
    /// The row that is to be written, if one is.
    pub fn row(&self) -> Option<&Family> {
        match self {
            Step::Rotate(row) | Step::Reused(row) => Some(row),
            Step::Again(_) | Step::Late | Step::Over(_) => None,
        }
    }

    /// What follows, now that the fate of the write is known. `written` is [`Written::Yes`] where nothing was to be
    /// written.
    ///
    /// A rotation whose write may or may not have been done is handed out: refused, its client would come back with the
    /// old token when the row has long moved on, and be taken for a thief.
    pub fn conclude(self, written: Written) -> Outcome {
        match (self, written) {
            (Step::Again(generation), _) => Outcome::Grant(generation),
            (Step::Late, _) => Outcome::Late,
            (Step::Over(over), _) => Outcome::Over(over),
            (Step::Rotate(_) | Step::Reused(_), Written::Conflict(Some(row))) => Outcome::Again(row),
            (Step::Rotate(_) | Step::Reused(_), Written::Conflict(None)) => Outcome::Unknown,
            (Step::Rotate(row), Written::Yes | Written::Unknown) => Outcome::Grant(row.generation),
            (Step::Reused(_), Written::Yes) => Outcome::Reused,
            // Not recorded: the next one who presents it is told.
            (Step::Reused(_), Written::Unknown | Written::No) | (Step::Rotate(_), Written::No) => Outcome::Unavailable,
        }
    }
}
