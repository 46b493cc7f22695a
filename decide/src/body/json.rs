//! A field of a JSON body, or a refusal.
use super::fold::fold;
use super::invalid;
use crate::refusal::Refusal;
use crate::token::json::object;
use crate::token::json::{Map, Value};

/// The value of the member to which these names lead, joined by dots.
pub(super) fn value(body: &[u8], path: &str) -> Result<String, Refusal> {
    let root = object(body).ok_or_else(|| invalid("the body is no JSON object, or a member stands twice in it"))?;
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let mut object = &root;
    for name in parents.into_iter().flat_map(|parents| parents.split('.')) {
        match member(object, name)? {
            Value::Object(next) => object = next,
            _ => return Err(invalid("the way to the field that is asked for is no object")),
        }
    }
    match member(object, last)? {
        Value::String(text) => Ok(text.to_string()),
        // What many applications take for its digits; other numbers have more than one spelling.
        Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(invalid("the field that is asked for is no text"))
        }
    }
}

/// The member of this name, where no other looks like it: some parsers do not mind the case of names.
fn member<'v>(object: &'v Map<'v>, name: &str) -> Result<&'v Value<'v>, Refusal> {
    let folded = fold(name);
    if object.iter().any(|(other, _)| other != name && fold(other) == folded) {
        return Err(invalid("a member looks like the field that is asked for"));
    }
    object.get(name).ok_or_else(|| invalid("the field that is asked for is missing"))
}
