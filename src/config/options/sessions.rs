//! Options of sessions: those that the gateway holds for browsers, how fresh an authentication must be, what ends with
//! them.
use super::{DpopOptions, RevocationOptions, TokensOptions};
use crate::config::read::{Entries, Spanned};
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules for sessions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsOptions {
    /// How sessions are ended before their time, and what holds while a replica may not know of it.
    pub revocation: RevocationOptions,
    /// Sessions that the gateway holds for browsers: the browser has a cookie with a random handle, tokens never reach it.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<Spanned<BrowserOptions>>,
    /// Tokens that the gateway itself issues. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Spanned<TokensOptions>>,
    /// Proof of possession (RFC 9449).
    pub dpop: DpopOptions,
    /// Codes of authenticator apps (TOTP, RFC 6238) as a second factor that the gateway keeps, for users of `browser`
    /// sessions whose identity provider has none. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totp: Option<Spanned<TotpOptions>>,
    /// Place of the keys that everything the gateway keeps about sessions, and about who was ended, is sealed with: one a
    /// line, each of 32 bytes in base64 or hex. The first seals, the others still open. Required where replicas share
    /// sessions, factors, families or revocations. Default: a key that is made in `server.state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Spanned<SecretPlace>>,
    /// Place of the keys that tokens of `csrf: token` are made with, as `keys`: the first makes them, the others are still
    /// accepted. Replicas that serve one site share it, or a page of one is refused by another. Default: `keys`, where they
    /// are written; else a key that is made in `server.state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csrf_keys: Option<Spanned<SecretPlace>>,
    /// Names of rate limits by address that the gateway's own endpoints below `/.moat/` are under, besides the one that is
    /// built in. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<Spanned<String>>,
    /// Fresh authentications (RFC 9470), by a name of your choice.
    pub step_up: Entries<StepUpOptions>,
    /// Greatest number of verified tokens to remember, never past their end; 0 verifies each one anew.
    pub token_cache: u64,
    /// What a session takes along when it ends (`exp` of its token) while something that it opened still runs:
    /// `websockets` closes WebSockets, with 1008 and `session.expired`; `streams` also cuts off answers that are still
    /// running, downloads too; `nothing` closes nothing. Danger of `nothing`: who once got in may stay for as long as
    /// the connection holds.
    pub close_at_expiry: CloseAtExpiryOption,
}

/// `sessions.close_at_expiry`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CloseAtExpiryOption {
    /// WebSockets.
    #[default]
    Websockets,
    /// WebSockets and answers that are still running.
    Streams,
    /// Nothing.
    Nothing,
}

impl Default for SessionsOptions {
    fn default() -> Self {
        SessionsOptions {
            revocation: RevocationOptions::default(),
            browser: None,
            tokens: None,
            dpop: DpopOptions::default(),
            totp: None,
            keys: None,
            csrf_keys: None,
            rate_limits: Vec::new(),
            step_up: Entries::default(),
            token_cache: 20_000,
            close_at_expiry: CloseAtExpiryOption::default(),
        }
    }
}

/// A fresh authentication. At least one of the three.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepUpOptions {
    /// Greatest age of the authentication. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
    /// Accepted authentication context classes. Default: any.
    #[serde(default)]
    pub acr: Vec<String>,
    /// Methods that the authentication must have used, all of them (RFC 8176: `otp`, `hwk`, `pwd`). A code of `sessions.totp`
    /// is `otp` and `mfa`. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amr: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Sessions that the gateway holds for browsers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrowserOptions {
    /// Name of the cookie. It begins with `__Host-`, so that browsers keep it to this host and to TLS; it is `Secure`,
    /// `HttpOnly`, of `Path=/` and without `Domain`.
    pub cookie: Spanned<String>,
    /// `lax`, or `strict`: then links from other sites find the user signed out.
    pub same_site: SameSiteOption,
    /// A session that is not used for so long ends. At least 1s.
    pub idle: Spanned<Period>,
    /// A session ends after so long, used or not. At least `idle`, at most 90d.
    pub absolute: Spanned<Period>,
    /// When a session gets another handle.
    pub rotate_id: RotateIdOptions,
    /// `timed`: as `rotate_id.every` says; `every_use`: with each use that is not closer than twice `reuse_leeway` to the
    /// last change.
    pub rotate: RotateOption,
    /// How long a handle is still good once its successor was used: requests that were under way then get the very same
    /// successor. Later, its use is theft, and ends the session. 1s to 1m.
    pub reuse_leeway: Spanned<Period>,
    /// Names of issuers whose tokens `POST /.moat/session` exchanges for a session. Danger: a session lives for `absolute`,
    /// however short the life of the token was. Default: none, tokens are not exchanged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exchange: Vec<Spanned<String>>,
    /// How an application that signs users in itself grants sessions, by a header of its answer. Default: none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<Spanned<GrantOptions>>,
    /// Place of the keys for these sessions, as `sessions.keys`. Default: those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Spanned<SecretPlace>>,
}

impl Default for BrowserOptions {
    fn default() -> Self {
        BrowserOptions {
            cookie: Spanned { value: "__Host-session".to_owned(), at: Default::default() },
            same_site: SameSiteOption::Lax,
            idle: seconds(30 * 60).into(),
            absolute: seconds(12 * 3600).into(),
            rotate_id: RotateIdOptions::default(),
            rotate: RotateOption::Timed,
            reuse_leeway: seconds(10).into(),
            exchange: Vec::new(),
            grant: None,
            keys: None,
        }
    }
}

/// `sessions.browser.same_site`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SameSiteOption {
    /// Sent along when a link from another site is followed.
    Lax,
    /// Sent by pages of the same site only.
    Strict,
}

/// `sessions.browser.rotate`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotateOption {
    /// By the clock.
    Timed,
    /// With each use.
    EveryUse,
}

/// When a session gets another handle.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateIdOptions {
    /// So long after the last change, with the next use. At least twice `reuse_leeway`.
    pub every: Spanned<Period>,
    /// And with which events: `login`, `step_up`, `role_change`. A sign-in always makes a new session with a new handle,
    /// whether `login` is listed or not.
    pub on: Vec<RotateOnOption>,
}

impl Default for RotateIdOptions {
    fn default() -> Self {
        let on = vec![RotateOnOption::Login, RotateOnOption::StepUp, RotateOnOption::RoleChange];
        RotateIdOptions { every: seconds(15 * 60).into(), on }
    }
}

/// One of `sessions.browser.rotate_id.on`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotateOnOption {
    /// A sign-in.
    Login,
    /// A fresh or stronger authentication in a session.
    StepUp,
    /// The user's roles changed.
    RoleChange,
}

/// How an application that signs users in itself grants sessions. Routes that may say `grants: session`; from all others, and
/// from all clients, the header is removed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrantOptions {
    /// Name of the header, in which the application's answer says who signed in, as JSON.
    pub header: Spanned<String>,
    /// The name under which its users are known, as if it were one of `issuers`: in audit entries, assertions, `tenants` and
    /// limits. No issuer may have it.
    pub issuer: Spanned<String>,
}

impl Default for GrantOptions {
    fn default() -> Self {
        let text = |text: &str| Spanned { value: text.to_owned(), at: Default::default() };
        GrantOptions { header: text("x-moat-session-grant"), issuer: text("application") }
    }
}

/// Codes of authenticator apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpOptions {
    /// The name that apps show beside the code: your product's, at most 64 characters.
    pub issuer: Spanned<String>,
    /// Authentication context class that a session has once a code was shown, for `step_up`. Default: as the identity provider
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<Spanned<String>>,
    /// Greatest age of the sign-in when a user sets an app up: whoever finds a browser that somebody left must not make its
    /// session stronger. 1m to 1h.
    #[serde(default = "enrol_within")]
    pub enrol_within: Spanned<Period>,
}

fn enrol_within() -> Spanned<Period> {
    seconds(15 * 60).into()
}
