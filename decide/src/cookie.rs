//! The `Cookie` header: the one cookie that is wanted, or a refusal where another reader could find another.
use crate::fields::{ambiguous, trim};
use crate::refusal::Refusal;
use std::borrow::Cow;

/// The pairs of one `Cookie` header in order, split as RFC 6265, 5.2 and its successor do: at every semicolon, then at
/// the first `=`, without white space around either part. A piece without `=` is a value with an empty name.
pub fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|b| *b == b';').map(trim).filter(|piece| !piece.is_empty()).map(pair)
}

/// Finds the cookie of this name in all `Cookie` headers of a request (HTTP/2 may split them: RFC 9113, 8.2.3).
///
/// Refuses with `request.ambiguous`
/// - two cookies of the name: which one a reader takes is chance (RFC 6265, 4.2.2 leaves the order open);
/// - a cookie whose name is another spelling of it: other case, which browsers ignore in `__Host-` and `__Secure-`
///   (RFC 6265bis, 4.1.3), or a dot, space or bracket for an underscore, as some servers fold them (CVE-2022-31629);
/// - a value that is not made of cookie octets (RFC 6265, 4.1.1): quoted values are unquoted by some readers only;
/// - beside the wanted cookie, marks of the older grammar of RFC 2109, `$Version` or an open quote, under which
///   semicolons do not separate.
///
/// Cookies of other names are the application's, and are not judged while the wanted one is absent.
pub fn find<'a>(headers: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Result<Option<&'a str>, Refusal> {
    let (mut found, mut legacy) = (None, false);
    for (other, value) in headers.into_iter().flat_map(pairs) {
        if other == name.as_bytes() {
            if found.replace(value).is_some() {
                return Err(ambiguous("two cookies of one name"));
            }
        } else if alike(other, name) {
            return Err(ambiguous("another spelling of the cookie's name"));
        }
        legacy |= other.first() == Some(&b'$') || open_quote(value);
    }
    let Some(value) = found else { return Ok(None) };
    if legacy {
        return Err(ambiguous("cookies in the grammar of RFC 2109"));
    }
    if !value.iter().copied().all(is_octet) {
        return Err(ambiguous("value of the cookie is not made of cookie octets"));
    }
    std::str::from_utf8(value).map(Some).map_err(|_| ambiguous("value of the cookie is not text"))
}

/// What the names of all cookies begin with that are the gateway's own business: no application reads or sets them.
pub const OWN: &str = "__Host-moat-";

/// Whether a cookie is the gateway's own business, in this spelling or in another.
pub fn is_own(name: &[u8]) -> bool {
    name.get(..OWN.len()).is_some_and(|head| alike(head, OWN))
}

/// The header without the cookie of this name and any other spelling of it, the rest as sent; empty where nothing is
/// left, in which case the header should be dropped.
pub fn without<'a>(header: &'a [u8], name: &str) -> Cow<'a, [u8]> {
    filtered(header, |other| !alike(other, name))
}

/// The header without the cookies that [`is_own`] tells.
pub fn without_own(header: &[u8]) -> Cow<'_, [u8]> {
    filtered(header, |name| !is_own(name))
}

fn filtered(header: &[u8], keeps: impl Fn(&[u8]) -> bool) -> Cow<'_, [u8]> {
    let pieces = || header.split(|b| *b == b';').map(trim).filter(|piece| !piece.is_empty());
    let stays = |piece: &&[u8]| keeps(pair(piece).0);
    if pieces().all(|piece| stays(&piece)) {
        return Cow::Borrowed(header);
    }
    let mut rest = Vec::with_capacity(header.len());
    for piece in pieces().filter(stays) {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(piece);
    }
    Cow::Owned(rest)
}

fn pair(piece: &[u8]) -> (&[u8], &[u8]) {
    match piece.iter().position(|b| *b == b'=').and_then(|at| piece.split_at_checked(at)) {
        Some((name, value)) => (trim(name), trim(value.strip_prefix(b"=").unwrap_or(value))),
        None => (&[], piece),
    }
}

/// Whether some reader takes the one name for the other.
fn alike(other: &[u8], name: &str) -> bool {
    let fold = |b: u8| if matches!(b, b'.' | b' ' | b'[') { b'_' } else { b.to_ascii_lowercase() };
    other.len() == name.len() && other.iter().zip(name.as_bytes()).all(|(o, n)| fold(*o) == fold(*n))
}

fn open_quote(value: &[u8]) -> bool {
    match value {
        [b'"', inside @ .., b'"'] => inside.contains(&b'"'),
        [b'"', ..] => true,
        _ => false,
    }
}

/// `cookie-octet` (RFC 6265, 4.1.1): visible ASCII without quote, comma, semicolon and backslash.
const fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "__Host-session";

    fn read(headers: &[&str]) -> String {
        match find(headers.iter().map(|h| h.as_bytes()), NAME) {
            Ok(Some(value)) => format!("found {value}"),
            Ok(None) => "none".to_owned(),
            Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
        }
    }

    #[test]
    fn one_cookie_or_a_refusal() {
        for (header, expected) in [
            ("", "none"),
            ("a=1; b=2", "none"),
            ("__Host-session=x", "found x"),
            ("a=1; __Host-session=x.y.z; b=2", "found x.y.z"),
            ("a=1;__Host-session=x", "found x"),
            (" ;; __Host-session=x ; ", "found x"),
            ("__Host-session = x", "found x"),
            ("__Host-session=", "found "),
            ("__Host-session=a=b==", "found a=b=="),
            ("session=x; __Secure-session=y", "none"),
            ("__Host-session", "none"),
            ("x__Host-session=y", "none"),
            ("prefs={\"a\":1}; __Host-session=x", "found x"),
            ("q=\"quoted\"; __Host-session=x", "found x"),
            ("q=\"open", "none"),
            ("__host-session=y", "request.ambiguous: another spelling of the cookie's name"),
            ("__Host-session=x; __HOST-SESSION=y", "request.ambiguous: another spelling of the cookie's name"),
            ("..Host-session=y", "request.ambiguous: another spelling of the cookie's name"),
            ("_[Host-session=y", "request.ambiguous: another spelling of the cookie's name"),
            ("__Host-session=x; __Host-session=x", "request.ambiguous: two cookies of one name"),
            ("__Host-session=x; a=1; __Host-session =y", "request.ambiguous: two cookies of one name"),
            ("__Host-session=\"x\"", "request.ambiguous: value of the cookie is not made of cookie octets"),
            ("__Host-session=x y", "request.ambiguous: value of the cookie is not made of cookie octets"),
            ("__Host-session=x,y", "request.ambiguous: value of the cookie is not made of cookie octets"),
            ("__Host-session=x\\y", "request.ambiguous: value of the cookie is not made of cookie octets"),
            ("__Host-session=\u{e9}", "request.ambiguous: value of the cookie is not made of cookie octets"),
            ("$Version=1; __Host-session=x", "request.ambiguous: cookies in the grammar of RFC 2109"),
            ("a=\"b; __Host-session=x; c=d\"", "request.ambiguous: cookies in the grammar of RFC 2109"),
        ] {
            assert_eq!(read(&[header]), expected, "{header}");
        }
        assert_eq!(read(&["a=1", "__Host-session=x"]), "found x", "split by HTTP/2");
        assert_eq!(
            read(&["__Host-session=x", "__Host-session=y"]),
            "request.ambiguous: two cookies of one name",
            "one in each header"
        );
        assert_eq!(read(&[]), "none");
    }

    #[test]
    fn the_rest_of_a_header() {
        for (header, expected) in [
            ("a=1; b=2", "a=1; b=2"),
            ("a=1;b=2 ;", "a=1;b=2 ;"),
            ("__Host-session=x", ""),
            ("__Host-session=x; a=1", "a=1"),
            ("a=1; __Host-session=x", "a=1"),
            ("a=1;__Host-session=x;b=2;c", "a=1; b=2; c"),
            ("__Host-session=x; a=1; __Host-session=y", "a=1"),
            ("__host-session=x; __Host_session=y; a=1", "__Host_session=y; a=1"),
            ("__Host-session =x; a=1", "a=1"),
        ] {
            assert_eq!(String::from_utf8_lossy(&without(header.as_bytes(), NAME)), expected, "{header}");
        }
    }

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"__Host-session=x".to_vec()),
            Just(b"__host-session=".to_vec()),
            Just(b"; ".to_vec()),
            Just(b";".to_vec()),
            any::<Vec<u8>>(),
            "[a-z=\"$ ]{0,4}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|p| p.concat())
    }

    proptest! {
        #[test]
        fn what_is_removed_is_not_found(header in hostile()) {
            let _ = find([header.as_slice()], NAME);
            let rest = without(&header, NAME);
            prop_assert_eq!(find([&*rest], NAME), Ok(None));
            prop_assert_eq!(without(&rest, NAME), rest.clone());
        }

        /// Other cookies do not change what is found, unless they make it ambiguous.
        #[test]
        fn other_cookies_change_nothing(other in hostile()) {
            let with_other = [b"__Host-session=x; ".as_slice(), &other].concat();
            prop_assert!(matches!(find([with_other.as_slice()], NAME), Ok(Some("x")) | Err(_)));
        }
    }
}
