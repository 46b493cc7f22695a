//! An endpoint as pingora's connector wants it: for applications that speak HTTP/2.
use super::Target;
use crate::config::settings::{HttpVersion, Upstream};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// How long an idle connection is kept.
const KEEP: Duration = Duration::from_secs(60);
/// Requests at once on one HTTP/2 connection, as far as the application allows so many.
const STREAMS: usize = 100;
/// How often a quiet HTTP/2 connection is asked whether it still lives.
const PING: Duration = Duration::from_secs(20);
/// Window of a stream and of a connection: what an application may send before the client has taken it.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Made once: a request clones it.
pub(super) fn peer(settings: &Upstream, target: &Target) -> HttpPeer {
    let name = settings.tls.as_ref().map(|tls| tls.server_name.to_str().into_owned());
    let mut peer = HttpPeer::new(target.address, name.is_some(), name.unwrap_or_default());
    peer.group_key = group_key(settings);
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.timeouts.connect);
    options.total_connection_timeout = Some(settings.timeouts.connect);
    options.read_timeout = Some(settings.timeouts.first_byte);
    options.write_timeout = Some(settings.timeouts.idle);
    options.idle_timeout = Some(KEEP);
    if settings.version == HttpVersion::Http2 {
        options.set_http_version(2, 2);
        options.max_h2_streams = STREAMS;
        options.h2_ping_interval = Some(PING);
        options.h2_stream_window_size = Some(STREAM_WINDOW);
        options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    }
    if let Some(tls) = &settings.tls {
        // Both parse what they are given and panic on what is no certificate; the compiler has parsed it before.
        options.ca = tls
            .authorities
            .as_ref()
            .map(|list| list.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect::<Vec<_>>().into());
        peer.client_cert_key = tls.client.as_ref().map(|client| {
            let chain = client.chain.iter().map(|der| der.to_vec()).collect();
            Arc::new(CertKey::new(chain, client.key.secret_der().to_vec()))
        });
    }
    peer
}

/// pingora's pool key knows address, server name and a serial number only: a connection must never serve another upstream,
/// and never one that trusts others or shows another certificate.
fn group_key(settings: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&settings.name, settings.version).hash(&mut hasher);
    if let Some(tls) = &settings.tls {
        tls.server_name.hash(&mut hasher);
        tls.authorities.as_ref().map(|list| list.iter().map(|der| der.as_ref()).collect::<Vec<_>>()).hash(&mut hasher);
        tls.client.as_ref().map(|c| c.chain.iter().map(|der| der.as_ref()).collect::<Vec<_>>()).hash(&mut hasher);
    }
    hasher.finish()
}
