//! Options of upstreams: the applications behind the gateway.
use crate::config::read::Spanned;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An application behind the gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamOptions {
    /// Where it listens, `host:port`, HTTP/1.1 without TLS. Names are resolved at every load; a reload takes up changed
    /// addresses. Danger: everybody between gateway and application can read the requests; keep them on one network.
    pub endpoints: Vec<Spanned<String>>,
    /// How an endpoint is chosen: `least_requests` or `round_robin`.
    #[serde(default)]
    pub load_balance: BalanceOption,
    /// Timeouts.
    #[serde(default)]
    pub http: UpstreamHttp,
}

/// `load_balance`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceOption {
    /// The endpoint with the fewest requests in flight.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
}

/// Timeouts of an upstream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamHttp {
    /// Time for connecting to one endpoint.
    pub connect_timeout: Period,
    /// Time from the sent request to the first byte of the answer, then for each pause in it; then `upstream.timeout`.
    pub first_byte_timeout: Period,
    /// Time without progress in the request's body; and in the answer, where the client asked for a stream: a WebSocket,
    /// or `Accept: text/event-stream`.
    pub idle_timeout: Period,
    /// Time for everything. Default: no bound, for streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<Period>,
}

impl Default for UpstreamHttp {
    fn default() -> Self {
        UpstreamHttp {
            connect_timeout: seconds(2),
            first_byte_timeout: seconds(15),
            idle_timeout: seconds(60),
            total_timeout: None,
        }
    }
}
