//! `routes` → routes and the router: no ambiguity, nothing unreachable, nothing unconfigured.
mod access;
mod cross_site;
mod csrf;
mod leads;
mod reach;
mod tenant;

use super::charges::with_cost;
use super::limits::Limits;
use super::profiles::Profiles;
use super::{Compiler, Noun, list};
use crate::config::options::RouteOptions;
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::Upstream;
use decide::guards::{Guard, ORDER};
use decide::policy::nearest;
use decide::request::{Method, Methods};
use decide::router::{HostPattern, PathPattern};
use decide::rules::{AuditRules, BodyRules, Destination, Limit, Route, Rules, Tenant};
use reach::reachable;
use std::collections::HashMap;
use std::sync::Arc;

/// A route's patterns with their places.
struct Patterns<'a> {
    hosts: Vec<(HostPattern, &'a Spanned<String>)>,
    paths: Vec<(PathPattern, &'a Spanned<String>)>,
    methods: Methods,
}

/// What routes refer to, by name: looked up a thousand times.
struct Known<'a> {
    upstreams: HashMap<&'a str, Destination>,
    limits: HashMap<&'a str, Arc<Limit>>,
    permissions: &'a [Spanned<String>],
    /// Tenants whose data stays in a region.
    resident: Vec<Arc<Tenant>>,
}

fn destination(upstream: usize, settings: &Upstream) -> Destination {
    Destination { upstream, name: settings.name.clone(), region: settings.region.clone() }
}

impl Compiler<'_> {
    /// Compiles all routes into the rules. Whether all could be read and every reference was resolved.
    pub(super) fn routes(
        &self,
        rules: &mut Rules,
        upstreams: &[Arc<Upstream>],
        profiles: &Profiles,
        limits: &Limits,
        permissions: &[Spanned<String>],
    ) -> bool {
        let written = self.names("routes").len();
        if written == 0 {
            self.report.problem(At::file(0), "there is no route: every request would be refused");
        }
        let known = Known {
            upstreams: upstreams
                .iter()
                .enumerate()
                .map(|(i, upstream)| (&*upstream.name, destination(i, upstream)))
                .collect(),
            limits: limits.iter().map(|(name, limit)| (name.as_str(), limit.clone())).collect(),
            permissions,
            resident: rules.tenants.values().filter(|tenant| tenant.residency.is_some()).cloned().collect(),
        };
        let mut whole = written == self.options.routes.0.len();
        let mut placed: Vec<(&Spanned<String>, Patterns<'_>)> = Vec::new();
        let mut ambiguous: Vec<usize> = Vec::new();
        for (name, options) in self.options.routes.iter() {
            whole &= !self.report.is_tainted(name.at);
            let patterns = self.patterns(options);
            let route = self.route(name, options, &patterns, rules, &known, profiles, limits);
            let Some(route) = route else {
                whole = false;
                continue;
            };
            if !self.place(name, &patterns, rules, &placed, &options.matches.paths) {
                ambiguous.push(placed.len());
            }
            rules.routes.push(Arc::new(route));
            placed.push((name, patterns));
        }
        self.tokens(&rules.routes);
        let depth = placed.iter().flat_map(|(_, p)| &p.paths).map(|(_, text)| text.matches('/').count()).max();
        for (index, (name, patterns)) in placed.iter().enumerate() {
            if !ambiguous.contains(&index) && !reachable(rules, index, patterns, depth.unwrap_or(0) + 2) {
                let hint = "more specific routes take every request that it matches; remove it";
                self.report.hinted(name.at, format!("route `{}` can never be reached", name.value), Some(hint));
            }
        }
        whole
    }

    fn patterns<'o>(&self, options: &'o RouteOptions) -> Patterns<'o> {
        let matches = &options.matches;
        for (list, key) in [(&matches.hosts, "hosts"), (&matches.paths, "paths"), (&matches.methods, "methods")] {
            if list.is_empty() && !self.report.is_tainted(options.upstream.at) {
                self.report.problem(options.upstream.at, format!("a route needs at least one of `match.{key}`"));
            }
        }
        let hosts = matches.hosts.iter().filter_map(|host| {
            let pattern = HostPattern::parse(host);
            if pattern.is_none() {
                let hint = "write `app.example.com`, `*.example.com` or `*`, in lower case and without port";
                self.report.hinted(host.at, format!("`{}` is not a host pattern", host.value), Some(hint));
            }
            pattern.map(|p| (p, host))
        });
        let paths = matches.paths.iter().filter_map(|path| match PathPattern::parse(path) {
            Ok(pattern) => Some((pattern, path)),
            Err(message) => {
                self.report.problem(path.at, message);
                None
            }
        });
        let mut methods = Methods::default();
        for method in &matches.methods {
            match Method::parse(method) {
                Some(parsed) if methods.contains(parsed) => {
                    self.report.problem(method.at, format!("`{}` stands twice", method.value))
                }
                Some(parsed) => methods = methods.with(parsed),
                None => {
                    let known = Method::ALL.map(Method::as_str);
                    let hint = nearest(method.value.to_ascii_uppercase().as_str(), known.iter())
                        .or_else(|| list(known.into_iter()));
                    self.report.hinted(method.at, format!("unknown method `{}`", method.value), hint);
                }
            }
        }
        Patterns { hosts: hosts.collect(), paths: paths.collect(), methods }
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a route refers to")]
    fn route(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        patterns: &Patterns<'_>,
        rules: &Rules,
        known: &Known<'_>,
        profiles: &Profiles,
        limits: &Limits,
    ) -> Option<Route> {
        let leads = self.leads(options, known);
        if let Some(profile) = &options.headers {
            self.refer(Noun::Profile, profile, profiles.written.iter().map(|p| p.as_str()));
        }
        let mut counted: Vec<Arc<Limit>> = Vec::new();
        for listed in &options.rate_limits {
            let name = Spanned { value: listed.limit.clone(), at: listed.at };
            self.refer(Noun::Limit, &name, limits.names.iter().map(String::as_str));
            match known.limits.get(name.as_str()) {
                Some(found) if counted.iter().any(|other| other.name == found.name) => {
                    self.report.problem(listed.at, format!("`{}` stands twice", name.value));
                }
                Some(found) => {
                    let burst = found.rates.iter().map(|rate| rate.burst).min().unwrap_or_default();
                    counted.push(with_cost(found, listed.cost.map(|cost| self.cost(cost, burst, listed.at))));
                }
                None => {}
            }
        }
        let tenant = self.route_tenant(options, patterns, rules);
        let access = self.access(name, options, rules, known.permissions);
        let cors = self.cors(options, patterns.methods, &tenant, rules);
        let headers = profiles.index(options.headers.as_ref().map(|h| h.as_str())).unwrap_or(0);
        let shadow = options.shadow.iter().filter_map(|guard| self.guard(guard)).collect();
        self.sensible(name, options, patterns, rules, &tenant, &counted);
        let (upstream, regions) = leads?;
        if let Some(only) = upstream.as_ref().filter(|_| regions.is_empty()) {
            self.resident((name, options), patterns, (rules, &known.resident), &tenant, only);
        }
        let access = access?;
        Some(Route {
            name: Arc::from(name.as_str()),
            templates: options.matches.paths.iter().map(|path| Arc::from(path.as_str())).collect(),
            methods: patterns.methods,
            upstream,
            regions,
            timeouts: self.route_timeouts(&options.timeouts),
            csrf: self.csrf(options.csrf.as_ref(), &access, options.grants.is_some()),
            isolation: cross_site::isolation(options.isolation, &access, profiles.list.get(headers).map(|p| &**p)),
            cors: cors?,
            tenant,
            access,
            limits: counted,
            headers,
            body: BodyRules {
                max_bytes: options.body.max.0.map(|size| size.0),
                content_types: options.body.content_types.iter().filter_map(|t| self.media_type(t)).collect(),
                with_get: options.body.with_get,
            },
            certificate: self.told(&options.forward_certificate),
            audit: AuditRules {
                action: options.audit.action.as_ref().map(|action| Arc::from(action.as_str())),
                durable: options.audit.sensitive,
            },
            shadow,
            origin: self.files.place(name.at),
        })
    }

    fn guard(&self, name: &Spanned<String>) -> Option<Guard> {
        let guard = Guard::parse(name);
        if guard == Some(Guard::Residency) {
            let hint = "where a tenant's data stays is a promise; a shadow would break it";
            self.report.hinted(name.at, "`residency` cannot be in shadow", Some(hint));
        }
        if guard.is_none() {
            let known = ORDER.into_iter().filter(|guard| *guard != Guard::Residency).map(Guard::name);
            let hint = nearest(&name.value, known.clone()).or_else(|| list(known));
            self.report.hinted(name.at, format!("unknown guard `{}`", name.value), hint);
        }
        guard
    }

    fn media_type(&self, text: &Spanned<String>) -> Option<String> {
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
        };
        let fine = text.split_once('/').is_some_and(|(a, b)| token(a) && token(b));
        if !fine {
            let message = format!("`{}` is not a media type", text.value);
            self.report.hinted(text.at, message, Some("write `application/json`, without parameters or stars"));
        }
        fine.then(|| text.to_ascii_lowercase())
    }

    /// Puts a route into the router. Whether no other route takes the same requests.
    fn place(
        &self,
        name: &Spanned<String>,
        patterns: &Patterns<'_>,
        rules: &mut Rules,
        placed: &[(&Spanned<String>, Patterns<'_>)],
        written: &[Spanned<String>],
    ) -> bool {
        let index = rules.routes.len();
        let mut reported: Vec<usize> = Vec::new();
        for (host, host_text) in &patterns.hosts {
            for (path, path_text) in &patterns.paths {
                let template = written.iter().find(|w| w.at == path_text.at).map_or("", |w| w.as_str());
                let inserted = rules.router.insert(host, path, &Arc::from(template), patterns.methods, index);
                let Err(ambiguous) = inserted else { continue };
                if reported.contains(&ambiguous.other) {
                    continue;
                }
                reported.push(ambiguous.other);
                let methods: Vec<&str> = ambiguous.methods.iter().map(Method::as_str).collect();
                match placed.get(ambiguous.other) {
                    Some((other, _)) => {
                        let message = format!(
                            "routes `{}` and `{}` match {} {}{} equally well",
                            other.value,
                            name.value,
                            methods.join(", "),
                            host_text.value,
                            path_text.value
                        );
                        let hint = format!("`{}` stands in {}", other.value, self.files.place(other.at));
                        self.report.hinted(path_text.at, message, Some(hint));
                    }
                    None => {
                        self.report.problem(path_text.at, format!("`{}` stands twice in this route", path_text.value))
                    }
                }
            }
        }
        reported.is_empty()
    }
}
