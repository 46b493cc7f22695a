//! Options of what other origins and other sites may do with a route.
use crate::config::read::Spanned;
use crate::config::units::{Period, Size, seconds};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `csrf`
#[derive(Clone, Debug)]
pub enum CsrfOption {
    /// Evidence of our own origin is needed.
    Strict,
    /// Evidence, or a double-submit token.
    Token(Box<TokenOptions>),
    /// None is.
    Off,
}

/// Double-submit tokens: a page gets one in a cookie and sends it again in a header or a form. They stand in where a
/// browser says nothing of where a request comes from; what it says against one stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenOptions {
    /// `token`.
    pub mode: TokenMode,
    /// The cookie that the gateway sets on pages of the route; its name begins with `__Host-`. Default: `__Host-csrf`, and
    /// `__Host-csrf-visitor` on public routes, whose tokens are bound to no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Spanned<String>>,
    /// The header in which scripts send the token again. With it scripts of the page can read the cookie; where only
    /// `field` is written, they cannot, and the application puts the token into its forms itself. Default: `x-csrf-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Spanned<String>>,
    /// The field in which a form (`application/x-www-form-urlencoded`) sends it again, asked for where the header is absent.
    /// Default: `csrf_token`; none where only `header` is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Spanned<String>>,
    /// How long a token is good: from 10m to 30d. It is renewed on pages after half of that.
    #[serde(default = "half_a_day")]
    pub max_age: Spanned<Period>,
    /// The longest form that is looked into for the field, up to 32KiB; longer ones need the header.
    #[serde(default = "eight_kib")]
    pub inspect: Spanned<Size>,
}

/// `csrf.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenMode {
    /// Evidence, or a double-submit token.
    Token,
}

impl Default for TokenOptions {
    fn default() -> TokenOptions {
        TokenOptions {
            mode: TokenMode::Token,
            cookie: None,
            header: None,
            field: None,
            max_age: half_a_day(),
            inspect: eight_kib(),
        }
    }
}

fn half_a_day() -> Spanned<Period> {
    seconds(43_200).into()
}

fn eight_kib() -> Spanned<Size> {
    Size(8 << 10).into()
}

impl<'de> Deserialize<'de> for CsrfOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CsrfOption;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`strict`, `token`, `off` or a map with `mode: token`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<CsrfOption, E> {
                match text {
                    "strict" => Ok(CsrfOption::Strict),
                    "token" => Ok(CsrfOption::Token(Box::default())),
                    "off" => Ok(CsrfOption::Off),
                    _ => Err(E::custom(format!("expected `strict`, `token` or `off`, found `{text}`"))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CsrfOption, A::Error> {
                TokenOptions::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(CsrfOption::Token)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for CsrfOption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CsrfOption::Strict => serializer.serialize_str("strict"),
            CsrfOption::Token(token) => token.serialize(serializer),
            CsrfOption::Off => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for CsrfOption {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Csrf".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let token = generator.subschema_for::<TokenOptions>();
        json_schema!({ "anyOf": [{ "enum": ["strict", "token", "off"] }, token] })
    }
}

/// `isolation`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationOption {
    /// Any page may fetch.
    None,
    /// Pages of our own site may.
    SameSite,
    /// Pages of our own origin may.
    SameOrigin,
}

/// `cors`
#[derive(Clone, Debug)]
pub enum CorsOptions {
    /// The application sees to it.
    Application,
    /// By these rules.
    Rules(Box<CorsRules>),
}

/// Which other origins may read a route's answers, and what they may send. Exactly one of `origins` and `origins_from`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsRules {
    /// Origins as browsers write them: `https://app.example.com`, or with a port that is not 443. No patterns; `null` is
    /// never one. `["*"]` for everybody, on public routes and without `credentials` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Spanned<String>>,
    /// `tenant.embed_origins`: the list of the request's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins_from: Option<Spanned<OriginsFrom>>,
    /// Methods that they may use. Default: all of the route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Spanned<String>>,
    /// Request headers that they may set beside those that every page may, e.g. `content-type` for JSON, or
    /// `authorization`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Spanned<String>>,
    /// Response headers that they may read beside those that every page may. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<Spanned<String>>,
    /// Whether browsers send cookies along and let the page read the answer. Danger: each of these origins can do
    /// whatever the signed-in user can do here.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may remember the answer to a preflight: from 1s to 1d; Chromium forgets after 2h.
    #[serde(default = "ten_minutes")]
    pub max_age: Spanned<Period>,
    /// Whether pages of the public internet may reach the gateway at a private address. Danger: any of these origins,
    /// once taken over, reaches into the network of whoever visits it.
    #[serde(default)]
    pub private_network: bool,
}

fn ten_minutes() -> Spanned<Period> {
    seconds(600).into()
}

/// `cors.origins_from`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OriginsFrom {
    /// `embed_origins` of the tenant.
    #[serde(rename = "tenant.embed_origins")]
    Tenant,
}

impl<'de> Deserialize<'de> for CorsOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CorsOptions;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`application` or a map with `origins` or `origins_from`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<CorsOptions, E> {
                match text {
                    "application" => Ok(CorsOptions::Application),
                    _ => Err(E::custom(format!("expected `application` or a map with `origins`, found `{text}`"))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CorsOptions, A::Error> {
                CorsRules::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(CorsOptions::Rules)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for CorsOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CorsOptions::Application => serializer.serialize_str("application"),
            CorsOptions::Rules(rules) => rules.serialize(serializer),
        }
    }
}

impl JsonSchema for CorsOptions {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cors".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules = generator.subschema_for::<CorsRules>();
        json_schema!({ "anyOf": [{ "const": "application" }, rules] })
    }
}
