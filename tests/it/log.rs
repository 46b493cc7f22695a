//! The audit log as an SRE meets it: one entry per request, a chain that shows tampering, recovery after a power cut.
use crate::harness::{Gateway, entries, moat, standard, with};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const BOOKINGS: &str = "https://acme.localhost/api/bookings";

/// The outcome entries of requests.
fn requests(gateway: &Gateway) -> Vec<Value> {
    entries(gateway).into_iter().filter(|entry| entry["kind"] == "request").collect()
}

fn segments(gateway: &Gateway) -> Vec<PathBuf> {
    let folder = fs::read_dir(gateway.bundle.path("state/audit")).unwrap();
    let mut all: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    all.sort();
    all
}

fn verify(gateway: &Gateway) -> crate::harness::Output {
    moat(gateway.bundle.root(), &["audit", "verify", "state/audit"])
}

#[tokio::test]
async fn each_request_has_exactly_one_entry_and_writes_an_intent_before() {
    let (mut gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    let mut ids = Vec::new();
    for reply in [
        gateway.get(BOOKINGS).bearer(&token).send().await,
        gateway.get(BOOKINGS).send().await,
        gateway.post(BOOKINGS, "{}").bearer(&token).send().await,
        gateway.get("https://acme.localhost/a%2fb").send().await,
    ] {
        ids.push(reply.header("x-request-id").unwrap());
    }
    gateway.raw("acme.localhost", b"BROKEN\r\n\r\n").await;
    assert_eq!(gateway.stop(), Some(0));
    let requests = requests(&gateway);
    assert_eq!(requests.len(), 5, "{requests:#?}");
    for id in &ids {
        assert_eq!(requests.iter().filter(|entry| entry.to_string().contains(id)).count(), 1, "{id}");
    }
    let intents: Vec<Value> = entries(&gateway).into_iter().filter(|entry| entry["kind"] == "intent").collect();
    assert_eq!(intents.len(), 1, "only the POST changes state: {intents:#?}");
    assert!(intents[0].to_string().contains(&ids[2]) && intents[0].to_string().contains("booking.write"));
    let verified = verify(&gateway);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test]
async fn no_token_and_no_query_value_is_in_the_log() {
    let (mut gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    gateway.get("https://acme.localhost/api/bookings?card=4111111111111111").bearer(&token).send().await;
    gateway.get(BOOKINGS).bearer("secret-that-is-no-token").send().await;
    gateway.stop();
    let mut text: String = segments(&gateway).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.push_str(&gateway.log_lines().join("\n"));
    let signature = token.rsplit('.').next().unwrap();
    for secret in [signature, "4111111111111111", "secret-that-is-no-token", "session-of-acme"] {
        assert!(!text.contains(secret), "`{secret}` was written down");
    }
}

#[tokio::test]
async fn a_changed_removed_or_cut_entry_shows() {
    let (mut gateway, _upstream) = standard().await;
    for _ in 0..5 {
        gateway.get(BOOKINGS).send().await;
    }
    gateway.stop();
    let path = segments(&gateway).remove(0);
    // What an operator keeps elsewhere: without it, nobody could know of entries that were cut off with their heads.
    fs::copy(gateway.bundle.path("state/audit/head"), gateway.bundle.path("kept-head")).unwrap();
    let verify = |gateway: &Gateway| {
        moat(gateway.bundle.root(), &["audit", "verify", "state/audit", "--expect-head", "kept-head"])
    };
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without = |index: usize| {
        let left: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, line)| *line).collect();
        format!("{}\n", left.join("\n"))
    };
    for (what, text) in [
        ("changed", whole.replacen("session.missing", "session.invalid", 1)),
        ("removed", without(2)),
        ("cut", format!("{}\n", lines[..lines.len() - 2].join("\n"))),
    ] {
        assert_ne!(text, whole);
        fs::write(&path, &text).unwrap();
        let verified = verify(&gateway);
        assert_ne!(verified.code, Some(0), "{what}: {verified:?}");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(verify(&gateway).code, Some(0));
}

#[tokio::test]
async fn after_kill_nine_the_log_goes_on_where_it_was() {
    let (mut gateway, _upstream) = standard().await;
    for _ in 0..5 {
        gateway.get(BOOKINGS).send().await;
    }
    gateway.kill();
    // What a torn write leaves.
    let path = segments(&gateway).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"seq\":99,\"ti");
    fs::write(&path, &bytes).unwrap();
    let mut again = gateway.restart().await;
    again.get(BOOKINGS).send().await;
    assert_eq!(again.stop(), Some(0));
    let verified = verify(&again);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test]
async fn show_finds_a_request_by_its_id() {
    let (mut gateway, _upstream) = with(|_| ()).await;
    let id = gateway.get(BOOKINGS).send().await.header("x-request-id").unwrap();
    gateway.stop();
    let shown = moat(gateway.bundle.root(), &["audit", "show", "state/audit"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains(&id) || shown.stdout.contains("session.missing"), "{shown:?}");
}
