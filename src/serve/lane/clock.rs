//! What an exchange waits for at this moment, and until when.
use super::caller::Caller;
use super::exchange::Exchange;
use std::time::Duration;
use tokio::time::Instant;

/// How long a body is held back for an application that does not say whether it wants it.
const LEAVE: Duration = Duration::from_secs(1);
/// Time for the rest of a body after its answer, before the connection is given up.
const REST: Duration = Duration::from_secs(5);
/// How long the client may take for a piece of its answer where there is no place for answers that wait.
pub(crate) const HASTE: Duration = Duration::from_secs(2);
/// As good as never, and representable.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What was not there in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The application's leave to send a body.
    Leave,
    /// The next piece of the request's body.
    Body,
    /// The client, to take a piece of the answer.
    Client,
    /// The rest of the body, which nobody needs any more.
    Rest,
    /// The application; this is how it failed.
    Application(&'static str),
}

impl<C: Caller> Exchange<'_, C> {
    /// The first of all deadlines that hold now.
    pub(super) fn deadline(&self) -> (Instant, Due) {
        if let Some(answered) = self.answered {
            return (answered + REST, Due::Rest);
        }
        let (times, upload, download) = (&self.timeouts, &self.upload, &self.download);
        let (to_application, to_client) = self.moved;
        let mut first = match times.total {
            Some(total) => (self.begun_at() + total, Due::Application("total_timeout passed")),
            None => (self.begun + NEVER, Due::Application("a year has passed")),
        };
        let mut sooner = |at: Instant, due: Due| {
            if at < first.0 {
                first = (at, due);
            }
        };
        if !upload.over {
            if upload.held {
                sooner(self.begun + LEAVE, Due::Leave);
            } else if upload.wants_client {
                // An application that answers meanwhile is in no hurry for the rest of the body.
                sooner(to_application.max(to_client) + times.idle.min(self.patience), Due::Body);
            } else {
                sooner(to_application + times.idle, Due::Application("it does not take the body"));
            }
        }
        if download.wants_client {
            let patience = if self.unread.is_some() { self.patience } else { self.patience.min(HASTE) };
            sooner(to_client + patience, Due::Client);
        } else if self.answering() {
            sooner(to_client.max(to_application) + times.idle, Due::Application("a pause in the answer"));
        } else if upload.over {
            sooner(to_application + times.first_byte, Due::Application("no answer"));
        }
        first
    }

    fn begun_at(&self) -> Instant {
        self.ctx.sent.map_or(self.begun, Instant::from_std)
    }
}
