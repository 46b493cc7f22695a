//! Two snapshots side by side: what only a restart can change, and what the new one allows that the old one did not.
mod certificates;
mod sessions;
mod keys;
mod shell;
pub use shell::needs_restart;

use crate::config::settings::{Introspection, Issuer, Snapshot, Upstream};
use decide::cors::{Cors, Origins};
use decide::rules::{
    Accept, Access, BodyRules, Csrf, Excess, Limit, Rate, Route, RouteTenant, Rules, SessionRules, Sharing,
    SharingMode, StepUp, Tenant, TenantStatus, UnknownTenant,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// More lines than this are counted instead.
const MAX_LINES: usize = 50;

/// What the new snapshot allows that the old one did not, one sentence each, for the audit log.
pub fn loosened(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut lines = Lines(Vec::new());
    routes(&old.rules, &new.rules, &mut lines);
    roles(&old.rules, &new.rules, &mut lines);
    tenants(&old.rules, &new.rules, &mut lines);
    issuers(&old.issuers, &new.issuers, &mut lines);
    profiles(old, new, &mut lines);
    upstreams(&old.upstreams, &new.upstreams, &mut lines);
    keys::loosened(old, new, &mut lines);
    ext_auth(old, new, &mut lines);
    certificates::loosened(old, new, &mut lines);
    app_sessions(old, new, &mut lines);
    shell::loosened(old, new, &mut lines);
    lines.when(new.close_at_expiry < old.close_at_expiry, || {
        "less is closed when a session ends (`sessions.close_at_expiry`)".to_owned()
    });
    sessions::loosened(&old.sessions, &new.sessions, &mut lines);
    traces(old, new, &mut lines);
    store(old, new, &mut lines);
    let mut lines = lines.0;
    if let Some(more) = lines.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more"));
    }
    lines
}

struct Lines(Vec<String>);

impl Lines {
    fn when(&mut self, loosened: bool, line: impl FnOnce() -> String) {
        if loosened {
            self.0.push(line());
        }
    }
}

fn routes(old: &Rules, new: &Rules, lines: &mut Lines) {
    let before: HashMap<&str, &Arc<Route>> = old.routes.iter().map(|route| (&*route.name, route)).collect();
    for route in &new.routes {
        let name = &route.name;
        match before.get(&**name) {
            Some(old) => compare_routes(old, route, lines),
            None => {
                if let Access::Public { reason } = &route.access {
                    lines.when(true, || format!("route `{name}` is new and public: {reason}"));
                }
                for guard in &route.shadow {
                    lines.when(true, || format!("route `{name}` is new, with guard `{}` in shadow", guard.name()));
                }
            }
        }
    }
}

fn compare_routes(old: &Route, new: &Route, lines: &mut Lines) {
    let name = &new.name;
    match (&old.access, &new.access) {
        (Access::Session(_), Access::Public { reason }) => {
            lines.when(true, || format!("route `{name}` became public: {reason}"));
        }
        (Access::Session(old), Access::Session(new)) => compare_access(name, old, new, lines),
        (Access::Public { .. }, _) => {}
    }
    for guard in new.shadow.iter().filter(|guard| !old.shadow.contains(guard)) {
        lines.when(true, || format!("route `{name}`: guard `{}` went to shadow", guard.name()));
    }
    for method in new.methods.iter().filter(|method| !old.methods.contains(*method)) {
        lines.when(true, || format!("route `{name}` serves {} too", method.as_str()));
    }
    for template in new.templates.iter().filter(|template| !old.templates.contains(template)) {
        lines.when(true, || format!("route `{name}` serves `{template}` too"));
    }
    lines.when(old.csrf != Csrf::Off && new.csrf == Csrf::Off, || format!("route `{name}`: csrf is off"));
    lines.when(old.csrf == Csrf::Strict && matches!(new.csrf, Csrf::Token(_)), || {
        format!("route `{name}`: a token may stand in for evidence of our own origin")
    });
    lines.when(new.isolation < old.isolation, || format!("route `{name}`: pages of other sites may fetch from it"));
    lines.when(wider_cors(&old.cors, &new.cors), || format!("route `{name}` is open to other origins, or to more"));
    lines.when(old.tenant != new.tenant && !matches!(new.tenant, RouteTenant::Resolve), || {
        format!("route `{name}`: the tenant comes from elsewhere")
    });
    let leads = |route: &Route| route.destinations().map(|d| d.name.to_string()).collect::<Vec<_>>().join("`, `");
    lines.when(leads(old) != leads(new), || {
        format!("route `{name}` leads to `{}` instead of `{}`", leads(new), leads(old))
    });
    lines.when(old.audit.durable && !new.audit.durable, || format!("route `{name}` no longer waits for the audit log"));
    lines.when(new.certificate > old.certificate, || format!("route `{name}` forwards more of client certificates"));
    lines.when(wider_body(&old.body, &new.body), || format!("route `{name}` accepts larger or other bodies"));
    for limit in &old.limits {
        match new.limits.iter().find(|other| other.name == limit.name) {
            None => lines.when(true, || format!("route `{name}` lost limit `{}`", limit.name)),
            Some(other) => {
                let line = format!("limit `{}` was raised, or counts by less", limit.name);
                let seen = lines.0.contains(&line);
                lines.when(!seen && raised(limit, other), || line);
            }
        }
    }
}

fn wider_cors(old: &Cors, new: &Cors) -> bool {
    match (old, new) {
        (_, Cors::Closed) | (Cors::Application, Cors::Application) => false,
        (Cors::Shared(old), Cors::Shared(new)) => {
            let others = match (&old.origins, &new.origins) {
                (Origins::Listed(old), Origins::Listed(new)) => new.iter().any(|origin| !old.contains(origin)),
                (old, new) => old != new,
            };
            others
                || new.methods.iter().any(|method| !old.methods.contains(method))
                || new.headers.iter().any(|name| !old.headers.contains(name))
                || old.expose != new.expose && new.expose.is_some()
                || (new.credentials && !old.credentials)
                || (new.private_network && !old.private_network)
        }
        (Cors::Closed | Cors::Application, Cors::Shared(_)) | (Cors::Closed | Cors::Shared(_), Cors::Application) => {
            true
        }
    }
}

fn compare_access(name: &str, old: &SessionRules, new: &SessionRules, lines: &mut Lines) {
    match (&old.permission, &new.permission) {
        (Some(before), None) => {
            lines.when(true, || format!("route `{name}` no longer requires `{}`: any session will do", before.name));
        }
        (Some(before), Some(after)) => lines.when(before.name != after.name, || {
            format!("route `{name}` requires `{}` instead of `{}`", after.name, before.name)
        }),
        (None, _) => {}
    }
    lines.when(weaker_step_up(old.step_up.as_ref(), new.step_up.as_ref()), || {
        format!("route `{name}` asks for a less fresh authentication")
    });
    let source = |rules: &SessionRules| rules.when.as_ref().map(|when| when.source().to_owned());
    lines.when(old.when.is_some() && source(old) != source(new), || format!("route `{name}`: `when` was changed"));
    for accept in new.accept.iter().filter(|accept| !old.accept.contains(accept)) {
        lines.when(true, || match accept {
            Accept::Bearer { issuer } => format!("route `{name}` accepts bearer tokens of `{issuer}` too"),
            Accept::Dpop { issuer } => format!("route `{name}` accepts bound tokens of `{issuer}` too"),
            Accept::Cookie { name: cookie, issuer } => {
                format!("route `{name}` accepts cookie `{cookie}` with tokens of `{issuer}` too")
            }
            Accept::Session { .. } => format!("route `{name}` accepts sessions that the gateway holds too"),
            Accept::AppSession { name: store, .. } => {
                format!("route `{name}` accepts sessions that `{store}` keeps too")
            }
            Accept::ExtAuth { name: service, .. } => format!("route `{name}` accepts whom `{service}` knows too"),
            Accept::Certificate { name: of } => format!("route `{name}` accepts certificates of `{of}` too"),
            Accept::ApiKey { header, keys } => {
                format!("route `{name}` accepts API keys of `{keys}` in `{header}` too")
            }
        });
    }
}

fn weaker_step_up(old: Option<&StepUp>, new: Option<&StepUp>) -> bool {
    match (old, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => {
            longer(old.max_age_s, new.max_age_s)
                || (!old.acr.is_empty() && (new.acr.is_empty() || new.acr.iter().any(|acr| !old.acr.contains(acr))))
        }
    }
}

/// Whether a bound got looser; no bound is the loosest.
fn longer(old: Option<u64>, new: Option<u64>) -> bool {
    old.is_some_and(|old| new.is_none_or(|new| new > old))
}

fn wider_body(old: &BodyRules, new: &BodyRules) -> bool {
    let types = &old.content_types;
    let others = new.content_types.is_empty() || new.content_types.iter().any(|kind| !types.contains(kind));
    longer(old.max_bytes, new.max_bytes) || (!types.is_empty() && others) || (!old.with_get && new.with_get)
}

fn raised(old: &Limit, new: &Limit) -> bool {
    let more = |old: &Rate, new: &Rate| {
        let per = |rate: &Rate, other: &Rate| u64::from(rate.count) * u64::from(other.period_s);
        per(new, old) > per(old, new) || new.burst > old.burst
    };
    let less_shared = |old: Option<Sharing>, new: Option<Sharing>| match (old, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => {
            let strict = |sharing: Sharing| sharing.mode == SharingMode::Strict;
            (strict(old) && !strict(new)) || new.on_store_loss > old.on_store_loss
        }
    };
    if less_shared(old.sharing, new.sharing) {
        return true;
    }
    let rates = old.rates.len() != new.rates.len() || old.rates.iter().zip(&new.rates).any(|(old, new)| more(old, new));
    let cap = !old.concurrent.is_empty()
        && (old.concurrent.len() != new.concurrent.len()
            || old.concurrent.iter().zip(&new.concurrent).any(|(old, new)| new > old));
    let turns = |limit: &Limit| match limit.excess {
        Excess::Refuse => 0,
        Excess::Delay { each, .. } => 1_000_000_000 / each.as_millis().max(1),
    };
    rates
        || cap
        || turns(new) > turns(old)
        || new.cost < old.cost
        || old.settle != new.settle
        || old.key != new.key
        || (!old.shadow && new.shadow)
}

fn roles(old: &Rules, new: &Rules, lines: &mut Lines) {
    let before: HashMap<&str, _> = old.policy.roles().map(|(name, bits)| (&**name, bits)).collect();
    for (role, bits) in new.policy.roles() {
        for permission in new.policy.permissions() {
            let has = new.policy.permission(permission).is_some_and(|id| bits.contains(id));
            let had = old.policy.permission(permission).zip(before.get(&**role)).is_some_and(|(id, b)| b.contains(id));
            lines.when(has && !had, || format!("role `{role}` gained `{permission}`"));
        }
    }
    for permission in old.policy.permissions() {
        let rule = |rules: &Rules| rules.policy.permission(permission).and_then(|id| rules.policy.step_up(id).cloned());
        let exists = new.policy.permission(permission).is_some();
        lines.when(exists && weaker_step_up(rule(old).as_ref(), rule(new).as_ref()), || {
            format!("permission `{permission}` asks for a less fresh authentication")
        });
    }
    for (a, b) in old.policy.exclusive() {
        lines.when(!new.policy.exclusive().contains(&(a.clone(), b.clone())), || {
            format!("roles `{a}` and `{b}` may be held together")
        });
    }
}

fn tenants(old: &Rules, new: &Rules, lines: &mut Lines) {
    let open = |rules: &Rules| matches!(rules.unknown_tenant, UnknownTenant::Allow(_));
    lines.when(!open(old) && open(new), || "tenants that are not listed are served".to_owned());
    let mut changed: Vec<(&Arc<Tenant>, &Arc<Tenant>)> =
        new.tenants.iter().filter_map(|(id, new)| Some((old.tenants.get(id)?, new))).filter(|(a, b)| a != b).collect();
    changed.sort_by(|a, b| a.1.id.cmp(&b.1.id));
    for (before, after) in changed {
        let id = &after.id;
        lines.when(before.status == TenantStatus::Suspended && after.status == TenantStatus::Active, || {
            format!("tenant `{id}` is no longer suspended")
        });
        let outside = |net: &ipnet::IpNet| !before.ip_allow.iter().any(|old| old.contains(net));
        let wider = after.ip_allow.is_empty() || after.ip_allow.iter().any(outside);
        lines.when(!before.ip_allow.is_empty() && wider, || format!("tenant `{id}` may be used from more addresses"));
        let spoken = after.issuers.is_empty() || after.issuers.iter().any(|issuer| !before.issuers.contains(issuer));
        lines.when(!before.issuers.is_empty() && spoken, || format!("more issuers may speak for tenant `{id}`"));
        lines.when(before.mfa_required && !after.mfa_required, || format!("tenant `{id}` needs no second factor"));
        let opened = after.embed_origins.iter().any(|origin| !before.embed_origins.contains(origin));
        lines.when(opened, || format!("more origins may embed tenant `{id}`"));
        lines.when(longer(before.max_auth_age_s, after.max_auth_age_s), || {
            format!("tenant `{id}` accepts older authentications")
        });
        let lives = longer(before.idle_s, after.idle_s) || longer(before.absolute_s, after.absolute_s);
        lines.when(lives, || format!("sessions of tenant `{id}` live longer"));
        lines.when(before.residency.is_some() && before.residency != after.residency, || {
            format!("the data of tenant `{id}` may leave its region")
        });
        let class = |rules: &Rules, tenant: &Tenant| rules.classes.get(tenant.class).cloned();
        lines.when(class(old, before) != class(new, after), || format!("tenant `{id}` changed its class"));
    }
}

fn issuers(old: &[Arc<Issuer>], new: &[Arc<Issuer>], lines: &mut Lines) {
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

fn upstreams(old: &[Arc<Upstream>], new: &[Arc<Upstream>], lines: &mut Lines) {
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

/// Spans say who asked for what, so where they go is told.
fn traces(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    let (before, after) = (&old.traces, &new.traces);
    if let Some(collector) = &after.collector {
        let was = before.collector.as_ref();
        lines.when(was.is_none_or(|was| was.url != collector.url), || format!("spans are sent to `{}`", collector.url));
        lines.when(was.is_some_and(|was| was.ca != collector.ca), || {
            "other authorities vouch for the collector of spans".to_owned()
        });
        lines.when(was.is_some() && after.client_address && !before.client_address, || {
            "spans say addresses of clients".to_owned()
        });
    }
    lines.when(after.trust_inbound && !before.trust_inbound, || "traces of trusted hops are continued".to_owned());
}

/// Whoever is asked says who somebody is.
fn ext_auth(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
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
fn app_sessions(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
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

/// Whoever holds the store holds the counts of shared limits.
fn store(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    let (Some(before), Some(after)) = (&old.redis, &new.redis) else { return };
    lines.when(before.place != after.place || before.database != after.database, || {
        "limits are counted in another store (`storage.redis.url`)".to_owned()
    });
    lines.when(before.key_prefix != after.key_prefix || before.hash_key != after.hash_key, || {
        "shared limits count by other keys, and begin anew".to_owned()
    });
    lines.when(before.tls.is_some() && before.tls != after.tls, || {
        "the shared store is recognised by other authorities, or not at all".to_owned()
    });
}

/// A header profile has no order from loose to strict, so every change is told.
fn profiles(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    for profile in &new.profiles {
        let before = old.profiles.iter().find(|other| other.name() == profile.name());
        lines.when(before.is_some_and(|before| before != profile), || {
            format!("header profile `{}` was changed", profile.name())
        });
    }
    lines.when(!old.identity.eq(&new.identity), || "`identity` or `tenancy.forward_as` was changed".to_owned());
}
