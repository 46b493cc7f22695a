//! Handshakes: versions, groups, names, certificates that change, resumption, deadlines.
use super::fixture::*;
use crate::config::settings::{ListenerKind, TlsProfile};
use crate::serve::certificates::CertStore;
use crate::serve::limits::Rejection;
use crate::serve::tls::Handshake;
use decide::facts::Protocol;
use rustls::NamedGroup;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modern_refuses_tls_12_and_another_profile_admits_it() {
    let gate = Gate::open(settings(modern())).await;
    let old = Arc::new(client_with(&["http/1.1"], &[&rustls::version::TLS12]));
    let error = gate.tls(&old, "main.example").await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    until(|| gate.front.handshakes.lock().unwrap().contains(&Handshake::Failed)).await;

    let groups = vec!["X25519MLKEM768".into(), "secp256r1".into()];
    let profile = TlsProfile { tls12: true, groups, ciphers: ciphers() };
    let both = ListenerKind::Tls { protocols: vec![Protocol::Http1], profile, tickets: None };
    let gate = Gate::open(settings(both)).await;
    let mut tls = gate.tls(&old, "main.example").await.unwrap();
    let answer = ask(&mut tls, &get("/", "main.example")).await.unwrap();
    assert_eq!(answer.header("x-tls"), Some("1.2 secp256r1 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 false"));
    let new = gate.tls(&client(&["http/1.1"]), "main.example").await.unwrap();
    assert_eq!(new.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_order_of_ciphers_counts_but_for_clients_that_have_no_fast_aes() {
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    const ONE: &str = "TLS_AES_128_GCM_SHA256";
    const TWO: &str = "TLS_AES_256_GCM_SHA384";
    const CHACHA: &str = "TLS_CHACHA20_POLY1305_SHA256";
    let (one, two, chacha) =
        (suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256);
    for (ours, theirs, taken) in [
        (vec![ONE, TWO, CHACHA], vec![two, one, chacha], Some(ONE)),
        (vec![TWO, ONE, CHACHA], vec![one, two], Some(TWO)),
        (vec![ONE, TWO, CHACHA], vec![two], Some(TWO)),
        (vec![ONE, TWO, CHACHA], vec![chacha, one, two], Some(CHACHA)),
        (vec![ONE, TWO], vec![chacha, two, one], Some(TWO)),
        (vec![TWO, CHACHA], vec![one, chacha], Some(CHACHA)),
        // Keys of 256 bits, and nothing else.
        (vec![TWO, CHACHA], vec![one], None),
    ] {
        let groups = vec!["X25519".into()];
        let profile = TlsProfile { tls12: false, groups, ciphers: ours.iter().map(|&name| name.into()).collect() };
        let gate =
            Gate::open(settings(ListenerKind::Tls { protocols: vec![Protocol::Http1], profile, tickets: None })).await;
        let mut provider = (*crate::serve::tls::provider()).clone();
        provider.cipher_suites.clone_from(&theirs);
        let client = Arc::new(client_by(Arc::new(provider), &["http/1.1"], &[&rustls::version::TLS13], None));
        let Ok(mut tls) = gate.tls(&client, "main.example").await else {
            assert_eq!(taken, None, "{ours:?} {theirs:?}");
            continue;
        };
        let answer = ask(&mut tls, &get("/", "main.example")).await.unwrap();
        let told = format!("1.3 X25519 {} false", taken.unwrap_or("none"));
        assert_eq!(answer.header("x-tls"), Some(told.as_str()), "{ours:?} {theirs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_post_quantum_hybrid_is_agreed_on_and_reported() {
    let gate = Gate::open(settings(modern())).await;
    let tls = gate.h1().await;
    assert_eq!(tls.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    until(|| !gate.front.handshakes.lock().unwrap().is_empty()).await;
    let handshakes = gate.front.handshakes.lock().unwrap();
    let [Handshake::Done(facts)] = handshakes.as_slice() else { panic!("{handshakes:?}") };
    assert_eq!((facts.group.as_str(), facts.version.as_str()), ("X25519MLKEM768", "1.3"));
    assert_eq!(facts.server_name.as_deref(), Some("main.example"));
}

/// The NAME of the pair that a client with this server name is given.
async fn given(gate: &Gate, name: &str) -> std::io::Result<String> {
    let mut config = client_with(&["http/1.1"], &[&rustls::version::TLS13]);
    config.enable_sni = name != "127.0.0.1";
    let tls = gate.tls(&Arc::new(config), name).await?;
    let leaf = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
    let current = gate.certificates.current();
    Ok(current.entries.iter().find(|c| c.key.cert[0] == leaf).unwrap().name.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_chosen_by_name_exact_before_wildcard_before_default() {
    let gate = Gate::open(settings(modern())).await;
    for (name, pair) in [
        ("main.example", "main"),
        ("ALSO.example", "main"),
        ("a.wild.example", "wild"),
        ("exact.wild.example", "exact"),
        ("a.b.wild.example", "main"),
        ("wild.example", "main"),
        ("unknown.example", "main"),
        ("127.0.0.1", "main"),
    ] {
        assert_eq!(given(&gate, name).await.unwrap(), pair, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_default_an_unknown_name_is_refused_by_alert() {
    let gate = Gate::open_with(settings(modern()), 100, None).await;
    assert_eq!(given(&gate, "x.wild.example").await.unwrap(), "wild");
    for name in ["unknown.example", "127.0.0.1"] {
        let error = given(&gate, name).await.unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{error}");
    }
    let unknown = |h: &&Handshake| **h == Handshake::UnknownName;
    until(|| gate.front.handshakes.lock().unwrap().iter().filter(unknown).count() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_the_connection_was_not_made_for_is_misdirected() {
    let gate = Gate::open(settings(modern())).await;
    let status = async |name: &str, host: &str| {
        let mut config = client_with(&["http/1.1"], &[&rustls::version::TLS13]);
        config.enable_sni = name != "127.0.0.1";
        let mut tls = gate.tls(&Arc::new(config), name).await.unwrap();
        ask(&mut tls, &get("/", host)).await.unwrap().status().to_owned()
    };
    assert_eq!(status("main.example", "main.example").await, "200");
    assert_eq!(status("main.example", "also.example").await, "200", "covered by the same certificate");
    assert_eq!(status("a.wild.example", "b.wild.example").await, "200", "covered by the same wildcard");
    assert_eq!(status("exact.wild.example", "other.wild.example").await, "421", "another certificate's name");
    assert_eq!(status("main.example", "a.wild.example").await, "421");
    assert_eq!(
        status("unknown.example", "unknown.example").await,
        "200",
        "the client accepted the default certificate"
    );
    assert_eq!(status("unknown.example", "main.example").await, "421", "a certificate taken for another name");
    assert_eq!(status("127.0.0.1", "also.example").await, "200", "no server name, covered by the default");
    assert_eq!(status("127.0.0.1", "a.wild.example").await, "421");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn certificates_are_swapped_under_load_and_no_request_is_lost() {
    let gate = Arc::new(Gate::open(settings(modern())).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (gate, stop) = (gate.clone(), stop.clone());
        load.spawn(async move {
            let mut served = 0;
            let mut kept = gate.h1().await;
            while !stop.load(Ordering::Relaxed) {
                let mut fresh = gate.h1().await;
                for tls in [&mut fresh, &mut kept] {
                    assert_eq!(ask(tls, &get("/", "main.example")).await.unwrap().status(), "200");
                    served += 1;
                }
            }
            served
        });
    }
    let before = gate.certificates.current().entries.iter().find(|c| &*c.name == "main").unwrap().key.cert[0].clone();
    for _ in 0..10 {
        write_pair(gate.folder.path(), "main", &["main.example", "also.example"]);
        let report = gate.certificates.refresh();
        assert_eq!((report.changed, report.problems), (vec!["main".to_owned()], vec![]));
        given(&gate, "main.example").await.unwrap();
    }
    let after = gate.h1().await.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_ne!(before, after, "the new certificate is presented");
    stop.store(true, Ordering::Relaxed);
    let served: Vec<usize> = load.join_all().await;
    assert!(served.iter().all(|n| *n > 0), "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_pair_is_reported_and_the_last_good_one_stays() {
    let gate = Gate::open(settings(modern())).await;
    let folder = gate.folder.path();
    let good = std::fs::read(folder.join("main.key")).unwrap();
    std::fs::copy(folder.join("wild.key"), folder.join("main.key")).unwrap();
    let report = gate.certificates.refresh();
    assert_eq!(report.changed, Vec::<String>::new());
    assert!(report.problems[0].file.ends_with("main.key"), "{report:?}");
    assert!(report.problems[0].message.contains("does not belong to `main.crt`"));
    assert_eq!(given(&gate, "main.example").await.unwrap(), "main");

    std::fs::write(folder.join("main.key"), good).unwrap();
    std::fs::write(folder.join("wild.crt"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    std::fs::remove_file(folder.join("main.crt")).unwrap();
    let report = gate.certificates.refresh();
    let files: Vec<_> = report.problems.iter().map(|p| p.file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(files, ["wild.crt", "main.crt"]);
    for name in ["main.example", "x.wild.example"] {
        let mut tls = gate.tls(&client(&["http/1.1"]), name).await.unwrap();
        assert_eq!(ask(&mut tls, &get("/", name)).await.unwrap().status(), "200");
    }

    std::fs::remove_file(folder.join("exact.crt")).unwrap();
    std::fs::remove_file(folder.join("exact.key")).unwrap();
    assert_eq!(gate.certificates.refresh().removed, ["exact"]);
    assert_eq!(given(&gate, "exact.wild.example").await.unwrap(), "wild");
}

#[test]
fn at_the_start_every_problem_is_reported_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let problems = |default| {
        let found = CertStore::load(folder.path(), default).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(problems(None).contains("no certificate in this folder"));
    write_pair(folder.path(), "a", &["a.example"]);
    assert!(problems(Some("b")).contains("the default certificate `b` is not in this folder"));
    write_pair(folder.path(), "b", &["b.example"]);
    std::fs::copy(folder.path().join("a.key"), folder.path().join("b.key")).unwrap();
    std::fs::write(folder.path().join("c.crt"), "nothing").unwrap();
    write_pair(folder.path(), "d", &["d.example"]);
    std::fs::write(folder.path().join("d.key"), "nothing").unwrap();
    let all = problems(None);
    for file in ["b.key: the key does not belong", "c.key: cannot be read", "d.key: holds no private key"] {
        assert!(all.contains(file), "{all}");
    }
    assert!(CertStore::load(&folder.path().join("absent"), None).unwrap_err()[0].message.contains("cannot read"));
}

#[test]
fn dates_and_names_are_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["old.example".to_owned(), "*.old.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.path().join("old.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.path().join("old.key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(folder.path().join("old.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = CertStore::load(folder.path(), Some("old")).unwrap();
    let warnings: Vec<String> = store.refresh().warnings.into_iter().map(|w| w.message).collect();
    assert_eq!(warnings, ["every user of this machine may read this key", "has expired"]);
    let status = store.status();
    assert_eq!((status[0].valid, status[0].default, status[0].not_after_s), (false, true, 1_009_843_200));
    assert_eq!(status[0].names, ["old.example", "*.old.example"]);
    std::fs::set_permissions(folder.path().join("old.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    write_pair(folder.path(), "new", &["old.example"]);
    assert_eq!(store.refresh().changed, ["new"]);
    let current = store.current();
    let chosen = current.find(Some("old.example")).unwrap();
    assert_eq!(&*current.entries[chosen].name, "new", "a valid certificate wins over an expired one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_resume_each_its_own_session() {
    let gate = Gate::open(settings(modern())).await;
    let mut clients = Vec::new();
    for _ in 0..2_000 {
        let config = client(&["http/1.1"]);
        let mut tls = gate.tls(&config, "main.example").await.unwrap();
        // Tickets come after the handshake; an answer in hand means that they are in, too.
        assert!(ask(&mut tls, &get("/", "main.example")).await.unwrap().header("x-tls").unwrap().ends_with("false"));
        clients.push(config);
    }
    for config in &clients {
        let mut tls = gate.tls(config, "main.example").await.unwrap();
        let answer = ask(&mut tls, &get("/", "main.example")).await.unwrap();
        assert!(answer.header("x-tls").unwrap().starts_with("1.3 X25519MLKEM768"));
        assert!(answer.header("x-tls").unwrap().ends_with("true"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_worth_nothing_under_another_name() {
    let gate = Gate::open(settings(modern())).await;
    let config = client(&["http/1.1"]);
    for resumed in ["false", "true"] {
        let mut tls = gate.tls(&config, "a.wild.example").await.unwrap();
        let answer = ask(&mut tls, &get("/", "a.wild.example")).await.unwrap();
        assert!(answer.header("x-tls").unwrap().ends_with(resumed));
    }
    let mut tls = gate.tls(&config, "main.example").await.unwrap();
    assert!(ask(&mut tls, &get("/", "main.example")).await.unwrap().header("x-tls").unwrap().ends_with("false"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_data_is_never_offered() {
    let gate = Gate::open(settings(modern())).await;
    let mut config = client_with(&["http/1.1"], &[&rustls::version::TLS13]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let mut tls = gate.tls(&config, "main.example").await.unwrap();
        assert_eq!(ask(&mut tls, &get("/", "main.example")).await.unwrap().status(), "200");
        assert!(!tls.get_ref().1.is_early_data_accepted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_does_not_happen_ends_at_the_deadline() {
    let mut settings = settings(modern());
    settings.handshake_timeout = Duration::from_millis(100);
    let gate = Gate::open(settings).await;
    let mut silent = gate.tcp().await;
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    until(|| *gate.front.handshakes.lock().unwrap() == [Handshake::Timeout]).await;
    assert_eq!(*gate.front.rejections.lock().unwrap(), Vec::<Rejection>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_on_a_tls_port_is_no_handshake() {
    let gate = Gate::open(settings(modern())).await;
    let mut tcp = gate.tcp().await;
    tokio::io::AsyncWriteExt::write_all(&mut tcp, &get("/", "main.example")).await.unwrap();
    assert!(closed(&mut tcp).await);
    until(|| *gate.front.handshakes.lock().unwrap() == [Handshake::Failed]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_group_is_told_at_the_start() {
    let gate = Gate::open(settings(modern())).await;
    let profile = TlsProfile { tls12: false, groups: vec!["X448".into()], ciphers: ciphers() };
    let listener = settings(ListenerKind::Tls { protocols: vec![Protocol::Http1], profile, tickets: None });
    let mut given = crate::serve::inherited::Inherited::none();
    let error =
        crate::serve::listener::bind(&listener.into(), Some(&gate.certificates), &mut given, false).unwrap_err();
    assert_eq!(error.to_string(), "listener `public`: unknown key exchange group `X448`");
}
