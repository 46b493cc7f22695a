//! What all requests share, and the gateway's answer to requests that never reach the proxy.
use crate::serve::active::Active;
use crate::serve::assertion::Assertions;
use crate::serve::context::{Context, Glimpse};
use crate::serve::gather::Stamp;
use crate::serve::listener::{ConnInfo, Front};
use crate::serve::logs::AccessLog;
use crate::serve::metrics::Metrics;
use crate::serve::respond::{self, Audience, Made};
use crate::store::audit::AuditLog;
use arc_swap::ArcSwap;
use decide::refusal::{Code, Refusal};
use std::sync::Arc;

/// The proxy's filters: a handle on what all requests share.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// What all requests share.
pub struct Shared {
    active: ArcSwap<Active>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The access log.
    pub access: AccessLog,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Signs identity assertions.
    pub assertions: Assertions,
}

impl Shared {
    /// Puts the parts together.
    pub fn new(active: Arc<Active>, audit: Arc<AuditLog>, access: AccessLog, metrics: Arc<Metrics>, assertions: Assertions) -> Shared {
        Shared { active: ArcSwap::new(active), audit, access, metrics, assertions }
    }

    /// What is in force now.
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Puts another snapshot in force, for requests that begin from now on.
    pub fn activate(&self, active: Arc<Active>) {
        self.active.store(active);
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

    /// Accounts for a request that never reached the proxy, and makes its answer.
    async fn refuse_early(&self, conn: Arc<ConnInfo>, refusal: Refusal, glimpse: Glimpse) -> Made {
        let mut context = Context::new(self.shared.clone(), self.shared.active(), Stamp::now());
        let head = glimpse.method.as_deref() == Some("HEAD");
        context.conn = Some(conn);
        context.glimpse = glimpse;
        let refusal = match self.shared.audit.reserve().await {
            Ok(slot) => {
                context.slot = Some(slot);
                refusal
            }
            Err(error) => Refusal::new(Code::GatewayUnavailable, format!("the audit log is full: {error}")).retry_after(5),
        };
        let audience = Audience {
            id: context.stamp.id,
            html: false,
            head,
            tls: context.conn.as_ref().is_some_and(|c| c.tls.is_some()),
            profile: context.profile(),
            limit: None,
            jitter: 0,
        };
        let made = respond::refusal(&refusal, &audience);
        context.status = made.status.as_u16();
        context.bytes_out = made.body.len() as u64;
        context.refusal = Some(refusal);
        context.tell();
        made
    }
}

/// 16 random bytes from the system's generator.
pub fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // aws-lc-rs aborts rather than fail here once it is seeded; an error would make the nonce predictable, so the
    // request id's own randomness is the fall-back.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = uuid::Uuid::now_v7().into_bytes();
    }
    bytes
}

impl Stamp {
    /// The clock, read once, and a fresh id.
    pub fn now() -> Stamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Stamp {
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            id: decide::facts::RequestId(uuid::Uuid::now_v7().as_u128()),
        }
    }
}
