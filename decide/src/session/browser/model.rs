//! A check of the session's life against random histories: a browser with one jar, a thief, replicas with caches of
//! their own, answers that arrive late or never, crashes, and a store that loses its last write.
//!
//! What is assumed, and documented: a request is under way for less than the leeway; an answer that has left arrives within half the leeway, or never; a store that fails over
//! loses what was written in the last moment, not an ending that was acknowledged before.
use super::*;
use proptest::prelude::*;

const RULES: Rules = Rules { idle_ms: 100_000, absolute_ms: u64::MAX / 2, leeway_ms: 100, every_ms: None };
/// How long a replica goes by what it has read.
const FRESH_MS: u64 = 50;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// The browser sends a request to a replica.
    Send(usize),
    /// The browser sends a request that is a while under way.
    Leave,
    /// Such a request reaches a replica.
    Reach(usize, usize),
    /// An answer under way leaves its replica, so much later than its request came.
    Arrive(usize),
    /// An answer is lost.
    Lose(usize),
    /// Time passes.
    Wait(u64),
    /// A replica writes what it has put off.
    Flush(usize),
    /// A replica dies with what it knew.
    Crash(usize),
    /// The store falls back to before its last write.
    FailOver,
    /// Somebody copies the jar.
    Steal,
    /// The thief sends a request to a replica.
    Misuse(usize),
    /// An operator ends the session.
    Revoke,
}

#[derive(Clone, Debug, Default)]
struct Replica {
    known: Option<(Life, u64)>,
    /// What was presented, and when, of which the row is to learn.
    put_off: Vec<(u32, u64)>,
}

struct World {
    now: u64,
    row: Life,
    before: Life,
    replicas: [Replica; 2],
    jar: u32,
    loot: Option<u32>,
    /// Requests under way: what they carry, and when they left.
    under_way: Vec<(u32, u64)>,
    /// Answers with handles, and when their requests came.
    answers: Vec<(u32, u64)>,
    handed: Vec<u32>,
    seen: u32,
    misused: bool,
    revoked_at: Option<u64>,
}

impl World {
    fn new() -> World {
        let life = Life::open(0);
        World {
            now: 0,
            row: life.clone(),
            before: life,
            replicas: Default::default(),
            jar: 1,
            loot: None,
            under_way: Vec::new(),
            answers: Vec::new(),
            handed: vec![1],
            seen: 0,
            misused: false,
            revoked_at: None,
        }
    }

    fn write(&mut self, life: Life) {
        if life != self.row {
            self.before = std::mem::replace(&mut self.row, life);
        }
    }

    /// As the shell does: what is fresh decides a read, and nobody is refused by what may be old.
    fn request(&mut self, replica: usize, presented: u32) -> Use {
        let now = self.now;
        let fresh = |known: &Option<(Life, u64)>| known.clone().filter(|(_, at)| now - at < FRESH_MS);
        let (life, at) = fresh(&self.replicas[replica].known).unwrap_or((self.row.clone(), now));
        let mut verdict = (life.present(presented, now, &RULES), at);
        if !matches!(verdict.0, Use::Good { .. }) {
            verdict = (self.row.present(presented, now, &RULES), now);
        }
        match &verdict.0 {
            Use::Good { life, hand } => {
                self.replicas[replica].known = Some((life.clone(), verdict.1));
                self.replicas[replica].put_off.push((presented, now));
                self.seen = self.seen.max(presented);
                self.handed.extend(*hand);
            }
            Use::Reused(life) => {
                self.write(life.clone());
                self.replicas[replica] = Replica::default();
            }
            Use::Over(_) => self.replicas[replica] = Replica::default(),
        }
        verdict.0
    }

    /// A request of the browser's.
    fn browse(&mut self, replica: usize, carried: u32) -> Result<(), TestCaseError> {
        let said = self.request(replica, carried);
        match &said {
            Use::Good { hand, .. } => self.answers.extend(hand.map(|hand| (hand, self.now))),
            Use::Reused(_) | Use::Over(_) => {
                let expected = self.misused || self.revoked_at.is_some();
                prop_assert!(expected, "an honest browser was refused: {said:?}");
            }
        }
        self.never_after_revocation(&said)
    }

    fn flush(&mut self, replica: usize) {
        for (presented, at) in std::mem::take(&mut self.replicas[replica].put_off) {
            if let Use::Good { life, .. } = self.row.present(presented, at, &RULES) {
                self.write(life);
            }
        }
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        match act {
            Act::Send(replica) => self.browse(replica, self.jar)?,
            Act::Leave => self.under_way.push((self.jar, self.now)),
            Act::Reach(index, replica) if !self.under_way.is_empty() => {
                let (carried, left) = self.under_way.remove(index % self.under_way.len());
                if self.now - left < RULES.leeway_ms {
                    self.browse(replica, carried)?;
                }
            }
            Act::Reach(..) => {}
            Act::Misuse(replica) => {
                let Some(loot) = self.loot else { return Ok(()) };
                self.misused = true;
                let said = self.request(replica, loot);
                if let Use::Good { hand: Some(hand), .. } = &said {
                    self.loot = Some(*hand);
                }
                self.never_after_revocation(&said)?;
            }
            Act::Arrive(index) if !self.answers.is_empty() => {
                let (hand, came) = self.answers.remove(index % self.answers.len());
                // It left within half the leeway, or carries nothing; and was as long on its way at most.
                if self.now - came < RULES.carry_ms() * 2 {
                    self.jar = hand;
                }
            }
            Act::Lose(index) if !self.answers.is_empty() => {
                self.answers.remove(index % self.answers.len());
            }
            Act::Arrive(_) | Act::Lose(_) => {}
            Act::Wait(ms) => self.now += ms,
            Act::Flush(replica) => self.flush(replica),
            Act::Crash(replica) => self.replicas[replica] = Replica::default(),
            Act::FailOver if self.row.ended.is_none() => self.row = self.before.clone(),
            Act::FailOver => {}
            Act::Steal => self.loot = Some(self.jar),
            Act::Revoke => {
                self.write(self.row.end(Ending::Revoked));
                self.revoked_at.get_or_insert(self.now);
            }
        }
        // One live successor: of what was handed out, at most one is beyond everything that came back.
        let beyond: std::collections::BTreeSet<u32> = self.handed.iter().copied().filter(|h| *h > self.seen).collect();
        prop_assert!(beyond.len() <= 1, "several successors: {beyond:?}");
        Ok(())
    }

    fn never_after_revocation(&self, said: &Use) -> Result<(), TestCaseError> {
        let late = self.revoked_at.is_some_and(|at| self.now >= at + FRESH_MS);
        prop_assert!(!(late && matches!(said, Use::Good { .. })), "accepted after it was revoked");
        Ok(())
    }
}

fn act(theft: bool) -> BoxedStrategy<Act> {
    let replica = 0..2usize;
    let honest = prop_oneof![
        6 => replica.clone().prop_map(Act::Send),
        2 => Just(Act::Leave),
        2 => (0..4usize, replica.clone()).prop_map(|(index, replica)| Act::Reach(index, replica)),
        4 => (0..4usize).prop_map(Act::Arrive),
        1 => (0..4usize).prop_map(Act::Lose),
        4 => prop_oneof![Just(1), Just(20), Just(60), Just(110), Just(250), Just(5000)].prop_map(Act::Wait),
        3 => replica.clone().prop_map(Act::Flush),
        1 => replica.clone().prop_map(Act::Crash),
        1 => Just(Act::FailOver),
    ];
    if !theft {
        return honest.boxed();
    }
    prop_oneof![
        12 => honest,
        1 => Just(Act::Steal),
        3 => replica.prop_map(Act::Misuse),
        1 => Just(Act::Revoke),
    ]
    .boxed()
}

fn run(acts: Vec<Act>) -> Result<World, TestCaseError> {
    let mut world = World::new();
    for one in acts {
        world.act(one)?;
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever is late, lost or crashed: nobody who is alone with a session is sent away.
    #[test]
    fn an_honest_browser_is_never_logged_out_by_a_race(acts in prop::collection::vec(act(false), 1..120)) {
        run(acts)?;
    }

    /// With thieves and operators at work: one successor at a time, and no way back after the end.
    #[test]
    fn there_is_one_successor_and_no_way_back(acts in prop::collection::vec(act(true), 1..120)) {
        run(acts)?;
    }

    /// Two that go on with copies of one handle are found out once one of them has used the successor for longer than the
    /// leeway, unless writes were lost.
    #[test]
    fn a_copy_gives_itself_away(thief_first in any::<bool>(), pauses in prop::collection::vec(1..400u64, 4..20)) {
        let mut world = World::new();
        world.act(Act::Send(0))?;
        world.act(Act::Steal)?;
        world.act(Act::Wait(RULES.leeway_ms * 2))?;
        // One of them goes on, again and again; the other comes back after a while.
        for pause in &pauses {
            world.act(if thief_first { Act::Misuse(0) } else { Act::Send(0) })?;
            world.act(Act::Arrive(0))?;
            world.act(Act::Flush(0))?;
            world.act(Act::Wait(RULES.leeway_ms * 2 + pause))?;
        }
        let other = if thief_first { world.jar } else { world.loot.unwrap() };
        world.misused = true;
        let said = world.request(1, other);
        prop_assert!(matches!(said, Use::Reused(_)), "{:?}", said);
        prop_assert!(matches!(world.request(0, world.seen), Use::Over(Over::Ended(Ending::Reused))) || world.replicas[0].known.is_some());
    }
}
