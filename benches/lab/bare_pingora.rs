//! pingora with no filter of its own, as a yardstick: what any gateway on it pays before it has done anything.
//!
//! `bare_pingora ADDRESS BACKEND [CERTIFICATE KEY]`; one worker thread, the allocator and the crypto provider of Moat.
use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::net::SocketAddr;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare(HttpPeer);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A second provider cannot be there yet.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(backend)) = (args.next(), args.next()) else {
        return Err("bare_pingora ADDRESS BACKEND [CERTIFICATE KEY]".into());
    };
    let backend: SocketAddr = backend.parse()?;
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 4096, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let peer = HttpPeer::new(backend, false, String::new());
    let mut service = http_proxy_service(&server.configuration, Bare(peer));
    match (args.next(), args.next()) {
        (Some(certificate), Some(key)) => {
            let mut tls = TlsSettings::intermediate(&certificate, &key)?;
            tls.enable_h2();
            service.add_tls_with_settings(&address, None, tls);
        }
        (_, _) => service.add_tcp(&address),
    }
    server.add_service(service);
    server.run_forever()
}
