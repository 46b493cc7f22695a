//! The thread by which a running exchange can be ended from outside: pulled once, felt by whoever carries its bytes.
use decide::refusal::{Challenge, Code, Refusal};
use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

/// How long a WebSocket may take for its goodbye: the rest of a frame, and the close frames of both sides.
const GOODBYE: Duration = Duration::from_secs(2);

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The answer has not begun: it can still become a refusal.
    Waiting = 0,
    /// The answer has begun: its end can only be cut off.
    Answering = 1,
    /// The connection was upgraded: there is a way to say goodbye.
    Tunnel = 2,
}

/// Why an exchange is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The refusal that it would meet today.
    pub code: Code,
    /// For the audit entry.
    pub cause: String,
}

impl Pull {
    /// The refusal of whoever has not been answered yet. One of a session asks for another.
    pub fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(self.code, self.cause.clone());
        let by_session = matches!(self.code, Code::SessionRevoked | Code::SessionExpired | Code::SessionInvalid);
        if by_session { refusal.challenge(Challenge::InvalidToken) } else { refusal }
    }
}

/// One exchange's leash.
#[derive(Debug, Default)]
pub struct Leash {
    phase: AtomicU8,
    pull: OnceLock<Pull>,
    bell: AtomicWaker,
}

impl Leash {
    /// How far the exchange has come.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Waiting,
            1 => Phase::Answering,
            _ => Phase::Tunnel,
        }
    }

    /// The answer begins. Where the leash was pulled before that, there must be none: the reason is returned.
    pub fn answer(&self, phase: Phase) -> Option<&Pull> {
        self.phase.store(phase as u8, Ordering::SeqCst);
        let pulled = self.pull.get();
        if pulled.is_some() {
            // What comes instead is a refusal, and it is to arrive whole.
            self.phase.store(Phase::Waiting as u8, Ordering::SeqCst);
        }
        pulled
    }

    /// Ends the exchange; the first reason stands. Returns how far it had come, or `None` where it was ended before.
    pub fn pull(&self, pull: Pull) -> Option<Phase> {
        self.pull.set(pull).ok()?;
        let phase = self.phase();
        self.bell.wake();
        Some(phase)
    }

    /// Why it is ended, once it is.
    pub fn pulled(&self) -> Option<&Pull> {
        self.pull.get()
    }

    /// Completes when whoever carries the exchange is to let go of it: at once where an answer is cut off, after the
    /// time for a goodbye where there can be one, never where the answer has not begun. For one waiter. Cancel-safe.
    pub async fn parted(&self) {
        let goodbye = poll_fn(|cx| {
            self.bell.register(cx.waker());
            match (self.pull.get().is_some(), self.phase()) {
                (true, Phase::Answering) => Poll::Ready(false),
                (true, Phase::Tunnel) => Poll::Ready(true),
                (true, Phase::Waiting) | (false, _) => Poll::Pending,
            }
        });
        if goodbye.await {
            tokio::time::sleep(GOODBYE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn pull() -> Pull {
        Pull { code: Code::TenantSuspended, cause: "a test".to_owned() }
    }

    #[test]
    fn an_answer_that_has_not_begun_becomes_a_refusal_and_a_running_one_is_let_go() {
        let leash = Leash::default();
        let mut parted = pin!(leash.parted());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(parted.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(leash.pull(pull()), Some(Phase::Waiting));
        assert_eq!(parted.as_mut().poll(&mut cx), Poll::Pending, "its answer is to be a whole refusal");
        assert_eq!(leash.answer(Phase::Answering), Some(&pull()));
        assert_eq!(parted.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(leash.pull(pull()), None, "once only");

        let leash = Leash::default();
        let mut parted = pin!(leash.parted());
        assert_eq!(parted.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(leash.answer(Phase::Answering), None);
        assert_eq!(parted.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(leash.pull(pull()), Some(Phase::Answering));
        assert_eq!(parted.as_mut().poll(&mut cx), Poll::Ready(()));
    }
}
