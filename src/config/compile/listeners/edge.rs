//! `client_ip.edge` → ranges, authorities and names of the delivery network in front of a listener.
use crate::config::compile::Compiler;
use crate::config::options::{EdgeCertificateOptions, EdgeOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{Edge, EdgeCertificate, ListenerKind};
use decide::headers::IdentityHeaders;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// Most ranges: each connection is compared with all of them.
const MOST: usize = 4096;

impl Compiler<'_> {
    pub(super) fn edge(&self, options: &Spanned<EdgeOptions>, kind: &ListenerKind, trusted: &[IpNet]) -> Edge {
        let mut ranges: Vec<IpNet> = options.ranges.iter().map(|range| self.range(range.value, range.at)).collect();
        if let Some(name) = &options.ranges_from {
            ranges.extend(self.ranges_from(name));
        }
        if ranges.is_empty() && !self.report.is_tainted(options.at) {
            let hint = "list the networks of the CDN in `ranges` or in a file for `ranges_from`";
            self.report.hinted(options.at, "`edge` without ranges: nobody could connect", Some(hint));
        }
        if ranges.len() > MOST {
            self.report.problem(options.at, format!("`edge` has {} ranges; at most {MOST} are compared", ranges.len()));
        }
        Edge {
            hops: [trusted, &ranges].concat(),
            ranges,
            certificate: options.client_certificate.as_ref().and_then(|wanted| self.edge_certificate(wanted, kind)),
            header: options.header.as_ref().and_then(|name| self.edge_header(name)),
        }
    }

    /// Everybody is no network.
    fn range(&self, range: IpNet, at: At) -> IpNet {
        if range.prefix_len() == 0 {
            self.report.hinted(
                at,
                format!("`{range}` is everybody"),
                Some("leave out `edge` where everybody may connect"),
            );
        }
        range
    }

    fn ranges_from(&self, name: &Spanned<String>) -> Vec<IpNet> {
        let Some((file, text)) = self.files.read_text(name, Some(name.at)) else { return Vec::new() };
        let mut ranges = Vec::new();
        for (line, written) in (1..).zip(text.lines()) {
            let word = written.split('#').next().unwrap_or_default();
            let column = word.chars().take_while(|c| c.is_whitespace()).count() + 1;
            let word = word.trim();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let at = At { file, line, column: count(column), len: count(word.chars().count()).max(1) };
            // An address by itself is a network of one.
            match word.parse::<IpNet>().or_else(|_| word.parse::<std::net::IpAddr>().map(IpNet::from)) {
                _ if word.is_empty() => {}
                Ok(range) => ranges.push(self.range(range, at)),
                Err(_) => {
                    let hint = "one network a line, e.g. `173.245.48.0/20` or `2400:cb00::/32`";
                    self.report.hinted(at, format!("`{word}` is no network"), Some(hint));
                }
            }
        }
        ranges
    }

    fn edge_certificate(
        &self,
        options: &Spanned<EdgeCertificateOptions>,
        kind: &ListenerKind,
    ) -> Option<Arc<EdgeCertificate>> {
        match kind {
            ListenerKind::Tls { .. } => {}
            ListenerKind::Redirect { .. } | ListenerKind::Plaintext => {
                let hint = "only a listener with TLS can ask for a certificate";
                self.report.hinted(options.at, "`client_certificate` on a listener without TLS", Some(hint));
            }
        }
        let mut names = Vec::new();
        for name in &options.san {
            match ServerName::try_from(name.value.clone()) {
                Ok(parsed) => names.push(parsed),
                Err(_) => {
                    let message = format!("`{}` is no host name and no address", name.value);
                    self.report.hinted(name.at, message, Some("write a name that the certificate of the CDN holds"));
                }
            }
        }
        Some(Arc::new(EdgeCertificate { authorities: self.authorities(&options.ca)?, names }))
    }

    fn edge_header(&self, name: &Spanned<String>) -> Option<http::HeaderName> {
        if let Err(message) = IdentityHeaders::default().with_edge(name) {
            let hint = "name the CDN's own header, e.g. `cf-connecting-ip`; `x-forwarded-for` and `forwarded` are read without it";
            self.report.hinted(name.at, message, Some(hint));
            return None;
        }
        name.to_ascii_lowercase().parse().ok()
    }
}
