//! What many sessions and many revocations cost: memory for each, and CPU per request beside a gateway that has few.
//!
//! ```sh
//! cargo bench --bench state -- --sessions 1000000 --marks 10000000 --rounds 5 --requests 5000 --only redb,redis,postgres,marks
//! ```
//!
//! The gateway is a process of its own with one worker, over TLS; `--gateway PATH` names another build of it. Stores are filled by
//! the facades that the gateway has, with sessions that it could have opened. CPU is run time of all threads of the gateway
//! (`/proc/PID/task/*/schedstat`) over the requests of the same window, writes behind answers included; arms alternate inside
//! each round, so that other programs on the machine trouble all of them alike. Needs `redis-server` and PostgreSQL, as
//! `scripts/test` installs them, and for the whole of it 8 GB of memory and 4 GB of disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement that cannot go on should stop where it stands"
)]

mod fill;
mod gateway;
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod load;

use fill::Store;
use gateway::Gateway;
use harness::Token;
use load::{Application, Load};
use std::path::PathBuf;
use std::time::Duration;

/// Sessions of the gateway that has few: enough that each of a round is new to it.
const FEW: usize = 25_000;

struct Args {
    sessions: usize,
    marks: usize,
    rounds: usize,
    requests: usize,
    only: Vec<String>,
    gateway: PathBuf,
}

impl Args {
    fn read() -> Args {
        let mut args = Args {
            sessions: 1_000_000,
            marks: 10_000_000,
            rounds: 5,
            requests: 5_000,
            only: ["redb", "redis", "postgres", "marks"].map(str::to_owned).to_vec(),
            gateway: env!("CARGO_BIN_EXE_moat").into(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--sessions" => args.sessions = value().parse().unwrap(),
                "--marks" => args.marks = value().parse().unwrap(),
                "--rounds" => args.rounds = value().parse().unwrap(),
                "--requests" => args.requests = value().parse().unwrap(),
                "--only" => args.only = value().split(',').map(str::to_owned).collect(),
                "--gateway" => args.gateway = value().into(),
                // What cargo itself says.
                "--bench" => {}
                other => panic!("`{other}` is no option"),
            }
        }
        args
    }
}

/// CPU of one arm, nanoseconds a request, one figure a round.
#[derive(Default)]
struct Arm(Vec<f64>);

impl Arm {
    fn median(&self) -> f64 {
        median(&self.0)
    }

    /// `12.3 us (11.9 to 13.0)`
    fn text(&self) -> String {
        let (low, high) = self.0.iter().fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
        format!("{:.1} us ({:.1} to {:.1})", self.median() / 1e3, low / 1e3, high / 1e3)
    }

    /// Median of the ratios to another arm in the same round.
    fn over(&self, other: &Arm) -> f64 {
        median(&self.0.iter().zip(&other.0).map(|(one, two)| one / two).collect::<Vec<_>>())
    }
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// One arm of one round.
async fn measure(gateway: &Gateway, load: &mut Load, requests: Vec<String>, arm: &mut Arm) {
    let count = requests.len() as f64;
    load.connect(gateway).await;
    let before = gateway.settled_cpu_ns().await;
    load.send(requests).await;
    let after = gateway.settled_cpu_ns().await;
    arm.0.push((after - before) as f64 / count);
}

/// Two gateways over stores of one kind: one with few sessions, one with many.
async fn sessions(args: &Args, name: &'static str, application: &Application) {
    let (few, many) = (Store::start(name).await, Store::start(name).await);
    let (first, second) = (Gateway::bundle(application, &few), Gateway::bundle(application, &many));
    let few_handles = fill::sessions(&few, &first, FEW.max(args.rounds * args.requests)).await;
    let empty = many.bytes(&second).await;
    let began = std::time::Instant::now();
    let handles = fill::sessions(&many, &second, args.sessions).await;
    let took = began.elapsed();
    let each = (many.bytes(&second).await - empty) as f64 / handles.len() as f64;
    println!("\n{name}: {} sessions filled in {took:.0?}, {each:.0} bytes each in the engine", handles.len());
    let (small, large) = (Gateway::start(args, first).await, Gateway::start(args, second).await);
    println!("at the start: {} MiB resident with few, {} MiB with many", small.resident_mib(), large.resident_mib());

    let mut load = Load::default();
    let mut arms = [(); 7].map(|()| Arm::default());
    let token = small.token();
    // Scattered over all of them: a step without a common divisor.
    let step = handles.len() / 5 * 2 + 1;
    let scattered = |round: usize| {
        let picked = (0..args.requests).map(|n| (round * args.requests + n) * step % handles.len());
        picked.map(|n| load::cookie(&handles[n])).collect::<Vec<_>>()
    };
    let slice = |round: usize| {
        let from = round * args.requests;
        few_handles[from..from + args.requests].iter().map(|handle| load::cookie(handle)).collect::<Vec<_>>()
    };
    for round in 0..args.rounds {
        let mut plan = vec![
            (0, &small, vec![load::bearer(&token); args.requests]),
            (1, &small, vec![load::cookie(&few_handles[0]); args.requests]),
            (2, &large, vec![load::cookie(&handles[0]); args.requests]),
            (3, &small, slice(round)),
            (4, &large, scattered(round)),
        ];
        // Read a round ago: long enough that it is read again, and nothing is written.
        if round > 0 {
            plan.extend([(5, &small, slice(round - 1)), (6, &large, scattered(round - 1))]);
        }
        for (at, gateway, requests) in plan {
            measure(gateway, &mut load, requests, &mut arms[at]).await;
        }
        gateway::pause(Duration::from_secs(5)).await;
    }
    // The first round warms everything up.
    for arm in arms.iter_mut().take(5) {
        arm.0.remove(0);
    }
    let [bearer, cached, cached_many, new, new_many, again, again_many] = arms;
    println!("after the load: {} MiB resident with few, {} MiB with many", small.resident_mib(), large.resident_mib());
    println!("a remembered bearer token                    {}", bearer.text());
    for (what, few, many) in [
        ("cookie, the session in memory", &cached, &cached_many),
        ("cookie, the session read", &again, &again_many),
        ("cookie, the session read and its use written", &new, &new_many),
    ] {
        println!("{what:45}{}, {}, {:.2}x", few.text(), many.text(), many.over(few));
    }
    println!("cookie in memory over bearer                 {:.2}x", cached.over(&bearer));
}

/// A gateway with no marks and one with very many.
async fn marks(args: &Args, application: &Application) {
    let (few, many) = (Store::start("postgres").await, Store::start("postgres").await);
    let (first, second) = (Gateway::bundle(application, &few), Gateway::bundle(application, &many));
    let took = fill::marks(&many, &second, args.marks).await;
    println!("\n{} marks made in {took:.0?}", args.marks);
    let small = Gateway::start(args, first).await;
    let began = std::time::Instant::now();
    let large = Gateway::start(args, second).await;
    let (took, without, with) = (began.elapsed(), small.resident_mib(), large.resident_mib());
    let each = with.saturating_sub(without) as f64 * f64::from(1 << 20) / args.marks as f64;
    println!("resident: {without} MiB without marks, {with} MiB with, {each:.1} bytes each; all read after {took:.0?}");
    let mut load = Load::default();
    let [mut bearer, mut bearer_many, mut cookie, mut cookie_many] = [(); 4].map(|()| Arm::default());
    let tokens = (small.token(), large.token());
    let handles = (small.open(&tokens.0).await, large.open(&tokens.1).await);
    for round in 0..=args.rounds {
        let (mut a, mut b, mut c, mut d) = (Arm::default(), Arm::default(), Arm::default(), Arm::default());
        measure(&small, &mut load, vec![load::bearer(&tokens.0); args.requests], &mut a).await;
        measure(&large, &mut load, vec![load::bearer(&tokens.1); args.requests], &mut b).await;
        measure(&small, &mut load, vec![load::cookie(&handles.0); args.requests], &mut c).await;
        measure(&large, &mut load, vec![load::cookie(&handles.1); args.requests], &mut d).await;
        if round > 0 {
            for (arm, one) in [(&mut bearer, a), (&mut bearer_many, b), (&mut cookie, c), (&mut cookie_many, d)] {
                arm.0.extend(one.0);
            }
        }
    }
    println!("bearer, remembered      {}, {}, {:.2}x", bearer.text(), bearer_many.text(), bearer_many.over(&bearer));
    println!("cookie, in memory       {}, {}, {:.2}x", cookie.text(), cookie_many.text(), cookie_many.over(&cookie));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args = Args::read();
    let application = Application::start().await;
    for name in ["redb", "redis", "postgres"] {
        if args.only.iter().any(|only| only == name) {
            sessions(&args, name, &application).await;
        }
    }
    if args.only.iter().any(|only| only == "marks") {
        marks(&args, &application).await;
    }
}

/// A token of a user, as long as they come.
fn token_of(bundle: &harness::Bundle) -> String {
    Token::of("acme", &["cashier", "viewer", "finance"]).signed(&bundle.key)
}
