//! What a reload lets sessions be that they were not before.
use super::Lines;
use super::routes::raised;
use crate::config::settings::{Browser, Sessions};

pub(super) fn loosened(old: &Sessions, new: &Sessions, lines: &mut Lines) {
    tokens(old, new, lines);
    match (&old.browser, &new.browser) {
        (Some(old), Some(new)) => browser(old, new, lines),
        (None, Some(new)) => {
            for issuer in &new.exchange {
                lines.when(true, || format!("tokens of `{issuer}` are exchanged for sessions"));
            }
            lines.when(new.grant.is_some(), || "applications may grant sessions".to_owned());
        }
        (_, None) => {}
    }
    let lax = |one: &Sessions| one.totp.as_ref().map(|totp| totp.enrol_within);
    lines.when(lax(new) > lax(old) && old.totp.is_some(), || {
        "authenticator apps may be set up longer after the sign-in".to_owned()
    });
    for limit in &old.limits {
        let Some(other) = new.limits.iter().find(|other| other.name == limit.name) else {
            lines.when(true, || format!("the gateway's own endpoints lost limit `{}`", limit.name));
            continue;
        };
        let line = format!("limit `{}` was raised, or counts by less", limit.name);
        let seen = lines.0.contains(&line);
        lines.when(!seen && raised(limit, other), || line);
    }
}

fn tokens(old: &Sessions, new: &Sessions, lines: &mut Lines) {
    let (a, b) = (&old.dpop, &new.dpop);
    let more = b.algorithms.iter().any(|algorithm| !a.algorithms.contains(algorithm));
    lines.when(b.max_age_s > a.max_age_s || b.skew_s > a.skew_s || more, || {
        "proofs of possession are accepted for longer, or with more algorithms (`sessions.dpop`)".to_owned()
    });
    let Some(b) = &new.tokens else { return };
    let a = old.tokens.as_deref();
    for issuer in b.exchange.iter().filter(|issuer| !a.is_some_and(|a| a.exchange.contains(issuer))) {
        lines.when(true, || format!("tokens of `{issuer}` are exchanged for tokens of the gateway"));
    }
    let Some(a) = a else { return };
    let lives = b.access_ttl_s > a.access_ttl_s || b.rules.ttl_ms > a.rules.ttl_ms;
    lines.when(lives, || "tokens of the gateway live longer (`sessions.tokens`)".to_owned());
    let lax = b.rules.leeway_ms > a.rules.leeway_ms || b.rules.skew_ms > a.rules.skew_ms;
    lines.when(lax || (a.rules.single_use && !b.rules.single_use), || {
        "refresh tokens that were exchanged are good for longer (`sessions.tokens.refresh`)".to_owned()
    });
    lines.when(a.bound && !b.bound, || "tokens are issued without proof of a key (`sessions.tokens.dpop`)".to_owned());
    lines.when(a.issuer != b.issuer || a.audience != b.audience, || {
        "tokens of the gateway name another issuer or audience (`sessions.tokens`)".to_owned()
    });
}

fn browser(old: &Browser, new: &Browser, lines: &mut Lines) {
    let lives = new.idle > old.idle || new.absolute > old.absolute;
    lines.when(lives, || "sessions live longer (`sessions.browser`)".to_owned());
    lines.when(new.same_site < old.same_site, || "the session cookie follows links from other sites".to_owned());
    lines.when(new.reuse_leeway > old.reuse_leeway, || "a replaced session handle is good for longer".to_owned());
    let (before, after) = (old.rotation, new.rotation);
    let rarer = after.every > before.every
        || (before.on_step_up && !after.on_step_up)
        || (before.on_role_change && !after.on_role_change);
    lines.when(rarer, || "session handles are replaced less often".to_owned());
    for issuer in new.exchange.iter().filter(|issuer| !old.exchange.contains(issuer)) {
        lines.when(true, || format!("tokens of `{issuer}` are exchanged for sessions"));
    }
    let routes = |browser: &Browser| browser.grant.as_ref().map(|grant| grant.routes.clone()).unwrap_or_default();
    for route in routes(new).iter().filter(|route| !routes(old).contains(route)) {
        lines.when(true, || format!("answers of route `{route}` may grant sessions"));
    }
    let meaning = |browser: &Browser| browser.grant.as_ref().map(|grant| (grant.header.clone(), grant.issuer.clone()));
    lines.when(old.grant.is_some() && new.grant.is_some() && meaning(old) != meaning(new), || {
        "sessions are granted by another header, or for users of another name".to_owned()
    });
}
