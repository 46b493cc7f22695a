//! Values that remember where they stood.
use super::Error;
use crate::config::problem::At;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeSeed, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::marker::PhantomData;

/// Name of the newtype by which a value asks for its place.
pub(super) const SPANNED: &str = "$spanned";

/// A value that remembers where it stood.
#[derive(Clone, Debug, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub at: At,
}

/// A default, which stands nowhere.
impl<T> From<T> for Spanned<T> {
    fn from(value: T) -> Self {
        Spanned { value, at: At::default() }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Gives file, line, column, length and then the value itself.
pub(super) struct Place<D> {
    pub(super) at: At,
    pub(super) step: u8,
    pub(super) value: Option<D>,
}

impl<'de, D: Deserializer<'de, Error = Error>> SeqAccess<'de> for Place<D> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let number = match self.step {
            0 => self.at.file,
            1 => self.at.line,
            2 => self.at.column,
            3 => self.at.len,
            _ => return self.value.take().map(|value| seed.deserialize(value)).transpose(),
        };
        self.step += 1;
        seed.deserialize(IntoDeserializer::<Error>::into_deserializer(number)).map(Some)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct At5<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for At5<T> {
            type Value = Spanned<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value with its place")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Spanned<T>, A::Error> {
                let mut number = || -> Result<u32, A::Error> { Ok(seq.next_element()?.unwrap_or_default()) };
                let at = At { file: number()?, line: number()?, column: number()?, len: number()? };
                let value = seq.next_element()?.ok_or_else(|| de::Error::custom("nothing"))?;
                Ok(Spanned { value, at })
            }
        }
        deserializer.deserialize_newtype_struct(SPANNED, At5(PhantomData))
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
