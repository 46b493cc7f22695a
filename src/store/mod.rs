//! What outlives a request: quotas and the audit log.
pub mod audit;
pub mod quota;
