//! A limit as compiled: whom it counts, what a request costs, and what happens to what is too much.
use crate::facts::Stage;
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// A limit of `rate-limits.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name.
    pub name: Arc<str>,
    /// What it counts by.
    pub key: Vec<KeyPart>,
    /// Rates by tenant class; one for all where there is a single element. A limit without any, and without
    /// `concurrent`, refuses everything.
    pub rates: Vec<Rate>,
    /// Requests of one key that may be under way at once, by tenant class as the rates; any number where it is empty.
    pub concurrent: Vec<u32>,
    /// What a request takes from the rate before it is forwarded, at least 1.
    pub cost: u32,
    /// What is put right once the answer is known.
    pub settle: Settle,
    /// What happens to a request beyond the rate.
    pub excess: Excess,
    /// Most bytes of a body that are read to find a field to count by.
    pub inspect: usize,
    /// Whether clients are told in `X-RateLimit-*` too.
    pub legacy: bool,
    /// Counted and recorded, not enforced.
    pub shadow: bool,
    /// How its counts are shared with other replicas; `None` where each counts alone.
    pub sharing: Option<Sharing>,
}

/// How replicas share the counts of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How exactly.
    pub mode: SharingMode,
    /// What holds while the store is silent.
    pub on_store_loss: StoreLoss,
}

/// How exactly counts are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingMode {
    /// Each replica decides by itself, and brings the counts of busy keys together several times a second.
    Synced,
    /// The store decides about each request.
    Strict,
}

/// What becomes of requests while the store that a limit needs is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreLoss {
    /// Refused: `gateway.unavailable`.
    Closed,
    /// Counted by each replica alone, against its share of the rate.
    Local,
    /// Not limited.
    Open,
}

/// What a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// Address prefix: /32 for IPv4, /64 for IPv6.
    ClientPrefix,
    /// The tenant.
    Tenant,
    /// Tenant's user (issuer and subject).
    Subject,
    /// The API key.
    ApiKey,
    /// The route.
    Route,
    /// A parameter of the route's path.
    Param(Box<str>),
    /// The keyed hash of a field of the body.
    Field(FieldKey),
}

/// A field of a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldKey {
    /// In which kind of body it stands.
    pub source: FieldSource,
    /// Its name; in JSON the names on the way to it, joined by dots.
    pub name: Box<str>,
}

/// The kind of body that a field stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldSource {
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/json`
    Json,
    /// Either, as the request says.
    Any,
}

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per period.
    pub count: u32,
    /// The period, seconds.
    pub period_s: u32,
    /// Requests allowed at once.
    pub burst: u32,
}

/// What is put right once the answer is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Settle {
    /// Nothing: a request costs what it took.
    #[default]
    Never,
    /// Only answers of the application with one of these statuses count; for others the cost is given back.
    Status(Statuses),
    /// The application says what the request cost in this field of its answer, up to `max`. Clients never see it.
    Header {
        /// Name of the field.
        name: HeaderName,
        /// The most that is charged.
        max: u32,
    },
    /// One for each begun `each` bytes of the answer's body, up to `max`.
    Bytes {
        /// Bytes, at least 1.
        each: u64,
        /// The most that is charged.
        max: u32,
    },
}

/// A set of HTTP statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Those in any of these ranges, both ends included.
    pub fn new(ranges: Vec<(u16, u16)>) -> Statuses {
        Statuses(ranges)
    }

    /// Every answer that says no: 4xx and 5xx.
    pub fn failures() -> Statuses {
        Statuses(vec![(400, 599)])
    }

    /// Whether a status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// What happens to a request beyond the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Excess {
    /// `quota.exceeded`.
    #[default]
    Refuse,
    /// It waits for its turn, and is refused only where too many wait already.
    Delay {
        /// One request of a key passes in this time.
        each: Duration,
        /// Requests of a key that may wait at once, at least 1.
        waiting: u32,
    },
}

/// Most bytes of a body that are read unless told otherwise.
pub const INSPECT: usize = 16 * 1024;

impl Limit {
    /// A limit of one kind of rate that refuses what is too much: every request costs one.
    pub fn new(name: &str, key: Vec<KeyPart>, rates: Vec<Rate>) -> Limit {
        Limit {
            name: name.into(),
            key,
            rates,
            concurrent: Vec::new(),
            cost: 1,
            settle: Settle::Never,
            excess: Excess::Refuse,
            inspect: INSPECT,
            legacy: false,
            shadow: false,
            sharing: None,
        }
    }

    /// When it is counted: limits that name tenant or subject wait until the caller is known, and those that name a
    /// field of the body until everything else has passed.
    pub fn stage(&self) -> Stage {
        let mut stage = Stage::Address;
        for part in &self.key {
            match part {
                KeyPart::ClientPrefix | KeyPart::Route | KeyPart::Param(_) => {}
                KeyPart::Tenant | KeyPart::Subject | KeyPart::ApiKey => stage = Stage::Caller,
                KeyPart::Field(_) => return Stage::Body,
            }
        }
        stage
    }

    /// The fields of the body that it counts by.
    pub fn fields(&self) -> impl Iterator<Item = &FieldKey> {
        self.key.iter().filter_map(|part| match part {
            KeyPart::Field(field) => Some(field),
            KeyPart::ClientPrefix
            | KeyPart::Tenant
            | KeyPart::Subject
            | KeyPart::ApiKey
            | KeyPart::Route
            | KeyPart::Param(_) => None,
        })
    }

    /// The rate for a tenant of this class.
    pub fn rate(&self, class: Option<usize>) -> Option<Rate> {
        of_class(&self.rates, class)
    }

    /// How many requests of a tenant of this class may be under way.
    pub fn cap(&self, class: Option<usize>) -> Option<u32> {
        of_class(&self.concurrent, class)
    }
}

/// What is written once is for all; of several the one of the class, or the first where there is no class.
fn of_class<T: Copy>(written: &[T], class: Option<usize>) -> Option<T> {
    match written {
        [] => None,
        [one] => Some(*one),
        many => class.and_then(|class| many.get(class)).or(many.first()).copied(),
    }
}
