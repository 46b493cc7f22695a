//! What outlives a request: quotas, state such as sessions, what replicas share, and the audit log.
pub mod app_sessions;
pub mod audit;
pub mod families;
pub mod factors;
pub mod key_sets;
pub mod key_uses;
pub mod names;
pub mod quota;
mod recent;
pub mod seal;
pub mod revocations;
pub mod sessions;
pub mod shared;
pub mod state;
