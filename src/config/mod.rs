//! `gateway.yaml` and `policies/` → one immutable `Snapshot`, or all problems at once.
pub mod env;
pub mod options;
pub mod problem;
pub mod read;
pub mod secrets;
pub mod settings;
pub mod units;
pub mod yaml;
