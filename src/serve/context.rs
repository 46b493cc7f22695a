//! One request's context: what is known, what was decided, and the account of it at the end, exactly one per request.
mod span;

use crate::serve::active::Active;
use crate::serve::client_certificates::Presented;
use crate::serve::gateway::Shared;
use crate::serve::gather::Stamp;
use crate::serve::grant::Cookie;
use crate::serve::listener::{ConnInfo, Glimpse};
use crate::serve::live::Stay;
use crate::serve::logs::AccessLine;
use crate::serve::metrics::{self, Origin, RequestOutcome};
use crate::serve::sessions::Hand;
use crate::serve::shares::{UnderWay, UnreadPlace};
use crate::serve::status::{self, Refused};
use crate::serve::traces::Place;
use crate::serve::upstream::Lease;
use crate::store::audit::{Slot, Sort};
use crate::store::quota::Dues;
use decide::cors;
use decide::deliberation::{Findings, Permit, Trail};
use decide::facts::{Facts, Person, TlsFacts};
use decide::headers::{Nonce, Profile, Values};
use decide::oauth::OAuthError;
use decide::record::{self, Circumstances, Entry, Exchange, Handshake, Kind, Outcome};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::rules::{Access, Found, Seat};
use http::{HeaderMap, HeaderValue};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything about one request, from its head to its entry.
pub struct Context {
    shared: Arc<Shared>,
    /// The snapshot in force, one and the same to the end of the request.
    pub active: Arc<Active>,
    /// When the head was complete.
    pub started: Instant,
    /// Clock and id.
    pub stamp: Stamp,
    /// The connection, as far as the account needs it.
    pub peer: Option<Peer>,
    /// Whether the gateway answers by itself and refuses nothing: its own resources, redirects to https.
    pub own: bool,
    /// What the gateway itself did for the request, for its entries.
    pub action: Option<&'static str>,
    /// The handle of a session that the answer is to hand out.
    pub hand: Option<Hand>,
    /// The session that the browser had when it asked for one that the application may grant.
    pub presented: Option<[u8; 32]>,
    /// `Set-Cookie` for a refusal: what the browser is to forget.
    pub forget: Option<HeaderValue>,
    /// The session that the application granted, for the answer.
    pub opened: Option<Cookie>,
    /// Method, host and path as far as they could be read, for requests that were refused before they were parsed.
    pub glimpse: Glimpse,
    /// Where refusals are in the words of OAuth: the one that this is about to be.
    pub oauth: Option<OAuthError>,
    /// The request, once read.
    pub request: Option<Request>,
    /// The facts, once gathered.
    pub facts: Option<Facts>,
    /// Route and tenant.
    pub found: Option<Found>,
    /// What the guards found.
    pub findings: Findings,
    /// What the guards said.
    pub trail: Trail,
    /// Proof that they all passed.
    pub permit: Option<Permit>,
    /// Why the request was refused, or how forwarding failed.
    pub refusal: Option<Refusal>,
    /// The place among what is running, from the permit on.
    pub stay: Option<Stay>,
    /// What it owes to its limits: places that it holds, costs that only its answer tells.
    pub dues: Dues,
    /// The wait for a turn that a limit asked for.
    pub delay: Option<Delay>,
    /// Room in the audit log, reserved before anything is decided.
    pub slot: Option<Slot>,
    /// The place among the requests of its address.
    pub under_way: Option<UnderWay>,
    /// Its place among the answers that wait for their clients, where pingora carries it.
    pub(crate) unread: Option<UnreadPlace>,
    /// What it and its answer say in headers of ours.
    pub values: Values,
    /// The nonce of the response's Content-Security-Policy.
    pub nonce: Option<Nonce>,
    /// `Set-Cookie` of a double-submit token, for the answer if it is a page.
    pub csrf_cookie: Option<HeaderValue>,
    /// The endpoint in use.
    pub lease: Option<Lease>,
    /// Endpoints that were tried without success.
    pub tried: Vec<SocketAddr>,
    /// Tries so far.
    pub tries: usize,
    /// Endpoints tried without success, with the time since the beginning, where the trace is recorded.
    in_vain: Vec<(Duration, SocketAddr)>,
    /// The place in a trace, once settled.
    place: Option<Place>,
    /// Body bytes from the client so far.
    pub bytes_in: u64,
    /// Body bytes to the client so far.
    pub bytes_out: u64,
    /// When the request went upstream.
    pub sent: Option<Instant>,
    /// Time spent waiting for the upstream, where it answered.
    pub waited: Option<Duration>,
    /// The upstream's status.
    pub upstream_status: Option<u16>,
    /// The status sent to the client.
    pub status: u16,
    /// Counts the request as active until the context is dropped.
    pub counted: Option<metrics::Active>,
    told: bool,
    /// From its head to its end, once it has ended.
    lasted: Duration,
    /// Whether the answer went out to its end: nothing can have ended it early then.
    pub whole: bool,
}

/// A wait, running or over.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    begun: Instant,
    lasted: Option<Duration>,
}

impl Delay {
    /// It begins now.
    pub fn begins() -> Delay {
        Delay { begun: Instant::now(), lasted: None }
    }

    /// It ends now, unless it has ended before.
    pub fn ends(&mut self) {
        self.lasted.get_or_insert_with(|| self.begun.elapsed());
    }

    /// How long it lasted, or has lasted so far.
    pub fn lasted(self) -> Duration {
        self.lasted.unwrap_or_else(|| self.begun.elapsed())
    }
}

/// What the account of a request says about its connection.
#[derive(Clone, Debug)]
pub struct Peer {
    listener: Arc<str>,
    /// The other end of the TCP connection.
    pub address: IpAddr,
    trusted: bool,
    /// How long the client may pause.
    pub patience: Duration,
    /// What the handshake settled.
    pub tls: Option<Arc<TlsFacts>>,
    /// What the client showed of itself.
    pub client_certificate: Option<Arc<Presented>>,
}

impl Peer {
    /// The listener's name.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Of a connection.
    pub fn of(conn: &ConnInfo) -> Peer {
        Peer {
            listener: conn.listener.clone(),
            address: conn.peer.ip().to_canonical(),
            trusted: conn.trusted_peer,
            patience: conn.settings.stall_timeout,
            tls: conn.tls.clone(),
            client_certificate: conn.client_certificate.clone(),
        }
    }
}

impl Context {
    /// A context for a request that begins now.
    pub fn new(shared: Arc<Shared>, active: Arc<Active>, stamp: Stamp) -> Context {
        Context {
            shared,
            active,
            started: Instant::now(),
            stamp,
            peer: None,
            own: false,
            action: None,
            hand: None,
            presented: None,
            forget: None,
            opened: None,
            glimpse: Glimpse::default(),
            oauth: None,
            request: None,
            facts: None,
            found: None,
            findings: Findings::default(),
            trail: Trail::default(),
            permit: None,
            refusal: None,
            stay: None,
            dues: Dues::default(),
            delay: None,
            slot: None,
            under_way: None,
            unread: None,
            values: Values::default(),
            nonce: None,
            csrf_cookie: None,
            lease: None,
            tried: Vec::new(),
            tries: 0,
            in_vain: Vec::new(),
            place: None,
            bytes_in: 0,
            bytes_out: 0,
            sent: None,
            waited: None,
            upstream_status: None,
            status: 0,
            counted: None,
            told: false,
            lasted: Duration::ZERO,
            whole: false,
        }
    }

    /// What the response is dressed with: the route's profile, or the strictest where there is no route.
    pub fn profile(&self) -> &Profile {
        let index = self.found.as_ref().map(|found| found.route.headers);
        index.and_then(|i| self.active.snapshot.profiles.get(i)).unwrap_or(&self.active.snapshot.default_profile)
    }

    /// The canonical bytes of an entry about this request. `outcome` is absent for intents.
    pub fn entry(&self, ended: bool) -> Vec<u8> {
        let snapshot = &self.active.snapshot;
        let client = match (&self.facts, &self.peer) {
            (Some(facts), _) => facts.client,
            (None, Some(peer)) => Person(peer.address),
            (None, None) => Person(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        let peer = self.peer.as_ref();
        let mut facts = Circumstances::new(peer.map_or("", |p| &p.listener), client);
        facts.protocol = self.facts.as_ref().map(|f| f.protocol);
        facts.tls = peer.and_then(|p| p.tls.as_deref()).map(|tls| Handshake {
            version: &tls.version,
            group: &tls.group,
            resumed: tls.resumed,
        });
        facts.class = peer.filter(|p| p.trusted).map(|_| "trusted");
        match &self.request {
            Some(request) => {
                facts.method = Some(request.method.as_str());
                facts.host = Some(&request.host);
                facts.path = Some(&request.path);
            }
            None => {
                facts.method = self.glimpse.method.as_deref();
                facts.host = self.glimpse.host.as_deref();
                facts.path = self.glimpse.path.as_deref();
            }
        }
        if let Some(found) = &self.found {
            facts.route = Some(&found.route.name);
            facts.template = Some(&found.template);
        }
        if let Some(seat) = self.seat() {
            facts.tenant = Some(&seat.id);
            facts.tenant_source = Some(seat.source);
        }
        if let Some(identity) = &self.findings.identity {
            facts.issuer = Some(&identity.issuer);
            facts.subject = Some(Person(&identity.subject.0));
            facts.roles = &identity.roles;
            facts.scopes = identity.scopes.as_deref();
            facts.session = identity.session.as_deref();
            facts.auth_age_s = identity.auth_time.map(|t| (self.stamp.at_ms / 1000).saturating_sub(t));
        }
        facts.carrier = self.findings.carrier;
        let exchange = Exchange {
            id: self.stamp.id,
            snapshot: &snapshot.digest,
            facts,
            trail: &self.trail,
            verdict: match (&self.refusal, &self.permit) {
                (Some(refusal), _) => record::Verdict::Refuse(refusal.code),
                (None, Some(_)) => record::Verdict::Permit,
                (None, None) if self.own => record::Verdict::Permit,
                (None, None) => record::Verdict::LostContext,
            },
            cause: self.refusal.as_ref().map(|r| &*r.cause),
            outcome: ended.then(|| self.outcome()),
            action: self.action.or(self.found.as_ref().and_then(|f| f.route.audit.action.as_deref())),
        };
        let kind = if ended { Kind::Request(&exchange) } else { Kind::Intent(&exchange) };
        let mut bytes = Vec::with_capacity(1024);
        Entry { time_ms: self.stamp.at_ms, node: &snapshot.server.instance, kind }.write(&mut bytes);
        bytes
    }

    /// Why the exchange was ended while it ran, where it was.
    pub fn ended(&self) -> Option<Refusal> {
        self.stay.as_ref().and_then(Stay::ended).map(|refusal| refusal.shown_by(self.findings.carrier))
    }

    fn outcome(&self) -> Outcome<'_> {
        Outcome {
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_us: micros(self.lasted),
            upstream: self.upstream_name(),
            upstream_status: self.upstream_status,
            delayed_ms: self.delay.map(|delay| u64::try_from(delay.lasted().as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// What the status page says about a refusal.
    fn refused(&self, code: Code, tenant: Option<&str>) -> Refused {
        let (request, glimpse) = (self.request.as_ref(), &self.glimpse);
        let path = match &self.found {
            Some(found) => Some(&*found.template),
            None => request.map(|r| &*r.path).or(glimpse.path.as_deref()),
        };
        Refused {
            at_ms: self.stamp.at_ms,
            id: self.stamp.id,
            status: self.status,
            code,
            method: request.map(|r| r.method.as_str()).or(glimpse.method.as_deref()).map(status::short),
            host: request.map(|r| &*r.host).or(glimpse.host.as_deref()).map(status::short),
            path: path.map(status::short),
            route: self.found.as_ref().map(|found| found.route.name.clone()),
            tenant: tenant.map(Box::from),
            client: self.facts.as_ref().map(|f| f.client.0).or(self.peer.as_ref().map(|p| p.address)),
        }
    }

    /// What the request has in common with others that it may share an entry with. Only what was not forwarded, and where
    /// nobody is known whose deed it was: of the rest, each is a fact of its own. That the gateway itself failed is no
    /// flood of anybody's.
    fn sort(&self) -> Option<Sort> {
        let verdict = match &self.refusal {
            // A theft is a fact of its own too, although nobody was let in.
            Some(refusal) if !matches!(refusal.code, Code::GatewayUnavailable | Code::SessionReused) => {
                record::Verdict::Refuse(refusal.code)
            }
            None if self.own => record::Verdict::Permit,
            Some(_) | None => return None,
        };
        if self.permit.is_some() || self.findings.identity.is_some() {
            return None;
        }
        let peer = self.peer.as_ref()?;
        let client = self.facts.as_ref().map_or(peer.address, |facts| facts.client.0);
        Some(Sort::new(peer.listener.clone(), client, verdict))
    }

    /// Writes into an answer what the route shares with other origins, and what caches must tell apart. How many headers
    /// of the application's were removed for it.
    pub fn share(&self, fields: &mut HeaderMap) -> usize {
        match (&self.found, &self.facts) {
            (Some(found), Some(facts)) => cors::share(fields, &found.route, self.seat(), &facts.site),
            (_, _) => 0,
        }
    }

    /// The tenant, as the guards found it, or as the request named it.
    pub fn seat(&self) -> Option<&Seat> {
        self.findings.seat.as_ref().or(self.found.as_ref().and_then(|found| found.seat.as_ref()))
    }

    /// The upstream that the request went to, if it went to any.
    fn upstream_name(&self) -> Option<&str> {
        self.permit.as_ref().filter(|_| self.sent.is_some()).map(|permit| &*permit.destination().name)
    }

    /// Tells audit log, metrics, access log and traces how the request ended. Called at its end, and again when the context is
    /// dropped: only the first call counts.
    pub fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.lasted = self.started.elapsed();
        let endpoint = self.lease.take().map(|lease| lease.address());
        if self.refusal.is_none() && !self.whole {
            self.refusal = self.ended();
        }
        self.stay = None;
        self.dues.ended(self.bytes_out);
        // One that was cut off while it waited ends now.
        self.delay.iter_mut().for_each(Delay::ends);
        let delayed = self.delay.map(Delay::lasted);
        if let Some(delayed) = delayed {
            self.shared.metrics.quota_delayed(delayed);
        }
        let own_entry = match (self.slot.take(), self.sort()) {
            (Some(slot), Some(sort)) => slot.write_or_fold(sort, self.stamp.at_ms, || self.entry(true)),
            (Some(slot), None) => {
                slot.write(self.entry(true));
                true
            }
            (None, _) => true,
        };
        let code = self.refusal.as_ref().map(|r| r.code);
        let tenant = self.seat().map(|seat| &*seat.id);
        let duration = self.lasted;
        let session = self.found.as_ref().map(|f| matches!(f.route.access, Access::Session(_)));
        let outcome = RequestOutcome {
            method: self.request.as_ref().map(|r| r.method),
            status: self.status,
            origin: if self.upstream_status.is_some() { Origin::Upstream } else { Origin::Gateway },
            duration,
            added: duration.saturating_sub(self.waited.unwrap_or_default() + delayed.unwrap_or_default()),
            tenant,
            refusal: code,
            trail: &self.trail,
            session: session.unwrap_or_default(),
            carrier: self.findings.carrier,
            site: self.facts.as_ref().map(|f| &f.site),
        };
        let name = self.found.as_ref().map(|f| &f.route.name);
        self.active.route_metrics(self.found.as_ref()).observe(&outcome);
        if let Some(code) = code {
            self.shared.recent.push(self.refused(code, tenant));
        }
        if let (Some(status), Some(waited), Some(permit)) = (self.upstream_status, self.waited, &self.permit)
            && let Some(metrics) = self.active.upstream_metrics(permit.destination().upstream)
        {
            metrics.observe(status, waited);
        }
        let telemetry = &self.active.snapshot.telemetry;
        let path = self.request.as_ref().map(|r| &*r.path).or(self.glimpse.path.as_deref());
        if own_entry && !path.is_some_and(|p| telemetry.exclude_paths.iter().any(|e| e == p)) {
            self.shared.access.write(&AccessLine {
                at_ms: self.stamp.at_ms,
                id: self.stamp.id,
                listener: self.peer.as_ref().map_or("", |p| &p.listener),
                client: self.facts.as_ref().map(|f| f.client.0).or(self.peer.as_ref().map(|p| p.address)),
                method: self.request.as_ref().map(|r| r.method.as_str()).or(self.glimpse.method.as_deref()),
                host: self.request.as_ref().map(|r| &*r.host).or(self.glimpse.host.as_deref()),
                path,
                route: name.map(|n| &**n),
                tenant,
                status: self.status,
                code: code.map(Code::id),
                bytes: self.bytes_out,
                duration,
                upstream: self.upstream_name(),
                protocol: self.facts.as_ref().map(|f| f.protocol),
                tls: self.peer.as_ref().and_then(|p| p.tls.as_ref()).map(|t| t.version.as_str()),
                trace: self.recorded_trace(),
            });
        }
        self.trace_ends(duration, endpoint);
    }
}

/// pingora never calls `logging` for a request whose task is cancelled: the context itself sees to its account.
impl Drop for Context {
    fn drop(&mut self) {
        if self.slot.is_some() || self.status != 0 || self.refusal.is_some() {
            self.tell();
        }
    }
}

/// Whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
