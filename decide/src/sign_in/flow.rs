//! One flow: what it is for, what it consists of, and what the browser is sent away with.
use super::{Place, Provider, form};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How long a flow may take, in seconds: time to find a second factor.
pub const FLOW_LIFE_S: u64 = 600;

/// What the provider is asked for beyond a sign-in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// Whether the user is to authenticate again, whatever session the provider has (`prompt=login`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Greatest age of the authentication, in seconds (`max_age`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
    /// Acceptable classes of authentication, in order of preference (`acr_values`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
}

/// A sign-in that is under way. It holds a secret: it leaves the gateway sealed only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Name of the issuer in `gateway.yaml`.
    pub issuer: Arc<str>,
    /// Host and port that it began at.
    pub authority: String,
    /// The tenant that it is for.
    pub tenant: Option<Arc<str>>,
    /// Path and query to return to, checked by [`super::return_to`].
    pub return_to: String,
    /// What is asked for.
    pub purpose: Purpose,
    /// The session that the browser had when it left, by its key: where cookies are `SameSite=Strict` it does not show it when it
    /// comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<[u8; 32]>,
    /// When it began, seconds since the epoch.
    pub began_s: u64,
    secret: [u8; 32],
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = (&self.authority, &self.tenant, &self.return_to);
        f.debug_struct("Flow").field("issuer", &self.issuer).field("place", &place).finish_non_exhaustive()
    }
}

impl Flow {
    /// A flow that begins now; `secret` comes from the cryptographic generator and is used for no other.
    pub fn begin(
        issuer: Arc<str>,
        place: Place,
        return_to: String,
        purpose: Purpose,
        secret: [u8; 32],
        now_s: u64,
    ) -> Flow {
        let Place { authority, tenant } = place;
        Flow { issuer, authority, tenant, return_to, purpose, session: None, began_s: now_s, secret }
    }

    /// What is sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was sealed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Flow> {
        serde_json::from_slice(bytes).ok()
    }

    /// Keyed, so that none of the words says anything about another.
    fn derive(&self, what: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, what.as_bytes()))
    }

    /// Names its cookie: 16 characters of `[A-Za-z0-9_-]`, which `state` begins with.
    pub fn id(&self) -> String {
        self.state().chars().take(Flow::ID).collect()
    }

    /// The name in a `state`; `None` where it has not the form of one.
    pub fn id_of(state: &str) -> Option<&str> {
        let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (state.len() == 43 && state.bytes().all(alphabet)).then(|| state.get(..Flow::ID))?
    }

    const ID: usize = 16;

    /// `state` (RFC 6749, 10.12): 256 bits.
    pub fn state(&self) -> String {
        self.derive("state")
    }

    /// `nonce` (OpenID Connect Core, 15.5.2): 256 bits.
    pub fn nonce(&self) -> String {
        self.derive("nonce")
    }

    /// `code_verifier` (RFC 7636, 4.1): 43 characters.
    pub fn verifier(&self) -> String {
        self.derive("verifier")
    }

    /// Whether it may still end.
    pub fn is_live(&self, now_s: u64) -> bool {
        now_s.checked_sub(self.began_s).is_some_and(|age| age < FLOW_LIFE_S)
    }

    /// Where the browser is sent (OpenID Connect Core, 3.1.2.1; RFC 7636, 4.3). `scopes` are separated by spaces.
    pub fn authorization_url(&self, provider: &Provider, client_id: &str, scopes: &str, redirect_uri: &str) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier().as_bytes()));
        let (state, nonce, acr) = (self.state(), self.nonce(), self.purpose.acr.join(" "));
        let max_age = self.purpose.max_age_s.map(|seconds| seconds.to_string());
        let fixed = [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", redirect_uri),
            ("scope", scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let asked = [
            self.purpose.again.then_some(("prompt", "login")),
            max_age.as_deref().map(|seconds| ("max_age", seconds)),
            (!acr.is_empty()).then_some(("acr_values", &*acr)),
        ];
        let query = form::encode(fixed.into_iter().chain(asked.into_iter().flatten()));
        // RFC 6749, 3.1: the endpoint may have a query of its own, which stays.
        let glue = match provider.authorization.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        format!("{}{glue}{query}", provider.authorization)
    }
}
