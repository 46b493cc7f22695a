//! The task that looks after the connection: connects, makes sure, counts replicas, and says so when something changes.
use super::link::Link;
use super::{Core, Fault, Op, Reply, Script, resp};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, PoisonError};
use std::time::Duration;

/// Time between two signs of life.
const PRESENCE: Duration = Duration::from_secs(1);
/// A replica that gave none for so long is gone.
const GONE_AFTER_US: u64 = 5_000_000;
/// The first pause between two attempts to connect, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Writes this replica's name with the server's time, forgets names of long ago (and of a time to come, from before the
/// server's clock was set back), counts the rest. A write, so that a server
/// that cannot write is found out.
static PRESENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME') \
         local now = t[1] * 1000000 + t[2] \
         redis.call('ZADD', KEYS[1], now, ARGV[1]) \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[2])) \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + ARGV[2]), '+inf') \
         redis.call('PEXPIRE', KEYS[1], ARGV[2] / 1000) \
         return redis.call('ZCARD', KEYS[1])",
    )
});

/// Never ends.
pub(super) async fn watch_over(core: Arc<Core>) {
    let mut failures = 0;
    let mut was_up = None;
    loop {
        let fault = match connected(&core).await {
            Err(fault) => {
                failures += 1;
                fault
            }
            Ok(link) => {
                failures = 0;
                core.trouble(None);
                core.live.store(Some(link.clone()));
                core.tried();
                if was_up != Some(true) {
                    core.observer.changed(Ok(()));
                }
                was_up = Some(true);
                keep(&core, &link).await
            }
        };
        core.live.store(None);
        let text = fault.to_string();
        if core.trouble(Some(text.clone())) || was_up == Some(true) {
            core.observer.changed(Err(&text));
        }
        was_up = Some(false);
        core.tried();
        tokio::time::sleep(random_pause(failures)).await;
    }
}

/// A connection over which the server has shown that it is of use.
async fn connected(core: &Core) -> Result<Arc<Link>, Fault> {
    let link = core.timed(Op::Connect, Link::open(&core.options)).await?;
    core.present(&link).await?;
    Ok(Arc::new(link))
}

/// Looks after a connection until it is of no use any more.
async fn keep(core: &Core, link: &Arc<Link>) -> Fault {
    let mut pace = tokio::time::interval(PRESENCE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pace.reset();
    loop {
        tokio::select! {
            () = link.ended() => return Fault::Closed,
            // Somebody has found it wanting: ask it ourselves, with more patience than a request has.
            () = core.doubt.notified() => {}
            _ = pace.tick() => {}
        }
        if let Err(fault) = core.present(link).await {
            return fault;
        }
        core.live.store(Some(link.clone()));
    }
}

impl Core {
    /// Gives a sign of life over this connection.
    async fn present(&self, link: &Link) -> Result<(), Fault> {
        let Some(instance) = &self.options.instance else { return self.pong(link).await };
        let keys = [format!("{}:{{limits}}:replicas", self.options.prefix).into_bytes()];
        let values = [instance.clone().into_bytes(), GONE_AFTER_US.to_string().into_bytes()];
        let call = PRESENT.run_on(link, &keys, &values, self.options.connect_timeout);
        match self.timed(Op::Presence, call).await? {
            Reply::Number(count) => {
                self.replicas.store(u32::try_from(count).unwrap_or(1).max(1), Ordering::Relaxed);
                Ok(())
            }
            Reply::Nil | Reply::Status(_) | Reply::Error(_) | Reply::Bulk(_) | Reply::List(_) => Err(Fault::Malformed),
        }
    }

    /// Makes sure of a server that is only read from.
    async fn pong(&self, link: &Link) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        resp::command(&mut bytes, [b"PING".as_slice()].into_iter());
        match self.timed(Op::Presence, link.call(bytes, self.options.connect_timeout)).await? {
            Reply::Status(_) => Ok(()),
            Reply::Error(text) => Err(Fault::Refused(text)),
            Reply::Nil | Reply::Number(_) | Reply::Bulk(_) | Reply::List(_) => Err(Fault::Malformed),
        }
    }

    /// Writes the trouble down; whether it is another one than before.
    fn trouble(&self, trouble: Option<String>) -> bool {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let other = *known != trouble;
        *known = trouble;
        other
    }

    fn tried(&self) {
        self.tries.send_modify(|tries| *tries += 1);
    }
}

/// The pause after so many failures: it doubles up to a bound, and its second half is chance, so that replicas that lost
/// the server together do not return together.
fn pause(failures: u32, random: u32) -> Duration {
    let (first, longest) = PAUSES;
    let whole = first.saturating_mul(1 << failures.min(10)).min(longest);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX)) / 2
}

/// The pause after so many failures.
pub(in crate::store) fn random_pause(failures: u32) -> Duration {
    pause(failures, random())
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without chance replicas are merely less spread.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let ms = |failures, random| pause(failures, random).as_millis();
        assert_eq!([ms(0, 0), ms(1, 0), ms(2, 0), ms(30, 0)], [25, 50, 100, 1000]);
        assert_eq!([ms(0, u32::MAX), ms(1, u32::MAX), ms(30, u32::MAX)], [50, 100, 2000]);
    }
}
