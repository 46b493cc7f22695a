//! A real PostgreSQL in a folder of its own: started as an unprivileged user, killed, stalled and asked by tests.
use super::PATIENCE;
use super::secure::Pair;
use super::tools::free_address;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Who may do everything in it, and the password.
pub const OWNER: (&str, &str) = ("moat", "an owner's password");

/// The server, as Debian has it (`postgresql`), or from the folder that `MOAT_TEST_POSTGRES` names.
pub struct Postgres {
    child: Child,
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    settings: Vec<String>,
}

impl Postgres {
    /// Starts one with these settings, and waits until it answers.
    pub async fn start(settings: &[&str]) -> Postgres {
        Postgres::start_with(settings, &[]).await
    }

    /// One that speaks TLS, and shows this certificate. Nobody has to: it says yes to whoever asks in the clear too.
    pub async fn start_secure(pair: &Pair) -> Postgres {
        let settings = ["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"];
        Postgres::start_with(&settings, &[("server.pem", &pair.certificate), ("server.key", &pair.key)]).await
    }

    /// With these files beside its data, which only it can read.
    async fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        let user = unprivileged();
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        for (name, text) in files.iter().chain(&[("password", OWNER.1)]) {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some(user) = user {
                std::os::unix::fs::chown(&path, Some(user), Some(user)).unwrap();
            }
        }
        let mut command = program("initdb", folder.path());
        command.args(["--pgdata", "data", "--username", OWNER.0, "--auth", "scram-sha-256", "--no-sync"]);
        command.args(["--pwfile", "password", "--encoding", "UTF8", "--no-locale"]);
        let made = command.stdin(Stdio::null()).output().expect("initdb (scripts/test installs it)");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        // Somebody may take the port between its being found and its being used.
        let address = free_address();
        let child = spawn(address, folder.path(), &settings);
        let mut postgres = Postgres { child, address, folder, settings };
        for _ in 0..5 {
            if postgres.answers().await {
                return postgres;
            }
            postgres.kill();
            postgres.address = free_address();
            postgres.child = spawn(postgres.address, postgres.folder.path(), &postgres.settings);
        }
        panic!("postgres does not start: {}", postgres.log());
    }

    async fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            if self.connect(OWNER, "postgres").await.is_some() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    async fn connect(&self, (user, password): (&str, &str), database: &str) -> Option<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port());
        config.user(user).password(password).dbname(database).connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// What a statement answers, row by row and column by column, as text.
    pub async fn ask(&self, database: &str, statement: &str) -> Vec<Vec<String>> {
        let client = self.connect(OWNER, database).await.unwrap();
        let mut rows = Vec::new();
        for message in client.simple_query(statement).await.unwrap() {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|n| row.get(n).unwrap_or("NULL").to_owned()).collect());
            }
        }
        rows
    }

    /// Ends it, and all that belongs to it, as a crash would.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }

    /// Starts it again at the same address, with what is on its disk.
    pub async fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        // Until the kernel has let go of what the one before had.
        while Instant::now() < deadline {
            self.child = spawn(self.address, self.folder.path(), &self.settings);
            if self.answers().await {
                return;
            }
        }
        panic!("postgres does not start again: {}", self.log());
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// It gets no time any more: connections stand and nothing answers.
    pub fn stall(&self) {
        self.signal("STOP");
    }

    /// It goes on where it was.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// To it and to all its children: each connection has a process of its own, which leads a group of its own.
    fn signal(&self, name: &str) {
        let mut all = children(self.child.id());
        all.push(self.child.id());
        let all = all.into_iter().map(|pid| pid.to_string());
        let _ = Command::new("kill").arg(format!("-{name}")).args(all).stderr(Stdio::null()).status();
    }
}

/// Processes whose parent this is, as `/proc` has it: behind the name in brackets come the state and the parent.
fn children(parent: u32) -> Vec<u32> {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let its: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (its == parent).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(of).collect()
}

/// The folder of its programs; the newest where there are several.
fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("MOAT_TEST_POSTGRES") {
        return folder.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql (scripts/test installs it)");
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    format!("/usr/lib/postgresql/{}/bin", newest.expect("a version of postgresql")).into()
}

/// It does not run as root.
fn unprivileged() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(65534)
}

fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(programs().join(name));
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some(user) = unprivileged() {
        command.uid(user).gid(user);
    }
    command
}

fn spawn(address: SocketAddr, folder: &Path, settings: &[String]) -> Child {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
    let mut command = program("postgres", folder);
    command.args(["-D", "data", "-p", &address.port().to_string(), "-h", "127.0.0.1"]);
    command.args(["-k", folder.to_str().unwrap()]);
    // What it shares lies in its folder, which goes with it when it is killed.
    let ours = ["max_connections=60", "shared_buffers=16MB", "dynamic_shared_memory_type=mmap"];
    for setting in ours.into_iter().chain(settings.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal("CONT");
        self.kill();
    }
}
