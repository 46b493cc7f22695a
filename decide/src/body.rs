//! Fields of a request's body that limits count by, read so strictly that nobody slips by as somebody else.
//!
//! Whoever guesses passwords wants each guess to look like another account to us and like the same one to the
//! application. So whatever two parsers could read differently is refused, and a value is folded further than any
//! application folds it: that two names share a limit harms less than that one name has two.
mod fold;
mod form;
mod json;
#[cfg(test)]
mod tests;

use crate::refusal::{Code, Refusal};
use crate::rules::{FieldKey, FieldSource};
use fold::fold;

/// What a body is, by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/x-www-form-urlencoded` (WHATWG URL, 5)
    Form,
    /// `application/json` or `+json` (RFC 8259)
    Json,
}

/// The folded value of a field. It names a person: there is no way to print it, only to hash it.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldValue(String);

impl FieldValue {
    /// What is hashed.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for FieldValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FieldValue")
    }
}

/// Media types of the bodies in which fields of this source stand.
pub fn content_types(source: FieldSource) -> &'static [&'static str] {
    match source {
        FieldSource::Form => &["application/x-www-form-urlencoded"],
        FieldSource::Json => &["application/json"],
        FieldSource::Any => &["application/x-www-form-urlencoded", "application/json"],
    }
}

/// Which kind of body the values of `Content-Type` announce, for fields of these sources. Refuses with
/// `body.unsupported` what is neither form nor JSON or not the one that is asked for, another charset than UTF-8, and
/// whatever is encoded.
pub fn kind<'h>(
    mut content_types: impl Iterator<Item = &'h [u8]>,
    mut encodings: impl Iterator<Item = &'h [u8]>,
    keys: &[&FieldKey],
) -> Result<Kind, Refusal> {
    let unsupported = |cause| Refusal::new(Code::BodyUnsupported, cause);
    if encodings.any(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported("the body is encoded, and a field of it is asked for"));
    }
    let (Some(value), None) = (content_types.next(), content_types.next()) else {
        return Err(unsupported("a field of the body is asked for, and not one Content-Type says what it is"));
    };
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
    let value = text.ok_or_else(|| unsupported("Content-Type is not ASCII"))?;
    if value.contains(',') {
        // Of a list some take the first, browsers the last.
        return Err(unsupported("Content-Type is a list"));
    }
    let mut parts = value.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let kind = match media.split_once('/') {
        Some(("application", "x-www-form-urlencoded")) => Kind::Form,
        Some(("application", sub)) if sub == "json" || is_json_suffix(sub) => Kind::Json,
        Some(_) | None => {
            return Err(unsupported("a field of the body is asked for, which is no form and no JSON"));
        }
    };
    let mut charset = None;
    for part in parts {
        let (name, said) =
            part.split_once('=').ok_or_else(|| unsupported("a parameter of Content-Type has no value"))?;
        if name.trim().eq_ignore_ascii_case("charset") && charset.replace(said.trim().trim_matches('"')).is_some() {
            return Err(unsupported("Content-Type names two charsets"));
        }
    }
    if charset.is_some_and(|name| !["utf-8", "utf8", "us-ascii"].iter().any(|ok| name.eq_ignore_ascii_case(ok))) {
        return Err(unsupported("the body's charset is not UTF-8"));
    }
    let fits = |key: &&FieldKey| match key.source {
        FieldSource::Any => true,
        FieldSource::Form => kind == Kind::Form,
        FieldSource::Json => kind == Kind::Json,
    };
    if !keys.iter().all(fits) {
        return Err(unsupported("the body is not of the kind that a field is asked for of"));
    }
    Ok(kind)
}

/// The values of these fields, in their order. Refuses with `body.invalid` where one is missing, stands twice, has a
/// look-alike beside it, also stands in the query, or is no text; and a body that does not keep to its grammar.
pub fn read(kind: Kind, body: &[u8], query: Option<&str>, keys: &[&FieldKey]) -> Result<Vec<FieldValue>, Refusal> {
    if keys.iter().any(|key| form::names(query.unwrap_or_default().as_bytes(), &key.name)) {
        // Many frameworks read both as one.
        return Err(invalid("the field that is asked for stands in the query"));
    }
    let value = |key: &&FieldKey| match kind {
        Kind::Form => form::value(body, &key.name),
        Kind::Json => json::value(body, &key.name),
    };
    keys.iter().map(|key| Ok(FieldValue(fold(&value(key)?)))).collect()
}

/// The value of the one field of this name in a form, as it stands; refused like any other that has more than one
/// reading.
pub fn form_field(body: &[u8], query: Option<&str>, name: &str) -> Result<String, Refusal> {
    if form::names(query.unwrap_or_default().as_bytes(), name) {
        return Err(invalid("the field that is asked for stands in the query"));
    }
    form::value(body, name)
}

/// `merge-patch+json`, but not `+json` alone.
fn is_json_suffix(sub: &str) -> bool {
    sub.strip_suffix("+json").is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'))
    })
}

fn invalid(cause: &'static str) -> Refusal {
    Refusal::new(Code::BodyInvalid, cause)
}
