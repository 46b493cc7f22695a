//! `routes` → routes and the router: no ambiguity, nothing unreachable, nothing unconfigured.
use super::limits::Limits;
use super::profiles::Profiles;
use super::{Compiler, Noun, list};
use crate::config::options::{
    AuthOptions, CookieAuth, CsrfOption, MapFile, OneAuth, RequireOptions, RouteOptions, RouteTenantOptions,
    TenantSource,
};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::Upstream;
use decide::condition::Condition;
use decide::guards::{Guard, ORDER};
use decide::policy::nearest;
use decide::request::{Method, Methods};
use decide::router::{HostPattern, Match, PathPattern};
use decide::rules::{
    Accept, Access, AuditRules, BodyRules, Csrf, KeyPart, Limit, Permission, Resolve, Route, RouteTenant, Rules,
    SessionRules, UnknownTenant,
};
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
    upstreams: HashMap<&'a str, usize>,
    limits: HashMap<&'a str, Arc<Limit>>,
    permissions: &'a [Spanned<String>],
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
            upstreams: upstreams.iter().enumerate().map(|(i, upstream)| (&*upstream.name, i)).collect(),
            limits: limits.iter().map(|(name, limit)| (name.as_str(), limit.clone())).collect(),
            permissions,
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
        self.refer(Noun::Upstream, &options.upstream, self.names("upstreams").into_iter());
        if let Some(profile) = &options.headers {
            self.refer(Noun::Profile, profile, profiles.written.iter().map(|p| p.as_str()));
        }
        let mut counted: Vec<Arc<Limit>> = Vec::new();
        for limit in &options.rate_limits {
            self.refer(Noun::Limit, limit, limits.names.iter().map(String::as_str));
            match known.limits.get(limit.as_str()) {
                Some(found) if counted.iter().any(|other| other.name == found.name) => {
                    self.report.problem(limit.at, format!("`{}` stands twice", limit.value));
                }
                Some(found) => counted.push(found.clone()),
                None => {}
            }
        }
        let tenant = self.route_tenant(options, patterns, rules);
        let access = self.access(name, options, rules, known.permissions);
        let shadow = options.shadow.iter().filter_map(|guard| self.guard(guard)).collect();
        self.sensible(name, options, patterns, rules, &tenant, &counted);
        let upstream = known.upstreams.get(options.upstream.as_str()).copied()?;
        Some(Route {
            name: Arc::from(name.as_str()),
            templates: options.matches.paths.iter().map(|path| Arc::from(path.as_str())).collect(),
            methods: patterns.methods,
            upstream,
            upstream_name: Arc::from(options.upstream.as_str()),
            tenant,
            access: access?,
            csrf: match options.csrf {
                CsrfOption::Strict => Csrf::Strict,
                CsrfOption::Off => Csrf::Off,
            },
            limits: counted,
            headers: profiles.index(options.headers.as_ref().map(|h| h.as_str())).unwrap_or(0),
            body: BodyRules {
                max_bytes: options.body.max.0.map(|size| size.0),
                content_types: options.body.content_types.iter().filter_map(|t| self.media_type(t)).collect(),
            },
            audit: AuditRules {
                action: options.audit.action.as_ref().map(|action| Arc::from(action.as_str())),
                durable: options.audit.sensitive,
            },
            shadow,
            origin: self.files.place(name.at),
        })
    }

    fn access(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        rules: &Rules,
        permissions: &[Spanned<String>],
    ) -> Option<Access> {
        match (&options.require, &options.public) {
            (Some(_), Some(public)) => {
                self.report.hinted(
                    public.at,
                    "a route is `public` or has `require`, not both",
                    Some("remove one of them"),
                );
                None
            }
            (None, None) if self.report.is_tainted(name.at) => None,
            (None, None) => {
                let hint = "write `require: {permission: …}`, `require: {session: any}`, or `public: \"<reason>\"`";
                self.report.hinted(name.at, format!("route `{}` does not say who may use it", name.value), Some(hint));
                None
            }
            (None, Some(reason)) => {
                if reason.trim().is_empty() {
                    self.report.problem(reason.at, "an open route needs a reason");
                }
                if let Some(auth) = &options.auth {
                    self.report.problem(auth.at, "a public route checks no session, so it has no `auth`");
                }
                Some(Access::Public { reason: Arc::from(reason.as_str()) })
            }
            (Some(require), None) => {
                self.session_rules(name, options, require, rules, permissions).map(Box::new).map(Access::Session)
            }
        }
    }

    fn session_rules(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        require: &Spanned<RequireOptions>,
        rules: &Rules,
        permissions: &[Spanned<String>],
    ) -> Option<SessionRules> {
        let whole = !self.report.is_tainted(name.at);
        let accept = match &options.auth {
            Some(auth) => self.accept(auth),
            None if whole => {
                let hint = "write `auth: {bearer: ISSUER}`";
                self.report.hinted(
                    name.at,
                    format!("route `{}` does not say which `auth` it accepts", name.value),
                    Some(hint),
                );
                Vec::new()
            }
            None => Vec::new(),
        };
        if whole && require.permission.is_some() == require.session.is_some() {
            self.report.problem(require.at, "`require` has exactly one of `permission` and `session: any`");
        }
        let permission = require.permission.as_ref().and_then(|permission| {
            let id = rules.policy.permission(permission);
            let known = permissions.iter().map(|known| known.as_str());
            // Roles that did not compile are reported where they stand.
            let unreadable = permissions.is_empty() && self.options.policies.roles.is_some();
            if unreadable {
                self.used.borrow_mut().insert((Noun::Permission, permission.value.clone()));
            } else {
                self.refer(Noun::Permission, permission, known);
            }
            Some(Permission { id: id?, name: Arc::from(permission.as_str()) })
        });
        let step_up = require.step_up.as_ref().and_then(|step_up| {
            self.refer(Noun::StepUp, step_up, self.names_of_step_ups().into_iter());
            self.step_up(step_up)
        });
        let when = require.when.as_ref().and_then(|when| match Condition::compile(when) {
            Ok(condition) => Some(condition),
            Err(message) => {
                self.report.problem(when.at, format!("the condition does not compile: {message}"));
                None
            }
        });
        (permission.is_some() == require.permission.is_some()).then_some(SessionRules {
            accept,
            permission,
            step_up,
            when,
        })
    }

    fn accept(&self, auth: &Spanned<AuthOptions>) -> Vec<Accept> {
        let accept: Vec<Accept> = match &auth.value {
            AuthOptions::Bearer(issuer) => vec![self.bearer(issuer)],
            AuthOptions::Cookie(cookie) => vec![self.cookie(cookie)],
            AuthOptions::AnyOf(all) => all
                .iter()
                .map(|one| match &one.value {
                    OneAuth::Bearer(issuer) => self.bearer(issuer),
                    OneAuth::Cookie(cookie) => self.cookie(cookie),
                })
                .collect(),
        };
        if accept.is_empty() {
            self.report.problem(auth.at, "`any_of` accepts nothing");
        }
        accept
    }

    fn bearer(&self, issuer: &Spanned<String>) -> Accept {
        self.refer(Noun::Issuer, issuer, self.names("issuers").into_iter());
        Accept::Bearer { issuer: Arc::from(issuer.as_str()) }
    }

    fn cookie(&self, cookie: &CookieAuth) -> Accept {
        self.refer(Noun::Issuer, &cookie.issuer, self.names("issuers").into_iter());
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if cookie.name.is_empty() || !cookie.name.bytes().all(token) {
            self.report.problem(cookie.name.at, format!("`{}` cannot be the name of a cookie", cookie.name.value));
        }
        Accept::Cookie { name: Arc::from(cookie.name.as_str()), issuer: Arc::from(cookie.issuer.as_str()) }
    }

    fn guard(&self, name: &Spanned<String>) -> Option<Guard> {
        let guard = Guard::parse(name);
        if guard.is_none() {
            let known = ORDER.map(Guard::name);
            let hint = nearest(&name.value, known.iter()).or_else(|| list(known.into_iter()));
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

    fn route_tenant(&self, options: &RouteOptions, patterns: &Patterns<'_>, rules: &Rules) -> RouteTenant {
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
                    let (_, file) = self.files.load::<MapFile>(name, name.at)?;
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
    fn sensible(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        patterns: &Patterns<'_>,
        rules: &Rules,
        tenant: &RouteTenant,
        limits: &[Arc<Limit>],
    ) {
        let place =
            |limit: &Limit| options.rate_limits.iter().find(|l| l.value == *limit.name).map_or(name.at, |l| l.at);
        for limit in limits {
            if options.public.is_some() && limit.key.contains(&KeyPart::Subject) {
                let message = format!("limit `{}` counts by user, and a public route knows none", limit.name);
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

/// Whether some request finds this route: asks the router itself with values that no literal pattern takes.
fn reachable(rules: &Rules, index: usize, patterns: &Patterns<'_>, depth: usize) -> bool {
    let mut probes = patterns.hosts.iter().flat_map(|(host, _)| {
        let host = match host {
            HostPattern::Exact(name) => name.to_string(),
            HostPattern::Wildcard(of) => format!("{PROBE}.{of}"),
            HostPattern::Any => format!("{PROBE}.invalid"),
        };
        patterns.paths.iter().map(move |(_, path)| (host.clone(), path))
    });
    let empty = patterns.hosts.is_empty() || patterns.paths.is_empty() || patterns.methods.is_empty();
    empty
        || probes.any(|(host, path)| {
            let literal = |text: &str| {
                let parts: Vec<&str> = text.split('/').map(|s| if s.starts_with('{') { PROBE } else { s }).collect();
                parts.join("/")
            };
            let paths: Vec<String> = match path.strip_suffix("/**") {
                None => vec![literal(path)],
                Some(front) => {
                    let front = literal(front);
                    let below = (0..=depth).map(|n| format!("{front}{}", format!("/{PROBE}").repeat(n)));
                    below.chain([format!("{front}/")]).map(|p| if p.is_empty() { "/".to_owned() } else { p }).collect()
                }
            };
            paths.iter().any(|path| {
                patterns.methods.iter().any(|method| {
                matches!(rules.router.find(&host, path, method), Match::Route { route, .. } if route == index)
            })
            })
        })
}

/// A label and segment that nobody writes into a pattern.
const PROBE: &str = "zz--probe--zz";
