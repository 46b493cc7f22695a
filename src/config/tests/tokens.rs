//! Mistakes of `sessions.tokens` and `sessions.dpop`, one change each: with their messages and places.

const SOUND: &str = "sessions: {step_up: {fresh: {max_age: 15m}}}";

const MISTAKES: &[(&str, &str, &str)] = &[
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {access_ttl: 10m}}",
        "gateway.yaml:14:54 `sessions.tokens` exchanges the tokens of nobody (write `exchange: [ISSUER]`: the issuers whose tokens are exchanged)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [log]}}",
        "gateway.yaml:14:66 unknown issuer `log` (did you mean `login`?)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login], access_ttl: 0s}}",
        "gateway.yaml:14:86 expected at least `10s`, found `0ms` (anything from `10s` to `1h` will do)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login], issue_at: [\"/.moat/x\"]}}",
        "gateway.yaml:14:85 `/.moat/x` cannot be a token endpoint (a path as requests have it, as `/oauth/token`, and not below `/.moat/`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login], issue_at: [\"/a/../b\"]}}",
        "gateway.yaml:14:85 `/a/../b` cannot be a token endpoint (a path as requests have it, as `/oauth/token`, and not below `/.moat/`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login], refresh: {reuse_leeway: 2m}}}",
        "gateway.yaml:14:98 expected at most `1m`, found `2m` (anything from `1s` to `1m` will do)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login], refresh: {ttl: 1s}}}",
        "gateway.yaml:14:89 expected at least `10m`, found `1s` (anything from `10m` to `1y` will do)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login], issuer: \"\"}}",
        "gateway.yaml:14:82 `issuer` is a short text",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, dpop: {algorithms: [HS256]}}",
        "gateway.yaml:14:66 `HS256` is not an allowed algorithm (only signatures with public keys are accepted: `RS256`, `PS256`, `ES256`, `ES384`, `EdDSA`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, dpop: {algorithms: []}}",
        "gateway.yaml:14:65 `sessions.dpop.algorithms` lists none",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, tokens: {exchange: [login]}}\nstorage: {redis: {url: \"redis://127.0.0.1\", use_for: [refresh_families]}}",
        "gateway.yaml:15:55 replicas share what each of them seals with a key of its own (write `sessions: {keys: …}`, the same keys for all replicas)",
    ),
    (
        "auth: {bearer: login}",
        "auth: {bearer: moat}",
        "gateway.yaml:25:20 unknown issuer `moat` (there is only `login`)",
    ),
];

#[test]
fn every_mistake_about_tokens_has_its_message_and_place() {
    super::told(MISTAKES);
}
