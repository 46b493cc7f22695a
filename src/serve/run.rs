//! Starts the gateway: bundle, audit log, keys, listeners, admin; reloads it; and ends it in order.
use crate::config::settings::{Audit, Durability, Snapshot};
use crate::serve::accept;
use crate::serve::active::Active;
use crate::serve::admin;
use crate::serve::assertion::Assertions;
use crate::serve::certificates::CertStore;
use crate::serve::drain::Drain;
use crate::serve::gateway::{Gateway, Shared};
use crate::serve::limits::Budget;
use crate::serve::listener::{self, House};
use crate::serve::logs::{AccessLog, Lines};
use crate::serve::metrics::Metrics;
use crate::store::audit::{self, AuditLog};
use crate::store::quota::{Janitor, Quotas};
use anyhow::{Context as _, Result};
use decide::record::Event;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// A gateway that runs.
pub struct Running {
    /// What its requests share.
    pub shared: Arc<Shared>,
    /// Bound addresses by listener name; `admin` is one of them.
    pub addresses: Vec<(Arc<str>, SocketAddr)>,
    certificates: Option<Arc<CertStore>>,
    drain: Drain,
    tasks: JoinSet<()>,
    _janitor: Janitor,
}
