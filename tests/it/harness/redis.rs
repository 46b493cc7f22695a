//! A real Redis in a folder of its own: started, killed, stalled and spoken to by tests; and a proxy that fails on demand.
use super::PATIENCE;
use super::tools::free_address;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The server, as Debian has it: `redis-server`, or the program that `MOAT_TEST_REDIS` names.
pub struct Redis {
    child: Child,
    pub address: SocketAddr,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one and waits until it answers. In the arguments, `{port}` and `{folder}` become those of its own.
    pub async fn start(arguments: &[&str]) -> Redis {
        // Somebody may take the port between its being found and its being used.
        for _ in 0..5 {
            let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            let child = spawn(address, folder.path(), &arguments);
            let mut redis = Redis { child, address, arguments, folder };
            if redis.answers().await {
                return redis;
            }
        }
        panic!("redis-server does not start");
    }

    /// Where it keeps what it has.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    async fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same address, with nothing in it.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.address, self.folder.path(), &self.arguments);
        assert!(self.answers().await, "redis-server does not start again");
    }

    /// It gets no time any more: connections stand and nothing answers.
    pub fn stall(&self) {
        self.signal("STOP");
    }

    /// It goes on where it was.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// What it answers to a command, as it stands on the wire.
    pub fn ask(&self, command: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let quit = "QUIT\r\n";
        stream.write_all(format!("{command}\r\n{quit}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.trim_end_matches("+OK\r\n").to_owned() + if answer.matches("+OK").count() > 1 { "+OK" } else { "" }
    }
}

fn spawn(address: SocketAddr, folder: &std::path::Path, arguments: &[String]) -> Child {
    let program = std::env::var("MOAT_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
    Command::new(program)
        .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments.iter().map(|argument| {
            argument.replace("{port}", &address.port().to_string()).replace("{folder}", folder.to_str().unwrap())
        }))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server (scripts/test installs it)")
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a [`Wire`] does with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Passes it on.
    Fair = 0,
    /// Takes it and answers nothing. Connections that have lost something this way end when the weather is fair again: no
    /// stream goes on behind a gap.
    Hole = 1,
    /// Closes.
    Cut = 2,
    /// Leaves what comes where it is, and passes it on when the weather is fair again.
    Held = 3,
}

/// A TCP proxy that fails on demand.
pub struct Wire {
    pub address: SocketAddr,
    sky: Arc<Sky>,
}

#[derive(Default)]
struct Sky {
    weather: AtomicU8,
    /// Tells that something is being held.
    holds: Notify,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, sky) = (listener.local_addr().unwrap(), Arc::new(Sky::default()));
        let above = sky.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let sky = above.clone();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let ((from_client, to_client), (from_server, to_server)) =
                            (client.into_split(), server.into_split());
                        tokio::spawn(carry(from_server, to_client, sky.clone()));
                        carry(from_client, to_server, sky).await;
                    }
                });
            }
        });
        Wire { address, sky }
    }

    pub fn turns(&self, weather: Weather) {
        self.sky.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// Returns when something is being held.
    pub async fn holds(&self) {
        self.sky.holds.notified().await;
    }
}

async fn carry(from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, sky: Arc<Sky>) {
    let (mut bytes, mut gap) = ([0; 16 << 10], false);
    loop {
        // Looks up now and then, since the weather changes without a byte.
        let ready = tokio::time::timeout(Duration::from_millis(20), from.readable()).await;
        match sky.weather.load(Ordering::SeqCst) {
            2 => return,
            0 if gap => return,
            3 => {
                if ready.is_ok() {
                    sky.holds.notify_one();
                    let _ = tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
                }
            }
            now => match from.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(count) if now == 0 => {
                    if to.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
                Ok(_) => gap = true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            },
        }
    }
}
