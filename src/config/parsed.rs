//! What files said when they were read last, so that a reload parses only those whose bytes are others.
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Files that were parsed without a problem, by their names.
#[derive(Debug, Default)]
pub struct Parsed(Mutex<HashMap<String, Known>>);

#[derive(Debug)]
struct Known {
    /// Its index among the sources, which stands in all places within.
    file: u32,
    /// SHA-256 of its bytes.
    digest: Vec<u8>,
    value: Arc<dyn Any + Send + Sync>,
}

impl Parsed {
    /// What the file says, where it is the one that was kept.
    pub(super) fn find<T: Send + Sync + 'static>(&self, name: &str, file: u32, digest: &[u8]) -> Option<Arc<T>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(name).filter(|known| known.file == file && known.digest == digest)?;
        known.value.clone().downcast().ok()
    }

    /// Keeps what a file says.
    pub(super) fn keep(&self, name: &str, file: u32, digest: &[u8], value: Arc<dyn Any + Send + Sync>) {
        let known = Known { file, digest: digest.to_vec(), value };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), known);
    }

    /// Forgets files that are no longer read.
    pub(super) fn forget_all_but(&self, read: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| read(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_at_the_same_place_of_the_same_kind_are_found() {
        let parsed = Parsed::default();
        parsed.keep("tenants.yaml", 2, b"ab", Arc::new(7_u32));
        assert_eq!(parsed.find::<u32>("tenants.yaml", 2, b"ab").as_deref(), Some(&7));
        assert!(parsed.find::<u32>("tenants.yaml", 3, b"ab").is_none(), "places would name another file");
        assert!(parsed.find::<u32>("tenants.yaml", 2, b"ac").is_none());
        assert!(parsed.find::<u32>("roles.yaml", 2, b"ab").is_none());
        assert!(parsed.find::<u64>("tenants.yaml", 2, b"ab").is_none());
        parsed.forget_all_but(|name| name != "tenants.yaml");
        assert!(parsed.find::<u32>("tenants.yaml", 2, b"ab").is_none());
    }
}
