//! Mistakes of signing browsers in, one change each: with their messages and places.

const ISSUER: &str = "audiences: [a], algorithms: [ES256]}";
const SESSIONS: &str = "sessions: {step_up: {fresh: {max_age: 15m}}}";
const AUTH: &str = "auth: {bearer: login}";

/// A bundle that signs browsers in, with another client, other sessions or another route.
fn with(client: &str, sessions: &str, auth: &str) -> String {
    let issuer = format!("algorithms: [ES256], client: {client}}}");
    let sessions = format!("sessions: {{step_up: {{fresh: {{max_age: 15m}}}}{sessions}}}");
    super::changed(&[(ISSUER, &issuer), (SESSIONS, &sessions), (AUTH, auth)])
}

const CLIENT: &str = "{id: moat, auth_method: private_key_jwt}";
const BROWSER: &str = ", browser: {}";
const LOGIN: &str = "auth: {session: browser, on_missing: login}";
const EITHER: &str = "auth: {any_of: [{bearer: login}, {session: browser}], on_missing: login}";

#[test]
fn what_makes_no_sense_is_said() {
    assert_eq!(with(CLIENT, BROWSER, LOGIN), "ok");
    for (client, sessions, auth, expected) in [
        (
            CLIENT,
            "",
            AUTH,
            "browsers sign in to sessions, and the gateway holds none (write `sessions: {browser: {}}`)",
        ),
        (
            CLIENT,
            ", browser: {cookie: __Host-Moat-x}",
            LOGIN,
            "cookies whose names begin with `__Host-moat-` are the gateway's own business (write another name, e.g. `__Host-session`)",
        ),
        (
            CLIENT,
            BROWSER,
            "auth: {bearer: login, on_missing: login}",
            "whoever signs in comes back with a session, which is not accepted here (write `{session: browser, on_missing: login}`)",
        ),
        (CLIENT, BROWSER, "auth: {session: browser, on_missing: logn}", "unknown value `logn` (did you mean `login`?)"),
        (CLIENT, BROWSER, "auth: {session: browser, on_mising: login}", "expected a map with one key, found 2 keys"),
        (
            "{id: moat}",
            BROWSER,
            LOGIN,
            "the client has no `secret` (write `secret: {file: …}`, or `auth_method: private_key_jwt`)",
        ),
        (
            "{id: moat, auth_method: private_key_jwt, secret: {file: roles.yaml}}",
            BROWSER,
            LOGIN,
            "`private_key_jwt` needs no secret (remove `secret`; the issuer reads the public key at `/.moat/jwks.json`)",
        ),
        ("{id: \"\", auth_method: private_key_jwt}", BROWSER, LOGIN, "a client's `id` is visible ASCII, and not empty"),
        (
            "{id: moat, auth_method: private_key_jwt, scopes: [openid, offline_access]}",
            BROWSER,
            LOGIN,
            "`offline_access` asks for a refresh token, which nothing here would use (remove it; a session lasts as long as `sessions.browser` says)",
        ),
        ("{id: moat, auth_method: private_key_jwt, scopes: [\"a b\"]}", BROWSER, LOGIN, "`a b` cannot be a scope"),
        (
            "{id: moat, auth_method: private_key_jwt, signed_out: \"https://elsewhere.example\"}",
            BROWSER,
            LOGIN,
            "`https://elsewhere.example` is no page of the same host (write a path in its plain form, e.g. `/` or `/goodbye`)",
        ),
        (
            "{id: moat, auth_method: private_key_jwt, signed_out: /.moat/login}",
            BROWSER,
            LOGIN,
            "`/.moat/login` is no page of the same host (write a path in its plain form, e.g. `/` or `/goodbye`)",
        ),
        (
            "{id: moat, auth_method: private_key_jwt, endpoints: {authorization: \"http://a.example\", token: \"https://u@a.example\"}}",
            BROWSER,
            LOGIN,
            "`http://a.example` is no plain https URL\n`https://u@a.example` is no plain https URL",
        ),
        (
            "{id: moat, auth_method: none}",
            BROWSER,
            LOGIN,
            "the client has no `secret` (write `secret: {file: …}`, or `auth_method: private_key_jwt`)\nunknown value `none` (there are `client_secret_basic`, `client_secret_post`, `private_key_jwt`)",
        ),
    ] {
        // Places are held by the other tables; here it is the words that count.
        let found = with(client, sessions, auth);
        let words: Vec<&str> = found.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
        assert_eq!(words.join("\n"), expected, "{client} {sessions} {auth}");
    }
}

#[test]
fn there_must_be_somewhere_to_sign_in() {
    let sessions = "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {}}";
    let found = super::changed(&[(SESSIONS, sessions), (AUTH, EITHER)]);
    let expected = "there is no issuer that browsers can sign in with (write `client: {id: …}` below one of `issuers`)";
    assert_eq!(found.split_once(' ').unwrap().1, expected, "{found}");
    // Codes of the gateway's own are somewhere to be sent to.
    let sessions = "sessions: {step_up: {fresh: {max_age: 15m}}, browser: {}, totp: {issuer: North}}";
    assert_eq!(super::changed(&[(SESSIONS, sessions), (AUTH, EITHER)]), "ok");
}
