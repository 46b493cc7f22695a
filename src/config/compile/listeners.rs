//! `listeners` and `tls` → settings.
mod edge;

use super::ways::certificates::Authorities;
use super::{Compiler, Noun};
use crate::config::Complaint;
use crate::config::options::{CIPHERS, KNOWN_GROUPS, MODERN_GROUPS};
use crate::config::options::{ClientHeaderOption, ClientIpOptions, ListenerOptions, ProtocolOption, ProxyProtocol};
use crate::config::options::{RedirectOption, TlsVersion};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{Listener, ListenerKind, SessionTickets, Tls, TlsProfile};
use crate::config::units::{Period, Size};
use decide::facts::Protocol;
use decide::forwarded::ClientHeader;
use decide::head::HeadLimits;
use decide::policy::nearest;
use std::sync::Arc;
use std::time::Duration;

const MODERN: &str = "modern";
/// Range of `h2.stall_timeout`.
const SHORTEST_STALL: Period = Period(Duration::from_secs(1));
/// The shortest `stall_timeout`: the pauses of a good mobile network are below it.
const SHORTEST_PAUSE: Period = Period(Duration::from_millis(100));
/// The longest of either.
const LONGEST_STALL: Period = Period(Duration::from_secs(3600));
/// Range of `session_tickets.rotate`; no ticket is good for more than a week (RFC 8446, 4.6.1).
const SHORTEST_ROTATION: Period = Period(Duration::from_secs(600));
const LONGEST_ROTATION: Period = Period(Duration::from_secs(7 * 86_400));

impl Compiler<'_> {
    /// Listeners in the order of the file.
    pub(super) fn listeners(&self, authorities: &Authorities) -> Vec<Arc<Listener>> {
        if self.names("listeners").is_empty() {
            self.report.problem(At::file(0), "there is no listener: nobody could connect");
        }
        let mut taken = vec![(self.options.admin.address.value, "admin")];
        for (name, options) in self.options.listeners.iter() {
            let address = options.address.value;
            match taken.iter().find(|(other, _)| *other == address && address.port() != 0) {
                Some((_, other)) => {
                    self.report.problem(options.address.at, format!("`{address}` is the address of `{other}` already"));
                }
                None => taken.push((address, name)),
            }
        }
        let tickets = self.session_tickets();
        self.options
            .listeners
            .iter()
            .map(|(name, options)| Arc::new(self.listener(name, options, authorities, tickets.as_ref())))
            .collect()
    }

    fn listener(
        &self,
        name: &Spanned<String>,
        options: &ListenerOptions,
        authorities: &Authorities,
        tickets: Option<&Arc<SessionTickets>>,
    ) -> Listener {
        let limits = &options.limits;
        let bytes = |size: &Spanned<Size>, most: Size| {
            usize::try_from(self.within(size, Size(1), most).0).unwrap_or(usize::MAX)
        };
        let kinds = [options.tls.is_some(), options.redirect.is_some(), options.plaintext.is_some()];
        if kinds.iter().filter(|set| **set).count() > 1 {
            let message = format!("listener `{}` is more than one of `tls`, `redirect` and `plaintext`", name.value);
            self.report.problem(name.at, message);
        }
        let kind = match (&options.redirect, &options.plaintext) {
            (Some(RedirectOption::Https), _) => {
                ListenerKind::Redirect { https_port: self.https_port(options.address.at) }
            }
            (Some(RedirectOption::HttpsPort(port)), _) => {
                ListenerKind::Redirect { https_port: Some(*port).filter(|port| *port != 443) }
            }
            (None, Some(reason)) => {
                if reason.trim().is_empty() {
                    self.report.problem(reason.at, "plaintext needs a reason");
                }
                ListenerKind::Plaintext
            }
            (None, None) => ListenerKind::Tls {
                protocols: options
                    .protocols
                    .iter()
                    .map(|protocol| match protocol {
                        ProtocolOption::H2 => Protocol::Http2,
                        ProtocolOption::Http1 => Protocol::Http1,
                    })
                    .collect(),
                profile: self.tls_profile(name, options.tls.as_ref()),
                tickets: tickets.cloned(),
            },
        };
        if options.protocols.is_empty() && !self.report.is_tainted(name.at) {
            self.report.problem(name.at, format!("listener `{}` speaks no protocol", name.value));
        }
        let trusted = &options.client_ip.trusted;
        let edge = options.client_ip.edge.as_ref().map(|edge| Arc::new(self.edge(edge, &kind, trusted)));
        let edge_shows = edge.as_ref().is_some_and(|edge| edge.certificate.is_some());
        let asked = options.client_certificates.as_ref();
        let client_certificates = asked.and_then(|asked| self.asked_of_clients(asked, &kind, edge_shows, authorities));
        Listener {
            name: Arc::from(name.as_str()),
            address: options.address.value,
            kind,
            trusted: trusted.clone(),
            edge,
            client_certificates,
            proxy_protocol: self.proxy_protocol(&options.client_ip),
            client_header: match options.client_ip.header {
                ClientHeaderOption::XForwardedFor => ClientHeader::XForwardedFor,
                ClientHeaderOption::Forwarded => ClientHeader::Forwarded,
            },
            head: HeadLimits {
                bytes: bytes(&limits.request_headers.bytes, Size(1 << 20)),
                count: self.within(&limits.request_headers.count, 1, 256),
                line: bytes(&limits.request_line, Size(64 << 10)),
            },
            header_timeout: limits.header_timeout.0,
            idle_timeout: limits.idle_timeout.0,
            handshake_timeout: limits.handshake_timeout.0,
            stall_timeout: self.within(&limits.stall_timeout, SHORTEST_PAUSE, LONGEST_STALL).0,
            handshakes_per_second: self.within(&limits.handshakes_per_second, 1, 10_000_000),
            connections_per_ip: self.within(&limits.connections_per_ip, 1, 10_000_000),
            h2_concurrent_streams: self.within(&limits.h2.concurrent_streams, 1, 10_000),
            h2_resets_per_second: limits.h2.resets_per_second,
            h2_control_frames_per_second: self.within(&limits.h2.control_frames_per_second, 10, 1_000_000),
            h2_window_updates_per_second: self.within(&limits.h2.window_updates_per_second, 10, 1_000_000),
            h2_stall_timeout: self.within(&limits.h2.stall_timeout, SHORTEST_STALL, LONGEST_STALL).0,
        }
    }

    fn proxy_protocol(&self, options: &ClientIpOptions) -> bool {
        let required = options.proxy_protocol.value == ProxyProtocol::Required;
        if required && options.trusted.is_empty() {
            let hint = "list the addresses of the balancers, e.g. `trusted: [10.0.0.0/8]`";
            let message = "`proxy_protocol: required` without `trusted`: nobody could connect";
            self.report.hinted(options.proxy_protocol.at, message, Some(hint));
        }
        required
    }

    /// Where `redirect: https` leads, where not to 443: the port on which TLS is spoken. A port that the system chooses is
    /// not known yet.
    fn https_port(&self, at: At) -> Option<u16> {
        let serving = self.options.listeners.iter().filter(|(_, listener)| serves_tls(listener));
        let mut ports: Vec<u16> = serving.map(|(_, listener)| listener.address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        match ports.as_slice() {
            [port] => Some(*port).filter(|port| *port != 443 && *port != 0),
            [] => None,
            several if several.contains(&443) => None,
            several => {
                let all: Vec<String> = several.iter().map(u16::to_string).collect();
                let message = format!("`redirect: https` could lead to port {}", all.join(" or "));
                self.report.hinted(at, message, Some("write `redirect: {https_port: …}`"));
                None
            }
        }
    }

    fn tls_profile(&self, listener: &Spanned<String>, name: Option<&Spanned<String>>) -> TlsProfile {
        if self.tree.get("tls").is_none() {
            let hint = "write `tls: {certificates: certs/}`, or `redirect: https` for a plaintext listener";
            let message = format!("listener `{}` needs certificates, and there is no `tls`", listener.value);
            self.report.hinted(listener.at, message, Some(hint));
        }
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let modern = TlsProfile { tls12: false, groups: all(&MODERN_GROUPS), ciphers: all(&CIPHERS) };
        let Some(name) = name else { return modern };
        let written = self.tree.get("tls").and_then(|tls| tls.get("profiles"));
        let known: Vec<&str> =
            written.into_iter().flat_map(|node| node.keys().map(|key| key.text.as_str())).chain([MODERN]).collect();
        self.refer(Noun::TlsProfile, name, known.into_iter());
        let profile = self.options.tls.as_ref().and_then(|tls| tls.profiles.find(name));
        let Some(profile) = profile else { return modern };
        let known = |what: &str, written: &[Spanned<String>], known: &[&str]| {
            for unknown in written.iter().filter(|one| !known.contains(&one.as_str())) {
                let hint =
                    nearest(&unknown.value, known.iter()).unwrap_or_else(|| format!("there are {}", known.join(", ")));
                self.report.hinted(unknown.at, format!("unknown {what} `{}`", unknown.value), Some(hint));
            }
        };
        known("key exchange group", &profile.groups, &KNOWN_GROUPS);
        known("cipher suite", &profile.ciphers, &CIPHERS);
        if profile.groups.is_empty() {
            self.report.problem(name.at, format!("TLS profile `{}` has no groups", name.value));
        }
        if profile.ciphers.is_empty() {
            self.report.problem(name.at, format!("TLS profile `{}` has no cipher suites", name.value));
        }
        TlsProfile {
            tls12: profile.min_version == TlsVersion::Tls12,
            groups: profile.groups.iter().map(|group| group.value.clone()).collect(),
            ciphers: profile.ciphers.iter().map(|cipher| cipher.value.clone()).collect(),
        }
    }

    /// `tls.session_tickets`
    fn session_tickets(&self) -> Option<Arc<SessionTickets>> {
        let options = self.options.tls.as_ref()?.session_tickets.as_ref()?;
        let rotate_s = self.within(&options.rotate, SHORTEST_ROTATION, LONGEST_ROTATION).seconds();
        Some(Arc::new(SessionTickets { keys: self.read_keys(&options.keys), rotate_s }))
    }

    /// `tls`, with the certificates tried out.
    pub(super) fn tls(&self) -> Option<Tls> {
        let options = self.options.tls.as_ref()?;
        let tls = Tls {
            certificates: self.files.folder.join(&options.certificates.value),
            default_certificate: Some(options.default_certificate.value.clone()).filter(|name| name != "none"),
            warn_before_expiry: options.warn_before_expiry.0,
        };
        let whole = self.names("listeners").len() == self.options.listeners.0.len();
        if whole && !self.options.listeners.iter().any(|(_, listener)| serves_tls(listener)) {
            self.report.problem(options.certificates.at, "no listener uses these certificates");
        }
        match std::fs::read_dir(&tls.certificates) {
            Err(error) => {
                let message = format!("`{}` {}", options.certificates.value, crate::config::files::reason(&error));
                let hint = "`moat certs dev` makes certificates for trials";
                self.report.hinted(options.certificates.at, message, Some(hint));
            }
            Ok(_) => {
                for Complaint { message, hint } in (self.world.certificates)(&tls).err().into_iter().flatten() {
                    self.report.hinted(options.certificates.at, message, Some(hint));
                }
            }
        }
        Some(tls)
    }
}

fn serves_tls(listener: &ListenerOptions) -> bool {
    listener.tls.is_some() || (listener.redirect.is_none() && listener.plaintext.is_none())
}
