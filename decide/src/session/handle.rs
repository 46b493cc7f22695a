//! The handle of a session as the browser holds it: a random id and a generation, under a mark that only we can make.
//!
//! ```text
//! version 1 (1) | generation (4, big-endian) | id (32) | mark (16)      71 characters of base64url
//! ```
//!
//! The id has 256 random bits; stores know its hash only. The mark lets a gateway tell its own handles from made-up ones
//! without asking a store, and proves that a generation was handed out even where its row has lost the write.
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Length of the text.
pub const TEXT: usize = 71;
const VERSION: u8 = 1;
const BYTES: usize = 1 + 4 + 32 + 16;

/// A handle as presented. Whether its mark is ours is for the shell to say, which has the keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle {
    /// The session's id: whoever has it, with a mark, has the session.
    id: [u8; 32],
    /// The generation.
    pub generation: u32,
    /// The mark.
    pub mark: [u8; 16],
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.generation)
    }
}

impl Handle {
    /// A handle of this id and generation, with its mark to come.
    pub fn new(id: [u8; 32], generation: u32) -> Handle {
        Handle { id, generation, mark: [0; 16] }
    }

    /// The same under this mark.
    #[must_use]
    pub fn marked(self, mark: [u8; 16]) -> Handle {
        Handle { mark, ..self }
    }

    /// The handle of another generation of the same session, with its mark to come.
    pub fn at(&self, generation: u32) -> Handle {
        Handle::new(self.id, generation)
    }

    /// Reads the text; `None` where it is none of ours.
    pub fn parse(text: &str) -> Option<Handle> {
        if text.len() != TEXT {
            return None;
        }
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let (id, mark) = rest.split_first_chunk::<32>()?;
        let (generation, mark) = (u32::from_be_bytes(*generation), mark.try_into().ok()?);
        (*version == VERSION && generation > 0).then_some(Handle { id: *id, generation, mark })
    }

    /// The text, which is a secret.
    pub fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.mark);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the mark is made over.
    pub fn content(&self) -> [u8; 36] {
        let mut content = [0; 36];
        let (generation, id) = content.split_at_mut(4);
        generation.copy_from_slice(&self.generation.to_be_bytes());
        id.copy_from_slice(&self.id);
        content
    }

    /// Under which key the session lies: a hash of tenant and id, so that who reads the store has no handle, and the handle of
    /// one tenant leads to nothing on the host of another.
    pub fn key(&self, tenant: &str) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"moat session 1\0");
        context.update(&u64::try_from(tenant.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(tenant.as_bytes());
        context.update(&self.id);
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        key
    }
}

/// The public id of a session: the first half of its key, in hex. It is in entries, lists and assertions, and is no handle.
pub fn public_id(key: &[u8; 32]) -> String {
    key.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_handle_is_read_as_it_was_written(id: [u8; 32], generation in 1..u32::MAX, mark: [u8; 16]) {
            let handle = Handle::new(id, generation).marked(mark);
            let text = handle.text();
            prop_assert_eq!(text.len(), TEXT);
            prop_assert_eq!(Handle::parse(&text), Some(handle));
        }

        #[test]
        fn one_text_is_one_handle(text in "[A-Za-z0-9_-]{71}") {
            if let Some(handle) = Handle::parse(&text) {
                prop_assert_eq!(handle.text(), text);
            }
        }

        #[test]
        fn nothing_else_is_read(text in ".{0,90}") {
            prop_assert!(Handle::parse(&text).is_none_or(|handle| handle.text() == text));
        }
    }

    #[test]
    fn each_tenant_has_keys_of_its_own() {
        let handle = Handle::new([7; 32], 1);
        assert_ne!(handle.key("acme"), handle.key("globex"));
        assert_eq!(handle.key("acme"), handle.at(9).key("acme"), "the session stays where it is");
        assert_eq!(public_id(&handle.key("acme")).len(), 32);
    }
}
