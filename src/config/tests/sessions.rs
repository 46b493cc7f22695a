//! Mistakes of `sessions.browser` and of what bounds it, one change each: with their messages and places.

const SOUND: &str = "sessions: {step_up: {fresh: {max_age: 15m}}}";

const MISTAKES: &[(&str, &str, &str)] = &[
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {idle: 2h, absolute: 1h}}",
        "gateway.yaml:14:62 `idle` is longer than `absolute`, `1h` (`idle` is at most `absolute`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {absolute: 31d}}",
        "gateway.yaml:14:66 sessions may live for `31d`, longer than `keep` (a revocation that is forgotten before the session ends lets it in again: lengthen `keep`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, revocation: {keep: 1d}, tokens: {exchange: [login], refresh: {ttl: 2d}}}",
        "gateway.yaml:14:65 refresh tokens may be good for `2d`, longer than `keep` (a revocation that is forgotten before the family ends lets it in again: lengthen `keep`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {idle: 10m, absolute: 10m, rotate_id: {every: 10m}}}",
        "gateway.yaml:14:101 no session lives long enough for `rotate_id.every` (shorten it: sessions end after `absolute`, `10m`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, rate_limits: [moat-own]}\n# calm",
        "gateway.yaml:14:60 unknown rate limit `moat-own` (there is only `calm`)",
    ),
    // An application that grants sessions is nobody else.
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {grant: {issuer: login}}}",
        "gateway.yaml:14:72 `login` is the name of somebody else who vouches for users (an application does not speak for an identity provider, nor for another service: choose another name)\n\
         gateway.yaml:14:72 no route may grant sessions (write `grants: session` at the route whose answers sign users in, or remove `grant`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {grant: {issuer: api_key}}}",
        "gateway.yaml:14:72 `api_key` is the name of somebody else who vouches for users (an application does not speak for an identity provider, nor for another service: choose another name)\n\
         gateway.yaml:14:72 no route may grant sessions (write `grants: session` at the route whose answers sign users in, or remove `grant`)",
    ),
    (
        SOUND,
        "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {grant: {issuer: moat}}}",
        "gateway.yaml:14:72 `moat` is the name of somebody else who vouches for users (an application does not speak for an identity provider, nor for another service: choose another name)\n\
         gateway.yaml:14:72 no route may grant sessions (write `grants: session` at the route whose answers sign users in, or remove `grant`)",
    ),
];

#[test]
fn every_mistake_about_sessions_has_its_message_and_place() {
    super::told(MISTAKES);
}
