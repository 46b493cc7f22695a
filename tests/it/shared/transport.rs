//! How a gateway reaches its store: TLS with an authority of one's own, and a socket in the file system.
use crate::harness::secure::Authority;
use crate::harness::{Bundle, Gateway, Redis, Upstream};
use std::path::Path;

const LIMITS: &str = "version: 1
limits:
  few-per-user: {key: [tenant, user], rate: 3/h, burst: 3, mode: strict, on_store_loss: closed}
";

/// A gateway whose store is here.
async fn before(upstream: &Upstream, store: &str, authority: &str) -> Gateway {
    let bundle = Bundle::standard(upstream.address);
    bundle.write("policies/rate-limits.yaml", LIMITS);
    bundle.write("redis-password", "secret of the store\n");
    bundle.write("redis-ca.pem", authority);
    let storage = format!(
        "storage:\n  redis: {{{store}, password: {{file: redis-password}}, use_for: [limits], connect_timeout: 5s, command_timeout: 5s}}\nroutes:\n  home:"
    );
    bundle.replace("routes:\n  home:", &storage);
    Gateway::start(bundle).await
}

async fn statuses(gateway: &Gateway, tries: usize) -> Vec<u16> {
    let token = gateway.token("acme", &["viewer"]);
    let mut statuses = Vec::new();
    for _ in 0..tries {
        statuses.push(gateway.get("https://acme.localhost/api/limited").bearer(&token).send().await.status);
    }
    statuses
}

async fn reached(gateway: &Gateway) {
    let up = async |gateway: &Gateway| gateway.metrics().await.contains("moat_store_up{backend=\"redis\"} 1");
    gateway.until("its store", up).await;
}

/// An authority, and files of a server that it vouches for under this name.
fn vouched(folder: &Path, name: &str) -> String {
    let authority = Authority::new();
    let server = authority.good(name);
    std::fs::write(folder.join("server.pem"), server.certificate).unwrap();
    std::fs::write(folder.join("server.key"), server.key).unwrap();
    authority.pem()
}

async fn tls(folder: &Path) -> Redis {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("server.pem"), file("server.key"));
    Redis::start(&[
        "--requirepass",
        "secret of the store",
        "--port",
        "0",
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
    ])
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_tls_is_believed_for_its_authority_and_name() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = vouched(folder.path(), "localhost");
    let redis = tls(folder.path()).await;
    let port = redis.address.port();
    let by_name = format!("url: \"rediss://localhost:{port}\", ca: redis-ca.pem");
    let gateway = before(&upstream, &by_name, &authority).await;
    reached(&gateway).await;
    assert_eq!(statuses(&gateway, 4).await, [200, 200, 200, 429]);

    let stranger = vouched(tempfile::tempdir().unwrap().path(), "localhost");
    for (store, authority, why) in [
        (by_name, &stranger, "another authority"),
        (format!("url: \"rediss://127.0.0.1:{port}\", ca: redis-ca.pem"), &authority, "another name"),
        (format!("url: \"rediss://localhost:{port}\""), &authority, "the authorities of the system"),
        (format!("url: \"redis://127.0.0.1:{port}\""), &authority, "no TLS"),
    ] {
        let gateway = before(&upstream, &store, authority).await;
        assert_eq!(statuses(&gateway, 2).await, [503, 503], "{why}");
        assert!(gateway.metrics().await.contains("moat_store_up{backend=\"redis\"} 0"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_behind_a_socket_counts_too() {
    let upstream = Upstream::start().await;
    let redis = Redis::start(&["--requirepass", "secret of the store", "--unixsocket", "{folder}/redis.sock"]).await;
    let socket = redis.folder().join("redis.sock");
    let store = format!("url: \"unix:{}\"", socket.display());
    let gateway = before(&upstream, &store, "").await;
    reached(&gateway).await;
    assert_eq!(statuses(&gateway, 4).await, [200, 200, 200, 429]);
}
