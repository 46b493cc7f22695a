//! Ways of being somebody that need no issuer → what routes accept, and what it is checked against.
mod api_keys;
mod app_sessions;
mod ext_auth;
pub(super) mod certificates;
