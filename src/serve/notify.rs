//! What the service manager is told (sd_notify(3)): that we are ready, reload, end, and still make progress.
use super::listening::Listening;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How many times in a watchdog period the accept loops are looked at: one missed look must not end the process.
const LOOKS: u32 = 4;

/// The way to the service manager. Without one, nothing is told and nothing fails.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say.
    pub fn from_environment() -> Notifier {
        let var = |name: &str| std::env::var(name).ok();
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|path| address(path.as_bytes()));
        let to = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let ours = var("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let period = var("WATCHDOG_USEC").filter(|_| ours).and_then(|usec| usec.parse().ok());
        Notifier { to, watchdog: period.filter(|usec| *usec > 0).map(Duration::from_micros) }
    }

    /// The process serves.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// A reload has begun; [`Notifier::ready`] says that it is over, however it went.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The process ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    /// Another process serves now, and is the service.
    pub fn successor(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}\nSTATUS=replaced by process {pid}"));
    }

    /// Keeps the watchdog content for as long as all accept loops come round. Never completes.
    pub async fn watchdog(&self, listening: &Listening) {
        let Some(period) = self.watchdog else { return std::future::pending().await };
        let mut look = tokio::time::interval(period / LOOKS);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if listening.pulse() {
                self.send("WATCHDOG=1");
            } else {
                tracing::warn!("an accept loop makes no progress; the watchdog is not told otherwise");
            }
        }
    }

    fn send(&self, state: &str) {
        let Some((socket, address)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, "the service manager cannot be told `{}`", state.lines().next().unwrap_or_default());
        }
    }
}

/// A path, or a name in the abstract namespace after `@`.
fn address(path: &[u8]) -> Option<SocketAddr> {
    match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn notifier(path: &Path, watchdog: Option<Duration>) -> (Notifier, UnixDatagram) {
        let manager = UnixDatagram::bind(path).unwrap();
        let to = (UnixDatagram::unbound().unwrap(), address(path.as_os_str().as_bytes()).unwrap());
        (Notifier { to: Some(to), watchdog }, manager)
    }

    fn told(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_every_loop_comes_round() {
        let folder = tempfile::tempdir().unwrap();
        let (notifier, manager) = notifier(&folder.path().join("notify"), Some(Duration::from_secs(8)));
        manager.set_nonblocking(true).unwrap();
        let listening = Listening::default();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut enlisted = listening.enlist(&std::sync::Arc::from("public"), &socket).unwrap();
        let watched = listening.clone();
        let watching = tokio::spawn(async move { notifier.watchdog(&watched).await });
        for _ in 0..4 {
            enlisted.asked().await;
        }
        assert_eq!(told(&manager), "WATCHDOG=1");
        while manager.recv(&mut [0; 64]).is_ok() {}
        // From now on the loop hangs: one look may still find the last answer, and none after that.
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::task::yield_now().await;
        while manager.recv(&mut [0; 64]).is_ok() {}
        for _ in 0..8 {
            tokio::time::advance(Duration::from_secs(2)).await;
            tokio::task::yield_now().await;
        }
        assert!(manager.recv(&mut [0; 64]).is_err(), "a hanging loop is not vouched for");
        watching.abort();
    }

    #[test]
    fn a_reload_carries_the_monotonic_clock() {
        let folder = tempfile::tempdir().unwrap();
        let (notifier, manager) = notifier(&folder.path().join("notify"), None);
        notifier.reloading();
        let text = told(&manager);
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{text}"));
        assert!(usec.parse::<u64>().unwrap() > 0);
        notifier.successor(77);
        assert!(told(&manager).starts_with("MAINPID=77\n"));
    }

    #[test]
    fn the_manager_may_be_in_the_abstract_namespace() {
        assert!(address(b"@/org/freedesktop/systemd1/notify").is_some());
        assert!(address(b"/run/systemd/notify").is_some());
        assert!(address(b"relative").is_none() && address(b"").is_none());
    }
}
