//! When each API key was last used, in a file of the state folder: written lazily, read by `moat keys list`.
use crate::config::settings::ApiKeys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NAME: &str = "api-keys-used.json";
const MAX_FILE: u64 = 256 << 20;

/// By file, by id: seconds since the epoch.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    files: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Used {
    /// When a key of a file was last used, seconds since the epoch.
    pub fn of(&self, file: &str, id: &str) -> Option<u64> {
        self.files.get(file)?.get(id).copied()
    }
}

/// What was written last; nothing where there is no file, or none that can be read: it decides nothing.
pub fn recall(state_dir: &Path) -> Used {
    let mut text = String::new();
    let read = fs::File::open(state_dir.join(NAME)).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Writes when the keys of these files were last used, where that has changed. What another process wrote is kept where
/// it is later, so that a process and its successor do not write over each other's news.
pub fn remember(state_dir: &Path, all: &BTreeMap<String, Arc<ApiKeys>>) -> io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    let before = recall(state_dir);
    let mut now = Used::default();
    for (file, keys) in all {
        let known = before.files.get(file);
        let used = now.files.entry(file.clone()).or_default();
        for (id, key) in &keys.keys {
            let then = known.and_then(|known| known.get(&**id)).copied().unwrap_or_default();
            let last = then.max(key.used_s.load(Ordering::Relaxed));
            if last > 0 {
                used.insert(id.to_string(), last);
            }
        }
    }
    if now == before {
        return Ok(());
    }
    let draft = state_dir.join(format!("{NAME}.{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(&now).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&draft, state_dir.join(NAME))
}
