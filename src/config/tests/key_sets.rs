//! Mistakes in where API keys are and in what they may do, one each: with their messages and places.
use super::{SOUND, lines, load, sound, whole};

const ROUTE: &str = "auth: {bearer: login}";
const SHARED: &str =
    "storage: {redis: {url: \"redis://127.0.0.1\", hash_key: {file: roles.yaml}, use_for: [api_keys]}}";

/// The route's line where it accepts these keys too.
fn line(keys: &str) -> String {
    format!("auth: {{any_of: [{{bearer: login}}, {keys}]}}")
}

/// What is said about a route with these keys, and with this storage besides.
fn told(keys: &str, storage: &str) -> String {
    let server = "server: {state_dir: state}";
    super::changed(&[(ROUTE, &line(keys)), (server, if storage.is_empty() { server } else { storage })])
}

#[test]
fn a_set_that_is_right_compiles() {
    for (auth, storage) in [
        ("{api_key: {prefix: nlk_, keys: {state: machines}}}", ""),
        ("{api_key: {prefix: nlk_, keys: {state: m-2_x}, pepper: {file: roles.yaml}}}", SHARED),
        (
            "{api_key: {prefix: nlk_, keys: {state: a}}}, {api_key: {header: x-b, prefix: other_, keys: {state: b}}}, {api_key: {header: x-c, prefix: nlk_, keys: {state: a}}}",
            "",
        ),
    ] {
        assert_eq!(told(auth, storage), "ok", "{auth}");
    }
}

#[test]
fn every_mistake_in_a_set_has_its_message_and_place() {
    let two = |second: &str| {
        format!("{{api_key: {{prefix: nlk_, keys: {{state: a}}}}}}, {{api_key: {{header: x-b, {second}}}}}")
    };
    let one_of_both =
        "keys are in a file or in a set of the state engine (write `keys: {file: PATH}`, or `keys: {state: NAME}`)";
    for (auth, storage, at, said) in [
        ("{api_key: {prefix: nlk_, keys: {}}}".to_owned(), "", "{}}", one_of_both),
        ("{api_key: {prefix: nlk_, keys: {file: k.yaml, state: m}}}".to_owned(), "", "{file: k", one_of_both),
        (
            "{api_key: {prefix: nlk_, keys: {state: Machines}}}".to_owned(),
            "",
            "Machines",
            "`Machines` cannot be the name of a set (write 1 to 63 lowercase letters, digits, `-` and `_`)",
        ),
        (
            "{api_key: {prefix: nlk_, keys: {state: m}}}".to_owned(),
            SHARED,
            "m}}",
            "replicas share keys that each of them hashes with a pepper of its own (write `pepper: …` beside `keys`, the same secret for all replicas)",
        ),
        (
            two("prefix: other_, keys: {state: a}"),
            "",
            "other_",
            "keys of `a` begin with `nlk_` elsewhere (the keys of one place have one prefix)",
        ),
        (
            two("prefix: nlk_, keys: {state: a}, pepper: {file: roles.yaml}"),
            "",
            "{file: roles",
            "keys of `a` are hashed with another pepper elsewhere (the keys of one set have one pepper)",
        ),
    ] {
        let row = super::SOUND.lines().position(|line| line.contains(ROUTE)).unwrap() + 1;
        let column = 4 + line(&auth).find(at).unwrap() + 1;
        assert_eq!(told(&auth, storage), format!("gateway.yaml:{row}:{column} {said}"), "{auth}");
    }
}

/// The sound bundle with a key in a file, which says this of its scopes.
fn with_key(scopes: &str) -> tempfile::TempDir {
    let mut files = sound().to_vec();
    files[0].1 = SOUND.replace(ROUTE, &line("{api_key: {prefix: nlk_, keys: {file: keys.yaml}}}"));
    let hash = "0".repeat(64);
    let key = format!(
        "version: 1\nkeys:\n  4f7Ka91BxQ:\n    name: a test\n    tenant: acme\n    roles: [clerk]\n    {scopes}\n    \
         hash: hmac-sha256:{hash}\n    created: 2026-11-21T12:00:00Z\n"
    );
    files.push(("keys.yaml", key));
    whole(&files)
}

#[test]
fn scopes_name_permissions_each_once() {
    for (scopes, expected) in [
        ("# none", "ok"),
        ("scopes: [orders.read]", "ok"),
        (
            "scopes: []",
            "keys.yaml:7:13 `scopes` is empty (name permissions, or remove it: then the key is good for all that its roles grant)",
        ),
        ("scopes: [orders.red]", "keys.yaml:7:14 unknown permission `orders.red` (did you mean `orders.read`?)"),
        (
            "scopes: [\"orders.*\", orders.read, orders.read]",
            "keys.yaml:7:14 unknown permission `orders.*` (there is only `orders.read`)\n\
             keys.yaml:7:39 `orders.read` stands twice (remove one of them)",
        ),
    ] {
        let found = load(with_key(scopes).path()).map_or_else(|problems| lines(&problems), |_| "ok".to_owned());
        assert_eq!(found, expected, "{scopes}");
    }
}

#[test]
fn a_key_that_gains_scopes_is_named() {
    let more = "API key `4f7Ka91BxQ` has more scopes";
    let snapshot = |scopes: &str| load(with_key(scopes).path()).unwrap_or_else(|p| panic!("{}", p.text())).snapshot;
    for (old, new, expected) in [
        ("scopes: [orders.read]", "scopes: [orders.read]", None),
        ("# all", "scopes: [orders.read]", None),
        ("scopes: [orders.read]", "# all", Some(more)),
    ] {
        let all = crate::config::compare::loosened(&snapshot(old), &snapshot(new));
        assert_eq!(all.iter().find(|line| line.starts_with("API key")).map(String::as_str), expected, "{all:?}");
    }
}
