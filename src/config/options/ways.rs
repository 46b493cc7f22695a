//! Options of the ways of being somebody that need no issuer: API keys.
use super::Version;
use crate::config::read::{Entries, Spanned};
use crate::config::secrets::SecretPlace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A header that holds an API key. It is never forwarded, unless `identity.forward_credential` says so.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyAuth {
    /// Name of the header.
    #[serde(default = "header")]
    pub header: Spanned<String>,
    /// What keys begin with: 2 to 20 letters, digits and `_`, beginning with a letter and ending with `_`. Secret scanners
    /// know keys that leaked by it.
    pub prefix: Spanned<String>,
    /// Where the keys are: `{file: PATH}`, a file that `moat keys` writes, or `{state: NAME}`, a set in the state engine. Both
    /// hold hashes, never keys.
    pub keys: Spanned<KeysPlace>,
    /// Place of the secret that keys are hashed with, of 32 bytes or more; the same for all replicas that share the keys, hence
    /// needed where `storage` shares `api_keys`. Default: made once, in `state_dir`. Danger: with another one, no key is known
    /// any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pepper: Option<Spanned<SecretPlace>>,
}

fn header() -> Spanned<String> {
    "x-api-key".to_owned().into()
}

/// Where API keys are: one of both.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysPlace {
    /// The file. What changes in it takes a reload, which happens by itself, at each replica that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Spanned<String>>,
    /// Name of a set in the state engine (`storage`, `api_keys`): 1 to 63 lowercase letters, digits, `-` and `_`. Routes that name
    /// the same set accept the same keys. What `moat keys` changes in it holds at all replicas at once, without a reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Spanned<String>>,
}

/// A file of API keys, as `moat keys` writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeysFile {
    /// Version of the grammar: 1.
    pub version: Version,
    /// Keys by their id: the ten characters behind the prefix. Of imported keys, what they begin with.
    #[serde(default)]
    pub keys: Entries<ApiKeyOptions>,
}

/// An API key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyOptions {
    /// What it is for, in words.
    pub name: String,
    /// Whom the application is told of. Default: `key:` and the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The tenant that it belongs to. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Spanned<String>>,
    /// Roles of `policies.roles`: what it may do. `scopes` leaves out what the key does not need. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Spanned<String>>,
    /// Permissions of `policies.roles` that it is good for, `area.name`, of those that its roles grant. They add nothing. Default:
    /// all that its roles grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Spanned<Vec<Spanned<String>>>>,
    /// `hmac-sha256:` and the keyed hash of the whole key in hex; of imported keys `bcrypt:` and the hash, at most of
    /// cost 14.
    pub hash: Spanned<String>,
    /// When it was made (RFC 3339).
    pub created: Spanned<String>,
    /// From when on it is refused with `session.expired` (RFC 3339). Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Spanned<String>>,
    /// Since when it is refused with `session.revoked` (RFC 3339). Default: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Spanned<String>>,
    /// Id of the key that takes its place. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Spanned<String>>,
}
