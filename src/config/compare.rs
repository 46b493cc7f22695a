//! Two snapshots side by side: what only a restart can change, and what the new one allows that the old one did not.
mod certificates;
mod keys;
mod parties;
mod routes;
mod sessions;
mod shell;
pub use shell::needs_restart;

use crate::config::settings::Snapshot;
use decide::rules::{Rules, Tenant, TenantStatus, UnknownTenant};
use routes::{longer, weaker_step_up};
use std::collections::HashMap;
use std::sync::Arc;

/// More lines than this are counted instead.
const MAX_LINES: usize = 50;

/// What the new snapshot allows that the old one did not, one sentence each, for the audit log.
pub fn loosened(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut lines = Lines(Vec::new());
    routes::loosened(&old.rules, &new.rules, &mut lines);
    roles(&old.rules, &new.rules, &mut lines);
    tenants(&old.rules, &new.rules, &mut lines);
    parties::issuers(&old.issuers, &new.issuers, &mut lines);
    profiles(old, new, &mut lines);
    parties::upstreams(&old.upstreams, &new.upstreams, &mut lines);
    keys::loosened(old, new, &mut lines);
    parties::ext_auth(old, new, &mut lines);
    certificates::loosened(old, new, &mut lines);
    parties::app_sessions(old, new, &mut lines);
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
