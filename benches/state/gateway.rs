//! The gateway as a process that is measured.
use crate::fill::Store;
use crate::harness::Bundle;
use crate::load::{self, Application};
use crate::{Args, token_of};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Sealing key of both the gateway and whoever fills its store.
pub const KEY: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    31,
];
const KEY_TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Waits, on purpose: a bench waits for time itself.
pub async fn pause(duration: Duration) {
    tokio::time::interval_at(tokio::time::Instant::now() + duration, duration).tick().await;
}

pub struct Gateway {
    child: Child,
    pub bundle: Bundle,
    pub public: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    /// A configuration over a store.
    pub fn bundle(application: &Application, store: &Store) -> Bundle {
        let bundle = Bundle::standard(application.address);
        bundle.replace("worker_threads: 2", "worker_threads: 1");
        bundle.replace("idle_timeout: 5s", "idle_timeout: 5m");
        bundle.replace("handshake_timeout: 1s", "handshake_timeout: 10s");
        bundle.replace(
            "sessions:\n",
            "sessions:
  keys: {file: keys}
  browser: {cookie: __Host-sid, exchange: [workforce], idle: 12h, absolute: 12h}
",
        );
        bundle.write("keys", KEY_TEXT);
        bundle.write("hash-key", "a secret that all replicas have in common\n");
        bundle.write("password", crate::harness::OWNER.1);
        if let Some(storage) = store.storage() {
            bundle.replace("routes:\n", &format!("storage:\n  {storage}\nroutes:\n"));
        }
        bundle.route(
            "  me:
    match: {hosts: [\"*.localhost\"], paths: [/me], methods: [GET]}
    upstream: app
    auth: {any_of: [{bearer: workforce}, {session: browser}]}
    require: {session: any}
    headers: api-json",
        );
        bundle
    }

    /// Starts it, and waits until it has read all marks.
    pub async fn start(args: &Args, bundle: Bundle) -> Gateway {
        let mut command = Command::new(&args.gateway);
        command.args(["run", "--config", "gateway.yaml"]).current_dir(bundle.root());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let tell = tell.clone();
            std::thread::spawn(move || {
                // Read to the end: a gateway whose log nobody takes would stand still.
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if line.contains("\"listening\"") {
                        let _ = tell.send(line);
                    } else if !line.starts_with('{') {
                        eprintln!("{line}");
                    }
                }
            });
        }
        let (mut public, mut admin) = (None, None);
        while public.is_none() || admin.is_none() {
            let line = told.recv_timeout(Duration::from_secs(60)).expect("the gateway does not listen");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let address = crate::harness::field(&line, "address").unwrap().parse().unwrap();
            match crate::harness::field(&line, "listener") {
                Some("public") => public = Some(address),
                Some("admin") => admin = Some(address),
                _ => {}
            }
        }
        let gateway = Gateway { child, bundle, public: public.unwrap(), admin: admin.unwrap() };
        let deadline = Instant::now() + Duration::from_secs(900);
        while !load::plain(gateway.admin, "/readyz").await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "the gateway does not become ready");
            pause(Duration::from_millis(100)).await;
        }
        gateway
    }

    /// Opens a session by its own endpoint; the handle.
    pub async fn open(&self, token: &str) -> String {
        let head = format!(
            "POST /.moat/session HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let mut stream = load::secure(self).await;
            let answer = load::exchange(&mut stream, head.as_bytes()).await;
            if let Some(line) = answer.split("__Host-sid=").nth(1) {
                return line.split(';').next().unwrap().to_owned();
            }
            // A server that was filled a moment ago may take its time to write.
            assert!(answer.starts_with("HTTP/1.1 503") && Instant::now() < deadline, "{answer}");
            pause(Duration::from_millis(500)).await;
        }
    }

    pub fn token(&self) -> String {
        token_of(&self.bundle)
    }

    /// Run time of all its threads so far.
    fn cpu_ns(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of = |task: std::io::Result<std::fs::DirEntry>| {
            let line = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.filter_map(of).sum()
    }

    /// The same, once what was begun behind answers is done.
    pub async fn settled_cpu_ns(&self) -> u64 {
        let mut before = self.cpu_ns();
        for _ in 0..200 {
            pause(Duration::from_millis(25)).await;
            let now = self.cpu_ns();
            // What it does of its own accord is less.
            if now - before < 500_000 {
                return now;
            }
            before = now;
        }
        before
    }

    /// What it has in memory that is no file's.
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().split(' ').next().unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
