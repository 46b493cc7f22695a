//! Keys and the names of variants as deserializers.
use super::Error;
use super::spanned::{Place, SPANNED};
use super::value::Value;
use crate::config::problem::At;
use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, VariantAccess, Visitor};

/// A key, or the name of a variant.
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: At,
}

impl<'de> Deserializer<'de> for Word<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str::<Error>(self.text).map_err(|e| e.at(self.at))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == SPANNED {
            return visitor.visit_seq(Place { at: self.at, step: 0, value: Some(self) });
        }
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A variant, with what stands under it.
pub(super) struct Choice<'a> {
    pub(super) word: &'a str,
    pub(super) at: At,
    pub(super) content: Option<Value<'a>>,
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Error;
    type Variant = Choice<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Choice<'a>), Error> {
        Ok((seed.deserialize(Word { text: self.word, at: self.at })?, self))
    }
}

impl<'a> Choice<'a> {
    fn content(self) -> Result<Value<'a>, Error> {
        self.content
            .ok_or_else(|| Error::new(format!("`{}` needs a value: write `{}: …`", self.word, self.word)).at(self.at))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Error::new(format!("`{}` takes no value", self.word)).at(self.at)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let value = self.content()?;
        seed.deserialize(value).map_err(|error| match error.missing {
            Some(name) => {
                Error { silent: error.silent || value.has_unreadable(name), missing: None, ..error }.at(value.key)
            }
            None => error.at(value.node.at),
        })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}
