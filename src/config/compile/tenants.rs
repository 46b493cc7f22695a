//! `tenancy` and `tenants` → tenants and the rules that find them.
use super::Compiler;
use crate::config::options::{MapFile, ResolveOptions, StatusOption, TenantOptions, TenantsFile, UnknownOption};
use crate::config::problem::At;
use crate::config::read::Spanned;
use decide::policy::nearest;
use decide::router::HostPattern;
use decide::rules::{API_KEY, Resolve, Tenant, TenantStatus, UnknownTenant, is_tenant_id};
use foldhash::{HashMap, HashMapExt as _};
use std::sync::Arc;

/// Tenants as compiled.
pub(super) struct Tenants {
    pub(super) resolve: Vec<Resolve>,
    pub(super) unknown: UnknownTenant,
    pub(super) tenants: HashMap<Arc<str>, Arc<Tenant>>,
    pub(super) custom_domains: HashMap<Box<str>, Arc<str>>,
    pub(super) classes: Vec<Arc<str>>,
}

impl Compiler<'_> {
    /// Compiles tenants. `rated` are the classes that rates name: where there are any, a tenant's class is one of them.
    pub(super) fn tenants(&self, rated: &[String]) -> Tenants {
        let options = &self.options.tenancy;
        let file = options.file.as_ref().and_then(|name| self.files.load::<TenantsFile>(name, name.at));
        let listed = self.options.tenants.iter();
        let more = file.iter().flat_map(|file| file.tenants.iter());
        let all: Vec<&(Spanned<String>, TenantOptions)> = listed.chain(more).collect();

        let mut classes: Vec<Arc<str>> = rated.iter().map(|class| Arc::from(class.as_str())).collect();
        let mut index: HashMap<String, usize> = rated.iter().cloned().zip(0..).collect();
        let mut class = |name: &Spanned<String>| -> usize {
            if let Some(known) = index.get(&name.value) {
                return *known;
            }
            if !rated.is_empty() {
                let hint = nearest(&name.value, rated.iter())
                    .unwrap_or_else(|| format!("rate limits know {}", rated.join(", ")));
                let at = if name.at == At::default() { At::file(0) } else { name.at };
                self.report.hinted(at, format!("unknown class `{}`", name.value), Some(hint));
                return 0;
            }
            classes.push(Arc::from(name.as_str()));
            index.insert(name.value.clone(), classes.len() - 1);
            classes.len() - 1
        };
        let needs_default = options.unknown == UnknownOption::Allow || all.iter().any(|(_, t)| t.class.is_none());
        let default_class = if needs_default || options.defaults.class.at != At::default() {
            class(&options.defaults.class)
        } else {
            0
        };

        let mut issuers = self.names("issuers");
        issuers.extend(self.granting());
        issuers.push(API_KEY);
        issuers.extend(self.names("ext_auth"));
        issuers.extend(self.names("client_certificates"));
        issuers.extend(self.names("app_sessions"));
        let mut tenants = HashMap::with_capacity(all.len());
        let mut places: HashMap<&str, At> = HashMap::with_capacity(all.len());
        for (id, tenant) in all {
            if !is_tenant_id(id) {
                let hint = "lower-case letters, digits, `-` and `_`, at most 63";
                self.report.hinted(id.at, format!("`{}` cannot be the id of a tenant", id.value), Some(hint));
            }
            if let Some(first) = places.insert(id, id.at) {
                let hint = format!("it stands in {} already", self.files.place(first));
                self.report.hinted(id.at, format!("tenant `{}` is defined twice", id.value), Some(hint));
            }
            for issuer in tenant.issuers.iter().filter(|issuer| !issuers.contains(&issuer.as_str())) {
                let hint = nearest(&issuer.value, issuers.iter());
                self.report.hinted(issuer.at, format!("unknown issuer `{}`", issuer.value), hint);
            }
            if let Some(region) = &tenant.residency {
                self.known_region(region);
            }
            tenant.embed_origins.iter().for_each(|origin| self.origin(origin));
            self.tenant_session(id, tenant);
            let id: Arc<str> = Arc::from(id.as_str());
            let class = tenant.class.as_ref().map_or(default_class, &mut class);
            tenants.insert(id.clone(), Arc::new(compiled(id, tenant, class)));
        }
        let resolve = self.resolve();
        let mut custom_domains = HashMap::new();
        for rule in &options.resolve {
            if let ResolveOptions::CustomDomain(custom) = &rule.value {
                self.custom_domains(&custom.map, &tenants, &mut custom_domains);
            }
        }
        let unreadable = tenants.is_empty() && (!self.names("tenants").is_empty() || options.file.is_some());
        if !resolve.is_empty() && tenants.is_empty() && options.unknown == UnknownOption::Reject && !unreadable {
            let at = options.resolve.first().map_or(At::file(0), |rule| rule.at);
            self.report.hinted(
                at,
                "there are no tenants, so every request would be refused",
                Some("list them under `tenants`"),
            );
        }
        let unknown = match options.unknown {
            UnknownOption::Reject => UnknownTenant::Reject,
            UnknownOption::Allow => {
                UnknownTenant::Allow(Arc::new(compiled(Arc::from(""), &TenantOptions::default(), default_class)))
            }
        };
        Tenants { resolve, unknown, tenants, custom_domains, classes }
    }

    fn resolve(&self) -> Vec<Resolve> {
        let rules = self.options.tenancy.resolve.iter();
        rules
            .filter_map(|rule| match &rule.value {
                ResolveOptions::Host(pattern) => {
                    let domain = pattern.strip_prefix("{tenant}.").map(str::to_ascii_lowercase);
                    let domain = domain.filter(|d| matches!(HostPattern::parse(d), Some(HostPattern::Exact(_))));
                    if domain.is_none() {
                        let message = format!("expected `{{tenant}}.DOMAIN`, found `{}`", pattern.value);
                        self.report.problem(pattern.at, message);
                    }
                    domain.map(|d| Resolve::Host(d.into()))
                }
                ResolveOptions::CustomDomain(_) => Some(Resolve::CustomDomain),
                ResolveOptions::Path(pattern) => {
                    let before = pattern.strip_suffix("/**").unwrap_or(pattern).strip_suffix("/{tenant}");
                    let literal = before.filter(|b| !b.contains(['{', '*']) && (b.is_empty() || b.starts_with('/')));
                    if literal.is_none() {
                        let message = format!("expected `/…/{{tenant}}/**`, found `{}`", pattern.value);
                        self.report.problem(pattern.at, message);
                    }
                    literal.map(|l| Resolve::Path(l.split('/').skip(1).map(Box::from).collect()))
                }
                ResolveOptions::Header(name) => {
                    let header = http::HeaderName::from_bytes(name.as_bytes()).ok();
                    if header.is_none() {
                        self.report.problem(name.at, format!("`{}` cannot be the name of a header", name.value));
                    }
                    header.map(Resolve::Header)
                }
            })
            .collect()
    }

    fn custom_domains(
        &self,
        name: &Spanned<String>,
        tenants: &HashMap<Arc<str>, Arc<Tenant>>,
        domains: &mut HashMap<Box<str>, Arc<str>>,
    ) {
        let Some(file) = self.files.load::<MapFile>(name, name.at) else { return };
        for (host, tenant) in file.map.iter() {
            if !matches!(HostPattern::parse(host), Some(HostPattern::Exact(_))) {
                self.report.problem(host.at, format!("`{}` is not a host in lower case", host.value));
            }
            if let Some(id) = self.known_tenant(tenant, tenants) {
                domains.insert(Box::from(host.as_str()), id);
            }
        }
    }

    /// The id of a tenant that a map names.
    pub(super) fn known_tenant(
        &self,
        name: &Spanned<String>,
        tenants: &HashMap<Arc<str>, Arc<Tenant>>,
    ) -> Option<Arc<str>> {
        if let Some((id, _)) = tenants.get_key_value(name.as_str()) {
            return Some(id.clone());
        }
        if self.options.tenancy.unknown == UnknownOption::Allow && is_tenant_id(name) {
            return Some(Arc::from(name.as_str()));
        }
        if !self.names("tenants").contains(&name.as_str()) {
            let hint = nearest(&name.value, tenants.keys());
            self.report.hinted(name.at, format!("unknown tenant `{}`", name.value), hint);
        }
        None
    }
}

fn compiled(id: Arc<str>, options: &TenantOptions, class: usize) -> Tenant {
    Tenant {
        id,
        class,
        status: match options.status {
            StatusOption::Active => TenantStatus::Active,
            StatusOption::Suspended => TenantStatus::Suspended,
        },
        ip_allow: options.ip_allow.clone(),
        issuers: options.issuers.iter().map(|issuer| Arc::from(issuer.as_str())).collect(),
        mfa_required: options.mfa.required,
        max_auth_age_s: options.session.max_auth_age.map(|age| age.seconds()),
        idle_s: options.session.idle.as_ref().map(|idle| idle.seconds()),
        absolute_s: options.session.absolute.as_ref().map(|absolute| absolute.seconds()),
        residency: options.residency.as_ref().map(|region| Arc::from(region.as_str())),
        embed_origins: options.embed_origins.iter().map(|origin| Box::from(origin.as_str())).collect(),
    }
}
