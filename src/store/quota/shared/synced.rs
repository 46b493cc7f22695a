//! Synced limits: each replica decides by itself, and busy keys are brought together ten times a second.
use super::super::cells::{Budget, Key};
use super::super::meter::{Meter, Taken};
use super::{Busy, Common, Joint, STATE, name};
use crate::store::shared::{Fault, Op, Reply, Script};
use governor::clock::Clock;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two beats: pauses in which nobody hears from the others.
pub(in crate::store::quota) const BEAT: Duration = Duration::from_millis(100);
/// Busy keys of this process over all limits, of about 100 bytes each. A key for which there is no room is held to this
/// replica's share.
pub(in crate::store::quota) const BUSY_MOST: usize = 10_000;
/// Keys in one call: the server does nothing else meanwhile.
const BATCH: usize = 256;
/// Beats between two words to the others that a key is busy, and after which it is busy no more where nobody says so.
const SAY_EVERY: u64 = 20;
const HEARD_FOR: u64 = 50;
/// The same in microseconds, for the server's list.
const LISTED_US: u64 = 5_000_000;
/// Names read from the server's list at once.
const HEAR_MOST: usize = 5_000;

/// Adds what was taken from each key, answers with what all have taken. For each key: what to add, and the most that a key
/// may be in debt, in nanoseconds.
static MEET: LazyLock<Script> = LazyLock::new(|| {
    let meet = "local out = {} \
         for i, key in ipairs(KEYS) do \
           local used, at = read(key) \
           local more = tonumber(ARGV[2 * i - 1]) \
           if more > 0 or at > now then \
             used = math.max(used, math.min(used + more, tonumber(ARGV[2 * i]))) \
             write(key, used) \
           end \
           out[i] = used \
         end \
         return out";
    Script::new([STATE, meet].concat())
});

/// The list of busy keys: adds ours, answers with the server's time and what others have said since then.
static SAY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME') \
         local now = t[1] * 1000000 + t[2] \
         for i = 4, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[2])) \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + ARGV[2]), '+inf') \
         redis.call('PEXPIRE', KEYS[1], ARGV[2] / 1000) \
         local since = math.min(tonumber(ARGV[1]), now) \
         local out = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', since), '+inf', 'LIMIT', 0, tonumber(ARGV[3])) \
         table.insert(out, 1, string.format('%.0f', now)) \
         return out",
    )
});

/// What the beats of this process go by.
pub(in crate::store::quota) struct Beats {
    /// Counts them.
    pub(in crate::store::quota) now: AtomicU64,
    /// Until when the server's list has been read, microseconds of its clock.
    heard_us: AtomicU64,
    /// How many busy keys there are.
    pub(in crate::store::quota) room: Budget,
}

impl Beats {
    pub(in crate::store::quota) fn new() -> Beats {
        Beats { now: AtomicU64::new(0), heard_us: AtomicU64::new(0), room: Budget::new(BUSY_MOST) }
    }
}

/// A rate with its meter, on its way to the store.
pub(in crate::store::quota) struct Party<'q, C: Clock> {
    pub(in crate::store::quota) meter: &'q Meter<C>,
    pub(in crate::store::quota) joint: &'q Joint<C>,
}

impl<C: Clock + Clone> Joint<C> {
    /// Takes one request, as if alone; notes what others should hear of.
    pub(in crate::store::quota) fn take_synced(
        &self,
        meter: &Meter<C>,
        key: Key,
        other: u64,
        cost: u32,
        now: u64,
        beats: &Beats,
    ) -> Taken {
        let taken = meter.take(key, cost, now);
        let beat = beats.now.load(Ordering::Relaxed);
        if let Some(busy) = self.busy.get(&key.own) {
            busy.touched.store(beat, Ordering::Relaxed);
            if taken.allowed {
                busy.untold.fetch_add(cost, Ordering::Relaxed);
            }
            if !busy.ours.load(Ordering::Relaxed) && self.is_past_half(self.take_share(key, now)) {
                busy.ours.store(true, Ordering::Relaxed);
            }
            return taken;
        }
        let share = self.take_share(key, now);
        if !self.is_past_half(share) {
            return taken;
        }
        if self.note(meter, key.own, other, beat, true, beats) || share.allowed { taken } else { share }
    }

    fn is_past_half(&self, share: Taken) -> bool {
        let burst = self.share.load().meter.as_ref().map_or(0, |meter| meter.gcra().burst());
        !share.allowed || share.remaining.saturating_mul(2) <= burst
    }

    /// Makes a key busy, with all that it has used here; `false` where there is no room.
    fn note(&self, meter: &Meter<C>, own: u64, other: u64, now: u64, ours: bool, beats: &Beats) -> bool {
        if let dashmap::Entry::Vacant(place) = self.busy.entry(own) {
            if !beats.room.claim() {
                return false;
            }
            let interval = meter.gcra().costs().0.max(1);
            let untold = u32::try_from(meter.used_ns(own).div_ceil(interval)).unwrap_or(u32::MAX);
            place.insert(Busy {
                other,
                untold: AtomicU32::new(untold),
                touched: AtomicU64::new(if ours || untold > 0 { now } else { 0 }),
                heard: AtomicU64::new(now),
                ours: AtomicBool::new(ours),
            });
        }
        true
    }

    /// How many keys are busy.
    pub(in crate::store::quota) fn busy(&self) -> usize {
        self.busy.len()
    }

    /// Gives room back before it is forgotten.
    pub(in crate::store::quota) fn clear(&self, beats: &Beats) {
        beats.room.release(self.busy.len());
        self.busy.clear();
    }
}

/// One beat: says which keys are busy here and hears of others, tells what was taken and learns what all have taken.
pub(in crate::store::quota) async fn beat<C: Clock + Clone>(
    common: &Common,
    parties: &[Party<'_, C>],
    beats: &Beats,
) -> Result<(), Fault> {
    let now = beats.now.fetch_add(1, Ordering::Relaxed) + 1;
    let store = &common.store;
    let said: Vec<String> = if now.is_multiple_of(SAY_EVERY) { all_ours(parties) } else { new_ours(parties, now) };
    let key = [format!("{}:{{limits}}:busy", store.prefix()).into_bytes()];
    let since = beats.heard_us.load(Ordering::Relaxed);
    let mut values: Vec<Vec<u8>> =
        [since, LISTED_US, HEAR_MOST as u64].iter().map(|number| number.to_string().into_bytes()).collect();
    values.extend(said.into_iter().map(String::into_bytes));
    let Reply::List(heard) = store.run_patiently(Op::Sync, &SAY, &key, &values).await? else {
        return Err(Fault::Malformed);
    };
    let mut heard = heard.into_iter().filter_map(|one| match one {
        Reply::Bulk(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    });
    let until = heard.next().and_then(|now| now.parse().ok()).ok_or(Fault::Malformed)?;
    beats.heard_us.store(until, Ordering::Relaxed);
    heard.for_each(|name| hear(parties, &name, now, beats));
    for party in parties {
        meet(common, party, now).await?;
        retire(party, now, beats);
    }
    Ok(())
}

/// Names on the server's list: a stem and both halves of a hash.
fn listed(stem: &str, own: u64, other: u64) -> String {
    format!("{stem}{own:016x}{other:016x}")
}

fn ours<'p, C: Clock>(
    parties: &'p [Party<'_, C>],
    which: impl Fn(&Busy) -> bool + 'p,
) -> impl Iterator<Item = String> + 'p {
    parties.iter().flat_map(move |party| {
        let ours = party.joint.busy.iter().filter(|busy| busy.ours.load(Ordering::Relaxed) && which(busy));
        ours.map(|busy| listed(&party.joint.stem, *busy.key(), busy.other)).collect::<Vec<_>>()
    })
}

fn all_ours<C: Clock>(parties: &[Party<'_, C>]) -> Vec<String> {
    ours(parties, |_| true).collect()
}

/// Those that have become busy since the last beat.
fn new_ours<C: Clock>(parties: &[Party<'_, C>], now: u64) -> Vec<String> {
    ours(parties, |busy| busy.heard.load(Ordering::Relaxed) + 1 >= now).collect()
}

/// Somebody calls a key busy.
fn hear<C: Clock + Clone>(parties: &[Party<'_, C>], name: &str, now: u64, beats: &Beats) {
    let Some((stem, hash)) = name.len().checked_sub(32).and_then(|at| name.split_at_checked(at)) else { return };
    let half = |range: std::ops::Range<usize>| u64::from_str_radix(hash.get(range)?, 16).ok();
    let (Some(own), Some(other)) = (half(0..16), half(16..32)) else { return };
    let Some(party) = parties.iter().find(|party| party.joint.stem == stem) else { return };
    if let Some(busy) = party.joint.busy.get(&own) {
        busy.heard.store(now, Ordering::Relaxed);
        return;
    }
    // Half of the room is for keys that are busy here.
    if beats.room.live() < BUSY_MOST / 2 {
        party.joint.note(party.meter, own, other, now, false, beats);
    }
}

/// Tells and learns, for all busy keys of one rate that somebody has asked for lately.
async fn meet<C: Clock + Clone>(common: &Common, party: &Party<'_, C>, now: u64) -> Result<(), Fault> {
    let (interval, whole) = party.meter.gcra().costs();
    let lately =
        |busy: &Busy| busy.untold.load(Ordering::Relaxed) > 0 || busy.touched.load(Ordering::Relaxed) + SAY_EVERY > now;
    let wanted: Vec<(u64, u64)> =
        party.joint.busy.iter().filter(|busy| lately(busy)).map(|busy| (*busy.key(), busy.other)).collect();
    for batch in wanted.chunks(BATCH) {
        let keys: Vec<Vec<u8>> =
            batch.iter().map(|hash| name(common.store.prefix(), &party.joint.stem, *hash)).collect();
        let mut values = Vec::with_capacity(2 * batch.len());
        let mut told = Vec::with_capacity(batch.len());
        for (own, _) in batch {
            let untold = party.joint.busy.get(own).map_or(0, |busy| busy.untold.swap(0, Ordering::Relaxed));
            told.push(untold);
            // What has come back meanwhile need not be told.
            let more = interval.saturating_mul(u64::from(untold)).min(party.meter.used_ns(*own));
            values.push(more.to_string().into_bytes());
            values.push(whole.saturating_mul(2).to_string().into_bytes());
        }
        let asked = Instant::now();
        let reply = common.store.run_patiently(Op::Sync, &MEET, &keys, &values).await;
        let since_ns = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (Ok(Reply::List(_)) | Err(_)) = &reply else { return Err(Fault::Malformed) };
        let totals = match reply {
            Ok(Reply::List(totals)) if totals.len() == batch.len() => totals,
            Ok(_) => return Err(Fault::Malformed),
            Err(fault) => {
                // It may have been carried out: telling it twice errs on the side of the limit, and is bounded by it.
                for ((own, _), untold) in batch.iter().zip(told) {
                    if let Some(busy) = party.joint.busy.get(own) {
                        busy.untold.fetch_add(untold, Ordering::Relaxed);
                    }
                }
                return Err(fault);
            }
        };
        for ((own, _), total) in batch.iter().zip(totals) {
            let Reply::Number(used) = total else { return Err(Fault::Malformed) };
            let untold = party.joint.busy.get(own).map_or(0, |busy| busy.untold.load(Ordering::Relaxed));
            let used = u64::try_from(used).unwrap_or(0).saturating_sub(since_ns);
            party.meter.raise(*own, used.saturating_add(interval.saturating_mul(u64::from(untold))));
        }
    }
    Ok(())
}

/// Forgets keys that are busy no more.
fn retire<C: Clock + Clone>(party: &Party<'_, C>, now: u64, beats: &Beats) {
    let share = party.joint.share.load();
    let whole = party.meter.gcra().costs().1;
    // Well below where it became busy, so that it does not come and go.
    let quiet = whole / u64::from(share.replicas.max(1)).saturating_mul(4);
    let mut gone = 0;
    party.joint.busy.retain(|own, busy| {
        let heard = busy.heard.load(Ordering::Relaxed) + HEARD_FOR > now;
        let told = busy.untold.load(Ordering::Relaxed) == 0;
        if busy.ours.load(Ordering::Relaxed)
            && told
            && now.is_multiple_of(SAY_EVERY)
            && party.meter.used_ns(*own) < quiet
        {
            busy.ours.store(false, Ordering::Relaxed);
        }
        let keep = busy.ours.load(Ordering::Relaxed) || heard || !told;
        gone += usize::from(!keep);
        keep
    });
    beats.room.release(gone);
}
