//! Everything a wire test needs: a bundle in a folder of its own, the gateway as a process, an application that
//! remembers what reached it, tokens, and clients from polite to hostile. Ports are always chosen by the system.
#![allow(dead_code, unused_imports, reason = "each test uses a part")]

mod audit;
mod bundle;
mod client;
mod clock;
mod gateway;
mod otlp;
mod postgres;
mod redis;
mod scripted;
pub mod secure;
mod tokens;
mod tools;
mod upstream;
mod withheld;

pub use audit::{entries, outcomes};
pub use bundle::Bundle;
pub use client::{Call, Reply};
pub use gateway::{Gateway, Output, field, message, moat};
pub use otlp::{Sink, Span, spans};
pub use postgres::{OWNER, Postgres};
pub use redis::{Redis, Weather, Wire};
pub use scripted::{Scripted, read_head, read_until};
pub use tokens::{Token, TokenKey, b64, now};
pub use tools::{Program, free_address, tool};
pub use upstream::{Seen, Upstream};

use std::time::Duration;

/// Longer than anything that works takes, shorter than a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with the standard bundle in front of an application that answers everything with 200.
pub async fn standard() -> (Gateway, Upstream) {
    with(|_| ()).await
}

/// The same, with changes to the bundle before the start.
pub async fn with(change: impl FnOnce(&mut Bundle)) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let mut bundle = Bundle::standard(upstream.address);
    change(&mut bundle);
    (Gateway::start(bundle).await, upstream)
}
