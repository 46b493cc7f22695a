//! Life under systemd: sockets that it opens, and what it is told; with its own systemd-socket-activate.
use crate::harness::{Bundle, Gateway, PATIENCE, Upstream, moat};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A port that is free now. The program that is to open it cannot say which one it got.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `systemd-socket-activate`, which listens, and becomes the gateway when somebody connects.
fn activate(sockets: &[(&str, SocketAddr)], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("systemd-socket-activate");
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    command.arg(format!("--fdname={}", names.join(":")));
    for (_, address) in sockets {
        command.arg(format!("--listen={address}"));
    }
    for (name, value) in environment {
        command.arg(format!("--setenv={name}={value}"));
    }
    command.args([env!("CARGO_BIN_EXE_moat"), "run", "--config", "gateway.yaml"]);
    command
}

/// The first client. It connects before there is a gateway, and waits in the queue of the socket.
fn knock(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::yield_now();
    }
}

struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket)
    }

    /// What it is told next, but for signs of life unless those are wanted.
    fn told(&self, wanted: &str) -> String {
        loop {
            let mut bytes = [0; 1024];
            let length = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.starts_with(wanted) {
                return text;
            }
            assert!(text.starts_with("WATCHDOG=1"), "told {text:?} instead of {wanted}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sockets_of_systemd_are_taken_by_name_and_it_is_told_what_happens() {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    let (public, admin) = (free(), free());
    let path = bundle.path("notify");
    let manager = Manager::listen(&path);
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let command = activate(&[("public", public), ("admin", admin)], &environment);
    let mut gateway = tokio::task::spawn_blocking(move || {
        let first = std::thread::spawn(move || knock(public));
        let gateway = Gateway::started_by(command, bundle);
        drop(first.join().unwrap());
        gateway
    })
    .await
    .unwrap();
    assert_eq!((gateway.address("public"), gateway.address("admin")), (public, admin));
    gateway.wait_for_log("where the socket is from", |line| {
        let line = line.to_string();
        line.contains("\"systemd\"") && line.contains("\"public\"")
    });
    manager.told("READY=1");
    manager.told("WATCHDOG=1");
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
    assert_eq!(gateway.admin("/readyz").await.status, 200);

    gateway.signal("HUP");
    assert!(manager.told("RELOADING=1").contains("\nMONOTONIC_USEC="));
    manager.told("READY=1");

    // The new process is named by the one that systemd knows, and then speaks for itself.
    let before = gateway.pid();
    assert_eq!(gateway.upgrade().code, Some(0));
    let main = manager.told("MAINPID=");
    assert!(main.starts_with(&format!("MAINPID={}\n", gateway.pid())) && gateway.pid() != before, "{main}");
    manager.told("READY=1");
    manager.told("WATCHDOG=1");
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
    assert_eq!(gateway.stop(), Some(0));
    manager.told("STOPPING=1");
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn sockets_that_belong_to_no_listener_or_elsewhere_are_told_and_nothing_starts() {
    let bundle = Bundle::standard("127.0.0.1:1".parse().unwrap());
    let (fixed, other) = (free(), free());
    bundle.replace("    address: 127.0.0.1:0\n    tls: modern", &format!("    address: {fixed}\n    tls: modern"));
    bundle.replace("redirect: https", "redirect: {https_port: 443}");
    for (sockets, said) in [
        (vec![("public", other)], "must agree"),
        (vec![("public", fixed), ("pubilc", other)], "belong to no listener: `pubilc`"),
    ] {
        let knocked = sockets[0].1;
        let mut child = activate(&sockets, &[]);
        let mut child = child.current_dir(bundle.root()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let _client = knock(knocked);
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
        assert!(text.contains(said), "{text}");
    }
}
