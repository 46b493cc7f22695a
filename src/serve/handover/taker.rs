//! The new process's part: ask the old one for its sockets and its log, and tell it when to drain.
use super::wire::{Line, Message, unexpected};
use super::{PROTOCOL, post, socket_path};
use crate::serve::drain::Drain;
use crate::serve::inherited::{Given, Giver, Inherited, ready};
use crate::store::audit::AuditLog;
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long the old process may take for each answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The process that is to be replaced, while it still serves. Dropped, it goes on serving.
#[derive(Debug)]
pub struct Predecessor {
    line: Line,
    pid: i32,
}

impl Predecessor {
    /// Asks the process of a state folder for its sockets. Refuses one that another user runs.
    pub fn ask(state_dir: &Path) -> Result<(Predecessor, Inherited)> {
        let path = socket_path(state_dir);
        let stream = UnixStream::connect(&path).with_context(|| {
            format!("`{}`: no gateway to take over from; start without `--take-over`", path.display())
        })?;
        let mut line = Line::new(stream, PATIENCE)?;
        let (uid, pid) = line.peer()?;
        if uid != rustix::process::geteuid().as_raw() {
            bail!("`{}` belongs to user {uid}: a gateway is replaced by one of the same user", path.display());
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        line.say(&Message::TakeOver { protocol: PROTOCOL, version, pid: std::process::id() })?;
        let mut given = Vec::new();
        loop {
            let (message, descriptors) = line.hear().context("the old process refuses")?;
            let Message::Sockets { names, more } = message else { bail!(unexpected(&format!("{message:?}"))) };
            if names.len() != descriptors.len() {
                bail!("the old process sent {} sockets of {}: too few open files?", descriptors.len(), names.len());
            }
            for (name, descriptor) in names.into_iter().zip(descriptors) {
                let (address, socket) =
                    ready(TcpListener::from(descriptor)).with_context(|| format!("the socket of `{name}`"))?;
                given.push(Given { name, address, socket });
            }
            if !more {
                tracing::info!(predecessor = pid, sockets = given.len(), "taking over");
                return Ok((Predecessor { line, pid }, Inherited::new(Giver::Predecessor, given)));
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks for the audit log in `folder`. `true`: it is left to us, and must be opened as a successor does, now: the old
    /// process serves on, but can write nothing. `false`: the old process writes another folder, and goes on doing so.
    /// Blocks.
    pub fn log(&mut self, folder: &Path) -> Result<bool> {
        // As the other process would name it, wherever it was started.
        let audit = std::path::absolute(folder)?.to_string_lossy().into_owned();
        self.line.say(&Message::Prepared { audit })?;
        match self.line.hear().context("the old process keeps its audit log")?.0 {
            Message::Log { yours } => Ok(yours),
            message => bail!(unexpected(&format!("{message:?}"))),
        }
    }

    /// Says that it comes to nothing. The old process goes on.
    pub fn give_up(mut self, reason: &str) {
        // It notices by itself where it cannot be told.
        let _ = self.line.say(&Message::Failed { reason: reason.to_owned() });
    }

    /// Says that this process accepts connections, so that the old one drains. What that still has to record is written
    /// to `audit` by a thread, and a `drain` of ours waits for its end. Blocks until the old process has heard it.
    pub fn retire(mut self, audit: Arc<AuditLog>, drain: &Drain) -> Result<()> {
        self.line.say(&Message::Serving)?;
        match self.line.hear() {
            Ok((Message::Draining, _)) => {}
            Ok((message, _)) => bail!(unexpected(&format!("{message:?}"))),
            // Whatever became of it, there is one process that serves: this one.
            Err(error) => {
                tracing::warn!(predecessor = self.pid, %error, "the old process is gone; its last entries may be missing");
                return Ok(());
            }
        }
        self.line.wait_at_most(None)?;
        let (live, runtime, pid) = (drain.enter(), Handle::current(), self.pid);
        let mut line = self.line;
        std::thread::Builder::new().name("predecessor".to_owned()).spawn(move || {
            match post::receive(&mut line, &audit, &runtime) {
                Ok(()) => tracing::info!(predecessor = pid, "the old process has ended"),
                Err(error) => tracing::error!(predecessor = pid, %error, "cannot write for the old process any more"),
            }
            drop(live);
        })?;
        Ok(())
    }
}
