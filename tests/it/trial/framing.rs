//! Ambiguous requests over HTTP/1: the application sees one well-formed request for each that is answered, or none.
mod chunks;
mod codings;
mod collected;
mod heads;
mod hosts;
mod lengths;
mod lines;
mod sequences;

use super::backend::{Recorder, Recorder2};
use super::case::{Case, Results};
use super::readers::{ALL, Read, STRICT};
use super::stage::{Doors, Way, bundle, each, entries_by_id, judge, number_of, play};
use crate::harness::Gateway;
use std::collections::{HashMap, HashSet};

/// Every case of every class.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for class in [
        lengths::cases(),
        codings::cases(),
        chunks::cases(),
        heads::cases(),
        lines::cases(),
        hosts::cases(),
        sequences::cases(),
        collected::cases(),
    ] {
        all.extend(class);
    }
    all
}

/// How many requests of each case reached the application, by all readers alike.
fn arrivals(kind: char, transcripts: &[Vec<u8>], results: &mut Results) -> HashMap<usize, usize> {
    let mut found = HashMap::new();
    for bytes in transcripts {
        let (reads, left) = STRICT.all(bytes);
        let mut wrong: Vec<String> = left.into_iter().map(|why| format!("the strict reader finds {why}")).collect();
        for habits in &ALL[1..] {
            let (others, left) = habits.all(bytes);
            wrong.extend(left.map(|why| format!("the reader {} finds {why}", habits.name)));
            if !others.iter().map(Read::gist).eq(reads.iter().map(Read::gist)) {
                wrong.push(format!("the reader {} finds {others:?} instead of {reads:?}", habits.name));
            }
        }
        for read in &reads {
            wrong.extend(forged_trailers(read));
            match number_of(&read.target) {
                Some(number) if read.target[1..].starts_with(kind) => *found.entry(number).or_default() += 1,
                Some(_) => {}
                None => wrong.push(format!("a request of no case: {read:?}")),
            }
        }
        if !wrong.is_empty() {
            wrong.push(format!("in {}", bytes.escape_ascii()));
            results.failures.extend(wrong);
        }
    }
    found
}

/// Trailers that would frame, route or name, had they reached the application.
fn forged_trailers(read: &Read) -> impl Iterator<Item = String> {
    let good = |name: &str| matches!(name, "x-checksum" | "grpc-status");
    read.trailers.iter().filter(move |(name, _)| !good(name)).map(|trailer| format!("the trailer {trailer:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ambiguous_request_is_one_request_or_none() {
    let cases = cases();
    let names: HashSet<String> = cases.iter().map(|case| format!("{} / {}", case.class, case.name)).collect();
    let twice = |case: &Case| format!("{} / {}", case.class, case.name);
    let mut seen = HashSet::new();
    let twins: Vec<String> = cases.iter().map(twice).filter(|name| !seen.insert(name.clone())).collect();
    assert_eq!((names.len(), &*twins), (cases.len(), [].as_slice()), "names are unique");

    let (one, two) = (Recorder::start().await, Recorder2::start().await);
    let mut gateway = Gateway::start(bundle(one.address, two.address)).await;
    let doors = Doors::of(&gateway);
    let mut played = Vec::new();
    for way in Way::ALL {
        played.push((way, play(&doors, &cases, way).await));
    }
    assert_eq!(gateway.stop(), Some(0));

    let mut entries = entries_by_id(&gateway);
    let mut results = Results::default();
    let transcripts = one.transcripts();
    for (way, played) in &played {
        let arrived = match way {
            Way::Http2 => {
                let mut found = HashMap::new();
                for read in two.seen() {
                    results.failures.extend(forged_trailers(&read));
                    *found.entry(number_of(&read.target).unwrap()).or_default() += 1;
                }
                found
            }
            Way::Tls | Way::Plain => arrivals(way.kind(), &transcripts, &mut results),
        };
        for one in played {
            judge(one, arrived.get(&one.number).copied().unwrap_or(0), &mut entries, &mut results);
        }
    }
    // Entries that no answer names: of requests that were cut off, and of none else.
    let more: Vec<_> = entries.into_values().flatten().map(|entry| entry.to_string()).collect();
    results.failures.extend(more.iter().map(|entry| format!("an entry without answer: {entry}")));
    println!("{} cases, each on {} ways", cases.len(), Way::ALL.len());
    assert!(cases.len() >= 1200, "{} cases", cases.len());
    results.judge("framing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_segment_ends_changes_nothing() {
    let samples = sequences::samples();
    let (one, two) = (Recorder::start().await, Recorder2::start().await);
    let mut gateway = Gateway::start(bundle(one.address, two.address)).await;
    let doors = Doors::of(&gateway);
    let cuts: Vec<(Case, usize)> =
        samples.iter().flat_map(|case| (1..case.bytes.len()).map(|cut| (case.clone(), cut))).collect();
    let count = cuts.len();
    let played = each(cuts, move |number, (case, cut)| {
        let doors = doors.clone();
        async move {
            let sent = case.at('p', number);
            let answer = doors.send(false, &[&sent[..cut], &sent[cut..]]).await;
            super::stage::Played { number, case, way: Way::Plain, sent, answer }
        }
    })
    .await;
    assert_eq!(gateway.stop(), Some(0));
    let mut results = Results::default();
    let mut entries = entries_by_id(&gateway);
    let arrived = arrivals('p', &one.transcripts(), &mut results);
    for one in &played {
        judge(one, arrived.get(&one.number).copied().unwrap_or(0), &mut entries, &mut results);
    }
    assert!(entries.is_empty(), "{entries:?}");
    assert!(count >= 500, "{count} cuts");
    results.judge("cuts");
}
