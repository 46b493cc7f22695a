//! Audit entries: what one says, its canonical bytes, the hash chain that binds it, signed heads and verification.
pub mod chain;
pub mod entry;
pub mod event;
pub mod head;
mod json;
pub mod time;
pub mod verify;

pub use chain::{Chain, Hash};
pub use entry::{Circumstances, Entry, Exchange, Handshake, Kind, Outcome, Verdict};
pub use event::{Ended, Event, Folded, KeyChange};
pub use head::{Head, HeadError, VerifyKey, VerifyKeys};
pub use json::is_plain;
pub use verify::{Flaw, Reason, Report, Verifier};
