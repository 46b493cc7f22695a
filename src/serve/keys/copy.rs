//! The last good key set on disk, so that a gateway can start while its identity provider is away.
use crate::config::settings::{Issuer, KeySource};
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Largest file that is read: a key set of the greatest size, escaped as a JSON string.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

/// A copy from further in the future than this was written under another clock, and its age is unknown.
const MAX_AHEAD_S: u64 = 300;

/// What the file holds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// Version of the format: 1.
    version: u8,
    /// The issuer it belongs to.
    issuer: String,
    /// When it was fetched, seconds since the epoch.
    pub fetched_at: u64,
    /// The key set as it was served.
    pub document: String,
}

/// Where an issuer's copy is: `jwks/` below the state folder, a name that depends on the issuer and on the address
/// of its keys. `None` for key files, which are on disk already.
pub fn path(state_dir: &Path, issuer: &Issuer) -> Option<PathBuf> {
    let address = match &issuer.keys {
        KeySource::File(_) | KeySource::Ours(_) | KeySource::Nowhere => return None,
        KeySource::Url(url) => url.as_str(),
        KeySource::Discovery => "",
    };
    let name = digest(&SHA256, format!("{}\0{address}", issuer.rules.issuer).as_bytes());
    let name: String = name.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Some(state_dir.join("jwks").join(format!("{name}.json")))
}

/// Writes the copy beside its place and renames it: a reader finds the old one or the new one, whole.
pub fn write(path: &Path, issuer: &str, fetched_at: u64, document: &[u8]) -> io::Result<()> {
    let document = String::from_utf8(document.to_vec()).map_err(io::Error::other)?;
    let text = serde_json::to_vec(&Copy { version: 1, issuer: issuer.to_owned(), fetched_at, document })?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // While a reload replaces a ring, two of them may write at once.
    let beside = path.with_extension(format!("new-{}", uuid::Uuid::now_v7().simple()));
    let place = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    place().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// The copy and its age, if there is one for this issuer that is no older than `max_stale`.
pub fn read(path: &Path, issuer: &str, now_s: u64, max_stale: Duration) -> Result<(Copy, Duration), String> {
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(|error| format!("no copy on disk: {error}"))?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(|error| format!("the copy on disk: {error}"))?;
    let copy: Copy = serde_json::from_slice(&text).map_err(|_| "the copy on disk is damaged".to_owned())?;
    if copy.version != 1 || copy.issuer != issuer {
        return Err("the copy on disk is of another issuer or format".to_owned());
    }
    if copy.fetched_at > now_s.saturating_add(MAX_AHEAD_S) {
        return Err("the copy on disk is from the future".to_owned());
    }
    let age = Duration::from_secs(now_s.saturating_sub(copy.fetched_at));
    if age > max_stale { Err("the copy on disk is too old".to_owned()) } else { Ok((copy, age)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ISSUER: &str = "https://idp.example/";

    fn outcome(path: &Path, issuer: &str, now_s: u64) -> String {
        match read(path, issuer, now_s, Duration::from_secs(100)) {
            Ok((copy, age)) => format!("{} {}", copy.document, age.as_secs()),
            Err(cause) => cause,
        }
    }

    #[test]
    fn a_copy_is_private_and_has_an_age() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks/a.json");
        assert!(outcome(&path, ISSUER, 1000).starts_with("no copy on disk"));
        write(&path, ISSUER, 900, b"old").unwrap();
        write(&path, ISSUER, 1000, b"new").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(outcome(&path, ISSUER, 1000), "new 0");
        assert_eq!(outcome(&path, ISSUER, 1100), "new 100");
        assert_eq!(outcome(&path, ISSUER, 1101), "the copy on disk is too old");
        assert_eq!(outcome(&path, ISSUER, 700), "new 0");
        assert_eq!(outcome(&path, ISSUER, 699), "the copy on disk is from the future");
        assert_eq!(outcome(&path, "https://other/", 1000), "the copy on disk is of another issuer or format");
    }

    #[test]
    fn a_copy_cut_at_any_byte_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, ISSUER, 1000, b"{}").unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(outcome(&path, ISSUER, 1000), "the copy on disk is damaged", "{end}");
        }
    }
}
