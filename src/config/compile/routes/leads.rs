//! Where a route leads: its upstream, or its upstreams by region, and whose data must not go there.
use super::{Known, Patterns};
use crate::config::compile::{Compiler, Noun};
use crate::config::options::{RouteOptions, RouteTimeouts, RouteUpstream};
use crate::config::read::Spanned;
use crate::config::units::{Period, seconds};
use decide::policy::nearest;
use decide::router::HostPattern;
use decide::rules::{Destination, Resolve, RouteTenant, Rules, Tenant, Timeouts};
use std::sync::Arc;
use std::time::Duration;

/// Key of the upstream for tenants without a residency.
const DEFAULT: &str = "default";

impl Compiler<'_> {
    /// The upstream for all, or for tenants without a residency, and those by region.
    pub(super) fn leads(
        &self,
        options: &RouteOptions,
        known: &Known<'_>,
    ) -> Option<(Option<Destination>, Vec<Destination>)> {
        let at = options.upstream.at;
        let find = |name: &Spanned<String>| {
            self.refer(Noun::Upstream, name, self.names("upstreams").into_iter());
            known.upstreams.get(name.as_str()).cloned()
        };
        let map = match &options.upstream.value {
            RouteUpstream::One(name) => {
                let only = find(&Spanned { value: name.clone(), at })?;
                return Some((Some(only), Vec::new()));
            }
            RouteUpstream::ByRegion(map) => map,
        };
        let (mut default, mut regions, mut whole) = (None, Vec::new(), true);
        for (region, name) in map.iter() {
            let Some(destination) = find(name) else {
                whole = false;
                continue;
            };
            if region.as_str() == DEFAULT {
                default = Some(destination);
                continue;
            }
            if destination.region.as_deref() != Some(region.as_str()) {
                let message = format!("upstream `{}` is not labelled `region: {}`", name.value, region.value);
                self.report.hinted(name.at, message, Some("what stands under a region must be there"));
            }
            regions.push(destination);
        }
        if regions.is_empty() && whole {
            self.report.hinted(at, "`upstream` names no region", Some("write the name of one upstream"));
        }
        whole.then_some((default, regions))
    }

    /// A tenant whose data stays in a region, on a route that leads elsewhere, would be refused each time.
    pub(super) fn resident(
        &self,
        (name, options): (&Spanned<String>, &RouteOptions),
        patterns: &Patterns<'_>,
        (rules, residents): (&Rules, &[Arc<Tenant>]),
        tenant: &RouteTenant,
        only: &Destination,
    ) {
        // Of a region where nothing is, the tenant's own entry is told.
        let exists = |region: &str| {
            let mut labels = self.options.upstreams.iter().filter_map(|(_, upstream)| upstream.labels.region.as_ref());
            labels.any(|label| label.as_str() == region)
        };
        let abroad =
            |tenant: &&Tenant| tenant.residency != only.region && tenant.residency.as_deref().is_some_and(exists);
        let mut stranded: Vec<&Tenant> = residents.iter().map(|tenant| &**tenant).filter(abroad).collect();
        stranded.retain(|t| match tenant {
            RouteTenant::None => false,
            RouteTenant::Resolve => patterns.hosts.iter().any(|(host, _)| reaches(rules, t, host)),
            RouteTenant::Param { map: Some(map), .. } => map.values().any(|id| *id == t.id),
            RouteTenant::Param { map: None, .. } | RouteTenant::Session => true,
        });
        stranded.sort_by(|a, b| a.id.cmp(&b.id));
        let Some(first) = stranded.first() else { return };
        let more = match stranded.len() {
            1 => String::new(),
            n => format!(" and of {} more", n - 1),
        };
        let region = first.residency.as_deref().unwrap_or_default();
        let message = format!(
            "the data of tenant `{}`{more} stays in `{region}`, and route `{}` leads to upstream `{}`",
            first.id, name.value, only.name
        );
        let hint = format!(
            "label the upstream `region: {region}`, or write `upstream: {{{region}: NAME, default: {}}}`",
            only.name
        );
        self.report.hinted(options.upstream.at, message, Some(hint));
    }

    /// A region that some upstream is in.
    pub(in crate::config::compile) fn known_region(&self, region: &Spanned<String>) {
        let regions = || self.options.upstreams.iter().filter_map(|(_, upstream)| upstream.labels.region.as_ref());
        // An upstream that could not be read may have been the one.
        let whole = self.names("upstreams").len() == self.options.upstreams.0.len();
        if whole && !regions().any(|known| known.value == region.value) {
            let known: Vec<&str> = regions().map(|known| known.as_str()).collect();
            let hint = nearest(&region.value, known.iter());
            self.report.hinted(region.at, format!("no upstream is in region `{}`", region.value), hint);
        }
    }

    pub(super) fn route_timeouts(&self, options: &RouteTimeouts) -> Timeouts {
        let read = |time: &Option<Spanned<Period>>| {
            let time = time.as_ref()?;
            Some(self.within(time, Period(Duration::from_millis(1)), seconds(86_400)).0)
        };
        Timeouts { first_byte: read(&options.first_byte), idle: read(&options.idle), total: read(&options.total) }
    }
}

/// Whether some request of this tenant can come under a host pattern.
fn reaches(rules: &Rules, tenant: &Tenant, host: &HostPattern) -> bool {
    rules.resolve.iter().any(|rule| match (rule, host) {
        (_, HostPattern::Any) | (Resolve::Header(_) | Resolve::Path(_), _) => true,
        (Resolve::Host(domain), HostPattern::Wildcard(of)) => domain == of,
        (Resolve::Host(domain), HostPattern::Exact(name)) => {
            name.strip_suffix(&**domain).and_then(|rest| rest.strip_suffix('.')) == Some(&*tenant.id)
        }
        (Resolve::CustomDomain, HostPattern::Exact(name)) => {
            rules.custom_domains.get(name).is_some_and(|id| *id == tenant.id)
        }
        (Resolve::CustomDomain, HostPattern::Wildcard(of)) => rules
            .custom_domains
            .iter()
            .any(|(domain, id)| *id == tenant.id && domain.split_once('.').is_some_and(|(_, parent)| parent == &**of)),
    })
}
