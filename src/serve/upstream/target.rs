//! Where an endpoint is and how it is spoken to, for whoever connects by themselves.
use crate::config::settings::{HttpVersion, UpstreamTls};
use crate::serve::tls::provider;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;

/// TLS sessions remembered for resumption, per upstream.
const SESSIONS: usize = 256;

/// Where an endpoint is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// TLS; `None` speaks plaintext.
    pub tls: Option<Arc<TlsTarget>>,
    /// Version of HTTP; with TLS it is the only one that is offered by ALPN.
    pub version: HttpVersion,
}

/// TLS to an upstream. One for all of its endpoints, so that sessions are resumed.
#[derive(Debug)]
pub struct TlsTarget {
    /// Authorities, client certificate and remembered sessions. It always verifies.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must hold.
    pub server_name: ServerName<'static>,
}

impl TlsTarget {
    /// TLS 1.3, or 1.2 with ECDHE and AEAD: the provider knows nothing older.
    pub fn new(settings: &UpstreamTls, version: HttpVersion) -> TlsTarget {
        let mut roots = RootCertStore::empty();
        match &settings.authorities {
            Some(authorities) => roots.add_parsable_certificates(authorities.iter().cloned()),
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        if roots.is_empty() {
            tracing::error!(server_name = ?settings.server_name, "no certificate authority to trust: nothing can be reached");
        }
        // What cannot be set up must not be spoken to: a configuration that trusts nobody.
        let config = client_config(settings, roots).unwrap_or_else(|error| {
            tracing::error!(server_name = ?settings.server_name, %error, "TLS cannot be set up: nothing can be reached");
            distrustful()
        });
        let mut config = config;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        config.alpn_protocols = match version {
            HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersion::Http2 => vec![b"h2".to_vec()],
        };
        TlsTarget { config: Arc::new(config), server_name: settings.server_name.clone() }
    }
}

fn client_config(settings: &UpstreamTls, roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match &settings.client {
        Some(client) => builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key()),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Trusts nobody.
fn distrustful() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    #[expect(
        clippy::expect_used,
        reason = "the process's own provider knows the default versions; every listener needs them"
    )]
    builder.expect("TLS 1.2 and 1.3").with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}
