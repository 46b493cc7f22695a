//! What a certificate says, read from its DER.
use super::{ALL_BYTES, LEAF_BYTES, MOST};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use decide::certificate::Shown;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Most names of one certificate.
const NAMES: usize = 64;

/// Why certificates are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is none.
    #[error("no certificate")]
    None,
    /// More, or larger ones, than anybody needs.
    #[error("more or larger certificates than are looked at")]
    TooLarge,
    /// Not X.509, or with extensions that contradict each other.
    #[error("a certificate cannot be read")]
    Broken,
}

/// What the first of these certificates says, and at which moments any of them begins or ceases to be valid.
pub fn read(chain: &[CertificateDer<'_>]) -> Result<(Shown, Vec<u64>), Unreadable> {
    let leaf = chain.first().ok_or(Unreadable::None)?;
    let all: usize = chain.iter().map(|one| one.len()).sum();
    if chain.len() > MOST || leaf.len() > LEAF_BYTES || all > ALL_BYTES {
        return Err(Unreadable::TooLarge);
    }
    let parsed: Vec<X509Certificate<'_>> = chain.iter().map(|one| whole(one)).collect::<Result<_, _>>()?;
    let moments = parsed.iter().flat_map(|one| <[u64; 2]>::from(validity(one))).collect();
    let first = parsed.first().ok_or(Unreadable::None)?;
    Ok((shown(leaf, first)?, moments))
}

fn whole(der: &[u8]) -> Result<X509Certificate<'_>, Unreadable> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(Unreadable::Broken),
    }
}

/// From when on, and from when on no longer: what X.509 says is the last second that still counts.
fn validity(parsed: &X509Certificate<'_>) -> (u64, u64) {
    let seconds = |at: i64| u64::try_from(at).unwrap_or_default();
    let validity = parsed.validity();
    (seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp()).saturating_add(1))
}

fn shown(der: &[u8], parsed: &X509Certificate<'_>) -> Result<Shown, Unreadable> {
    let broken = |_| Unreadable::Broken;
    let authority = parsed.basic_constraints().map_err(broken)?.is_some_and(|one| one.value.ca);
    let usage = parsed.key_usage().map_err(broken)?;
    let signs = usage.is_some_and(|one| one.value.key_cert_sign() || one.value.crl_sign());
    let names = parsed.subject_alternative_name().map_err(broken)?;
    let names = names.map(|one| one.value.general_names.as_slice()).unwrap_or_default();
    if names.len() > NAMES {
        return Err(Unreadable::TooLarge);
    }
    let (mut uris, mut dns, mut emails) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::URI(text) => uris.push(Box::from(*text)),
            GeneralName::DNSName(text) => dns.push(Box::from(*text)),
            GeneralName::RFC822Name(text) => emails.push(Box::from(*text)),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    let hash = digest(&SHA256, der);
    let (not_before_s, expires_at_s) = validity(parsed);
    Ok(Shown {
        fingerprint: hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        thumbprint: URL_SAFE_NO_PAD.encode(hash).into(),
        not_before_s,
        expires_at_s,
        signs: authority || signs,
        uris,
        dns,
        emails,
    })
}
