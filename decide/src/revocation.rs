//! Ending sessions before their time: marks that say who is out, and whether an identity is one of them.
//!
//! A mark names what it ends by a [`Handle`], and says since when. Marks of users, tenants and issuers are *not before*
//! times: whoever signed in at that time or earlier is out, whoever signs in later is in again. So one small entry ends
//! any number of sessions, tokens of other issuers included, which no gateway could list. Marks of a token, a session or
//! a signing key have no such time: an id that was ended never comes back, and whoever holds a stolen key writes any
//! time of issue into a token.
//!
//! Marks only ever grow: two of one handle are merged into the later of both ([`Mark::merge`]), in any order, any number
//! of times. So replicas that have heard the same marks agree, however they heard them.
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// A time that does not come.
pub const NEVER: u64 = u64::MAX;

/// Issuer of the ids of sessions that the gateway itself opened, among [`Target::Session`].
pub const OWN_SESSIONS: &str = "moat:sessions";

/// Issuer of the ids of refresh families, among [`Target::Session`].
pub const FAMILIES: &str = "moat:families";

/// Length of a mark in bytes, as stores and replicas exchange it.
pub const MARK_BYTES: usize = 34;

/// First byte of a mark in bytes.
const VERSION: u8 = 1;

/// What a mark ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scope {
    /// One token, by its id.
    Token = 1,
    /// One session, with all its tokens.
    Session = 2,
    /// All sessions of one user.
    Subject = 3,
    /// All sessions of one tenant.
    Tenant = 4,
    /// All tokens that one key signed.
    Key = 5,
    /// All sessions of one issuer.
    Issuer = 6,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 6] =
        [Scope::Token, Scope::Session, Scope::Subject, Scope::Tenant, Scope::Key, Scope::Issuer];

    /// The word in metrics, entries and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Token => "token",
            Scope::Session => "session",
            Scope::Subject => "subject",
            Scope::Tenant => "tenant",
            Scope::Key => "key",
            Scope::Issuer => "issuer",
        }
    }

    /// Its place in [`Scope::ALL`].
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    fn of(number: u8) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| *scope as u8 == number)
    }

    /// Whether its marks are *not before* times.
    const fn spares_later(self) -> bool {
        match self {
            Scope::Subject | Scope::Tenant | Scope::Issuer => true,
            Scope::Token | Scope::Session | Scope::Key => false,
        }
    }
}

/// In which tenant a user is meant: equal names at one issuer may be different people in two tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within<'a> {
    /// In whichever: for the issuer's own word, and for operators.
    Anywhere,
    /// In this tenant only.
    Tenant(&'a str),
    /// Where the session belongs to no tenant.
    NoTenant,
}

/// What is to be ended. Issuers go by the `iss` of their tokens, not by a name in a file that may change; ways in
/// without tokens have a name of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A token by its `jti`.
    Token {
        /// Who issued it.
        issuer: &'a str,
        /// Its id.
        id: &'a str,
    },
    /// A session by its `sid`, or by our own id of it.
    Session {
        /// Who issued it; [`OWN_SESSIONS`] or [`FAMILIES`] for ours.
        issuer: &'a str,
        /// Its id.
        id: &'a str,
    },
    /// A user.
    Subject {
        /// Whose word the name is.
        issuer: &'a str,
        /// The name.
        subject: &'a str,
        /// Where.
        within: Within<'a>,
    },
    /// A tenant.
    Tenant {
        /// Its id.
        id: &'a str,
    },
    /// A key of an issuer, by its `kid`.
    Key {
        /// Whose key.
        issuer: &'a str,
        /// Its id.
        id: &'a str,
    },
    /// An issuer.
    Issuer {
        /// Its `iss`.
        issuer: &'a str,
    },
    /// Something that a verified identity has the handle of.
    Known {
        /// What kind of thing it is.
        scope: Scope,
        /// Its handle.
        handle: Handle,
    },
}

impl Target<'_> {
    /// What kind of thing it is.
    pub fn scope(&self) -> Scope {
        match self {
            Target::Token { .. } => Scope::Token,
            Target::Session { .. } => Scope::Session,
            Target::Subject { .. } => Scope::Subject,
            Target::Tenant { .. } => Scope::Tenant,
            Target::Key { .. } => Scope::Key,
            Target::Issuer { .. } => Scope::Issuer,
            Target::Known { scope, .. } => *scope,
        }
    }

    /// What its mark is found by.
    pub fn handle(&self) -> Handle {
        let hash = |parts: &[&str]| Handle::hash(self.scope(), parts);
        match *self {
            Target::Token { issuer, id } | Target::Session { issuer, id } | Target::Key { issuer, id } => {
                hash(&[issuer, id])
            }
            Target::Subject { issuer, subject, within } => match within {
                Within::Anywhere => hash(&[issuer, subject]),
                Within::Tenant(tenant) => hash(&[issuer, subject, "in", tenant]),
                Within::NoTenant => hash(&[issuer, subject, "in none"]),
            },
            Target::Tenant { id } => hash(&[id]),
            Target::Issuer { issuer } => hash(&[issuer]),
            Target::Known { handle, .. } => handle,
        }
    }
}

/// What a mark is found by: half of a SHA-256 over what it names. Equal on all replicas; users choose some of what it is
/// made from, hence a hash that nobody can make two of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Handle([u8; 16]);

impl Handle {
    /// Each part with its length before it, so that no two lists of parts are the same bytes.
    fn hash(scope: Scope, parts: &[&str]) -> Handle {
        let length: usize = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
        // In one piece: a context of the digest costs more than the digest of so little.
        let mut message = Vec::with_capacity(1 + length);
        message.push(scope as u8);
        for part in parts {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        let mut handle = [0; 16];
        handle.iter_mut().zip(digest(&SHA256, &message).as_ref()).for_each(|(to, from)| *to = *from);
        Handle(handle)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for Handle {
    fn from(bytes: [u8; 16]) -> Handle {
        Handle(bytes)
    }
}

/// 32 hex digits.
impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({self})")
    }
}

/// From whose word an identity is, to be ended by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// Who vouches for it: `iss` of a token, or the name of a way in without tokens.
    pub issuer: &'a str,
    /// The user.
    pub subject: &'a str,
    /// The tenant that the session belongs to.
    pub tenant: Option<&'a str>,
    /// The issuer's id of the session (`sid`), as it says it.
    pub session: Option<&'a str>,
    /// The id of the token (`jti`), or of an API key.
    pub token: Option<&'a str>,
    /// The id of the key that signed (`kid`), or of an API key with its set.
    pub key: Option<&'a str>,
}

/// All that a verified identity can be ended by: made once, when it is verified, so that no request hashes anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handles {
    token: Option<Handle>,
    session: Option<Handle>,
    /// The session that the gateway itself holds, if one does.
    own: Option<Handle>,
    subject: Handle,
    subject_within: Handle,
    tenant: Option<Handle>,
    key: Option<Handle>,
    issuer: Handle,
}

impl Handles {
    /// Of an identity from this source.
    pub fn of(source: &Source<'_>) -> Handles {
        let Source { issuer, subject, .. } = *source;
        let within = source.tenant.map_or(Within::NoTenant, Within::Tenant);
        Handles {
            token: source.token.map(|id| Target::Token { issuer, id }.handle()),
            session: source.session.map(|id| Target::Session { issuer, id }.handle()),
            own: None,
            subject: Target::Subject { issuer, subject, within: Within::Anywhere }.handle(),
            subject_within: Target::Subject { issuer, subject, within }.handle(),
            tenant: source.tenant.map(|id| Target::Tenant { id }.handle()),
            key: source.key.map(|id| Target::Key { issuer, id }.handle()),
            issuer: Target::Issuer { issuer }.handle(),
        }
    }

    /// The same for a session of ours that was opened by it: it ends with what it came from, and by our own id of it.
    /// `kind` is [`OWN_SESSIONS`] or [`FAMILIES`].
    pub fn held_as(mut self, kind: &str, id: &str) -> Handles {
        self.own = Some(Target::Session { issuer: kind, id }.handle());
        self
    }

    /// A number that is spread as hashes are, and tells users, sessions and tokens apart, though not for certain.
    pub fn number(&self) -> u64 {
        let of = |handle: &Handle| handle.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let sessions = [self.session, self.own, self.token].into_iter().flatten();
        sessions.fold(of(&self.subject_within), |number, session| number ^ of(&session))
    }

    /// What ends all sessions of the user in the tenant: what users may end themselves.
    pub fn everywhere(&self) -> Target<'static> {
        Target::Known { scope: Scope::Subject, handle: self.subject_within }
    }

    /// What ends the session that the gateway holds, where it holds one.
    pub fn held(&self) -> Option<Target<'static>> {
        self.own.map(|handle| Target::Known { scope: Scope::Session, handle })
    }

    /// The same for an access token of ours: it ends by its own id and key, not by those of the token that it came from.
    pub fn signed_as(mut self, issuer: &str, token: &str, key: Option<&str>) -> Handles {
        self.token = Some(Target::Token { issuer, id: token }.handle());
        self.key = key.map(|id| Target::Key { issuer, id }.handle());
        self
    }

    /// Whether this is among them.
    pub fn has(&self, target: &Target<'_>) -> bool {
        let (scope, handle) = (target.scope(), target.handle());
        self.each().into_iter().any(|(known, one)| known == scope && one == Some(&handle))
    }

    /// Whether it is a session that the gateway itself opened.
    pub fn is_held(&self) -> bool {
        self.own.is_some()
    }

    /// As a token of ours carries them: a bit for each that may be missing, then those that there are.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Handles { token, session, own, subject, subject_within, tenant, key, issuer } = self;
        let optional = [token, session, own, tenant, key];
        let bits = optional.iter().zip(0..).fold(0_u8, |bits, (one, place)| bits | (u8::from(one.is_some()) << place));
        let present = optional.into_iter().flatten().chain([subject, subject_within, issuer]);
        std::iter::once(bits).chain(present.flat_map(|handle| handle.0)).collect()
    }

    /// What [`Handles::to_bytes`] made; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Handles> {
        let (bits, rest) = bytes.split_first()?;
        let (handles, []) = rest.as_chunks::<16>() else { return None };
        let mut handles = handles.iter().map(|bytes| Handle(*bytes));
        let mut next = |place: u8| if bits & (1 << place) == 0 { Some(None) } else { handles.next().map(Some) };
        let (token, session, own, tenant, key) = (next(0)?, next(1)?, next(2)?, next(3)?, next(4)?);
        let (subject, subject_within, issuer) = (handles.next()?, handles.next()?, handles.next()?);
        if *bits >= 1 << 5 || handles.next().is_some() {
            return None;
        }
        Some(Handles { token, session, own, subject, subject_within, tenant, key, issuer })
    }

    /// Those that there are, with what each stands for.
    fn each(&self) -> [(Scope, Option<&Handle>); 8] {
        [
            (Scope::Token, self.token.as_ref()),
            (Scope::Session, self.own.as_ref()),
            (Scope::Session, self.session.as_ref()),
            (Scope::Subject, Some(&self.subject_within)),
            (Scope::Subject, Some(&self.subject)),
            (Scope::Tenant, self.tenant.as_ref()),
            (Scope::Key, self.key.as_ref()),
            (Scope::Issuer, Some(&self.issuer)),
        ]
    }

    /// By what an identity is out that signed in at `began_s`; `None` where it is not. `find` says until when whoever
    /// signed in is out by the mark of a handle, where there is one.
    ///
    /// The second of the mark itself counts as before it: tokens tell whole seconds, and one of the same second may be
    /// older than the mark.
    pub fn ended(&self, began_s: u64, find: impl Fn(Scope, &Handle) -> Option<u64>) -> Option<Scope> {
        let ends = |(scope, handle): (Scope, Option<&Handle>)| {
            let not_before_s = find(scope, handle?)?;
            (began_s <= not_before_s).then_some(scope)
        };
        self.each().into_iter().find_map(ends)
    }
}

/// When whoever is named signed in, as far as it is told: refreshed tokens keep the time of authentication, so that a
/// thief's do not outlive the mark.
pub fn began_s(auth_time: Option<u64>, issued_at: u64) -> u64 {
    auth_time.map_or(issued_at, |at| at.min(issued_at))
}

/// Something that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What kind of thing.
    pub scope: Scope,
    /// Which.
    pub handle: Handle,
    /// Whoever signed in in this second or before is out, seconds since the epoch; [`NEVER`] leaves nobody in.
    pub not_before_s: u64,
    /// From when on nothing that it ends can be alive, so that it may be forgotten; [`NEVER`] is never.
    pub until_s: u64,
}

impl Mark {
    /// Ends the target as of `at_ms`. `tolerance_s` is how far the clocks of issuers and replicas may be ahead of ours:
    /// whoever seems to have signed in within it is out too. `until_s` is when the last session that it ends is over.
    ///
    /// A mark of a key stands for ever: what a stolen key signs may say that it was signed at any time, for any time.
    pub fn of(target: &Target<'_>, at_ms: u64, tolerance_s: u64, until_s: u64) -> Mark {
        let scope = target.scope();
        let later = if scope.spares_later() { (at_ms / 1000).saturating_add(tolerance_s) } else { NEVER };
        let until_s = match scope {
            Scope::Key => NEVER,
            Scope::Token | Scope::Session | Scope::Subject | Scope::Tenant | Scope::Issuer => until_s,
        };
        Mark { scope, handle: target.handle(), not_before_s: later, until_s }
    }

    /// Whether it ends an identity that signed in at `began_s`.
    pub fn ends(&self, handles: &Handles, began_s: u64) -> bool {
        let find =
            |scope, handle: &Handle| (scope == self.scope && *handle == self.handle).then_some(self.not_before_s);
        handles.ended(began_s, find).is_some()
    }

    /// Both in one: out is who is out by either, for as long as either says.
    pub fn merge(self, other: Mark) -> Mark {
        Mark {
            not_before_s: self.not_before_s.max(other.not_before_s),
            until_s: self.until_s.max(other.until_s),
            ..self
        }
    }

    /// Whether it may be forgotten.
    pub fn is_over(&self, now_s: u64) -> bool {
        self.until_s <= now_s
    }

    /// As stores keep it and replicas send it: version, scope, handle, both times in big-endian.
    pub fn to_bytes(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let parts = [VERSION, self.scope as u8]
            .into_iter()
            .chain(self.handle.0)
            .chain(self.not_before_s.to_be_bytes())
            .chain(self.until_s.to_be_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// What [`Mark::to_bytes`] made; `None` for anything else, another version's marks included.
    pub fn from_bytes(bytes: &[u8]) -> Option<Mark> {
        let bytes: &[u8; MARK_BYTES] = bytes.try_into().ok()?;
        let ([version, scope], rest) = bytes.split_first_chunk::<2>()?;
        let (handle, rest) = rest.split_first_chunk::<16>()?;
        let (not_before, until) = rest.split_first_chunk::<8>()?;
        if *version != VERSION {
            return None;
        }
        Some(Mark {
            scope: Scope::of(*scope)?,
            handle: Handle(*handle),
            not_before_s: u64::from_be_bytes(*not_before),
            until_s: u64::from_be_bytes(until.try_into().ok()?),
        })
    }
}
