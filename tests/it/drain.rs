//! The end of a process: requests in flight finish, new ones go elsewhere, the log is whole.
use crate::harness::{Bundle, Gateway, Upstream, moat};
use http::Response;
use http_body_util::Full;
use std::sync::{Arc, Condvar, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_in_flight_finishes_after_sigterm() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = gate.clone();
    let (arrived, mut arrival) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::answering(move |_| {
        arrived.send(()).unwrap();
        let (lock, more) = &*opened;
        let open = tokio::task::block_in_place(|| more.wait_while(lock.lock().unwrap(), |open| !*open).unwrap());
        drop(open);
        Response::new(Full::from("late\n"))
    })
    .await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    let gateway = Arc::new(Gateway::start(bundle).await);
    let calling = gateway.clone();
    let call = tokio::spawn(async move { calling.get("https://acme.localhost/page").send().await });
    arrival.recv().await.unwrap();
    gateway.signal("TERM");
    gateway.wait_for_log("draining", |line| line.to_string().contains("\"draining\""));
    // Readiness fails at once, so that balancers look elsewhere, while the request goes on.
    let ready = gateway.admin("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let admin = gateway.address("admin").to_string();
    let ready = moat(gateway.bundle.root(), &["health", "--ready", "--admin", &admin]);
    let alive = moat(gateway.bundle.root(), &["health", "--admin", &admin]);
    assert_eq!((ready.code, alive.code), (Some(1), Some(0)), "{ready:?} {alive:?}");
    assert!(ready.stderr.contains("answered 503") && ready.stderr.contains("draining failed"), "{ready:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let reply = call.await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "late\n"));
    gateway.wait_for_log("its end", |_| false);
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
