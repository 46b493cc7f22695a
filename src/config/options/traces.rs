//! Options of traces: where spans go, and of how many requests.
use crate::config::read::{Entries, Spanned};
use crate::config::secrets::SecretPlace;
use crate::config::units::Share;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traces (OpenTelemetry).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceOptions {
    /// Where spans are sent: base URL of a collector that takes OTLP over HTTP, e.g. `https://otel.internal:4318`; the
    /// path `/v1/traces` is added. Default, and empty: no spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Spanned<String>>,
    /// Share of new traces that are recorded, `0%` to `100%`, decided by the trace's id when the request comes.
    /// Applications that sample by their parent record the same ones.
    pub sample: Share,
    /// Whether the `traceparent` of a hop in `client_ip.trusted` is continued, with its decision whether to record.
    /// Otherwise each request begins a trace, with a link to the one that the client named. Danger: a hop that passes
    /// on what its clients send lets them choose which requests are recorded.
    pub trust_inbound: bool,
    /// Whether spans say the client's address, which is personal data in many places. The audit log has it in any case.
    pub client_address: bool,
    /// PEM file with the only certificate authorities that may vouch for the collector. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Headers sent to the collector, each with the place of its value, read anew for every batch. Default: none.
    #[serde(skip_serializing_if = "Entries::is_empty")]
    pub headers: Entries<Spanned<SecretPlace>>,
}

impl Default for TraceOptions {
    fn default() -> Self {
        TraceOptions {
            otlp: None,
            sample: Share::ONE_PERCENT,
            trust_inbound: false,
            client_address: true,
            ca: None,
            headers: Entries::default(),
        }
    }
}
