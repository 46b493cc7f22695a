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
    ("rediss://store.example", "http://store.example", ""),
    ("rediss://store.example", "rediss://moat:secret@store.example", ""),
    ("rediss://store.example", "rediss://store.example/zero", ""),
    ("rediss://store.example", "rediss://store.example?timeout=1", ""),
    ("rediss://store.example", "unix:redis.sock", ""),
    ("rediss://store.example", "unix:/run/redis.sock", ""),
    ("rediss://store.example", "redis://store.example", ""),
    ("use_for: [limits]", "use_for: []", ""),
    ("use_for: [limits]", "use_for: [limits, limits]", ""),
    ("use_for: [limits]", "use_for: [limit]", ""),
    ("password: {file: roles.yaml}", "plaintext: \"none\"", ""),
    ("password: {file: roles.yaml}", "plaintext: \" \", password: {file: roles.yaml}", ""),
    ("password: {file: roles.yaml}", "plaintext: \"inside\", password: {file: roles.yaml}", ""),
    ("password: {file: roles.yaml}", "password: {env: NOT_SET}", ""),
    ("password: {file: roles.yaml}, hash_key: {file: roles.yaml}, username: moat, ", "", ""),
    ("ca: roles.yaml", "ca: nowhere.pem", ""),
    ("key_prefix: \"moat:\"", "key_prefix: \"\"", ""),
    ("key_prefix: \"moat:\"", "key_prefix: \"moat {x}\"", ""),
    ("connect_timeout: 1s", "connect_timeout: 5ms", ""),
    ("connect_timeout: 1s", "connect_timeout: 2m", ""),
    ("command_timeout: 50ms", "command_timeout: 0s", ""),
    ("command_timeout: 50ms", "command_timeout: 11s", ""),
    ("command_timeout", "comand_timeout", ""),
];

#[test]
fn what_a_limit_says_about_a_store_must_fit() {
    let local = super::changed(&[("burst: 2x", "burst: 2x, on_store_loss: closed")]);
    assert_eq!(local, "");
    assert_eq!(super::changed(&[("burst: 2x", "burst: 2x, mode: strict")]), "");
    assert_eq!(told("moat:", "moat:", "on_store_loss: closed"), "");
    for settled in [
        "mode: strict, count: failures",
        "mode: strict, cost: {by_response: {header: x-cost, max: 9}}",
        "mode: strict, concurrent: 3",
        "mode: synced, concurrent: 3",
    ] {
        assert_eq!(told("moat:", "moat:", settled), "", "{settled}");
    }
}
