//! Patterns of names in certificates: SPIFFE IDs, host names and mail addresses, each by the rules of its kind.
use std::fmt;

/// Longest SPIFFE ID, in bytes (SPIFFE-ID, 2.3), and longest trust domain.
const SPIFFE_ID: (usize, usize) = (2048, 255);
/// Where a name's tenant stands.
const TENANT: &str = "{tenant}";

/// Of what kind a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `spiffe://trust.domain/path`
    Spiffe,
    /// A host name.
    Dns,
    /// A mail address.
    Email,
}

/// A pattern, of which the text is kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// Trust domain, pieces of the path, and whether anything may follow them.
    Spiffe { domain: Box<str>, path: Vec<Piece>, open: bool },
    /// The first label, and the rest.
    Dns { first: Piece, parent: Box<str> },
    /// What stands before `@` (anything where absent), and after it.
    Email { local: Option<Box<str>>, domain: Box<str> },
}

/// One segment of a path, or one label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Just(Box<str>),
    Any,
    Tenant,
}

/// What a pattern finds in a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caught<'n> {
    /// Another name.
    Nothing,
    /// It is one of those that are meant.
    Name,
    /// The same, and it names its tenant.
    Tenant(&'n str),
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WrongPattern {
    /// What is wrong with it.
    pub message: &'static str,
    /// What would be right.
    pub hint: &'static str,
}

impl Piece {
    /// `None` for a text that can be no such piece.
    fn read(text: &str, plain: impl Fn(&str) -> bool) -> Option<Piece> {
        match text {
            "*" => Some(Piece::Any),
            TENANT => Some(Piece::Tenant),
            just => plain(just).then(|| Piece::Just(just.into())),
        }
    }
}

impl Pattern {
    /// `spiffe://example.org/ns/*/sa/{tenant}`: the trust domain stands there in full, `*` is one segment, `{tenant}` one
    /// that names the tenant, and `/**` at the end any that follow, at least one.
    pub fn spiffe(text: &str) -> Result<Pattern, WrongPattern> {
        let wrong = |message| WrongPattern {
            message,
            hint: "write the trust domain in full and at least one segment: `spiffe://example.org/ns/*/sa/*`",
        };
        let rest = text.strip_prefix("spiffe://").ok_or(wrong("it does not begin with `spiffe://`"))?;
        let (domain, path) = rest.split_once('/').ok_or(wrong("it is a trust domain and nobody within it"))?;
        if !is_trust_domain(domain) {
            return Err(wrong("this is no trust domain"));
        }
        let mut segments: Vec<&str> = path.split('/').collect();
        let open = segments.last() == Some(&"**");
        if open {
            segments.pop();
        }
        let path: Option<Vec<Piece>> = segments.into_iter().map(|text| Piece::read(text, is_segment)).collect();
        let path = path.ok_or(wrong("this is no path of SPIFFE IDs"))?;
        if path.iter().filter(|piece| **piece == Piece::Tenant).count() > 1 {
            return Err(wrong("`{tenant}` stands twice"));
        }
        Ok(Pattern { text: text.into(), shape: Shape::Spiffe { domain: domain.into(), path, open } })
    }

    /// `api.partner.example`, or `*.partner.example` and `{tenant}.partner.example` for any one label.
    pub fn dns(text: &str) -> Result<Pattern, WrongPattern> {
        let wrong = |message| WrongPattern { message, hint: "write `api.partner.example` or `*.partner.example`" };
        let lower = text.to_ascii_lowercase();
        let (first, parent) = lower.split_once('.').ok_or(wrong("it is one label alone"))?;
        let first = Piece::read(first, is_label).ok_or(wrong("this is no host name"))?;
        if !parent.split('.').all(is_label) || text.len() > 253 {
            return Err(wrong("this is no host name"));
        }
        if first != Piece::Just(lower.split('.').next().unwrap_or_default().into()) && !parent.contains('.') {
            return Err(wrong("it is everybody below a top-level domain"));
        }
        Ok(Pattern { text: text.into(), shape: Shape::Dns { first, parent: parent.into() } })
    }

    /// `ops@partner.example`, or `*@partner.example` for any mailbox of the domain.
    pub fn email(text: &str) -> Result<Pattern, WrongPattern> {
        let wrong = |message| WrongPattern { message, hint: "write `ops@partner.example` or `*@partner.example`" };
        let (local, domain) = text.rsplit_once('@').ok_or(wrong("it has no `@`"))?;
        let local = match local {
            "*" => None,
            just if is_mailbox(just) => Some(just.into()),
            _ => return Err(wrong("this is no mail address")),
        };
        let domain = domain.to_ascii_lowercase();
        if !domain.contains('.') || !domain.split('.').all(is_label) {
            return Err(wrong("this is no domain"));
        }
        Ok(Pattern { text: text.into(), shape: Shape::Email { local, domain: domain.into() } })
    }

    /// Of what kind are the names that it is about.
    pub fn kind(&self) -> Kind {
        match self.shape {
            Shape::Spiffe { .. } => Kind::Spiffe,
            Shape::Dns { .. } => Kind::Dns,
            Shape::Email { .. } => Kind::Email,
        }
    }

    /// Whether names that it matches name their tenant.
    pub fn names_tenant(&self) -> bool {
        match &self.shape {
            Shape::Spiffe { path, .. } => path.contains(&Piece::Tenant),
            Shape::Dns { first, .. } => *first == Piece::Tenant,
            Shape::Email { .. } => false,
        }
    }

    /// What it finds in a name of its kind.
    pub(super) fn catch<'n>(&self, name: &'n str) -> Caught<'n> {
        let caught = match &self.shape {
            Shape::Spiffe { domain, path, open } => catch_spiffe(name, domain, path, *open),
            Shape::Dns { first, parent } => catch_dns(name, first, parent),
            Shape::Email { local, domain } => catch_email(name, local.as_deref(), domain),
        };
        caught.unwrap_or(Caught::Nothing)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn catch_spiffe<'n>(name: &'n str, domain: &str, path: &[Piece], open: bool) -> Option<Caught<'n>> {
    let (found, rest) = spiffe_id(name)?;
    if found != domain {
        return None;
    }
    let mut segments = rest.split('/');
    let mut caught = Caught::Name;
    for piece in path {
        let segment = segments.next()?;
        match piece {
            Piece::Just(text) if **text == *segment => {}
            Piece::Just(_) => return None,
            Piece::Any => {}
            Piece::Tenant => caught = Caught::Tenant(segment),
        }
    }
    (segments.next().is_some() == open).then_some(caught)
}

/// A name with a star in it is a certificate for many hosts, and so for nobody.
fn catch_dns<'n>(name: &'n str, first: &Piece, parent: &str) -> Option<Caught<'n>> {
    let (label, rest) = name.split_once('.')?;
    if !rest.eq_ignore_ascii_case(parent) || !is_label(label) {
        return None;
    }
    match first {
        Piece::Just(text) => text.eq_ignore_ascii_case(label).then_some(Caught::Name),
        Piece::Any => Some(Caught::Name),
        // Tenants are written in lowercase; a name that is not would be a second spelling of one.
        Piece::Tenant => (!label.bytes().any(|b| b.is_ascii_uppercase())).then_some(Caught::Tenant(label)),
    }
}

/// The mailbox byte for byte, the domain in any case (RFC 5280, 7.5).
fn catch_email<'n>(name: &'n str, local: Option<&str>, domain: &str) -> Option<Caught<'n>> {
    let (mailbox, host) = name.rsplit_once('@')?;
    let fits = is_mailbox(mailbox) && local.is_none_or(|local| local == mailbox) && host.eq_ignore_ascii_case(domain);
    fits.then_some(Caught::Name)
}

/// Trust domain and path of a SPIFFE ID that names a workload: no port, user, query or fragment, nothing percent-encoded,
/// no empty segment, `.` or `..` (SPIFFE-ID, 2); one without path names the trust domain itself, and nobody in it
/// (X509-SVID, 3.1).
pub(super) fn spiffe_id(uri: &str) -> Option<(&str, &str)> {
    if uri.len() > SPIFFE_ID.0 {
        return None;
    }
    let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    (is_trust_domain(domain) && path.split('/').all(is_segment)).then_some((domain, path))
}

fn is_trust_domain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= SPIFFE_ID.1 && text.bytes().all(plain)
}

fn is_segment(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(plain)
}

fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

/// Letters, digits and marks of RFC 5321, 4.1.2 without quotes.
fn is_mailbox(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}
