//! What the keys of a limit may say: parts of its key, costs, what counts, what happens beyond it.
use crate::config::read::{Entries, Spanned};
use crate::config::units::{Period, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// One part of a limit's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOption {
    /// `client.ip_prefix`: the client's address, /32 for IPv4, /64 for IPv6.
    ClientPrefix,
    /// `tenant`
    Tenant,
    /// `user`: issuer and subject.
    User,
    /// `api_key.id`
    ApiKey,
    /// `route`
    Route,
    /// `route.PARAM`: a parameter of the path.
    Param(String),
    /// `form.FIELD_hash`, `json.FIELD_hash`, `body.FIELD_hash`: a field of the body.
    Field(BodyKind, String),
}

/// Where a field of a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// In a form.
    Form,
    /// In JSON.
    Json,
    /// In either.
    Any,
}

impl BodyKind {
    const ALL: [(&str, BodyKind); 3] = [("form", BodyKind::Form), ("json", BodyKind::Json), ("body", BodyKind::Any)];
}

impl KeyOption {
    const WORDS: [(&str, KeyOption); 5] = [
        ("client.ip_prefix", KeyOption::ClientPrefix),
        ("tenant", KeyOption::Tenant),
        ("user", KeyOption::User),
        ("api_key.id", KeyOption::ApiKey),
        ("route", KeyOption::Route),
    ];

    fn parse(text: &str) -> Result<KeyOption, String> {
        if let Some((_, known)) = KeyOption::WORDS.into_iter().find(|(word, _)| *word == text) {
            return Ok(known);
        }
        let (first, rest) = text.split_once('.').unwrap_or((text, ""));
        if first == "route" && !rest.is_empty() {
            return Ok(KeyOption::Param(rest.to_owned()));
        }
        if let Some((_, kind)) = BodyKind::ALL.into_iter().find(|(word, _)| *word == first) {
            return match rest.strip_suffix("_hash").filter(|field| !field.is_empty()) {
                Some(field) => Ok(KeyOption::Field(kind, field.to_owned())),
                None => Err(format!(
                    "`{text}` names no field's hash\na field is only ever counted by its hash: write `{first}.{}_hash`",
                    if rest.is_empty() { "username" } else { rest }
                )),
            };
        }
        let words = KeyOption::WORDS.into_iter().map(|(word, _)| word);
        let (message, hint) = crate::config::read::unknown("part of a key", text, words);
        Err(format!("{message}\n{}", hint.unwrap_or_default()).trim_end().to_owned())
    }

    fn text(&self) -> Cow<'static, str> {
        match self {
            KeyOption::Param(name) => format!("route.{name}").into(),
            KeyOption::Field(kind, field) => {
                let kind = BodyKind::ALL.into_iter().find(|(_, known)| known == kind).map_or("", |(word, _)| word);
                format!("{kind}.{field}_hash").into()
            }
            KeyOption::ClientPrefix | KeyOption::Tenant | KeyOption::User | KeyOption::ApiKey | KeyOption::Route => {
                KeyOption::WORDS.into_iter().find(|(_, known)| known == self).map_or("", |(word, _)| word).into()
            }
        }
    }
}

impl<'de> Deserialize<'de> for KeyOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = KeyOption;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a part of a key, such as `tenant`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<KeyOption, E> {
                KeyOption::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for KeyOption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl JsonSchema for KeyOption {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Key".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(client[.]ip_prefix|tenant|user|route([.].+)?|(form|json|body)[.].+_hash)$",
        })
    }
}

/// How many requests may be under way.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum CapOption {
    /// For everybody.
    One(u32),
    /// By class.
    ByClass(Entries<Spanned<u32>>),
}

/// What a request costs.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum CostOption {
    /// Always so much.
    Fixed(u32),
    /// What the answer says.
    ByResponse(CostByResponse),
}

/// `cost: {by_response: …}`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostByResponse {
    /// How the answer says it.
    pub by_response: ResponseCost,
}

/// How an answer says what its request cost.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseCost {
    /// Name of a field in which the application says it, a whole number; taken out of the answer. Without the field the
    /// reserve is the cost; nonsense in it, or two of it, cost `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Spanned<String>>,
    /// One for each begun so many bytes of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Spanned<Size>>,
    /// The most that one request costs, 1 to 1,000,000.
    pub max: Spanned<u32>,
    /// What is taken until the answer is there, at most the burst. Default: 1.
    #[serde(default = "one")]
    pub reserve: Spanned<u32>,
}

fn one() -> Spanned<u32> {
    1.into()
}

/// Which requests count.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum CountOption {
    /// `all` or `failures`.
    Word(CountWord),
    /// Those answered with one of these statuses: `401`, `5xx`.
    Statuses(Vec<Spanned<String>>),
}

/// `count` in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CountWord {
    /// Every request.
    All,
    /// Those that the application answers with 4xx or 5xx.
    Failures,
}

/// What happens to requests beyond the rate.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ExceedOption {
    /// `refuse`
    Refuse(RefuseWord),
    /// `{delay: 1s}`
    Delay(DelayOptions),
}

/// `refuse`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefuseWord {
    /// 429 `quota.exceeded`.
    Refuse,
}

/// `on_exceed: {delay: …}`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayOptions {
    /// One request of a key passes in this time, 10ms to 60s.
    pub delay: Spanned<Period>,
    /// Requests of a key that may wait at once, 1 to 100; those beyond are refused. Default: 10.
    #[serde(default = "ten")]
    pub waiting: Spanned<u32>,
}

fn ten() -> Spanned<u32> {
    10.into()
}

/// A limit as a route lists it.
#[derive(Clone, Debug)]
pub struct LimitUse {
    /// Its name.
    pub limit: String,
    /// What the route's requests cost instead of what the limit says.
    pub cost: Option<u32>,
}

/// `{limit: NAME, cost: 5}`
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitWithCost {
    /// Its name.
    limit: String,
    /// What a request of this route takes from the rate, at most the burst.
    cost: u32,
}

impl Serialize for LimitUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.cost {
            None => serializer.serialize_str(&self.limit),
            Some(cost) => LimitWithCost { limit: self.limit.clone(), cost }.serialize(serializer),
        }
    }
}

/// Reads a value that has more than one shape, each by its own closure.
macro_rules! shapes {
    ($type:ident $name:literal $expected:literal [$($schema:ty),*] { $($visit:item)* }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Shapes;
                impl<'de> Visitor<'de> for Shapes {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }
                    $($visit)*
                }
                deserializer.deserialize_any(Shapes)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [$(generator.subschema_for::<$schema>()),*] })
            }
        }
    };
}

shapes!(CapOption "Cap" "a number, or a map from classes to numbers" [u32, Entries<u32>] {
    fn visit_str<E: Error>(self, text: &str) -> Result<CapOption, E> {
        let cap = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        cap.map(CapOption::One).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CapOption, A::Error> {
        Entries::deserialize(MapAccessDeserializer::new(map)).map(CapOption::ByClass)
    }
});

shapes!(CostOption "Cost" "a number, or `{by_response: …}`" [u32, CostByResponse] {
    fn visit_str<E: Error>(self, text: &str) -> Result<CostOption, E> {
        let cost = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        cost.map(CostOption::Fixed).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CostOption, A::Error> {
        CostByResponse::deserialize(MapAccessDeserializer::new(map)).map(CostOption::ByResponse)
    }
});

shapes!(CountOption "Count" "`all`, `failures`, or a list of statuses such as `[401, 5xx]`" [CountWord, Vec<String>] {
    fn visit_str<E: Error>(self, text: &str) -> Result<CountOption, E> {
        CountWord::deserialize(StrDeserializer::new(text)).map(CountOption::Word)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<CountOption, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(CountOption::Statuses)
    }
});

shapes!(ExceedOption "Exceed" "`refuse`, or `{delay: 1s}`" [RefuseWord, DelayOptions] {
    fn visit_str<E: Error>(self, text: &str) -> Result<ExceedOption, E> {
        RefuseWord::deserialize(StrDeserializer::new(text)).map(ExceedOption::Refuse)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExceedOption, A::Error> {
        DelayOptions::deserialize(MapAccessDeserializer::new(map)).map(ExceedOption::Delay)
    }
});

shapes!(LimitUse "LimitUse" "the name of a limit, or `{limit: NAME, cost: 5}`" [String, LimitWithCost] {
    fn visit_str<E: Error>(self, name: &str) -> Result<LimitUse, E> {
        Ok(LimitUse { limit: name.to_owned(), cost: None })
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitUse, A::Error> {
        let LimitWithCost { limit, cost } = LimitWithCost::deserialize(MapAccessDeserializer::new(map))?;
        Ok(LimitUse { limit, cost: Some(cost) })
    }
});
