//! The client's address behind balancers (PROXY protocol), proxies (forwarding headers) and a delivery network (edge).
use crate::harness::{Bundle, Gateway, PATIENCE, Program, Reply, Upstream, entries, free_address, moat};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A gateway whose public listener has these words under `client_ip`.
async fn gateway(client_ip: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("    tls: modern\n", &format!("    tls: modern\n    client_ip: {client_ip}\n"));
    (Gateway::start(bundle).await, upstream)
}

fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.1 12345 443\r\n").into_bytes()
}

/// A TLS connection that begins with these bytes.
async fn tls(gateway: &Gateway, address: SocketAddr, first: &[u8], host: &str, alpn: &str) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(first).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// GET over HTTP/1.1 on a connection that begins with these bytes.
async fn get(gateway: &Gateway, first: &[u8], url: &str, fields: &str) -> Reply {
    let (host, path) = url.split_once('/').unwrap();
    let mut stream = tls(gateway, gateway.address("public"), first, host, "http/1.1").await;
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    Reply::parse(&String::from_utf8(answer).unwrap())
}

/// The same over HTTP/2; the status.
async fn get_h2(gateway: &Gateway, first: &[u8], url: &str, fields: &[(&str, &str)]) -> u16 {
    let stream = tls(gateway, gateway.address("public"), first, url.split_once('/').unwrap().0, "h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::get(format!("https://{url}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    status
}

const BALANCED: &str = "{proxy_protocol: required, trusted: [127.0.0.0/8, 10.0.0.0/8]}";

/// The list of hops is read from its right end: the TCP peer, the PROXY header, then the forwarding header.
#[tokio::test]
async fn the_proxy_header_is_the_peer_from_which_forwarding_headers_are_read() {
    let (gateway, upstream) = gateway(BALANCED).await;
    for (first, fields, client, why) in [
        (line("203.0.113.7"), "", "203.0.113.7", "the balancer's client"),
        (line("203.0.113.7"), "X-Forwarded-For: 6.6.6.6\r\n", "203.0.113.7", "who is no hop and cannot name another"),
        (line("10.0.0.9"), "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\n", "203.0.113.7", "a proxy behind the balancer"),
        (line("10.0.0.9"), "", "10.0.0.9", "a proxy that calls for itself"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "X-Forwarded-For: 6.6.6.6\r\n", "127.0.0.1", "the balancer for itself"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "Forwarded: for=6.6.6.6\r\n", "127.0.0.1", "LOCAL"),
    ] {
        let reply = get(&gateway, &first, "acme.localhost/page", fields).await;
        assert_eq!(reply.status, 200, "{why}");
        let said = upstream.last().header("x-forwarded-for").unwrap();
        assert_eq!(said.split(", ").next(), Some(client), "{why}: {said}");
        let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
        assert_eq!(entry["facts"]["client"], client, "{why}: {entry}");
    }
    // What decides by the address decides by this one.
    assert_eq!(get(&gateway, &line("203.0.113.7"), "umbrella.localhost/page", "").await.verdict(), "200");
    let fields = "X-Forwarded-For: 203.0.113.7\r\n";
    assert_eq!(
        get(&gateway, &line("198.51.100.7"), "umbrella.localhost/page", fields).await.verdict(),
        "403 network.denied"
    );
    assert_eq!(get_h2(&gateway, &line("203.0.113.7"), "umbrella.localhost/page", &[]).await, 200);
    assert_eq!(get_h2(&gateway, &line("198.51.100.7"), "umbrella.localhost/page", &[]).await, 403);
}

#[tokio::test]
async fn a_connection_without_proxy_header_is_counted_and_recorded() {
    let (gateway, _upstream) = gateway(BALANCED).await;
    let mut tcp = TcpStream::connect(gateway.address("public")).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    let entry =
        gateway.audit_entry(|entry| entry["cause"] == "the connection does not begin with a PROXY header").await;
    assert_eq!((&entry["facts"]["client"], &entry["outcome"]["status"]), (&"127.0.0.1".into(), &0.into()), "{entry}");
    assert_eq!(gateway.refusals("request.malformed").await, 1);
    let counted = "moat_connections_rejected_total{listener=\"public\",reason=\"proxy_header\"} 1\n";
    assert!(gateway.metrics().await.contains(counted));
}

/// Whoever is turned away before the first request fills the audit log no faster than whoever asks and is refused.
#[tokio::test]
async fn connections_that_are_turned_away_share_entries_in_a_flood() {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("    tls: modern\n", &format!("    tls: modern\n    client_ip: {BALANCED}\n"));
    bundle.replace(
        "audit: {directory: state/audit}",
        "audit: {directory: state/audit, fold: {after: 5, per_second: 1, in_all_per_second: 1}}",
    );
    let gateway = Gateway::start(bundle).await;
    for _ in 0..60 {
        let mut tcp = TcpStream::connect(gateway.address("public")).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
        let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.unwrap();
    }
    let accounted = |gateway: &Gateway| {
        let all = entries(gateway);
        let own =
            all.iter().filter(|entry| entry["cause"] == "the connection does not begin with a PROXY header").count();
        let shared: u64 = all.iter().filter_map(|entry| entry["detail"]["requests"].as_u64()).sum();
        (own as u64, shared)
    };
    gateway.until("all are accounted for", async |g| accounted(g).0 + accounted(g).1 == 60).await;
    let (own, shared) = accounted(&gateway);
    assert!(own < 30 && shared > 30, "{own} entries of their own, {shared} requests that share one");
    assert_eq!(gateway.refusals("request.malformed").await, 60, "and each is counted");
}

/// What an application is told of a client at 127.0.0.7 that comes through this balancer.
async fn through(gateway: &Gateway, upstream: &Upstream, front: SocketAddr) -> Option<String> {
    // From an address that is not the balancer's.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.7:0".parse().unwrap()).unwrap();
    let tcp = socket.connect(front).await.unwrap();
    let connector = TlsConnector::from(Arc::new(gateway.tls_client(&[b"http/1.1"])));
    let mut stream = connector.connect(ServerName::try_from("acme.localhost").unwrap(), tcp).await.unwrap();
    let asked = b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    upstream.last().header("x-forwarded-for")
}

/// What docs/client-address.md says between these words, with the gateway's address in place of the page's.
fn recipe(after: &str, gateway: &Gateway) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client-address.md")).unwrap();
    let text = page.split(after).nth(1).unwrap().split("```").nth(1).unwrap().split_once('\n').unwrap().1;
    assert!(text.contains("10.0.0.10:443"), "{text}");
    text.replace("10.0.0.10:443", &gateway.address("public").to_string())
}

/// A real balancer in front, in both versions, with a checksum, over IPv4 and on a connection of its own (a health check).
#[tokio::test]
async fn haproxy_says_for_whom_it_connects() {
    let (gateway, upstream) = gateway("{proxy_protocol: required, trusted: [127.0.0.1/32]}").await;
    let recipe = recipe("HAProxy:", &gateway);
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let front = free_address();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("haproxy.cfg");
        let backend =
            recipe.replace("send-proxy-v2", options).replace("check-send-proxy", "check-send-proxy inter 200ms");
        std::fs::write(
            &file,
            format!(
                "defaults\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n  unique-id-format %pid\n{}",
                backend.replace("bind :443", &format!("bind {front}"))
            ),
        )
        .unwrap();
        let _haproxy = Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(&file), front).await;
        assert_eq!(through(&gateway, &upstream, front).await.as_deref(), Some("127.0.0.7"), "{options}");
    }
    assert_eq!(gateway.refusals("request.malformed").await, 0, "its health checks are in order");
}

/// NGINX as its page says, which sends version 1.
#[tokio::test]
async fn nginx_says_for_whom_it_connects() {
    let (gateway, upstream) = gateway("{proxy_protocol: required, trusted: [127.0.0.1/32]}").await;
    let (front, folder) = (free_address(), tempfile::tempdir().unwrap());
    let file = folder.path().join("nginx.conf");
    let stream = recipe("NGINX:", &gateway).replace("listen 443;", &format!("listen {front};"));
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\nevents {{}}\n{stream}",
        folder.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    let _nginx = Program::start(command.arg("-c").arg(&file).arg("-p").arg(folder.path()), front).await;
    assert_eq!(through(&gateway, &upstream, front).await.as_deref(), Some("127.0.0.7"));
}

const EDGE: &str =
    "{proxy_protocol: required, trusted: [127.0.0.0/8], edge: {ranges_from: policies/cdn.txt, header: X-CDN-Client}}";

async fn behind_edge() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    bundle.write("policies/cdn.txt", "# the network\n203.0.113.0/25   # first half\n\n2001:db8:cd::/48\n");
    bundle.replace("    tls: modern\n", &format!("    tls: modern\n    client_ip: {EDGE}\n"));
    (Gateway::start(bundle).await, upstream)
}

#[tokio::test]
async fn behind_an_edge_only_the_edge_is_served_and_only_it_names_the_client() {
    let (gateway, upstream) = behind_edge().await;
    let cdn = line("203.0.113.9");
    let named = "X-CDN-Client: 198.51.100.7\r\n";
    let reply = get(&gateway, &cdn, "acme.localhost/page", &format!("{named}X-Forwarded-For: 6.6.6.6\r\n")).await;
    assert_eq!(reply.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("198.51.100.7, 203.0.113.9"));
    assert_eq!(seen.header("x-cdn-client"), None, "the application reads what we write");
    let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
    assert_eq!(entry["facts"]["client"], "198.51.100.7", "{entry}");
    assert_eq!(get_h2(&gateway, &cdn, "acme.localhost/page", &[("x-cdn-client", "2001:db8::7")]).await, 200);

    // A direct hit, with everything that the network would say.
    for stranger in ["203.0.113.200", "198.51.100.7"] {
        let reply = get(&gateway, &line(stranger), "acme.localhost/page", named).await;
        assert_eq!(reply.verdict(), "403 network.denied", "{stranger}");
        assert!(reply.header("strict-transport-security").is_some(), "dressed: {reply:?}");
        let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
        assert_eq!(entry["cause"], "a direct hit: the peer is outside the ranges of the edge", "{entry}");
        assert_eq!(get_h2(&gateway, &line(stranger), "acme.localhost/page", &[("x-cdn-client", "1.1.1.1")]).await, 403);
    }
    let own = get(&gateway, &line("198.51.100.7"), "acme.localhost/.moat/jwks.json", named).await;
    assert_eq!(own.verdict(), "403 network.denied", "the gateway's own pages too");
    for (fields, verdict) in [
        ("", "403 network.denied"),
        ("X-CDN-Client: 1.1.1.1\r\nX-CDN-Client: 1.1.1.1\r\n", "400 request.ambiguous"),
        ("X-CDN-Client: 1.1.1.1, 2.2.2.2\r\n", "400 request.ambiguous"),
        ("X-CDN-Client: unknown\r\n", "400 request.ambiguous"),
        ("X-CDN-Client: 1.1.1.1\r\nX_CDN_Client: 2.2.2.2\r\n", "400 request.ambiguous"),
    ] {
        assert_eq!(get(&gateway, &cdn, "acme.localhost/page", fields).await.verdict(), verdict, "{fields:?}");
    }
}

#[tokio::test]
async fn the_ranges_of_an_edge_are_reloaded_also_for_connections_that_are_open() {
    let (gateway, _upstream) = behind_edge().await;
    let named = "X-CDN-Client: 198.51.100.7\r\n";
    let ask = format!("GET /page HTTP/1.1\r\nHost: acme.localhost\r\n{named}\r\n");
    let mut open = tls(&gateway, gateway.address("public"), &line("203.0.113.9"), "acme.localhost", "http/1.1").await;
    let mut answer = [0; 12];
    open.write_all(ask.as_bytes()).await.unwrap();
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    gateway.bundle.write("policies/cdn.txt", "203.0.113.128/25\n");
    gateway
        .until("the other half is the network", async |gateway: &Gateway| {
            get(gateway, &line("203.0.113.200"), "acme.localhost/page", named).await.status == 200
        })
        .await;
    open.write_all(ask.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, open.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 403"), "{}", String::from_utf8_lossy(&rest));
}

/// On a listener without edge its header is a stranger's word.
#[tokio::test]
async fn the_header_of_the_edge_is_removed_on_every_other_listener() {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    let edge = "  edge:\n    address: 127.0.0.1:0\n    client_ip: {edge: {ranges: [203.0.113.0/24], header: x-cdn-client}}\n  plain:";
    bundle.replace("  plain:", edge);
    let gateway = Gateway::start(bundle).await;
    let call = gateway.get("https://acme.localhost/page").header("x-cdn-client", "6.6.6.6");
    assert_eq!(call.send().await.status, 200);
    let seen = upstream.last();
    assert_eq!((seen.header("x-cdn-client"), seen.header("x-forwarded-for").as_deref()), (None, Some("127.0.0.1")));
}

/// Every configuration block of the page is compiled, below the listener or as a whole.
#[test]
fn the_recipes_of_the_page_compile() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client-address.md")).unwrap();
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    for block in blocks {
        let bundle = Bundle::standard(([127, 0, 0, 1], 9).into());
        let text = bundle.read("gateway.yaml");
        let (before, rest) = text.split_once("listeners:\n").unwrap();
        let (_, after) = rest.split_once("tls: {certificates").unwrap();
        bundle.write("gateway.yaml", &format!("{before}{block}tls: {{certificates{after}"));
        bundle.write("policies/cdn-ranges.txt", "173.245.48.0/20\n2400:cb00::/32\n");
        std::fs::copy(bundle.path("certs/dev/ca.crt"), bundle.path("certs/cdn-ca.pem")).unwrap();
        let output = moat(bundle.root(), &["check"]);
        assert_eq!(output.code, Some(0), "{block}\n{}{}", output.stdout, output.stderr);
    }
}

#[test]
fn problems_of_an_edge_are_told_with_their_place() {
    let check = |client_ip: &str, ranges: &str| {
        let bundle = Bundle::standard(([127, 0, 0, 1], 9).into());
        bundle.write("policies/cdn.txt", ranges);
        bundle.replace("    tls: modern\n", &format!("    tls: modern\n    client_ip: {client_ip}\n"));
        let output = moat(bundle.root(), &["check"]);
        assert_eq!(output.code, Some(78), "{client_ip}: {output:?}");
        format!("{}{}", output.stdout, output.stderr)
    };
    for (client_ip, ranges, expected) in [
        ("{edge: {}}", "", &["`edge` without ranges: nobody could connect"][..]),
        ("{edge: {ranges_from: policies/none.txt}}", "", &["policies/none.txt` does not exist"]),
        (
            "{edge: {ranges_from: policies/cdn.txt}}",
            "173.245.48.0/20\n  173.245.48.0/33 # no\nnonsense\n0.0.0.0/0\n",
            &[
                "policies/cdn.txt:2:3",
                "`173.245.48.0/33` is no network",
                "policies/cdn.txt:3:1",
                "`nonsense` is no network",
                "policies/cdn.txt:4:1",
                "`0.0.0.0/0` is everybody",
            ],
        ),
        ("{edge: {ranges: [10.0.0.0/8], header: x-forwarded-for}}", "", &["`x-forwarded-for` means something else"]),
        ("{edge: {ranges: [10.0.0.0/8], header: cookie}}", "", &["`cookie` means something else"]),
        ("{edge: {ranges: [10.0.0.0/8], header: x-user-id}}", "", &["`x-user-id` means something else"]),
        ("{edge: {ranges: [10.0.0.0/8], client_certificate: {ca: gateway.yaml}}}", "", &["holds no certificates"]),
        (
            "{edge: {ranges: [10.0.0.0/8], client_certificate: {ca: certs/dev/ca.crt, san: [\"not a name\"]}}}",
            "",
            &["`not a name` is no host name and no address"],
        ),
        ("{proxy_protocol: required}", "", &["`proxy_protocol: required` without `trusted`"]),
    ] {
        let told = check(client_ip, ranges);
        for part in expected {
            assert!(told.contains(part), "{client_ip}: `{part}` is not in\n{told}");
        }
    }
}
