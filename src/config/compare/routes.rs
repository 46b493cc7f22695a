//! Routes: what may reach an application that could not before.
use super::Lines;
use decide::cors::{Cors, Origins};
use decide::rules::{
    Accept, Access, BodyRules, Csrf, Excess, Limit, Rate, Route, RouteTenant, Rules, SessionRules, Sharing,
    SharingMode, StepUp,
};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn loosened(old: &Rules, new: &Rules, lines: &mut Lines) {
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
                format!("route `{name}` accepts API keys of {keys} in `{header}` too")
            }
        });
    }
}

pub(super) fn weaker_step_up(old: Option<&StepUp>, new: Option<&StepUp>) -> bool {
    match (old, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => {
            longer(old.max_age_s, new.max_age_s)
                || (!old.acr.is_empty() && (new.acr.is_empty() || new.acr.iter().any(|acr| !old.acr.contains(acr))))
                || old.amr.iter().any(|method| !new.amr.contains(method))
        }
    }
}

/// Whether a bound got looser; no bound is the loosest.
pub(super) fn longer(old: Option<u64>, new: Option<u64>) -> bool {
    old.is_some_and(|old| new.is_none_or(|new| new > old))
}

fn wider_body(old: &BodyRules, new: &BodyRules) -> bool {
    let types = &old.content_types;
    let others = new.content_types.is_empty() || new.content_types.iter().any(|kind| !types.contains(kind));
    longer(old.max_bytes, new.max_bytes) || (!types.is_empty() && others) || (!old.with_get && new.with_get)
}

pub(super) fn raised(old: &Limit, new: &Limit) -> bool {
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
