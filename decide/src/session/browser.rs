//! The life of a session that the gateway holds for a browser: its handle is replaced now and then, and one that comes back
//! after its successor was in use gives a theft away.
//!
//! A handle is a session and a generation under our mark, so that nobody but us can have made it, and the next one follows
//! from it alone. The row says which generation was handed out last, and since when it is in use. What is presented is one of
//! these:
//!
//! | presented | meaning | answer |
//! | --- | --- | --- |
//! | the row's generation | it has arrived | good; replaced where its time has come |
//! | one before, its successor never seen | the answer that held the successor was lost | good, with the same successor again |
//! | one before, its successor in use for less than the leeway | a request that was under way | good, with the same successor |
//! | one before, its successor in use for longer | two hold what one was given | the session ends |
//! | a newer one | the row has lost a write: the mark is proof that we had moved on | good, and the row catches up |
//!
//! No row has to be written before an answer goes out: what is lost heals with the next use. A browser has one jar that many
//! answers write to, in any order. So that a late one does not put back a handle that is no longer good, a handle is not
//! replaced before it was in use for twice the leeway, and an answer that took half of it carries none.
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// What a session's row says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// When it was opened, milliseconds since the epoch.
    pub opened_at_ms: u64,
    /// When it was last used, as far as it is written down.
    pub used_at_ms: u64,
    /// The generation that was handed out last; the first is 1.
    pub generation: u32,
    /// When that was.
    pub handed_at_ms: u64,
    /// When it first came back; `None` before that.
    pub seen_at_ms: Option<u64>,
    /// When the generation before it first came back.
    pub before_at_ms: Option<u64>,
    /// Whether it is to be replaced with its next use, whatever the clock says.
    pub due: bool,
    /// Why it is over, where it is.
    pub ended: Option<Ending>,
}

/// Why a session was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// A handle came back whose successor was in use.
    Reused,
    /// Somebody who may do so ended it.
    Revoked,
    /// Its user signed out.
    SignedOut,
    /// Its user signed in anew.
    Replaced,
}

/// How long things last: the platform's rules, made stricter by those of the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Greatest pause between two uses, milliseconds.
    pub idle_ms: u64,
    /// From the opening to the end, whatever happens, milliseconds.
    pub absolute_ms: u64,
    /// How long a handle is good once its successor is in use, milliseconds.
    pub leeway_ms: u64,
    /// When a handle is replaced, milliseconds after it was handed out; `None` with every use.
    pub every_ms: Option<u64>,
}

impl Rules {
    /// These rules, with the bounds of a tenant where they are stricter. Never laxer.
    pub fn bounded(self, idle_ms: Option<u64>, absolute_ms: Option<u64>) -> Rules {
        let stricter = |ours: u64, theirs: Option<u64>| theirs.map_or(ours, |theirs| theirs.min(ours));
        Rules { idle_ms: stricter(self.idle_ms, idle_ms), absolute_ms: stricter(self.absolute_ms, absolute_ms), ..self }
    }

    /// How old the written time of the last use may become before it is written again: a sixteenth of `idle_ms`, at most a
    /// minute. A session may seem idle so much too early, never too late.
    pub fn slack_ms(&self) -> u64 {
        (self.idle_ms / 16).min(60_000)
    }

    /// Until when an answer may carry a handle, milliseconds after its request came.
    pub fn carry_ms(&self) -> u64 {
        self.leeway_ms / 2
    }
}

/// What a presented handle leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is good.
    Good {
        /// The row as it is now; to be written soon where it differs.
        life: Life,
        /// The generation that the answer hands out, if any.
        hand: Option<u32>,
    },
    /// Two hold it. This row is to be written, and whoever presents it refused.
    Reused(Life),
    /// The session is over.
    Over(Over),
}

/// Why nothing more comes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It has lived as long as it may.
    Expired,
    /// It lay idle for too long.
    Idle,
    /// It was ended.
    Ended(Ending),
}

impl Life {
    /// A session that begins: its first handle is of generation 1.
    pub fn open(now_ms: u64) -> Life {
        Life {
            opened_at_ms: now_ms,
            used_at_ms: now_ms,
            generation: 1,
            handed_at_ms: now_ms,
            seen_at_ms: None,
            before_at_ms: None,
            due: false,
            ended: None,
        }
    }

    /// When it ends at the latest, milliseconds since the epoch; exclusive.
    pub fn expires_at_ms(&self, rules: &Rules) -> u64 {
        self.opened_at_ms.saturating_add(rules.absolute_ms)
    }

    /// Why it is over now, where it is. One that was ended says so before its time is looked at.
    pub fn over(&self, now_ms: u64, rules: &Rules) -> Option<Over> {
        if let Some(ending) = self.ended {
            return Some(Over::Ended(ending));
        }
        if now_ms >= self.expires_at_ms(rules) {
            return Some(Over::Expired);
        }
        (now_ms.saturating_sub(self.used_at_ms) >= rules.idle_ms).then_some(Over::Idle)
    }

    /// Judges a handle of this session, of whose mark the caller is sure, at `now_ms`.
    pub fn present(&self, presented: u32, now_ms: u64, rules: &Rules) -> Use {
        if let Some(over) = self.over(now_ms, rules) {
            return Use::Over(over);
        }
        if presented < self.generation {
            return self.earlier(presented, now_ms, rules);
        }
        let mut life = self.arrived(presented, now_ms).used(now_ms, rules);
        if !life.is_due(now_ms, rules) {
            return Use::Good { life, hand: None };
        }
        let Some(next) = life.generation.checked_add(1) else { return Use::Good { life, hand: None } };
        life = Life {
            generation: next,
            handed_at_ms: now_ms,
            before_at_ms: life.seen_at_ms,
            seen_at_ms: None,
            due: false,
            ..life
        };
        Use::Good { life, hand: Some(next) }
    }

    /// A fresh or stronger authentication, other roles: the handle is replaced with the next use, so that who has a copy of the
    /// old one does not gain by it.
    pub fn promoted(&self) -> Life {
        Life { due: true, ..self.clone() }
    }

    /// This session, ended. The first reason stays.
    pub fn end(&self, ending: Ending) -> Life {
        Life { ended: Some(self.ended.unwrap_or(ending)), ..self.clone() }
    }

    /// The presented generation is in use, and nothing after it that the row knows of.
    fn arrived(&self, presented: u32, now_ms: u64) -> Life {
        if presented == self.generation {
            return Life { seen_at_ms: self.seen_at_ms.or(Some(now_ms)), ..self.clone() };
        }
        // Writes were lost. What was handed out before is as good as seen just now.
        Life {
            generation: presented,
            handed_at_ms: now_ms,
            seen_at_ms: Some(now_ms),
            before_at_ms: Some(now_ms),
            due: self.due,
            ..self.clone()
        }
    }

    fn used(self, now_ms: u64, rules: &Rules) -> Life {
        let stale = now_ms.saturating_sub(self.used_at_ms) >= rules.slack_ms().max(1);
        if stale { Life { used_at_ms: now_ms, ..self } } else { self }
    }

    fn is_due(&self, now_ms: u64, rules: &Rules) -> bool {
        let Some(seen_at_ms) = self.seen_at_ms else { return false };
        let settled = now_ms >= seen_at_ms.saturating_add(rules.leeway_ms.saturating_mul(2));
        let timely = rules.every_ms.is_none_or(|every_ms| now_ms >= self.handed_at_ms.saturating_add(every_ms));
        self.due || (settled && timely)
    }

    /// A generation that has a successor.
    fn earlier(&self, presented: u32, now_ms: u64, rules: &Rules) -> Use {
        // When the successor of the presented one came into use.
        let successor_at_ms = match self.generation - presented {
            1 => self.seen_at_ms,
            2 => Some(self.before_at_ms.unwrap_or(0)),
            _ => Some(0),
        };
        if successor_at_ms.is_none_or(|at_ms| now_ms < at_ms.saturating_add(rules.leeway_ms)) {
            return Use::Good { life: self.clone().used(now_ms, rules), hand: Some(self.generation) };
        }
        Use::Reused(self.end(Ending::Reused))
    }
}
