//! Options of the audit log: where it is, how it is cut, synced and signed, and when refused requests share an entry.
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, Size, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The audit log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditOptions {
    /// Folder of the log. Default: `audit` in `server.state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// How the log is cut into files.
    pub segments: SegmentOptions,
    /// When requests that are refused before anybody is known share entries, so that a flood does not fill the disk.
    pub fold: FoldOptions,
    /// When entries are forced to the disk: `batch` (`fdatasync` every 50 ms), `each` (before each batch is
    /// acknowledged) or `os`. Danger of `os`: a power failure loses seconds of the log.
    pub durability: DurabilityOption,
    /// The hash chain.
    pub chain: ChainOptions,
    /// After this time without entries one is written all the same, so that silence shows.
    pub heartbeat: Heartbeat,
}

/// Time between heartbeats.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Heartbeat(pub Period);

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat(seconds(60))
    }
}

/// `audit.durability`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityOption {
    /// `fdatasync` every 50 ms.
    #[default]
    Batch,
    /// `fdatasync` before each batch is acknowledged.
    Each,
    /// Left to the operating system.
    Os,
}

/// How the log is cut into files.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentOptions {
    /// Size at which a new file begins.
    pub roll: Size,
    /// How long closed files are kept. Danger: laws may ask for a year or more.
    pub retain: Period,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        SegmentOptions { roll: Size(64 << 20), retain: seconds(400 * 86_400) }
    }
}

/// The hash chain.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChainOptions {
    /// Signed heads.
    pub checkpoint: CheckpointOptions,
}

/// When the head of the chain is signed, and with what.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointOptions {
    /// Greatest time between signed heads.
    pub every: Period,
    /// Greatest number of entries between signed heads.
    pub entries: u64,
    /// Place of the Ed25519 key (PKCS#8 PEM) that signs. Default: made in `server.state_dir` at the first start. Danger:
    /// whoever has it can write another history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Spanned<SecretPlace>>,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        CheckpointOptions { every: seconds(60), entries: 1000, key: None }
    }
}

/// When requests share entries: those that were refused, or that the gateway answered by itself, before anybody was
/// known. They are told apart by client (IPv6: /64), listener and code; every second, those beyond the allowance of
/// their kind get one entry that says how many they were.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FoldOptions {
    /// Entries of their own that a kind may have at once, up to a million; ten times as many for all kinds together.
    pub after: Spanned<u32>,
    /// Entries of their own that a kind may have per second later.
    pub per_second: Spanned<u32>,
    /// Entries of their own that all kinds together may have per second later. Each is about 600 bytes long.
    pub in_all_per_second: Spanned<u32>,
}

impl Default for FoldOptions {
    fn default() -> Self {
        FoldOptions { after: 2000.into(), per_second: 10.into(), in_all_per_second: 200.into() }
    }
}
