//! Options of listeners: where clients connect, and what a connection may cost.
use super::AskedCertificates;
use crate::config::read::Spanned;
use crate::config::units::{Period, Size, seconds};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Where clients connect: with TLS, or one of `redirect` and `plaintext`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerOptions {
    /// Address and port, e.g. `0.0.0.0:443` or `[::]:443`.
    #[schemars(with = "String")]
    pub address: Spanned<SocketAddr>,
    /// Name of a TLS profile: `modern`, which is built in, or one of `tls.profiles`. Default: `modern`, where neither
    /// `redirect` nor `plaintext` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Spanned<String>>,
    /// Answers GET and HEAD with a permanent redirect (308) to https and refuses the rest with `request.plaintext`:
    /// `https`, which is the port of the TLS listener (443 where there is none, or port 0), or `{https_port: N}` where
    /// clients see another one, as behind a port mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectOption>,
    /// Serves requests without TLS, for a written reason. Danger: everybody on the way can read and change them, sessions
    /// included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
    /// HTTP versions, best first: `h2`, `http/1.1`.
    #[serde(default = "protocols")]
    pub protocols: Vec<ProtocolOption>,
    /// Asks clients for certificates in the handshake. Default: none are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<Spanned<AskedCertificates>>,
    /// How the client's address is found behind other proxies.
    #[serde(default)]
    pub client_ip: ClientIpOptions,
    /// Limits of connections and request heads.
    #[serde(default)]
    pub limits: ListenerLimits,
}

fn protocols() -> Vec<ProtocolOption> {
    vec![ProtocolOption::H2, ProtocolOption::Http1]
}

/// `protocols`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProtocolOption {
    /// HTTP/2
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1
    #[serde(rename = "http/1.1")]
    Http1,
}

/// `redirect`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedirectOption {
    /// To the port of the TLS listener.
    Https,
    /// To another port than the TLS listener's.
    HttpsPort(u16),
}

/// How the client's address is found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientIpOptions {
    /// Networks of the proxies in front, whose forwarding header is believed. Danger: whoever is in them can choose
    /// the address that is seen, limited and recorded.
    #[schemars(with = "Vec<String>")]
    pub trusted: Vec<IpNet>,
    /// The header they write: `x-forwarded-for` or `forwarded`. The rightmost address that is not trusted is the
    /// client's.
    pub header: ClientHeaderOption,
    /// `none`: connections that begin with a PROXY header are refused. `required`: connections come from `trusted` balancers
    /// only, and begin with a PROXY header, version 1 or 2, that says for whom; all others are closed.
    pub proxy_protocol: Spanned<ProxyProtocol>,
    /// Makes this a listener that only a content delivery network may reach. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Spanned<EdgeOptions>>,
}

/// A content delivery network in front: everybody else is refused with `network.denied`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeOptions {
    /// Networks that it connects from; at least one here or in `ranges_from`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub ranges: Vec<Spanned<IpNet>>,
    /// File with more of them, one a line; what follows `#` is a comment. A change takes effect without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges_from: Option<Spanned<String>>,
    /// The certificate that it must show, in the handshake. Default: none. Danger of none: others who rent addresses within the
    /// ranges reach this listener too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Spanned<EdgeCertificateOptions>>,
    /// The header in which it names the client, e.g. `cf-connecting-ip`; whatever others write there is removed on every
    /// listener. Default: none, then `client_ip.header` is read and the ranges count as trusted hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Spanned<String>>,
}

/// The certificate of a content delivery network.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeCertificateOptions {
    /// PEM file with the authorities that vouch for it. A change takes effect without a restart.
    pub ca: Spanned<String>,
    /// Names of which its certificate must hold one (subjectAltName). Default: any certificate of these authorities will do.
    /// Danger: where the authority is that of all customers of the network, each of them can reach this listener through it.
    #[serde(default)]
    pub san: Vec<Spanned<String>>,
}

impl Default for ClientIpOptions {
    fn default() -> Self {
        ClientIpOptions {
            trusted: Vec::new(),
            header: ClientHeaderOption::XForwardedFor,
            proxy_protocol: ProxyProtocol::None.into(),
            edge: None,
        }
    }
}

/// `client_ip.header`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeaderOption {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// `client_ip.proxy_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// Not spoken.
    None,
    /// Required of every connection, before TLS.
    Required,
}

/// Limits of connections and request heads.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Greatest size and number of request headers.
    pub request_headers: HeaderLimits,
    /// Greatest length of the request line, at most 64KiB.
    pub request_line: Spanned<Size>,
    /// Time for a whole request head; slower ones are answered with 408 and closed.
    pub header_timeout: Period,
    /// Time between two requests on one connection.
    pub idle_timeout: Period,
    /// Time for a TLS handshake.
    pub handshake_timeout: Period,
    /// Longest pause of a client inside a body that it sends, and longest time that it may take for a piece of an answer
    /// (32 KiB); slower ones are cut. After this time, a body must also have made 128 bytes a second.
    pub stall_timeout: Spanned<Period>,
    /// TLS handshakes that one address (/64 for IPv6) may begin per second, and as many at once; further connections are
    /// closed before they are read. Trusted proxies are exempt.
    pub handshakes_per_second: Spanned<u32>,
    /// Open connections of one address (/64 for IPv6); trusted proxies are exempt. Four times as many HTTP/2 requests may be under way.
    pub connections_per_ip: Spanned<usize>,
    /// Limits of HTTP/2 connections.
    pub h2: H2Limits,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            request_headers: HeaderLimits::default(),
            request_line: Size(8 << 10).into(),
            header_timeout: seconds(10),
            idle_timeout: seconds(75),
            handshake_timeout: seconds(5),
            stall_timeout: seconds(60).into(),
            handshakes_per_second: 500.into(),
            connections_per_ip: 200.into(),
            h2: H2Limits::default(),
        }
    }
}

/// Greatest size and number of request headers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderLimits {
    /// Size of all headers together, at most 1MiB.
    pub bytes: Spanned<Size>,
    /// Number of headers, at most 256.
    pub count: Spanned<usize>,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        HeaderLimits { bytes: Size(64 << 10).into(), count: 100.into() }
    }
}

/// Limits of HTTP/2 connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct H2Limits {
    /// Requests at once on one connection.
    pub concurrent_streams: Spanned<u32>,
    /// Requests that a client may cancel per second before its connection is closed.
    pub resets_per_second: u32,
    /// PING, SETTINGS, PRIORITY frames, frames without content and frames of unknown type, so many of each, that a client may send
    /// per second before its connection is closed. Answers and requests give occasion for more.
    pub control_frames_per_second: Spanned<u32>,
    /// WINDOW_UPDATE frames that a client may send per second, beyond one for each 16 bytes of answers, before its connection is
    /// closed.
    pub window_updates_per_second: Spanned<u32>,
    /// Longest wait for a client to take a piece of an answer. In half of it, a client whose windows are (nearly) closed while
    /// answers wait must take 1KiB, or its connection is closed. Danger: until then it holds the memory of its answers.
    pub stall_timeout: Spanned<Period>,
}

impl Default for H2Limits {
    fn default() -> Self {
        H2Limits {
            concurrent_streams: 100.into(),
            resets_per_second: 50,
            control_frames_per_second: 100.into(),
            window_updates_per_second: 1000.into(),
            stall_timeout: seconds(60).into(),
        }
    }
}
