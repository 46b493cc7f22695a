//! Two bundles side by side: what a reload loosens, moves, and cannot change.
use super::{bundle, load, sound};
use std::fs;

/// What a change of the sound bundle loosens, and what of it needs a restart.
fn differences(changes: &[(&str, &str)]) -> (Vec<String>, Vec<&'static str>) {
    differences_of(&[], changes)
}

/// The same of the sound bundle after the changes of `base`.
fn differences_of(base: &[(&str, &str)], changes: &[(&str, &str)]) -> (Vec<String>, Vec<&'static str>) {
    let snapshot = |changes: &[(&str, &str)]| {
        let mut files = sound();
        for (from, to) in changes {
            assert!(files.iter().any(|(_, text)| text.contains(from)), "{from}");
            files.iter_mut().for_each(|(_, text)| *text = text.replace(from, to));
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let dir = bundle(&files);
        fs::create_dir(dir.path().join("certs")).unwrap();
        let mut loaded = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
        // The folders differ, which is not what is compared here.
        loaded.snapshot.server.state_dir = "state".into();
        loaded.snapshot.audit.directory = "audit".into();
        loaded.snapshot.embedded.path = "state.redb".into();
        loaded.snapshot.tls.as_mut().unwrap().certificates = "certs".into();
        loaded.snapshot
    };
    let (old, new) = (snapshot(base), snapshot(&[base, changes].concat()));
    (crate::config::compare::loosened(&old, &new), crate::config::compare::needs_restart(&old, &new))
}

#[test]
fn what_a_reload_loosens_is_named() {
    for (from, to, expected) in [
        ("state_dir: state", "state_dir: state, drain_timeout: 1s", ""),
        ("rate: {gold: 10/s}", "rate: {gold: 5/s}", ""),
        ("rate: {gold: 10/s}", "rate: {gold: 11/s}", "limit `calm` was raised, or counts by less"),
        ("burst: 2x", "burst: 2x, shadow: true", "limit `calm` was raised, or counts by less"),
        ("acme: {class: gold}", "acme: {class: gold, ip_allow: [192.0.0.0/8]}", ""),
        ("algorithms: [ES256]", "algorithms: [ES256, RS256]", "issuer `login`: more algorithms"),
        ("step_up: fresh}\n    rate", "step_up: fresh}\n    csrf: off\n    rate", "route `orders`: csrf is off"),
        (
            "step_up: fresh}\n    rate",
            "step_up: fresh}\n    shadow: [tenant]\n    rate",
            "route `orders`: guard `tenant` went to shadow",
        ),
        (
            "fresh: {max_age: 15m}",
            "fresh: {max_age: 20m}",
            "route `orders` asks for a less fresh authentication; permission `orders.read` asks for a less fresh authentication",
        ),
        ("roles:\n", "roles:\n  new: {grants: [orders.read]}\n", "role `new` gained `orders.read`"),
        ("exclusive_roles: [[clerk, boss]]\n", "", "roles `clerk` and `boss` may be held together"),
        ("set: {x-content-type-options: nosniff}", "set: {}", "header profile `page` was changed"),
        ("methods: [GET]", "methods: [GET, PUT]", "route `home` serves PUT too"),
        ("127.0.0.1:9000", "127.0.0.1:9001", "upstream `app` has other addresses"),
        (
            "endpoints: [\"127.0.0.1:9000\"]",
            "labels: {region: eu}, endpoints: [\"127.0.0.1:9000\"]",
            "upstream `app` is in another region",
        ),
    ] {
        let (loosened, restart) = differences(&[(from, to)]);
        assert_eq!(loosened.join("; "), expected, "{from} → {to}");
        assert!(restart.is_empty(), "{restart:?}");
    }
    let (loosened, _) = differences(&[
        (
            "    auth: {bearer: login}\n    require: {permission: orders.read, step_up: fresh}\n",
            "    auth: {bearer: login}\n    require: {session: any}\n",
        ),
        ("permissions: {orders: [read]}", "permissions: {}"),
        ("grants: [orders.read]", "grants: []"),
        ("step_up: {fresh: [orders.read]}\n", ""),
        ("sessions: {step_up: {fresh: {max_age: 15m}}}\n", ""),
    ]);
    assert_eq!(
        loosened,
        [
            "route `orders` no longer requires `orders.read`: any session will do",
            "route `orders` asks for a less fresh authentication"
        ]
    );
}

#[test]
fn a_method_that_is_no_longer_asked_for_is_named() {
    let fewer = "route `orders` asks for a less fresh authentication; permission `orders.read` asks for a less fresh authentication";
    let base = [("fresh: {max_age: 15m}", "fresh: {amr: [pwd, otp]}")];
    for (to, expected) in [
        ("fresh: {amr: [pwd, otp, hwk]}", ""),
        ("fresh: {amr: [otp, pwd]}", ""),
        ("fresh: {amr: [otp]}", fewer),
        ("fresh: {max_age: 1m}", fewer),
        ("fresh: {amr: [hwk, otp]}", fewer),
    ] {
        let (loosened, _) = differences_of(&base, &[("fresh: {amr: [pwd, otp]}", to)]);
        assert_eq!(loosened.join("; "), expected, "{to}");
    }
}

#[test]
fn what_a_reload_cannot_change_is_named_and_the_rest_is_loosened_or_not() {
    for (from, to, loosens, restarts) in [
        ("127.0.0.1:8443", "127.0.0.1:8444", "listener `public` is on 127.0.0.1:8444 instead of 127.0.0.1:8443", ""),
        ("  public: {", "  front: {", "listener `front` is new, on 127.0.0.1:8443", ""),
        ("state_dir: state", "state_dir: state, instance: b", "", "server.instance"),
        ("state_dir: state", "state_dir: state, worker_threads: 7", "", "server.worker_threads"),
        ("certificates: certs", "certificates: certs, default_certificate: x", "", ""),
        (
            "version: 1\nserver",
            "version: 1\naudit: {durability: os}\nserver",
            "the audit log is synced less often (`audit.durability`)",
            "",
        ),
        ("version: 1\nserver", "version: 1\nlogs: {level: debug}\nserver", "", ""),
    ] {
        let (loosened, restart) = differences(&[(from, to)]);
        assert_eq!((loosened.join("; ").as_str(), restart.join("; ").as_str()), (loosens, restarts), "{to}");
    }
}

/// Sessions that live longer, are easier to keep a copy of, or come from more places, and tokens likewise.
#[test]
fn what_a_reload_loosens_of_sessions_is_named() {
    let base = [(
        "sessions: {step_up: {fresh: {max_age: 15m}}}",
        "sessions:
  step_up: {fresh: {max_age: 15m}}
  browser: {idle: 10m, absolute: 1h, rotate_id: {every: 5m, on: [login, step_up, role_change]}, reuse_leeway: 5s, same_site: strict}
  tokens: {exchange: [login], access_ttl: 5m, refresh: {ttl: 1d, reuse_leeway: 3s}}
  totp: {issuer: X, enrol_within: 6m}",
    )];
    let longer = "sessions live longer (`sessions.browser`)";
    let rarer = "session handles are replaced less often";
    let tokens = "tokens of the gateway live longer (`sessions.tokens`)";
    for (from, to, expected) in [
        ("idle: 10m", "idle: 11m", longer),
        ("idle: 10m", "idle: 9m", ""),
        ("absolute: 1h", "absolute: 2h", longer),
        ("absolute: 1h", "absolute: 50m", ""),
        ("every: 5m", "every: 6m", rarer),
        ("every: 5m", "every: 4m", ""),
        ("[login, step_up, role_change]", "[login, role_change]", rarer),
        ("[login, step_up, role_change]", "[login, step_up]", rarer),
        ("[login, step_up, role_change]", "[step_up, role_change]", ""),
        ("same_site: strict", "same_site: lax", "the session cookie follows links from other sites"),
        ("reuse_leeway: 5s", "reuse_leeway: 6s", "a replaced session handle is good for longer"),
        ("same_site: strict", "same_site: strict, exchange: [login]", "tokens of `login` are exchanged for sessions"),
        (
            "access_ttl: 5m",
            "access_ttl: 6m",
            "issuer `moat`: tokens live longer; tokens of the gateway live longer (`sessions.tokens`)",
        ),
        ("ttl: 1d", "ttl: 2d", tokens),
        ("ttl: 1d", "ttl: 12h", ""),
        (
            "reuse_leeway: 3s",
            "reuse_leeway: 4s",
            "refresh tokens that were exchanged are good for longer (`sessions.tokens.refresh`)",
        ),
        ("enrol_within: 6m", "enrol_within: 7m", "authenticator apps may be set up longer after the sign-in"),
        ("  calm:", "  moat-own: {key: [client.ip_prefix], rate: 600/m, burst: 120}\n  calm:", ""),
        (
            "  calm:",
            "  moat-own: {key: [client.ip_prefix], rate: 6000/m, burst: 120}\n  calm:",
            "limit `moat-own` was raised, or counts by less",
        ),
    ] {
        let (loosened, restart) = differences_of(&base, &[(from, to)]);
        assert_eq!(loosened.join("; "), expected, "{from} → {to}");
        assert!(restart.is_empty(), "{restart:?}");
    }
}

#[test]
fn the_page_about_reloads_names_what_takes_a_restart() {
    let (source, page) = (include_str!("../compare/shell.rs"), include_str!("../../../docs/reload.md"));
    let list = source.split_once("let differs = [").unwrap().1.split_once("];").unwrap().0;
    let keys: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("`{key}`")), "docs/reload.md does not name `{key}`");
    }
}
