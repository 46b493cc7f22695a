//! A field of `application/x-www-form-urlencoded` (WHATWG URL, 5.1), or a refusal.
use super::fold::fold;
use super::invalid;
use crate::refusal::Refusal;
use std::borrow::Cow;

/// The value of the one field of this name.
pub(super) fn value(body: &[u8], name: &str) -> Result<String, Refusal> {
    let mut found = None;
    for piece in body.split(|b| *b == b'&').filter(|piece| !piece.is_empty()) {
        let (left, right) = halves(piece);
        let left = decode(left).ok_or_else(|| invalid("the name of a form's field is no text"))?;
        if left == "_charset_" && !fold(&String::from_utf8_lossy(right)).starts_with("utf-8") {
            return Err(invalid("the form says that its charset is not UTF-8"));
        }
        if left != name {
            if is_like(&left, name) {
                return Err(invalid("a field looks like the one that is asked for"));
            }
            // Some parsers end a field at a semicolon too.
            if piece.contains(&b';') && piece.split(|b| *b == b';').any(|part| is_like_raw(part, name)) {
                return Err(invalid("a semicolon may begin the field that is asked for"));
            }
            continue;
        }
        if piece.contains(&b';') {
            return Err(invalid("a semicolon may end the field that is asked for"));
        }
        let value = decode(right).ok_or_else(|| invalid("the field that is asked for is no text"))?;
        if found.replace(value).is_some() {
            return Err(invalid("the field that is asked for stands twice"));
        }
    }
    found.map(Cow::into_owned).ok_or_else(|| invalid("the field that is asked for is missing"))
}

/// Whether a query has a field of this name, or one like it.
pub(super) fn names(query: &[u8], name: &str) -> bool {
    query.split(|b| matches!(b, b'&' | b';')).any(|piece| !piece.is_empty() && is_like_raw(piece, name))
}

fn is_like_raw(piece: &[u8], name: &str) -> bool {
    match decode(halves(piece).0) {
        Some(left) => left == name || is_like(&left, name),
        // What is no text is not compared, and so may be anything.
        None => true,
    }
}

/// Whether some application could take `other` for the field: case and marks aside, `user.name` and `user name` are
/// `user_name` to PHP, and `name[]` is `name` to many.
fn is_like(other: &str, name: &str) -> bool {
    let plain = |text: &str| {
        let text = fold(text);
        let head = text.split('[').next().filter(|head| !head.is_empty() && !name.contains('['));
        head.unwrap_or(&text).replace(['.', ' ', '-'], "_")
    };
    plain(other) == plain(name)
}

fn halves(piece: &[u8]) -> (&[u8], &[u8]) {
    match piece.iter().position(|b| *b == b'=') {
        Some(at) => (piece.get(..at).unwrap_or_default(), piece.get(at + 1..).unwrap_or_default()),
        None => (piece, &[]),
    }
}

/// Percent-decodes. `None` for a percent sign without two digits, which parsers read differently, and for what is not
/// UTF-8.
fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                high << 4 | low
            }
            other => *other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}
