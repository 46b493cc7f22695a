//! Edits of a request on its way to the application: what a client may not say about itself goes, what we verified comes.
//!
//! | header | what reaches the application |
//! | --- | --- |
//! | tenant, subject, roles, request id, assertion, nonce | ours, or none; names as configured |
//! | `forwarded`, `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host` | ours |
//! | `client-cert`, `client-cert-chain` | ours where the route says so (RFC 9440), or none |
//! | `traceparent`, `tracestate`, `baggage` | a new trace, or the inbound one where it is trusted and valid |
//! | every other `x-forwarded…`, and what proxies call the client's address, host, path or certificate | none |
//! | `x-http-method-override` and its kin | none: the decision was about the method of the request line |
//! | `x-middleware-subrequest` | none: frameworks take it as leave to skip their own checks |
//! | `proxy` | none: CGI programs would take it for their outgoing proxy (CVE-2016-5385) |
//! | `remote-user`, `x-remote-group` and their kin | none: programs behind other proxies take them as signed in |
//! | `cookie` | one line, without the cookies that are our credentials, or our business (`__Host-moat-…`) |
//! | any other | as it came |
//!
//! "Goes" means the name in any case, and every twin of it: CGI and its heirs turn `-`, `_` and other marks into `_`.
mod credentials;

use super::known;
use super::problems::{Problems, ProfileProblem};
use super::trace::TraceParent;
use super::{Fields, Nonce, Said, Values};
use crate::digits;
use crate::facts::{Carrier, Identity, RequestId};
use crate::rules::Accept;
use core::net::IpAddr;
use http::header::{FORWARDED, HOST, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
static CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `identity:` the names under which the application learns who calls. The tenant's is `tenancy.forward_as`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityOptions {
    /// Carries the subject, percent-encoded where it is not visible ASCII. Default: `x-user-id`.
    pub subject: String,
    /// Carries the roles, comma-separated, each percent-encoded. Default: `x-user-roles`.
    pub roles: String,
    /// Carries our id of the request. Default: `x-request-id`.
    pub request_id: String,
    /// Carries the signed assertion. Default: `moat-assertion`.
    pub assertion: String,
    /// Carries the nonce of the response's content security policy. Default: `x-csp-nonce`.
    pub nonce: String,
    /// Whether the credential itself, bearer token or session cookie, is forwarded too. Default: false, the assertion
    /// says who calls. Danger: an application that logs its requests logs credentials.
    pub forward_credential: bool,
}

impl Default for IdentityOptions {
    fn default() -> IdentityOptions {
        IdentityOptions {
            subject: "x-user-id".to_owned(),
            roles: "x-user-roles".to_owned(),
            request_id: "x-request-id".to_owned(),
            assertion: "moat-assertion".to_owned(),
            nonce: "x-csp-nonce".to_owned(),
            forward_credential: false,
        }
    }
}

/// The compiled names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// In the order tenant, subject, roles, request id, assertion, nonce.
    names: [HeaderName; 6],
    forward_credential: bool,
    /// By which delivery networks name their clients.
    edges: Vec<HeaderName>,
}

impl Default for IdentityHeaders {
    fn default() -> IdentityHeaders {
        let names = ["x-tenant-id", "x-user-id", "x-user-roles", "x-request-id", "moat-assertion", "x-csp-nonce"];
        IdentityHeaders { names: names.map(HeaderName::from_static), forward_credential: false, edges: Vec::new() }
    }
}

impl IdentityHeaders {
    /// Checks the names: each a header name, no two alike, none that means something else already.
    pub fn compile(tenant: &str, options: &IdentityOptions) -> Result<IdentityHeaders, Vec<ProfileProblem>> {
        let mut problems = Problems::default();
        let written = [
            ("tenancy.forward_as", tenant),
            ("identity.subject", &options.subject),
            ("identity.roles", &options.roles),
            ("identity.request_id", &options.request_id),
            ("identity.assertion", &options.assertion),
            ("identity.nonce", &options.nonce),
        ];
        let mut names = IdentityHeaders::default().names;
        for (i, ((at, text), slot)) in written.iter().zip(&mut names).enumerate() {
            match known::name(&text.to_ascii_lowercase()) {
                Ok(name) if is_taken(name.as_str()) => {
                    let hint = "choose a name of your own, e.g. `x-user-id`";
                    problems.hinted(at, format!("`{text}` means something else"), hint);
                }
                Ok(name) => *slot = name,
                Err((message, hint)) => problems.hinted(at, message, hint),
            }
            if let Some((other, _)) = written.iter().take(i).find(|(_, earlier)| earlier.eq_ignore_ascii_case(text)) {
                problems.hinted(at, format!("`{text}` is also the name under `{other}`"), "give each its own name");
            }
        }
        if problems.0.is_empty() {
            Ok(IdentityHeaders { names, forward_credential: options.forward_credential, edges: Vec::new() })
        } else {
            Err(problems.0)
        }
    }

    /// The same, and the names of headers by which delivery networks name their clients: no listener lets one through.
    /// Refuses names that mean something else already, with the reason.
    pub fn with_edge(mut self, text: &str) -> Result<IdentityHeaders, String> {
        let name = known::name(&text.to_ascii_lowercase()).map_err(|(message, _)| message)?;
        let forwarding = name == FORWARDED || name == X_FORWARDED_FOR;
        let other = is_taken(name.as_str()) && !is_client_address(name.as_str());
        if forwarding || other || self.names.contains(&name) {
            return Err(format!("`{text}` means something else"));
        }
        if !self.edges.contains(&name) {
            self.edges.push(name);
        }
        Ok(self)
    }

    /// The names of headers by which delivery networks name their clients.
    pub fn edges(&self) -> &[HeaderName] {
        &self.edges
    }

    /// All configured names, lowercase.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// Whether an inbound header of this lowercase name, or a twin of it, must not reach the application.
    pub fn forbids(&self, name: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.bytes().all(plain) {
            return is_reserved(name) || self.names.iter().chain(&self.edges).any(|ours| ours.as_str() == name);
        }
        let folded: String = name.bytes().map(|b| if plain(b) { char::from(b) } else { '-' }).collect();
        self.forbids(&folded)
    }
}

/// Names that mean something to everybody, so that ours cannot be one of them.
fn is_taken(name: &str) -> bool {
    is_reserved(name)
        || known::check_remove(name).is_err()
        || matches!(
            name,
            "authorization"
                | "proxy-authorization"
                | "cookie"
                | "origin"
                | "referer"
                | "accept"
                | "accept-encoding"
                | "accept-language"
                | "user-agent"
                | "expect"
                | "range"
                | "if-match"
                | "if-none-match"
                | "if-range"
                | "if-modified-since"
                | "if-unmodified-since"
                | "cache-control"
                | "traceparent"
                | "tracestate"
                | "baggage"
                | "via"
                | "server"
        )
        || name.starts_with("sec-")
}

/// Names by which delivery networks and proxies name one client, so that an edge may use them.
fn is_client_address(name: &str) -> bool {
    matches!(
        name,
        "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "true-client-ip"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "client-ip"
            | "x-real-ip"
            | "x-client-ip"
            | "x-true-client-ip"
            | "x-envoy-external-address"
    )
}

/// Names by which proxies and frameworks are told what a client must not tell them.
fn is_reserved(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("x-") {
        return rest.starts_with("forward")
            || rest.starts_with("original-")
            || rest.starts_with("client-cert")
            || rest.starts_with("ssl-")
            || rest.starts_with("auth-request-")
            || rest.starts_with("remote-")
            || rest.starts_with("webauth-")
            || rest.starts_with("authentik-")
            || rest.starts_with("pomerium-")
            || rest.starts_with("amzn-oidc-")
            || rest.starts_with("goog-authenticated-user-")
            || rest.starts_with("goog-iap-")
            || rest.starts_with("ms-client-principal")
            || matches!(
                rest,
                "real-ip"
                    | "client-ip"
                    | "cluster-client-ip"
                    | "true-client-ip"
                    | "originating-ip"
                    | "envoy-external-address"
                    | "envoy-original-path"
                    | "rewrite-url"
                    | "host"
                    | "http-method-override"
                    | "http-method"
                    | "method-override"
                    | "middleware-subrequest"
                    | "authenticated-user"
                    | "accel-internal"
            );
    }
    name.starts_with("ssl-client-")
        || name.starts_with("cf-connecting-ip")
        || name.starts_with("cf-access-")
        || name.starts_with("remote-")
        || matches!(
            name,
            "forwarded"
                | "forwarded-for"
                | "client-cert"
                | "client-cert-chain"
                | "client-ip"
                | "true-client-ip"
                | "fastly-client-ip"
                | "fly-client-ip"
                | "proxy-client-ip"
                | "wl-proxy-client-ip"
                | "proxy"
        )
}

/// Where a request came from, as verified.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's address, after trusted hops.
    pub client: IpAddr,
    /// Trusted hops between client and us, the nearest to us last; empty when the client connected directly.
    pub hops: &'a [IpAddr],
    /// Whether the client's side speaks TLS.
    pub https: bool,
    /// The authority that the client asked for, canonical, with its port where it has one.
    pub authority: &'a [u8],
}

/// The credentials that are ours, to be kept from the application whether or not they let this request in: the one that
/// did not is not even verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presented<'a> {
    /// Whether `Authorization: Bearer` is one, or `DPoP` with its proof.
    pub bearer: bool,
    /// The names of cookies that are.
    pub cookies: &'a [Arc<str>],
    /// What the route accepts: headers with API keys are among it.
    pub accept: &'a [Accept],
}

impl Presented<'_> {
    /// Whether a header, or another spelling of it, holds a key.
    fn holds_key(&self, name: &str) -> bool {
        let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
        self.accept.iter().any(|accept| {
            let Accept::ApiKey { header, .. } = accept else { return false };
            header.as_str().bytes().map(fold).eq(name.bytes().map(fold))
        })
    }
}

/// The client's certificates as an application is told them (RFC 9440).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificates<'a> {
    /// The client's own.
    pub leaf: &'a HeaderValue,
    /// Those that it showed with it, where they are told too and there are any.
    pub chain: Option<&'a HeaderValue>,
}

/// What the application is told.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Our id of the request.
    pub request_id: RequestId,
    /// The tenant, where the route has one.
    pub tenant: Option<&'a str>,
    /// The caller, where one was verified.
    pub identity: Option<&'a Identity>,
    /// The signed assertion about the caller.
    pub assertion: Option<&'a HeaderValue>,
    /// The nonce of the response's policy.
    pub nonce: Option<&'a Nonce>,
    /// Where the request came from.
    pub origin: Origin<'a>,
    /// The trace, and whether it continues the inbound one (then `tracestate` and `baggage` stay).
    pub trace: (TraceParent, bool),
    /// What may prove who the caller is.
    pub presented: Presented<'a>,
    /// The certificates of the connection, where the route tells them and they are still good.
    pub certificates: Option<Certificates<'a>>,
}

/// Edits a request. What is not verified is not said: without identity no subject header leaves, whatever came. Where
/// `fields` are a map, what is said is written into `values`.
pub fn edit(fields: &mut impl Fields, headers: &IdentityHeaders, out: &Outbound<'_>, values: &mut Values) {
    let keyed = !headers.forward_credential && out.presented.accept.iter().any(|a| a.carrier() == Carrier::ApiKey);
    let (trace, continued) = &out.trace;
    let (mut cookies, mut credentials) = (false, false);
    // Everything that is to be known of the names, in one pass. Of what is said below, nothing is left.
    let unwanted = fields.names().filter(|name| {
        let name = name.as_str();
        let goes = match name {
            "host" | "traceparent" => true,
            "tracestate" | "baggage" => !continued,
            other => headers.forbids(other),
        };
        cookies |= name == "cookie";
        credentials |= matches!(name, "authorization" | "dpop");
        goes || keyed && out.presented.holds_key(name)
    });
    let unwanted: Vec<HeaderName> = unwanted.cloned().collect();
    unwanted.iter().for_each(|name| fields.remove(name));
    if !headers.forward_credential && (cookies || credentials) {
        credentials::withhold(fields, &out.presented);
    }
    if cookies {
        credentials::settle_cookies(fields);
    }

    let [tenant, subject, roles, request_id, assertion, nonce] = &headers.names;
    let origin = &out.origin;
    let mut say = |name: &HeaderName, said: Said<'_>| fields.say(name, said, values);
    // The application reads the very host that was matched, not another spelling of it.
    say(&HOST, Said::Plain(origin.authority));
    if let Some(id) = out.tenant {
        say(tenant, Said::Text(id));
    }
    if let Some(identity) = out.identity {
        say(subject, Said::Text(&identity.subject.0));
        if !identity.roles.is_empty() {
            say(roles, Said::List(&identity.roles));
        }
        if let Some(value) = out.assertion {
            say(assertion, Said::Value(value));
        }
    }
    if let Some(certificates) = out.certificates {
        say(&CLIENT_CERT, Said::Value(certificates.leaf));
        if let Some(chain) = certificates.chain {
            say(&CLIENT_CERT_CHAIN, Said::Value(chain));
        }
    }
    say(request_id, Said::Plain(&out.request_id.text()));
    if let Some(value) = out.nonce {
        say(nonce, Said::Plain(value.as_str().as_bytes()));
    }
    // `Forwarded` (RFC 7239), and the three `X-Forwarded-…` that say the same.
    let (text, length) = text_of(origin.client);
    let client = text.get(..length).unwrap_or_default();
    say(&FORWARDED, Said::Nodes { client, origin });
    say(&X_FORWARDED_FOR, Said::Addresses { client, origin });
    say(&X_FORWARDED_PROTO, Said::Plain(if origin.https { b"https" } else { b"http" }));
    say(&X_FORWARDED_HOST, Said::Plain(origin.authority));
    say(&TRACEPARENT, Said::Plain(&trace.text()));
}

/// An address as text, and how long that is.
fn text_of(address: IpAddr) -> ([u8; 48], usize) {
    let mut text = [0; 48];
    let mut rest = text.as_mut_slice();
    digits::address(&mut rest, address.to_canonical());
    let left = rest.len();
    (text, text.len() - left)
}

#[cfg(test)]
mod tests;
