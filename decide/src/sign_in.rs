//! Signing in with OpenID Connect (the authorization code flow with PKCE), as far as it is a matter of words: what a
//! provider says of itself, what one flow consists of, what the browser is sent away with and what it may come back with.
//!
//! Nothing is stored for a flow before it ends: all of it travels in a cookie that only the gateway can read, one for
//! each flow, so that two tabs do not take each other's. `state` names the cookie and proves that the browser that comes
//! back is the one that was sent; `nonce` ties the ID token to the flow, and the code verifier the code. The three are
//! derived from one secret of the flow and cannot be told from one another (RFC 7636, OpenID Connect Core 3.1).
mod callback;
mod flow;
mod form;
mod onward;
mod place;
mod provider;
#[cfg(test)]
mod tests;

pub use callback::{Callback, Expected};
pub use flow::{FLOW_LIFE_S, Flow, Purpose};
pub use form::{encode, encoded, fields, pairs};
pub use onward::{Hints, login_instead, sends};
pub use place::{Place, return_to};
pub use provider::{MAX_DISCOVERY_BYTES, Provider};
