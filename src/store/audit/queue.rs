//! The way from requests to the writer: bodies one after the other in one buffer, so that a push allocates nothing.
use super::handover::Order;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long the writer lets entries gather that nobody waits for.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes at which it does not linger.
const PLENTY: usize = 256 << 10;

/// What an item is; also its class in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The entry of a request that has ended.
    Request,
    /// The entry of a state-changing request that is to be forwarded.
    Intent,
    /// What the gateway itself did or noticed.
    System,
}

/// Somebody who waits for an item.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Whether written is enough, or it must be synced.
    pub durable: bool,
    /// Told when it is; dropped where it never will be.
    pub done: oneshot::Sender<()>,
}

/// One body in the buffer.
#[derive(Debug)]
pub(super) struct Item {
    pub class: Class,
    pub len: usize,
    pub waiter: Option<Waiter>,
}

/// What was pushed and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub bytes: Vec<u8>,
    pub items: Vec<Item>,
}

impl Batch {
    /// Empties it, and keeps its memory unless a burst made it large.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(4 * PLENTY);
        self.items.clear();
        self.items.shrink_to(4096);
    }
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    order: Option<Order>,
    hurry: bool,
    closing: Option<Instant>,
    open_slots: usize,
    nudged: bool,
}

impl State {
    fn glance(&self) -> Glance {
        Glance { closing: self.closing, open_slots: self.open_slots }
    }
}

/// What the writer finds when it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    /// Until when slots may still come back, once the log is being closed.
    pub closing: Option<Instant>,
    /// Slots that are out.
    pub open_slots: usize,
}

impl Glance {
    /// Whether there is nothing left to wait for.
    pub fn last(self) -> bool {
        self.closing.is_some_and(|until| self.open_slots == 0 || Instant::now() >= until)
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    /// A panic cannot leave the state half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a slot that is given out.
    pub fn slot_opened(&self) {
        self.lock().open_slots += 1;
    }

    /// Takes back a slot whose request was counted with others.
    pub fn slot_closed(&self) {
        let mut state = self.lock();
        state.open_slots -= 1;
        let wake = state.closing.is_some();
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Appends a body. `closes_slot` takes back a slot in the same step, so that the writer never sees one without the
    /// other.
    pub fn push(&self, body: &[u8], class: Class, waiter: Option<Waiter>, closes_slot: bool) {
        let mut state = self.lock();
        let was_empty = state.batch.items.is_empty();
        let was_hurried = state.hurry;
        state.open_slots -= usize::from(closes_slot);
        state.batch.bytes.extend_from_slice(body);
        state.hurry |= waiter.is_some() || state.batch.bytes.len() >= PLENTY;
        state.batch.items.push(Item { class, len: body.len(), waiter });
        let wake = was_empty || state.hurry != was_hurried || state.closing.is_some();
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Has the writer look around, though there is nothing to write.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.wake.notify_one();
    }

    /// Lets the writer come to an end; slots may come back until then.
    pub fn close(&self, until: Instant) {
        self.lock().closing = Some(until);
        self.wake.notify_one();
    }

    /// Tells the writer about another process.
    pub fn order(&self, order: Order) {
        self.lock().order = Some(order);
        self.wake.notify_one();
    }

    /// What the writer was told, once.
    pub fn take_order(&self) -> Option<Order> {
        self.lock().order.take()
    }

    /// Waits until the writer is told something; `None` when the log is being closed instead.
    pub fn wait_for_order(&self) -> Option<Order> {
        let mut state = self.lock();
        while state.order.is_none() && state.closing.is_none() {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.order.take()
    }

    /// Waits until there is something, or until the given time, and takes all there is in exchange for `spare`. Once the
    /// log is being closed, also returns when no slot is out, or at the end of the grace.
    pub fn take(&self, until: Instant, spare: &mut Batch) -> Glance {
        let mut state = self.lock();
        let idle = |state: &State| state.batch.items.is_empty() && !state.nudged && state.order.is_none();
        while idle(&state) && !state.glance().last() {
            let now = Instant::now();
            let limit = state.closing.map_or(until, |end| end.min(until));
            if now >= limit {
                break;
            }
            state = self.wake.wait_timeout(state, limit - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.batch.items.is_empty() {
            let patient =
                |state: &mut State| !state.hurry && !state.nudged && state.order.is_none() && state.closing.is_none();
            state = self.wait(state, LINGER, patient);
        }
        state.hurry = false;
        state.nudged = false;
        std::mem::swap(&mut state.batch, spare);
        state.glance()
    }

    /// Waits without taking anything, or until an order or the end of the grace.
    pub fn pause(&self, time: Duration) -> Glance {
        let state = self.lock();
        let patient = |state: &mut State| state.order.is_none() && state.closing.is_none_or(|end| Instant::now() < end);
        self.wait(state, time, patient).glance()
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.wake.wait_timeout_while(state, time, condition).unwrap_or_else(PoisonError::into_inner).0
    }
}
