//! What outlives a request: quotas, what replicas share, and the audit log.
pub mod audit;
pub mod quota;
pub mod shared;
