//! The key that signs heads, and the public half of it beside the log.
use super::fault::AuditFault;
use super::folder::{PUBLIC_KEYS, write_whole};
use super::verify::read_keys;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use decide::record::{Hash, Head, VerifyKey, VerifyKeys, head};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Where the key is made when none is named.
pub(super) const FILE: &str = "audit-signing-key.pem";
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Signs heads.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    key: VerifyKey,
    origin: String,
}

impl Signer {
    /// Reads the key (PKCS#8 PEM). A file that everybody may read is refused.
    pub fn read(path: &Path, node: &str) -> Result<Signer, AuditFault> {
        let fault = |reason: &str| AuditFault::Key { path: path.to_owned(), reason: reason.to_owned() };
        let mode = fs::metadata(path).map_err(AuditFault::io(path))?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(fault(&format!("everybody may use this key (mode {:o}); chmod 600 it", mode & 0o777)));
        }
        let pem = fs::read_to_string(path).map_err(AuditFault::io(path))?;
        let der = decode_pem(&pem).ok_or_else(|| fault("not one PKCS#8 `PRIVATE KEY` in PEM"))?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| fault("not an Ed25519 key"))?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| fault("not an Ed25519 key"))?;
        let origin = head::origin(node);
        Ok(Signer { key: VerifyKey::new(origin.clone(), public), pair, origin })
    }

    /// Makes a key where there is none.
    pub fn ensure(path: &Path) -> Result<(), AuditFault> {
        if path.exists() {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(AuditFault::io(folder))?;
        }
        let random = SystemRandom::new();
        let made = Ed25519KeyPair::generate_pkcs8v1(&random);
        let fault = |_| AuditFault::Key { path: path.to_owned(), reason: "a key could not be generated".to_owned() };
        let pem = format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(made.map_err(fault)?.as_ref()));
        write_whole(path, pem.as_bytes(), 0o600).map_err(AuditFault::io(path))
    }

    /// The public half.
    pub fn key(&self) -> &VerifyKey {
        &self.key
    }

    /// The signed note for a head.
    pub fn sign(&self, size: u64, root: Hash, time_ms: u64) -> String {
        let head = Head { origin: self.origin.clone(), size, root, time_ms };
        head.note(&self.key, self.pair.sign(head.text().as_bytes()).as_ref())
    }

    /// Adds the public half to those beside the log. Returns all keys, and whether ours is new among others.
    pub fn publish(&self, directory: &Path) -> Result<(VerifyKeys, bool), AuditFault> {
        let path = directory.join(PUBLIC_KEYS);
        let mut keys = if path.exists() { read_keys(&path)? } else { VerifyKeys::default() };
        if keys.0.contains(&self.key) {
            return Ok((keys, false));
        }
        let changed = !keys.0.is_empty();
        keys.0.push(self.key.clone());
        let text: String = keys.0.iter().map(|key| format!("{key}\n")).collect();
        write_whole(&path, text.as_bytes(), 0o644).map_err(AuditFault::io(&path))?;
        Ok((keys, changed))
    }
}

fn decode_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(BEGIN)?;
    let (body, rest) = rest.split_once(END)?;
    let lines: String = body.split_ascii_whitespace().collect();
    BASE64.decode(lines).ok().filter(|_| !rest.contains(BEGIN))
}
