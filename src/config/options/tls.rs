//! Options of TLS: certificates, versions, groups and ciphers.
use crate::config::read::{Entries, Spanned};
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Certificates and TLS profiles.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// Folder with NAME.crt and NAME.key, chosen by server name and read again when they change.
    pub certificates: Spanned<String>,
    /// NAME of the pair for clients that send no server name; `none` refuses them.
    #[serde(default = "none")]
    pub default_certificate: Spanned<String>,
    /// Profiles by a name of your choice; `modern` is built in: TLS 1.3 only, and otherwise the defaults of a profile.
    #[serde(default)]
    pub profiles: Entries<TlsProfileOptions>,
    /// Keys of session tickets, so that clients resume at every replica and after a restart. Default: keys of the process,
    /// changed every 6 h, which end with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tickets: Option<SessionTicketOptions>,
    /// How long before a certificate ends the warnings begin.
    #[serde(default = "three_weeks")]
    pub warn_before_expiry: Period,
}

/// Keys of session tickets. Listeners that ask for certificates of clients, or of an edge, do not use them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionTicketOptions {
    /// Place of the keys: a file, or a credential, with one key of 32 random bytes a line, in base64 or hex, the newest first.
    /// The first makes tickets, the others still open them. The same for all replicas; read again with each reload. Danger:
    /// whoever has a key can read what was recorded of TLS 1.2 sessions whose tickets were made with it, and can pose as the
    /// gateway to clients that resume, so exchange keys often and keep none longer than `rotate` after it was exchanged.
    pub keys: Spanned<SecretPlace>,
    /// How long tickets are made with the same key: for each such time another one is derived from the first of `keys`, at the
    /// same moment on all replicas. A ticket is good until the end of the next one. 10m to 7d (RFC 8446, 4.6.1).
    #[serde(default = "half_a_day")]
    pub rotate: Spanned<Period>,
}

fn half_a_day() -> Spanned<Period> {
    seconds(12 * 3600).into()
}

fn none() -> Spanned<String> {
    Spanned { value: "none".to_owned(), at: Default::default() }
}

fn three_weeks() -> Period {
    seconds(21 * 86_400)
}

/// Versions, groups and ciphers of TLS.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsProfileOptions {
    /// Least version: `"1.3"`, or `"1.2"`, with which only ECDHE with AEAD is spoken. Danger of `"1.2"`: no protection
    /// against computers of the future, and the handshake shows certificates.
    #[serde(default = "tls13")]
    pub min_version: TlsVersion,
    /// Key exchange groups, best first: X25519MLKEM768, X25519, secp256r1, secp384r1.
    #[serde(default = "groups")]
    pub groups: Vec<Spanned<String>>,
    /// Cipher suites, best first: TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256. With TLS 1.2
    /// also those of ECDHE with the same ciphers. The best that the client has too is taken; clients whose own best is ChaCha20,
    /// because AES is slow on them, get it. Leave the first out where every key has to have 256 bits: handshakes then cost
    /// about a tenth more.
    #[serde(default = "ciphers")]
    pub ciphers: Vec<Spanned<String>>,
}

fn tls13() -> TlsVersion {
    TlsVersion::Tls13
}

fn groups() -> Vec<Spanned<String>> {
    unwritten(&MODERN_GROUPS)
}

fn ciphers() -> Vec<Spanned<String>> {
    unwritten(&CIPHERS)
}

fn unwritten(names: &[&str]) -> Vec<Spanned<String>> {
    names.iter().map(|name| Spanned { value: (*name).to_owned(), at: Default::default() }).collect()
}

/// The groups of the built-in profile.
pub const MODERN_GROUPS: [&str; 3] = ["X25519MLKEM768", "X25519", "secp256r1"];
/// All groups that can be named.
pub const KNOWN_GROUPS: [&str; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];
/// All cipher suites that can be named, in the order of the built-in profile: SHA-256 in the handshake costs less than SHA-384.
pub const CIPHERS: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246)
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    #[serde(rename = "1.3")]
    Tls13,
}
