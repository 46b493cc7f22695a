//! Certificates from a folder: NAME.crt beside NAME.key, chosen by server name and swapped whole while running.
mod pair;
pub use pair::{CertProblem, Certificate, Name};

use arc_swap::ArcSwap;
use pair::{now_s, read_pair};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Kind of its key, such as `ECDSA P-256`.
    pub key: &'static str,
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

/// Where certificates are, and which one is for clients without a known server name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CertPlace {
    dir: PathBuf,
    default: Option<String>,
}

/// The folder's certificates, replaced atomically by [`CertStore::refresh`].
pub struct CertStore {
    place: ArcSwap<CertPlace>,
    current: ArcSwap<Certificates>,
    generations: AtomicU64,
    refreshing: Mutex<()>,
    complaints: ArcSwap<Vec<String>>,
}

impl std::fmt::Debug for CertStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertStore").field("place", &self.place.load()).finish_non_exhaustive()
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
            place: ArcSwap::from_pointee(CertPlace { dir: dir.to_path_buf(), default: default.map(str::to_owned) }),
            current: ArcSwap::default(),
            generations: AtomicU64::new(0),
            refreshing: Mutex::new(()),
            complaints: ArcSwap::default(),
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
        let report = self.read_again();
        self.complaints.store(Arc::new(report.problems.iter().map(ToString::to_string).collect()));
        report
    }

    /// What was wrong with the folder when it was last read, in words.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.load().to_vec()
    }

    fn read_again(&self) -> RefreshReport {
        let place = self.place.load_full();
        let mut report = RefreshReport::default();
        if place.dir.as_os_str().is_empty() {
            return report;
        }
        let found = match pairs(&place.dir) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("cannot read the folder: {error}");
                report.problems.push(CertProblem::new(&place.dir, message, "check `tls.certificates`"));
                return report;
            }
        };
        let before = self.current.load_full();
        let mut old: BTreeMap<&str, &Arc<Certificate>> = before.entries.iter().map(|c| (&*c.name, c)).collect();
        let mut entries = Vec::with_capacity(found.len());
        for name in found {
            let last_good = old.remove(name.as_str());
            match read_pair(&place.dir, &name, last_good, &mut report.warnings) {
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
            if place.default.as_deref() == Some(name) || place.dir.join(format!("{name}.key")).exists() {
                report.problems.push(CertProblem::new(
                    &place.dir.join(format!("{name}.crt")),
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
            self.current.store(Arc::new(Certificates::new(generation, entries, place.default.as_deref(), now_s())));
        }
        report
    }

    /// Takes over another store: its folder, its default, and what it has read. Listeners and whoever else holds this
    /// one follow with the next handshake.
    pub fn adopt(&self, other: &CertStore) {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let place = other.place.load_full();
        let entries = other.current.load().entries.clone();
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.store(Arc::new(Certificates::new(generation, entries, place.default.as_deref(), now_s())));
        self.place.store(place);
    }

    /// A store without certificates and without a folder, for a gateway without TLS; [`CertStore::adopt`] fills it.
    pub fn empty() -> CertStore {
        CertStore {
            place: ArcSwap::default(),
            complaints: ArcSwap::default(),
            current: ArcSwap::default(),
            generations: AtomicU64::new(0),
            refreshing: Mutex::new(()),
        }
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
                key: c.key_type,
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
