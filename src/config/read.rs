//! A tree of nodes → typed options, through serde, with every problem collected instead of the first one only: a value
//! that cannot be read is reported, left out, and the reading starts again without it.
use crate::config::problem::{At, Report};
use crate::config::secrets::SECRET;
use crate::config::yaml::{Key, Kind, Node};
use decide::policy::nearest;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::marker::PhantomData;

/// Reads a tree as `T`. `None` where the root itself cannot be read; otherwise what could be read, and the rest is in
/// the report.
pub fn read<T: for<'de> Deserialize<'de>>(node: &Node, report: &Report) -> Option<T> {
    let reader = Reader { report, skip: RefCell::default(), path: RefCell::default() };
    for _ in 0..MAX_ROUNDS {
        let root = Value { node, key: node.at, reader: &reader };
        match T::deserialize(root) {
            Ok(value) => return Some(value),
            Err(error) => {
                let at = error.at.unwrap_or(node.at);
                if !error.silent && !error.missing.is_some_and(|name| root.has_unreadable(name)) {
                    report.hinted(at, error.message, error.hint);
                }
                match error.skip {
                    Some(id) if reader.skip.borrow_mut().insert(id) => {}
                    _ => return None,
                }
            }
        }
    }
    None
}

/// After this many unreadable values the reading gives up.
const MAX_ROUNDS: usize = 200;

/// Keys of the published grammar that this version does not serve: refused by name, never ignored.
const LATER: &[&str] = &[
    "acr_values",
    "api_key",
    "auth",
    "session",
    "tls",
    "version",
    "auth_method",
    "body_hash",
    "browser",
    "cache_key",
    "caep",
    "client",
    "client_certificate",
    "concurrent",
    "cors",
    "debug",
    "delay",
    "embedded",
    "format",
    "hash_ids_with",
    "health",
    "idempotency",
    "include",
    "labels",
    "level",
    "max_in_flight",
    "mtls",
    "on_exceed",
    "on_full",
    "on_missing",
    "on_store_error",
    "on_unwritable",
    "outlier",
    "permission_from",
    "postgres",
    "proxy_protocol",
    "redact",
    "redis",
    "required",
    "synced",
    "residency",
    "retry",
    "revocation",
    "service_accounts",
    "session_tickets",
    "ship",
    "signals",
    "status_page",
    "storage",
    "tokens",
    "traces",
    "trust_inbound",
    "webhook_signature",
    "hash",
    "algorithm",
    "idle",
];

/// Key parts of limits that this version does not serve.
const LATER_PREFIXES: [&str; 3] = ["form.", "route.", "api_key."];

/// Messages of types that are not ours, and what those types expect.
const FOREIGN: [(&str, &str); 2] = [
    ("invalid socket address syntax", "an address with port such as `127.0.0.1:8443` or `[::1]:8443`"),
    ("invalid IP address syntax", "an address or a network such as `10.0.0.0/8`"),
];

/// What to say about a key or word that does not belong here.
pub(crate) fn unknown<'k>(
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> (String, Option<String>) {
    let later = |prefix: &&str| word.starts_with(*prefix);
    if LATER.contains(&word) || LATER_PREFIXES.iter().any(later) {
        let hint = "it is part of the grammar, but the gateway would not act on it; remove it".to_owned();
        return (format!("`{word}` is not supported by this version"), Some(hint));
    }
    let hint = nearest(word, known.clone()).or_else(|| {
        let mut all: Vec<&str> = known.collect();
        all.sort_unstable();
        choice(&all)
    });
    (format!("unknown {what} `{word}`"), hint)
}

/// The names that exist, where they are few enough to read.
pub(crate) fn choice(all: &[&str]) -> Option<String> {
    match all {
        [] => None,
        [one] => Some(format!("there is only `{one}`")),
        [..] if all.len() <= 16 => Some(format!("there are `{}`", all.join("`, `"))),
        [..] => None,
    }
}

struct Reader<'a> {
    report: &'a Report,
    /// Ids of nodes that could not be read.
    skip: RefCell<HashSet<u32>>,
    /// Keys from the root to the value that is being read.
    path: RefCell<Vec<At>>,
}

/// Why a value cannot be read.
#[derive(Debug)]
pub struct Error {
    message: String,
    hint: Option<String>,
    at: Option<At>,
    /// Id of the node to leave out when reading again.
    skip: Option<u32>,
    /// Name of a required key that is not there.
    missing: Option<&'static str>,
    /// The report knows already.
    silent: bool,
}

impl Error {
    fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), hint: None, at: None, skip: None, missing: None, silent: false }
    }

    fn at(mut self, at: At) -> Error {
        self.at.get_or_insert(at);
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// A second line of the message is the hint.
    fn custom<T: std::fmt::Display>(message: T) -> Error {
        let text = message.to_string();
        match text.split_once('\n') {
            Some((message, hint)) => Error { hint: Some(hint.to_owned()), ..Error::new(message) },
            None => Error::new(text),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Error {
        let (message, hint) = unknown("key", field, expected.iter().copied());
        Error { hint, ..Error::new(message) }
    }

    fn missing_field(field: &'static str) -> Error {
        Error { missing: Some(field), ..Error::new(format!("missing `{field}`")) }
    }
}

#[derive(Clone, Copy)]
struct Value<'a> {
    node: &'a Node,
    /// The key that leads to it.
    key: At,
    reader: &'a Reader<'a>,
}

impl<'a> Value<'a> {
    /// Reads it as part of a list or map, so that it can be left out when it cannot be read.
    fn member<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
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

    fn has_unreadable(&self, key: &str) -> bool {
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
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (word, at, content) = match &self.node.kind {
            Kind::Scalar { text, .. } => (text, self.node.at, None),
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => (&key.text, key.at, Some(Value { node: value, key: key.at, reader: self.reader })),
                [] | [_, ..] => {
                    let message = format!("expected a map with one key, found {} keys", entries.len());
                    return Err(Error::new(message).at(self.node.at));
                }
            },
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

/// A key, or the name of a variant.
struct Word<'a> {
    text: &'a str,
    at: At,
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

struct Choice<'a> {
    word: &'a str,
    at: At,
    content: Option<Value<'a>>,
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

const SPANNED: &str = "$spanned";

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
struct Place<D> {
    at: At,
    step: u8,
    value: Option<D>,
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

/// A map in the order of the file, whose keys know their places.
#[derive(Clone, Debug)]
pub struct Entries<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<T> Entries<T> {
    /// Key and value, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &(Spanned<String>, T)> {
        self.0.iter()
    }

    /// The names alone.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(key, _)| key.value.as_str())
    }

    /// The value of a name.
    pub fn find(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Entries(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (&key.value, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("map of {}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Source;
    use crate::config::yaml;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "shown by Debug only")]
    struct Top {
        port: u16,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        items: Entries<Item>,
        #[serde(default)]
        list: Vec<Spanned<Kindly>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "shown by Debug only")]
    struct Item {
        size: u8,
        name: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "shown by Debug only")]
    enum Kindly {
        Nobody,
        User(String),
        Thing(Item),
    }

    fn problems(text: &str) -> (Option<Top>, Vec<String>) {
        let report = Report::default();
        let tree = yaml::parse(0, text, &|_| None, &report, &mut 0).unwrap();
        let top = read::<Top>(&tree, &report);
        let found = report.finish(&[Source { name: "f".into(), text: text.into() }]);
        let line = |p: &crate::config::problem::Problem| {
            let hint = p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
            format!("{}:{} {}{hint}", p.line, p.column, p.message)
        };
        (top, found.0.iter().map(line).collect())
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let (top, found) = problems(
            "port: 1\non: yes\nitms: 1\nitems:\n  a: {size: 300}\n  b: {nme: x}\n  c: {size: 3, name: [1]}\n  d: 4\n  e: {size: 5}\n  f:\n  retry: {size: 1, retry: 2}\n\
             list: [nobody, nobdy, {user: x}, {user: []}, user, {nobody: 1}, {thing: {}}, {thing: {size: x}}, {a: 1, b: 2}]\n",
        );
        assert_eq!(
            found,
            [
                "2:5 expected `true` or `false`, found `yes`",
                "3:1 unknown key `itms` (did you mean `items`?)",
                "5:13 expected a whole number, found `300`",
                "6:3 missing `size`",
                "6:7 unknown key `nme` (did you mean `name`?)",
                "7:22 expected a text, found a list",
                "8:6 expected a map, found `4`",
                "10:3 expected a map, found nothing",
                "11:20 `retry` is not supported by this version (it is part of the grammar, but the gateway would not act on it; remove it)",
                "12:16 unknown value `nobdy` (did you mean `nobody`?)",
                "12:41 expected a text, found a list",
                "12:46 `user` needs a value: write `user: …`",
                "12:53 `nobody` takes no value",
                "12:66 missing `size`",
                "12:93 expected a whole number, found `x`",
                "12:98 expected a map with one key, found 2 keys",
            ]
        );
        let top = top.unwrap();
        assert_eq!(top.items.names().collect::<Vec<_>>(), ["c", "e", "retry"]);
        assert_eq!(top.list.len(), 2);
        assert_eq!((top.list[1].at.line, top.list[1].at.column), (12, 23));
    }

    #[test]
    fn a_required_key_that_cannot_be_read_is_reported_once() {
        let (top, found) = problems("port: x\non: 1\n");
        assert_eq!(found, ["1:7 expected a whole number, found `x`", "2:5 expected `true` or `false`, found `1`"]);
        assert!(top.is_none());
    }
}
