//! The gateway as a process: started on a bundle, known by its log, stopped by its id.
use super::PATIENCE;
use super::bundle::Bundle;
use super::clock;
use super::tokens::Token;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `moat ARGS` in a folder until it ends.
pub fn moat(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_moat"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    /// The lines; also when a failing test has poisoned them, which is when they are wanted most.
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Gateway {
    child: Child,
    log: Arc<Log>,
    pub bundle: Bundle,
    addresses: HashMap<String, SocketAddr>,
    /// Processes that took over, the newest last.
    successors: Mutex<Vec<u32>>,
}

impl Gateway {
    /// Starts the gateway and waits until it listens.
    pub async fn start(bundle: Bundle) -> Gateway {
        tokio::task::spawn_blocking(move || Gateway::start_blocking(bundle)).await.unwrap()
    }

    pub fn start_blocking(bundle: Bundle) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moat"));
        command.args(["run", "--config", "gateway.yaml"]);
        Gateway::started_by(command, bundle)
    }

    /// The same, by a command that becomes the gateway.
    pub fn started_by(mut command: Command, bundle: Bundle) -> Gateway {
        let mut child = command
            .current_dir(bundle.root())
            .envs(bundle.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let open = Arc::new(AtomicUsize::new(streams.len()));
        for stream in streams {
            let (log, open) = (log.clone(), open.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lines().push(line);
                    log.more.notify_all();
                }
                if open.fetch_sub(1, Ordering::SeqCst) == 1 {
                    log.lines().push(END.to_owned());
                    log.more.notify_all();
                }
            });
        }
        let mut gateway = Gateway { child, log, bundle, addresses: HashMap::new(), successors: Mutex::default() };
        for name in gateway.bundle.listeners.clone() {
            let wanted = |line: &Value| message(line) == Some("listening") && field(line, "listener") == Some(&name);
            let line = gateway.wait_for_log(&format!("listener `{name}`"), wanted).unwrap();
            gateway.addresses.insert(name, field(&line, "address").unwrap().parse().unwrap());
        }
        gateway
    }

    /// Bound address of a listener, or of `admin`.
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).unwrap_or_else(|| panic!("no listener `{listener}`: {:?}", self.addresses))
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.successors.lock().unwrap().last().copied().unwrap_or(self.child.id())
    }

    /// `moat upgrade`; where it succeeds, the gateway is the new process.
    pub fn upgrade(&self) -> Output {
        let output = moat(self.bundle.root(), &["upgrade"]);
        if output.code == Some(0) {
            self.replaced_by(output.stdout.split_whitespace().nth(1).unwrap().parse().unwrap());
        }
        output
    }

    /// From now on, the gateway is this process.
    pub fn replaced_by(&self, pid: u32) {
        self.successors.lock().unwrap().push(pid);
    }

    /// Waits until the process that was started first has ended.
    pub fn first_exit(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// A valid token of the bundle's issuer.
    pub fn token(&self, tenant: &str, roles: &[&str]) -> String {
        Token::of(tenant, roles).signed(&self.bundle.key)
    }

    /// Sends a signal by name, e.g. `HUP`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap().success());
    }

    /// Stops it where it stands, each of its threads; `CONT` lets it go on.
    pub fn halt(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        // The letter behind the name, which stands in brackets.
        let halted = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
        };
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_dir(&tasks).unwrap().all(|task| halted(task.unwrap())) {
            assert!(Instant::now() < deadline, "it does not halt");
        }
    }

    /// Asks the gateway to stop and waits for its end.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_for_log("its end", |_| false);
        self.child.wait().unwrap().code()
    }

    /// The same bundle and state in a new process.
    pub async fn restart(mut self) -> Gateway {
        self.kill();
        let bundle = std::mem::replace(&mut self.bundle, Bundle::nowhere());
        Gateway::start(bundle).await
    }

    /// Asks again and again until the answer is yes; what changes files or waits for them has no other signal.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Gateway) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
        }
    }

    /// Ends the process without a warning, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.kill_successors();
    }

    /// They are no children of ours, so that only their ids are known.
    fn kill_successors(&self) {
        for pid in self.successors.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            if program == Path::new(env!("CARGO_BIN_EXE_moat")) {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
    }

    /// The lines since the last call with the same `next`, which begins at 0.
    pub fn log_since(&self, next: &mut usize) -> Vec<String> {
        let lines = self.log.lines();
        let fresh = lines[*next..].to_vec();
        *next = lines.len();
        fresh
    }

    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Waits for a line of the structured log, from the beginning, or for the end of the process.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines();
        let mut next = 0;
        loop {
            while let Some(line) = lines.get(next) {
                if line == END {
                    assert_eq!(what, "its end", "the gateway ended:\n{}", lines.join("\n"));
                    return None;
                }
                if let Ok(value) = serde_json::from_str::<Value>(line)
                    && wanted(&value)
                {
                    return Some(value);
                }
                next += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}:\n{}", lines.join("\n"));
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        clock::forget(self.child.id());
        self.kill_successors();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway\n{}", self.log_lines().join("\n"));
        }
    }
}

const END: &str = "(end of the log)";

/// The message of a structured log line.
pub fn message(line: &Value) -> Option<&str> {
    field(line, "message")
}

/// A field of a structured log line, whether flattened or below `fields`.
pub fn field<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line.get(name).or_else(|| line.get("fields")?.get(name))?.as_str()
}
