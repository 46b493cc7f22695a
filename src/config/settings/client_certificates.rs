//! Client certificates as compiled: the authorities that vouch for them, ready to be asked.
use decide::certificate::Holders;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DistinguishedName, Error};
use std::sync::Arc;
use std::time::Duration;

/// One of `client_certificates:`.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// Who vouches for them.
    pub authority: Arc<ClientAuthority>,
    /// Whom they are taken for; `None` for nobody.
    pub holders: Option<Arc<Holders>>,
}

/// Authorities and their revocation lists. Two are equal where they were made of the same certificates and lists.
pub struct ClientAuthority {
    /// The name under `client_certificates`.
    pub name: Arc<str>,
    /// SHA-256 over the authorities.
    pub roots: [u8; 32],
    /// The same over their lists.
    pub lists: [u8; 32],
    /// When the first of its lists is out of date, seconds since the epoch; `None` without lists.
    pub next_update_s: Option<u64>,
    /// Accepts certificates whose revocation is told by a list that is not out of date.
    pub strict: Arc<dyn ClientCertVerifier>,
    /// The same, but takes a list that is out of date for the last word.
    pub late: Arc<dyn ClientCertVerifier>,
}

/// What is to be said of a certificate now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An authority vouches for it.
    Good,
    /// Its time is over, or that of one that vouches for it.
    Expired,
    /// It was revoked, or one that vouches for it.
    Revoked,
    /// No authority vouches for it.
    Strange(String),
    /// Whether it was revoked cannot be told: the list is out of date, or there is none of one of its authorities.
    Unclear,
}

impl ClientAuthority {
    /// Looks at a chain, the client's own certificate first.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now_s: u64) -> Standing {
        match run(&*self.strict, chain, now_s) {
            Ok(()) => Standing::Good,
            // What an old list says is revoked stays so.
            Err(error) if is_late(&error) => {
                run(&*self.late, chain, now_s).map_or_else(standing, |()| Standing::Unclear)
            }
            Err(error) => standing(error),
        }
    }

    /// The same in the words of TLS, for the handshake: a list that is out of date is no reason to refuse it. The requests
    /// that follow are.
    pub fn admit(&self, chain: &[CertificateDer<'_>], now_s: u64) -> Result<(), Error> {
        match run(&*self.strict, chain, now_s) {
            Err(error) if is_late(&error) => run(&*self.late, chain, now_s),
            other => other,
        }
    }

    /// Names of the authorities, to help clients choose.
    pub fn hints(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }
}

fn is_late(error: &Error) -> bool {
    use CertificateError::{ExpiredRevocationList, ExpiredRevocationListContext};
    matches!(error, Error::InvalidCertificate(ExpiredRevocationList | ExpiredRevocationListContext { .. }))
}

fn standing(error: Error) -> Standing {
    use CertificateError::{Expired, ExpiredContext, Revoked, UnknownRevocationStatus};
    match error {
        Error::InvalidCertificate(Revoked) => Standing::Revoked,
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => Standing::Expired,
        // There is no list of an authority in the chain, or one that it has not signed.
        Error::InvalidCertificate(UnknownRevocationStatus) | Error::InvalidCertRevocationList(_) => Standing::Unclear,
        error if is_late(&error) => Standing::Unclear,
        other => Standing::Strange(other.to_string()),
    }
}

fn run(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>], now_s: u64) -> Result<(), Error> {
    let (leaf, between) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    verifier.verify_client_cert(leaf, between, now).map(|_| ())
}

impl PartialEq for ClientAuthority {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.roots == other.roots && self.lists == other.lists
    }
}

impl Eq for ClientAuthority {}

impl std::fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAuthority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a listener asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedOfClients {
    /// Whose certificates are good.
    pub authorities: Vec<Arc<ClientAuthority>>,
    /// Whether there must be one.
    pub required: bool,
}
