//! Mistakes in `storage.redis`, one change each: with their messages and places.

const SERVER: &str = "server: {state_dir: state}";
/// A store that is as it should be, and a limit that is counted there.
const STORE: &str = "url: \"rediss://store.example\", use_for: [limits], password: {file: roles.yaml}, hash_key: {file: roles.yaml}, username: moat, ca: roles.yaml, key_prefix: \"moat:\", connect_timeout: 1s, command_timeout: 50ms";

/// What is said about a store with one change, and a limit with these words.
fn told(from: &str, to: &str, limit: &str) -> String {
    assert!(STORE.contains(from), "{from}");
    let store = format!("storage: {{redis: {{{}}}}}", STORE.replace(from, to));
    super::changed(&[(SERVER, &store), ("burst: 2x", &format!("burst: 2x, {limit}"))])
}

#[test]
fn a_store_that_is_right_compiles() {
    for (from, to) in [
        ("moat:", "moat:"),
        ("rediss://store.example", "rediss://store.example:6380/3"),
        ("rediss://store.example", "rediss://[2001:db8::1]:6380"),
        (", username: moat", ""),
        (", hash_key: {file: roles.yaml}", ""),
        (", ca: roles.yaml", ""),
        ("connect_timeout: 1s", "connect_timeout: 60s"),
        ("command_timeout: 50ms", "command_timeout: 10s"),
    ] {
        for limit in ["mode: strict, on_store_loss: closed", "mode: synced"] {
            assert_eq!(told(from, to, limit), "ok", "{to} with {limit}");
        }
    }
    // Nobody vouches for who is spoken to without TLS.
    let plain = STORE.replace(", ca: roles.yaml", "");
    for url in ["unix:/run/redis.sock", "redis://127.0.0.1", "redis://localhost:6380/1", "redis://[::1]"] {
        let store = format!("storage: {{redis: {{{}}}}}", plain.replace("rediss://store.example", url));
        assert_eq!(super::changed(&[(SERVER, &store), ("burst: 2x", "burst: 2x, mode: strict")]), "ok", "{url}");
    }
}

#[test]
fn every_mistake_in_a_store_has_its_message_and_place() {
    let mut wrong = Vec::new();
    for (from, to, said) in MISTAKES {
        let told = told(from, to, "mode: strict");
        if told != *said {
            wrong.push(format!("{to}\n  said:  {told}\n  meant: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "rediss://store.example",
        "http://store.example",
        "gateway.yaml:2:24 this is no URL of a Redis (write `rediss://HOST:PORT/DATABASE`, `redis://…` without TLS, or `unix:/PATH`)",
    ),
    (
        "rediss://store.example",
        "rediss://moat:secret@store.example",
        "gateway.yaml:2:24 a URL of a Redis has no user, password or options (write `username` and `password: {file: …}`, and change this password: it has been in a file)",
    ),
    (
        "rediss://store.example",
        "rediss://store.example/zero",
        "gateway.yaml:2:24 the path of a Redis is the number of a database (write `rediss://HOST:PORT/DATABASE`, `redis://…` without TLS, or `unix:/PATH`)",
    ),
    (
        "rediss://store.example",
        "rediss://store.example?timeout=1",
        "gateway.yaml:2:24 a URL of a Redis has no user, password or options (write `username` and `password: {file: …}`, and change this password: it has been in a file)",
    ),
    (
        "rediss://store.example",
        "unix:redis.sock",
        "gateway.yaml:2:24 this is no URL of a Redis (write `rediss://HOST:PORT/DATABASE`, `redis://…` without TLS, or `unix:/PATH`)",
    ),
    (
        "rediss://store.example",
        "unix:/run/redis.sock",
        "gateway.yaml:2:147 without TLS nobody vouches for the server (write `rediss://` in `url`)",
    ),
    (
        "rediss://store.example",
        "redis://store.example",
        "gateway.yaml:2:24 password and counts would cross the network in the clear (write `rediss://`, or say why not: `plaintext: \"<reason>\"`)\n\
         gateway.yaml:2:148 without TLS nobody vouches for the server (write `rediss://` in `url`)",
    ),
    ("use_for: [limits]", "use_for: []", "gateway.yaml:2:59 it is used for nothing (write `use_for: [limits]`)"),
    ("use_for: [limits]", "use_for: [limits, limits]", "gateway.yaml:2:68 this use stands there already"),
    (
        "use_for: [limits]",
        "use_for: [limit]",
        "gateway.yaml:2:59 it is used for nothing (write `use_for: [limits]`)\n\
         gateway.yaml:2:60 unknown value `limit` (did you mean `limits`?)",
    ),
    (
        "password: {file: roles.yaml}",
        "plaintext: \"none\"",
        "gateway.yaml:2:80 this server is spoken to with TLS (remove it)\n\
         gateway.yaml:2:128 a user name needs a password (write `password: {file: …}` beside it)",
    ),
    (
        "password: {file: roles.yaml}",
        "plaintext: \" \", password: {file: roles.yaml}",
        "gateway.yaml:2:80 plaintext needs a reason",
    ),
    (
        "password: {file: roles.yaml}",
        "plaintext: \"inside\", password: {file: roles.yaml}",
        "gateway.yaml:2:80 this server is spoken to with TLS (remove it)",
    ),
    ("password: {file: roles.yaml}", "password: {env: NOT_SET}", "gateway.yaml:2:79 the variable `NOT_SET` is not set"),
    (
        "password: {file: roles.yaml}, hash_key: {file: roles.yaml}, username: moat, ",
        "",
        "gateway.yaml:2:18 keys would be hashed with nothing: there is neither a password nor a `hash_key` (write `hash_key: {file: …}`, with the same secret on all replicas)",
    ),
    ("ca: roles.yaml", "ca: nowhere.pem", "gateway.yaml:2:149 `nowhere.pem` does not exist"),
    (
        "key_prefix: \"moat:\"",
        "key_prefix: \"\"",
        "gateway.yaml:2:173 `` cannot begin a key (1 to 64 letters, digits, `-`, `_`, `.` or `:` will do)",
    ),
    (
        "key_prefix: \"moat:\"",
        "key_prefix: \"moat {x}\"",
        "gateway.yaml:2:173 `moat {x}` cannot begin a key (1 to 64 letters, digits, `-`, `_`, `.` or `:` will do)",
    ),
    (
        "connect_timeout: 1s",
        "connect_timeout: 5ms",
        "gateway.yaml:2:199 expected at least `10ms`, found `5ms` (anything from `10ms` to `1m` will do)",
    ),
    (
        "connect_timeout: 1s",
        "connect_timeout: 2m",
        "gateway.yaml:2:199 expected at most `1m`, found `2m` (anything from `10ms` to `1m` will do)",
    ),
    (
        "command_timeout: 50ms",
        "command_timeout: 0s",
        "gateway.yaml:2:220 expected at least `1ms`, found `0ms` (anything from `1ms` to `10s` will do)",
    ),
    (
        "command_timeout: 50ms",
        "command_timeout: 11s",
        "gateway.yaml:2:220 expected at most `10s`, found `11s` (anything from `1ms` to `10s` will do)",
    ),
    (
        "command_timeout",
        "comand_timeout",
        "gateway.yaml:2:203 unknown key `comand_timeout` (did you mean `command_timeout`?)",
    ),
];

/// With a store, and without one.
const LIMITS: &[(&str, bool, &str)] = &[
    (
        "on_store_loss: closed",
        false,
        "limits.yaml:3:77 a limit that each replica counts alone needs no store (remove it, or give the limit `mode: synced` or `mode: strict`)",
    ),
    ("mode: strict", false, "ok"),
    (
        "on_store_loss: closed",
        true,
        "gateway.yaml:2:18 `storage.redis` is not used by any limit (give a limit `mode: synced` or `mode: strict`, or remove `storage.redis`)\n\
         limits.yaml:3:77 a limit that each replica counts alone needs no store (remove it, or give the limit `mode: synced` or `mode: strict`)",
    ),
    (
        "mode: strict, count: failures",
        true,
        "limits.yaml:3:83 a `strict` limit is charged before the answer that tells the cost is known (give the limit `mode: local` or `mode: synced`)",
    ),
    (
        "mode: strict, cost: {by_response: {header: x-cost, max: 9}}",
        true,
        "limits.yaml:3:82 a `strict` limit is charged before the answer that tells the cost is known (give the limit `mode: local` or `mode: synced`)",
    ),
    (
        "mode: strict, concurrent: 3",
        true,
        "limits.yaml:3:88 each replica holds a cap alone, and a `strict` rate is charged before it (write the cap as a limit of its own, with `mode: local`)",
    ),
    ("mode: synced, concurrent: 3", true, "ok"),
];

#[test]
fn what_a_limit_says_about_a_store_must_fit() {
    let mut wrong = Vec::new();
    for (limit, store, said) in LIMITS {
        let told = match store {
            true => told("moat:", "moat:", limit),
            false => super::changed(&[("burst: 2x", &format!("burst: 2x, {limit}"))]),
        };
        if told != *said {
            wrong.push(format!("{limit}\n  said:  {told}\n  meant: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
