//! Moat, a reverse-proxy security gateway: the shell around the pure core `decide`.
pub mod cli;
pub mod config;
pub mod panics;
pub mod serve;
pub mod store;
pub mod visible;
