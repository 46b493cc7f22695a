//! A choice by key that may have one other key beside it: `{session: browser, on_missing: login}`.
use super::Error;
use super::value::Value;
use serde::de::value::UnitDeserializer;
use serde::de::{DeserializeSeed, SeqAccess};

/// Name of the newtype by which a value asks to be read in two parts.
pub const BESIDE: &str = "$beside";

/// Name of the enum that may have the key beside it, and the key.
pub(super) const PAIR: (&str, &str) = ("AuthOptions", "on_missing");

/// Gives the value of the key beside, or nothing, and then the choice.
pub(super) struct Both<'a> {
    pub(super) value: Value<'a>,
    pub(super) step: u8,
}

impl<'de> SeqAccess<'de> for Both<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.step += 1;
        match self.step {
            1 => match self.value.beside(PAIR.1) {
                Some(beside) => beside.member(seed).map(Some),
                None => seed.deserialize(UnitDeserializer::<Error>::new()).map(Some),
            },
            2 => seed.deserialize(self.value).map(Some),
            _ => Ok(None),
        }
    }
}
