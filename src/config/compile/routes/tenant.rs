//! Whose requests a route takes: where its tenant comes from, and what could never find one.
use super::Patterns;
use crate::config::compile::Compiler;
use crate::config::options::{MapFile, RouteOptions, RouteTenantOptions, TenantSource};
use crate::config::read::Spanned;
use decide::policy::nearest;
use decide::router::HostPattern;
use decide::rules::{KeyPart, Limit, Resolve, RouteTenant, Rules, UnknownTenant};
use std::sync::Arc;

impl Compiler<'_> {
    /// `tenant`, or by `tenancy.resolve`.
    pub(super) fn route_tenant(&self, options: &RouteOptions, patterns: &Patterns<'_>, rules: &Rules) -> RouteTenant {
        let Some(tenant) = &options.tenant else { return RouteTenant::Resolve };
        let from = match &tenant.value {
            RouteTenantOptions::None => return RouteTenant::None,
            RouteTenantOptions::From(from) => from,
        };
        match (from.from, &from.param) {
            (TenantSource::Session, _) => {
                if from.param.is_some() || from.map.is_some() {
                    self.report.problem(tenant.at, "`from: session` takes neither `param` nor `map`");
                }
                if options.public.is_some() {
                    self.report.problem(tenant.at, "a public route has no session to take the tenant from");
                }
                RouteTenant::Session
            }
            (TenantSource::ApiKey, _) => {
                if from.param.is_some() || from.map.is_some() {
                    self.report.problem(tenant.at, "`from: api_key` takes neither `param` nor `map`");
                }
                if !options.auth.as_ref().is_some_and(|auth| auth.way.takes_keys_only()) {
                    let hint = "write `auth: {api_key: …}`, or `from: session`";
                    let message = "`from: api_key` is for routes that accept API keys and nothing else";
                    self.report.hinted(tenant.at, message, Some(hint));
                }
                RouteTenant::Session
            }
            (TenantSource::PathParam, None) => {
                self.report.problem(tenant.at, "`from: path_param` needs `param`");
                RouteTenant::None
            }
            (TenantSource::PathParam, Some(param)) => {
                for (pattern, text) in patterns.paths.iter().filter(|(p, _)| !p.params().any(|n| n == param.as_str())) {
                    let hint = nearest(&param.value, pattern.params());
                    self.report.hinted(param.at, format!("`{}` has no parameter `{}`", text.value, param.value), hint);
                }
                let map = from.map.as_ref().and_then(|name| {
                    let file = self.files.load::<MapFile>(name, name.at)?;
                    let pairs = file.map.iter().filter_map(|(value, id)| {
                        Some((Box::from(value.as_str()), self.known_tenant(id, &rules.tenants)?))
                    });
                    Some(pairs.collect())
                });
                RouteTenant::Param { name: Box::from(param.as_str()), map }
            }
        }
    }

    /// Limits that could never count, and hosts that never name a tenant.
    pub(super) fn sensible(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        patterns: &Patterns<'_>,
        rules: &Rules,
        tenant: &RouteTenant,
        limits: &[Arc<Limit>],
    ) {
        let place =
            |limit: &Limit| options.rate_limits.iter().find(|l| l.limit == *limit.name).map_or(name.at, |l| l.at);
        let templates: Vec<&str> = options.matches.paths.iter().map(|path| path.as_str()).collect();
        for limit in limits {
            self.countable(limit, patterns.methods, &templates, &options.body.content_types, place(limit));
            if options.public.is_some() && limit.key.contains(&KeyPart::Subject) {
                let message = format!("limit `{}` counts by user, and a public route knows none", limit.name);
                self.report.problem(place(limit), message);
            }
            let takes_keys = matches!(&options.auth, Some(auth) if auth.way.takes_keys());
            if !takes_keys && limit.key.contains(&KeyPart::ApiKey) {
                let message = format!("limit `{}` counts by API key, and this route accepts none", limit.name);
                self.report.problem(place(limit), message);
            }
            let no_tenant = match tenant {
                RouteTenant::None => true,
                RouteTenant::Resolve => rules.resolve.is_empty(),
                RouteTenant::Param { .. } | RouteTenant::Session => false,
            };
            if no_tenant && options.public.is_some() && limit.key.contains(&KeyPart::Tenant) {
                let message = format!("limit `{}` counts by tenant, and this route has none", limit.name);
                self.report.problem(place(limit), message);
            }
        }
        if *tenant != RouteTenant::Resolve || rules.resolve.is_empty() || self.report.is_tainted(name.at) {
            return;
        }
        for (pattern, text) in &patterns.hosts {
            let paths = || {
                patterns
                    .paths
                    .iter()
                    .any(|(_, path)| rules.resolve.iter().any(|rule| names_tenant(rules, rule, pattern, path)))
            };
            if !paths() && !patterns.paths.is_empty() {
                let message = format!(
                    "`tenancy.resolve` finds no tenant for `{}`, so this route would answer nothing",
                    text.value
                );
                let hint = "write `tenant: none` for a route that belongs to no tenant";
                self.report.hinted(text.at, message, Some(hint));
            }
        }
    }
}

/// Whether a rule can name a tenant for some request with this host and path.
fn names_tenant(rules: &Rules, rule: &Resolve, host: &HostPattern, path: &Spanned<String>) -> bool {
    match (rule, host) {
        (_, HostPattern::Any) | (Resolve::Header(_), _) => true,
        (Resolve::Host(domain), HostPattern::Wildcard(of)) => domain == of,
        (Resolve::Host(domain), HostPattern::Exact(name)) => {
            let label = name.strip_suffix(&**domain).and_then(|rest| rest.strip_suffix('.'));
            label.is_some_and(|label| {
                !label.contains('.')
                    && (rules.tenants.contains_key(label) || matches!(rules.unknown_tenant, UnknownTenant::Allow(_)))
            })
        }
        (Resolve::CustomDomain, HostPattern::Exact(name)) => rules.custom_domains.contains_key(name),
        (Resolve::CustomDomain, HostPattern::Wildcard(of)) => {
            rules.custom_domains.keys().any(|domain| domain.split_once('.').is_some_and(|(_, parent)| parent == &**of))
        }
        (Resolve::Path(before), _) => {
            let mut segments = path.split('/').skip(1);
            for expected in before {
                match segments.next() {
                    Some("**") => return true,
                    Some(segment) if segment == &**expected || segment.starts_with('{') => {}
                    Some(_) | None => return false,
                }
            }
            segments.next().is_some()
        }
    }
}
