//! JSON in which no object, at any depth, may name a member twice (RFC 8725 and RFC 7515, 4: two parsers could
//! otherwise take different ones). What is read stays where it is: texts are pieces of the document, unless they have escapes.
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use std::borrow::Cow;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 16;
/// Most members of an object that are compared one by one; more are sorted, so that many take no longer each.
const FEW: usize = 16;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer of 64 bits, or a double.
    Number(Number),
    /// A text.
    String(Cow<'a, str>),
    /// Values in their order.
    Array(Vec<Value<'a>>),
    /// Members by name.
    Object(Map<'a>),
}

impl<'a> Value<'a> {
    /// The text, where it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The values, where it is an array.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        if let Value::Array(values) = self { Some(values) } else { None }
    }

    /// The members, where it is an object.
    pub fn as_object(&self) -> Option<&Map<'a>> {
        if let Value::Object(members) = self { Some(members) } else { None }
    }

    /// The number, where it is one.
    pub fn as_f64(&self) -> Option<f64> {
        if let Value::Number(number) = self { number.as_f64() } else { None }
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

/// The members of an object, each name once, in the order of the document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Map<'a> {
    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether there is a member of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Takes the member of this name out.
    pub fn remove(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    fn has_twins(&self) -> bool {
        let mut names: Vec<&str> = Vec::new();
        if self.0.len() > FEW {
            names.extend(self.iter().map(|(name, _)| name));
            names.sort_unstable();
            return names.iter().zip(names.iter().skip(1)).any(|(one, next)| one == next);
        }
        self.iter().enumerate().any(|(at, (name, _))| self.iter().take(at).any(|(other, _)| other == name))
    }
}

/// Reads one object and nothing after it; `None` for anything else, for a repeated member at any depth, for nesting
/// deeper than 16 and for numbers that do not fit a double.
pub fn object(bytes: &[u8]) -> Option<Map<'_>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(map) => Some(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

/// The name of a member.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'de>, D::Error> {
        deserializer.deserialize_str(Text).map(Name)
    }
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

/// A value that is being read, and how deep it stands.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Strict, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom("too deep")) } else { Ok(Strict { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'de>, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::String(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::String(Cow::Borrowed(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::default();
        while let Some(Name(name)) = members.next_key()? {
            map.0.push((name, members.next_value_seed(inner)?));
        }
        if map.has_twins() { Err(A::Error::custom("a member is named twice")) } else { Ok(Value::Object(map)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, object};
    use std::borrow::Cow;

    #[test]
    fn one_object_without_repeated_members() {
        let nested = |depth: usize| format!("{}{}{}", "{\"a\":".repeat(depth), 1, "}".repeat(depth));
        let cases: &[(&str, bool)] = &[
            ("{}", true),
            (" {\"a\":1} \n", true),
            ("{\"a\":1,\"A\":2}", true),
            ("{\"a\":[{\"b\":1},{\"b\":2}]}", true),
            (&nested(16), true),
            (&nested(17), false),
            (&nested(10_000), false),
            ("", false),
            ("[]", false),
            ("null", false),
            ("\"a\"", false),
            ("{} {}", false),
            ("{}x", false),
            ("{\"a\":1,}", false),
            ("{\"a\":1,\"a\":1}", false),
            ("{\"a\":1,\"\\u0061\":1}", false),
            ("{\"a\":{\"b\":1,\"b\":2}}", false),
            ("{\"a\":[{\"b\":1,\"b\":2}]}", false),
            ("{\"a\":1e999}", false),
            ("{\"a\":NaN}", false),
            ("{'a':1}", false),
            ("{\"a\":\"\\ud800\"}", false),
            ("\u{feff}{}", false),
        ];
        for (text, accepted) in cases {
            assert_eq!(object(text.as_bytes()).is_some(), *accepted, "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn of_many_members_none_is_named_twice_either() {
        for count in 1..40 {
            let names: Vec<String> = (0..count).map(|number| format!("\"m{number}\":{number}")).collect();
            let map = format!("{{{}}}", names.join(","));
            let map = object(map.as_bytes()).unwrap();
            assert_eq!(map.len(), count);
            assert!((0..count).all(|number| map.get(&format!("m{number}")) == Some(&Value::Number(number.into()))));
            for twin in 0..count {
                assert!(
                    object(format!("{{{},\"m{twin}\":0}}", names.join(",")).as_bytes()).is_none(),
                    "{count} {twin}"
                );
            }
        }
    }

    #[test]
    fn only_escapes_are_copied() {
        let mut map = object(br#"{"plain":"text","es\u0063aped":"line\n"}"#).unwrap();
        assert!(matches!(map.get("plain"), Some(Value::String(Cow::Borrowed("text")))));
        assert!(matches!(map.remove("escaped"), Some(Value::String(Cow::Owned(text))) if text == "line\n"));
        assert!(map.len() == 1 && !map.contains_key("escaped"));
    }
}
