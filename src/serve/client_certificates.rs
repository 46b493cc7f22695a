//! The certificate that a client showed in the handshake: what it says, and whether it is still good, at each request.
//!
//! A connection may outlive its certificate, and the lists of those that were revoked. So what was found at the handshake
//! counts for nothing later: a request that needs the certificate asks again. What the answer was is remembered for the
//! connection, until the authorities or their lists change, or one of the moments comes at which it may be another.
mod read;

pub use read::{Unreadable, read};

use crate::config::settings::{AskedOfClients, ClientAuthority, ClientCertificates, Standing};
use decide::certificate::{Holders, Shown, field};
use decide::facts::{Answer, Credential, Identity};
use decide::headers::request::Certificates;
use decide::refusal::{Code, Refusal};
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most certificates that one client may show: its own, and those between it and an authority.
pub const MOST: usize = 6;
/// Most bytes of its own certificate.
pub const LEAF_BYTES: usize = 8 * 1024;
/// Most bytes of all of them.
pub const ALL_BYTES: usize = 24 * 1024;

/// What a client showed.
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    /// What its own certificate says.
    pub shown: Shown,
    /// When certificates of the chain begin and cease to be valid, seconds since the epoch.
    moments: Vec<u64>,
    known: Mutex<Vec<Known>>,
    fields: OnceLock<Option<(HeaderValue, Option<HeaderValue>)>>,
}

/// What was found under one entry of `client_certificates`.
struct Known {
    authority: Arc<ClientAuthority>,
    standing: Standing,
    /// The seconds in which it holds: from the first to before the second.
    holds: (u64, u64),
    holder: Option<(Arc<Holders>, Holder)>,
}

/// Who holds a certificate, or why it is nobody.
type Holder = Result<Arc<Identity>, &'static str>;

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presented").field("fingerprint", &self.shown.fingerprint).finish_non_exhaustive()
    }
}

/// What a certificate is worth to a route that asks for one of an entry.
#[derive(Debug)]
pub enum Worth {
    /// It says who somebody is, or that it no longer does.
    Decided(Answer),
    /// It is not one of those that are asked for, and may be one of others.
    Other(String),
}

impl Presented {
    /// What a client showed, its own certificate first. Chains that are longer or larger than they may be, and certificates
    /// that cannot be read, are refused.
    pub fn new(chain: &[CertificateDer<'_>]) -> Result<Presented, Unreadable> {
        let (shown, moments) = read(chain)?;
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        Ok(Presented { chain, shown, moments, known: Mutex::default(), fields: OnceLock::new() })
    }

    /// Whether an authority vouches for it at this moment.
    pub fn standing(&self, authority: &Arc<ClientAuthority>, now_s: u64) -> Standing {
        self.with(authority, now_s, |known| known.standing.clone())
    }

    /// Whether one of those that a listener accepts vouches for it at this moment, and what else is to be said of it.
    pub fn stands(&self, asked: &AskedOfClients, now_s: u64) -> Standing {
        let mut said = Standing::Strange("no authority of the listener vouches for it".to_owned());
        for authority in &asked.authorities {
            match (self.standing(authority, now_s), &said) {
                (Standing::Good, _) => return Standing::Good,
                // That one does not know it says less than what another says of it.
                (Standing::Strange(_), _) | (Standing::Unclear, Standing::Expired | Standing::Revoked) => {}
                (other, _) => said = other,
            }
        }
        said
    }

    /// Who holds it, in the eyes of an entry.
    pub fn worth(&self, certificates: &ClientCertificates, now_s: u64) -> Worth {
        let credential = |credential| Worth::Decided(Answer::Credential(credential));
        let name = &certificates.authority.name;
        self.with(&certificates.authority, now_s, |known| match &known.standing {
            Standing::Good => {
                let Some(holders) = &certificates.holders else {
                    return Worth::Other(format!("certificates of `{name}` are nobody"));
                };
                match known.holder(holders, &self.shown) {
                    Ok(identity) => {
                        let carrier = decide::facts::Carrier::Certificate;
                        credential(Credential::Valid { identity, carrier })
                    }
                    Err(cause) => Worth::Other(format!("`{name}`: {cause}")),
                }
            }
            Standing::Expired => credential(Credential::Expired("the certificate has expired".to_owned())),
            Standing::Revoked => credential(Credential::Revoked("the certificate was revoked".to_owned())),
            Standing::Strange(cause) => Worth::Other(format!("`{name}` does not vouch for the certificate: {cause}")),
            Standing::Unclear => Worth::Decided(Answer::Unavailable(unclear(name))),
        })
    }

    /// What applications are told of it (RFC 9440): its own certificate, and the others, where there are any.
    pub fn fields(&self, chain: bool) -> Option<Certificates<'_>> {
        let made = self.fields.get_or_init(|| {
            let (leaf, others) = self.chain.split_first()?;
            let value = |text: String| HeaderValue::try_from(text).ok();
            let others = (!others.is_empty()).then(|| field(others.iter().map(|one| one.as_ref())));
            Some((value(field(std::iter::once(leaf.as_ref())))?, others.and_then(value)))
        });
        let (leaf, others) = made.as_ref()?;
        Some(Certificates { leaf, chain: others.as_ref().filter(|_| chain) })
    }

    fn with<T>(&self, authority: &Arc<ClientAuthority>, now_s: u64, use_it: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter_mut().find(|known| known.authority.name == authority.name) {
            if !known.is_of(authority) || !(known.holds.0..known.holds.1).contains(&now_s) {
                *known = self.look(authority, now_s);
            }
            return use_it(known);
        }
        let mut known = self.look(authority, now_s);
        let result = use_it(&mut known);
        all.push(known);
        result
    }

    fn look(&self, authority: &Arc<ClientAuthority>, now_s: u64) -> Known {
        let moments = || self.moments.iter().copied().chain(authority.next_update_s);
        let from = moments().filter(|at| *at <= now_s).max().unwrap_or_default();
        let until = moments().filter(|at| *at > now_s).min().unwrap_or(u64::MAX);
        let standing = authority.judge(&self.chain, now_s);
        Known { authority: authority.clone(), standing, holds: (from, until), holder: None }
    }
}

impl Known {
    /// Whether it was found under this very authority. Each reload makes the same anew.
    fn is_of(&mut self, authority: &Arc<ClientAuthority>) -> bool {
        if Arc::ptr_eq(&self.authority, authority) {
            return true;
        }
        let same = self.authority == *authority;
        if same {
            self.authority = authority.clone();
        }
        same
    }

    fn holder(&mut self, holders: &Arc<Holders>, shown: &Shown) -> Holder {
        match &self.holder {
            Some((of, found)) if Arc::ptr_eq(of, holders) => found.clone(),
            Some(_) | None => {
                let found = holders.identify(shown).map(Arc::new);
                self.holder = Some((holders.clone(), found.clone()));
                found
            }
        }
    }
}

fn unclear(name: &str) -> String {
    format!(
        "whether the certificate was revoked cannot be told: a revocation list of `{name}` is out of date, or missing"
    )
}

/// Refuses a connection whose listener wants a certificate and has none, or none any more.
pub fn demand(asked: Option<&AskedOfClients>, presented: Option<&Presented>, now_s: u64) -> Result<(), Refusal> {
    let Some(asked) = asked.filter(|asked| asked.required) else { return Ok(()) };
    let denied = |cause: &'static str| Err(Refusal::new(Code::NetworkDenied, cause));
    let Some(presented) = presented else {
        return denied("the connection is older than the demand for a client certificate");
    };
    match presented.stands(asked, now_s) {
        Standing::Good => Ok(()),
        Standing::Expired => denied("the certificate of the connection has expired"),
        Standing::Revoked => denied("the certificate of the connection was revoked"),
        Standing::Strange(_) => denied("nobody vouches for the certificate of the connection any more"),
        Standing::Unclear => Err(Refusal::new(Code::GatewayUnavailable, unclear(&names(asked)))),
    }
}

/// What stands against the connection's holding the certificate that a token is bound to (RFC 8705, 3), which must be good
/// itself; `None` where it holds it.
pub fn objection(
    asked: Option<&AskedOfClients>,
    presented: Option<&Presented>,
    thumbprint: &str,
    now_s: u64,
) -> Option<Answer> {
    let invalid = |cause: &str| Some(Answer::Credential(Credential::Invalid(cause.to_owned())));
    let (Some(asked), Some(presented)) = (asked, presented) else {
        return invalid("the token is bound to a certificate, and the connection shows none");
    };
    if *presented.shown.thumbprint != *thumbprint {
        return invalid("the token is bound to another certificate");
    }
    match presented.stands(asked, now_s) {
        Standing::Good => None,
        Standing::Expired => invalid("the certificate that the token is bound to has expired"),
        Standing::Revoked => {
            let cause = "the certificate that the token is bound to was revoked".to_owned();
            Some(Answer::Credential(Credential::Revoked(cause)))
        }
        Standing::Strange(_) => invalid("nobody vouches for the certificate that the token is bound to"),
        Standing::Unclear => Some(Answer::Unavailable(unclear(&names(asked)))),
    }
}

fn names(asked: &AskedOfClients) -> String {
    asked.authorities.iter().map(|one| &*one.name).collect::<Vec<_>>().join("`, `")
}
