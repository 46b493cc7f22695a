//! Rules: tenants, routes and limits as compiled, and how a request finds its own.
use crate::certificate::Told;
use crate::condition::Condition;
use crate::cors::Cors;
use crate::csrf::Submit;
use crate::guards::Guard;
use crate::policy::{PermissionId, Policy};
use crate::refusal::{Code, Refusal};
use crate::request::{Method, Methods, Request};
use crate::router::{self, Match, Router};
use foldhash::HashMap;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

mod accept;
mod limit;
#[cfg(test)]
mod tests;

pub use accept::{API_KEY, Accept, Keys};
pub use limit::{
    Excess, FieldKey, FieldSource, INSPECT, KeyPart, Limit, Rate, Settle, Sharing, SharingMode, Statuses, StoreLoss,
};

/// Everything that a decision depends on besides the facts. Built by `config`, immutable.
#[derive(Debug, Default)]
pub struct Rules {
    /// Where a request's tenant comes from, in order; empty for a gateway without tenants.
    pub resolve: Vec<Resolve>,
    /// What happens to a tenant that is not listed.
    pub unknown_tenant: UnknownTenant,
    /// Tenants by id.
    pub tenants: HashMap<Arc<str>, Arc<Tenant>>,
    /// Custom domain → tenant id.
    pub custom_domains: HashMap<Box<str>, Arc<str>>,
    /// Names of the tenant classes; `Tenant::class` indexes it.
    pub classes: Vec<Arc<str>>,
    /// Roles and permissions.
    pub policy: Policy,
    /// All routes; the router holds indexes into it.
    pub routes: Vec<Arc<Route>>,
    /// Host and path → route.
    pub router: Router,
}

/// One of `tenancy.resolve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// `host: "{tenant}.example.com"`: holds `example.com`.
    Host(Box<str>),
    /// The custom-domain map.
    CustomDomain,
    /// `path: "/t/{tenant}/**"`: the literal segments before the tenant's.
    Path(Vec<Box<str>>),
    /// `header: name`. Anybody can send it, so the session must agree, as with every other source.
    Header(http::HeaderName),
}

/// `tenancy.unknown`
#[derive(Clone, Debug, Default)]
pub enum UnknownTenant {
    /// 404 `tenant.unknown`.
    #[default]
    Reject,
    /// Any well-formed name is a tenant with these defaults.
    Allow(Arc<Tenant>),
}

/// A tenant: a first-class object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: Arc<str>,
    /// Index into `Rules::classes`.
    pub class: usize,
    /// Whether it is served.
    pub status: TenantStatus,
    /// Addresses it may be used from; empty for all.
    pub ip_allow: Vec<IpNet>,
    /// Issuers that may speak for it, by name; empty for all.
    pub issuers: Vec<Arc<str>>,
    /// Whether every session needs a second factor (`amr` holds `mfa`, `otp`, `hwk` or the like).
    pub mfa_required: bool,
    /// Greatest age of an authentication, in seconds: stricter than the platform, never laxer.
    pub max_auth_age_s: Option<u64>,
    /// Longest time between two uses of a session that the gateway holds, in seconds; the platform's where absent.
    pub idle_s: Option<u64>,
    /// Longest life of such a session, in seconds; the platform's where absent.
    pub absolute_s: Option<u64>,
    /// The region that its data stays in; `None` for anywhere.
    pub residency: Option<Arc<str>>,
    /// Origins whose pages may read or frame what a route opens to them, as browsers write them.
    pub embed_origins: Box<[Box<str>]>,
}

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// Served.
    Active,
    /// Every route answers 403 `tenant.suspended`.
    Suspended,
}

/// The tenant of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The tenant's id as used in this request.
    pub id: Arc<str>,
    /// Its object; the defaults where unlisted tenants are allowed.
    pub tenant: Arc<Tenant>,
    /// Which rule named it.
    pub source: &'static str,
}

/// One route, with its closed list of checks.
#[derive(Debug)]
pub struct Route {
    /// Its name in `gateway.yaml`.
    pub name: Arc<str>,
    /// Path templates as written.
    pub templates: Vec<Arc<str>>,
    /// Methods it serves.
    pub methods: Methods,
    /// Where it leads; of a route with upstreams by region, where it leads tenants without a residency.
    pub upstream: Option<Destination>,
    /// Upstreams by region; empty where there is one upstream for all.
    pub regions: Vec<Destination>,
    /// How long the upstream may take, where the route says so.
    pub timeouts: Timeouts,
    /// Where this route's tenant comes from.
    pub tenant: RouteTenant,
    /// Who may use it.
    pub access: Access,
    /// Cross-site request forgery check for cookie sessions.
    pub csrf: Csrf,
    /// Which other sites may fetch from it.
    pub isolation: Isolation,
    /// Which other origins may read its answers.
    pub cors: Cors,
    /// Names of limits, resolved, by stage.
    pub limits: Vec<Arc<Limit>>,
    /// Index into the snapshot's header profiles.
    pub headers: usize,
    /// Body rules.
    pub body: BodyRules,
    /// Which certificates of the client its application is told.
    pub certificate: Told,
    /// How its entries are written.
    pub audit: AuditRules,
    /// Guards that only observe.
    pub shadow: Vec<Guard>,
    /// Where it stands, `gateway.yaml:194`.
    pub origin: String,
}

/// An upstream as a route names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Index into the snapshot's upstreams.
    pub upstream: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Where its data stays.
    pub region: Option<Arc<str>>,
}

/// `timeouts:` of a route; `None` leaves it to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the sent request to the first byte of the answer, and for each pause in it.
    pub first_byte: Option<Duration>,
    /// Without progress in the request's body, and in answers that are streams.
    pub idle: Option<Duration>,
    /// For everything.
    pub total: Option<Duration>,
}

/// Where a route's tenant comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteTenant {
    /// By `tenancy.resolve`.
    #[default]
    Resolve,
    /// Written `tenant: none`: the route belongs to no tenant.
    None,
    /// From a path parameter, optionally through a map.
    Param {
        /// Name of the parameter.
        name: Box<str>,
        /// Parameter value → tenant id; the value itself where absent.
        map: Option<HashMap<Box<str>, Arc<str>>>,
    },
    /// From the session alone.
    Session,
}

/// Who may use a route. There is no variant for "not configured".
#[derive(Debug)]
pub enum Access {
    /// Anybody, for a written reason.
    Public {
        /// The reason.
        reason: Arc<str>,
    },
    /// A valid session.
    Session(Box<SessionRules>),
}

/// What a session must be and be allowed to.
#[derive(Debug)]
pub struct SessionRules {
    /// Accepted credentials, in the order in which they are looked for: those that are sent on purpose, then those that
    /// come by themselves, each as written.
    pub accept: Vec<Accept>,
    /// Algorithms that proofs of possession may be signed with, a space between two, where `accept` has any use for them.
    pub proofs: Arc<str>,
    /// The permission; `None` for `session: any`.
    pub permission: Option<Permission>,
    /// Fresh authentication.
    pub step_up: Option<StepUp>,
    /// A condition over request, tenant and session.
    pub when: Option<Condition>,
    /// What becomes of a browser without a session, or without one that is fresh enough.
    pub on_missing: OnMissing,
}

/// `auth.on_missing`: what becomes of a browser that asks for a page and may not have it for want of an authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// It is refused, like everybody else.
    #[default]
    Refuse,
    /// It is sent to sign in.
    Login,
}

/// A permission a route requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Its bit.
    pub id: PermissionId,
    /// Its name.
    pub name: Arc<str>,
}

/// `sessions.step_up.NAME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// Its name.
    pub name: Arc<str>,
    /// Greatest age of the authentication, seconds.
    pub max_age_s: Option<u64>,
    /// Acceptable `acr` values; empty for any.
    pub acr: Vec<String>,
    /// `amr` values that the authentication must all have; empty for any.
    pub amr: Vec<String>,
}

/// `csrf:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Csrf {
    /// State-changing requests need evidence of our own origin: those of cookie sessions, and on public routes all. The
    /// default of routes with a session.
    Strict,
    /// The same, where clients that say nothing of where they ask from may show a token instead.
    Token(Box<Submit>),
    /// Written out as `csrf: off`; the default of public routes.
    Off,
}

/// `isolation:` from whose pages reads may come, from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// From anywhere.
    Off,
    /// From pages of our own site; from elsewhere only to be shown in a window of its own.
    SameSite,
    /// From pages of our own origin; from elsewhere only to be shown in a window of its own.
    SameOrigin,
}

/// `body:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRules {
    /// Greatest size in bytes; `None` for streams of any size.
    pub max_bytes: Option<u64>,
    /// Accepted media types, lowercase; empty for all.
    pub content_types: Vec<String>,
    /// Whether GET and HEAD may have a body (RFC 9110, 9.3.1).
    pub with_get: bool,
}

/// `audit:` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuditRules {
    /// Name of the action, e.g. `invoice.delete`.
    pub action: Option<Arc<str>>,
    /// Wait for the disk before forwarding a state-changing request.
    pub durable: bool,
}

impl Route {
    /// Every upstream that it may lead to.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.upstream.iter().chain(&self.regions)
    }
}

impl Rules {
    /// Finds route and tenant of a request. `header` reads a request header that stands exactly once.
    ///
    /// Refuses with `route.unknown`, `method.not-allowed`, `tenant.unknown`, or, where the request names two tenants,
    /// `tenant.mismatch`.
    pub fn find<'h>(
        &self,
        request: &Request,
        header: impl Fn(&http::HeaderName) -> Option<&'h str>,
    ) -> Result<Found, Refusal> {
        self.find_for(request, request.method, header)
    }

    /// The same for another method than the request's: a preflight asks about the one that is to follow.
    pub fn find_for<'h>(
        &self,
        request: &Request,
        method: Method,
        header: impl Fn(&http::HeaderName) -> Option<&'h str>,
    ) -> Result<Found, Refusal> {
        let custom = self.custom_domains.get(&*request.host);
        let alias = custom.and_then(|tenant| self.canonical_host(tenant));
        let host = alias.as_deref().unwrap_or(&request.host);
        let (route, template, params) = match self.router.find(host, &request.path, method) {
            Match::Route { route, template, params } => (route, template, params),
            Match::Method(allow) => {
                let mut refusal = Refusal::new(Code::MethodNotAllowed, "no route for this method");
                refusal.allow = Some(allow);
                return Err(refusal);
            }
            Match::None => return Err(Refusal::new(Code::RouteUnknown, "no route for this host and path")),
        };
        if self.router.reads_otherwise(host, &request.path, request.method, route) {
            return Err(Refusal::new(Code::RequestAmbiguous, "some applications read this path as another route's"));
        }
        let index = route;
        let Some(route) = self.routes.get(index) else {
            return Err(Refusal::new(Code::GatewayUnavailable, "the router names a route that does not exist"));
        };
        let named = match &route.tenant {
            RouteTenant::None | RouteTenant::Session => None,
            RouteTenant::Resolve if self.resolve.is_empty() => None,
            RouteTenant::Resolve => Some(self.resolve_tenant(request, custom, header)?),
            RouteTenant::Param { name, map } => {
                let at = params.iter().position(|p| p == name);
                let value = at.and_then(|at| router::values(&template, &request.path).nth(at));
                let id = match (value, map) {
                    (Some(value), Some(map)) => map.get(value).map(|id| &**id),
                    (value, _) => value,
                };
                Some(id.map(|id| (id, "path")))
            }
        };
        let seat = match named {
            None => None,
            Some(None) => return Err(Refusal::new(Code::TenantUnknown, "the request names no tenant")),
            Some(Some((id, source))) => Some(self.seat(id, source)?),
        };
        Ok(Found { route: route.clone(), index, template, seat })
    }

    /// The tenant that a host names by itself, whatever is asked for: by `host` or by the custom-domain map. `None` where the
    /// host names none; refuses with `tenant.unknown` where it names one that is not served.
    pub fn seat_of_host(&self, request: &Request) -> Result<Option<Seat>, Refusal> {
        let custom = self.custom_domains.get(&*request.host);
        let named = self.resolve.iter().find_map(|rule| match rule {
            Resolve::Host(domain) => {
                let label = request.host.strip_suffix(&**domain)?.strip_suffix('.')?;
                (!label.contains('.')).then_some((label, "host"))
            }
            Resolve::CustomDomain => custom.map(|id| (&**id, "custom-domain")),
            Resolve::Path(_) | Resolve::Header(_) => None,
        });
        named.map(|(id, source)| self.seat(id, source)).transpose()
    }

    /// The tenant of this id, or `tenant.unknown`.
    pub fn seat(&self, id: &str, source: &'static str) -> Result<Seat, Refusal> {
        if let Some((id, tenant)) = self.tenants.get_key_value(id) {
            return Ok(Seat { id: id.clone(), tenant: tenant.clone(), source });
        }
        match &self.unknown_tenant {
            UnknownTenant::Allow(defaults) if is_tenant_id(id) => {
                Ok(Seat { id: Arc::from(id), tenant: defaults.clone(), source })
            }
            UnknownTenant::Allow(_) | UnknownTenant::Reject => {
                Err(Refusal::new(Code::TenantUnknown, "this tenant is not listed"))
            }
        }
    }

    /// The first rule that yields a name wins, and no later one may yield another: an application that reads its tenant
    /// from the path would serve one tenant to the session of the host's.
    fn resolve_tenant<'r, 'h: 'r>(
        &self,
        request: &'r Request,
        custom: Option<&'r Arc<str>>,
        header: impl Fn(&http::HeaderName) -> Option<&'h str>,
    ) -> Result<Option<(&'r str, &'static str)>, Refusal> {
        let mut names = self.resolve.iter().filter_map(|rule| match rule {
            Resolve::Host(domain) => {
                let label = request.host.strip_suffix(&**domain)?.strip_suffix('.')?;
                (!label.contains('.')).then_some((label, "host"))
            }
            Resolve::CustomDomain => custom.map(|id| (&**id, "custom-domain")),
            Resolve::Path(before) => {
                let mut segments = request.path.split('/').skip(1);
                let literal = before.iter().all(|expected| segments.next() == Some(expected));
                let id = segments.next().filter(|id| literal && !id.is_empty())?;
                Some((id, "path"))
            }
            Resolve::Header(name) => header(name).map(|id| (id, "header")),
        });
        let Some(first) = names.next() else { return Ok(None) };
        if names.any(|(id, _)| id != first.0) {
            return Err(Refusal::new(Code::TenantMismatch, "the request names two tenants"));
        }
        Ok(Some(first))
    }

    /// The host under which the routes of a custom domain's tenant stand.
    fn canonical_host(&self, tenant: &str) -> Option<String> {
        self.resolve.iter().find_map(|rule| match rule {
            Resolve::Host(domain) => Some(format!("{tenant}.{domain}")),
            Resolve::CustomDomain | Resolve::Path(_) | Resolve::Header(_) => None,
        })
    }
}

/// Whether a text can be a tenant id: a DNS label, lowercase, underscores allowed.
pub fn is_tenant_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

impl Found {
    /// The parameters of the path, each with its name.
    pub fn params<'p>(&'p self, path: &'p str) -> impl Iterator<Item = (&'p str, &'p str)> {
        let pairs = self.template.split('/').zip(path.split('/'));
        pairs.filter_map(|(t, value)| Some((t.strip_prefix('{')?.strip_suffix('}')?, value)))
    }
}

/// What `Rules::find` found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The route.
    pub route: Arc<Route>,
    /// Its index among all routes.
    pub index: usize,
    /// The template that matched.
    pub template: Arc<str>,
    /// The tenant, where the request itself names one.
    pub seat: Option<Seat>,
}
