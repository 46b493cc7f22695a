//! Sessions that end before their time: whoever was ended is out everywhere, and nobody else is.
mod history;
mod orders;
pub mod signals;
mod streams;
mod together;
mod users;

use crate::harness::{Gateway, Output, moat};

/// `moat sessions revoke ARGS`
pub fn revoke(gateway: &Gateway, args: &[&str]) -> Output {
    let admin = gateway.address("admin").to_string();
    moat(gateway.bundle.root(), &[&["sessions", "revoke", "--admin", &admin, "--actor", "olga"], args].concat())
}

/// The same, which must succeed.
pub fn ended(gateway: &Gateway, args: &[&str]) -> String {
    let output = revoke(gateway, args);
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout
}
