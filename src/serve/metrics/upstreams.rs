//! What the pools know and count, brought into the metrics before each scrape.
use super::tenants::Slot;
use super::{Metrics, gauge, raise};
use crate::serve::upstream::{Health, Pool};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Metrics {
    /// The pools in force. Endpoints that are gone disappear; counters of upstreams that are gone stay as they are.
    pub fn upstreams(&self, pools: &[Arc<Pool>]) {
        let families = &self.families;
        families.endpoint_healthy.reset();
        families.endpoint_ejected.reset();
        families.endpoint_in_flight.reset();
        families.upstream_limit.reset();
        for pool in pools {
            let name = &*pool.settings.name;
            for endpoint in pool.status() {
                let address = endpoint.address.to_string();
                let labels = [name, &address];
                let healthy = endpoint.health != Health::Unhealthy;
                families.endpoint_healthy.with_label_values(&labels).set(healthy.into());
                families.endpoint_ejected.with_label_values(&labels).set(endpoint.ejected.is_some().into());
                families.endpoint_in_flight.with_label_values(&labels).set(gauge(endpoint.in_flight));
            }
            let counts = pool.counts();
            for (result, total) in ["passed", "failed"].into_iter().zip(counts.checks) {
                raise(&families.upstream_checks.with_label_values(&[name, result]), total);
            }
            for (reason, total) in ["connect", "answers"].into_iter().zip(counts.ejections) {
                raise(&families.upstream_ejections.with_label_values(&[name, reason]), total);
            }
            // From the start, not from the first event on: rate() cannot see the event that makes its series.
            for (reason, result, total) in counts.retries {
                raise(&families.upstream_retries.with_label_values(&[name, reason, result]), total);
            }
            raise(&families.upstream_full.with_label_values(&[name]), counts.full);
            if let Some(limit) = counts.limit {
                families.upstream_limit.with_label_values(&[name]).set(gauge(limit));
            }
            for (reason, total) in ["latency", "anonymous"].into_iter().zip(counts.shed) {
                raise(&families.upstream_shed.with_label_values(&[name, reason]), total);
            }
            let mut by_label: BTreeMap<Arc<str>, u64> = BTreeMap::new();
            for holding in counts.holdings.iter().filter(|holding| holding.refused > 0) {
                let tenant = Some(&*holding.tenant).filter(|tenant| !tenant.is_empty());
                *by_label.entry(self.tenants.name(self.tenants.slot(tenant))).or_default() += holding.refused;
            }
            if counts.forgotten > 0 {
                *by_label.entry(self.tenants.name(Slot::OTHER)).or_default() += counts.forgotten;
            }
            for (tenant, total) in by_label {
                raise(&families.upstream_share_refused.with_label_values(&[name, &tenant]), total);
            }
            raise(&families.upstream_panicked.with_label_values(&[name]), counts.panicked);
            raise(&families.upstream_unresolved.with_label_values(&[name]), counts.unresolved);
        }
    }
}
