//! The only place that names pingora or hyper: listeners, proxy, keys, metrics, admin.
pub mod admin;
pub mod logs;
pub mod metrics;
