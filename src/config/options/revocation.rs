//! Options of ending sessions before their time.
use crate::config::read::Spanned;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How sessions are ended before their time, and what holds while a replica may not know of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationOptions {
    /// Whose word ends sessions: `admin` (the admin listener and `moat sessions revoke`), `users` (their own, at
    /// `/.moat/sessions`), `caep` (signals of issuers that have `signals`), `back_channel_logout` (OpenID Connect).
    pub listen: Spanned<Vec<Spanned<ListenOption>>>,
    /// A replica that has not heard of the others' revocations for longer is stale. At least 1s. Where state is not shared,
    /// the store is this machine's own, and silent only when its disk is.
    pub max_staleness: Spanned<Period>,
    /// What becomes of requests with a session while this replica is stale.
    pub when_stale: WhenStaleOptions,
    /// How long a revocation of a session, user, tenant, issuer or token is remembered, at the least: no session may live
    /// longer. Not shorter than `max_lifetime` of any issuer, and at most 400d. Danger: an issuer that goes on refreshing a
    /// session for longer than this revives it.
    pub keep: Spanned<Period>,
    /// How far the clocks of issuers and replicas may run ahead of the replica that ends something: who seems to have
    /// signed in within this time after it is out too. At most 5m. Danger: who signs in anew within it must do so again.
    pub clock_tolerance: Spanned<Period>,
    /// Most revocations that are remembered at a time; more are refused until some are over. At most about 64 bytes of
    /// memory each, 48 where there are 10,000,000.
    pub max_marks: Spanned<u64>,
}

impl Default for RevocationOptions {
    fn default() -> Self {
        let listen = [ListenOption::Admin, ListenOption::Users, ListenOption::Caep, ListenOption::BackChannelLogout];
        RevocationOptions {
            listen: Spanned { value: listen.map(Spanned::from).to_vec(), at: Default::default() },
            max_staleness: seconds(5).into(),
            when_stale: WhenStaleOptions::default(),
            keep: seconds(30 * 86_400).into(),
            clock_tolerance: seconds(1).into(),
            max_marks: 10_000_000.into(),
        }
    }
}

/// One of `sessions.revocation.listen`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListenOption {
    /// Operators.
    Admin,
    /// Users.
    Users,
    /// Signals of issuers.
    Caep,
    /// Logout tokens of issuers.
    BackChannelLogout,
}

/// What becomes of requests with a session while a replica is stale: `allow_and_count`, or `deny` with 503.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WhenStaleOptions {
    /// On ordinary routes. Danger of `allow_and_count`: who was signed out elsewhere meanwhile is let in. Danger of `deny`: an
    /// outage of the store is one of everything.
    pub default: StaleOption,
    /// On routes with `audit: {sensitive: true}`.
    pub sensitive: StaleOption,
}

impl Default for WhenStaleOptions {
    fn default() -> Self {
        WhenStaleOptions { default: StaleOption::AllowAndCount, sensitive: StaleOption::Deny }
    }
}

/// One word of `sessions.revocation.when_stale`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StaleOption {
    /// They are let in, and counted.
    AllowAndCount,
    /// They are refused with `gateway.unavailable`.
    Deny,
}
