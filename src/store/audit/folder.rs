//! The log's folder: names of segments, its lock, the signed head and public keys beside them.
use super::fault::AuditFault;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file with the newest signed head.
pub(super) const HEAD: &str = "head";
/// Name of the file with the public keys of heads, one per line, the newest last.
pub(super) const PUBLIC_KEYS: &str = "audit.pub";
const LOCK: &str = "lock";

/// The folder, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is absent, and locks it.
    pub fn open(path: &Path) -> Result<Folder, AuditFault> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(AuditFault::io(path))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(AuditFault::io(&lock_path))?;
        // `is_locked` of a verification holds the lock for an instant; a writer holds it for good.
        for _ in 0..10 {
            match lock.try_lock() {
                Ok(()) => return Ok(Folder { path: path.to_owned(), _lock: lock }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(source)) => return Err(AuditFault::Io { path: lock_path, source }),
            }
        }
        Err(AuditFault::Locked { path: lock_path })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the segment that begins with this sequence number.
    pub fn segment(&self, first: u64) -> PathBuf {
        self.path.join(segment_name(first))
    }

    /// Makes a segment, or takes an empty one that an earlier attempt left.
    pub fn create_segment(&self, first: u64) -> io::Result<File> {
        let path = self.segment(first);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        if file.metadata()?.len() != 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is not empty", path.display())));
        }
        file.sync_all()?;
        sync_folder(&self.path)?;
        Ok(file)
    }

    /// Takes the right to write from a segment that is closed.
    pub fn seal_segment(&self, first: u64) -> io::Result<()> {
        fs::set_permissions(self.segment(first), Permissions::from_mode(0o400))
    }

    /// Deletes a segment that is too old.
    pub fn remove_segment(&self, first: u64) -> io::Result<()> {
        fs::remove_file(self.segment(first))?;
        sync_folder(&self.path)
    }

    /// Puts a signed head in place of the one before, whole or not at all.
    pub fn write_head(&self, note: &str) -> io::Result<()> {
        write_whole(&self.path.join(HEAD), note.as_bytes(), 0o644)
    }
}

/// Whether some process has the folder open for writing.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path.join(LOCK)).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The name of a segment: twenty digits, so that the order of names is the order of entries.
fn segment_name(first: u64) -> String {
    format!("audit-{first:020}.jsonl")
}

/// First sequence numbers of the segments in a folder, in order.
pub(super) fn list(path: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"));
        let first = digits.and_then(|digits| digits.parse().ok());
        firsts.extend(first.filter(|first| segment_name(*first).as_str() == name));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Path of a segment in a folder that need not be locked.
pub(super) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(segment_name(first))
}

/// Writes a file so that it is there whole, or as it was before.
pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A new name is safe only when its folder is.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
