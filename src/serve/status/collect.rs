//! Gathers the document from the parts that know.
use super::document::{
    Audit, Certificate, Document, Endpoint, Issuer, Limit, Listener, Process, Reload, Route, SCHEMA, Store, Tenant,
    Top, Traffic,
};
use super::findings::Facts;
use super::window::quantile;
use super::{Status, document};
use crate::config::settings::{self, ListenerKind};
use crate::serve::active::Active;
use crate::serve::certificates::CertStatus;
use crate::serve::metrics::{ListenerCount, Reading, RouteCount};
use crate::serve::reloads::{LastReload, Outcome};
use crate::serve::run::now_ms;
use crate::serve::upstream::{Ejection, EndpointStatus, Health, Pool};
use decide::facts::Protocol;
use decide::record::time;
use decide::revocation::Scope;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows of a table that may be long.
const SHOWN: usize = 50;
/// Status classes in the order in which they are counted.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const DAY_S: i64 = 86_400;

impl Status {
    /// Everything but the findings.
    pub(super) fn collect(&self, now: &Reading, span: Duration, counted: &Reading) -> Document {
        let active = self.shared.active();
        let window_s = span.as_secs_f64();
        let listeners = self.listeners(&active, now, counted);
        Document {
            schema: SCHEMA,
            at: time::format(now_ms()),
            ok: true,
            findings: Vec::new(),
            gateway: self.process(&active, &listeners),
            window_s: (window_s * 10.0).round() / 10.0,
            traffic: self.traffic(counted, window_s, &listeners),
            listeners,
            routes: routes(counted, window_s),
            tenants: tenants(counted, window_s),
            upstreams: upstreams(&active),
            certificates: self.certificates(&active),
            issuers: issuers(&active),
            audit: self.audit(),
            limits: self.quotas.keys().into_iter().map(|(name, keys)| Limit { name: name.to_string(), keys }).collect(),
            store: self.store(),
            revocations: Some(self.revocations(&active)),
            reload: self.shared.reloads.last().map(|last| reload(&last)),
            refusals: self.shared.recent.list(),
        }
    }

    fn revocations(&self, active: &Active) -> document::Revocations {
        let known = &self.shared.revocations;
        document::Revocations {
            ready: known.is_ready(),
            stale: known.is_stale(),
            silence_s: (known.silence().as_secs_f64() * 1000.0).round() / 1000.0,
            marks: Scope::ALL.into_iter().map(|scope| known.count(scope)).sum(),
            max_marks: active.snapshot.revocation.max_marks,
        }
    }

    fn store(&self) -> Option<Store> {
        let (address, health) = self.storage.health()?;
        let fallbacks = self.quotas.lost().iter().map(|(_, _, count)| count).sum();
        Some(Store { address, up: health.up, replicas: health.replicas, trouble: health.trouble, fallbacks })
    }

    /// What the findings need and the document does not say.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            certificate_complaints: self.certificates.as_ref().map(|store| store.complaints()).unwrap_or_default(),
            last_good: self.shared.active().snapshot.fallback.is_some(),
            silent: self
                .shared
                .state
                .health()
                .into_iter()
                .filter_map(|(engine, health)| Some((engine.word(), health.err()?)))
                .collect(),
        }
    }

    fn process(&self, active: &Active, listeners: &[Listener]) -> Process {
        let server = &active.snapshot.server;
        Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: server.instance.clone(),
            pid: std::process::id(),
            started: time::format(self.started_ms),
            uptime_s: self.started.elapsed().as_secs(),
            snapshot: active.snapshot.digest.clone(),
            in_force_since: self.shared.reloads.in_force().map(|reload| time::format(reload.at_ms)),
            draining: self.drain.announced(),
            panics: crate::panics::count(),
            access_lines_dropped: self.shared.access.lines().dropped(),
            connections: listeners.iter().map(|listener| listener.open).sum(),
            max_connections: server.max_connections as u64,
        }
    }

    fn traffic(&self, counted: &Reading, window_s: f64, listeners: &[Listener]) -> Traffic {
        let mut all = RouteCount::default();
        counted.routes.values().for_each(|route| all.add(route));
        let running = self.shared.live.running();
        Traffic {
            rate: rate(all.requests(), window_s),
            classes: classes(&all),
            p50: quantile(&all, 0.5),
            p99: quantile(&all, 0.99),
            under_way: listeners.iter().map(|listener| listener.under_way).sum(),
            answering: running.answering as u64,
            tunnels: running.tunnels as u64,
            refused: all.refused,
        }
    }

    fn listeners(&self, active: &Active, now: &Reading, counted: &Reading) -> Vec<Listener> {
        let none = ListenerCount::default();
        let addresses = self.shared.addresses.load();
        let listener = |settings: &std::sync::Arc<settings::Listener>| {
            let name = &*settings.name;
            let (total, lately) = (now.listeners.get(name), counted.listeners.get(name));
            let (total, lately) = (total.unwrap_or(&none), lately.unwrap_or(&none));
            let bound = addresses.iter().find(|(bound, _)| **bound == *name).map(|(_, address)| *address);
            let (kind, protocols) = match &settings.kind {
                ListenerKind::Tls { protocols, .. } => ("tls", protocols.iter().map(|p| protocol(*p)).collect()),
                ListenerKind::Redirect { .. } => ("redirect", vec!["h1".to_owned()]),
                ListenerKind::Plaintext => ("plaintext", vec!["h1".to_owned()]),
            };
            Listener {
                name: name.to_owned(),
                address: bound.unwrap_or(settings.address).to_string(),
                kind: kind.to_owned(),
                protocols,
                open: total.open,
                under_way: total.active,
                accepted: total.accepted,
                rejected: total.rejected.clone(),
                rejected_in_window: lately.rejected.values().sum(),
                handshakes: total.handshakes,
                handshakes_failed: total.handshakes_failed.clone(),
                handshakes_failed_in_window: lately.handshakes_failed.values().sum(),
            }
        };
        active.snapshot.listeners.iter().map(listener).collect()
    }

    fn certificates(&self, active: &Active) -> Top<Certificate> {
        let mut status = self.certificates.as_ref().map(|store| store.status()).unwrap_or_default();
        status.sort_by(|a, b| (a.not_after_s, &a.name).cmp(&(b.not_after_s, &b.name)));
        let warn_s = active.snapshot.tls.as_ref().map_or(0, |tls| tls.warn_before_expiry.as_secs());
        let now_s = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        top(status.iter().map(|pair| certificate(pair, now_s, i64::try_from(warn_s).unwrap_or(i64::MAX))).collect())
    }

    fn audit(&self) -> Audit {
        let state = self.shared.audit.state();
        Audit {
            last_seq: state.last_seq,
            last_head: (state.last_head_s > 0).then(|| time::format(state.last_head_s.saturating_mul(1000))),
            backlog: state.backlog,
            write_errors: state.write_errors,
            refused: state.refused,
            failing_since: state.failing_since_ms.map(time::format),
        }
    }
}

fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Http1 => "h1".to_owned(),
        Protocol::Http2 => "h2".to_owned(),
    }
}

fn certificate(pair: &CertStatus, now_s: i64, warn_s: i64) -> Certificate {
    let left_s = pair.not_after_s.saturating_sub(now_s);
    let state = match (pair.not_before_s > now_s, left_s) {
        (true, _) => "not-yet-valid",
        (false, ..0) => "expired",
        (false, left) if left < warn_s => "expiring",
        (false, _) => "ok",
    };
    Certificate {
        name: pair.name.to_string(),
        names: pair.names.clone(),
        key: pair.key.to_owned(),
        not_after: time::format(u64::try_from(pair.not_after_s).unwrap_or_default().saturating_mul(1000)),
        days_left: left_s.div_euclid(DAY_S),
        state: state.to_owned(),
        default: pair.default,
    }
}

fn routes(counted: &Reading, window_s: f64) -> Top<Route> {
    let mut busiest: Vec<_> = counted.routes.iter().collect();
    busiest.sort_by(|a, b| (b.1.requests(), a.0).cmp(&(a.1.requests(), b.0)));
    let route = |(name, count): (&String, &RouteCount)| Route {
        name: name.clone(),
        rate: rate(count.requests(), window_s),
        p50: quantile(count, 0.5),
        p99: quantile(count, 0.99),
        classes: classes(count),
        refused: count.refused.clone(),
    };
    Top { total: busiest.len(), shown: busiest.into_iter().take(SHOWN).map(route).collect() }
}

fn tenants(counted: &Reading, window_s: f64) -> Top<Tenant> {
    let mut tenants: Vec<Tenant> = counted
        .tenants
        .iter()
        .map(|(name, count)| Tenant {
            name: name.clone(),
            rate: rate(count.allowed + count.refused, window_s),
            allowed: count.allowed,
            refused: count.refused,
        })
        .collect();
    tenants.sort_by(|a, b| (b.allowed + b.refused, &a.name).cmp(&(a.allowed + a.refused, &b.name)));
    top(tenants)
}

/// Tenants shown of each upstream.
const HOLDINGS: usize = 5;

fn upstreams(active: &Active) -> Top<document::Upstream> {
    let mut upstreams: Vec<document::Upstream> = active.upstreams.iter().map(|pool| upstream(pool)).collect();
    let unusable = |upstream: &document::Upstream| upstream.endpoints.iter().filter(|e| !e.usable).count();
    upstreams.sort_by(|a, b| (unusable(b), &a.name).cmp(&(unusable(a), &b.name)));
    top(upstreams)
}

fn upstream(pool: &Pool) -> document::Upstream {
    let counts = pool.counts();
    document::Upstream {
        name: pool.settings.name.to_string(),
        in_flight: counts.in_flight as u64,
        full: counts.full,
        limit: counts.limit.map(|limit| limit as u64),
        shed: counts.shed.iter().sum(),
        holdings: counts
            .holdings
            .iter()
            .take(HOLDINGS)
            .map(|holding| document::Holding {
                tenant: holding.tenant.to_string(),
                held: holding.held as u64,
                refused: holding.refused,
            })
            .collect(),
        unresolved: counts.unresolved,
        endpoints: pool.status().into_iter().map(endpoint).collect(),
    }
}

fn endpoint(status: EndpointStatus) -> Endpoint {
    let state = match (status.ejected, status.health) {
        (Some((Ejection::Connect, left_ms)), _) => format!("unreachable, rests for {} s", left_ms.div_ceil(1000)),
        (Some((Ejection::Answers, left_ms)), _) => format!("ejected for {} s", left_ms.div_ceil(1000)),
        (None, Health::Unhealthy) => "unhealthy".to_owned(),
        (None, Health::Unproven) => "up, not checked yet".to_owned(),
        (None, Health::Healthy | Health::Unchecked) => "up".to_owned(),
    };
    Endpoint {
        address: status.address.to_string(),
        zone: status.zone.as_ref().map(|zone| zone.to_string()),
        weight: status.weight,
        usable: status.is_fit(),
        state,
        in_flight: status.in_flight as u64,
        last_error: status.last_error,
    }
}

fn issuers(active: &Active) -> Vec<Issuer> {
    let now_s = now_ms() / 1000;
    let mut issuers: Vec<Issuer> = active
        .issuers()
        .values()
        .map(|ring| {
            let status = ring.status();
            Issuer {
                name: status.issuer.to_string(),
                usable: status.usable,
                keys: status.keys,
                age_s: status.last_success_s.map(|at| now_s.saturating_sub(at)),
                last_error: status.failure.map(|failure| failure.to_string()),
                skipped: status.skipped,
            }
        })
        .collect();
    issuers.sort_by(|a, b| (a.usable, &a.name).cmp(&(b.usable, &b.name)));
    issuers
}

fn reload(last: &LastReload) -> Reload {
    let (problems, text, loosened) = match &last.outcome {
        Outcome::Applied { loosened } => (0, String::new(), loosened.clone()),
        Outcome::Unchanged => (0, String::new(), Vec::new()),
        Outcome::Refused { problems, text } | Outcome::LastGood { problems, text } => {
            (*problems, text.clone(), Vec::new())
        }
    };
    Reload {
        at: time::format(last.at_ms),
        trigger: last.trigger.as_str().to_owned(),
        outcome: last.outcome.as_str().to_owned(),
        snapshot: last.digest.clone(),
        problems,
        text,
        loosened,
    }
}

fn classes(count: &RouteCount) -> BTreeMap<String, u64> {
    let named = CLASSES.iter().zip(count.classes).filter(|(_, count)| *count > 0);
    named.map(|(class, count)| ((*class).to_owned(), count)).collect()
}

fn rate(count: u64, window_s: f64) -> f64 {
    (count as f64 / window_s * 100.0).round() / 100.0
}

fn top<T>(mut all: Vec<T>) -> Top<T> {
    let total = all.len();
    all.truncate(SHOWN);
    Top { total, shown: all }
}
