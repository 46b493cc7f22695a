//! Client certificates: what one says of its holder, and whom a set of rules takes it for.
//!
//! Whether an authority vouches for a certificate is asked before, by the shell. Only its names count (subjectAltName):
//! what stands in the common name is text that nobody reads (RFC 9525, 1.2 and 2).
mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::{Kind, Pattern, WrongPattern};

use crate::facts::{Identity, Person};
use crate::revocation::{Handles, Source};
use crate::rules::is_tenant_id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pattern::{Caught, spiffe_id};
use std::collections::HashMap;
use std::sync::Arc;

/// Longest name of a certificate that anybody is known by, in bytes: longer ones are no word for a header.
pub const MAX_NAME_BYTES: usize = 256;

/// What a certificate says that somebody has shown, and holds the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// SHA-256 of the certificate, lowercase hex.
    pub fingerprint: Arc<str>,
    /// The same in base64url: what `cnf.x5t#S256` of a token must equal (RFC 8705, 3.1).
    pub thumbprint: Arc<str>,
    /// When it begins to be valid, seconds since the epoch.
    pub not_before_s: u64,
    /// From when on it no longer is, seconds since the epoch.
    pub expires_at_s: u64,
    /// Whether it may sign others: basicConstraints says so, or keyUsage.
    pub signs: bool,
    /// Its names of kind `uniformResourceIdentifier`, as they stand there.
    pub uris: Vec<Box<str>>,
    /// Its names of kind `dNSName`.
    pub dns: Vec<Box<str>>,
    /// Its names of kind `rfc822Name`.
    pub emails: Vec<Box<str>>,
}

/// `client_certificates.NAME:` whom certificates are taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// NAME, which stands for an issuer.
    pub name: Arc<str>,
    /// Names of which a certificate must hold one.
    pub patterns: Vec<Pattern>,
    /// What the holder is called.
    pub subject: Subject,
    /// Whose the holder is.
    pub tenant: Tenant,
    /// What the holder may do.
    pub roles: Vec<Arc<str>>,
}

/// What a holder is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The name that matched, whole.
    Name,
    /// The fingerprint: each certificate is somebody by itself.
    Fingerprint,
}

/// Whose a holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// Nobody's.
    None,
    /// This tenant's.
    Fixed(Arc<str>),
    /// What stands in the place of `{tenant}`.
    Caught,
    /// As this list of names says; whoever is not in it is not let in.
    Map(HashMap<Box<str>, Arc<str>>),
}

impl Holders {
    /// Whom a certificate is taken for that an authority vouches for. The cause of a refusal repeats none of its names.
    pub fn identify(&self, shown: &Shown) -> Result<Identity, &'static str> {
        if shown.signs {
            return Err("the certificate is one of an authority");
        }
        let (name, caught) = self.matching(shown)?;
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err("the name of the certificate is too long, or no text");
        }
        let tenant = match &self.tenant {
            Tenant::None => None,
            Tenant::Fixed(tenant) => Some(tenant.clone()),
            Tenant::Caught => {
                let tenant = caught.filter(|tenant| is_tenant_id(tenant)).ok_or("the certificate names no tenant")?;
                Some(Arc::from(tenant))
            }
            Tenant::Map(map) => Some(map.get(name).ok_or("the certificate's name has no tenant")?.clone()),
        };
        let subject: Arc<str> = match self.subject {
            Subject::Name => name.into(),
            Subject::Fingerprint => shown.fingerprint.clone(),
        };
        let source = Source {
            issuer: &self.name,
            subject: &subject,
            tenant: tenant.as_deref(),
            key: Some(&shown.fingerprint),
            ..Source::default()
        };
        let handles = Handles::of(&source);
        Ok(Identity {
            issuer: self.name.clone(),
            subject: Person(subject),
            tenant,
            roles: self.roles.clone(),
            session: Some(shown.fingerprint.clone()),
            // That a program or browser has a key says nothing of when its user was last asked.
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            issued_at: shown.not_before_s,
            not_before: shown.not_before_s,
            expires_at: shown.expires_at_s,
            bound_to: None,
            scopes: None,
            handles,
        })
    }

    /// The one name that fits, and the tenant in it. Two that fit are two people, or two tenants: nobody says which of
    /// them is meant.
    fn matching<'s>(&self, shown: &'s Shown) -> Result<(&'s str, Option<&'s str>), &'static str> {
        let mut found: Option<(&str, Option<&str>)> = None;
        for pattern in &self.patterns {
            let names = match pattern.kind() {
                Kind::Spiffe => match shown.uris.as_slice() {
                    [] => continue,
                    [uri] if spiffe_id(uri).is_some() => &shown.uris,
                    [_] => return Err("the URI of the certificate is no SPIFFE ID"),
                    _ => return Err("the certificate holds more than one URI"),
                },
                Kind::Dns => &shown.dns,
                Kind::Email => &shown.emails,
            };
            for name in names.iter() {
                let tenant = match pattern.catch(name) {
                    Caught::Nothing => continue,
                    Caught::Name => None,
                    Caught::Tenant(tenant) => Some(tenant),
                };
                match found {
                    Some((known, seat)) if *known != **name || seat != tenant => {
                        return Err("several names of the certificate match");
                    }
                    Some(_) | None => found = Some((name, tenant)),
                }
            }
        }
        found.ok_or("no name of the certificate matches")
    }
}

/// Which certificates of a client an application is told (RFC 9440).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// None.
    #[default]
    Nothing,
    /// The client's own, in `Client-Cert`.
    Leaf,
    /// And those that it showed with it, in `Client-Cert-Chain`.
    Chain,
}

/// Certificates as a structured field: each a byte sequence (RFC 8941, 3.3.5), several of them a list (RFC 9440, 2.2 and
/// 2.3). The result is visible ASCII.
pub fn field<'c>(certificates: impl Iterator<Item = &'c [u8]>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push(':');
        STANDARD.encode_string(certificate, &mut text);
        text.push(':');
    }
    text
}
