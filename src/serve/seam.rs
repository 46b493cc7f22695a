//! Stand-ins for shared types that are still under construction; each goes away when its owner lands.
#![allow(missing_docs)]
use decide::facts::Protocol;
use decide::head::HeadLimits;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub kind: ListenerKind,
    pub trusted: Vec<IpNet>,
    pub head: HeadLimits,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub handshake_timeout: Duration,
    pub connections_per_ip: usize,
    pub h2_concurrent_streams: u32,
    pub h2_resets_per_second: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Tls { protocols: Vec<Protocol>, profile: TlsProfile },
    Redirect { https_port: Option<u16> },
    Plaintext,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProfile {
    pub tls12: bool,
    pub groups: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificates: PathBuf,
    pub default_certificate: Option<String>,
    pub warn_before_expiry: Duration,
}
