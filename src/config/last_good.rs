//! The last bundle that was in force, kept in the state folder: what the next start falls back to when the files it
//! finds are broken.
//!
//! The copy is one file, written beside and renamed over, `0600`, under a keyed hash. Who can write to the state folder
//! but not read its key cannot make one; a half-written, changed or foreign one is refused. It holds the files of the
//! configuration and the values of the variables in them, and neither keys nor certificates, which stay where they are.
use crate::config::pepper;
use crate::config::problem::Source;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of the copy, in the state folder.
const FOLDER: &str = "last-good";
const NAME: &str = "bundle";
/// First word of the file; another form will have another.
const MAGIC: &str = "moat-last-good/1";
/// What the hash is over besides the content, so that the key serves no other purpose by accident.
const CONTEXT: &[u8] = b"moat last good bundle\0";
/// More than any bundle has.
const MOST_BYTES: u64 = 1 << 30;

/// All that a snapshot was compiled from, as far as it is not read by others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// `gateway.yaml`, absolute. A copy is good for this one only.
    pub config: PathBuf,
    /// Digest of the snapshot.
    pub digest: String,
    /// When it was kept, milliseconds since the Unix epoch.
    pub kept_at_ms: u64,
    /// Names, as the bundle names them, and texts.
    pub files: Vec<(String, String)>,
    /// Variables that the files use; `None` for those that were not set.
    pub variables: BTreeMap<String, Option<String>>,
}

/// Why a copy is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    Io(PathBuf, io::Error),
    /// It is not what was written.
    #[error("`{0}` is not what the gateway wrote: {1}")]
    Changed(PathBuf, &'static str),
    /// It was made from other files.
    #[error("`{0}` was kept for `{1}`")]
    Foreign(PathBuf, PathBuf),
}

impl Bundle {
    /// From what was read.
    pub(super) fn new(
        config: &Path,
        digest: &str,
        sources: Vec<Source>,
        variables: BTreeMap<String, Option<String>>,
    ) -> Bundle {
        Bundle {
            config: absolute(config),
            digest: digest.to_owned(),
            kept_at_ms: 0,
            files: sources.into_iter().map(|source| (source.name, source.text)).collect(),
            variables,
        }
    }

    /// The text of a file.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// Keeps it in the state folder, in the place of the one before. Whole or not at all, whatever happens meanwhile.
    pub fn keep(&self, state_dir: &Path) -> io::Result<()> {
        let key = key(state_dir)?;
        let content = serde_json::to_vec(self)?;
        let folder = state_dir.join(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let draft = folder.join("bundle.new");
        // What a crash has left may have other permissions.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{MAGIC} {}", hex(hmac::sign(&key, &signed(&content)).as_ref()))?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&draft, folder.join(NAME))?;
        File::open(&folder)?.sync_all()
    }

    /// The copy that was kept for this `gateway.yaml`; `None` where there is none.
    pub fn recall(config: &Path, state_dir: &Path) -> Result<Option<Bundle>, Unusable> {
        let path = state_dir.join(FOLDER).join(NAME);
        let failed = |error| Unusable::Io(path.clone(), error);
        let changed = |why| Unusable::Changed(path.clone(), why);
        let about = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            about => about.map_err(failed)?,
        };
        if !about.is_file() {
            return Err(changed("it is no plain file"));
        }
        if about.mode() & 0o077 != 0 {
            return Err(changed("others may read or write it"));
        }
        if about.uid() != rustix::process::geteuid().as_raw() {
            return Err(changed("it belongs to another user"));
        }
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| changed("it has no head"))?;
        let (head, content) = bytes.split_at_checked(end + 1).ok_or_else(|| changed("it has no head"))?;
        let mac = std::str::from_utf8(head).ok().and_then(|head| head.trim_end().strip_prefix(MAGIC));
        let mac = mac.and_then(|mac| unhex(mac.trim())).ok_or_else(|| changed("its head is another"))?;
        let key = key(state_dir).map_err(failed)?;
        hmac::verify(&key, &signed(content), &mac).map_err(|_| changed("its hash is another"))?;
        let bundle: Bundle = serde_json::from_slice(content).map_err(|_| changed("it cannot be understood"))?;
        if bundle.config != absolute(config) {
            return Err(Unusable::Foreign(path, bundle.config));
        }
        Ok(Some(bundle))
    }
}

/// The state folder that a broken `gateway.yaml` most probably means: what stands behind the first `state_dir:`, with
/// variables replaced; the default where there is none.
pub fn state_dir(config: &Path, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let bytes = fs::read(config).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let written = text
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once("state_dir:"))
        .map(|(_, rest)| rest.trim().trim_matches(['"', '\'']))
        .next();
    let value = written.map(|rest| {
        let end = match rest.strip_prefix("${") {
            Some(inside) => inside.find('}').map_or(rest.len(), |at| at + 3 + tail(inside.get(at + 1..))),
            None => tail(Some(rest)),
        };
        rest.get(..end).unwrap_or(rest).trim_end_matches(['"', '\''])
    });
    let default = crate::config::options::ServerOptions::default().state_dir;
    let value = value.map_or(Some(default.clone()), |value| substitute(value, env)).unwrap_or(default);
    crate::config::files::folder_of(config).join(value)
}

/// Length of a plain scalar.
fn tail(rest: Option<&str>) -> usize {
    let rest = rest.unwrap_or_default();
    rest.find([',', '}', ' ', '\t']).unwrap_or(rest.len())
}

/// `${NAME}` and `${NAME:-default}` at the beginning; the rest as it is.
fn substitute(value: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let Some(inside) = value.strip_prefix("${") else { return Some(value.to_owned()) };
    let (variable, rest) = inside.split_once('}')?;
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (variable.split(":?").next().unwrap_or_default(), None),
    };
    Some(format!("{}{rest}", env(name).filter(|value| !value.is_empty()).or(default)?))
}

fn absolute(config: &Path) -> PathBuf {
    config.canonicalize().unwrap_or_else(|_| config.to_owned())
}

fn key(state_dir: &Path) -> io::Result<hmac::Key> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &pepper::read_or_make(state_dir, pepper::PEPPER)?))
}

fn signed(content: &[u8]) -> Vec<u8> {
    [CONTEXT, content].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kept() -> (tempfile::TempDir, Bundle, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gateway.yaml");
        fs::write(&config, "version: 1\n").unwrap();
        let bundle = Bundle {
            config: config.canonicalize().unwrap(),
            digest: "ab".to_owned(),
            kept_at_ms: 7,
            files: vec![("gateway.yaml".to_owned(), "version: 1\n".to_owned())],
            variables: BTreeMap::from([("HOME".to_owned(), None)]),
        };
        bundle.keep(dir.path()).unwrap();
        let file = dir.path().join(FOLDER).join(NAME);
        (dir, bundle, file)
    }

    fn why(dir: &Path) -> String {
        let error = Bundle::recall(&dir.join("gateway.yaml"), dir).unwrap_err().to_string();
        error.rsplit_once(": ").map(|(_, why)| why.to_owned()).unwrap_or(error)
    }

    #[test]
    fn what_was_kept_comes_back_and_is_nobody_elses_to_read() {
        let (dir, bundle, file) = kept();
        assert_eq!(Bundle::recall(&dir.path().join("gateway.yaml"), dir.path()).unwrap(), Some(bundle.clone()));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A draft that a crash has left, and another copy over the first.
        fs::write(dir.path().join(FOLDER).join("bundle.new"), "half").unwrap();
        let next = Bundle { digest: "cd".to_owned(), ..bundle };
        next.keep(dir.path()).unwrap();
        assert_eq!(Bundle::recall(&dir.path().join("gateway.yaml"), dir.path()).unwrap(), Some(next));
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Bundle::recall(&dir.path().join("gateway.yaml"), empty.path()).unwrap(), None);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let (dir, _, file) = kept();
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            assert!(Bundle::recall(&dir.path().join("gateway.yaml"), dir.path()).is_err(), "byte {at}");
            fs::write(&file, &good[..at]).unwrap();
            assert!(Bundle::recall(&dir.path().join("gateway.yaml"), dir.path()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_copy_of_others_or_with_another_key_is_refused() {
        let (dir, _, file) = kept();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(why(dir.path()), "others may read or write it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(dir.path().join("session-pepper"), [7; 32]).unwrap();
        assert_eq!(why(dir.path()), "its hash is another");
        let (dir, _, file) = kept();
        let other = dir.path().join("other.yaml");
        fs::write(&other, "").unwrap();
        assert!(matches!(Bundle::recall(&other, dir.path()), Err(Unusable::Foreign(..))));
        fs::rename(&file, dir.path().join("away")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("away"), &file).unwrap();
        assert_eq!(why(dir.path()), "it is no plain file");
    }

    #[test]
    fn the_state_folder_of_a_broken_file_is_guessed_as_written() {
        let env = |name: &str| (name == "STATE").then(|| "/s".to_owned());
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gateway.yaml");
        for (text, expected) in [
            ("server: {state_dir: state, instance: x}\n", "state"),
            ("server:\n  # state_dir: no\n  state_dir: /var/x  # here\n", "/var/x"),
            ("server:\n  state_dir: \"quoted\"\n bad: [", "quoted"),
            ("server: {state_dir: ${STATE}/moat}", "/s/moat"),
            ("server: {state_dir: ${NONE:-/d}, a: b}", "/d"),
            ("server: {state_dir: ${NONE}}", "/var/lib/moat"),
            ("", "/var/lib/moat"),
        ] {
            fs::write(&config, text).unwrap();
            assert_eq!(state_dir(&config, &env), dir.path().join(expected), "{text}");
        }
    }
}
