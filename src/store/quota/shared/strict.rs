//! Strict limits: the store counts, for all of a stage at once.
use super::{Common, STATE, name};
use crate::store::shared::{Fault, Op, Reply, Script};
use std::sync::LazyLock;

/// GCRA for several keys in one piece. For each key: the cost of one request and of a whole burst in nanoseconds, and how
/// many requests are taken. The state is what has been used in nanoseconds, and the time of that in microseconds by the
/// server's own clock. All keys are charged, also where one of them is used up. A clock that was set back costs nobody
/// more than what was used.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    let take = "local out = {} \
         for i, key in ipairs(KEYS) do \
           local cost = ARGV[3 * i - 2] * ARGV[3 * i] \
           local used, at = read(key) \
           local allowed = used + cost <= tonumber(ARGV[3 * i - 1]) \
           if allowed then used = used + cost end \
           if allowed or at > now then write(key, used) end \
           out[2 * i - 1] = allowed and 1 or 0 \
           out[2 * i] = used \
         end \
         return out";
    Script::new([STATE, take].concat())
});

/// What is taken from one key.
pub(in crate::store::quota) struct Want<'s> {
    pub(in crate::store::quota) stem: &'s str,
    pub(in crate::store::quota) hash: (u64, u64),
    /// Cost of one request and of a whole burst, nanoseconds.
    pub(in crate::store::quota) costs: (u64, u64),
    pub(in crate::store::quota) requests: u32,
}

/// Takes from all of them; whether each was allowed, and what has been used of it then, in nanoseconds.
pub(in crate::store::quota) async fn take(common: &Common, wanted: &[Want<'_>]) -> Result<Vec<(bool, u64)>, Fault> {
    let prefix = common.store.prefix();
    let keys: Vec<Vec<u8>> = wanted.iter().map(|want| name(prefix, want.stem, want.hash)).collect();
    let values: Vec<Vec<u8>> = wanted
        .iter()
        .flat_map(|want| [want.costs.0, want.costs.1, u64::from(want.requests)])
        .map(|number| number.to_string().into_bytes())
        .collect();
    let Reply::List(numbers) = common.store.run(Op::Take, &TAKE, &keys, &values).await? else {
        return Err(Fault::Malformed);
    };
    let taken: Vec<(bool, u64)> = numbers
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [Reply::Number(allowed), Reply::Number(used)] => Some((*allowed == 1, u64::try_from(*used).ok()?)),
            _ => None,
        })
        .collect();
    if taken.len() == wanted.len() { Ok(taken) } else { Err(Fault::Malformed) }
}
