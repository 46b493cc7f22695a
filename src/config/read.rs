//! A tree of nodes → typed options, through serde, with every problem collected instead of the first one only: a value
//! that cannot be read is reported, left out, and the reading starts again without it.
mod beside;
mod entries;
mod spanned;
#[cfg(test)]
mod tests;
mod unknown;
mod value;
mod words;

pub use beside::BESIDE;
pub use entries::Entries;
pub use spanned::Spanned;
pub(crate) use unknown::{choice, unknown};

use crate::config::problem::{At, Report};
use crate::config::yaml::Node;
use serde::{Deserialize, de};
use std::cell::RefCell;
use std::collections::HashSet;
use value::Value;

/// Reads a tree as `T`. `None` where the root itself cannot be read; otherwise what could be read, and the rest is in
/// the report.
pub fn read<T: for<'de> Deserialize<'de>>(node: &Node, report: &Report) -> Option<T> {
    let reader = Reader { report, skip: RefCell::default(), path: RefCell::default() };
    for _ in 0..MAX_ROUNDS {
        let root = Value { node, key: node.at, reader: &reader };
        match T::deserialize(root) {
            Ok(value) => return Some(value),
            Err(error) => {
                let at = error.at.unwrap_or(node.at);
                if !error.silent && !error.missing.is_some_and(|name| root.has_unreadable(name)) {
                    report.hinted(at, error.message, error.hint);
                }
                match error.skip {
                    Some(id) if reader.skip.borrow_mut().insert(id) => {}
                    _ => return None,
                }
            }
        }
    }
    None
}

/// After this many unreadable values the reading gives up.
const MAX_ROUNDS: usize = 200;

struct Reader<'a> {
    report: &'a Report,
    /// Ids of nodes that could not be read.
    skip: RefCell<HashSet<u32>>,
    /// Keys from the root to the value that is being read.
    path: RefCell<Vec<At>>,
}

/// Why a value cannot be read.
#[derive(Debug)]
pub struct Error {
    message: String,
    hint: Option<String>,
    at: Option<At>,
    /// Id of the node to leave out when reading again.
    skip: Option<u32>,
    /// Name of a required key that is not there.
    missing: Option<&'static str>,
    /// The report knows already.
    silent: bool,
}

impl Error {
    fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), hint: None, at: None, skip: None, missing: None, silent: false }
    }

    fn at(mut self, at: At) -> Error {
        self.at.get_or_insert(at);
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// A second line of the message is the hint.
    fn custom<T: std::fmt::Display>(message: T) -> Error {
        let text = message.to_string();
        match text.split_once('\n') {
            Some((message, hint)) => Error { hint: Some(hint.to_owned()), ..Error::new(message) },
            None => Error::new(text),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Error {
        let (message, hint) = unknown("key", field, expected.iter().copied());
        Error { hint, ..Error::new(message) }
    }

    fn missing_field(field: &'static str) -> Error {
        Error { missing: Some(field), ..Error::new(format!("missing `{field}`")) }
    }
}
