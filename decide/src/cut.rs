//! Texts taken apart at an ASCII character, which is looked for many bytes at a time.
use memchr::memchr;

/// What stands before the first `at`, and what stands after it.
pub(crate) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let (before, rest) = text.split_at_checked(memchr(at, text.as_bytes())?)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_cuts_as_splitting_does(text in "[a-c./é]{0,40}") {
            for at in ['.', '/', 'a'] {
                prop_assert_eq!(cut(&text, at as u8), text.split_once(at));
            }
        }
    }
}
