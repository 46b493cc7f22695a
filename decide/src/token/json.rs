//! JSON in which no object, at any depth, may name a member twice (RFC 8725 and RFC 7515, 4: two parsers could
//! otherwise take different ones).
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 16;

/// Reads one object and nothing after it; `None` for anything else, for a repeated member at any depth, for nesting
/// deeper than 16 and for numbers that do not fit a double.
pub fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(map) => Some(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
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
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::object;

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
}
