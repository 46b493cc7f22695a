//! What outlives a request: quotas, sessions, what replicas share, and the audit log.
pub mod audit;
pub mod quota;
pub mod seal;
pub mod shared;
