//! Many tenants, many routes, many idle connections.
use crate::harness::{Gateway, Upstream, with};
use std::cell::Cell;
use std::fmt::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn large() -> (Gateway, Upstream) {
    with(|bundle| {
        let mut tenants = "version: 1\ntenants:\n".to_owned();
        for i in 0..10_000 {
            let _ = writeln!(tenants, "  t{i:05}: {{class: standard}}");
        }
        bundle.write("policies/tenants.yaml", &tenants);
        bundle.replace("  defaults: {class: standard}\n", "  defaults: {class: standard}\n  file: policies/tenants.yaml\n");
        for i in 0..1_000 {
            bundle.route(&format!(
                "  r{i:04}:\n    match: {{hosts: [\"*.localhost\"], paths: [\"/r{i:04}/{{id}}\"], methods: [POST]}}\n    upstream: app\n    auth: {{bearer: workforce}}\n    require: {{session: any}}\n    headers: api-json"
            ));
        }
    })
    .await
}

#[tokio::test]
async fn ten_thousand_tenants_and_a_thousand_routes_reload_under_load_without_losing_a_request() {
    let (gateway, _upstream) = large().await;
    let token = gateway.token("acme", &["viewer"]);
    let reply = gateway.post("https://acme.localhost/r0999/7", "{}").bearer(&token).send().await;
    assert_eq!(reply.verdict(), "200");
    let (done, answered) = (Cell::new(false), Cell::new(0));
    let client = async || {
        while !done.get() {
            assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
            answered.set(answered.get() + 1);
        }
    };
    let reloads = async {
        let reloaded = |g: &Gateway| g.log_lines().iter().filter(|line| line.contains("\"reloaded\"")).count();
        for (round, tenant) in [(1, "nobody"), (2, "late"), (3, "later")] {
            let text = gateway.bundle.read("policies/tenants.yaml");
            gateway.bundle.write("policies/tenants.yaml", &format!("{text}  {tenant}: {{class: standard}}\n"));
            gateway.signal("HUP");
            // The question lets the application and the clients of this very thread go on.
            let in_force = async |g: &Gateway| g.admin("/livez").await.status == 200 && reloaded(g) >= round;
            gateway.until("the larger bundle is in force", in_force).await;
            assert_eq!(gateway.get("https://nobody.localhost/page").send().await.status, 200, "a tenant since round 1");
        }
        done.set(true);
    };
    tokio::join!(reloads, client(), client(), client(), client());
    assert!(answered.get() > 8, "{} requests beside the reloads", answered.get());
}

/// A connection that has served a request and waits for the next.
async fn idle(gateway: &Gateway) -> TlsStream<TcpStream> {
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"GET /page\n") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0);
        answer.extend_from_slice(&buffer[..count]);
    }
    stream
}

#[tokio::test]
async fn an_idle_connection_costs_little_memory() {
    const COUNT: u64 = 300;
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("handshake_timeout: 1s", "handshake_timeout: 5s, connections_per_ip: 1000");
        bundle.replace("idle_timeout: 5s", "idle_timeout: 60s");
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(idle(&gateway).await);
    }
    let before = resident(gateway.pid());
    for _ in 0..COUNT {
        held.push(idle(&gateway).await);
    }
    let each = resident(gateway.pid()).saturating_sub(before) / COUNT;
    // The promise is 40 KiB; futures of a build that is not optimised are larger.
    let bound = if cfg!(debug_assertions) { 56 } else { 40 };
    assert!(each <= bound, "{each} KiB for each idle TLS connection");
}
