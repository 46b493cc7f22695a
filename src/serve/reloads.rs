//! What became of the last attempt to put a configuration in force, for people who look at the running gateway.
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// What made the gateway read its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The process started.
    Start,
    /// SIGHUP.
    Hangup,
    /// A file of the bundle changed.
    Files,
    /// An operator asked through the admin listener.
    Command,
}

impl Trigger {
    /// In one word: `start`, `sighup`, `files` or `command`.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Start => "start",
            Trigger::Hangup => "sighup",
            Trigger::Files => "files",
            Trigger::Command => "command",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bundle is in force.
    Applied {
        /// What it allows that the one before did not.
        loosened: Vec<String>,
    },
    /// The bundle is the one that was in force already.
    Unchanged,
    /// The bundle has problems: the one before stays in force.
    Refused {
        /// How many.
        problems: u64,
        /// All of them, rendered for the operator; several lines, free of secrets.
        text: String,
    },
    /// The bundle has problems and there was none before it in this process: the last good one is in force.
    LastGood {
        /// How many.
        problems: u64,
        /// All of them, rendered for the operator; several lines, free of secrets.
        text: String,
    },
}

impl Outcome {
    /// In one word: `applied`, `unchanged`, `refused` or `last-good`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Applied { .. } => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Refused { .. } => "refused",
            Outcome::LastGood { .. } => "last-good",
        }
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReload {
    /// When it ended, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What caused it.
    pub trigger: Trigger,
    /// Digest of the bundle that is in force after it.
    pub digest: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// The last attempt, and the last that changed what is in force.
#[derive(Debug, Default)]
pub struct Reloads {
    last: ArcSwapOption<LastReload>,
    in_force: ArcSwapOption<LastReload>,
}

impl Reloads {
    /// Writes down an attempt that has ended.
    pub fn record(&self, reload: LastReload) {
        let reload = Arc::new(reload);
        match reload.outcome {
            Outcome::Applied { .. } | Outcome::LastGood { .. } => self.in_force.store(Some(reload.clone())),
            Outcome::Unchanged | Outcome::Refused { .. } => {}
        }
        self.last.store(Some(reload));
    }

    /// The last attempt; `None` before the first.
    pub fn last(&self) -> Option<Arc<LastReload>> {
        self.last.load_full()
    }

    /// The attempt that put into force what is in force now; `None` before the first.
    pub fn in_force(&self) -> Option<Arc<LastReload>> {
        self.in_force.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_attempt_leaves_what_is_in_force() {
        let reloads = Reloads::default();
        assert!(reloads.last().is_none() && reloads.in_force().is_none());
        let attempt = |at_ms, outcome| LastReload { at_ms, trigger: Trigger::Files, digest: "d".to_owned(), outcome };
        reloads.record(attempt(1, Outcome::Applied { loosened: vec![] }));
        reloads.record(attempt(2, Outcome::Refused { problems: 1, text: "no".to_owned() }));
        let at = |reload: Option<Arc<LastReload>>| reload.map(|reload| reload.at_ms);
        assert_eq!((at(reloads.last()), at(reloads.in_force())), (Some(2), Some(1)));
        reloads.record(attempt(3, Outcome::Unchanged));
        assert_eq!((at(reloads.last()), at(reloads.in_force())), (Some(3), Some(1)));
        reloads.record(attempt(4, Outcome::LastGood { problems: 1, text: "no".to_owned() }));
        assert_eq!((at(reloads.last()), at(reloads.in_force())), (Some(4), Some(4)));
    }
}
