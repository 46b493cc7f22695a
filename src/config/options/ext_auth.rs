//! Options of services of yours that say who somebody is.
use crate::config::read::Spanned;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service of yours that says who somebody is, asked once per request as nginx's `auth_request` does: 2xx lets in, 401 and
/// 403 refuse, and anything else, or silence, is `gateway.unavailable`. It gets no body, and nothing of its answer is
/// kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtAuthOptions {
    /// Where it is: an https URL, or http on this machine. It is asked by GET.
    pub url: Spanned<String>,
    /// Why http is used to another machine. Danger: whoever can listen there learns credentials, and whoever can write
    /// there is anybody. Default: refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
    /// PEM file with the only certificate authorities that may vouch for it. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Headers of the request that are sent to it, and that it decides by: at least one. A request with none of them
    /// carries no credential, and it is not asked.
    pub send: Spanned<Vec<Spanned<String>>>,
    /// Headers of its answer that say who it is.
    pub identity: ExtIdentityOptions,
    /// Time for its answer, 10ms to 10s. Danger: requests wait as long where it is slow.
    #[serde(default = "one_second")]
    pub timeout: Spanned<Period>,
    /// How long what a request opened (WebSockets, streams) may go on: 1s to 24h.
    #[serde(default = "one_hour")]
    pub max_age: Spanned<Period>,
    /// Questions under way at once, 1 to 100,000; more are `gateway.unavailable`.
    #[serde(default = "a_thousand")]
    pub max_in_flight: Spanned<usize>,
}

/// Headers of an answer that say who somebody is. Each stands once, or not at all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtIdentityOptions {
    /// The user. An answer without it lets nobody in.
    pub subject: Spanned<String>,
    /// The tenant that the session belongs to. Default: none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Spanned<String>>,
    /// Roles, separated by commas. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Spanned<String>>,
}

fn one_second() -> Spanned<Period> {
    seconds(1).into()
}

fn one_hour() -> Spanned<Period> {
    seconds(3600).into()
}

fn a_thousand() -> Spanned<usize> {
    1000.into()
}
