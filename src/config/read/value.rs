//! A node as a deserializer: what it must be, what it is instead, and which values were left out.
use super::beside::{BESIDE, Both, PAIR};
use super::spanned::{Place, SPANNED};
use super::unknown::unknown;
use super::words::{Choice, Word};
use super::{Error, Reader};
use crate::config::problem::At;
use crate::config::secrets::SECRET;
use crate::config::yaml::{Key, Kind, Node};
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Messages of types that are not ours, and what those types expect.
const FOREIGN: [(&str, &str); 2] = [
    ("invalid socket address syntax", "an address with port such as `127.0.0.1:8443` or `[::1]:8443`"),
    ("invalid IP address syntax", "an address or a network such as `10.0.0.0/8`"),
];

/// A node that is being read.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) node: &'a Node,
    /// The key that leads to it.
    pub(super) key: At,
    pub(super) reader: &'a Reader<'a>,
}

impl<'a> Value<'a> {
    /// Reads it as part of a list or map, so that it can be left out when it cannot be read.
    pub(super) fn member<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.reader.path.borrow_mut().push(self.key);
        let result = seed.deserialize(self);
        if result.is_err() {
            self.reader.report.taint(&self.reader.path.borrow());
        }
        self.reader.path.borrow_mut().pop();
        result.map_err(|error| {
            let at = if error.missing.is_some() { self.key } else { self.node.at };
            if error.message == SECRET {
                self.reader.report.mask(self.node.at);
            }
            let silent = error.silent || error.missing.is_some_and(|name| self.has_unreadable(name));
            Error { skip: error.skip.or(Some(self.node.id)), missing: None, silent, ..error }.at(at)
        })
    }

    /// The value of another key of the same map.
    pub(super) fn beside(&self, name: &str) -> Option<Value<'a>> {
        let Kind::Map(entries) = &self.node.kind else { return None };
        let (key, node) = entries.iter().find(|(key, node)| key.text == name && !self.skipped(node))?;
        Some(Value { node, key: key.at, reader: self.reader })
    }

    pub(super) fn has_unreadable(&self, key: &str) -> bool {
        self.node.get(key).is_some_and(|node| self.reader.skip.borrow().contains(&node.id))
    }

    fn skipped(&self, node: &Node) -> bool {
        self.reader.skip.borrow().contains(&node.id)
    }

    fn expected(&self, what: &str) -> Error {
        let found = match &self.node.kind {
            Kind::Broken => return Error { silent: true, ..Error::new("") }.at(self.node.at),
            Kind::Null => "nothing".to_owned(),
            Kind::Scalar { text, .. } if text.is_empty() => "an empty text".to_owned(),
            Kind::Scalar { text, .. } => format!("`{text}`"),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        };
        Error::new(format!("expected {what}, found {found}")).at(if matches!(self.node.kind, Kind::Null) {
            self.key
        } else {
            self.node.at
        })
    }

    fn scalar(&self, what: &str) -> Result<&'a str, Error> {
        self.node.text().ok_or_else(|| self.expected(what))
    }

    fn number<N: std::str::FromStr>(&self, what: &str) -> Result<N, Error> {
        self.scalar(what)?.parse().map_err(|_| self.expected(what))
    }

    fn map(&self, what: &str) -> Result<&'a [(Key, Node)], Error> {
        match &self.node.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Null | Kind::Broken | Kind::Scalar { .. } | Kind::List(_) => Err(self.expected(what)),
        }
    }

    fn list(&self) -> Result<&'a [Node], Error> {
        match &self.node.kind {
            Kind::List(items) => Ok(items),
            Kind::Null | Kind::Broken | Kind::Scalar { .. } | Kind::Map(_) => Err(self.expected("a list")),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit::<Error>(self.number::<$type>($what)?).map_err(|e| e.at(self.node.at))
        })*
    };
}

impl<'de, 'a> Deserializer<'de> for Value<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null | Kind::Broken => Err(self.expected("a value")),
            Kind::Scalar { text, .. } => visitor.visit_str::<Error>(text).map_err(|e| e.at(self.node.at)),
            Kind::List(items) => visitor.visit_seq(Items { value: self, items: items.iter() }),
            Kind::Map(entries) => visitor.visit_map(Entered { value: self, rest: entries.iter(), next: None }),
        }
    }

    numbers! {
        deserialize_bool visit_bool bool, "`true` or `false`";
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number";
        deserialize_u16 visit_u16 u16, "a whole number";
        deserialize_u32 visit_u32 u32, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str::<Error>(self.scalar("a text")?).map_err(|error| {
            let foreign = FOREIGN.iter().find(|(message, _)| *message == error.message);
            foreign.map_or(error, |(_, what)| self.expected(what)).at(self.node.at)
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// A key that stands there has a value: `key:` alone is not the same as no key.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == SPANNED {
            let place = Place { at: self.node.at, step: 0, value: Some(self) };
            return visitor.visit_seq(place);
        }
        if name == BESIDE {
            return visitor.visit_seq(Both { value: self, step: 0 });
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { value: self, items: self.list()?.iter() }).map_err(|e| e.at(self.node.at))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entered { value: self, rest: self.map("a map")?.iter(), next: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = self.map("a map")?;
        for (key, _) in entries.iter().filter(|(key, _)| !fields.contains(&key.text.as_str())) {
            let (message, hint) = unknown("key", &key.text, fields.iter().copied());
            self.reader.report.hinted(key.at, message, hint);
            self.reader.report.taint(&self.reader.path.borrow());
        }
        let known: Vec<&(Key, Node)> = entries.iter().filter(|(key, _)| fields.contains(&key.text.as_str())).collect();
        visitor.visit_map(Entered { value: self, rest: known.into_iter(), next: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (word, at, content) = match &self.node.kind {
            Kind::Scalar { text, .. } => (text, self.node.at, None),
            Kind::Map(entries) => {
                let mut chosen = entries.iter().filter(|(key, _)| (name, &*key.text) != PAIR);
                match (chosen.next(), chosen.next()) {
                    (Some((key, value)), None) => {
                        (&key.text, key.at, Some(Value { node: value, key: key.at, reader: self.reader }))
                    }
                    _ => {
                        let message = format!("expected a map with one key, found {} keys", entries.len());
                        return Err(Error::new(message).at(self.node.at));
                    }
                }
            }
            Kind::Null | Kind::Broken | Kind::List(_) => return Err(self.expected("a word")),
        };
        if !variants.contains(&word.as_str()) {
            let what = if content.is_some() { "key" } else { "value" };
            let (message, hint) = unknown(what, word, variants.iter().copied());
            return Err(Error { hint, ..Error::new(message) }.at(at));
        }
        visitor.visit_enum(Choice { word, at, content }).map_err(|e| e.at(self.node.at))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 }
}

struct Items<'a, I> {
    value: Value<'a>,
    items: I,
}

impl<'de, 'a, I: Iterator<Item = &'a Node>> SeqAccess<'de> for Items<'a, I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match self.items.by_ref().find(|node| !self.value.skipped(node)) {
            Some(node) => Value { node, key: node.at, reader: self.value.reader }.member(seed).map(Some),
            None => Ok(None),
        }
    }
}

struct Entered<'a, I> {
    value: Value<'a>,
    rest: I,
    next: Option<&'a (Key, Node)>,
}

impl<'de, 'a, I: Iterator<Item = &'a (Key, Node)>> MapAccess<'de> for Entered<'a, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.rest.by_ref().find(|(_, node)| !self.value.skipped(node));
        match self.next {
            Some((key, _)) => seed.deserialize(Word { text: &key.text, at: key.at }).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.next.take() else { return Err(Error::new("a value without a key")) };
        Value { node, key: key.at, reader: self.value.reader }.member(seed)
    }
}
