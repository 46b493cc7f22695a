//! The key under which an application keeps a session.
use aws_lc_rs::digest;
use std::fmt::Write;

/// What a key has in the place of the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPattern {
    /// The id itself: what stands before and behind it.
    Plain(String, String),
    /// SHA-256 of the id, in hex.
    Sha256(String, String),
}

impl KeyPattern {
    /// A text with exactly one `{cookie}` or `{cookie_sha256}`; `None` for any other.
    pub fn parse(text: &str) -> Option<KeyPattern> {
        type Make = fn(String, String) -> KeyPattern;
        let places: [(&str, Make); 2] = [("{cookie}", KeyPattern::Plain), ("{cookie_sha256}", KeyPattern::Sha256)];
        let found = places.into_iter().find_map(|(place, make)| {
            let (before, behind) = text.split_once(place)?;
            (!behind.contains(['{', '}'])).then(|| make(before.to_owned(), behind.to_owned()))
        });
        let clean = |text: &String| !text.contains(['{', '}']) && !text.chars().any(char::is_control);
        found.filter(|(KeyPattern::Plain(before, behind) | KeyPattern::Sha256(before, behind))| {
            clean(before) && clean(behind)
        })
    }

    /// The key of this session.
    pub fn key(&self, id: &str) -> String {
        match self {
            KeyPattern::Plain(before, behind) => format!("{before}{id}{behind}"),
            KeyPattern::Sha256(before, behind) => {
                let digest = digest::digest(&digest::SHA256, id.as_bytes());
                let mut key = before.clone();
                for byte in digest.as_ref() {
                    // Writing to a String cannot fail.
                    let _ = write!(key, "{byte:02x}");
                }
                key.push_str(behind);
                key
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_place_for_the_id() {
        for (pattern, key) in [
            ("sess:{cookie}", Some("sess:a-1")),
            ("{cookie}", Some("a-1")),
            ("app:{cookie}:data", Some("app:a-1:data")),
            (
                "session:2::{cookie_sha256}",
                Some("session:2::1aec33a1d8bde1ecbc1b1a2eb3d3b8ad1a8a0ee4d8a3d2a7a02b3cb3a2a4b1e5"),
            ),
            ("sess:", None),
            ("", None),
            ("{cookie}{cookie}", None),
            ("{cookie}:{cookie_sha256}", None),
            ("{id}:{cookie}", None),
            ("sess:{cookie", None),
            ("sess:\n{cookie}", None),
        ] {
            let made = KeyPattern::parse(pattern).map(|pattern| pattern.key("a-1"));
            if pattern.contains("sha256") && key.is_some() {
                let made = made.unwrap();
                let hex = made.strip_prefix("session:2::").unwrap();
                let sum = digest::digest(&digest::SHA256, b"a-1");
                let bytes: Vec<String> = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex, bytes.concat());
            } else {
                assert_eq!(made.as_deref(), key, "{pattern}");
            }
        }
    }
}
