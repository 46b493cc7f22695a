//! What an HTTP/2 client sends, held against its budgets.
use super::bucket::Bucket;
use super::flood::Flood;
use super::path::{self, Walker};
use super::splitter::{Frame, Kind, Splitter};
use std::time::Duration;

/// What a client begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Flow-control window of a connection and of a stream, unless something else is said (RFC 9113, 6.9.2).
const DEFAULT_WINDOW: u32 = 65_535;
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
const INITIAL_WINDOW_SIZE: u32 = 4;
/// Bytes of a setting.
const SETTING: usize = 6;
/// More settings in one frame than this cost as much as so many frames: no client has more to say.
const SETTINGS_OF_A_FRAME: usize = 16;
/// The greatest payload of a frame, as we announce nothing else (RFC 9113, 6.5.2): header blocks are cut at it.
const FRAME: usize = 16_384;
/// Frames that a header block may come in beyond those that it needs. The codec has a bound of its own above this.
const MORE_FRAMES: usize = 3;
/// Seconds whose allowance of WINDOW_UPDATE may be used at once: they come in bursts, for bursts of an answer.
const UPDATE_SECONDS: u32 = 4;
/// A window smaller than this is as good as closed.
const AJAR: i64 = 1024;
/// Bytes of an answer that give occasion for one WINDOW_UPDATE: eager clients send two for each small message.
const BYTES_PER_UPDATE: f64 = 16.0;

/// What a client may do in a second, and at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// RST_STREAM frames.
    pub resets_per_second: u32,
    /// PING, SETTINGS, PRIORITY, empty and unknown frames, so many of each.
    pub control_per_second: u32,
    /// WINDOW_UPDATE frames beyond those that our answers give occasion for.
    pub window_updates_per_second: u32,
    /// Bytes of a header block as it comes, compressed.
    pub block_bytes: usize,
    /// Streams that may be refused for being beyond the announced number.
    pub refused_streams: u32,
}

/// A header block that is not complete.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    frames: usize,
    bytes: usize,
    open: bool,
}

/// Reads along with what is received.
#[derive(Debug)]
pub struct Inbound {
    splitter: Splitter,
    /// How much of the preface has passed.
    begun: usize,
    ledger: Ledger,
    walker: Walker,
    in_headers: bool,
}

/// What the frames so far add up to.
#[derive(Debug)]
struct Ledger {
    resets: Bucket,
    pings: Bucket,
    settings: Bucket,
    priorities: Bucket,
    updates: Bucket,
    empty: Bucket,
    unknown: Bucket,
    block_bytes: usize,
    block: Block,
    /// The greatest stream that was opened.
    newest: u32,
    /// Streams that were opened.
    opened: u32,
    /// What the client lets us send on the connection.
    window: i64,
    stream_window: u32,
    /// The greatest piece by which it has opened the window of a stream.
    widest: u32,
}

impl Inbound {
    /// Before the first byte, at `now`: time since any moment, the same for [`Inbound::note`].
    pub fn new(limits: &Limits, now: Duration) -> Inbound {
        let each = |per_second: u32| Bucket::new(per_second, f64::from(per_second), now);
        let (control, updates) = (limits.control_per_second, limits.window_updates_per_second);
        let ledger = Ledger {
            resets: each(limits.resets_per_second),
            pings: each(control),
            settings: each(control),
            priorities: each(control),
            updates: Bucket::new(updates.saturating_mul(UPDATE_SECONDS), f64::from(updates), now),
            empty: each(control),
            unknown: each(control),
            block_bytes: limits.block_bytes,
            block: Block::default(),
            newest: 0,
            opened: 0,
            window: i64::from(DEFAULT_WINDOW),
            stream_window: DEFAULT_WINDOW,
            widest: 0,
        };
        Inbound { splitter: Splitter::new(), begun: 0, ledger, walker: Walker::new(), in_headers: false }
    }

    /// Takes note of received bytes, in order and without gaps. `clock` is asked only where a budget is used up. After an error
    /// nothing more is to be noted.
    pub fn note(&mut self, clock: fn() -> Duration, mut bytes: &[u8]) -> Result<(), Flood> {
        if let Some(owed) = PREFACE.get(self.begun..).filter(|owed| !owed.is_empty()) {
            let piece = owed.len().min(bytes.len());
            if owed.get(..piece) != bytes.get(..piece) {
                return Err(Flood::NoPreface);
            }
            self.begun += piece;
            bytes = bytes.get(piece..).unwrap_or_default();
        }
        loop {
            if self.in_headers {
                let piece = self.splitter.payload(&mut bytes);
                self.walker.take(piece).map_err(|path::Fragment| Flood::Fragment)?;
            }
            let Some(frame) = self.splitter.next(&mut bytes) else { break };
            match frame.kind {
                Kind::Headers => self.walker.begin(frame.flags, frame.length),
                Kind::Continuation => self.walker.go_on(frame.length),
                _ => {}
            }
            self.in_headers = matches!(frame.kind, Kind::Headers | Kind::Continuation);
            self.ledger.judge(&frame, clock)?;
        }
        self.in_headers = self.ledger.block.open || (self.in_headers && self.splitter.in_payload());
        Ok(())
    }

    /// Takes note of a DATA frame that we sent.
    pub fn answered(&mut self, bytes: u32) {
        self.ledger.answered(bytes);
    }

    /// Whether the bytes so far end within a header block, or within one of its frames.
    pub const fn in_headers(&self) -> bool {
        self.in_headers
    }

    /// Streams that were opened.
    pub const fn opened(&self) -> u32 {
        self.ledger.opened
    }

    /// Whether the client lets hardly anything through: on the connection, or on any stream of it.
    pub fn is_shut(&self) -> bool {
        self.ledger.is_shut()
    }
}

impl Ledger {
    fn judge(&mut self, frame: &Frame<'_>, clock: fn() -> Duration) -> Result<(), Flood> {
        let within = |allowed: bool, flood| if allowed { Ok(()) } else { Err(flood) };
        match frame.kind {
            Kind::Data if frame.is_last_or_ack() || !frame.is_empty_data() => Ok(()),
            Kind::Data => within(self.empty.take(1.0, clock), Flood::EmptyFrames),
            Kind::Headers => {
                if frame.stream > self.newest {
                    (self.newest, self.opened) = (frame.stream, self.opened.wrapping_add(1));
                    // Clients that order their requests, or open a window for each, say so once or twice a request.
                    self.priorities.earn(2.0);
                    self.updates.earn(2.0);
                }
                self.block = Block::default();
                self.of_block(frame)
            }
            Kind::Continuation => {
                if frame.length == 0 && !self.empty.take(1.0, clock) {
                    return Err(Flood::EmptyFrames);
                }
                self.of_block(frame)
            }
            Kind::Priority => within(self.priorities.take(1.0, clock), Flood::Priorities),
            Kind::Reset => within(self.resets.take(1.0, clock), Flood::Resets),
            Kind::Settings if frame.is_last_or_ack() => Ok(()),
            Kind::Settings => {
                self.learn(frame.peek);
                let frames = 1 + frame.length / SETTING / SETTINGS_OF_A_FRAME;
                within(self.settings.take(u32::try_from(frames).map_or(f64::MAX, f64::from), clock), Flood::Settings)
            }
            Kind::Ping if frame.is_last_or_ack() => Ok(()),
            Kind::Ping => within(self.pings.take(1.0, clock), Flood::Pings),
            Kind::WindowUpdate => {
                let wider = frame.number(0).unwrap_or_default() & 0x7fff_ffff;
                if frame.stream == 0 {
                    self.window = self.window.saturating_add(i64::from(wider));
                } else {
                    self.widest = self.widest.max(wider);
                }
                within(self.updates.take(1.0, clock), Flood::WindowUpdates)
            }
            Kind::GoAway | Kind::Other => within(self.unknown.take(1.0, clock), Flood::UnknownFrames),
        }
    }

    fn of_block(&mut self, frame: &Frame<'_>) -> Result<(), Flood> {
        self.block.frames += 1;
        self.block.bytes += frame.length;
        self.block.open = !frame.ends_headers();
        let frames = self.block_bytes / FRAME + MORE_FRAMES;
        // The codec answers what is too large, up to a bound of its own; beyond that there is nothing to be answered.
        let fits = self.block.frames <= frames && self.block.bytes <= self.block_bytes.saturating_mul(2);
        if fits { Ok(()) } else { Err(Flood::HeaderBlock) }
    }

    fn learn(&mut self, settings: &[u8]) {
        for setting in settings.chunks_exact(SETTING) {
            let [a, b, w, x, y, z] = setting else { continue };
            if u32::from_be_bytes([0, 0, *a, *b]) == INITIAL_WINDOW_SIZE {
                self.stream_window = u32::from_be_bytes([*w, *x, *y, *z]);
            }
        }
    }

    fn answered(&mut self, bytes: u32) {
        self.window = self.window.saturating_sub(i64::from(bytes));
        self.updates.earn(f64::from(bytes) / BYTES_PER_UPDATE);
        // Some clients measure the way while an answer comes in.
        self.pings.earn(1.0);
    }

    fn is_shut(&self) -> bool {
        let narrow = |window: u32| i64::from(window) < AJAR;
        self.window < AJAR || (narrow(self.stream_window) && narrow(self.widest))
    }
}

#[cfg(test)]
pub mod tests;
