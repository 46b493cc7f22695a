//! `gateway.yaml` and `policies/` → one immutable `Snapshot`, or all problems at once.
pub mod settings;

pub mod compare;
pub mod outline;
pub mod last_good;
mod load;
pub use load::{Complaint, Loaded, Purpose, World, process_env};

pub mod glance;
pub mod options;
pub mod reference;
pub mod show;
mod compile;
pub mod cases;
pub mod keys;

mod files;
mod parsed;
pub use parsed::Parsed;
pub mod problem;
pub mod read;
pub mod yaml;

pub mod env;
mod pepper;
pub mod secrets;
pub mod units;

#[cfg(test)]
pub(crate) mod tests;
