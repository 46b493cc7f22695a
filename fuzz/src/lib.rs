//! Fuzz targets: each takes any bytes, gives them to a parser of ours, and panics where something that must hold of the
//! outcome does not. `docs/fuzzing.md` says how they are run; `tests/replay.rs` runs them on everything in `corpus/`.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a target tells of what it found by a panic"
)]
mod input;
mod head;
mod fields;
mod reply;
mod request;
mod chunks;
mod cookie;
mod forwarded;
mod site;
mod token;
mod keys;
mod condition;
mod dressing;
mod trace;
mod record;
mod yaml;
mod config;
mod frames;
mod body;
mod proxy;
mod http2;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. The name is that of the folder in `corpus/`.
pub const TARGETS: &[Target] = &[
    ("head", head::run),
    ("fields", fields::run),
    ("reply", reply::run),
    ("request", request::run),
    ("chunks", chunks::run),
    ("cookie", cookie::run),
    ("forwarded", forwarded::run),
    ("site", site::run),
    ("token", token::run),
    ("keys", keys::run),
    ("condition", condition::run),
    ("dressing", dressing::run),
    ("trace", trace::run),
    ("record", record::run),
    ("yaml", yaml::run),
    ("config", config::run),
    ("frames", frames::run),
    ("body", body::run),
    ("proxy", proxy::run),
    ("http2", http2::run),
];
