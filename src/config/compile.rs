//! Options → settings and rules: every reference resolved, everything unused or unreachable reported.
mod bounds;
mod issuers;
mod charges;
mod limits;
mod listeners;
mod postgres;
mod profiles;
mod roles;
mod routes;
mod sessions;
mod revocation;
mod storage;
mod tenants;
mod traces;
mod upstreams;
mod ways;

use crate::config::World;
use crate::config::files::Files;
use crate::config::options::{CloseAtExpiryOption, DurabilityOption, Gateway, LogFormat, Workers};
use crate::config::outline::Outline;
use crate::config::problem::{At, Report};
use crate::config::read::{Entries, Spanned, choice};
use crate::config::settings::{
    Admin, ApiKeys, Audit, CloseAtExpiry, Durability, Fold, KeySet, Server, Snapshot, Telemetry,
};
use crate::config::yaml::Node;
use decide::headers::{IdentityHeaders, IdentityOptions};
use decide::policy::nearest;
use decide::rules::Rules;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Noun {
    Upstream,
    Issuer,
    Profile,
    Limit,
    Permission,
    StepUp,
    TlsProfile,
    ExtAuth,
    ClientCertificates,
    AppSessions,
}

impl Noun {
    const fn word(self) -> &'static str {
        match self {
            Noun::Upstream => "upstream",
            Noun::Issuer => "issuer",
            Noun::Profile => "header profile",
            Noun::Limit => "rate limit",
            Noun::Permission => "permission",
            Noun::StepUp => "step-up",
            Noun::TlsProfile => "TLS profile",
            Noun::ExtAuth => "service",
            Noun::ClientCertificates => "entry of `client_certificates`",
            Noun::AppSessions => "store of sessions",
        }
    }
}

/// What the parts of the compiler share.
struct Compiler<'a> {
    files: &'a Files<'a>,
    report: &'a Report,
    options: &'a Gateway,
    /// The tree of `gateway.yaml` with its includes: knows names even of entries that could not be read.
    tree: &'a Node,
    world: &'a World<'a>,
    used: RefCell<HashSet<(Noun, String)>>,
    /// Kinds of names of which one was written wrong: which one it should have been nobody knows.
    misspelt: RefCell<HashSet<Noun>>,
    /// Files of API keys that some route names.
    api_keys: RefCell<BTreeMap<String, Arc<ApiKeys>>>,
    /// Sets of API keys in the state engine that some route names.
    key_sets: RefCell<BTreeMap<String, Arc<KeySet>>>,
}

/// Compiles options. A result is whole only if the report is empty afterwards.
pub(super) fn compile(files: &Files<'_>, tree: &Node, options: &Gateway, world: &World<'_>) -> Option<Snapshot> {
    let c = Compiler {
        files,
        report: files.report,
        options,
        tree,
        world,
        used: RefCell::default(),
        misspelt: RefCell::default(),
        api_keys: RefCell::default(),
        key_sets: RefCell::default(),
    };
    let server = c.server();
    let admin = c.admin();
    let authorities = c.client_authorities();
    let listeners = c.listeners(&authorities);
    let tls = c.tls();
    let (mut issuers, pepper) = c.issuers(&server);
    let profiles = c.profiles();
    let roles = c.roles();
    let limits = c.limits();
    let tenants = c.tenants(&limits.classes);
    let upstreams = c.upstreams(&tenants.classes);
    let limits = c.rates(&limits, &tenants.classes);
    let mut rules = Rules {
        resolve: tenants.resolve,
        unknown_tenant: tenants.unknown,
        tenants: tenants.tenants,
        custom_domains: tenants.custom_domains,
        classes: tenants.classes,
        policy: roles.policy,
        routes: Vec::new(),
        router: Default::default(),
    };
    let sessions = c.sessions(&server, &limits);
    issuers.extend(c.own_issuer(sessions.tokens.as_deref(), &sessions.keys, pepper));
    issuers.sort_by(|a, b| a.rules.name.cmp(&b.rules.name));
    let whole = c.routes(&mut rules, &upstreams, &profiles, &limits, &roles.permissions);
    if whole {
        c.unused(&roles.permissions, &profiles, &limits);
    }
    let csrf_keys = c.csrf_keys(&rules, &server, &sessions.keys);
    let default_profile = profiles.list.first()?.clone();
    let shared = limits.list.iter().any(|(_, limit)| limit.sharing.is_some());
    let redis = c.redis(shared);
    let postgres = c.postgres();
    Some(Snapshot {
        sessions,
        revocation: c.revocation(),
        embedded: c.embedded(&server),
        redis,
        api_keys: c.api_keys.take(),
        key_sets: c.key_sets.take(),
        ext_auth: c.ext_auths(),
        client_certificates: c.client_certificates(authorities, &rules),
        app_sessions: c.app_sessions(&server, pepper),
        postgres,
        digest: String::new(),
        rules: Arc::new(rules),
        audit: c.audit(&server),
        server,
        admin,
        listeners,
        tls,
        issuers,
        upstreams,
        profiles: profiles.list,
        default_profile,
        page_profile: profiles::page()?,
        csrf_keys,
        identity: c.identity()?,
        token_cache: options.sessions.token_cache,
        close_at_expiry: match options.sessions.close_at_expiry {
            CloseAtExpiryOption::Nothing => CloseAtExpiry::Nothing,
            CloseAtExpiryOption::Websockets => CloseAtExpiry::Websockets,
            CloseAtExpiryOption::Streams => CloseAtExpiry::Streams,
        },
        telemetry: c.telemetry(),
        traces: c.traces(),
        fallback: None,
        outline: Outline::default(),
        files: Vec::new(),
    })
}

impl Compiler<'_> {
    /// Checks that a name exists and marks it as used. `known` are all names, those that could not be read included.
    fn refer<'k>(&self, noun: Noun, name: &Spanned<String>, known: impl Iterator<Item = &'k str> + Clone) -> bool {
        self.used.borrow_mut().insert((noun, name.value.clone()));
        if known.clone().any(|k| k == name.value) {
            return true;
        }
        self.misspelt.borrow_mut().insert(noun);
        let hint = nearest(&name.value, known.clone()).or_else(|| list(known));
        self.report.hinted(name.at, format!("unknown {} `{}`", noun.word(), name.value), hint);
        false
    }

    fn is_used(&self, noun: Noun, name: &str) -> bool {
        self.used.borrow().contains(&(noun, name.to_owned()))
    }

    /// The names of a section, of entries that could not be read too.
    fn names<'t>(&'t self, section: &str) -> Vec<&'t str> {
        self.tree.get(section).map(|node| node.keys().map(|key| key.text.as_str()).collect()).unwrap_or_default()
    }

    fn unused(
        &self,
        permissions: &[Spanned<String>],
        profiles: &profiles::Profiles,
        limits: &[(Spanned<String>, Arc<decide::rules::Limit>)],
    ) {
        let check = |noun: Noun, name: &str, at: At, by: &str, hint: &str| {
            if !self.is_used(noun, name) && !self.misspelt.borrow().contains(&noun) {
                self.report.hinted(at, format!("{} `{name}` is not used by any {by}", noun.word()), Some(hint));
            }
        };
        for name in permissions {
            check(
                Noun::Permission,
                name,
                name.at,
                "route",
                "a permission that no route requires protects nothing; remove it or require it",
            );
        }
        for (name, _) in limits.iter().filter(|(name, _)| name.value != sessions::BUILT_IN) {
            check(
                Noun::Limit,
                name,
                name.at,
                "route",
                "remove it, or list it in `rate_limits` of a route or of `sessions`",
            );
        }
        for name in &profiles.written {
            check(Noun::Profile, name, name.at, "route", "remove it, or name it in `headers` of a route");
        }
        entries(&self.options.upstreams, |name| check(Noun::Upstream, name, name.at, "route", "remove it"));
        entries(&self.options.issuers, |name| check(Noun::Issuer, name, name.at, "route", "remove it"));
        entries(&self.options.ext_auth, |name| check(Noun::ExtAuth, name, name.at, "route", "remove it"));
        entries(&self.options.client_certificates, |name| {
            check(Noun::ClientCertificates, name, name.at, "listener", "remove it, or let a listener accept it");
        });
        entries(&self.options.app_sessions, |name| check(Noun::AppSessions, name, name.at, "route", "remove it"));
        entries(&self.options.sessions.step_up, |name| check(Noun::StepUp, name, name.at, "route", "remove it"));
        if let Some(tls) = &self.options.tls {
            entries(&tls.profiles, |name| check(Noun::TlsProfile, name, name.at, "listener", "remove it"));
        }
    }

    fn server(&self) -> Server {
        let options = &self.options.server;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Server {
            worker_threads: match options.worker_threads {
                Workers::Auto => cpus,
                Workers::Fixed(n) => n,
            },
            drain_timeout: options.drain_timeout.0,
            drain_delay: options.drain_delay.0,
            reuse_port: options.reuse_port,
            max_connections: self.within(&options.max_connections, 1, 10_000_000),
            requests_under_way: match &options.requests_under_way {
                Some(most) => self.within(most, 16, 100_000_000),
                // A request holds its room to its end, so there must be more of it than connections.
                None => options.max_connections.value.saturating_mul(2).max(65_536),
            },
            unread_answers: self.within(&options.unread_answers, 1, 10_000_000),
            state_dir: self.files.folder.join(&options.state_dir),
            instance: options.instance.clone(),
            zone: options.zone.as_deref().map(Arc::from),
        }
    }

    fn admin(&self) -> Admin {
        let options = &self.options.admin;
        if !options.address.ip().is_loopback() {
            let hint = "metrics and health say a lot about your tenants; forward a port from loopback instead";
            self.report.hinted(options.address.at, "the admin listener must be on loopback", Some(hint));
        }
        let paths = [&options.metrics.path, &options.health.live, &options.health.ready];
        let ours: &[&str] = if options.status_page { &["/", "/status", "/status.json"] } else { &[] };
        for (index, path) in paths.into_iter().enumerate() {
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
                let message = format!("`{path}` is not a path of the admin listener");
                self.report.hinted(options.address.at, message, Some("it begins with `/` and has no query"));
            }
            if ours.contains(&path.as_str()) || paths.iter().take(index).any(|other| *other == path) {
                let message = format!("the admin listener answers at `{path}` twice");
                let hint = "metrics, health checks and the status page (`/`, `/status`, `/status.json`) differ";
                self.report.hinted(options.address.at, message, Some(hint));
            }
        }
        Admin {
            address: options.address.value,
            metrics_path: options.metrics.path.clone(),
            status_page: options.status_page,
            live_path: options.health.live.clone(),
            ready_path: options.health.ready.clone(),
        }
    }

    fn identity(&self) -> Option<IdentityHeaders> {
        let (names, tenancy) = (&self.options.identity, &self.options.tenancy);
        let options = IdentityOptions {
            subject: names.subject.value.clone(),
            roles: names.roles.value.clone(),
            request_id: names.request_id.value.clone(),
            assertion: names.assertion.value.clone(),
            nonce: names.nonce.value.clone(),
            forward_credential: names.forward_credential,
        };
        match IdentityHeaders::compile(&tenancy.forward_as, &options) {
            Ok(identity) => {
                let mut identity = identity;
                for (_, listener) in self.options.listeners.iter() {
                    let Some(header) = listener.client_ip.edge.as_ref().and_then(|edge| edge.header.as_ref()) else {
                        continue;
                    };
                    match identity.clone().with_edge(header) {
                        Ok(more) => identity = more,
                        // What is wrong with it by itself, the listener has reported.
                        Err(_) if IdentityHeaders::default().with_edge(header).is_err() => {}
                        Err(message) => self.report.problem(header.at, message),
                    }
                }
                Some(identity)
            }
            Err(problems) => {
                for problem in problems {
                    let at = match problem.path.as_str() {
                        "tenancy.forward_as" => tenancy.forward_as.at,
                        "identity.subject" => names.subject.at,
                        "identity.roles" => names.roles.at,
                        "identity.request_id" => names.request_id.at,
                        "identity.assertion" => names.assertion.at,
                        "identity.nonce" => names.nonce.at,
                        _ => At::default(),
                    };
                    self.report.hinted(at, problem.message, problem.hint);
                }
                None
            }
        }
    }

    fn audit(&self, server: &Server) -> Audit {
        let options = &self.options.audit;
        let checkpoint = &options.chain.checkpoint;
        let key = checkpoint.key.as_ref().and_then(|place| {
            let path = place.path(&self.files.folder, &|name| self.files.variable(name));
            let path = path.map_err(|message| self.report.problem(place.at, message)).ok()?;
            if let Err(error) = std::fs::metadata(&path) {
                let name = path.strip_prefix(&self.files.folder).unwrap_or(&path).display();
                let message = format!("`{name}` {}", crate::config::files::reason(&error));
                self.report.problem(place.at, message);
            }
            Some(path)
        });
        Audit {
            directory: match &options.directory {
                Some(directory) => self.files.folder.join(directory),
                None => server.state_dir.join("audit"),
            },
            roll_bytes: options.segments.roll.0,
            retain: Some(options.segments.retain.0),
            durability: match options.durability {
                DurabilityOption::Batch => Durability::Batch,
                DurabilityOption::Each => Durability::Each,
                DurabilityOption::Os => Durability::Os,
            },
            checkpoint_every: checkpoint.every.0,
            checkpoint_entries: checkpoint.entries,
            heartbeat: options.heartbeat.0.0,
            fold: Fold {
                after: self.within(&options.fold.after, 1, 1_000_000),
                per_second: self.within(&options.fold.per_second, 1, 1_000_000),
                in_all_per_second: self.within(&options.fold.in_all_per_second, 1, 1_000_000),
            },
            key,
        }
    }

    fn telemetry(&self) -> Telemetry {
        let logs = &self.options.logs;
        Telemetry {
            json: logs.format == LogFormat::Json,
            level: logs.level.as_str().to_owned(),
            access_share: logs.access.sample.fraction(),
            exclude_paths: logs.access.exclude_paths.clone(),
            tenant_top: self.within(&self.options.metrics.tenant_label.top, 0, 1000),
        }
    }
}

fn entries<T>(entries: &Entries<T>, mut each: impl FnMut(&Spanned<String>)) {
    entries.iter().for_each(|(name, _)| each(name));
}

/// The names that exist, where they are few enough to read.
fn list<'k>(known: impl Iterator<Item = &'k str>) -> Option<String> {
    let all: Vec<&str> = known.collect();
    if all.is_empty() { Some("there is none".to_owned()) } else { choice(&all) }
}
