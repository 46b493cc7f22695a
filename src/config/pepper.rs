//! Keys of our own: made once, kept in the state folder.
use aws_lc_rs::rand;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The key of the hash under which session ids are recorded.
pub const PEPPER: &str = "session-pepper";

/// The key of the hash under which API keys are kept.
pub const API_KEYS: &str = "api-key-pepper";

/// Reads the key of this name, or makes it. A file of another length is refused: with another key, revocations would not
/// match, and sessions would not open.
///
/// The key gets its name only when it is whole and on the disk, so no crash leaves half of one under that name; of two
/// processes that start at once, both get the key that was first.
pub fn read_or_make(state_dir: &Path, name: &str) -> io::Result<[u8; 32]> {
    let path = state_dir.join(name);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        known => return known,
    }
    fs::create_dir_all(state_dir)?;
    let draft = state_dir.join(format!("{name}.{:016x}.new", random::<8>().map(u64::from_be_bytes)?));
    let linked = write(&draft, &random::<32>()?).and_then(|()| fs::hard_link(&draft, &path));
    let removed = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => removed?,
    }
    File::open(state_dir)?.sync_all()?;
    read(&path)
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    let mut bytes = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut bytes)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is not a key", path.display()));
    <[u8; 32]>::try_from(bytes).map_err(|_| wrong())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_key_is_made_once_and_a_torn_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = read_or_make(&state, PEPPER).unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!(read_or_make(&state, PEPPER).unwrap(), first);
        assert_eq!(names(&state), [PEPPER]);
        assert_eq!(fs::metadata(state.join(PEPPER)).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(state.join(PEPPER), b"short").unwrap();
        assert_eq!(read_or_make(&state, PEPPER).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_a_crash_leaves_does_not_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let left = format!("{PEPPER}.0123456789abcdef.new");
        fs::write(dir.path().join(&left), b"half").unwrap();
        let key = read_or_make(dir.path(), PEPPER).unwrap();
        assert_eq!(read_or_make(dir.path(), PEPPER).unwrap(), key);
    }

    #[test]
    fn processes_that_start_at_once_agree_on_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| read_or_make(dir.path(), PEPPER).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(names(dir.path()), [PEPPER]);
    }
}
