//! Rings against a real HTTPS server on loopback that does what each test tells it to.
mod server;

use self::server::{DEFAULT_KEY, OPEN, Say, Server, certificates, dev_key, exchange, keys};
use super::tend::wall_s;
use super::*;
use crate::cli::demo::idp;
use crate::cli::token::{DEV_AUDIENCE, DevKey, Grant, mint};
use bytes::Bytes;
use decide::facts::{Answer, Carrier, Credential};
use decide::token::{Algorithm, ClaimName, ClaimNames, IssuerRules};
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Later than any `min_interval` of these tests, and earlier than any `max_stale`.
const HOURS: Duration = Duration::from_secs(2 * 3600);

type Rings = HashMap<Arc<str>, Arc<KeyRing>>;

async fn one(rings: &KeyRings, issuer: Issuer, before: Option<&Rings>) -> Rings {
    rings.rings(&[Arc::new(issuer)], 1000, before).await
}

/// One word and the cause.
async fn at(ring: &KeyRing, token: &str, later: Duration) -> String {
    match ring.inner.judge(token, wall_s(), Instant::now() + later).await {
        Judgement::Signed(identity) => format!("signed for {}", identity.tenant.as_deref().unwrap_or("nobody")),
        Judgement::Invalid(cause) => format!("invalid: {cause}"),
        Judgement::Unavailable(cause) => format!("unavailable: {cause}"),
    }
}

async fn now(ring: &Arc<KeyRing>, token: &str) -> String {
    at(ring, token, Duration::ZERO).await
}

#[tokio::test]
async fn keys_come_from_a_url_and_from_discovery() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    for issuer in [server.by_url(), server.issuer(KeySource::Discovery)] {
        let ring = server.ring(issuer).await;
        let status = ring.status();
        assert!(status.usable && status.last_success_s.is_some(), "{status:?}");
        assert_eq!((status.keys, status.generation, status.failure), (1, 1, None));
        assert_eq!(now(&ring, &server.token(&DEFAULT_KEY)).await, "signed for acme");
        match ring.verify(&server.token(&DEFAULT_KEY), wall_s(), Carrier::Bearer).await {
            Answer::Credential(Credential::Valid { carrier: Carrier::Bearer, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn answers_that_are_not_a_key_set() {
    let server = Server::start(Say::Nothing).await;
    for (say, cause) in [
        (Say::Status(404), "answered 404"),
        (Say::Status(500), "answered 500"),
        (Say::Status(204), "answered 204"),
        (Say::Redirect, "answered 302"),
        (Say::Bytes(0), "not a strict JSON object"),
        (Say::Bytes(256 * 1024), "not a strict JSON object"),
        (Say::Bytes(256 * 1024 + 1), "length limit exceeded"),
        (Say::Keys("<html>".into()), "not a strict JSON object"),
        (Say::Keys("{\"keys\":[]}".into()), "no usable key"),
        (Say::Nothing, "keys: "),
    ] {
        server.say(say.clone());
        let ring = server.ring(server.by_url()).await;
        let verdict = now(&ring, &server.token(&DEFAULT_KEY)).await;
        assert!(verdict.starts_with("unavailable: ") && verdict.contains(cause), "{say:?}: {verdict}");
        assert!(!ring.status().usable);
    }
    server.say(Say::Keys(keys(&[&DEFAULT_KEY])));
    let mut wrong_algorithm = server.by_url();
    wrong_algorithm.rules.algorithms = vec![Algorithm::Rs256];
    let verdict = now(&server.ring(wrong_algorithm).await, &server.token(&DEFAULT_KEY)).await;
    assert!(verdict.starts_with("unavailable: ") && verdict.contains("no key for an algorithm"), "{verdict}");
}

#[tokio::test]
async fn discovery_that_is_not_believed() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    let url = server.url.clone();
    let good = format!("\"jwks_uri\":\"{url}keys\"");
    for (document, cause) in [
        (format!("{{\"issuer\":\"https://other.example/\",{good}}}"), "about another issuer"),
        (format!("{{\"issuer\":\"{}\",{good}}}", url.trim_end_matches('/')), "about another issuer"),
        (format!("{{{good}}}"), "not a discovery document"),
        (format!("{{\"issuer\":\"{url}\",\"issuer\":\"{url}\",{good}}}"), "not a discovery document"),
        (format!("{{\"issuer\":\"{url}\"}}"), "not a discovery document"),
        (format!("{{\"issuer\":\"{url}\",\"jwks_uri\":\"http://localhost/keys\"}}"), "not an https URL"),
        (format!("{{\"issuer\":\"{url}\",\"jwks_uri\":\"file:///etc/passwd\"}}"), "not an https URL"),
        ("[]".into(), "not a discovery document"),
    ] {
        *server.script.discovery.lock().unwrap() = Some(document.clone());
        let ring = server.ring(server.issuer(KeySource::Discovery)).await;
        let verdict = now(&ring, &server.token(&DEFAULT_KEY)).await;
        assert!(verdict.starts_with("unavailable: ") && verdict.contains(cause), "{document}: {verdict}");
    }
    assert_eq!(server.fetches(), 0, "no keys were asked for");
}

#[tokio::test]
async fn a_server_without_a_trusted_certificate_is_not_asked() {
    let (server, stranger) = (Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await, tempfile::tempdir().unwrap());
    certificates(stranger.path());
    let mut issuer = server.by_url();
    issuer.ca = Some(stranger.path().join("ca.crt"));
    let verdict = now(&server.ring(issuer.clone()).await, &server.token(&DEFAULT_KEY)).await;
    assert!(verdict.starts_with("unavailable: ") && verdict.contains("certificate"), "{verdict}");
    issuer.ca = Some(stranger.path().join("absent.crt"));
    let verdict = now(&server.ring(issuer).await, &server.token(&DEFAULT_KEY)).await;
    assert!(verdict.starts_with("unavailable: ") && verdict.contains("absent.crt"), "{verdict}");
    assert_eq!(server.fetches(), 0);
}

#[tokio::test]
async fn rotation_is_followed_and_the_old_key_forgotten() {
    let (old, new) = (dev_key(), dev_key());
    let server = Server::start(Say::Keys(keys(&[&old]))).await;
    let (rings, heard) = server.rings();
    let ring = one(&rings, server.by_url(), None).await.remove("workforce").unwrap();
    let (old_token, new_token) = (server.token(&old), server.token(&new));
    assert_eq!(now(&ring, &old_token).await, "signed for acme");

    // Rotated within the interval of the last fetch: the set counts as fresh.
    server.say(Say::Keys(keys(&[&new])));
    assert_eq!(now(&ring, &new_token).await, "invalid: no key of the issuer has the token's key id");
    assert_eq!(server.fetches(), 1);

    assert_eq!(at(&ring, &new_token, HOURS).await, "signed for acme");
    assert_eq!(server.fetches(), 2);
    // Remembered a moment ago, but under the old keys.
    assert_eq!(now(&ring, &old_token).await, "invalid: no key of the issuer has the token's key id");
    assert_eq!(ring.status().generation, 2);
    let heard = heard.lock().unwrap();
    let told: Vec<_> = heard.iter().map(|c| (c.generation, c.added.clone(), c.removed.clone(), c.from_copy)).collect();
    let (old, new) = (old.kid().to_owned(), new.kid().to_owned());
    assert_eq!(told, [(1, vec![old.clone()], vec![], false), (2, vec![new], vec![old], false)]);
}

#[tokio::test]
async fn the_background_refresh_follows_too() {
    let (old, new) = (dev_key(), dev_key());
    let server = Server::start(Say::Keys(keys(&[&old]))).await;
    let mut issuer = server.by_url();
    issuer.refresh = Duration::from_millis(5);
    let ring = server.ring(issuer).await;
    server.say(Say::Keys(keys(&[&new])));
    let mut life = ring.inner.life.subscribe();
    let seen = life.borrow().attempts;
    // The fetch after the next one began after the change.
    life.wait_for(|life| life.attempts > seen + 1).await.unwrap();
    assert_eq!(now(&ring, &server.token(&new)).await, "signed for acme");
    // The same keys again are no change.
    life.wait_for(|life| life.attempts > seen + 4).await.unwrap();
    assert_eq!(ring.status().generation, 2);
}

#[tokio::test]
async fn an_outage_refuses_nobody_whose_key_is_known() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    let ring = server.ring(server.by_url()).await;
    let (token, other) = (server.token(&DEFAULT_KEY), server.token(&dev_key()));
    server.say(Say::Status(503));
    let verdict = at(&ring, &other, HOURS).await;
    assert!(verdict.starts_with("unavailable: ") && verdict.contains("answered 503"), "{verdict}");
    assert_eq!(server.fetches(), 2);
    // Within the interval no request asks again, and the answer stays what it was.
    let verdict = now(&ring, &other).await;
    assert!(verdict.starts_with("unavailable: ") && verdict.contains("answered 503"), "{verdict}");
    assert_eq!(server.fetches(), 2);
    assert_eq!(now(&ring, &token).await, "signed for acme");
    assert_eq!(now(&ring, &format!("{token}AAAA")).await, "invalid: the signature does not verify");
    let status = ring.status();
    assert!(status.usable && status.failure.is_some_and(|cause| cause.contains("answered 503")));

    // Until the keys are too old: then nobody is let in, and nobody is signed out.
    assert_eq!(at(&ring, &token, Duration::from_secs(12 * 3600 - 60)).await, "signed for acme");
    let verdict = at(&ring, &token, Duration::from_secs(12 * 3600)).await;
    assert!(verdict.starts_with("unavailable: ") && verdict.contains("older than `max_stale`"), "{verdict}");

    server.say(Say::Keys(keys(&[&DEFAULT_KEY])));
    assert_eq!(at(&ring, &other, HOURS).await, "invalid: no key of the issuer has the token's key id");
    assert_eq!(ring.status().failure, None);
}

#[tokio::test]
async fn many_unknown_keys_cause_one_fetch() {
    let (old, new) = (dev_key(), dev_key());
    let server = Server::start(Say::Keys(keys(&[&old]))).await;
    let ring = server.ring(server.by_url()).await;
    server.say(Say::Keys(keys(&[&old, &new])));
    // The answer is held back until all of them wait for it.
    server.script.gate.forget_permits(OPEN);
    let mut requests = JoinSet::new();
    for number in 0..50 {
        let token = if number % 2 == 0 { server.token(&new) } else { server.token(&dev_key()) };
        let ring = ring.clone();
        requests.spawn(async move { (number % 2 == 0, at(&ring, &token, HOURS).await) });
    }
    while ring.inner.waiting.available_permits() > MAX_WAITING - 50 {
        tokio::task::yield_now().await;
    }
    // Known keys do not wait.
    assert_eq!(now(&ring, &server.token(&old)).await, "signed for acme");
    server.script.gate.add_permits(OPEN);
    while let Some(verdict) = requests.join_next().await {
        let (rotated, verdict) = verdict.unwrap();
        let expected = if rotated { "signed for acme" } else { "invalid: no key of the issuer has the token's key id" };
        assert_eq!(verdict, expected);
    }
    assert_eq!(server.fetches(), 2);
    assert_eq!(ring.inner.waiting.available_permits(), MAX_WAITING);
}

#[tokio::test]
async fn a_request_that_goes_away_cancels_no_fetch() {
    let (old, new) = (dev_key(), dev_key());
    let server = Server::start(Say::Keys(keys(&[&old]))).await;
    let ring = server.ring(server.by_url()).await;
    server.say(Say::Keys(keys(&[&new])));
    server.script.gate.forget_permits(OPEN);
    let (waiting, token) = (ring.clone(), server.token(&new));
    let request = tokio::spawn(async move { at(&waiting, &token, HOURS).await });
    while server.fetches() < 2 {
        tokio::task::yield_now().await;
    }
    request.abort();
    assert!(request.await.is_err());
    server.script.gate.add_permits(OPEN);
    let mut life = ring.inner.life.subscribe();
    life.wait_for(|life| !life.in_flight).await.unwrap();
    assert_eq!(now(&ring, &server.token(&new)).await, "signed for acme");
    assert_eq!(server.fetches(), 2);
}

#[tokio::test]
async fn too_many_waiting_requests_are_told_so() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    let ring = server.ring(server.by_url()).await;
    let _all = ring.inner.waiting.acquire_many(u32::try_from(MAX_WAITING).unwrap()).await.unwrap();
    let verdict = at(&ring, &server.token(&dev_key()), HOURS).await;
    assert_eq!(verdict, "unavailable: too many requests wait for keys");
}

#[tokio::test]
async fn a_restart_during_an_outage_uses_the_copy_on_disk() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    let token = server.token(&DEFAULT_KEY);
    drop(server.ring(server.by_url()).await);
    server.say(Say::Nothing);
    let (rings, heard) = server.rings();
    let ring = one(&rings, server.by_url(), None).await.remove("workforce").unwrap();
    assert_eq!(now(&ring, &token).await, "signed for acme");
    assert!(heard.lock().unwrap().iter().all(|change| change.from_copy));
    let status = ring.status();
    assert!(status.usable && status.failure.is_some() && status.last_success_s.is_some(), "{status:?}");
    let verdict = now(&ring, &server.token(&dev_key())).await;
    assert!(verdict.starts_with("unavailable: "), "{verdict}");

    // The age counts from the fetch, not from the restart.
    let path = copy::path(&server.folder.path().join("state"), &server.by_url()).unwrap();
    let aged = |seconds: u64| {
        let document = keys(&[&DEFAULT_KEY]);
        copy::write(&path, &server.url, wall_s() - seconds, document.as_bytes()).unwrap();
    };
    aged(11 * 3600);
    let ring = server.ring(server.by_url()).await;
    assert_eq!(now(&ring, &token).await, "signed for acme");
    assert!(at(&ring, &token, HOURS).await.starts_with("unavailable: "));
    aged(13 * 3600);
    assert!(now(&server.ring(server.by_url()).await, &token).await.starts_with("unavailable: "));
    // Another issuer's keys are not this one's.
    aged(0);
    let mut other = server.by_url();
    other.rules.issuer = "https://other.example/".into();
    assert!(!server.ring(other).await.status().usable);
    std::fs::write(&path, "{").unwrap();
    assert!(!server.ring(server.by_url()).await.status().usable);
}

#[tokio::test]
async fn a_key_file_is_read_again() {
    let server = Server::start(Say::Nothing).await;
    let path = server.folder.path().join("keys.json");
    std::fs::write(&path, keys(&[&DEFAULT_KEY])).unwrap();
    let mut issuer = server.issuer(KeySource::File(path.clone()));
    issuer.refresh = Duration::from_millis(5);
    let ring = server.ring(issuer).await;
    assert_eq!(now(&ring, &server.token(&DEFAULT_KEY)).await, "signed for acme");
    let new = dev_key();
    std::fs::write(&path, keys(&[&new])).unwrap();
    let mut life = ring.inner.life.subscribe();
    let seen = life.borrow().attempts;
    life.wait_for(|life| life.attempts > seen + 1).await.unwrap();
    assert_eq!(now(&ring, &server.token(&new)).await, "signed for acme");

    // A broken file leaves the last good keys in use.
    std::fs::write(&path, "{").unwrap();
    life.wait_for(|life| life.failure.is_some()).await.unwrap();
    assert_eq!(now(&ring, &server.token(&new)).await, "signed for acme");
    assert!(!server.folder.path().join("state").exists(), "a file needs no copy");
}

#[tokio::test]
async fn a_reload_keeps_rings_whose_settings_are_the_same() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    let (rings, _) = server.rings();
    let first = one(&rings, server.by_url(), None).await;
    let second = one(&rings, server.by_url(), Some(&first)).await;
    assert!(Arc::ptr_eq(&first["workforce"], &second["workforce"]));
    assert_eq!(server.fetches(), 1);

    // What was remembered under other settings does not count under these.
    let token = server.token(&DEFAULT_KEY);
    assert_eq!(now(&second["workforce"], &token).await, "signed for acme");
    let mut other = server.by_url();
    other.rules.audiences = vec!["other-api".into()];
    let third = one(&rings, other, Some(&second)).await;
    assert!(!Arc::ptr_eq(&second["workforce"], &third["workforce"]));
    assert_eq!(now(&third["workforce"], &token).await, "invalid: `aud` does not name us");
    assert_eq!(now(&second["workforce"], &token).await, "signed for acme");
}

#[tokio::test]
async fn verified_tokens_are_remembered_until_they_end() {
    let server = Server::start(Say::Keys(keys(&[&DEFAULT_KEY]))).await;
    let ring = server.ring(server.by_url()).await;
    let token = server.token(&DEFAULT_KEY);
    let identity = |now_s: u64| {
        let (ring, token) = (ring.clone(), token.clone());
        async move {
            match ring.verify(&token, now_s, Carrier::Cookie).await {
                Answer::Credential(Credential::Valid { identity, .. }) => Ok(identity),
                other => Err(format!("{other:?}")),
            }
        }
    };
    let start = wall_s() + 1;
    let (first, second) = (identity(start).await.unwrap(), identity(start + 1).await.unwrap());
    assert!(Arc::ptr_eq(&first, &second), "from memory");
    // After the end the session guard gets the identity, and sees that it has expired.
    let last = identity(first.expires_at).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &last) && last.expires_at == first.expires_at);
    // A clock that went back asks the signature again, and does not crash.
    assert!(identity(0).await.is_err());
    assert!(identity(u64::MAX).await.is_ok());
    let long = "a".repeat(token::MAX_TOKEN_BYTES + 1);
    assert_eq!(now(&ring, &long).await, "invalid: larger than 16 KiB");
}

/// The demo's provider, found by discovery, its tokens taken from its own endpoint.
#[tokio::test]
async fn the_development_provider_serves_a_ring() {
    let folder = Server::start(Say::Nothing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("https://localhost:{port}/");
    let tls = certificates(folder.folder.path());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let issuer_url = url.clone();
    let provider = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        idp::serve(listener, tls, &issuer_url, DEV_AUDIENCE, dev_key(), shutdown).await
    });
    let mut issuer = folder.issuer(KeySource::Discovery);
    issuer.rules.issuer.clone_from(&url);
    let ring = folder.ring(issuer).await;
    assert_eq!(ring.status().failure, None);

    let roots = folder.folder.path().join("ca.crt");
    let post = async |host: &str, form: &str| exchange(port, &roots, "POST", "/token", host, form).await;
    let own = format!("localhost:{port}");
    let (status, answer) = post(&own, "user=eva+m%C3%BCller&tenant=acme&roles=clerk+buyer&acr=mfa&auth_age_s=60").await;
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    match ring.verify(answer["access_token"].as_str().unwrap(), wall_s(), Carrier::Bearer).await {
        Answer::Credential(Credential::Valid { identity, .. }) => {
            assert_eq!((&*identity.subject.0, identity.tenant.as_deref()), ("eva müller", Some("acme")));
            assert_eq!((identity.roles.len(), identity.acr.as_deref()), (2, Some("mfa")));
        }
        other => panic!("{other:?}"),
    }
    // A page of another origin that resolves to loopback has another host.
    assert_eq!(post("evil.example", "tenant=acme").await.0, 421);
    assert_eq!(post(&own, "unknown=1").await.0, 400);
    assert_eq!(post(&own, "tenant=%zz").await.0, 400);
    assert_eq!(post(&own, &"a".repeat(9000)).await.0, 413);
    assert_eq!(exchange(port, &roots, "GET", "/token", &own, "").await.0, 405);
    assert_eq!(exchange(port, &roots, "GET", "/other", &own, "").await.0, 404);
    stop.send(()).unwrap();
    provider.await.unwrap().unwrap();
}
