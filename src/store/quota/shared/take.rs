//! Takes a request from limits of which some are shared.
use super::strict::Want;
use super::synced::{self, Beats, Party};
use super::{Common, Joint, stem, strict};
use crate::store::quota::cells::{Budget, Key};
use crate::store::quota::meter::{Meter, Taken};
use crate::store::quota::{Counted, Dues, Found, KeyInput, Quotas, Said};
use decide::facts::{Reading, Stage};
use decide::rules::{Limit, Settle, Sharing, SharingMode, StoreLoss};
use governor::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A limit may not be decided without its store, which is silent.
#[derive(Debug, PartialEq, Eq)]
pub struct Silent {
    /// The limit.
    pub limit: Arc<str>,
}

/// Whether some of the stage's limits are shared, so that [`Quotas::take_shared`] is needed.
pub fn is_shared(limits: &[Arc<Limit>], stage: Stage) -> bool {
    limits.iter().any(|limit| limit.sharing.is_some() && limit.stage() == stage)
}

/// What is known of shared limits while a request is decided.
pub(in crate::store::quota) struct Shared<'c> {
    common: &'c Common,
    up: bool,
    /// What the store said of each strict limit, by name.
    told: Vec<(Arc<str>, (bool, u64))>,
    /// The first limit that may not be decided.
    silent: Option<Silent>,
}

impl Shared<'_> {
    /// Takes a request from one limit; `None` where nobody counts it.
    #[expect(clippy::too_many_arguments, reason = "what a request takes with it, and nothing that belongs together")]
    pub(in crate::store::quota) fn take<C: Clock + Clone>(
        &mut self,
        beats: &Beats,
        counted: &Counted<C>,
        (limit, sharing): (&Arc<Limit>, Sharing),
        key: Key,
        input: &KeyInput<'_>,
        now: u64,
        dues: &mut Dues<C>,
    ) -> Option<Said> {
        let rate = counted.rate(input.class);
        let Some((_, joint)) = counted.joint(rate) else {
            return Some(counted.take(limit, key, input.class, now, dues));
        };
        let (own, other) = self.common.keys.wide(&limit.key, input);
        let key = Key { own, ..key };
        let by = |charge: &dyn Fn(&Meter<C>) -> Taken, dues: &mut Dues<C>| {
            Some(counted.take_by(limit, key, input.class, now, dues, charge))
        };
        let told = self.told.iter().find(|(name, _)| *name == limit.name).map(|(_, told)| *told);
        match (sharing.mode, told) {
            (SharingMode::Strict, Some((allowed, used))) => by(&|meter| meter.told(allowed, used, limit.cost), dues),
            (SharingMode::Synced, _) if self.up => {
                by(&|meter| joint.take_synced(meter, key, other, limit.cost, now, beats), dues)
            }
            (SharingMode::Strict | SharingMode::Synced, _) => {
                counted.lost.fetch_add(1, Ordering::Relaxed);
                match sharing.on_store_loss {
                    StoreLoss::Open => None,
                    StoreLoss::Closed if limit.shadow => None,
                    StoreLoss::Closed => {
                        self.silent.get_or_insert_with(|| Silent { limit: limit.name.clone() });
                        None
                    }
                    StoreLoss::Local => by(
                        &|meter| {
                            let share = joint.take_share(key, now);
                            match sharing.mode {
                                SharingMode::Strict => share,
                                // What was heard of before still holds.
                                SharingMode::Synced => {
                                    let taken = meter.take(key, limit.cost, now);
                                    if taken.is_tighter_than(&share) { taken } else { share }
                                }
                            }
                        },
                        dues,
                    ),
                }
            }
        }
    }
}

impl<C: Clock + Clone> Quotas<C> {
    /// Shared limits are counted in this store from now on; without one, by each replica alone.
    pub fn share(&self, common: Option<Arc<Common>>) {
        self.common.store(common);
    }

    /// Like [`Quotas::take`], where some of the limits are shared: one round trip for all strict ones, none for others.
    pub async fn take_shared(
        &self,
        limits: &[Arc<Limit>],
        stage: Stage,
        input: &KeyInput<'_>,
        dues: &mut Dues<C>,
    ) -> Result<Reading, Silent> {
        let Some(common) = self.common.load_full() else { return Ok(self.take(limits, stage, input, dues)) };
        let told = self.ask(&common, limits, stage, input).await;
        let mut shared = Shared { common: &common, up: common.store.is_up(), told, silent: None };
        let reading = self.decide(limits, stage, input, dues, Some(&mut shared));
        match shared.silent {
            Some(silent) => Err(silent),
            None => Ok(reading),
        }
    }

    /// Asks the store about all strict limits. Without an answer nothing is told.
    async fn ask(
        &self,
        common: &Common,
        limits: &[Arc<Limit>],
        stage: Stage,
        input: &KeyInput<'_>,
    ) -> Vec<(Arc<str>, (bool, u64))> {
        let table = self.table.load_full();
        let ours = limits.iter().filter(|limit| limit.stage() == stage);
        let found: Vec<Found<'_, C>> = ours.map(|limit| self.find(&table, limit)).collect();
        let wanted: Vec<(&Arc<str>, Want<'_>)> = found
            .iter()
            .filter_map(|found| {
                let counted = found.counted();
                let limit = &counted.limit;
                // What only the answer tells is reserved and charged where the request is.
                let (meter, joint) = counted
                    .joint(counted.rate(input.class))
                    .filter(|_| counted.is(SharingMode::Strict) && limit.settle == Settle::Never)?;
                let hash = common.keys.wide(&limit.key, input);
                Some((&limit.name, Want { stem: &joint.stem, hash, costs: meter.gcra().costs(), requests: limit.cost }))
            })
            .collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let (names, wants): (Vec<&Arc<str>>, Vec<Want<'_>>) = wanted.into_iter().unzip();
        match strict::take(common, &wants).await {
            Ok(told) => names.into_iter().cloned().zip(told).collect(),
            // The store has told its observer of the fault.
            Err(_) => Vec::new(),
        }
    }

    /// How many requests each shared limit decided without the store, with its word for that, by name.
    pub fn lost(&self) -> Vec<(Arc<str>, StoreLoss, u64)> {
        let table = self.table.load();
        let lost = |counted: &Arc<Counted<C>>| {
            let sharing = counted.limit.sharing?;
            Some((counted.limit.name.clone(), sharing.on_store_loss, counted.lost.load(Ordering::Relaxed)))
        };
        let mut lost: Vec<_> = table.values().filter_map(lost).collect();
        lost.sort();
        lost
    }

    /// How many keys of each synced limit are busy, by name.
    pub fn busy(&self) -> Vec<(Arc<str>, usize)> {
        let table = self.table.load();
        let synced = |counted: &&Arc<Counted<C>>| counted.is(SharingMode::Synced);
        let busy = |counted: &Arc<Counted<C>>| {
            (counted.limit.name.clone(), counted.joints.iter().map(|joint| joint.busy()).sum())
        };
        let mut busy: Vec<_> = table.values().filter(synced).map(busy).collect();
        busy.sort();
        busy
    }

    /// Brings synced limits together, for as long as it is polled.
    pub async fn keep_together(self: Arc<Self>) {
        let mut pace = tokio::time::interval(synced::BEAT);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let Some(common) = self.common.load_full() else { continue };
            let table = self.table.load_full();
            let replicas = common.store.replicas();
            for counted in table.values() {
                for joint in &counted.joints {
                    joint.divide(replicas, self.clock.clone(), counted.budget.clone());
                }
            }
            let parties: Vec<Party<'_, C>> = table
                .values()
                .filter(|counted| counted.is(SharingMode::Synced))
                .flat_map(|counted| (0..counted.joints.len()).filter_map(|rate| counted.joint(rate)))
                .map(|(meter, joint)| Party { meter, joint })
                .collect();
            if !parties.is_empty() && common.store.is_up() {
                // The store has told its observer of the fault.
                let _ = synced::beat(&common, &parties, &self.beats).await;
            }
        }
    }

    /// What the meters of a shared limit have beside them; kept where name, rate and cost stay.
    pub(in crate::store::quota) fn joints(
        &self,
        limit: &Limit,
        old: Option<&Arc<Counted<C>>>,
        budget: &Arc<Budget>,
    ) -> Vec<Arc<Joint<C>>> {
        if limit.sharing.is_none() {
            return Vec::new();
        }
        let joint = |(index, rate): (usize, &decide::rules::Rate)| {
            let stem = stem(limit, index);
            let same = |joint: &&Arc<Joint<C>>| joint.stem == stem && joint.cost == limit.cost;
            let kept = old.and_then(|old| old.joints.iter().find(same)).cloned();
            let new = || Arc::new(Joint::new(stem.clone(), *rate, limit.cost, self.clock.clone(), budget.clone()));
            kept.unwrap_or_else(new)
        };
        limit.rates.iter().enumerate().map(joint).collect()
    }
}

impl<C: Clock> Counted<C> {
    /// The meter of a rate, and what it has beside it; `None` where the limit is not shared, or never lets anything
    /// through.
    fn joint(&self, rate: usize) -> Option<(&Meter<C>, &Joint<C>)> {
        let (_, meter) = self.meters.get(rate)?;
        Some((meter.as_deref()?, self.joints.get(rate)?))
    }
}
