//! What the server does in one piece, in Lua.
use crate::store::shared::Script;
use std::sync::LazyLock;

/// KEYS: record.
pub(super) static GET: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('GET', KEYS[1])"));

/// KEYS: record. ARGV: what is expected (`A`bsent, `V`ersion, `*`), the version, the time, the record's bytes, milliseconds
/// until the server may forget it (nothing: never), the record's short key, what names of index sets begin with, the
/// index (nothing: none), what names of records begin with.
///
/// Answers 1 where it is written; else with the living record that stands there, or with nothing. A set of an index lasts
/// as long as its longest member, and each write looks whether four of its members, by chance, are still there: so it
/// does not grow with what has expired.
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('GET', KEYS[1]) \
         local lives = old and struct.unpack('>I8', old, 9) > tonumber(ARGV[3]) \
         if (ARGV[1] == 'A' and lives) or (ARGV[1] == 'V' and not (lives and string.sub(old, 1, 8) == ARGV[2])) then \
           return lives and old or false \
         end \
         local before = old and string.byte(old, 17) == 1 and string.sub(old, 18, 49) or '' \
         if before ~= '' and before ~= ARGV[8] then redis.call('ZREM', ARGV[7] .. before, ARGV[6]) end \
         if ARGV[5] == '' then redis.call('SET', KEYS[1], ARGV[4]) \
         else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end \
         if ARGV[8] ~= '' then \
           local set = ARGV[7] .. ARGV[8] \
           local left = redis.call('PTTL', set) \
           redis.call('ZADD', set, 0, ARGV[6]) \
           for _, member in ipairs(redis.call('ZRANDMEMBER', set, 4)) do \
             if redis.call('EXISTS', ARGV[9] .. member) == 0 then redis.call('ZREM', set, member) end \
           end \
           if ARGV[5] == '' then redis.call('PERSIST', set) \
           elseif left ~= -1 and left < tonumber(ARGV[5]) then redis.call('PEXPIRE', set, ARGV[5]) end \
         end \
         return 1",
    )
});

/// KEYS: record. ARGV: its short key, what names of index sets begin with.
pub(super) static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('GET', KEYS[1]) \
         if not old then return false end \
         redis.call('DEL', KEYS[1]) \
         if string.byte(old, 17) == 1 then redis.call('ZREM', ARGV[2] .. string.sub(old, 18, 49), ARGV[1]) end \
         return old",
    )
});

/// KEYS: index set. ARGV: from which member, what names of records begin with, how many.
///
/// Answers with the last member that was looked at, then key and record by turns; with nothing at the end. Stops early
/// after half a megabyte.
pub(super) static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local out, bytes = {}, 0 \
         for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[3])) do \
           local record = redis.call('GET', ARGV[2] .. member) \
           out[1] = member \
           if record then \
             out[#out + 1] = member \
             out[#out + 1] = record \
             bytes = bytes + #record \
             if bytes > 524288 then return out end \
           else redis.call('ZREM', KEYS[1], member) end \
         end \
         return out",
    )
});

/// ARGV: cursor, pattern, how many keys to look at. Answers with the next cursor and keys.
pub(super) static SCAN: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])"));

/// KEYS: records. Answers with the first of them, until half a megabyte is full; a number stands for one that is gone.
pub(super) static MANY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local out, bytes = {}, 0 \
         for at, key in ipairs(KEYS) do \
           local record = redis.call('GET', key) \
           out[at] = record or 0 \
           bytes = bytes + (record and #record or 0) \
           if bytes > 524288 then return out end \
         end \
         return out",
    )
});

/// KEYS: the feed. ARGV: a note. Answers with its place. About the last hundred thousand notes are kept.
pub(super) static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('XADD', KEYS[1], 'MAXLEN', '~', '100000', '*', 'n', ARGV[1])"));

/// KEYS: the feed. Answers with the place of its last note, or with nothing.
pub(super) static END: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
         return last and last[1] or false",
    )
});

/// KEYS: the feed. ARGV: a place, how many. Answers whether that note is there, and with what is behind it.
pub(super) static NEWS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local there = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) \
         return {#there, redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}",
    )
});
