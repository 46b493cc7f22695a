//! The key that signs assertions: a PKCS#8 file in the state folder, made at the first start, and its public twin.
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V2Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The private key.
const CURRENT: &str = "assertion.pk8";
/// The public key of the time before the last rotation, base64url.
const PREVIOUS: &str = "assertion.previous";
/// A PKCS#8 document of an Ed25519 key is far shorter; a longer file is something else.
const LENGTH_MAX: u64 = 1024;

/// Why the key cannot be used; the gateway does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file system refused.
    #[error("assertion key `{path}`: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others could read the key, so it may be known to them.
    #[error("assertion key `{path}` is readable by others (mode {mode:o}): remove it, and a new one is made")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("assertion key `{path}` is not an Ed25519 key: remove it, and a new one is made")]
    Unreadable {
        /// Which file.
        path: PathBuf,
    },
    /// The library could not make a key.
    #[error("no assertion key could be made")]
    Unmade,
}

/// A public key as a JSON Web Key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// The key, base64url.
    pub(super) x: String,
    /// Its thumbprint (RFC 7638).
    pub(super) kid: String,
}

impl PublicKey {
    fn new(raw: &[u8]) -> PublicKey {
        let x = URL_SAFE_NO_PAD.encode(raw);
        // RFC 7638, 3.2: the required members in lexicographic order.
        let canonical = format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        PublicKey { x, kid }
    }

    /// The JSON Web Key.
    pub(super) fn jwk(&self) -> String {
        let PublicKey { x, kid } = self;
        format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{kid}","x":"{x}"}}"#)
    }
}

/// The key in use, and the one before it.
pub(super) struct Keys {
    pair: Ed25519KeyPair,
    pub(super) public: PublicKey,
    pub(super) previous: Option<PublicKey>,
}

impl Keys {
    /// Loads the key of a state folder; makes one where there is none.
    pub(super) fn open(folder: &Path) -> Result<Keys, KeyFault> {
        let path = folder.join(CURRENT);
        if !path.try_exists().map_err(|source| KeyFault::Io { path: path.clone(), source })? {
            let beside = write_beside(folder, CURRENT, &generate()?)?;
            // Unlike renaming, linking does not replace a key that another process made meanwhile.
            let linked = fs::hard_link(&beside, &path);
            let removed = fs::remove_file(&beside);
            match linked {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(KeyFault::Io { path, source });
                }
                Ok(()) | Err(_) => removed.map_err(|source| KeyFault::Io { path: beside, source })?,
            }
            sync(folder)?;
        }
        let pair = read(&path)?;
        let public = PublicKey::new(pair.public_key().as_ref());
        // A rotation cut off half-way leaves the present key as its own predecessor.
        let previous = previous(folder)?.filter(|previous| *previous != public);
        Ok(Keys { pair, public, previous })
    }

    /// Makes a new key; the present one stays listed until the next rotation.
    pub(super) fn rotate(folder: &Path) -> Result<Keys, KeyFault> {
        let retired = Keys::open(folder)?.public;
        replace(folder, PREVIOUS, retired.x.as_bytes())?;
        replace(folder, CURRENT, &generate()?)?;
        Keys::open(folder)
    }

    /// Signs (RFC 8032).
    pub(super) fn sign(&self, message: &[u8]) -> Option<String> {
        self.pair.try_sign(message).ok().map(|signature| URL_SAFE_NO_PAD.encode(signature))
    }
}

fn generate() -> Result<Vec<u8>, KeyFault> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyFault::Unmade)?;
    let document: Pkcs8V2Der<'_> = pair.as_der().map_err(|_| KeyFault::Unmade)?;
    Ok(document.as_ref().to_vec())
}

fn read(path: &Path) -> Result<Ed25519KeyPair, KeyFault> {
    let io = |source| KeyFault::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // Of the open file, so that nobody can put another in its place between look and read.
    let meta = file.metadata().map_err(io)?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFault::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LENGTH_MAX), &mut bytes).map_err(io)?;
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| KeyFault::Unreadable { path: path.to_owned() })
}

fn previous(folder: &Path) -> Result<Option<PublicKey>, KeyFault> {
    let path = folder.join(PREVIOUS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyFault::Io { path, source }),
    };
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(raw) if raw.len() == 32 => Ok(Some(PublicKey::new(&raw))),
        Ok(_) | Err(_) => Err(KeyFault::Unreadable { path }),
    }
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), KeyFault> {
    let beside = write_beside(folder, name, bytes)?;
    let path = folder.join(name);
    fs::rename(&beside, &path).map_err(|source| KeyFault::Io { path, source })?;
    sync(folder)
}

/// Writes a whole, synced file that only we can read, under a name of its own.
fn write_beside(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, KeyFault> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| KeyFault::Unmade)?;
    let path = folder.join(format!("{name}.{:016x}", u64::from_be_bytes(random)));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| KeyFault::Io { path: path.clone(), source })?;
    Ok(path)
}

fn sync(folder: &Path) -> Result<(), KeyFault> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| KeyFault::Io { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kids(keys: &Keys) -> (String, Option<String>) {
        (keys.public.kid.clone(), keys.previous.as_ref().map(|p| p.kid.clone()))
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        // RFC 8037, appendix A.2 and A.3
        let raw = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(PublicKey::new(&raw).kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_key_is_made_once_and_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = kids(&Keys::open(folder.path()).unwrap());
        assert_eq!(kids(&Keys::open(folder.path()).unwrap()), first);
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files, [CURRENT], "nothing is left beside");
        assert_eq!(fs::metadata(folder.path().join(CURRENT)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn rotation_lists_one_predecessor_and_survives_being_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let first = kids(&Keys::open(folder.path()).unwrap()).0;
        let second = kids(&Keys::rotate(folder.path()).unwrap());
        assert_eq!(second.1, Some(first));
        let third = kids(&Keys::rotate(folder.path()).unwrap());
        assert_eq!(third.1.as_ref(), Some(&second.0));
        assert_eq!(kids(&Keys::open(folder.path()).unwrap()), third);
        let x = Keys::open(folder.path()).unwrap().public.x;
        replace(folder.path(), PREVIOUS, x.as_bytes()).unwrap();
        assert_eq!(kids(&Keys::open(folder.path()).unwrap()), (third.0, None), "cut off between the two files");
    }

    #[test]
    fn what_may_be_known_to_others_or_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CURRENT);
        let fault = || Keys::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        drop(Keys::open(folder.path()).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(fault().contains("readable by others (mode 640)"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(fault().contains("is not an Ed25519 key"), "{length} bytes of {}", whole.len());
        }
        fs::write(&path, &whole).unwrap();
        fs::write(folder.path().join(PREVIOUS), "short").unwrap();
        assert!(fault().contains("assertion.previous"));
        assert!(Keys::open(&folder.path().join("absent")).is_err());
    }
}
