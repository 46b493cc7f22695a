//! Listeners that ask a delivery network for its certificate, in the handshake and never later.
use super::fixture::*;
use crate::config::settings::{Edge, EdgeCertificate, Listener, ListenerKind, TlsProfile};
use crate::serve::certificates::CertStore;
use crate::serve::listener::Frontage;
use crate::serve::tls::Handshake;
use decide::facts::Protocol;
use decide::refusal::Code;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;

struct Authority(CertifiedIssuer<'static, KeyPair>);

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pair(&self, name: &str, last_year: i32, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn good(&self) -> Pair {
        self.pair("pull.cdn.example", 2090, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

fn edge(authority: &Authority, kind: ListenerKind, names: &[&str]) -> Listener {
    let certificate = EdgeCertificate {
        authorities: vec![authority.0.der().clone()],
        names: names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect(),
    };
    let ranges: Vec<ipnet::IpNet> = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = Edge { hops: ranges.clone(), ranges, certificate: Some(Arc::new(certificate)), header: None };
    Listener { edge: Some(Arc::new(edge)), ..settings(kind) }
}

fn both_versions() -> ListenerKind {
    let groups = ["X25519", "secp256r1"].map(str::to_owned).to_vec();
    ListenerKind::Tls {
        protocols: vec![Protocol::Http2, Protocol::Http1],
        profile: TlsProfile { tls12: true, groups, ciphers: ciphers() },
        tickets: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_certificate_of_the_edge_comes_in() {
    let (cdn, other) = (Authority::new(), Authority::new());
    let gate = Gate::open(edge(&cdn, both_versions(), &["else.cdn.example", "pull.cdn.example"])).await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(client_showing(&["http/1.1"], &[version], Some(cdn.good())));
        let mut tls = gate.tls(&config, "main.example").await.unwrap();
        assert_eq!(ask(&mut tls, &get("/", "main.example")).await.unwrap().status(), "200");
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        for (pair, why) in [
            (None, "none"),
            (Some(other.good()), "of another authority"),
            (Some(cdn.pair("other.cdn.example", 2090, usage.clone())), "of another customer"),
            (Some(cdn.pair("pull.cdn.example", 2021, usage)), "expired"),
            (Some(cdn.pair("pull.cdn.example", 2090, ExtendedKeyUsagePurpose::ServerAuth)), "for servers"),
        ] {
            gate.front.handshakes.lock().unwrap().clear();
            gate.front.refused.lock().unwrap().clear();
            let config = Arc::new(client_showing(&["http/1.1"], &[version], pair));
            // In TLS 1.3 the client has finished before the server has seen its certificate.
            if let Ok(mut tls) = gate.tls(&config, "main.example").await {
                let request = get("/", "main.example");
                assert!(matches!(answered(&mut tls, &request).await, Err(()) | Ok(0)), "a certificate {why}");
            }
            until(|| !gate.front.refused.lock().unwrap().is_empty()).await;
            assert_eq!(*gate.front.handshakes.lock().unwrap(), [Handshake::Uncertified], "a certificate {why}");
            assert_eq!(gate.front.refused.lock().unwrap()[0].0.code, Code::NetworkDenied);
        }
    }
}

/// Bytes of an answer, or that the connection broke.
async fn answered(
    tls: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    request: &[u8],
) -> Result<usize, ()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let _ = tls.write_all(request).await;
    let _ = tls.flush().await;
    tls.read(&mut [0; 64]).await.map_err(|_| ())
}

/// There are no tickets, so none can stand for a certificate that is not shown any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_resumed_where_a_certificate_is_asked_for() {
    let cdn = Authority::new();
    let gate = Gate::open(edge(&cdn, both_versions(), &[])).await;
    for version in [&TLS12, &TLS13] {
        let mut showing = client_showing(&["h2", "http/1.1"], &[version], Some(cdn.good()));
        showing.alpn_protocols = vec![b"http/1.1".to_vec()];
        let remembered = showing.resumption.clone();
        let showing = Arc::new(showing);
        for _ in 0..2 {
            let mut tls = gate.tls(&showing, "main.example").await.unwrap();
            let answer = ask(&mut tls, &get("/", "main.example")).await.unwrap();
            assert!(answer.header("x-tls").unwrap().ends_with(" false"), "resumed: {:?}", answer.head);
        }
        // Whatever was remembered of these connections is worth nothing without the certificate.
        let mut without = client_with(&["http/1.1"], &[version]);
        without.resumption = remembered;
        if let Ok(mut tls) = gate.tls(&Arc::new(without), "main.example").await {
            assert!(matches!(answered(&mut tls, &get("/", "main.example")).await, Err(()) | Ok(0)));
        }
    }
    // Nor is a ticket of a listener that asks for none.
    let open = Gate::open(settings(both_versions())).await;
    let plain = client(&["http/1.1"]);
    let mut tls = open.tls(&plain, "main.example").await.unwrap();
    assert_eq!(ask(&mut tls, &get("/", "main.example")).await.unwrap().status(), "200");
    if let Ok(mut tls) = gate.tls(&plain, "main.example").await {
        assert!(matches!(answered(&mut tls, &get("/", "main.example")).await, Err(()) | Ok(0)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_the_edge_are_served() {
    let cdn = Authority::new();
    let gate = Gate::open(edge(&cdn, modern(), &[])).await;
    let config = Arc::new(client_showing(&["h2"], &[&TLS13], Some(cdn.good())));
    let tls = gate.tls(&config, "main.example").await.unwrap();
    let (requests, link) = h2::client::handshake(tls).await.unwrap();
    let link = tokio::spawn(link);
    let request = http::Request::get("https://main.example/").body(()).unwrap();
    let (answer, _) = requests.ready().await.unwrap().send_request(request, true).unwrap();
    let answer: http::Response<h2::RecvStream> = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    link.abort();
}

/// What a reload keeps of the acceptor: nothing, where another certificate is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_asks_for_another_certificate_makes_another_acceptor() {
    let (cdn, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "main", &["main.example"]);
    let store = Arc::new(CertStore::load(folder.path(), Some("main")).unwrap());
    crate::serve::tls::install_provider();
    let make = |settings: Listener, before: Option<&Frontage>| {
        Frontage::new(Arc::new(settings), Some(&store), before).unwrap()
    };
    let open = make(settings(modern()), None);
    let asks = make(edge(&cdn, modern(), &[]), Some(&open));
    let same = make(Listener { connections_per_ip: 7, ..edge(&cdn, modern(), &[]) }, Some(&asks));
    let named = make(edge(&cdn, modern(), &["pull.cdn.example"]), Some(&same));
    let others = make(edge(&other, modern(), &["pull.cdn.example"]), Some(&named));
    let again = make(settings(modern()), Some(&others));
    let kept = |a: &Frontage, b: &Frontage| Arc::ptr_eq(a.tls.as_ref().unwrap(), b.tls.as_ref().unwrap());
    assert!(kept(&asks, &same));
    assert!(!kept(&open, &asks) && !kept(&same, &named) && !kept(&named, &others) && !kept(&others, &again));
}
