//! Options of a flood's entries: when refused requests share one.
use crate::config::read::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When requests share entries: those that were refused, or that the gateway answered by itself, before anybody was
/// known. They are told apart by client (IPv6: /64), listener and code; every second, those beyond the allowance of
/// their kind get one entry that says how many they were.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FoldOptions {
    /// Entries of their own that a kind may have at once, up to a million; ten times as many for all kinds together.
    pub after: Spanned<u32>,
    /// Entries of their own that a kind may have per second later.
    pub per_second: Spanned<u32>,
    /// Entries of their own that all kinds together may have per second later. Each is about 600 bytes long.
    pub in_all_per_second: Spanned<u32>,
}

impl Default for FoldOptions {
    fn default() -> Self {
        FoldOptions { after: 2000.into(), per_second: 10.into(), in_all_per_second: 200.into() }
    }
}
