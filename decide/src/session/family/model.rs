//! A model of many replicas over one store that loses writes, and of clients that honestly race: random histories, and
//! what must hold in each of them.
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const START: u64 = 1_800_000_000_000;
const RULES: Rules = Rules { ttl_ms: 1_000_000_000, idle_ms: None, single_use: true, leeway_ms: 5_000, skew_ms: 2_000 };
const REPLICAS: usize = 5;

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Clone, Debug)]
enum Event {
    /// The honest client wants to refresh: it sends its token to so many replicas at once.
    Refresh { copies: usize, first: usize },
    /// A request under way takes its next step: reads the row, then writes.
    Proceed { request: usize, fate: Fate },
    /// A replica dies with everything that it had under way.
    Crash { replica: usize },
    /// The store fails over to a copy that lacks the last write.
    LoseLastWrite,
    /// Somebody copies the token that the client holds now.
    Steal,
    /// The thief presents what he copied.
    Present { replica: usize },
    /// Time passes, less than the leeway.
    Moment { ms: u64 },
    /// Time passes, more than the leeway, once nothing is under way any more.
    Pause { ms: u64 },
    /// Time passes, mostly more than the leeway, while rows do not come. Whoever has heard no answer asks again before.
    Stall { ms: u64 },
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    /// Done, and nobody hears of it.
    DoneUnheard,
    /// Not done, and nobody hears of it.
    LostUnheard,
    /// Refused by the store.
    Refused,
    /// Done, and then the replica dies before it has answered.
    DoneThenCrash,
}

struct Request {
    replica: usize,
    presented: u64,
    /// When, by the clock of the replica.
    asked_ms: u64,
    honest: bool,
    /// The row that it has read and its version, before it writes.
    read: Option<(u64, Family)>,
}

struct World {
    now_ms: u64,
    skews: [i64; REPLICAS],
    /// The row, and its version.
    row: (u64, Family),
    before: Option<Family>,
    under_way: Vec<Request>,
    /// What the honest client holds.
    token: u64,
    /// Whether a connection of its broke before the answer: then it asks again at once.
    unheard: bool,
    stolen: Option<u64>,
    thief_was_here: bool,
    revoked: bool,
    revocation_lost: bool,
    /// Whether the client was told that its family is revoked: then it signs in anew, and its token is gone.
    gone: bool,
    /// Each token that was presented, with every successor it ever gave.
    successors: BTreeMap<u64, BTreeSet<u64>>,
    reuse_seen: bool,
}

impl World {
    fn new(skews: [i64; REPLICAS]) -> World {
        World {
            now_ms: START,
            skews,
            row: (1, Family::open(START)),
            before: None,
            under_way: Vec::new(),
            token: 1,
            unheard: false,
            stolen: None,
            thief_was_here: false,
            revoked: false,
            revocation_lost: false,
            gone: false,
            successors: BTreeMap::new(),
            reuse_seen: false,
        }
    }

    fn write(&mut self, expected: u64, family: &Family) -> Result<(), Family> {
        if self.row.0 != expected {
            return Err(self.row.1.clone());
        }
        let before = std::mem::replace(&mut self.row, (expected + 1, family.clone()));
        self.before = Some(before.1);
        Ok(())
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Refresh { .. } if self.gone => {}
            Event::Refresh { copies, first } => {
                for copy in 0..*copies {
                    self.ask((first + copy) % REPLICAS, self.token, true);
                }
            }
            Event::Proceed { request, fate } => {
                if !self.under_way.is_empty() {
                    self.proceed(request % self.under_way.len(), *fate);
                }
            }
            Event::Crash { replica } => {
                self.unheard |= self.under_way.iter().any(|r| r.honest && r.replica == *replica);
                self.under_way.retain(|r| r.replica != *replica);
            }
            Event::LoseLastWrite => {
                if let Some(before) = self.before.take() {
                    self.revocation_lost |= self.revoked && before.ended.is_none();
                    // Versions never come back: what was read before the failover cannot be written after it.
                    self.row = (self.row.0 + 1, before);
                }
            }
            Event::Steal => self.stolen = Some(self.token),
            Event::Present { replica } => {
                if let Some(presented) = self.stolen {
                    self.thief_was_here = true;
                    self.ask(replica % REPLICAS, presented, false);
                }
            }
            Event::Moment { ms } => self.now_ms += ms,
            Event::Pause { ms } => {
                self.settle();
                if std::mem::take(&mut self.unheard) {
                    self.happen(&Event::Refresh { copies: 1, first: 0 });
                    self.settle();
                }
                self.now_ms += ms;
            }
            Event::Stall { ms } => {
                if std::mem::take(&mut self.unheard) && !self.gone {
                    self.ask(0, self.token, true);
                    while self.under_way.last().is_some_and(|last| last.presented == self.token) {
                        self.proceed(self.under_way.len() - 1, Fate::Done);
                    }
                }
                self.now_ms += ms;
            }
        }
    }

    fn ask(&mut self, replica: usize, presented: u64, honest: bool) {
        let asked_ms = self.clock(replica);
        self.under_way.push(Request { replica, presented, asked_ms, honest, read: None });
    }

    fn clock(&self, replica: usize) -> u64 {
        self.now_ms.saturating_add_signed(self.skews[replica])
    }

    /// Everything under way ends, with a store that does what it is told.
    fn settle(&mut self) {
        while !self.under_way.is_empty() {
            self.proceed(0, Fate::Done);
        }
    }

    fn proceed(&mut self, at: usize, fate: Fate) {
        let Request { replica, presented, asked_ms, .. } = self.under_way[at];
        let moment = Moment { asked_ms, now_ms: self.clock(replica) };
        let Some((version, family)) = self.under_way[at].read.clone() else {
            self.under_way[at].read = Some(self.row.clone());
            return;
        };
        let step = family.present(presented, moment, &RULES);
        let written = match step.row() {
            None => Written::Yes,
            Some(row) => match fate {
                Fate::LostUnheard => Written::Unknown,
                Fate::Refused => Written::No,
                Fate::Done | Fate::DoneUnheard | Fate::DoneThenCrash => match self.write(version, row) {
                    Err(there) => Written::Conflict(Some(there)),
                    Ok(()) if matches!(fate, Fate::DoneUnheard) => Written::Unknown,
                    Ok(()) => Written::Yes,
                },
            },
        };
        if matches!(fate, Fate::DoneThenCrash) {
            let gone = self.under_way.swap_remove(at);
            self.unheard |= gone.honest;
            return;
        }
        match step.conclude(written) {
            Outcome::Again(_) => self.under_way[at].read = Some(self.row.clone()),
            outcome => {
                let request = self.under_way.swap_remove(at);
                self.answer(&request, &outcome);
            }
        }
    }

    fn answer(&mut self, request: &Request, outcome: &Outcome) {
        match outcome {
            Outcome::Grant(successor) => {
                let given = self.successors.entry(request.presented).or_default();
                given.insert(*successor);
                assert_eq!(given.len(), 1, "token {} has two successors", request.presented);
                if request.honest {
                    self.token = self.token.max(*successor);
                } else {
                    self.stolen = Some(*successor);
                }
            }
            Outcome::Reused | Outcome::Over(Over::Ended(Ending::Reused)) => {
                self.reuse_seen = true;
                assert!(self.thief_was_here, "an honest client was taken for a thief: {}", request.presented);
            }
            Outcome::Over(Over::Ended(Ending::Revoked)) => {
                assert!(self.revoked, "nobody revoked the family");
                self.gone |= request.honest;
            }
            Outcome::Over(Over::Expired) => panic!("its time is not up"),
            Outcome::Unknown => panic!("the row was never removed"),
            Outcome::Unavailable | Outcome::Late | Outcome::Again(_) => {}
        }
    }

    fn revoke(&mut self) {
        self.settle();
        let ended = self.row.1.end(Ending::Revoked);
        self.write(self.row.0, &ended).unwrap();
        self.revoked = true;
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Done),
        2 => Just(Fate::DoneUnheard),
        2 => Just(Fate::LostUnheard),
        1 => Just(Fate::Refused),
        1 => Just(Fate::DoneThenCrash),
    ]
}

fn honest() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (prop_oneof![Just(1_usize), 1_usize..20], 0..REPLICAS).prop_map(|(copies, first)| Event::Refresh { copies, first }),
        20 => (any::<usize>(), fate()).prop_map(|(request, fate)| Event::Proceed { request, fate }),
        1 => (0..REPLICAS).prop_map(|replica| Event::Crash { replica }),
        1 => Just(Event::LoseLastWrite),
        3 => (0_u64..200).prop_map(|ms| Event::Moment { ms }),
        1 => (10_000_u64..600_000).prop_map(|ms| Event::Pause { ms }),
        1 => (1_000_u64..60_000).prop_map(|ms| Event::Stall { ms }),
    ]
}

fn with_a_thief() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => honest(),
        1 => Just(Event::Steal),
        3 => (0..REPLICAS).prop_map(|replica| Event::Present { replica }),
    ]
}

fn skews() -> impl Strategy<Value = [i64; REPLICAS]> {
    prop::array::uniform5(-1_000_i64..=1_000)
}

/// Between two pauses or stalls less time passes than the leeway: nobody waits longer than that for an answer and then goes on with
/// what he had before.
fn within_the_leeway(events: Vec<Event>) -> Vec<Event> {
    let mut spent_ms = 0;
    let keep = |event: &Event| match event {
        Event::Moment { ms } => {
            spent_ms += ms;
            spent_ms < RULES.leeway_ms
        }
        Event::Pause { .. } | Event::Stall { .. } => {
            spent_ms = 0;
            true
        }
        _ => true,
    };
    events.into_iter().filter(keep).collect()
}

/// The history that a client made which had been told of its end, and came back after the store had forgotten it.
#[test]
fn who_was_told_of_the_end_does_not_come_back() {
    let mut world = World::new([0; REPLICAS]);
    let refresh = Event::Refresh { copies: 1, first: 0 };
    world.happen(&refresh);
    world.happen(&Event::Proceed { request: 0, fate: Fate::Done });
    world.happen(&Event::Proceed { request: 0, fate: Fate::DoneThenCrash });
    world.revoke();
    world.happen(&Event::Pause { ms: 10_000 });
    world.happen(&Event::LoseLastWrite);
    world.happen(&refresh);
    world.settle();
    assert!(world.gone && !world.reuse_seen);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Races, crashes, lost writes and clocks that disagree: nobody honest is ever logged out, and no token ever has two
    /// successors.
    #[test]
    fn an_honest_client_is_never_logged_out(
        skews in skews(),
        events in prop::collection::vec(honest(), 1..200).prop_map(within_the_leeway),
    ) {
        let mut world = World::new(skews);
        events.iter().for_each(|event| world.happen(event));
        world.settle();
        prop_assert!(!world.reuse_seen && world.row.1.ended.is_none());
        // What it holds is still good.
        let held = world.token;
        world.happen(&Event::Refresh { copies: 1, first: 0 });
        world.settle();
        prop_assert_eq!(world.token, held + 1);
    }

    /// With a thief: no token has two successors, and once both go on one after the other, the family ends.
    #[test]
    fn two_holders_are_found_out(skews in skews(), events in prop::collection::vec(with_a_thief(), 1..120)) {
        let mut world = World::new(skews);
        events.iter().for_each(|event| world.happen(event));
        world.happen(&Event::Pause { ms: 60_000 });
        world.stolen = Some(world.stolen.unwrap_or(world.token));
        for _ in 0..3 {
            world.happen(&Event::Refresh { copies: 1, first: 1 });
            world.happen(&Event::Pause { ms: 60_000 });
            world.happen(&Event::Present { replica: 2 });
            world.happen(&Event::Pause { ms: 60_000 });
        }
        prop_assert!(world.reuse_seen);
        prop_assert_eq!(world.row.1.ended, Some(Ending::Reused));
    }

    /// A revocation that has not been lost is final: whatever is read after it hands out nothing.
    #[test]
    fn what_is_revoked_stays_revoked(
        skews in skews(),
        before in prop::collection::vec(with_a_thief(), 1..60),
        after in prop::collection::vec(with_a_thief(), 1..60),
    ) {
        let mut world = World::new(skews);
        before.iter().for_each(|event| world.happen(event));
        world.revoke();
        let given = world.successors.clone();
        after.iter().for_each(|event| world.happen(event));
        world.settle();
        prop_assert!(world.revocation_lost || world.successors == given);
    }
}
