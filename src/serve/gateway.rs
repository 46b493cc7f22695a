//! What all requests share, and the gateway's answer to requests that never reach the proxy.
use crate::serve::active::Active;
use crate::serve::assertion::Assertions;
use crate::serve::context::{Context, Peer};
use crate::serve::gather::Stamp;
use crate::serve::head::Taken;
use crate::serve::lane::Turn;
use crate::serve::limits::Rejection;
use crate::serve::listener::{ConnInfo, Front, Glimpse, Reply};
use crate::serve::live::Live;
use crate::serve::logs::AccessLog;
use crate::serve::metrics::Metrics;
use crate::serve::proofs::Proofs;
use crate::serve::reload::asks::Asks;
use crate::serve::reloads::Reloads;
use crate::serve::respond::{self, Audience};
use crate::serve::retired::Retired;
use crate::serve::revocation;
use crate::serve::run::now_ms;
use crate::serve::shares::{Unread, UnreadPlace};
use crate::serve::sign_in::SignIns;
use crate::serve::status::Recent;
use crate::serve::stream::Wire;
use crate::serve::tls::Handshake;
use crate::serve::traces::Traces;
use crate::serve::upstream::mix;
use crate::store::audit::AuditLog;
use crate::store::key_sets::KeySets;
use crate::store::revocations::Revocations;
use crate::store::seal::Keyring;
use crate::store::sessions::Sessions;
use crate::store::state::State;
use arc_swap::ArcSwap;
use decide::facts::RequestId;
use decide::refusal::{Code, Refusal};
use http::HeaderValue;
use pingora_core::protocols::http::v2::server::HttpSession;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

/// The proxy's filters: a handle on what all requests share.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// What all requests share.
pub struct Shared {
    active: ArcSwap<Active>,
    /// What was in force before.
    pub retired: Arc<Retired>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Sessions and whatever else outlives requests.
    pub state: Arc<State>,
    /// What was ended before its time.
    pub revocations: Arc<Revocations>,
    /// Sessions of browsers.
    pub sessions: Arc<Sessions>,
    /// API keys in the state engine.
    pub key_sets: Arc<KeySets>,
    /// Proofs of possession that were used.
    pub proofs: Proofs,
    /// The access log.
    pub access: AccessLog,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Signs identity assertions.
    pub assertions: Assertions,
    /// The OpenID providers that browsers sign in with.
    pub sign_ins: SignIns,
    /// What became of the last reload.
    pub reloads: Reloads,
    /// What is running.
    pub live: Live,
    /// The last refusals.
    pub recent: Recent,
    /// Where records of requests wait to become spans.
    pub traces: Traces,
    /// Bound addresses by listener; `admin` is one of them.
    pub addresses: ArcSwap<Vec<(Arc<str>, SocketAddr)>>,
    /// Places for answers that wait for their clients.
    pub unread: Arc<Unread>,
    /// Orders to reload.
    pub asks: Asks,
    seeds: RandomState,
}

impl Shared {
    /// Puts the parts together.
    pub fn new(
        active: Arc<Active>,
        (audit, state): (Arc<AuditLog>, Arc<State>),
        access: AccessLog,
        metrics: Arc<Metrics>,
        assertions: Assertions,
        traces: Traces,
    ) -> Shared {
        active.take_over(None);
        let (active, seeds) = (ArcSwap::new(active), RandomState::new());
        let unread = Unread::new(active.load().snapshot.server.unread_answers);
        let (addresses, asks) = (ArcSwap::default(), Asks::default());
        let watcher = Arc::new(revocation::Watcher(metrics.revocations().clone()));
        let seed = u64::from_ne_bytes(random());
        let ring = Keyring::new(active.load().snapshot.sessions.keys.iter());
        let revocations = Arc::new(Revocations::new(state.clone(), ring, seed, Arc::new(now_ms), watcher));
        let (reloads, live, recent) = (Reloads::default(), Live::default(), Recent::default());
        Shared {
            active,
            retired: Arc::default(),
            audit,
            sessions: Arc::new(Sessions::new(state.clone())),
            key_sets: Arc::new(KeySets::new(state.clone())),
            state,
            revocations,
            proofs: Proofs::default(),
            access,
            metrics,
            assertions,
            sign_ins: SignIns::default(),
            reloads,
            live,
            recent,
            traces,
            addresses,
            unread,
            asks,
            seeds,
        }
    }

    /// What is in force now.
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// What a trace and our spans are named after: a keyed hash of the request's id. Traces must be told apart, not kept secret,
    /// and the cryptographic generator asks the processor for fresh entropy at every call.
    pub fn trace_seed(&self, id: RequestId) -> [u8; 32] {
        let (first, second) = (self.seeds.hash_one((id.0, 0_u8)), self.seeds.hash_one((id.0, 1_u8)));
        let mut seed = [0; 32];
        // The trace is 128 bits of these; what the spans in it are named after need only differ.
        for (word, bytes) in [first, second, mix(first), mix(second)].into_iter().zip(seed.as_chunks_mut::<8>().0) {
            *bytes = word.to_ne_bytes();
        }
        seed
    }

    /// Puts another snapshot in force, for requests that begin from now on. What is running is judged again, by and by.
    pub fn activate(&self, active: Arc<Active>) {
        let before = self.active.swap(active.clone());
        active.take_over(Some(&before));
        if active.snapshot.sessions.keys != before.snapshot.sessions.keys {
            self.revocations.rekey(Keyring::new(active.snapshot.sessions.keys.iter()));
        }
        self.retired.take(before.snapshot.clone());
        self.retired.take(before);
        self.live.judge_again();
    }
}

impl Gateway {
    /// A gateway over shared parts.
    pub fn new(shared: Arc<Shared>) -> Gateway {
        Gateway { shared }
    }

    /// What all requests share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A context for a request that never reaches the proxy, with room for its entry where there is any.
    pub(crate) async fn early(&self, conn: &ConnInfo, glimpse: Glimpse) -> (Context, Option<Refusal>) {
        let mut context = Context::new(self.shared.clone(), self.shared.active(), Stamp::now());
        context.peer = Some(Peer::of(conn));
        context.glimpse = glimpse;
        match self.shared.audit.reserve().await {
            Ok(mut slot) => {
                slot.identify(context.stamp.id);
                context.slot = Some(slot);
                (context, None)
            }
            Err(error) => {
                let cause = format!("the audit log cannot take an entry: {error}");
                (context, Some(Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)))
            }
        }
    }
}

impl Front for Gateway {
    async fn refuse(&self, conn: &Arc<ConnInfo>, refusal: Refusal, glimpse: Glimpse) -> Reply {
        let (mut context, unavailable) = self.early(conn, glimpse).await;
        let refusal = unavailable.unwrap_or(refusal);
        let audience = Audience {
            id: context.stamp.id,
            html: false,
            head: false,
            tls: conn.tls.is_some(),
            profile: context.profile(),
            now_s: context.stamp.at_ms / 1000,
            limit: None,
            oauth: None,
        };
        let made = respond::refusal(&refusal, &audience);
        context.status = made.status.as_u16();
        context.bytes_out = made.body.len() as u64;
        context.refusal = Some(refusal);
        context.tell();
        made.into()
    }

    async fn turned_away(&self, conn: &Arc<ConnInfo>, refusal: Refusal) {
        let (mut context, unavailable) = self.early(conn, Glimpse::default()).await;
        context.refusal = Some(unavailable.unwrap_or(refusal));
        context.tell();
    }

    async fn redirect(&self, conn: &Arc<ConnInfo>, location: HeaderValue, glimpse: Glimpse) -> Reply {
        let (mut context, unavailable) = self.early(conn, glimpse).await;
        if let Some(refusal) = unavailable {
            drop(context);
            return self.refuse(conn, refusal, Glimpse::default()).await;
        }
        let made = respond::redirect(context.stamp.id, location, context.profile(), context.stamp.at_ms / 1000);
        context.status = made.status.as_u16();
        context.own = true;
        context.tell();
        made.into()
    }

    fn unread(&self, conn: &ConnInfo) -> Option<UnreadPlace> {
        self.shared.unread.take(conn.account.as_ref())
    }

    async fn carry(&self, wire: &mut Wire, taken: Taken) -> Turn {
        self.serve(wire, taken).await
    }

    async fn carry_stream(&self, session: Box<HttpSession>, conn: &Arc<ConnInfo>) -> Option<Box<HttpSession>> {
        self.serve_stream(session, conn).await
    }

    fn tls_handshake(&self, listener: &str, outcome: &Handshake) {
        self.shared.metrics.listener(listener).handshake(outcome);
    }

    fn connection_rejected(&self, listener: &str, reason: Rejection) {
        self.shared.metrics.listener(listener).rejected(reason);
    }

    fn connection_idle(&self, listener: &str) {
        self.shared.metrics.listener(listener).idle();
    }

    fn connections(&self, listener: &str, delta: i64) {
        self.shared.metrics.listener(listener).connections(delta);
    }
}

/// Random bytes from the cryptographic generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // aws-lc aborts the process when its generator cannot be seeded, so an error does not come back; if it did, zeros
    // would only make a nonce that nobody may rely on.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

impl Stamp {
    /// The clock, read once, and a fresh id.
    pub fn now() -> Stamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        // Without a counter that all threads share: 74 random bits tell ids of one millisecond apart.
        let at = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
        Stamp {
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            id: RequestId(uuid::Uuid::new_v7(at).as_u128()),
        }
    }
}
