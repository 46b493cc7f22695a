//! How sessions are ended before their time, resolved.
use std::time::Duration;

/// `sessions.revocation:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose word ends sessions.
    pub listen: Listen,
    /// A replica that has not heard of the others' revocations for longer is stale.
    pub max_staleness: Duration,
    /// Whether a stale replica refuses ordinary routes.
    pub deny_stale: bool,
    /// Whether a stale replica refuses sensitive routes.
    pub deny_stale_sensitive: bool,
    /// How long revocations are remembered, seconds.
    pub keep_s: u64,
    /// How far other clocks may run ahead of ours, seconds.
    pub clock_tolerance_s: u64,
    /// Most revocations at a time.
    pub max_marks: u64,
}

/// `sessions.revocation.listen:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Operators.
    pub admin: bool,
    /// Users, their own sessions.
    pub users: bool,
    /// Signals of issuers.
    pub caep: bool,
    /// Logout tokens of issuers.
    pub back_channel_logout: bool,
}
