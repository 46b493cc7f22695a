//! One certificate pair: NAME.crt and NAME.key, read, checked against each other, and known by its names.
use crate::serve::tls::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Largest certificate or key file that is read, in bytes: a chain is a few kilobytes, a wrong file may be anything.
const LARGEST_FILE: u64 = 1 << 20;

/// One pair of the folder, ready to be presented.
#[derive(Debug)]
pub struct Certificate {
    /// NAME of the pair.
    pub name: Arc<str>,
    /// DNS names and addresses that it is valid for (subjectAltName), lowercase.
    pub names: Vec<Name>,
    /// Start of its validity, seconds since the epoch.
    pub not_before_s: i64,
    /// End of its validity, seconds since the epoch.
    pub not_after_s: i64,
    /// Kind of its key, such as `ECDSA P-256`.
    pub key_type: &'static str,
    pub(crate) key: Arc<CertifiedKey>,
    pub(super) digest: [u8; 32],
}

/// One name of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host name.
    Exact(String),
    /// `*.parent`: any single label below `parent` (RFC 9525, 6.3).
    Wildcard(String),
    /// An IP address.
    Address(IpAddr),
}

impl Name {
    /// Whether this name stands for `host`, a lowercase host without port and trailing dot.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Name::Exact(name) => name == host,
            Name::Wildcard(parent) => {
                host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
            }
            Name::Address(address) => {
                host.trim_start_matches('[').trim_end_matches(']').parse()
                    == Ok::<IpAddr, std::net::AddrParseError>(*address)
            }
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Exact(name) => f.write_str(name),
            Name::Wildcard(parent) => write!(f, "*.{parent}"),
            Name::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Certificate {
    /// SHA-256 of the leaf, lowercase hex.
    pub(super) fn fingerprint(&self) -> String {
        let leaf = self.key.cert.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the certificate is valid for `host`, a lowercase host without port and trailing dot.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| name.covers(host))
    }

    pub(super) fn valid_at(&self, now_s: i64) -> bool {
        self.not_before_s <= now_s && now_s <= self.not_after_s
    }
}

/// Something wrong with a file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertProblem {
    /// The file, or the folder itself.
    pub file: PathBuf,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl CertProblem {
    pub(super) fn new(file: &Path, message: impl Into<String>, hint: impl Into<String>) -> CertProblem {
        CertProblem { file: file.to_path_buf(), message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for CertProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (hint: {})", self.file.display(), self.message, self.hint)
    }
}

/// Reads the pair `name` of `dir`; where its files have not changed, the last good one is that very pair.
pub(super) fn read_pair(
    dir: &Path,
    name: &str,
    last_good: Option<&Arc<Certificate>>,
    warnings: &mut Vec<CertProblem>,
) -> Result<Arc<Certificate>, CertProblem> {
    let (crt, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let (chain_pem, key_pem) = (read(&crt)?, read(&key)?);
    if readable_by_others(&key) {
        warnings.push(CertProblem::new(&key, "every user of this machine may read this key", "chmod o-rwx"));
    }
    let digest = digest(&chain_pem, &key_pem);
    if let Some(last) = last_good.filter(|last| last.digest == digest) {
        note_validity(&crt, last, warnings);
        return Ok(last.clone());
    }
    let pair = Arc::new(parse_pair(name, &crt, &chain_pem, &key, &key_pem, digest)?);
    note_validity(&crt, &pair, warnings);
    Ok(pair)
}

fn read(file: &Path) -> Result<Vec<u8>, CertProblem> {
    use std::io::Read;
    let half = "a pair is NAME.crt and NAME.key, both readable by this process";
    let fail = |error: std::io::Error| CertProblem::new(file, format!("cannot be read: {error}"), half);
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(fail)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(CertProblem::new(file, "larger than 1 MiB", "a PEM file with one chain or one key is expected"));
    }
    Ok(bytes)
}

fn digest(chain_pem: &[u8], key_pem: &[u8]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(&(chain_pem.len() as u64).to_be_bytes());
    context.update(chain_pem);
    context.update(key_pem);
    context.finish().as_ref().try_into().unwrap_or_default()
}

fn parse_pair(
    name: &str,
    crt: &Path,
    chain_pem: &[u8],
    key_file: &Path,
    key_pem: &[u8],
    digest: [u8; 32],
) -> Result<Certificate, CertProblem> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CertProblem::new(crt, format!("not PEM: {e}"), "expected is a chain of CERTIFICATE blocks"))?;
    let leaf = chain
        .first()
        .ok_or_else(|| CertProblem::new(crt, "holds no certificate", "expected is a chain of CERTIFICATE blocks"))?;
    let facts = read_leaf(crt, leaf)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| CertProblem::new(key_file, "holds no private key", "expected is one PRIVATE KEY block in PEM"))?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        CertProblem::new(
            key_file,
            "this kind of key cannot be used",
            "use ECDSA P-256 or P-384, Ed25519, or RSA from 2048 bits",
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| {
        CertProblem::new(
            key_file,
            format!("the key does not belong to `{name}.crt`"),
            "replace both files together; the leaf certificate comes first in the chain",
        )
    })?;
    Ok(Certificate {
        name: name.into(),
        names: facts.names,
        not_before_s: facts.not_before_s,
        not_after_s: facts.not_after_s,
        key_type: facts.key_type,
        key: Arc::new(certified),
        digest,
    })
}

struct Leaf {
    names: Vec<Name>,
    not_before_s: i64,
    not_after_s: i64,
    key_type: &'static str,
}

fn read_leaf(crt: &Path, leaf: &CertificateDer<'_>) -> Result<Leaf, CertProblem> {
    use x509_parser::extensions::GeneralName;
    let broken = || CertProblem::new(crt, "is not an X.509 certificate", "expected is a chain of CERTIFICATE blocks");
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| broken())?;
    let alternative = parsed.subject_alternative_name().map_err(|_| broken())?;
    let mut names = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.extend(dns_name(name)),
            GeneralName::IPAddress(octets) => names.extend(address(octets)),
            // Mail addresses, directory names and URIs do not name a TLS server.
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::URI(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    if names.is_empty() {
        return Err(CertProblem::new(
            crt,
            "names no host in subjectAltName",
            "issue it with the host names as DNS entries; the common name does not count",
        ));
    }
    let validity = parsed.validity();
    Ok(Leaf {
        names,
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
        key_type: key_type(parsed.public_key()),
    })
}

/// The kinds of keys that the provider can use, by name.
fn key_type(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> &'static str {
    use x509_parser::public_key::PublicKey;
    match key.parsed() {
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => "ECDSA P-256",
            384 => "ECDSA P-384",
            521 | 528 => "ECDSA P-521",
            _ => "ECDSA",
        },
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            ..=2048 => "RSA 2048",
            2049..=3072 => "RSA 3072",
            3073..=4096 => "RSA 4096",
            4097.. => "RSA above 4096",
        },
        // RFC 8410: id-Ed25519 has no structure of its own.
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519",
        _ => "unknown",
    }
}

fn dns_name(name: &str) -> Option<Name> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let (wildcard, host) = match name.strip_prefix("*.") {
        Some(parent) => (true, parent),
        None => (false, name.as_str()),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    Some(if wildcard { Name::Wildcard(host.to_owned()) } else { Name::Exact(host.to_owned()) })
}

fn address(octets: &[u8]) -> Option<Name> {
    let address = <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()?;
    Some(Name::Address(address))
}

fn note_validity(crt: &Path, pair: &Certificate, warnings: &mut Vec<CertProblem>) {
    let now_s = now_s();
    if pair.not_after_s < now_s {
        warnings.push(CertProblem::new(crt, "has expired", "renew it; clients refuse it"));
    } else if pair.not_before_s > now_s {
        warnings.push(CertProblem::new(crt, "is not valid yet", "check its dates and this machine's clock"));
    }
}

#[cfg(unix)]
fn readable_by_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_file: &Path) -> bool {
    false
}

/// The wall clock in seconds since the epoch, the unit of validity.
pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
