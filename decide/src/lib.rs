//! The pure core of Moat: facts in, decision out. No clock, file, socket, async or global lives here; time and random
//! values arrive as arguments, so that the proxy, `explain`, replay and the tests drive the very same engine.
pub mod digits;
mod cut;
pub mod refusal;
pub mod app_session;
pub mod authority;
pub mod path;
pub mod request;
pub mod head;
pub mod chunks;
pub mod reply;
pub mod trailers;
pub mod fields;
pub mod frames;
pub mod cookie;
pub mod site;
pub mod cors;
pub mod csrf;
pub mod forwarded;
pub mod proxy_protocol;
pub mod edge;
pub mod facts;
pub mod ratelimit;
pub mod body;
pub mod rules;
pub mod router;
pub mod policy;
pub mod revocation;
pub mod token;
pub mod session;
pub mod sign_in;
pub mod api_key;
pub mod certificate;
pub mod oauth;
pub mod totp;
pub mod condition;
pub mod guards;
pub mod deliberation;
pub mod record;
pub mod headers;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod urls;
