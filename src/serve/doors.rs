//! The open listeners: opened, changed and closed by a reload, all of them or none.
use super::accept;
use super::certificates::CertStore;
use super::drain::Drain;
use super::gateway::Gateway;
use super::inherited::Inherited;
use super::listener::{BindError, Bound, Frontage, House, bind};
use crate::config::settings::{Listener, Snapshot};
use arc_swap::ArcSwap;
use pingora_proxy::HttpProxy;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;

/// All listeners that are open, and what they have in common.
pub struct Doors {
    house: House<HttpProxy<Gateway>, Gateway>,
    open: Mutex<Vec<Open>>,
    tasks: Mutex<JoinSet<()>>,
}

/// One listener.
#[derive(Clone)]
struct Open {
    frontage: Arc<ArcSwap<Frontage>>,
    /// The address as it was asked for: its port may be 0.
    asked: SocketAddr,
    address: SocketAddr,
    drain: Drain,
}

/// What a reload does to the listeners. New sockets are bound in it; dropped, it closes them again.
#[derive(Default)]
pub struct Plan {
    changed: Vec<(Arc<ArcSwap<Frontage>>, Arc<Frontage>)>,
    opened: Vec<Bound>,
    closed: Vec<Open>,
}

impl Doors {
    /// No listeners yet.
    pub fn new(house: House<HttpProxy<Gateway>, Gateway>) -> Doors {
        Doors { house, open: Mutex::default(), tasks: Mutex::default() }
    }

    /// Begins to accept from a bound listener.
    pub fn open(&self, bound: Bound) {
        let (address, frontage, drain) = (bound.address, bound.frontage.clone(), self.house.drain.part());
        let asked = frontage.load().settings.address;
        let house = House { drain: drain.clone(), ..self.house.clone() };
        self.open_doors().push(Open { frontage, asked, address, drain });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Loops that have ended leave nothing to look at.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let name = bound.name.clone();
            if let Err(error) = accept::serve(bound, house).await {
                tracing::error!(listener = &*name, %error, "the listener has stopped");
            }
        });
    }

    /// Names and bound addresses.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.open_doors().iter().map(|open| (open.frontage.load().settings.name.clone(), open.address)).collect()
    }

    /// What the listeners of `next` take: new ones are bound here, so that an address that cannot be had is noticed
    /// before anything has changed. Refuses with every problem. A listener that keeps its address keeps its socket, also
    /// under another name.
    pub fn plan(&self, next: &Snapshot, certificates: Option<&Arc<CertStore>>) -> Result<Plan, Vec<BindError>> {
        let mut left: Vec<Open> = self.open_doors().clone();
        let (mut plan, mut problems) = (Plan::default(), Vec::new());
        for settings in &next.listeners {
            let kept = left.iter().position(|open| open.is_for(settings)).map(|at| left.swap_remove(at));
            let result = match kept {
                Some(open) => change(&open, settings, certificates).map(|frontage| {
                    plan.changed.extend(frontage.map(|frontage| (open.frontage, frontage)));
                }),
                None => bind(settings, certificates, &mut Inherited::none(), next.server.reuse_port)
                    .map(|bound| plan.opened.push(bound)),
            };
            problems.extend(result.err());
        }
        plan.closed = left;
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    /// Does it. Connections that are open keep the settings that they began with; those of a listener that is closed end
    /// with their next answer.
    pub fn carry_out(&self, plan: Plan) {
        for bound in plan.opened {
            tracing::info!(target: "moat::listening", listener = &*bound.name, address = %bound.address, "listening");
            self.open(bound);
        }
        for (place, frontage) in plan.changed {
            tracing::info!(listener = &*frontage.settings.name, "the listener was changed");
            place.store(frontage);
        }
        for closed in plan.closed {
            tracing::info!(listener = &*closed.frontage.load().settings.name, address = %closed.address, "closing");
            closed.drain.leave();
            self.open_doors().retain(|open| !Arc::ptr_eq(&open.frontage, &closed.frontage));
        }
    }

    /// Changes how many connections may be open in all.
    pub fn resize(&self, max_connections: usize) {
        self.house.budget.resize(max_connections);
    }

    fn open_doors(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Whether the listener of these settings can stay on this socket.
    fn is_for(&self, settings: &Listener) -> bool {
        let same_name = self.frontage.load().settings.name == settings.name;
        // Of two listeners that leave the port to the system, each has its own.
        self.asked == settings.address && (same_name || settings.address.port() != 0)
    }
}

/// What takes the place of a listener's frontage; `None` where it stays what it is.
fn change(
    open: &Open,
    settings: &Arc<Listener>,
    certificates: Option<&Arc<CertStore>>,
) -> Result<Option<Arc<Frontage>>, BindError> {
    let before = open.frontage.load();
    if before.settings == *settings {
        return Ok(None);
    }
    Frontage::new(settings.clone(), certificates, Some(&before)).map(|frontage| Some(Arc::new(frontage)))
}
