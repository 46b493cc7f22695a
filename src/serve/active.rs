//! What is in force: one snapshot with the living parts that belong to it (key rings, pools, limits, counters).
use crate::config::settings::{AppSessionStore, ExtAuth, Listener, Snapshot};
use crate::serve::app_sessions::AppSessions;
use crate::serve::callout::Callout;
use crate::serve::issuing::Issuing;
use crate::serve::key_sets::Named;
use crate::serve::keys::KeyRing;
use crate::serve::metrics::{ListenerMetrics, Metrics, RouteMetrics, UpstreamMetrics};
use crate::serve::sessions::Held;
use crate::serve::upstream::{Pool, Resolver};
use crate::store::key_sets::{Shelf, is_of};
use crate::store::quota::Quotas;
use decide::facts::Identity;
use decide::rules::{API_KEY, Accept, Access, Found};
use foldhash::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A snapshot in force. A request takes one at its beginning and keeps it to its end.
pub struct Active {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Pools, indexed as `Snapshot::upstreams`.
    pub upstreams: Vec<Arc<Pool>>,
    /// Counts the snapshots of this process, from 0.
    pub generation: u64,
    /// The limits' state, kept over reloads.
    pub quotas: Arc<Quotas>,
    issuers: HashMap<Arc<str>, Arc<KeyRing>>,
    listeners: BTreeMap<Arc<str>, Door>,
    forwarded: Vec<Arc<UpstreamMetrics>>,
    routes: Vec<Arc<RouteMetrics>>,
    unrouted: Arc<RouteMetrics>,
    cookies: Vec<Arc<str>>,
    callouts: HashMap<Arc<str>, Arc<Callout>>,
    app_sessions: HashMap<Arc<str>, Arc<AppSessions>>,
    key_sets: HashMap<Arc<str>, Named>,
    held: Option<Arc<Held>>,
    issuing: Option<Issuing>,
}

/// A listener with its counters.
pub struct Door {
    /// Its settings.
    pub settings: Arc<Listener>,
    /// Its counters.
    pub metrics: Arc<ListenerMetrics>,
}

impl Active {
    /// Joins a snapshot with its living parts; pools of unchanged upstreams are taken over from `before`.
    pub fn new(
        snapshot: Arc<Snapshot>,
        issuers: HashMap<Arc<str>, Arc<KeyRing>>,
        quotas: Arc<Quotas>,
        metrics: &Metrics,
        before: Option<&Active>,
    ) -> Active {
        let pool = |settings: &Arc<crate::config::settings::Upstream>| {
            let before = before.and_then(|b| b.upstreams.iter().find(|pool| pool.settings.name == settings.name));
            match before.filter(|pool| *pool.settings == **settings) {
                Some(kept) => kept.clone(),
                None => Arc::new(Pool::new(settings.clone(), before.map(|pool| &**pool))),
            }
        };
        for (name, keys) in &snapshot.api_keys {
            if let Some(known) = before.and_then(|before| before.snapshot.api_keys.get(name)) {
                keys.inherit(known);
            }
        }
        let callout = |service: &Arc<ExtAuth>| {
            let kept = before.and_then(|before| before.callouts.get(&service.name));
            let kept = kept.filter(|kept| *kept.settings == **service).cloned();
            kept.unwrap_or_else(|| Arc::new(Callout::new(service.clone())))
        };
        let store = |store: &Arc<AppSessionStore>| {
            let name = &store.sessions.name;
            let before = before.and_then(|before| before.app_sessions.get(name));
            let kept = before.filter(|kept| *kept.settings == **store).cloned();
            let store = kept.unwrap_or_else(|| Arc::new(AppSessions::start(store.clone(), before.map(|b| &**b))));
            (name.clone(), store)
        };
        let door = |l: &Arc<Listener>| Door { settings: l.clone(), metrics: metrics.listener(&l.name) };
        Active {
            upstreams: snapshot.upstreams.iter().map(pool).collect(),
            generation: before.map_or(0, |before| before.generation + 1),
            quotas,
            issuers,
            listeners: snapshot.listeners.iter().map(|l| (l.name.clone(), door(l))).collect(),
            forwarded: snapshot.upstreams.iter().map(|u| metrics.upstream(&u.name)).collect(),
            routes: snapshot.rules.routes.iter().map(|r| metrics.route(&r.name)).collect(),
            unrouted: metrics.route("none"),
            cookies: cookies(&snapshot),
            callouts: snapshot.ext_auth.iter().map(|service| (service.name.clone(), callout(service))).collect(),
            app_sessions: snapshot.app_sessions.iter().map(store).collect(),
            key_sets: snapshot.key_sets.values().map(|set| (set.name.clone(), Named::new(set.clone()))).collect(),
            held: snapshot.sessions.browser.clone().map(|settings| Arc::new(Held::new(settings))),
            issuing: snapshot.sessions.tokens.as_ref().and_then(|t| Issuing::new(t.clone(), &snapshot.sessions.keys)),
            snapshot,
        }
    }

    /// Begins to watch over the pools that were not in force before, and ends it for those that no longer are. To be
    /// called once, when it is put in force.
    pub fn take_over(&self, before: Option<&Active>) {
        let old = before.map(|before| before.upstreams.as_slice()).unwrap_or_default();
        let among = |pool: &Arc<Pool>, pools: &[Arc<Pool>]| pools.iter().any(|other| Arc::ptr_eq(pool, other));
        self.upstreams.iter().filter(|pool| !among(pool, old)).for_each(|pool| pool.watch_over(Resolver::system()));
        old.iter().filter(|pool| !among(pool, &self.upstreams)).for_each(|pool| pool.retire());
    }

    /// The key ring of an issuer.
    pub fn issuer(&self, name: &str) -> Option<&Arc<KeyRing>> {
        self.issuers.get(name)
    }

    /// A service that says who somebody is.
    pub fn callout(&self, name: &str) -> Option<&Arc<Callout>> {
        self.callouts.get(name)
    }

    /// An application's sessions.
    pub fn app_sessions(&self) -> &HashMap<Arc<str>, Arc<AppSessions>> {
        &self.app_sessions
    }

    /// A set of API keys in the state engine.
    pub fn key_set(&self, name: &str) -> Option<&Named> {
        self.key_sets.get(name)
    }

    /// The set that an identity's API key is of, and the key's id; `None` where it came by no key of a set.
    pub fn shelf_of<'i>(&self, identity: &'i Identity) -> Option<(&Shelf, &'i str)> {
        let id = identity.session.as_deref().filter(|_| *identity.issuer == *API_KEY)?;
        let named = self.key_sets.values().find(|named| is_of(&named.shelf.set, identity))?;
        Some((&*named.shelf, id))
    }

    /// Waits until each store of sessions was tried, and no longer than connecting may take.
    pub async fn settled(&self) {
        for store in self.app_sessions.values() {
            store.settled().await;
        }
    }

    /// Names of all cookies that some route accepts as a credential.
    pub fn cookies(&self) -> &[Arc<str>] {
        &self.cookies
    }

    /// What sessions of browsers are held by, where they are.
    pub fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref()
    }

    /// What issues tokens of our own, where there are any.
    pub fn issuing(&self) -> Option<&Issuing> {
        self.issuing.as_ref()
    }

    /// All key rings.
    pub fn issuers(&self) -> &HashMap<Arc<str>, Arc<KeyRing>> {
        &self.issuers
    }

    /// A listener's settings and counters.
    pub fn door(&self, name: &str) -> Option<&Door> {
        self.listeners.get(name)
    }

    /// The counters of an upstream, by its index.
    pub fn upstream_metrics(&self, index: usize) -> Option<&UpstreamMetrics> {
        self.forwarded.get(index).map(|m| &**m)
    }

    /// The counters of a route, or of requests that have none.
    pub fn route_metrics(&self, found: Option<&Found>) -> &RouteMetrics {
        found.and_then(|found| self.routes.get(found.index)).unwrap_or(&self.unrouted)
    }
}

fn cookies(snapshot: &Snapshot) -> Vec<Arc<str>> {
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    names.extend(snapshot.sessions.browser.iter().map(|browser| browser.cookie.clone()));
    for route in &snapshot.rules.routes {
        let Access::Session(rules) = &route.access else { continue };
        names.extend(rules.accept.iter().filter_map(|accept| match accept {
            Accept::Cookie { name, .. } => Some(name.clone()),
            Accept::Bearer { .. }
            | Accept::Dpop { .. }
            | Accept::Session { .. }
            | Accept::ApiKey { .. }
            | Accept::AppSession { .. }
            | Accept::ExtAuth { .. }
            | Accept::Certificate { .. } => None,
        }));
    }
    names.into_iter().collect()
}
