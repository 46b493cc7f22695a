//! How often a request allocates, as a count: the whole gateway runs in this process, its client and its application do not
//! allocate here. With `MOAT_HEAP=FILE` the places of the allocations are written down, for a viewer of DHAT's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that cannot go on should stop where it stands"
)]

use moat::cli::check;
use moat::config::Purpose;
use moat::serve::ending::Reason;
use moat::serve::inherited::Inherited;
use moat::serve::run::Running;
use std::process::Command;

#[path = "it/harness"]
mod harness {
    #![allow(dead_code, reason = "the harness is made for other tests")]
    pub mod bundle;
    pub mod threaded;
    pub mod tokens;
}

use harness::bundle::Bundle;
use harness::threaded::application;
use harness::tokens::Token;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Requests that are counted, after as many that are not.
const REQUESTS: u64 = 500;

/// What the application answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Requests over one connection of another process; all must succeed.
fn load(protocol: &str, url: &str, token: &str) {
    let mut command = Command::new("h2load");
    command.args(["-n", &REQUESTS.to_string(), "-c", "1", "-m", "1", &format!("--npn-list={protocol}")]);
    command.arg(format!("--connect-to={}", url.strip_prefix("https://acme.").unwrap().split('/').next().unwrap()));
    command.args(["-H", &format!("authorization: Bearer {token}"), url]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("{REQUESTS} succeeded, 0 failed");
    assert!(
        text.contains(&expected) && text.contains(&format!("status codes: {REQUESTS} 2xx")),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Allocations per request, of a second run; that of its connection is spread over all.
fn per_request(protocol: &str, url: &str, token: &str) -> f64 {
    load(protocol, url, token);
    let before = dhat::HeapStats::get().total_blocks;
    load(protocol, url, token);
    (dhat::HeapStats::get().total_blocks - before) as f64 / REQUESTS as f64
}

#[test]
fn a_request_allocates_as_often_as_it_did() {
    let profiler = match std::env::var_os("MOAT_HEAP") {
        Some(file) => dhat::Profiler::builder().file_name(file).build(),
        None => dhat::Profiler::builder().testing().build(),
    };
    moat::serve::tls::install_provider();
    let bundle = Bundle::standard(application(ANSWER, |_| ()));
    // Lines of the access log would be lost among those of this test.
    bundle.replace("level: info}", "level: info, access: {sample: 0%}}");
    let token = Token::of("acme", &["viewer"]).signed(&bundle.key);
    let loaded = check::load(&bundle.path("gateway.yaml"), Purpose::Run)
        .unwrap_or_else(|problems| panic!("{}", problems.text()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let running = runtime.block_on(Running::start(loaded.snapshot, None, Inherited::none())).unwrap();
    let public = running.addresses.iter().find(|(name, _)| &**name == "public").unwrap().1;
    let base = format!("https://acme.localhost:{}", public.port());
    // What was counted when this was written, and two more: reads may be cut differently elsewhere. Who needs more says why.
    for (what, protocol, path, most) in [
        ("HTTP/1.1, public", "http/1.1", "/page", 22.5),
        ("HTTP/1.1, full", "http/1.1", "/api/bookings", 22.5),
        ("HTTP/2, public", "h2", "/page", 30.0),
        ("HTTP/2, full", "h2", "/api/bookings", 30.0),
    ] {
        let count = per_request(protocol, &format!("{base}{path}"), &token);
        println!("{what}: {count:.1} allocations per request");
        assert!(count <= most, "{what}: {count:.1} allocations per request, at most {most}");
    }
    runtime.block_on(running.stop(Reason::Asked));
    runtime.shutdown_background();
    drop(profiler);
}
