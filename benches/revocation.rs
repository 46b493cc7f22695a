//! What holding a credential against all that was ended costs, with nobody ended, a million and ten million marks; what
//! a mark takes, and what forgetting those that are over does.
//!
//! ```sh
//! cargo bench --bench revocation            # needs half a gigabyte
//! ```
#![allow(clippy::print_stdout, reason = "memory is printed beside the times")]

use criterion::{Criterion, criterion_group, criterion_main};
use decide::revocation::{Handles, Mark, NEVER, Scope, Source, Target, Within};
use moat::store::revocations::Table;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

/// Marks of sessions, as users and issuers end them.
fn fill(table: &Table, marks: std::ops::Range<u64>) {
    for number in marks {
        let sid = number.to_string();
        let target = Target::Session { issuer: "workforce", id: &sid };
        table.take(&Mark::of(&target, 1_000, 0, NEVER));
    }
}

/// Credentials of users who are not among them.
fn callers() -> Vec<Handles> {
    let of = |number: u32| {
        let (subject, sid) = (format!("user-{number}"), format!("session-{number}"));
        Handles::of(&Source {
            issuer: "workforce",
            subject: &subject,
            tenant: Some("acme"),
            token: None,
            session: Some(&sid),
            ..Source::default()
        })
    };
    (0..4096).map(of).collect()
}

fn check(c: &mut Criterion) {
    let callers = callers();
    let table = Table::new(7);
    let mut filled = 0;
    for marks in [0, 1_000_000, 10_000_000] {
        let before = resident();
        fill(&table, filled..marks);
        if let Some(each) = resident().saturating_sub(before).checked_div(marks - filled) {
            println!("{filled} to {marks} marks: {each} bytes each");
        }
        filled = marks;
        let mut at = 0;
        c.bench_function(&format!("check/{marks}-marks"), |b| {
            b.iter(|| {
                at = (at + 1) % callers.len();
                callers.get(at).map(|handles| handles.ended(500, |scope, handle| table.find(scope, black_box(handle))))
            });
        });
    }
    // A mark of the other kinds, so that each of them is looked at.
    table.take(&Mark::of(&Target::Subject { issuer: "w", subject: "s", within: Within::Anywhere }, 1, 0, NEVER));
    table.take(&Mark::of(&Target::Tenant { id: "t" }, 1, 0, NEVER));
    let began = Instant::now();
    let mut longest = (began, Duration::ZERO);
    table.sweep(1, || {
        let now = Instant::now();
        longest = (now, longest.1.max(now - longest.0));
    });
    let all: u64 = Scope::ALL.into_iter().map(|scope| table.count(scope)).sum();
    println!("a sweep of {all} marks takes {:?}, and locks a map for {:?} at most", began.elapsed(), longest.1);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = check
}
criterion_main!(benches);
