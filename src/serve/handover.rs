//! Replacing the running process by another one without refusing a connection.
//!
//! The old process listens on a Unix socket in its state folder. The new one, started by hand or by the old one, asks
//! for the listening sockets themselves, so that there is one accept queue before, while and after: nothing that waits
//! in it can be lost, which `SO_REUSEPORT` cannot promise (docs/upgrade.md has figures). The order is what makes it
//! safe: the new process compiles its bundle, takes the sockets, reads certificates and fetches keys; then the old one
//! leaves it the audit log; then it accepts; and only then the old one drains. Until that moment the old one goes on as
//! if nothing had happened, should the new one fail or vanish.
mod giver;
mod post;
mod taker;
mod wire;

pub use giver::{Program, Requests, Steward, ask_for_upgrade};
pub use taker::Predecessor;

use std::path::{Path, PathBuf};

/// The socket's name in the state folder.
const SOCKET: &str = "handover.sock";
/// Version of the conversation; processes that speak different ones do not replace each other.
const PROTOCOL: u32 = 1;

fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

#[cfg(test)]
mod tests;
