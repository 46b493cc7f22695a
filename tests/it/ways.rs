//! The ways of being somebody, each over real sockets.
mod api_keys;
mod certificates;
mod ext_auth;
