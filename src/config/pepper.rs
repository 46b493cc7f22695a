//! The key of the hash under which session ids are recorded: made once, kept in the state folder.
use aws_lc_rs::rand;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads the key, or makes it. A file of another length is refused: with another key, revocations would not match.
pub fn read_or_make(state_dir: &Path) -> io::Result<[u8; 32]> {
    let path = state_dir.join("session-pepper");
    fs::create_dir_all(state_dir)?;
    let mut fresh = [0; 32];
    rand::fill(&mut fresh).map_err(|_| io::Error::other("no random bytes"))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(&fresh)?;
            file.sync_all()?;
            Ok(fresh)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut bytes = Vec::new();
            fs::File::open(&path)?.take(64).read_to_end(&mut bytes)?;
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is not a key", path.display()));
            <[u8; 32]>::try_from(bytes).map_err(|_| wrong())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_torn_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = read_or_make(&state).unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!(read_or_make(&state).unwrap(), first);
        fs::write(state.join("session-pepper"), b"short").unwrap();
        assert_eq!(read_or_make(&state).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
