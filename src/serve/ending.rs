//! How a gateway ends: readiness fails, listeners close, requests finish, and audit log and spans are closed last.
use crate::serve::key_use;
use crate::serve::live;
use crate::serve::run::Running;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the audit log may take to write what is left.
const LAST_ENTRIES: Duration = Duration::from_secs(5);
/// How long WebSockets may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(2500);
/// How long cut connections may take to give account of their requests.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why a gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was asked to, by signal.
    Asked,
    /// Another process serves in its place, on the same sockets.
    Replaced,
}

impl Running {
    /// Ends in order. Asked to end, it first waits for `drain_delay` while only readiness fails. Then listeners close,
    /// requests finish within `drain_timeout`, what is left is cut, and the audit log is closed last. Another SIGTERM or
    /// SIGINT cuts at once; one that comes while a successor serves is taken for the first.
    pub async fn stop(mut self, reason: Reason) {
        let server = self.shared.active().snapshot.server.clone();
        let orders = match reason {
            Reason::Asked => 1,
            // A service manager that ends the service sends it to both; the successor is the one that is meant.
            Reason::Replaced => 2,
        };
        if reason == Reason::Asked {
            self.notifier.stopping();
        }
        let mut hurry = std::pin::pin!(signals(orders));
        let orderly = async {
            if reason == Reason::Asked && !server.drain_delay.is_zero() {
                self.drain.announce();
                tracing::info!(delay_ms = millis(server.drain_delay), "not ready any more; the drain begins later");
                tokio::time::sleep(server.drain_delay).await;
            }
            tracing::info!(connections = self.drain.live(), "draining");
            match reason {
                Reason::Asked => self.drain.finish(server.drain_timeout).await,
                Reason::Replaced => self.drain.retire(server.drain_timeout).await,
            }
        };
        if reason == Reason::Replaced {
            // Two processes accept from the admin socket; only the one that serves may answer.
            self.close_admin.send_replace(true);
        }
        let left = tokio::select! {
            left = orderly => left,
            () = &mut hurry => {
                tracing::warn!(connections = self.drain.live(), "asked again: ending at once");
                self.drain.live()
            }
        };
        if left > 0 {
            if live::dismiss(&self.shared) > 0 {
                self.drain.finish(GOODBYE).await;
            }
            let mute = self.drain.cut(LAST_WORDS).await;
            tracing::warn!(connections = left, mute, "closed what was left of the drain");
        }
        self.close_admin.send_replace(true);
        self.tasks.shutdown().await;
        key_use::write(&self.shared).await;
        let audit = self.shared.audit.clone();
        let close = tokio::task::spawn_blocking(move || audit.close(LAST_ENTRIES));
        let (closed, ()) = tokio::join!(close, self.exporting.finish());
        match closed {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!(%error, "the audit log could not be closed"),
            Err(error) => tracing::error!(%error, "the audit log's writer died"),
        }
    }
}

/// SIGTERM and SIGINT, from the moment at which it is made: they no longer kill the process then.
pub struct Orders {
    term: Signal,
    int: Signal,
}

impl Orders {
    /// Listens for them from now on.
    pub fn new() -> io::Result<Orders> {
        Ok(Orders { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Completes with the next one. Cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Completes with the last of so many orders from now on.
async fn signals(orders: u32) {
    let Ok(mut given) = Orders::new() else { return std::future::pending().await };
    for order in 1..=orders {
        given.next().await;
        if order < orders {
            tracing::info!("draining already, since another process serves; a second signal cuts what is left");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
