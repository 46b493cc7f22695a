//! `auth` of a route: which credentials it accepts, and beside it what becomes of a browser that has none.
use super::AuthOptions;
use crate::config::read::{BESIDE, Spanned};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// `auth` of a route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteAuth {
    /// The credentials.
    #[serde(flatten)]
    pub way: AuthOptions,
    /// What becomes of a browser without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<Spanned<OnMissingOption>>,
}

/// `auth.on_missing`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMissingOption {
    /// It is refused, as everybody else is.
    Refuse,
    /// It is sent to sign in, and back to the page that it asked for.
    Login,
}

impl<'de> Deserialize<'de> for RouteAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;
        impl<'de> Visitor<'de> for Both {
            type Value = RouteAuth;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`auth`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RouteAuth, A::Error> {
                let on_missing = seq.next_element::<Option<Spanned<OnMissingOption>>>()?.flatten();
                let way = seq.next_element()?.ok_or_else(|| A::Error::custom("nothing"))?;
                Ok(RouteAuth { way, on_missing })
            }
        }
        deserializer.deserialize_newtype_struct(BESIDE, Both)
    }
}

impl JsonSchema for RouteAuth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RouteAuth".into()
    }

    /// Each way with one key more.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = AuthOptions::json_schema(generator);
        let beside = json!({
            "description": "What becomes of a browser that asks for a page and has no session, or none that is fresh enough: `refuse`, or `login`, which sends it to sign in and back. Everybody else is refused.",
            "enum": ["refuse", "login"],
            "default": "refuse",
        });
        let ways = schema.get_mut("oneOf").and_then(Value::as_array_mut);
        for properties in ways.into_iter().flatten().filter_map(|way| way.get_mut("properties")?.as_object_mut()) {
            properties.insert("on_missing".to_owned(), beside.clone());
        }
        schema
    }
}
