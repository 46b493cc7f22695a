//! The counters as numbers, for those who look at the process itself rather than at what Prometheus made of it.
use super::{Metrics, STATUS_CLASSES};
use prometheus::core::Collector;
use prometheus::proto::{Histogram, Metric, MetricFamily};
use std::collections::BTreeMap;

/// What was counted since the start of the process, or between two readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// By route; `none` for requests without one. Routes without a request are missing.
    pub routes: BTreeMap<String, RouteCount>,
    /// By tenant label. Those without a decision are missing.
    pub tenants: BTreeMap<String, TenantCount>,
    /// By listener.
    pub listeners: BTreeMap<String, ListenerCount>,
}

/// Requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteCount {
    /// By status class: no response, 1xx to 5xx.
    pub classes: [u64; STATUS_CLASSES.len()],
    /// By duration, one for each of [`Reading::bounds_ms`] and one for what took longer. Without requests that the
    /// gateway refused with 4xx: they take microseconds and would hide how the application is doing.
    pub durations: Vec<u64>,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
}

/// Decisions about one tenant's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantCount {
    /// Allowed.
    pub allowed: u64,
    /// Refused by a guard.
    pub refused: u64,
}

/// What a listener counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerCount {
    /// Connections taken; rejected ones are not among them.
    pub accepted: u64,
    /// Connections closed before their first request, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Handshakes that did not, by result.
    pub handshakes_failed: BTreeMap<String, u64>,
    /// Connections open now; a level, not a count.
    pub open: u64,
    /// Requests under way now; a level, not a count.
    pub active: u64,
}

impl RouteCount {
    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Refusals in all.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Counts what another has, too.
    pub fn add(&mut self, other: &RouteCount) {
        for (mine, others) in self.classes.iter_mut().zip(other.classes) {
            *mine += others;
        }
        self.durations.resize(self.durations.len().max(other.durations.len()), 0);
        for (mine, others) in self.durations.iter_mut().zip(&other.durations) {
            *mine += others;
        }
        add_each(&mut self.refused, &other.refused);
    }

    fn since(&self, before: &RouteCount) -> RouteCount {
        let mut classes = self.classes;
        for (mine, before) in classes.iter_mut().zip(before.classes) {
            *mine = mine.saturating_sub(before);
        }
        let was = before.durations.iter().copied().chain(std::iter::repeat(0));
        let durations = self.durations.iter().zip(was).map(|(now, was)| now.saturating_sub(was)).collect();
        RouteCount { classes, durations, refused: since_each(&self.refused, &before.refused) }
    }
}

impl ListenerCount {
    fn since(&self, before: &ListenerCount) -> ListenerCount {
        ListenerCount {
            accepted: self.accepted.saturating_sub(before.accepted),
            rejected: since_each(&self.rejected, &before.rejected),
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            handshakes_failed: since_each(&self.handshakes_failed, &before.handshakes_failed),
            open: self.open,
            active: self.active,
        }
    }

    fn add(&mut self, other: &ListenerCount) {
        self.accepted += other.accepted;
        add_each(&mut self.rejected, &other.rejected);
        self.handshakes += other.handshakes;
        add_each(&mut self.handshakes_failed, &other.handshakes_failed);
        (self.open, self.active) = (other.open, other.active);
    }
}

fn add_each(into: &mut BTreeMap<String, u64>, other: &BTreeMap<String, u64>) {
    for (name, count) in other {
        *into.entry(name.clone()).or_default() += count;
    }
}

/// Without what has not changed.
fn since_each(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let change = |(name, count): (&String, &u64)| {
        let change = count.saturating_sub(before.get(name).copied().unwrap_or_default());
        (change > 0).then(|| (name.clone(), change))
    };
    now.iter().filter_map(change).collect()
}

impl Reading {
    /// Upper bounds of the durations' buckets, in milliseconds.
    pub fn bounds_ms() -> impl Iterator<Item = f64> {
        super::families::DURATION_BUCKETS.into_iter().map(|seconds| seconds * 1000.0)
    }

    /// What was counted since an earlier reading; what did not change is missing.
    pub fn since(&self, before: &Reading) -> Reading {
        let (no_route, no_listener) = (RouteCount::default(), ListenerCount::default());
        let route = |(name, now): (&String, &RouteCount)| {
            let change = now.since(before.routes.get(name).unwrap_or(&no_route));
            (change.requests() > 0 || change.refusals() > 0).then(|| (name.clone(), change))
        };
        let tenant = |(name, now): (&String, &TenantCount)| {
            let was = before.tenants.get(name).copied().unwrap_or_default();
            let (allowed, refused) = (now.allowed.saturating_sub(was.allowed), now.refused.saturating_sub(was.refused));
            (allowed + refused > 0).then(|| (name.clone(), TenantCount { allowed, refused }))
        };
        let listener = |(name, now): (&String, &ListenerCount)| {
            (name.clone(), now.since(before.listeners.get(name).unwrap_or(&no_listener)))
        };
        Reading {
            routes: self.routes.iter().filter_map(route).collect(),
            tenants: self.tenants.iter().filter_map(tenant).collect(),
            listeners: self.listeners.iter().map(listener).collect(),
        }
    }

    /// Counts what a later span has, too.
    pub fn add(&mut self, later: &Reading) {
        for (name, route) in &later.routes {
            self.routes.entry(name.clone()).or_default().add(route);
        }
        for (name, tenant) in &later.tenants {
            let mine = self.tenants.entry(name.clone()).or_default();
            mine.allowed += tenant.allowed;
            mine.refused += tenant.refused;
        }
        for (name, listener) in &later.listeners {
            self.listeners.entry(name.clone()).or_default().add(listener);
        }
    }
}

impl Metrics {
    /// Reads the counters that [`Reading`] has. Takes a moment where there are thousands of series: not for a task that
    /// serves requests.
    pub fn reading(&self) -> Reading {
        let (mut reading, families) = (Reading::default(), &self.families);
        each(&families.server_duration, |metric| {
            let route = reading.routes.entry(label(metric, "http_route").to_owned()).or_default();
            let class = label(metric, "status_class");
            let histogram = metric.get_histogram();
            let at = STATUS_CLASSES.iter().position(|known| *known == class);
            if let Some(count) = at.and_then(|at| route.classes.get_mut(at)) {
                *count += histogram.get_sample_count();
            }
            if (class, label(metric, "origin")) != ("4xx", "gateway") {
                let others = RouteCount { durations: buckets(histogram), ..RouteCount::default() };
                route.add(&others);
            }
        });
        each(&families.refusals, |metric| {
            let route = reading.routes.entry(label(metric, "route").to_owned()).or_default();
            *route.refused.entry(label(metric, "code").to_owned()).or_default() += count(metric);
        });
        each(&families.authz, |metric| {
            if label(metric, "mode") != "enforce" {
                return;
            }
            let tenant = reading.tenants.entry(label(metric, "tenant").to_owned()).or_default();
            match label(metric, "decision") {
                "allow" => tenant.allowed += count(metric),
                _ => tenant.refused += count(metric),
            }
        });
        let listeners = &mut reading.listeners;
        let mut listener = |metric: &Metric, change: &dyn Fn(&mut ListenerCount)| {
            change(listeners.entry(label(metric, "listener").to_owned()).or_default());
        };
        each(&families.connections, |m| listener(m, &|l| l.open = level(m)));
        each(&families.server_active, |m| listener(m, &|l| l.active = level(m)));
        each(&families.connections_accepted, |m| listener(m, &|l| l.accepted += count(m)));
        each(&families.connections_rejected, |m| {
            listener(m, &|l| *l.rejected.entry(label(m, "reason").to_owned()).or_default() += count(m));
        });
        each(&families.tls_handshakes, |m| {
            listener(m, &|l| match label(m, "result") {
                "ok" | "resumed" => l.handshakes += count(m),
                failed => *l.handshakes_failed.entry(failed.to_owned()).or_default() += count(m),
            });
        });
        reading
    }
}

fn each(family: &dyn Collector, mut read: impl FnMut(&Metric)) {
    family.collect().iter().flat_map(MetricFamily::get_metric).for_each(&mut read);
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}

/// Counters hold whole numbers; the library shows them as floats.
fn whole(value: f64) -> u64 {
    // A cast of a float saturates, and what is not a number becomes 0.
    value as u64
}

fn count(metric: &Metric) -> u64 {
    whole(metric.get_counter().get_value())
}

fn level(metric: &Metric) -> u64 {
    whole(metric.get_gauge().get_value())
}

/// The library's buckets count everything up to their bound, and the last one is left out.
fn buckets(histogram: &Histogram) -> Vec<u64> {
    let mut below = 0;
    let mut buckets: Vec<u64> = histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound().is_finite())
        .map(|bucket| {
            let count = bucket.cumulative_count().saturating_sub(below);
            below = bucket.cumulative_count();
            count
        })
        .collect();
    buckets.push(histogram.get_sample_count().saturating_sub(below));
    buckets
}
