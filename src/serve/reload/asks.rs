//! Orders to reload that come through the admin listener, and the way back of their answers.
use super::report::Report;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Orders that may wait; more are turned away.
const WAITING: usize = 8;
/// How long an order may take. Loading a large bundle and fetching new key sets takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// An order.
#[derive(Debug)]
pub struct Ask {
    /// Load and compare only.
    pub dry_run: bool,
    reply: oneshot::Sender<Report>,
}

impl Ask {
    /// Answers it. Whoever asked may be gone.
    pub(super) fn answer(self, report: Report) {
        let _ = self.reply.send(report);
    }
}

/// The way from the admin listener to whoever reloads.
#[derive(Debug)]
pub struct Asks {
    sender: mpsc::Sender<Ask>,
    receiver: Mutex<Option<mpsc::Receiver<Ask>>>,
}

impl Default for Asks {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Asks { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Asks {
    /// Asks for a reload, and waits for its report; `None` where nobody reloads, or others are asking already.
    pub async fn ask(&self, dry_run: bool) -> Option<Report> {
        let (reply, answer) = oneshot::channel();
        self.sender.try_send(Ask { dry_run, reply }).ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }

    /// The other end, for the first who wants it.
    pub(super) fn receive(&self) -> Option<mpsc::Receiver<Ask>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
