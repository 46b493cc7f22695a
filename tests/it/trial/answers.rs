//! Hostile answers: a response never reaches another client than the one that asked for it.
mod cases;

use super::case::Results;
use super::hostile::{Application, Hostile, Wanted};
use super::stage::{Answer, Doors, answers, bundle, each, entries_by_id};
use crate::harness::Gateway;
use bytes::Bytes;
use cases::{SECOND, cases};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What an HTTP/2 client got: the answer, or that there was none or not all of it.
type Got = Result<(http::response::Parts, Bytes), String>;

/// Clients of one tenant over one connection of HTTP/2.
struct Tenant {
    host: &'static str,
    doors: Doors,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Tenant {
    fn of(doors: &Doors, host: &'static str) -> Arc<Tenant> {
        Arc::new(Tenant { host, doors: doors.clone(), sender: Mutex::default() })
    }

    fn name(&self) -> &str {
        self.host.split('.').next().unwrap()
    }

    async fn sender(&self) -> SendRequest<Full<Bytes>> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return sender.clone();
        }
        let io = TokioIo::new(self.doors.http2(self.host).await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        kept.insert(sender).clone()
    }

    async fn ask(&self, method: &str, path: &str, token: &str) -> Got {
        let uri = format!("https://{}{path}", self.host);
        let request = Request::builder().method(method).uri(uri).header("x-token", token);
        let response = self.sender().await.send_request(request.body(Full::default()).unwrap()).await;
        let (head, body) = response.map_err(|e| e.to_string())?.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok((head, body))
    }

    /// What is wrong with the answer to a question of its own.
    async fn victim(&self, token: String) -> Option<String> {
        match self.ask("GET", "/v/", &token).await {
            Ok((head, body)) => {
                let own = format!("{} {token}", self.name());
                let good = head.status == 200 && body == own && !head.headers.contains_key("x-planted");
                (!good).then(|| format!("{} got {:?} {head:?} instead of {own}", self.host, body))
            }
            Err(why) => Some(format!("{} got nothing: {why}", self.host)),
        }
    }
}

fn get(method: &str, host: &str, path: &str, token: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\n{more}\r\n")
}

/// A victim over HTTP/1.1, on a connection of its own.
async fn old_victim(doors: &Doors, host: &str, token: String) -> Option<String> {
    let request = get("GET", host, "/v/", &token, "Connection: close\r\n");
    let came = doors.send(false, &[request.as_bytes()]).await;
    let all = came.as_ref().map_err(|_| "stays open".to_owned()).and_then(|bytes| answers(bytes));
    let own = format!("{} {token}", host.split('.').next().unwrap());
    match all.as_deref() {
        Ok([Answer { status: 200, body, .. }]) if *body == own => None,
        other => Some(format!("{host} got {other:?} instead of {own}")),
    }
}

/// What is wrong with what an HTTP/1.1 client got for a hostile answer, and for its next request on the connection.
fn judge_old(case: &Hostile, bytes: &[u8], token: &str) -> Result<&'static str, String> {
    let all = answers(bytes);
    let list = match (&all, &case.wants) {
        // It did not come whole, and whoever reads it sees that.
        (Err(_), Wanted::Cut | Wanted::Safe) => return Ok("cut"),
        (Ok(list), Wanted::Cut) if list.is_empty() => return Ok("cut"),
        (Err(why), _) => return Err(why.clone()),
        (Ok(list), _) => list,
    };
    let (first, rest) = list.split_first().ok_or("no answer")?;
    if let [second, ..] = rest
        && (second.status != 200 || second.body != format!("acme {token}"))
    {
        return Err(format!("the next request got {second:?}"));
    }
    if list.len() > 2 || list.iter().any(|answer| answer.field("x-planted").is_some()) {
        return Err(format!("an answer that nobody asked for: {list:?}"));
    }
    if list.iter().any(|answer| answer.field("x-content-type-options").is_none()) {
        return Err(format!("undressed: {list:?}"));
    }
    // The answer to HEAD has no body to say so.
    let told = first.code().as_deref() == Some("upstream.unreachable") || first.body.is_empty();
    let refused = first.status == 502 && told;
    match &case.wants {
        Wanted::Refused if refused => Ok("refused"),
        Wanted::Passed(body) if !refused && first.body == *body => Ok("passed"),
        Wanted::Safe => Ok("passed"),
        wanted => Err(format!("{wanted:?} is wanted, not {first:?}")),
    }
}

/// The same of an HTTP/2 client, which cannot be sent half an answer that looks whole: its stream is reset.
fn judge_new(case: &Hostile, got: &Got) -> Result<&'static str, String> {
    let (head, body) = match (got, &case.wants) {
        (Ok((head, body)), _) => (head, body),
        // What is more than a client of its kind reads.
        (Err(_), Wanted::Passed(_)) if case.bytes.len() > 60 << 10 => return Ok("cut"),
        (Err(_), Wanted::Cut | Wanted::Safe) => return Ok("cut"),
        (Err(why), wanted) => return Err(format!("{wanted:?} is wanted, not {why}")),
    };
    let field = |name: &str| head.headers.get(name).is_some();
    if field("x-planted") || !field("x-content-type-options") {
        return Err(format!("an answer that nobody asked for, or undressed: {head:?}"));
    }
    let told = body.is_empty() || body.windows(20).any(|text| text == b"upstream.unreachable");
    let refused = head.status == 502 && told;
    match &case.wants {
        Wanted::Refused | Wanted::Cut if refused => Ok("refused"),
        Wanted::Passed(wanted) if !refused && body == wanted.as_bytes() => Ok("passed"),
        Wanted::Safe => Ok("passed"),
        wanted => Err(format!("{wanted:?} is wanted, not {head:?} {body:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_answer_reaches_its_asker_or_nobody() {
    let all = cases();
    let mut names = HashSet::new();
    let twice: Vec<_> = all.iter().filter(|case| !names.insert((case.class, case.name.clone()))).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(all.len() >= 150, "{} cases", all.len());

    let application = Application::start(all.clone()).await;
    let bundle = bundle(application.address, application.address);
    bundle.replace(
        "connect_timeout: 1s, first_byte_timeout: 8s, idle_timeout: 1s, total_timeout: 20s}\n  two",
        "connect_timeout: 5s, first_byte_timeout: 5s, idle_timeout: 2s, total_timeout: 20s}\n  two",
    );
    let mut gateway = Gateway::start(bundle).await;
    let doors = Doors::of(&gateway);
    let (acme, globex) = (Tenant::of(&doors, "acme.localhost"), Tenant::of(&doors, "globex.localhost"));
    let played = {
        let (doors, acme, globex) = (doors.clone(), acme.clone(), globex.clone());
        each(all.clone(), move |number, case| {
            let (doors, acme, globex) = (doors.clone(), acme.clone(), globex.clone());
            async move {
                let path = format!("/t/{number:04}");
                let token = format!("attacker-{number}");
                let asked = get(case.method, "acme.localhost", &path, &token, "")
                    + &get("GET", "acme.localhost", "/v/", &token, "Connection: close\r\n");
                let old = doors.send(false, &[asked.as_bytes()]).await;
                let mut wrong = Vec::new();
                let first = tokio::join!(
                    old_victim(&doors, "globex.localhost", format!("old-{number}")),
                    globex.victim(format!("new-{number}")),
                    acme.victim(format!("other-{number}"))
                );
                wrong.extend([first.0, first.1, first.2].into_iter().flatten());
                let new = acme.ask(case.method, &path, &token).await;
                let second = tokio::join!(
                    old_victim(&doors, "globex.localhost", format!("old-again-{number}")),
                    globex.victim(format!("new-again-{number}"))
                );
                wrong.extend([second.0, second.1].into_iter().flatten());
                (old, new, token, wrong)
            }
        })
        .await
    };
    assert_eq!(gateway.stop(), Some(0));
    let entries = entries_by_id(&gateway);

    let (mut results, mut newer) = (Results::default(), Results::default());
    for (case, (old, new, token, wrong)) in all.iter().zip(played) {
        let tell = |why: String| {
            format!(
                "{} / {}: {why}\n    it said {}",
                case.class,
                case.name,
                case.bytes.escape_ascii().to_string().chars().take(600).collect::<String>()
            )
        };
        let mut failures: Vec<String> = wrong.into_iter().map(tell).collect();
        let (bytes, open) = match &old {
            Ok(bytes) => (bytes, false),
            Err(bytes) => (bytes, true),
        };
        if open {
            failures.push(tell("the connection stays open".to_owned()));
        }
        let outcome = judge_old(case, bytes, &token);
        for answer in answers(bytes).unwrap_or_default() {
            let id = answer.field("x-request-id").unwrap_or_default();
            if entries.get(id).map(Vec::len) != Some(1) {
                failures.push(tell(format!("not one entry for {answer:?}")));
            }
        }
        failures.extend(outcome.as_ref().err().cloned().map(tell));
        results.add(case.class, outcome == Ok("passed"), outcome == Ok("refused"), failures);
        let outcome = judge_new(case, &new);
        let mut failures_of_new = Vec::new();
        if let Ok((head, _)) = &new {
            let id = head.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
            if entries.get(id).map(Vec::len) != Some(1) {
                failures_of_new.push(tell(format!("not one entry for {head:?}")));
            }
        }
        failures_of_new.extend(outcome.as_ref().err().cloned().map(tell));
        newer.add(case.class, outcome == Ok("passed"), outcome == Ok("refused"), failures_of_new);
    }
    results.judge("answers");
    newer.judge("answers-h2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_body_that_was_not_read_is_nobodys() {
    let case = Hostile {
        class: "bodies",
        name: "not read".to_owned(),
        method: "DELETE",
        bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde".to_vec(),
        closes: false,
        wants: Wanted::Passed("abcde".to_owned()),
    };
    let planted = Hostile { bytes: SECOND.into(), ..case.clone() };
    let application = Application::start(vec![case, planted]).await;
    let gateway = Gateway::start(bundle(application.address, application.address)).await;
    let doors = Doors::of(&gateway);
    let hidden = get("GET", "acme.localhost", "/t/0001", "attacker", "");
    for round in 0..50 {
        for method in ["DELETE", "OPTIONS"] {
            let length = format!("Content-Length: {}\r\nConnection: close\r\n", hidden.len());
            let asked = get(method, "acme.localhost", "/t/0000", "attacker", &length) + &hidden;
            let segments = [asked.as_bytes()];
            let token = format!("victim-{round}-{method}");
            let victim = old_victim(&doors, "globex.localhost", token.clone());
            let (came, before) = tokio::join!(doors.send(false, &segments), victim);
            let after = old_victim(&doors, "globex.localhost", token).await;
            assert_eq!((before, after), (None, None), "{method} {round}");
            let came = answers(&came.unwrap()).unwrap();
            assert!(matches!(&came[..], [one] if one.body == "abcde"), "{came:?}");
        }
    }
}
