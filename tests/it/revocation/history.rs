//! What was seen of several gateways while users were ended, and the checker that judges it.
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// One request of a user, and what became of it.
pub struct Ask {
    pub user: usize,
    pub replica: usize,
    pub began: Instant,
    pub answered: Instant,
    pub status: u16,
}

/// A stream of a user that was open when the history began.
pub struct Stream {
    pub user: usize,
    pub replica: usize,
    /// When it was closed; never, where nobody did.
    pub closed: Option<Instant>,
}

/// The end of a user.
#[derive(Clone, Copy)]
pub struct End {
    /// When the first order was given: from then on a user may be out.
    pub first: Instant,
    /// When an order was answered with success: from then on a user is out, as soon as every replica must know.
    pub done: Instant,
}

/// Within which a gateway has connected to a store that is back (docs/state.md): it hears of nobody's end before.
const RECONNECTS: Duration = Duration::from_secs(2);

/// All that was seen.
#[derive(Default)]
pub struct History {
    pub asks: Vec<Ask>,
    pub streams: Vec<Stream>,
    pub ends: BTreeMap<usize, End>,
    /// When the way of a replica to the store was whole again. Nothing can be heard before it is.
    pub mended: Vec<(usize, Instant)>,
}

/// Something that must not be.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A request was served although it began later than this after its user's end.
    Served { user: usize, replica: usize, late: Duration },
    /// A stream of a user stayed open for this long after the end, or after its replica could hear of it again.
    Open { user: usize, replica: usize, late: Duration },
    /// A stream of an ended user was never closed.
    NeverClosed { user: usize, replica: usize },
    /// A user whom nobody had ended was told to be out.
    Innocent { user: usize, replica: usize },
    /// An answer that none of this explains.
    Strange { user: usize, replica: usize, status: u16 },
}

/// What the checker has read.
#[derive(Debug, Default)]
pub struct Judgement {
    pub wrong: Vec<Wrong>,
    pub served: usize,
    /// Served, and begun after the end was done, within the bound.
    pub in_the_bound: usize,
    /// Asked after the end was done, whatever the answer.
    pub after: usize,
    pub unavailable: usize,
    pub worst: Duration,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} served, {} asked after their end, of whom {} were served within the bound ({:?} late at worst), {} told to come back",
            self.served, self.after, self.in_the_bound, self.worst, self.unavailable
        )
    }
}

impl History {
    /// Reads every answer and every stream: nobody is served, and no stream is open, for longer than `bound` after the end; and
    /// nobody is out who was not ended.
    pub fn judge(&self, bound: Duration) -> Judgement {
        let mut judgement = Judgement::default();
        for ask in &self.asks {
            self.judge_ask(ask, bound, &mut judgement);
        }
        for stream in &self.streams {
            let Some(end) = self.ends.get(&stream.user) else { continue };
            let (user, replica) = (stream.user, stream.replica);
            let Some(closed) = stream.closed else {
                judgement.wrong.push(Wrong::NeverClosed { user, replica });
                continue;
            };
            let mended =
                self.mended.iter().filter(|(at, when)| *at == replica && *when <= closed).map(|(_, when)| *when).max();
            let from = mended.map_or(end.done, |mended| end.done.max(mended + RECONNECTS));
            let late = closed.saturating_duration_since(from);
            if late > bound {
                judgement.wrong.push(Wrong::Open { user, replica, late });
            }
        }
        judgement
    }

    fn judge_ask(&self, ask: &Ask, bound: Duration, judgement: &mut Judgement) {
        let (user, replica) = (ask.user, ask.replica);
        let end = self.ends.get(&user);
        let late = end.and_then(|end| ask.began.checked_duration_since(end.done));
        judgement.after += usize::from(late.is_some());
        match ask.status {
            200 => {
                judgement.served += 1;
                let Some(late) = late else { return };
                judgement.worst = judgement.worst.max(late);
                if late > bound {
                    judgement.wrong.push(Wrong::Served { user, replica, late });
                } else {
                    judgement.in_the_bound += 1;
                }
            }
            503 => judgement.unavailable += 1,
            // An order that failed may have ended somebody all the same.
            401 if end.is_some_and(|end| end.first < ask.answered) => {}
            401 => judgement.wrong.push(Wrong::Innocent { user, replica }),
            status => judgement.wrong.push(Wrong::Strange { user, replica, status }),
        }
    }
}

const BOUND: Duration = Duration::from_secs(4);

/// A user ended at 10 s, with an order from 9 s on, and one request at this time with this answer.
fn seen(began_s: u64, status: u16) -> History {
    let start = Instant::now();
    let at = |s: u64| start + Duration::from_secs(s);
    let ask = Ask { user: 1, replica: 2, began: at(began_s), answered: at(began_s), status };
    let ends = BTreeMap::from([(1, End { first: at(9), done: at(10) })]);
    History { asks: vec![ask], ends, ..History::default() }
}

#[test]
fn the_checker_finds_a_request_that_was_served_beyond_the_bound() {
    assert_eq!(seen(14, 200).judge(BOUND).wrong, []);
    let late = Duration::from_secs(5);
    assert_eq!(seen(15, 200).judge(BOUND).wrong, [Wrong::Served { user: 1, replica: 2, late }]);
    // One among many, wherever it stands.
    let mut long = seen(8, 200);
    let end = long.ends[&1];
    let around = (0..40).map(|n| if n % 2 == 0 { (end.first, 200) } else { (end.done + BOUND * 2, 401) });
    long.asks.extend(around.map(|(began, status)| Ask { user: 1, replica: 2, began, answered: began, status }));
    assert_eq!(long.judge(BOUND).wrong, []);
    let began = long.ends[&1].done + late;
    long.asks.insert(20, Ask { user: 1, replica: 0, began, answered: began, status: 200 });
    assert_eq!(long.judge(BOUND).wrong, [Wrong::Served { user: 1, replica: 0, late }]);
}

#[test]
fn the_checker_finds_who_is_out_without_an_order_and_answers_of_another_kind() {
    assert_eq!(seen(11, 401).judge(BOUND).wrong, []);
    assert_eq!(seen(8, 401).judge(BOUND).wrong, [Wrong::Innocent { user: 1, replica: 2 }]);
    let mut never = seen(11, 401);
    never.ends.clear();
    assert_eq!(never.judge(BOUND).wrong, [Wrong::Innocent { user: 1, replica: 2 }]);
    assert_eq!(seen(11, 503).judge(BOUND).wrong, []);
    assert_eq!(seen(11, 502).judge(BOUND).wrong, [Wrong::Strange { user: 1, replica: 2, status: 502 }]);
}

#[test]
fn the_checker_finds_streams_that_stay() {
    let mut history = seen(11, 401);
    let done = history.ends[&1].done;
    let at = |s: u64| done + Duration::from_secs(s);
    let (in_time, late, mended) = (at(4), at(9), at(6));
    let judged = |history: &mut History, closed| {
        history.streams = vec![Stream { user: 1, replica: 2, closed }];
        history.judge(BOUND).wrong
    };
    assert_eq!(judged(&mut history, Some(in_time)), []);
    let open = |s| [Wrong::Open { user: 1, replica: 2, late: Duration::from_secs(s) }];
    assert_eq!(judged(&mut history, Some(late)), open(9));
    assert_eq!(judged(&mut history, None), [Wrong::NeverClosed { user: 1, replica: 2 }]);
    // Cut off from the store until six seconds after: then it has its bound from there, and others have not.
    history.mended = vec![(0, mended)];
    assert_eq!(judged(&mut history, Some(late)), open(9));
    history.mended = vec![(2, mended)];
    assert_eq!(judged(&mut history, Some(late)), []);
    assert_eq!(judged(&mut history, Some(late + Duration::from_secs(3))), []);
    assert_eq!(judged(&mut history, Some(late + Duration::from_secs(4))), open(5));
    // Whole again a second before: it may still be waiting with its next attempt.
    history.mended = vec![(2, at(0) - Duration::from_secs(1))];
    assert_eq!(judged(&mut history, Some(at(5))), []);
    assert_eq!(judged(&mut history, Some(at(6))), open(5));
}
