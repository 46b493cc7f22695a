//! Options of upstreams that may be written as a word or as a map.
use crate::config::read::{Entries, Spanned};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::marker::PhantomData;

/// One of `endpoints`.
#[derive(Clone, Debug)]
pub enum EndpointOption {
    /// `host:port`
    Address(String),
    /// With more to say about it.
    Endpoint(EndpointMap),
}

impl EndpointOption {
    /// `host:port`
    pub fn address(&self) -> &str {
        match self {
            EndpointOption::Address(address) => address,
            EndpointOption::Endpoint(map) => &map.address,
        }
    }
}

/// An endpoint with more to say about it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointMap {
    /// `host:port`
    pub address: Spanned<String>,
    /// Its share of the requests, from 1 to 100.
    #[serde(default = "one")]
    pub weight: Spanned<u32>,
    /// Where it stands; endpoints in `server.zone` are preferred. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Spanned<String>>,
    /// Requests at once to each address of it, from 1. Default: no bound of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<Spanned<usize>>,
}

fn one() -> Spanned<u32> {
    1.into()
}

/// `load_balance`
#[derive(Clone, Debug, Default)]
pub enum BalanceOption {
    /// The endpoint with the fewest requests in flight.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// The same one for the same word, while it is there.
    Hash(HashOption),
}

/// `load_balance: {hash: …}`
#[derive(Clone, Debug)]
pub enum HashOption {
    /// By the verified tenant.
    Tenant,
    /// By a request header.
    Header(Spanned<String>),
}

/// `client_certificate`
#[derive(Clone, Debug)]
pub enum ClientCertificate {
    /// NAME of a pair in `tls.certificates`.
    Pair(String),
    /// Files of its own.
    Files(ClientFiles),
}

/// A certificate and its key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientFiles {
    /// PEM file with the chain, leaf first.
    pub certificate: Spanned<String>,
    /// PEM file with the private key.
    pub key: Spanned<String>,
}

/// `upstream` of a route
#[derive(Clone, Debug)]
pub enum RouteUpstream {
    /// One for all.
    One(String),
    /// By region; `default` for tenants without a residency.
    ByRegion(Entries<Spanned<String>>),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hashed {
    /// `tenant` or `{header: NAME}`
    hash: HashOption,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ByHeader {
    /// Name of the header.
    header: Spanned<String>,
}

/// A value that is written as a word or as a map.
trait Shape: Sized {
    const EXPECTED: &'static str;
    const NAME: &'static str;
    type Map: DeserializeOwned + Serialize + JsonSchema;
    fn from_word(word: &str) -> Option<Self>;
    fn from_map(map: Self::Map) -> Self;
    fn write(&self) -> Result<Cow<'_, str>, Self::Map>;
    fn schema_of_words() -> Schema;
}

fn any_text() -> Schema {
    json_schema!({ "type": "string" })
}

impl Shape for EndpointOption {
    const EXPECTED: &'static str = "`host:port` or a map with `address`";
    const NAME: &'static str = "Endpoint";
    type Map = EndpointMap;
    fn from_word(word: &str) -> Option<Self> {
        Some(EndpointOption::Address(word.to_owned()))
    }
    fn from_map(map: EndpointMap) -> Self {
        EndpointOption::Endpoint(map)
    }
    fn write(&self) -> Result<Cow<'_, str>, EndpointMap> {
        match self {
            EndpointOption::Address(address) => Ok(address.into()),
            EndpointOption::Endpoint(map) => Err(map.clone()),
        }
    }
    fn schema_of_words() -> Schema {
        any_text()
    }
}

impl Shape for BalanceOption {
    const EXPECTED: &'static str = "`least_requests`, `round_robin`, `{hash: tenant}` or `{hash: {header: NAME}}`";
    const NAME: &'static str = "Balance";
    type Map = Hashed;
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "least_requests" => Some(BalanceOption::LeastRequests),
            "round_robin" => Some(BalanceOption::RoundRobin),
            _ => None,
        }
    }
    fn from_map(map: Hashed) -> Self {
        BalanceOption::Hash(map.hash)
    }
    fn write(&self) -> Result<Cow<'_, str>, Hashed> {
        match self {
            BalanceOption::LeastRequests => Ok("least_requests".into()),
            BalanceOption::RoundRobin => Ok("round_robin".into()),
            BalanceOption::Hash(hash) => Err(Hashed { hash: hash.clone() }),
        }
    }
    fn schema_of_words() -> Schema {
        json_schema!({ "enum": ["least_requests", "round_robin"] })
    }
}

impl Shape for HashOption {
    const EXPECTED: &'static str = "`tenant` or `{header: NAME}`";
    const NAME: &'static str = "Hash";
    type Map = ByHeader;
    fn from_word(word: &str) -> Option<Self> {
        (word == "tenant").then_some(HashOption::Tenant)
    }
    fn from_map(map: ByHeader) -> Self {
        HashOption::Header(map.header)
    }
    fn write(&self) -> Result<Cow<'_, str>, ByHeader> {
        match self {
            HashOption::Tenant => Ok("tenant".into()),
            HashOption::Header(header) => Err(ByHeader { header: header.clone() }),
        }
    }
    fn schema_of_words() -> Schema {
        json_schema!({ "const": "tenant" })
    }
}

impl Shape for ClientCertificate {
    const EXPECTED: &'static str = "the NAME of a pair or `{certificate: FILE, key: FILE}`";
    const NAME: &'static str = "ClientCertificate";
    type Map = ClientFiles;
    fn from_word(word: &str) -> Option<Self> {
        Some(ClientCertificate::Pair(word.to_owned()))
    }
    fn from_map(map: ClientFiles) -> Self {
        ClientCertificate::Files(map)
    }
    fn write(&self) -> Result<Cow<'_, str>, ClientFiles> {
        match self {
            ClientCertificate::Pair(name) => Ok(name.into()),
            ClientCertificate::Files(files) => Err(files.clone()),
        }
    }
    fn schema_of_words() -> Schema {
        any_text()
    }
}

impl Shape for RouteUpstream {
    const EXPECTED: &'static str = "the name of an upstream or a map of regions to names";
    const NAME: &'static str = "RouteUpstream";
    type Map = Entries<Spanned<String>>;
    fn from_word(word: &str) -> Option<Self> {
        Some(RouteUpstream::One(word.to_owned()))
    }
    fn from_map(map: Entries<Spanned<String>>) -> Self {
        RouteUpstream::ByRegion(map)
    }
    fn write(&self) -> Result<Cow<'_, str>, Entries<Spanned<String>>> {
        match self {
            RouteUpstream::One(name) => Ok(name.into()),
            RouteUpstream::ByRegion(map) => Err(map.clone()),
        }
    }
    fn schema_of_words() -> Schema {
        any_text()
    }
}

struct Either<S>(PhantomData<S>);

impl<'de, S: Shape> Visitor<'de> for Either<S> {
    type Value = S;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(S::EXPECTED)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<S, E> {
        S::from_word(text).ok_or_else(|| E::custom(format!("expected {}, found `{text}`", S::EXPECTED)))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
        S::Map::deserialize(MapAccessDeserializer::new(map)).map(S::from_map)
    }
}

macro_rules! shapes {
    ($($type:ident)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Either(PhantomData))
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.write() {
                    Ok(word) => serializer.serialize_str(&word),
                    Err(map) => map.serialize(serializer),
                }
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                <$type as Shape>::NAME.into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let map = generator.subschema_for::<<$type as Shape>::Map>();
                json_schema!({ "anyOf": [<$type as Shape>::schema_of_words(), map] })
            }
        }
    )*};
}

shapes! { EndpointOption BalanceOption HashOption ClientCertificate RouteUpstream }
