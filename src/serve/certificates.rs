//! Certificates from a folder: NAME.crt beside NAME.key, chosen by server name and swapped whole while running.
use super::tls::provider;
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    pub(crate) key: Arc<CertifiedKey>,
    digest: [u8; 32],
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
    fn fingerprint(&self) -> String {
        let leaf = self.key.cert.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the certificate is valid for `host`, a lowercase host without port and trailing dot.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| name.covers(host))
    }

    fn valid_at(&self, now_s: i64) -> bool {
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
    fn new(file: &Path, message: impl Into<String>, hint: impl Into<String>) -> CertProblem {
        CertProblem { file: file.to_path_buf(), message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for CertProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (hint: {})", self.file.display(), self.message, self.hint)
    }
}

/// What a refresh found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefreshReport {
    /// NAMEs of pairs that are new or were replaced.
    pub changed: Vec<String>,
    /// NAMEs of pairs that are gone.
    pub removed: Vec<String>,
    /// Pairs that could not be used; where there was a good one before, it is kept.
    pub problems: Vec<CertProblem>,
    /// What works and should be looked at: expired pairs, keys that others may read.
    pub warnings: Vec<CertProblem>,
}

/// A pair, for the status page and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertStatus {
    /// NAME of the pair.
    pub name: Arc<str>,
    /// Its names, `*.` for wildcards.
    pub names: Vec<String>,
    /// Start of validity, seconds since the epoch.
    pub not_before_s: i64,
    /// End of validity, seconds since the epoch.
    pub not_after_s: i64,
    /// Whether it is valid now.
    pub valid: bool,
    /// Whether it is presented to clients without a known server name.
    pub default: bool,
    /// SHA-256 of the leaf, lowercase hex.
    pub fingerprint: String,
}

/// All pairs of one moment.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    pub(crate) generation: u64,
    pub(crate) entries: Vec<Arc<Certificate>>,
    exact: HashMap<String, usize>,
    wildcard: HashMap<String, usize>,
    default: Option<usize>,
}

impl Certificates {
    fn new(generation: u64, mut entries: Vec<Arc<Certificate>>, default: Option<&str>, now_s: i64) -> Certificates {
        // Where two pairs have a name in common, the valid one wins, then the one that lasts longer.
        entries.sort_by_key(|c| (!c.valid_at(now_s), std::cmp::Reverse(c.not_after_s), c.name.clone()));
        let mut all = Certificates { generation, ..Certificates::default() };
        for (at, entry) in entries.iter().enumerate() {
            for name in &entry.names {
                match name {
                    Name::Exact(host) => all.exact.entry(host.clone()).or_insert(at),
                    Name::Wildcard(parent) => all.wildcard.entry(parent.clone()).or_insert(at),
                    // A server name is never an address (RFC 6066, 3).
                    Name::Address(_) => continue,
                };
            }
        }
        all.default = default.and_then(|name| entries.iter().position(|c| &*c.name == name));
        all.entries = entries;
        all
    }

    /// The pair for a server name (lowercase): exact before wildcard before the default one. Its index in `entries`.
    pub(crate) fn find(&self, server_name: Option<&str>) -> Option<usize> {
        let named = server_name.and_then(|host| {
            let parent = host.split_once('.').map(|(_, parent)| parent).unwrap_or_default();
            self.exact.get(host).or_else(|| self.wildcard.get(parent)).copied()
        });
        named.or(self.default)
    }
}

/// The folder's certificates, replaced atomically by [`CertStore::refresh`].
pub struct CertStore {
    dir: PathBuf,
    default: Option<String>,
    current: ArcSwap<Certificates>,
    generations: AtomicU64,
    refreshing: Mutex<()>,
}

impl std::fmt::Debug for CertStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertStore").field("dir", &self.dir).field("default", &self.default).finish_non_exhaustive()
    }
}

impl CertStore {
    /// Reads every pair of `dir`; `default` is the NAME of the pair for clients without a known server name, `None`
    /// refuses them. At the start every bad pair counts: all problems are reported and nothing is loaded.
    pub fn load(dir: &Path, default: Option<&str>) -> Result<CertStore, Vec<CertProblem>> {
        let (store, report) = CertStore::open(dir, default);
        for warning in &report.warnings {
            tracing::warn!(file = %warning.file.display(), hint = warning.hint, "{}", warning.message);
        }
        if report.problems.is_empty() { Ok(store) } else { Err(report.problems) }
    }

    fn open(dir: &Path, default: Option<&str>) -> (CertStore, RefreshReport) {
        let store = CertStore {
            dir: dir.to_path_buf(),
            default: default.map(str::to_owned),
            current: ArcSwap::default(),
            generations: AtomicU64::new(0),
            refreshing: Mutex::new(()),
        };
        let mut report = store.refresh();
        if report.problems.is_empty() && store.current.load().entries.is_empty() {
            report.problems.push(CertProblem::new(
                dir,
                "no certificate in this folder",
                "put NAME.crt and NAME.key there, or run `moat certs dev`",
            ));
        }
        if let Some(name) = default
            && report.problems.is_empty()
            && store.current.load().default.is_none()
        {
            report.problems.push(CertProblem::new(
                &dir.join(format!("{name}.crt")),
                format!("the default certificate `{name}` is not in this folder"),
                "set `tls.default_certificate` to the NAME of a pair, or to `none`",
            ));
        }
        (store, report)
    }

    /// Reads the folder again and swaps the certificates if anything changed. A pair that cannot be used is reported,
    /// and the last good one of that NAME stays; so does the default pair when its files vanish.
    pub fn refresh(&self) -> RefreshReport {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = RefreshReport::default();
        let found = match pairs(&self.dir) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("cannot read the folder: {error}");
                report.problems.push(CertProblem::new(&self.dir, message, "check `tls.certificates`"));
                return report;
            }
        };
        let before = self.current.load_full();
        let mut old: BTreeMap<&str, &Arc<Certificate>> = before.entries.iter().map(|c| (&*c.name, c)).collect();
        let mut entries = Vec::with_capacity(found.len());
        for name in found {
            let last_good = old.remove(name.as_str());
            match read_pair(&self.dir, &name, last_good, &mut report.warnings) {
                Ok(pair) => {
                    if last_good.is_none_or(|last| last.digest != pair.digest) {
                        report.changed.push(name);
                    }
                    entries.push(pair);
                }
                Err(problem) => {
                    report.problems.push(problem);
                    entries.extend(last_good.cloned());
                }
            }
        }
        for (name, last_good) in old {
            if self.default.as_deref() == Some(name) || self.dir.join(format!("{name}.key")).exists() {
                report.problems.push(CertProblem::new(
                    &self.dir.join(format!("{name}.crt")),
                    "the file is gone; the last good pair stays in use",
                    "restore it; to retire a pair remove its key too, and see `tls.default_certificate`",
                ));
                entries.push(last_good.clone());
            } else {
                report.removed.push(name.to_owned());
            }
        }
        if !report.changed.is_empty() || !report.removed.is_empty() {
            let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
            self.current.store(Arc::new(Certificates::new(generation, entries, self.default.as_deref(), now_s())));
        }
        report
    }

    /// Whether a connection that was given `certificate` may ask for `host`.
    pub fn covers(&self, certificate: &Certificate, host: &str) -> bool {
        certificate.covers(host)
    }

    /// Every pair in use, by NAME.
    pub fn status(&self) -> Vec<CertStatus> {
        let now_s = now_s();
        let current = self.current.load();
        let default = current.default.and_then(|at| current.entries.get(at));
        let mut status: Vec<CertStatus> = current
            .entries
            .iter()
            .map(|c| CertStatus {
                name: c.name.clone(),
                names: c.names.iter().map(Name::to_string).collect(),
                not_before_s: c.not_before_s,
                not_after_s: c.not_after_s,
                valid: c.valid_at(now_s),
                default: default.is_some_and(|d| Arc::ptr_eq(d, c)),
                fingerprint: c.fingerprint(),
            })
            .collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    pub(crate) fn current(&self) -> Arc<Certificates> {
        self.current.load_full()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.current.load().generation
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// NAMEs of the folder's certificates, in order. A key alone is nobody's pair.
fn pairs(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "crt")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read_pair(
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
        key: Arc::new(certified),
        digest,
    })
}

struct Leaf {
    names: Vec<Name>,
    not_before_s: i64,
    not_after_s: i64,
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
    Ok(Leaf { names, not_before_s: validity.not_before.timestamp(), not_after_s: validity.not_after.timestamp() })
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
