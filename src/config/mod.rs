//! `gateway.yaml` and `policies/` → one immutable `Snapshot`, or all problems at once.
pub mod env;
pub mod problem;
pub mod read;
pub mod settings;
pub mod yaml;
