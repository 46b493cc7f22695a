//! The other parties: who is believed when they say who somebody is, and who is sent to.
use super::Lines;
use super::routes::longer;
use crate::config::settings::{Introspection, Issuer, Snapshot, Upstream};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn issuers(old: &[Arc<Issuer>], new: &[Arc<Issuer>], lines: &mut Lines) {
    for issuer in new {
        let (rules, name) = (&issuer.rules, &issuer.rules.name);
        let Some(before) = old.iter().find(|other| other.rules.name == *name) else {
            lines.when(true, || format!("issuer `{name}` is new"));
            continue;
        };
        let added = |old: &[String], new: &[String]| new.iter().any(|item| !old.contains(item));
        let was = &before.rules;
        lines.when(rules.issuer != was.issuer || issuer.keys != before.keys || issuer.ca != before.ca, || {
            format!("issuer `{name}` takes its keys from elsewhere")
        });
        lines.when(added(&was.audiences, &rules.audiences), || format!("issuer `{name}`: more audiences"));
        lines.when(added(&was.token_types, &rules.token_types), || format!("issuer `{name}`: more token types"));
        lines.when(rules.algorithms.iter().any(|a| !was.algorithms.contains(a)), || {
            format!("issuer `{name}`: more algorithms")
        });
        lines.when(rules.claims != was.claims, || format!("issuer `{name}`: other claims"));
        lines.when(rules.clock_skew_s > was.clock_skew_s || longer(was.max_lifetime_s, rules.max_lifetime_s), || {
            format!("issuer `{name}`: tokens live longer")
        });
        lines.when(issuer.max_stale > before.max_stale, || format!("issuer `{name}`: old keys are used longer"));
        asked(name, before.introspection.as_deref(), issuer.introspection.as_deref(), lines);
        let word = |issuer: &Issuer| issuer.signals.as_ref().and_then(|signals| signals.authorization);
        lines.when(word(before).is_some() && issuer.signals.is_some() && word(issuer).is_none(), || {
            format!("issuer `{name}`: its signals need no `Authorization`")
        });
        match (before.client.as_deref(), issuer.client.as_deref()) {
            (None, Some(_)) => lines.when(true, || format!("browsers may sign in with issuer `{name}`")),
            (Some(old), Some(new)) => {
                let elsewhere = old.id != new.id || old.endpoints != new.endpoints;
                lines.when(elsewhere, || format!("issuer `{name}`: browsers sign in as another client, or elsewhere"));
            }
            (_, None) => {}
        }
    }
}

/// Whoever is asked about tokens says who somebody is.
fn asked(name: &str, before: Option<&Introspection>, after: Option<&Introspection>, lines: &mut Lines) {
    let Some(after) = after else { return };
    let Some(before) = before else {
        lines.when(true, || format!("issuer `{name}` is asked about tokens"));
        return;
    };
    lines.when(after.url != before.url, || format!("issuer `{name}` is asked about tokens elsewhere"));
    lines.when(after.tokens != before.tokens, || format!("issuer `{name}` is asked about other tokens"));
    lines.when(after.may_lack.iter().any(|member| !before.may_lack.contains(member)), || {
        format!("issuer `{name}` may say less of a token")
    });
    lines.when(after.keep.max_age_s > before.keep.max_age_s, || {
        format!("issuer `{name}`: what it said of a token counts for longer")
    });
}

pub(super) fn upstreams(old: &[Arc<Upstream>], new: &[Arc<Upstream>], lines: &mut Lines) {
    for upstream in new {
        let name = &upstream.name;
        let Some(before) = old.iter().find(|other| other.name == *name) else { continue };
        let places = |upstream: &Upstream| -> BTreeSet<String> {
            upstream.endpoints.iter().map(|endpoint| endpoint.place.to_string()).collect()
        };
        lines.when(places(before) != places(upstream), || format!("upstream `{name}` has other addresses"));
        match (&before.tls, &upstream.tls) {
            (Some(_), None) => lines.when(true, || format!("upstream `{name}` is spoken to without TLS")),
            (Some(old), Some(new)) => {
                lines.when(old.server_name != new.server_name || old.authorities != new.authorities, || {
                    format!("upstream `{name}` is recognised by another name or other authorities")
                });
            }
            (None, _) => {}
        }
        lines.when(before.region != upstream.region, || format!("upstream `{name}` is in another region"));
    }
}

/// Whoever is asked says who somebody is.
pub(super) fn ext_auth(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    for service in &new.ext_auth {
        let name = &service.name;
        let Some(before) = old.ext_auth.iter().find(|other| other.name == *name) else {
            lines.when(true, || format!("`ext_auth.{name}` is new"));
            continue;
        };
        lines.when(service.url != before.url || service.ca != before.ca, || {
            format!("`ext_auth.{name}` is asked elsewhere, or recognised by other authorities")
        });
        let said = |service: &crate::config::settings::ExtAuth| {
            (service.subject.clone(), service.tenant.clone(), service.roles.clone())
        };
        lines
            .when(said(service) != said(before), || format!("`ext_auth.{name}` says by other headers who somebody is"));
        lines.when(service.max_age_s > before.max_age_s, || {
            format!("what was opened with leave of `ext_auth.{name}` may go on for longer")
        });
    }
}

/// Whoever can write to an application's store says who somebody is.
pub(super) fn app_sessions(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    for store in &new.app_sessions {
        let name = &store.sessions.name;
        let Some(before) = old.app_sessions.iter().find(|other| other.sessions.name == *name) else {
            lines.when(true, || format!("`app_sessions.{name}` is new"));
            continue;
        };
        let (after, was) = (&store.sessions, &before.sessions);
        lines.when(store.source != before.source || store.cookie != before.cookie, || {
            format!("sessions of `app_sessions.{name}` are looked up elsewhere, or by another cookie")
        });
        lines.when(after.express.is_empty() && !was.express.is_empty(), || {
            format!("cookies of `app_sessions.{name}` need no signature")
        });
        lines.when(after.express.iter().any(|secret| !was.express.contains(secret)) && !was.express.is_empty(), || {
            format!("cookies of `app_sessions.{name}` may be signed with another secret")
        });
        lines.when(after.subject != was.subject || after.claims != was.claims, || {
            format!("other members of sessions of `app_sessions.{name}` say who somebody is")
        });
        lines.when(store.keep.max_age_s > before.keep.max_age_s || after.max_age_s > was.max_age_s, || {
            format!("sessions of `app_sessions.{name}` count for longer than they did")
        });
    }
}
