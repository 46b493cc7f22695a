//! The ways of being somebody, each over real sockets.
mod api_keys;
mod certificates;
mod app_sessions;
mod ext_auth;
mod introspection;
pub mod key_sets;
mod withheld;
