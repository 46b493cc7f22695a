//! Requests that share an entry, as it is written.
use super::instant;
use crate::facts::{Person, RequestId};
use crate::record::{Verdict, json};

/// Requests that have one entry together. None of them was forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Folded<'a> {
    /// How many.
    pub requests: u64,
    /// What was decided about each of them.
    pub verdict: Verdict,
    /// The listener's name.
    pub listener: &'a str,
    /// The address or network that all of them came from; `None` where they have none in common.
    pub client: Option<Person<&'a str>>,
    /// From how many addresses (IPv6: networks of 64 bits) they came, at the least.
    pub clients: u64,
    /// When the first began, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When the last began.
    pub until_ms: u64,
    /// Our ids of the first and the last: they bear the time, so that the entry of any other is found by its id.
    pub ids: (RequestId, RequestId),
}

impl Folded<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        json::number(out, ",\"detail\":{\"requests\":", self.requests);
        json::text(out, ",\"verdict\":\"", self.verdict.as_str());
        json::text(out, ",\"listener\":\"", self.listener);
        json::optional(out, ",\"client\":\"", self.client.map(|client| client.0));
        json::number(out, ",\"clients\":", self.clients);
        instant(out, ",\"since\":", self.since_ms);
        instant(out, ",\"until\":", self.until_ms);
        for (lead, id) in [(",\"first_id\":\"", self.ids.0), (",\"last_id\":\"", self.ids.1)] {
            out.extend_from_slice(lead.as_bytes());
            out.extend_from_slice(&id.text());
            out.push(b'"');
        }
    }
}
