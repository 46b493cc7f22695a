//! What a reload consists of, by the number of tenants; then how long a worker is away from everybody else while something
//! large happens beside the requests: reloads, sweeps, new keys, audit segments that end, with 100,000 tenants, 1,000,000
//! keys of a limit and a full memory of tokens.
//!
//! ```sh
//! cargo bench --bench stalls                # needs a gigabyte
//! ```
//!
//! The gateway runs in this process with one worker. A task on it asks for its turn again and again and notes the longest
//! time between two of them: *cpu* is the time that the worker's thread has run meanwhile, which other programs on the
//! machine do not touch, *wall* is what a clock says. The host may take the processor away, and that counts as *cpu* in most
//! virtual machines; so everything happens five times, and what is told is the least of the five longest absences, the middle
//! and the greatest: what a program does itself, it does each time. Requests are under way all the while, one of them to the end
//! of each reload, so that it holds the configuration before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement that cannot go on should stop where it stands"
)]

use decide::facts::Stage;
use moat::cli::check;
use moat::cli::run::loader;
use moat::config::compare::loosened;
use moat::config::settings::Snapshot;
use moat::config::{Loaded, Parsed, Purpose, World};
use moat::serve::inherited::Inherited;
use moat::serve::reload::report::Verdict;
use moat::serve::reload::{Hangups, supervise};
use moat::serve::run::Running;
use moat::store::quota::{Dues, KeyInput};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[path = "../tests/it/harness"]
mod harness {
    #![allow(dead_code, reason = "the harness is made for tests")]
    pub mod bundle;
    pub mod threaded;
    pub mod tokens;
}

use harness::bundle::Bundle;
use harness::threaded::application;
use harness::tokens::{Token, TokenKey};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: usize = 100_000;
const KEYS: u32 = 1_000_000;
/// Places in the memory of verified tokens.
const TOKENS: usize = 20_000;

const GATEWAY: &str = r#"version: 1
server: {worker_threads: 1, state_dir: state}
admin: {address: 127.0.0.1:0}
listeners: {public: {address: 127.0.0.1:0, plaintext: "a measurement"}}
issuers:
  login:
    issuer: https://login.test/
    audiences: [northlane-api]
    algorithms: [ES256]
    claims: {tenant: org_id, roles: roles}
    jwks: {file: jwks.json}
tenancy: {resolve: [{host: "{tenant}.localhost"}], file: tenants.yaml}
upstreams: {app: {endpoints: ["UPSTREAM"]}}
policies: {headers: headers.yaml, rate_limits: limits.yaml}
logs: {level: warn, access: {sample: 0%}}
audit: {segments: {roll: 1MiB}}
routes:
  page:
    match: {hosts: ["*.localhost"], paths: ["/**"], methods: [GET]}
    upstream: app
    headers: page
    rate_limits: [many]
    public: "a measurement"
  api:
    match: {hosts: ["*.localhost"], paths: ["/api/**"], methods: [GET]}
    upstream: app
    auth: {bearer: login}
    require: {session: any}
"#;

fn headers(mark: usize) -> String {
    format!("version: 1\nprofiles:\n  page:\n    set: {{x-content-type-options: nosniff, x-mark: \"{mark}\"}}\n")
}

fn tenants(all: usize) -> String {
    let lines = (0..all).map(|n| format!("  t{n}: {{ip_allow: [0.0.0.0/0]}}\n"));
    format!("version: 1\ntenants:\n{}", lines.collect::<String>())
}

/// An application; `/slow` takes a second and a half.
fn slow_at_times() -> SocketAddr {
    application(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", |head| {
        if head.starts_with(b"GET /slow") {
            std::thread::sleep(Duration::from_millis(1500));
        }
    })
}

/// The longest absences of the worker, nanoseconds.
#[derive(Default)]
struct Watch {
    cpu: AtomicU64,
    wall: AtomicU64,
    over: AtomicBool,
}

impl Watch {
    /// Asks for its turn until it is over.
    async fn stand(self: Arc<Watch>) {
        let (mut ran, mut since) = (cpu(), Instant::now());
        while !self.over.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
            let (now, at) = (cpu(), Instant::now());
            self.cpu.fetch_max((now - ran).as_nanos() as u64, Ordering::Relaxed);
            self.wall.fetch_max((at - since).as_nanos() as u64, Ordering::Relaxed);
            (ran, since) = (now, at);
        }
    }

    /// What was longest while `what` went on, of five times.
    async fn during(&self, what: &str, mut happens: impl AsyncFnMut(usize)) {
        let mut seen = [const { Vec::new() }; 3];
        for time in 0..5 {
            self.cpu.store(0, Ordering::Relaxed);
            self.wall.store(0, Ordering::Relaxed);
            let began = Instant::now();
            happens(time).await;
            let took = began.elapsed().as_nanos() as u64;
            // What is freed or judged again comes behind it.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            let times = [self.cpu.load(Ordering::Relaxed), self.wall.load(Ordering::Relaxed), took];
            seen.iter_mut().zip(times).for_each(|(seen, time)| seen.push(time));
        }
        let [cpu, wall, took] = seen.map(|mut times| {
            times.sort_unstable();
            [times[0], times[2], times[4]].map(|ns| format!("{:.2}", ns as f64 / 1e6)).join(" ")
        });
        println!("{what}: cpu {cpu} ms; wall {wall} ms; took {took} ms");
    }
}

/// One request after the other on a connection, until told to stop; each must be answered with 200.
fn visit(
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    head: impl Fn(usize) -> String + Send + 'static,
) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let (mut buffer, mut count) = ([0; 4096], 0);
        while !stop.load(Ordering::Relaxed) {
            stream.write_all(head(count).as_bytes()).unwrap();
            let mut have = 0;
            while !buffer[..have].ends_with(b"\r\n\r\nok") {
                let read = stream.read(&mut buffer[have..]).unwrap();
                assert!(read > 0, "closed after {}", String::from_utf8_lossy(&buffer[..have]));
                have += read;
            }
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..have]));
            count += 1;
        }
        count
    })
}

async fn scenario(running: &Running, bundle: &Bundle, watch: &Watch) {
    let shared = &running.shared;
    let reload = async || {
        let report = shared.asks.ask(false).await.unwrap();
        // The watch over the files may have been first.
        assert!(matches!(report.verdict, Verdict::Reloaded | Verdict::Unchanged), "{}", report.text);
    };
    watch.during("nothing but requests", async |_| {}).await;
    let tenants_as_they_were = async |mark| {
        bundle.write("headers.yaml", &headers(mark + 1));
        reload().await;
    };
    watch.during("reload, tenants as they were", tenants_as_they_were).await;
    let a_tenant_more = async |more| {
        bundle.write("tenants.yaml", &tenants(TENANTS + 1 + more));
        reload().await;
    };
    watch.during("reload, a tenant more", a_tenant_more).await;
    let sweep = async |_| {
        let quotas = running.quotas.clone();
        tokio::task::spawn_blocking(move || quotas.sweep()).await.unwrap();
    };
    watch.during("sweep of the limits", sweep).await;
    let sweep = async |_| {
        let revocations = shared.revocations.clone();
        tokio::task::spawn_blocking(move || revocations.sweep()).await.unwrap();
    };
    watch.during("sweep of the marks", sweep).await;
    let other_keys = async |time: usize| {
        let other = TokenKey::new(&format!("k{}", time + 2));
        bundle.write("jwks.json", &TokenKey::set(&[&bundle.key, &other]));
        reload().await;
    };
    watch.during("another key set", other_keys).await;
    watch.during("three seconds of audit segments", async |_| tokio::time::sleep(Duration::from_secs(3)).await).await;
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What a step takes of this thread, the least of several runs, in milliseconds.
fn step(mut run: impl FnMut(usize) -> Duration) -> String {
    let least = (1..6).map(&mut run).min().unwrap();
    format!("{:8.2}", least.as_secs_f64() * 1e3)
}

/// What it takes, without what freeing its result does.
fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let began = cpu();
    let result = run();
    let took = cpu() - began;
    drop(result);
    took
}

/// What the parts of a reload take, by the number of tenants.
fn steps(bundle: &Bundle) {
    let config = bundle.path("gateway.yaml");
    let parsed = Parsed::default();
    let world = World { env: &|_| None, certificates: &|_| Ok(()), purpose: Purpose::Run };
    let load =
        || Snapshot::load_again(&config, &world, &parsed).unwrap_or_else(|problems| panic!("{}", problems.text()));
    println!("tenants  all files  nothing   a header  a tenant  compare   keep      free");
    for all in [10, 1_000, 10_000, 100_000] {
        bundle.write("tenants.yaml", &tenants(all));
        let whole = step(|_| timed(|| check::load(&config, Purpose::Run).unwrap()));
        let before = load();
        let nothing = step(|_| timed(load));
        let header = step(|mark| {
            bundle.write("headers.yaml", &headers(mark));
            timed(load)
        });
        let tenant = step(|more| {
            bundle.write("tenants.yaml", &tenants(all + more));
            timed(load)
        });
        let after = load();
        let compare = step(|_| timed(|| loosened(&before.snapshot, &after.snapshot)));
        let keep = step(|_| timed(|| after.bundle.keep(bundle.root()).unwrap()));
        let free = step(|_| {
            let Loaded { snapshot, .. } = load();
            timed(|| drop(snapshot))
        });
        println!("{all:7} {whole}  {nothing}  {header}  {tenant}  {compare}  {keep}  {free}   ms");
    }
}

fn main() {
    moat::serve::tls::install_provider();
    let mut bundle = Bundle::empty();
    bundle.listeners.clear();
    bundle.write("gateway.yaml", &GATEWAY.replace("UPSTREAM", &slow_at_times().to_string()));
    bundle.write("headers.yaml", &headers(0));
    bundle.write(
        "limits.yaml",
        "version: 1\nlimits: {many: {key: [client.ip_prefix], rate: 100000/s, burst: 1000000}}\n",
    );
    bundle.write("tenants.yaml", &tenants(TENANTS));
    let config = bundle.path("gateway.yaml");
    steps(&bundle);
    bundle.write("tenants.yaml", &tenants(TENANTS));
    let began = Instant::now();
    let loaded = check::load(&config, Purpose::Run).unwrap_or_else(|problems| panic!("{}", problems.text()));
    println!("{TENANTS} tenants are loaded in {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(measure(&config, loaded.snapshot, &bundle));
    runtime.shutdown_background();
}

async fn measure(config: &Path, snapshot: Snapshot, bundle: &Bundle) {
    let running = Running::start(snapshot, None, Inherited::none()).await.unwrap();
    let address = running.addresses.iter().find(|(name, _)| &**name == "public").unwrap().1;
    let limits = moat::serve::run::limits(&running.shared.active().snapshot);
    for n in 0..KEYS {
        let client = IpAddr::V4(Ipv4Addr::from_bits(n | 1 << 30));
        running.quotas.take(&limits, Stage::Address, &KeyInput::of(client, "page"), &mut Dues::default());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let tokens: Vec<String> =
        (0..TOKENS).map(|n| Token::of("t1", &[]).claim("sub", format!("user-{n}")).signed(&bundle.key)).collect();
    let filled = Arc::new(AtomicU64::new(0));
    let count = filled.clone();
    let callers = visit(address, stop.clone(), move |n| {
        count.store(n as u64, Ordering::Relaxed);
        let token = &tokens[n % tokens.len()];
        format!("GET /api/x HTTP/1.1\r\nHost: t1.localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
    });
    while filled.load(Ordering::Relaxed) < TOKENS as u64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pages = visit(address, stop.clone(), |n| format!("GET /p{n} HTTP/1.1\r\nHost: t7.localhost\r\n\r\n"));
    let slow = visit(address, stop.clone(), |_| "GET /slow HTTP/1.1\r\nHost: t9.localhost\r\n\r\n".to_owned());
    let watch = Arc::new(Watch::default());
    let standing = tokio::spawn(watch.clone().stand());
    tokio::select! {
        ended = supervise(&running, loader(config), Hangups::new().unwrap()) => panic!("{ended:?}"),
        () = scenario(&running, bundle, &watch) => {}
    }
    watch.over.store(true, Ordering::Relaxed);
    standing.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let answered: usize = [callers, pages, slow].into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("{answered} requests meanwhile, all answered with 200");
}
