//! `policies/headers.yaml` as people write it; `Profile` is what the machine runs on.
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadersFile {
    /// Version of the grammar; 1 is the only one. No default.
    pub version: u32,
    /// Profiles by name; a route picks one with `headers: NAME`.
    pub profiles: BTreeMap<String, ProfileOptions>,
}

/// One profile: what every response of a route must carry and must not carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileOptions {
    /// Name of the profile to start from. Default: none. A key of `set` replaces the parent's key as a whole; `remove`
    /// and `add_if_missing` add to the parent's; `cookies` and `cache` replace the parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// Headers that every response gets. Default: none. The application's own value survives only where it is
    /// stricter (the table in `headers.rs` says how for each header).
    #[serde(default)]
    pub set: SetOptions,
    /// Headers that a response gets where the application sent none. Default: none. Danger: the application can
    /// weaken whatever stands here by sending its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_if_missing: BTreeMap<String, String>,
    /// Headers of the application that nobody outside should see. Default: none. Protective and framing headers
    /// cannot be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// What the application's cookies must look like. Default: they pass as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookies: Option<CookieOptions>,
    /// What caches may keep. Default: the application's own `Cache-Control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheOptions>,
    /// What becomes of the application's `Alt-Svc`, which sends browsers to another port or protocol: `strip` or `pass`.
    /// Default: the parent's, else `strip`. Danger of `pass`: it can lead them around the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_svc: Option<AltSvcOption>,
}

/// What becomes of an application's `Alt-Svc` (RFC 7838).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AltSvcOption {
    /// It is removed.
    Strip,
    /// It goes out as it came.
    Pass,
}

/// `set`: three headers have a form of their own, all others are plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// `strict-transport-security`
    pub hsts: Option<HstsOptions>,
    /// `content-security-policy`
    pub csp: Option<CspOptions>,
    /// `permissions-policy`
    pub permissions: Option<PermissionsOptions>,
    /// Any other header, by its name as written.
    pub plain: BTreeMap<String, String>,
}

/// `strict-transport-security` (RFC 6797). Sent over TLS only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HstsOptions {
    /// How long browsers remember to use TLS: `30d`, `1y`. No default. `0s` tells browsers to forget.
    pub max_age: String,
    /// Whether the rule holds for all subdomains. Default: true. Danger: a subdomain without TLS becomes unreachable.
    #[serde(default = "yes")]
    pub include_subdomains: bool,
    /// Whether the domain may be put on the browsers' preload list. Default: false. Danger: takes months to undo;
    /// needs `max_age` of a year or more and `include_subdomains`.
    #[serde(default)]
    pub preload: bool,
    /// Shorter ages for the first weeks, so that a mistake heals. Default: `none`.
    #[serde(default)]
    pub ramp: Ramp,
}

/// `ramp`: `none`, or a list of steps, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ramp(pub Vec<RampStep>);

/// One step of a ramp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RampStep {
    /// The first day on which the step no longer holds, `2027-01-31`, from midnight UTC. No default.
    pub until: String,
    /// The age to announce until then, e.g. `5m`. No default.
    pub max_age: String,
}

/// `content-security-policy` (CSP Level 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CspOptions {
    /// Whether browsers enforce the policy, only report what it would block, or both. Default: `enforce`.
    #[serde(default)]
    pub mode: CspMode,
    /// Whether each response gets a fresh nonce, offered to the application in a request header, and put where
    /// `'nonce'` stands. Default: false. HTML pages with a nonce are never stored by caches.
    #[serde(default)]
    pub nonce: bool,
    /// Directive name → sources. No default.
    pub directives: BTreeMap<String, Vec<String>>,
    /// With `mode: both`: the stricter policy that is only reported. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub report_directives: BTreeMap<String, Vec<String>>,
    /// Where browsers send reports: an `https://` URL, or a path of the application. Default: nowhere. Danger:
    /// reports carry addresses of pages and may hold secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_to: Option<String>,
    /// Why the policy may hold sources that undo it (`'unsafe-inline'`, `'unsafe-eval'`, `*`), or lack `object-src`,
    /// `base-uri` or `frame-ancestors`. Default: it may not. Danger: injected scripts run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsafe_because: Option<String>,
}

/// What browsers do with a content security policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CspMode {
    /// Block what it does not allow.
    #[default]
    Enforce,
    /// Report only: protects nobody, shows what enforcing would break.
    ReportOnly,
    /// Enforce `directives`, report `report_directives`.
    Both,
}

/// `permissions-policy`: which browser features pages may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionsOptions {
    /// Features that no page may use, nor any frame in it. Default: none.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Feature → who may use it: `self`, or origins such as `https://maps.example`. Default: none, which leaves the
    /// browser's own default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: BTreeMap<String, Vec<String>>,
}

/// `cookies`: how the application's `Set-Cookie` is hardened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CookieOptions {
    /// Whether every cookie gets `Secure`. Default: true.
    #[serde(default = "yes")]
    pub secure: bool,
    /// Whether every cookie gets `HttpOnly`, so that scripts cannot read it. Default: true.
    #[serde(default = "yes")]
    pub http_only: bool,
    /// Names of cookies that scripts of the application must read, exempt from `http_only`. Default: none. Danger:
    /// an injected script can read them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script_readable: Vec<String>,
    /// The least strict `SameSite` that passes. Default: `lax`.
    #[serde(default)]
    pub same_site: SameSite,
    /// The prefix whose promises every cookie must keep. Default: `none`. `__Host-` means: `Secure`, no `Domain`,
    /// and for cookies that bear the prefix `Path=/`. A cookie cannot be renamed in flight; one without the prefix is
    /// bound to its host and counted.
    #[serde(default)]
    pub require_prefix: CookiePrefix,
    /// What happens to a cookie that breaks a rule. Default: `fix_and_count`.
    #[serde(default)]
    pub on_violation: OnViolation,
}

/// `SameSite`, from loosest to strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// Sent from everywhere: whatever the application says passes.
    None,
    /// Sent on top-level navigation from other sites.
    #[default]
    Lax,
    /// Never sent from other sites.
    Strict,
}

/// A cookie name prefix that browsers enforce (draft-ietf-httpbis-rfc6265bis).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CookiePrefix {
    /// No prefix is asked for.
    #[default]
    #[serde(rename = "none")]
    None,
    /// `Secure`.
    #[serde(rename = "__Secure-")]
    Secure,
    /// `Secure`, `Path=/`, no `Domain`.
    #[serde(rename = "__Host-")]
    Host,
}

/// What happens to a cookie that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// Its attributes are corrected, and it is counted.
    #[default]
    FixAndCount,
    /// It is removed, and counted. Danger: the application's sign-in may stop working.
    Strip,
}

/// `cache`: what caches may keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheOptions {
    /// `Cache-Control` of answers to authenticated requests; must hold `no-store` or `private`. Default: the
    /// application's own. Danger of leaving it out: a shared cache may hand one user's page to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<String>,
}

fn yes() -> bool {
    true
}

impl Default for CookieOptions {
    fn default() -> CookieOptions {
        CookieOptions {
            secure: true,
            http_only: true,
            script_readable: Vec::new(),
            same_site: SameSite::default(),
            require_prefix: CookiePrefix::default(),
            on_violation: OnViolation::default(),
        }
    }
}

const HSTS: &str = "strict-transport-security";
const CSP: &str = "content-security-policy";
const PERMISSIONS: &str = "permissions-policy";

// By hand, because the type of a value hangs on its key: so a mistake inside `content-security-policy` is reported
// there, and not as "no variant matches".
impl<'de> Deserialize<'de> for SetOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SetOptions, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = SetOptions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from header names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SetOptions, A::Error> {
                let mut set = SetOptions::default();
                while let Some(name) = map.next_key::<String>()? {
                    let fresh = match name.to_ascii_lowercase().as_str() {
                        HSTS => set.hsts.replace(map.next_value()?).is_none(),
                        CSP => set.csp.replace(map.next_value()?).is_none(),
                        PERMISSIONS => set.permissions.replace(map.next_value()?).is_none(),
                        lower => set.plain.insert(lower.to_owned(), map.next_value()?).is_none(),
                    };
                    if !fresh {
                        return Err(A::Error::custom(format_args!("header `{name}` is set twice")));
                    }
                }
                Ok(set)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Serialize for SetOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(hsts) = &self.hsts {
            map.serialize_entry(HSTS, hsts)?;
        }
        if let Some(csp) = &self.csp {
            map.serialize_entry(CSP, csp)?;
        }
        if let Some(permissions) = &self.permissions {
            map.serialize_entry(PERMISSIONS, permissions)?;
        }
        for (name, value) in &self.plain {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Ramp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ramp, D::Error> {
        struct Steps;
        impl<'de> Visitor<'de> for Steps {
            type Value = Ramp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none` or a list of {until, max_age}")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Ramp, E> {
                match word {
                    "none" => Ok(Ramp::default()),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ramp, A::Error> {
                let mut steps = Vec::new();
                while let Some(step) = seq.next_element()? {
                    steps.push(step);
                }
                Ok(Ramp(steps))
            }
        }
        deserializer.deserialize_any(Steps)
    }
}

impl Serialize for Ramp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() { serializer.serialize_str("none") } else { self.0.serialize(serializer) }
    }
}
