//! The old process's part: start a successor when asked, give it sockets and log, and drain once it serves.
use super::post::Sender;
use super::wire::{DESCRIPTORS, Line, Message, unexpected};
use super::{PROTOCOL, socket_path};
use crate::serve::listening::Listening;
use crate::serve::notify::Notifier;
use crate::serve::run::Running;
use crate::store::audit::AuditLog;
use anyhow::{Context, Result, anyhow, bail};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long the other side may take for a piece of what it says.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a successor may take until it is ready: it fetches keys, perhaps of many issuers.
const PREPARATION: Duration = Duration::from_secs(300);
/// How long it may take from there until it serves. Requests that change state wait for the log meanwhile.
const FIRST_STEPS: Duration = Duration::from_secs(10);

/// How this process was started, so that a successor can be started likewise.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// From this process's command line. To be called at the start: the path is that of the program now, and after an
    /// upgrade of the package the new program has it.
    pub fn of_this_process() -> io::Result<Program> {
        let mut args = std::env::args_os();
        let called = args.next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        // A path is kept as it was written, since it may lead over a link that an upgrade moves.
        let path = called.map_or_else(std::env::current_exe, std::path::absolute)?;
        Ok(Program { path, args: args.filter(|arg| arg != "--take-over").collect() })
    }

    fn start(&self) -> io::Result<Child> {
        // Sockets come over the hand-over's own way, and the watchdog is that of a process that systemd knows.
        let stale = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];
        let mut command = Command::new(&self.path);
        command.args(&self.args).arg("--take-over").stdin(Stdio::null());
        for name in stale {
            command.env_remove(name);
        }
        command.spawn()
    }
}

/// Listens for a successor, and for people who ask for one.
pub struct Steward {
    listener: UnixListener,
    path: PathBuf,
    office: Arc<Office>,
}

/// What all conversations share.
struct Office {
    program: Program,
    listening: Listening,
    audit: Arc<AuditLog>,
    folder: PathBuf,
    notifier: Arc<Notifier>,
    /// What is going on; one thing at a time.
    business: Mutex<Business>,
    /// The process that serves now, once there is one.
    replaced: watch::Sender<Option<u32>>,
}

#[derive(Debug, Default)]
struct Business {
    starting: bool,
    giving: bool,
    /// What a successor said before it gave up.
    reason: Option<String>,
}

/// SIGUSR2, from now on: without somebody who listens it ends the process, also one that has just said that it is ready.
pub struct Requests(Signal);

impl Requests {
    /// Listens. What comes before anybody acts on it is not lost. Needs a tokio runtime.
    pub fn new() -> io::Result<Requests> {
        signal(SignalKind::user_defined2()).map(Requests)
    }
}

impl Steward {
    /// Listens in the state folder, in place of any process before.
    pub fn bind(running: &Running, program: Program) -> Result<Steward> {
        let snapshot = running.shared.active().snapshot.clone();
        let path = socket_path(&snapshot.server.state_dir);
        let beside = path.with_extension(format!("{}", std::process::id()));
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).with_context(|| format!("`{}`", beside.display()))?;
        // The folder is private, and the other end is asked who it is.
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&beside, &path)?;
        let office = Office {
            program,
            listening: running.listening.clone(),
            audit: running.shared.audit.clone(),
            folder: std::path::absolute(&snapshot.audit.directory)?,
            notifier: running.notifier.clone(),
            business: Mutex::default(),
            replaced: watch::Sender::new(None),
        };
        Ok(Steward { listener, path, office: Arc::new(office) })
    }

    /// Completes with the successor's process id, once it serves. SIGUSR2 asks for one too.
    pub async fn replaced(&self, Requests(mut asked): Requests) -> io::Result<u32> {
        let mut replaced = self.office.replaced.subscribe();
        loop {
            tokio::select! {
                done = replaced.wait_for(Option::is_some) => {
                    return done.ok().and_then(|pid| *pid).ok_or_else(|| io::ErrorKind::Other.into());
                }
                Some(()) = asked.recv() => {
                    let office = self.office.clone();
                    tokio::spawn(async move {
                        if let Err(error) = office.upgrade().await {
                            tracing::error!("not replaced: {error:#}");
                        }
                    });
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let office = self.office.clone();
                        tokio::spawn(async move {
                            if let Err(error) = office.converse(stream).await {
                                tracing::error!("hand-over: {error:#}");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the hand-over socket cannot accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

impl Drop for Steward {
    fn drop(&mut self) {
        // A successor has put its own socket in the place of ours.
        if self.office.replaced.borrow().is_none() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Office {
    async fn converse(self: Arc<Office>, stream: UnixStream) -> Result<()> {
        let line = Line::new(stream.into_std()?, PATIENCE)?;
        let office = self.clone();
        let (mut line, message) = tokio::task::spawn_blocking(move || {
            let mut line = line;
            let (uid, _) = line.peer()?;
            let ours = rustix::process::geteuid().as_raw();
            let message = line.hear()?.0;
            // Root may ask for anything, but a gateway that root started would leave files that ours cannot read.
            if uid != ours && !(uid == 0 && message == Message::Upgrade) {
                let reason = format!("the gateway runs as user {ours}, not as user {uid}");
                line.say(&Message::Failed { reason: reason.clone() })?;
                bail!(reason);
            }
            Ok((line, message))
        })
        .await??;
        match message {
            Message::Upgrade => {
                let answer = match office.upgrade().await {
                    Ok(pid) => Message::Replaced { pid },
                    Err(error) => {
                        tracing::error!("not replaced: {error:#}");
                        Message::Failed { reason: format!("{error:#}") }
                    }
                };
                Ok(line.say(&answer)?)
            }
            Message::TakeOver { protocol, version, pid } => {
                let runtime = Handle::current();
                let given = tokio::task::spawn_blocking(move || {
                    let result = office.give(line, protocol, pid, &version, &runtime);
                    if let Err(error) = &result {
                        office.lock().reason = Some(format!("{error:#}"));
                    }
                    result
                });
                given.await?.with_context(|| format!("process {pid} does not take over"))
            }
            other => bail!(unexpected(&format!("{other:?}"))),
        }
    }

    /// Starts a successor and waits until it serves.
    async fn upgrade(self: &Arc<Office>) -> Result<u32> {
        if std::process::id() == 1 {
            bail!("this is process 1 of its container, which ends with it: start a new container beside it instead");
        }
        let claim = Claim::take(self, |business| &mut business.starting)?;
        self.lock().reason = None;
        let program = self.program.clone();
        let child = tokio::task::spawn_blocking(move || program.start()).await?;
        let child = child.with_context(|| format!("cannot start `{}`", self.program.path.display()))?;
        let started = child.id();
        tracing::info!(program = %self.program.path.display(), pid = started, "started a successor");
        let mut replaced = self.replaced.subscribe();
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = child;
            child.wait()
        });
        tokio::select! {
            done = replaced.wait_for(|pid| *pid == Some(started)) => {
                done.map_err(|_| anyhow!("this process ends"))?;
                drop(claim);
                Ok(started)
            }
            status = ended => {
                let status = status??;
                let reason = self.lock().reason.take();
                Err(match (reason, status.code()) {
                    (_, Some(78)) => anyhow!("the configuration has problems for the new program; `moat check` lists them"),
                    (Some(reason), _) => anyhow!("{reason}"),
                    (None, _) => anyhow!("the new process ended ({status}); its log says why"),
                })
            }
        }
    }

    /// Hands everything over to a process that asked for it. An error leaves this process as it was. Blocks.
    fn give(
        self: &Arc<Office>,
        mut line: Line,
        protocol: u32,
        pid: u32,
        version: &str,
        runtime: &Handle,
    ) -> Result<()> {
        let refuse = |line: &mut Line, error: anyhow::Error| {
            // It notices by itself where it cannot be told.
            let _ = line.say(&Message::Failed { reason: format!("{error:#}") });
            error
        };
        if protocol != PROTOCOL {
            let why = anyhow!("version {version} speaks hand-over {protocol}, this is {PROTOCOL}: restart it instead");
            return Err(refuse(&mut line, why));
        }
        let _claim = match Claim::take(self, |business| &mut business.giving) {
            Ok(claim) => claim,
            Err(error) => return Err(refuse(&mut line, error)),
        };
        tracing::info!(pid, version, "a successor asks for the sockets");
        self.pass_sockets(&mut line)?;
        line.wait_at_most(Some(PREPARATION))?;
        let Message::Prepared { audit } = line.hear()?.0 else { bail!("it did not prepare itself") };
        let yours = Path::new(&audit) == self.folder;
        if yours && let Err(fault) = runtime.block_on(self.audit.leave(pid)) {
            return Err(refuse(&mut line, anyhow!(fault).context("the audit log cannot be left to another process")));
        }
        match first_steps(&mut line, yours) {
            Ok(()) => {}
            Err(error) => {
                if yours {
                    let resumed = runtime.block_on(self.audit.resume(error.to_string()));
                    resumed.context("the audit log cannot be taken back")?;
                }
                return Err(error.into());
            }
        }
        // It serves: there is no way back from here.
        self.notifier.successor(pid);
        let told = line.say(&Message::Draining);
        if yours {
            self.audit.forward(Box::new(Sender(line)));
        }
        if let Err(error) = told {
            tracing::warn!(pid, %error, "the successor could not be told that this process drains");
        }
        tracing::info!(pid, version, "replaced");
        self.replaced.send_replace(Some(pid));
        Ok(())
    }

    fn pass_sockets(&self, line: &mut Line) -> io::Result<()> {
        let sockets = self.listening.sockets()?;
        let mut rest = sockets.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(DESCRIPTORS));
            let names = now.iter().map(|(name, _)| name.to_string()).collect();
            let descriptors: Vec<_> = now.iter().map(|(_, socket)| socket.as_fd()).collect();
            line.pass(&Message::Sockets { names, more: !later.is_empty() }, &descriptors)?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Business> {
        self.business.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the moment at which the log is left to it until it serves.
fn first_steps(line: &mut Line, yours: bool) -> io::Result<()> {
    line.wait_at_most(Some(FIRST_STEPS))?;
    line.say(&Message::Log { yours })?;
    match line.hear()?.0 {
        Message::Serving => line.wait_at_most(Some(PATIENCE)),
        other => Err(unexpected(&format!("{other:?}"))),
    }
}

/// The right to do one of the things of which only one may go on.
struct Claim<'a> {
    office: &'a Office,
    of: fn(&mut Business) -> &mut bool,
}

impl<'a> Claim<'a> {
    fn take(office: &'a Office, of: fn(&mut Business) -> &mut bool) -> Result<Claim<'a>> {
        if let Some(pid) = *office.replaced.borrow() {
            bail!("process {pid} has taken over already");
        }
        let mut business = office.lock();
        let claimed = of(&mut business);
        if std::mem::replace(claimed, true) {
            bail!("another process is taking over at this moment");
        }
        Ok(Claim { office, of })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        *(self.of)(&mut self.office.lock()) = false;
    }
}

/// Asks the gateway of a state folder to start a successor and to hand over to it. Returns that one's process id. Blocks.
pub fn ask_for_upgrade(state_dir: &Path) -> Result<u32> {
    let path = socket_path(state_dir);
    let stream = std::os::unix::net::UnixStream::connect(&path)
        .with_context(|| format!("`{}`: no gateway runs with this state folder", path.display()))?;
    let mut line = Line::new(stream, PATIENCE)?;
    line.say(&Message::Upgrade)?;
    line.wait_at_most(Some(PREPARATION))?;
    match line.hear()?.0 {
        Message::Replaced { pid } => Ok(pid),
        message => bail!(unexpected(&format!("{message:?}"))),
    }
}
