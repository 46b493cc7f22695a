//! What engines keep: records by kind and key, and where one stands in the feed.

/// The longest key, in bytes.
pub const MAX_KEY: usize = 256;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 64 << 10;
/// The longest note of the feed, in bytes.
pub const MAX_NOTE: usize = 4 << 10;
/// The expiry of what never expires.
pub const NEVER: u64 = u64::MAX;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A gateway session.
    Session,
    /// A family of refresh tokens.
    Family,
    /// A revocation: what is not valid if it is older.
    Mark,
    /// An API key.
    ApiKey,
    /// What may be seen once only: token ids of proofs, logout tokens, codes.
    Once,
    /// A sign-in under way.
    SignIn,
    /// A second factor.
    Factor,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::Session, Kind::Family, Kind::Mark, Kind::ApiKey, Kind::Once, Kind::SignIn, Kind::Factor];

    /// Its word in metrics, table names and keys.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Session => "session",
            Kind::Family => "family",
            Kind::Mark => "mark",
            Kind::ApiKey => "api_key",
            Kind::Once => "once",
            Kind::SignIn => "sign_in",
            Kind::Factor => "factor",
        }
    }

    /// Stands in files and tables: never to be given to another kind.
    pub(super) const fn byte(self) -> u8 {
        match self {
            Kind::Session => 1,
            Kind::Family => 2,
            Kind::Mark => 3,
            Kind::ApiKey => 4,
            Kind::Once => 5,
            Kind::SignIn => 6,
            Kind::Factor => 7,
        }
    }

    pub(super) fn of_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What is kept under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which write it is of: drawn at random by [`super::State::put`]. To compare, not to count.
    pub version: u64,
    /// The content, sealed by its owner; at most [`MAX_VALUE`] bytes.
    pub value: Vec<u8>,
    /// From this time on it is not there any more: milliseconds since the Unix epoch, or [`NEVER`].
    pub expires_at_ms: u64,
    /// What [`super::State::list`] finds it by, such as a keyed hash of tenant and subject.
    pub index: Option<[u8; 32]>,
}

impl Record {
    /// To be written.
    pub fn new(value: Vec<u8>, expires_at_ms: u64) -> Record {
        Record { version: 0, value, expires_at_ms, index: None }
    }

    /// The same, to be found by an index.
    #[must_use]
    pub fn indexed(self, index: [u8; 32]) -> Record {
        Record { index: Some(index), ..self }
    }

    /// As it stands in files and in Redis: version and expiry, big-endian; one byte that says whether an index follows; the
    /// index; the value.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(49 + self.value.len());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.expires_at_ms.to_be_bytes());
        out.push(u8::from(self.index.is_some()));
        out.extend(self.index.iter().flatten());
        out.extend_from_slice(&self.value);
        out
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Record> {
        let (version, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (flag, rest) = rest.split_first()?;
        let (index, value) = match flag {
            0 => (None, rest),
            1 => rest.split_first_chunk::<32>().map(|(index, value)| (Some(*index), value))?,
            _ => return None,
        };
        let (version, expires_at_ms) = (u64::from_be_bytes(*version), u64::from_be_bytes(*expires));
        Some(Record { version, value: value.to_vec(), expires_at_ms, index })
    }

    /// Whether it is there at this time.
    pub fn lives(&self, now_ms: u64) -> bool {
        self.expires_at_ms > now_ms
    }
}

/// What must stand there for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing, or something that has expired.
    Absent,
    /// A record of this version.
    Version(u64),
    /// Whatever there is.
    Any,
}

impl Expect {
    /// Whether it is met by the living record.
    pub fn is_met(self, record: Option<&Record>) -> bool {
        match self {
            Expect::Absent => record.is_none(),
            Expect::Version(version) => record.is_some_and(|record| record.version == version),
            Expect::Any => true,
        }
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is written.
    Written {
        /// Its version.
        version: u64,
    },
    /// Something else stands there than was expected: this, or nothing.
    Conflict(Option<Record>),
}

impl Put {
    /// The `result` label of metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Put::Written { .. } => "ok",
            Put::Conflict(_) => "conflict",
        }
    }
}

/// A record and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: Vec<u8>,
    /// The record.
    pub record: Record,
}

/// A piece of all records of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Some of them; perhaps none, although more follow.
    pub found: Vec<Found>,
    /// From where the next piece begins; `None` after the last.
    pub next: Option<Vec<u8>>,
}

/// A place in the feed. The first is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u128);

/// What the feed tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Notes with their places, oldest first.
    pub notes: Vec<(Position, Vec<u8>)>,
    /// Whether something may be missing between where one stood and here.
    pub missed: bool,
}

/// A version that no other write has. Below 2^53, so that every engine can compare it.
pub(super) fn draw() -> u64 {
    let mut bytes = [0; 8];
    // aws-lc aborts the process where its generator cannot be seeded: an error does not come back.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    (u64::from_ne_bytes(bytes) >> 11).max(1)
}
