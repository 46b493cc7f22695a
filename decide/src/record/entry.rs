//! What an audit entry says: borrowed values in, canonical members out.
use super::event::Event;
use super::{json, time};
use crate::deliberation::Verdict as Mark;
use crate::facts::{Carrier, Person, Protocol, RequestId};
use crate::guards::{Guard, ORDER};
use crate::refusal::Code;
use core::net::IpAddr;
use std::sync::Arc;

/// One entry before it is chained.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Wall clock, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Name of the replica that writes the log.
    pub node: &'a str,
    /// What it tells.
    pub kind: Kind<'a>,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// How a request ended; exactly one per request.
    Request(&'a Exchange<'a>),
    /// What is about to be forwarded, written before a state-changing effect.
    Intent(&'a Exchange<'a>),
    /// Something the gateway itself did or noticed.
    System(Event<'a>),
    /// A signed note about the chain so far.
    Head(&'a str),
}

/// One request and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Our id of the request.
    pub id: RequestId,
    /// Digest of the snapshot that decided, hex; the first 16 digits are kept.
    pub snapshot: &'a str,
    /// What was known.
    pub facts: Circumstances<'a>,
    /// What each guard said, in the order they ran: `pass`, `skip`, `shadow:CODE` or `refuse:CODE`.
    pub trail: &'a [(Guard, Mark)],
    /// What was decided.
    pub verdict: Verdict,
    /// Why, for a refusal; never shown to the client.
    pub cause: Option<&'a str>,
    /// How it ended; `None` for intents.
    pub outcome: Option<Outcome<'a>>,
    /// The route's name for what was done, e.g. `invoice.void`.
    pub action: Option<&'a str>,
}

/// What was known about a request, as far as it was found out before its end.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// HTTP version of the client's side.
    pub protocol: Option<Protocol>,
    /// What the TLS handshake settled.
    pub tls: Option<Handshake<'a>>,
    /// The client's address, after trusted hops.
    pub client: Person<IpAddr>,
    /// What kind of peer the address is, e.g. `trusted`.
    pub class: Option<&'a str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// What named the tenant: `host`, `path`, `header` or `session`.
    pub tenant_source: Option<&'a str>,
    /// The method, as sent.
    pub method: Option<&'a str>,
    /// The canonical host.
    pub host: Option<&'a str>,
    /// The canonical path; never the query.
    pub path: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The route's path pattern.
    pub template: Option<&'a str>,
    /// Name of the issuer that vouches for the caller.
    pub issuer: Option<&'a str>,
    /// The caller, in the issuer's words.
    pub subject: Option<Person<&'a str>>,
    /// The caller's roles.
    pub roles: &'a [Arc<str>],
    /// The permissions that the credential is good for, where it has such bounds.
    pub scopes: Option<&'a [Arc<str>]>,
    /// Keyed hash of the session id.
    pub session: Option<&'a str>,
    /// How the credential came.
    pub carrier: Option<Carrier>,
    /// Seconds since the caller last authenticated.
    pub auth_age_s: Option<u64>,
}

impl<'a> Circumstances<'a> {
    /// What is known of every request, however broken: where it came in and from whom.
    pub fn new(listener: &'a str, client: Person<IpAddr>) -> Circumstances<'a> {
        Circumstances {
            listener,
            protocol: None,
            tls: None,
            client,
            class: None,
            tenant: None,
            tenant_source: None,
            method: None,
            host: None,
            path: None,
            route: None,
            template: None,
            issuer: None,
            subject: None,
            roles: &[],
            scopes: None,
            session: None,
            carrier: None,
            auth_age_s: None,
        }
    }
}

/// What a TLS handshake settled.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// `1.3` or `1.2`.
    pub version: &'a str,
    /// Key exchange group.
    pub group: &'a str,
    /// Whether the session was resumed.
    pub resumed: bool,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// `permit`
    Permit,
    /// The code of the refusal.
    Refuse(Code),
    /// `lost-context`: the request vanished without an account of itself, e.g. because its task was cancelled.
    LostContext,
}

impl Verdict {
    /// The word in the entry.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Permit => "permit",
            Verdict::Refuse(code) => code.id(),
            Verdict::LostContext => "lost-context",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome<'a> {
    /// Status sent to the client; 0 where none was.
    pub status: u16,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the request head to the last byte, microseconds.
    pub duration_us: u64,
    /// The upstream it was forwarded to.
    pub upstream: Option<&'a str>,
    /// The upstream's status.
    pub upstream_status: Option<u16>,
    /// How long a limit had it wait before it was forwarded, milliseconds.
    pub delayed_ms: Option<u64>,
}

impl Entry<'_> {
    /// Appends the members without braces, in fixed order and without spaces; members without value are left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"time\":\"");
        time::write(out, self.time_ms);
        out.push(b'"');
        match self.kind {
            Kind::Request(exchange) => exchange.write(out, ",\"kind\":\"request\"", self.node),
            Kind::Intent(exchange) => exchange.write(out, ",\"kind\":\"intent\"", self.node),
            Kind::System(event) => {
                out.extend_from_slice(b",\"kind\":\"system\"");
                json::text(out, ",\"node\":\"", self.node);
                event.write(out);
            }
            Kind::Head(note) => {
                out.extend_from_slice(b",\"kind\":\"head\"");
                json::text(out, ",\"node\":\"", self.node);
                json::whole_text(out, ",\"note\":\"", note);
            }
        }
    }
}

impl Exchange<'_> {
    fn write(&self, out: &mut Vec<u8>, kind: &str, node: &str) {
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b",\"id\":\"");
        out.extend_from_slice(&self.id.text());
        out.push(b'"');
        json::text(out, ",\"node\":\"", node);
        let digest = self.snapshot.get(..16).unwrap_or(self.snapshot);
        json::text(out, ",\"snapshot\":\"", digest);
        self.facts.write(out);
        out.extend_from_slice(b",\"trail\":[");
        for (i, (guard, mark)) in self.trail.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            match (mark, USUAL.get(i).filter(|_| ORDER.get(i) == Some(guard))) {
                (Mark::Pass, Some([pass, _])) => pass.write(out),
                (Mark::Skip, Some([_, skip])) => skip.write(out),
                _ => said(out, *guard, *mark),
            }
        }
        out.push(b']');
        json::word(out, ",\"verdict\":\"", self.verdict.as_str());
        json::optional(out, ",\"cause\":\"", self.cause);
        if let Some(outcome) = &self.outcome {
            json::number(out, ",\"outcome\":{\"status\":", outcome.status.into());
            json::number(out, ",\"bytes_in\":", outcome.bytes_in);
            json::number(out, ",\"bytes_out\":", outcome.bytes_out);
            json::number(out, ",\"duration_us\":", outcome.duration_us);
            json::optional(out, ",\"upstream\":\"", outcome.upstream);
            if let Some(status) = outcome.upstream_status {
                json::number(out, ",\"upstream_status\":", status.into());
            }
            if let Some(delayed) = outcome.delayed_ms {
                json::number(out, ",\"delayed_ms\":", delayed);
            }
            out.push(b'}');
        }
        json::optional(out, ",\"action\":\"", self.action);
    }
}

/// What one guard said.
fn said(out: &mut Vec<u8>, guard: Guard, mark: Mark) {
    json::word(out, "[\"", guard.name());
    let (word, code) = match mark {
        Mark::Pass => (",\"pass", None),
        Mark::Skip => (",\"skip", None),
        Mark::Shadow(code) => (",\"shadow:", Some(code)),
        Mark::Refuse(code) => (",\"refuse:", Some(code)),
    };
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(code.map_or("", |code| code.id()).as_bytes());
    out.extend_from_slice(b"\"]");
}

/// What guards mostly say, `pass` and `skip`, by their place in [`ORDER`]: written by the compiler.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse an index out of range")]
static USUAL: [[Said; 2]; ORDER.len()] = {
    let (mut table, mut at) = ([[Said::of("", ""); 2]; ORDER.len()], 0);
    while at < ORDER.len() {
        let name = ORDER[at].name();
        table[at] = [Said::of(name, "pass"), Said::of(name, "skip")];
        at += 1;
    }
    table
};

/// `["guard","word"]`, in a place of fixed size: copied without asking how long it is.
#[derive(Clone, Copy)]
struct Said {
    text: [u8; 32],
    length: usize,
}

impl Said {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse an index out of range")]
    const fn of(guard: &str, word: &str) -> Said {
        let pieces = [b"[\"", guard.as_bytes(), b"\",\"", word.as_bytes(), b"\"]"];
        let (mut said, mut piece) = (Said { text: [0; 32], length: 0 }, 0);
        while piece < pieces.len() {
            let mut at = 0;
            while at < pieces[piece].len() {
                said.text[said.length] = pieces[piece][at];
                (said.length, at) = (said.length + 1, at + 1);
            }
            piece += 1;
        }
        said
    }

    fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.text);
        out.truncate(end);
    }
}

impl Circumstances<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        json::text(out, ",\"facts\":{\"listener\":\"", self.listener);
        match self.protocol {
            Some(Protocol::Http1) => out.extend_from_slice(b",\"protocol\":\"h1\""),
            Some(Protocol::Http2) => out.extend_from_slice(b",\"protocol\":\"h2\""),
            None => {}
        }
        if let Some(tls) = &self.tls {
            json::word(out, ",\"tls\":{\"version\":\"", tls.version);
            json::word(out, ",\"group\":\"", tls.group);
            json::boolean(out, ",\"resumed\":", tls.resumed);
            out.push(b'}');
        }
        json::address(out, ",\"client\":\"", self.client.0);
        json::optional(out, ",\"class\":\"", self.class);
        json::optional(out, ",\"tenant\":\"", self.tenant);
        json::optional(out, ",\"tenant_source\":\"", self.tenant_source);
        json::optional(out, ",\"method\":\"", self.method);
        json::optional(out, ",\"host\":\"", self.host);
        json::optional(out, ",\"path\":\"", self.path);
        json::optional(out, ",\"route\":\"", self.route);
        json::optional(out, ",\"template\":\"", self.template);
        json::optional(out, ",\"issuer\":\"", self.issuer);
        json::optional(out, ",\"subject\":\"", self.subject.as_ref().map(|subject| subject.0));
        if !self.roles.is_empty() {
            json::list(out, ",\"roles\":", self.roles);
        }
        if let Some(scopes) = self.scopes {
            json::list(out, ",\"scopes\":", scopes);
        }
        json::optional(out, ",\"session\":\"", self.session);
        match self.carrier {
            Some(Carrier::Bearer) => out.extend_from_slice(b",\"carrier\":\"bearer\""),
            Some(Carrier::Cookie) => out.extend_from_slice(b",\"carrier\":\"cookie\""),
            Some(Carrier::Session) => out.extend_from_slice(b",\"carrier\":\"session\""),
            Some(Carrier::ApiKey) => out.extend_from_slice(b",\"carrier\":\"api_key\""),
            Some(Carrier::Dpop) => out.extend_from_slice(b",\"carrier\":\"dpop\""),
            Some(Carrier::ExtAuth) => out.extend_from_slice(b",\"carrier\":\"ext_auth\""),
            Some(Carrier::Certificate) => out.extend_from_slice(b",\"carrier\":\"certificate\""),
            None => {}
        }
        if let Some(age) = self.auth_age_s {
            json::number(out, ",\"auth_age_s\":", age);
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn written(kind: Kind<'_>) -> String {
        let mut out = Vec::new();
        Entry { time_ms: 1_000, node: "gw-1", kind }.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_full_request_entry() {
        let roles = ["buyer".into(), "auditor".into()];
        let client = Person(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)));
        let exchange = Exchange {
            id: RequestId(0x0197_8000_0000_7000_8000_0000_0000_0001),
            snapshot: "0123456789abcdef0123",
            facts: Circumstances {
                protocol: Some(Protocol::Http2),
                tls: Some(Handshake { version: "1.3", group: "X25519MLKEM768", resumed: true }),
                class: Some("direct"),
                tenant: Some("acme"),
                tenant_source: Some("host"),
                method: Some("GET"),
                host: Some("acme.example.com"),
                path: Some("/a\"\n"),
                route: Some("orders"),
                template: Some("/{id}"),
                issuer: Some("main"),
                subject: Some(Person("u-1")),
                roles: &roles,
                session: Some("ab"),
                carrier: Some(Carrier::Cookie),
                auth_age_s: Some(12),
                ..Circumstances::new("public", client)
            },
            trail: &[
                (Guard::Network, Mark::Pass),
                (Guard::Csrf, Mark::Skip),
                (Guard::CallerQuota, Mark::Shadow(Code::QuotaExceeded)),
                (Guard::Access, Mark::Refuse(Code::AccessDenied)),
            ],
            verdict: Verdict::Refuse(Code::AccessDenied),
            cause: Some("no role grants `x`"),
            outcome: Some(Outcome {
                status: 403,
                bytes_in: 1,
                bytes_out: 2,
                duration_us: 3,
                upstream: Some("orders"),
                upstream_status: Some(200),
                delayed_ms: Some(1200),
            }),
            action: Some("order.read"),
        };
        let expected = concat!(
            r#""time":"1970-01-01T00:00:01.000Z","kind":"request","id":"01978000-0000-7000-8000-000000000001","#,
            r#""node":"gw-1","snapshot":"0123456789abcdef","facts":{"listener":"public","protocol":"h2","#,
            r#""tls":{"version":"1.3","group":"X25519MLKEM768","resumed":true},"client":"203.0.113.7","#,
            r#""class":"direct","tenant":"acme","tenant_source":"host","method":"GET","host":"acme.example.com","#,
            r#""path":"/a\"\n","route":"orders","template":"/{id}","issuer":"main","subject":"u-1","#,
            r#""roles":["buyer","auditor"],"session":"ab","carrier":"cookie","auth_age_s":12},"#,
            r#""trail":[["network","pass"],["csrf","skip"],["quota.caller","shadow:quota.exceeded"],"#,
            r#"["access","refuse:access.denied"]],"verdict":"access.denied","cause":"no role grants `x`","#,
            r#""outcome":{"status":403,"bytes_in":1,"bytes_out":2,"duration_us":3,"upstream":"orders","#,
            r#""upstream_status":200,"delayed_ms":1200},"action":"order.read""#,
        );
        assert_eq!(written(Kind::Request(&exchange)), expected);
        assert_eq!(written(Kind::Intent(&exchange)), expected.replace("\"request\"", "\"intent\""));
        // The bounds of a key stand beside its roles: without them, the same caller would seem to be permitted more.
        for (scopes, said) in [(&roles[..1], r#""scopes":["buyer"],"session""#), (&[], r#""scopes":[],"session""#)] {
            let facts = Circumstances { scopes: Some(scopes), ..exchange.facts };
            let narrowed = written(Kind::Request(&Exchange { facts, ..exchange }));
            assert_eq!(narrowed, expected.replace("\"session\"", said));
        }
    }

    #[test]
    fn what_guards_mostly_say_is_what_is_written_of_others() {
        for (place, guard) in ORDER.into_iter().enumerate() {
            for (mark, usual) in [Mark::Pass, Mark::Skip].into_iter().zip(USUAL[place]) {
                let (mut written, mut quick) = (b"x".to_vec(), b"x".to_vec());
                said(&mut written, guard, mark);
                usual.write(&mut quick);
                assert_eq!(String::from_utf8(quick), String::from_utf8(written));
            }
        }
    }

    #[test]
    fn the_least_request_entry() {
        let exchange = Exchange {
            id: RequestId(1),
            snapshot: "",
            facts: Circumstances::new("public", Person(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            trail: &[],
            verdict: Verdict::LostContext,
            cause: None,
            outcome: None,
            action: None,
        };
        let expected = concat!(
            r#""time":"1970-01-01T00:00:01.000Z","kind":"request","id":"00000000-0000-0000-0000-000000000001","#,
            r#""node":"gw-1","snapshot":"","facts":{"listener":"public","client":"127.0.0.1"},"trail":[],"#,
            r#""verdict":"lost-context""#,
        );
        assert_eq!(written(Kind::Request(&exchange)), expected);
    }
}
