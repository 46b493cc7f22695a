//! `traces` → settings.
use super::Compiler;
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::settings::{Collector, SecretSource, Traces};
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderName, Uri};
use std::net::IpAddr;
use std::sync::Arc;

/// What the exporter says itself.
const OURS: [HeaderName; 7] =
    [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT];

impl Compiler<'_> {
    pub(super) fn traces(&self) -> Traces {
        let options = &self.options.traces;
        let url = options.otlp.as_ref().filter(|url| !url.is_empty());
        let headers = self.collector_headers();
        let ca = options.ca.as_ref().map(|ca| {
            self.exists(ca);
            let path = self.files.folder.join(&ca.value);
            self.files.watch(path.clone());
            path
        });
        Traces {
            collector: url.and_then(|url| {
                let uri = self.collector_url(url, !headers.is_empty())?;
                Some(Arc::new(Collector { url: uri, ca, headers }))
            }),
            sample_ppm: options.sample.per_million(),
            trust_inbound: options.trust_inbound,
            client_address: options.client_address,
        }
    }

    /// The base URL with the path that OTLP gives to traces.
    fn collector_url(&self, url: &Spanned<String>, secrets: bool) -> Option<Uri> {
        let base = url.trim_end_matches('/');
        let parsed = format!("{base}/v1/traces").parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.query().is_none()
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        });
        let Some(uri) = parsed.filter(|_| !base.contains('#')) else {
            let hint =
                "write the collector's base URL, e.g. `https://otel.internal:4318`; credentials go into `headers`";
            self.report.hinted(url.at, format!("`{}` is no http or https URL", url.value), Some(hint));
            return None;
        };
        if base.ends_with("/v1/traces") {
            let hint = "write the URL without it";
            self.report.hinted(url.at, "`/v1/traces` is added to the URL by itself", Some(hint));
        }
        if secrets && uri.scheme_str() == Some("http") && !is_loopback(uri.host().unwrap_or_default()) {
            let hint = "use https, or a collector on this machine";
            self.report.hinted(url.at, "`headers` would cross the network in the clear", Some(hint));
        }
        Some(uri)
    }

    fn collector_headers(&self) -> Vec<(HeaderName, SecretSource)> {
        let read = |(name, place): &(Spanned<String>, Spanned<SecretPlace>)| {
            let header = HeaderName::try_from(name.to_ascii_lowercase());
            if !header.as_ref().is_ok_and(|header| !OURS.contains(header)) {
                let message = format!("`{}` cannot be a header of the export", name.value);
                self.report.problem(name.at, message);
            }
            let source = place.source(&self.files.folder, &|name| self.files.variable(name));
            let source = source.map_err(|message| self.report.problem(place.at, message)).ok()?;
            Some((header.ok()?, source))
        };
        self.options.traces.headers.iter().filter_map(read).collect()
    }
}

/// Whether a URL's host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
