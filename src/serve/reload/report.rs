//! What became of an attempt to reload, as `moat reload` tells it.
use crate::config::Loaded;
use crate::config::outline::Changes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The files are what is in force.
    Unchanged,
    /// They are in force now.
    Reloaded,
    /// They would be, had this not been a dry run.
    WouldReload,
    /// Something in them cannot be changed while the process runs; nothing has changed.
    NeedsRestart,
    /// They have problems; nothing has changed.
    Problems,
}

/// An attempt to reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// Digest of what is in force.
    pub digest: String,
    /// Digest of the files, where they could be read.
    pub candidate: Option<String>,
    /// What differs, by the names of the files' own pieces.
    pub changes: Changes,
    /// What the files allow that is not allowed now.
    pub loosened: Vec<String>,
    /// What only a restart can change.
    pub needs_restart: Vec<Restart>,
    /// How many problems.
    pub problems: u64,
    /// All problems, rendered for people.
    pub text: String,
    /// All problems of the files, for programs.
    pub list: serde_json::Value,
}

impl Report {
    /// Nothing is known yet but what is in force.
    pub(super) fn new(digest: &str) -> Report {
        Report {
            verdict: Verdict::Unchanged,
            digest: digest.to_owned(),
            candidate: None,
            changes: Changes::default(),
            loosened: Vec::new(),
            needs_restart: Vec::new(),
            problems: 0,
            text: String::new(),
            list: serde_json::Value::Array(Vec::new()),
        }
    }
}

/// A key that only a restart can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The key, dotted.
    pub key: String,
    /// Where it stands, or the next thing above it that does; `None` where it is a default.
    pub place: Option<String>,
}

impl Restart {
    /// A key, with its place in what was loaded.
    pub(super) fn of(key: &str, loaded: &Loaded) -> Restart {
        Restart { key: key.to_owned(), place: loaded.place_or_above(key) }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "`{}` ({place})", self.key),
            None => write!(f, "`{}`", self.key),
        }
    }
}
