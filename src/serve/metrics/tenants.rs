//! Tenant labels: a bounded number of tenants have one of their own, all others share `other`.
//!
//! The first half of the labels goes to the first tenants seen. The second half is earned: a Misra-Gries sketch with
//! twice as many counters as there are labels finds the tenants that make up at least that share of the traffic, and
//! one whose count in it reaches `EARNED` gets a label. A label once given is kept until the process ends, so that no
//! series stops or starts again; a tenant that grows busy when all labels are gone stays in `other`. Hence at most
//! `top` + 2 values of the label, whatever clients send.
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Count in the sketch at which a tenant has earned its label.
const EARNED: u32 = 32;

/// Index of a label: see `NONE` and `OTHER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) usize);

impl Slot {
    /// Requests without a tenant.
    pub(super) const NONE: Slot = Slot(0);
    /// Tenants without a label of their own.
    pub(super) const OTHER: Slot = Slot(1);
}

/// The labels given so far.
pub(super) struct TenantLabels {
    top: AtomicUsize,
    given: ArcSwap<Given>,
    /// No label is left: nothing is sketched any more.
    spent: AtomicBool,
    sketch: Mutex<HashMap<Box<str>, u32>>,
}

#[derive(Clone)]
struct Given {
    slots: HashMap<Arc<str>, Slot, RandomState>,
    names: Vec<Arc<str>>,
}

impl TenantLabels {
    pub(super) fn new(top: usize) -> TenantLabels {
        let names = vec![Arc::from("none"), Arc::from("other")];
        TenantLabels {
            top: AtomicUsize::new(top),
            given: ArcSwap::from_pointee(Given { slots: HashMap::default(), names }),
            spent: AtomicBool::new(top == 0),
            sketch: Mutex::default(),
        }
    }

    /// How many slots there can be.
    pub(super) fn slots(&self) -> usize {
        (self.top.load(Ordering::Relaxed) + 2).max(self.given.load().names.len())
    }

    /// Changes how many labels there may be. Labels that were given are kept.
    pub(super) fn resize(&self, top: usize) {
        self.top.store(top, Ordering::Relaxed);
        self.spent.store(self.given.load().slots.len() >= top, Ordering::Relaxed);
    }

    /// The slot of a tenant. Counts it in the sketch where it has no label yet.
    pub(super) fn slot(&self, tenant: Option<&str>) -> Slot {
        let Some(tenant) = tenant else {
            return Slot::NONE;
        };
        match self.given.load().slots.get(tenant) {
            Some(slot) => *slot,
            None if self.spent.load(Ordering::Relaxed) => Slot::OTHER,
            None => self.earn(tenant),
        }
    }

    /// The label of a slot.
    pub(super) fn name(&self, slot: Slot) -> Arc<str> {
        let given = self.given.load();
        given.names.get(slot.0).or(given.names.get(Slot::OTHER.0)).cloned().unwrap_or_default()
    }

    fn earn(&self, tenant: &str) -> Slot {
        // Whoever finds the sketch taken goes uncounted: it is an estimate, and nobody waits for it.
        let Ok(mut sketch) = self.sketch.try_lock() else {
            return Slot::OTHER;
        };
        let given = self.given.load();
        if let Some(slot) = given.slots.get(tenant) {
            return *slot;
        }
        let top = self.top.load(Ordering::Relaxed);
        if given.slots.len() >= top {
            self.spent.store(true, Ordering::Relaxed);
            return Slot::OTHER;
        }
        if given.slots.len() >= top.div_ceil(2) && !count(&mut sketch, tenant, 2 * top) {
            return Slot::OTHER;
        }
        let mut given = Given::clone(&given);
        let (slot, name) = (Slot(given.names.len()), Arc::<str>::from(tenant));
        given.slots.insert(name.clone(), slot);
        given.names.push(name);
        if given.slots.len() >= top {
            self.spent.store(true, Ordering::Relaxed);
            *sketch = HashMap::new();
        }
        self.given.store(Arc::new(given));
        slot
    }
}

/// One step of Misra and Gries, "Finding repeated elements" (1982). Whether the tenant has earned a label.
fn count(sketch: &mut HashMap<Box<str>, u32>, tenant: &str, counters: usize) -> bool {
    if let Some(count) = sketch.get_mut(tenant) {
        *count += 1;
        return *count >= EARNED && sketch.remove(tenant).is_some();
    }
    if sketch.len() < counters {
        sketch.insert(tenant.into(), 1);
    } else {
        sketch.retain(|_, count| {
            *count -= 1;
            *count > 0
        });
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_labels_go_to_whoever_comes_first() {
        let labels = TenantLabels::new(4);
        assert_eq!(labels.slot(None), Slot::NONE);
        assert_eq!(labels.slot(Some("a")), Slot(2));
        assert_eq!(labels.slot(Some("b")), Slot(3));
        assert_eq!(labels.slot(Some("c")), Slot::OTHER);
        assert_eq!(labels.slot(Some("a")), Slot(2));
        assert_eq!((&*labels.name(Slot(2)), &*labels.name(Slot::OTHER)), ("a", "other"));
    }

    #[test]
    fn a_busy_tenant_earns_a_label_among_thousands_of_quiet_ones() {
        let labels = TenantLabels::new(20);
        let mut busy = Vec::new();
        for n in 0..100_000 {
            labels.slot(Some(&format!("quiet-{n}")));
            if n % 5 == 0 {
                busy.push(labels.slot(Some("busy")));
            }
        }
        let earned = busy.iter().position(|slot| *slot != Slot::OTHER).expect("a label");
        assert!(earned < 200, "after {earned} requests");
        let slot = busy[earned];
        assert!(busy[earned..].iter().all(|later| *later == slot), "and keeps it");
        assert_eq!(&*labels.name(slot), "busy");
    }

    #[test]
    fn there_are_never_more_labels_than_allowed() {
        for top in [0, 1, 2, 7] {
            let labels = TenantLabels::new(top);
            for round in 0..100 {
                for n in 0..50 {
                    let slot = labels.slot(Some(&format!("t{n}")));
                    assert!(slot.0 < labels.slots(), "{round}");
                }
            }
            assert!(labels.given.load().names.len() <= top + 2);
            assert!(labels.sketch.lock().expect("free").len() <= 2 * top);
        }
    }
}
