//! The only place that names pingora or hyper: listeners, proxy, keys, metrics, admin.
pub mod metrics;
