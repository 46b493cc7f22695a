//! Requests of HTTP/2 on their way to an application that speaks HTTP/1: it gets exactly one well-formed request, or none.
//!
//! The families follow RFC 9113, 8.1 to 8.5 and 10.3, and what is known of requests that were split or smuggled by
//! rewriting them for HTTP/1 (CVE-2021-21295, CVE-2021-21409, CVE-2021-33193).
mod cases;
mod recorder;

use super::wire::*;
use crate::harness::{Bundle, Gateway, outcomes};
use cases::Fate::{Arrives, Either, Stopped};
use cases::*;
use recorder::Recorder;

async fn gateway(recorder: &Recorder) -> Gateway {
    let bundle = Bundle::standard(recorder.address);
    bundle.route(
        "  sink:\n    match: {hosts: [\"*.localhost\"], paths: [\"/case/**\"], methods: [POST]}\n    upstream: app\n    \
         public: \"a test\"\n    csrf: off\n    headers: api-json\n    body: {max: 64KiB}",
    );
    Gateway::start(bundle).await
}

/// Sends each case and holds what the application got, and what was written down, against its fate.
async fn run(cases: Vec<Case>) {
    let recorder = Recorder::start().await;
    let gateway = gateway(&recorder).await;
    let mut peer = Peer::open(&gateway).await;
    let mut outcomes_of = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        // What breaks the protocol is bounded for each connection.
        if peer.over() || number % 8 == 0 {
            peer = Peer::open(&gateway).await;
        }
        let stream = peer.stream();
        peer.send(&case.frames(number, stream)).await;
        outcomes_of.push(peer.outcome(stream).await);
    }
    let all = cases.len();
    gateway.until("each case has its entry", async |gateway| outcomes(gateway).len() >= all).await;
    assert_eq!(outcomes(&gateway).len(), all, "one entry for each, whatever it was");
    drop((peer, gateway));
    let got = recorder.all().await;
    let mut wrong: Vec<_> =
        got.iter().filter(|got| got.case().is_none_or(|n| n >= all)).map(|got| format!("{got:?}")).collect();
    for (number, (case, outcome)) in cases.iter().zip(&outcomes_of).enumerate() {
        let mine: Vec<_> = got.iter().filter(|got| got.case() == Some(number)).collect();
        let answered = outcome.starts_with('2');
        let good = match (case.fate, &mine[..]) {
            (Stopped | Either, []) => !answered,
            (Arrives, [one]) => answered && one.is_ours() && one.body == case.body.clone().unwrap_or_default(),
            (Either, [one]) => one.is_ours(),
            (Stopped, _) | (Arrives, []) | (Arrives | Either, [_, _, ..]) => false,
        };
        if !good {
            wrong.push(format!(
                "{}: {:?} was meant, {outcome}, and the application got {mine:?}",
                case.about, case.fate
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {all} went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn no_control_character_splits_a_request() {
    run(controls()).await;
}

#[tokio::test]
async fn fields_that_frame_or_belong_to_the_connection_never_arrive() {
    run(fields_of_the_connection()).await;
    run(names()).await;
}

#[tokio::test]
async fn a_length_that_does_not_fit_never_arrives() {
    run(lengths()).await;
}

#[tokio::test]
async fn one_authority_one_target_one_method_or_none() {
    run(pseudo_fields()).await;
    run(authorities()).await;
    run(targets()).await;
}

#[tokio::test]
async fn trailers_of_a_request_are_refused() {
    run(trailers()).await;
}

#[test]
fn there_are_enough_of_them() {
    let all = [controls(), fields_of_the_connection(), names(), pseudo_fields(), lengths(), authorities(), targets()];
    let count = all.iter().map(Vec::len).sum::<usize>() + trailers().len();
    assert!(count >= 450, "{count}");
}
