//! What the gateway itself did or noticed, as an entry.
mod folded;

pub use folded::Folded;

use super::chain::Hash;
use super::{json, time};
use crate::facts::Person;

/// What the gateway itself did or noticed.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// `start`: the process began to write this log.
    Start {
        /// The program's version.
        version: &'a str,
        /// How the writer before ended.
        previous: Ended,
        /// Name and id of the key that signs heads.
        key: &'a str,
    },
    /// `stop`: an orderly end.
    Stop {
        /// Requests that had not ended; they have no entry.
        unfinished: u64,
    },
    /// `handover`: another process goes on with this log.
    HandOver {
        /// Its process id.
        successor: u64,
    },
    /// `handover.end`: the process that handed the log over has ended; its entries until then were passed on.
    HandOverEnd {
        /// Its process id.
        predecessor: u64,
        /// Requests of it that had not ended; they have no entry.
        unfinished: u64,
    },
    /// `handover.failed`: the process that handed the log over writes it again.
    HandOverFailed {
        /// Why, in words.
        reason: &'a str,
    },
    /// `config.load`: another snapshot took over.
    ConfigLoad {
        /// Its digest.
        digest: &'a str,
        /// The digest before.
        previous: Option<&'a str>,
        /// What it allows that the one before did not, in words.
        loosened: &'a [String],
        /// Number of problems of the files, where it is the last good bundle in their place.
        fallback: Option<u64>,
    },
    /// `config.refuse`: another snapshot was offered and not taken.
    ConfigRefuse {
        /// Number of problems.
        problems: u64,
    },
    /// `keys.change`: keys that signatures are checked with or made with.
    KeysChange {
        /// Whose keys.
        owner: &'a str,
        /// Ids of new keys.
        added: &'a [String],
        /// Ids of keys that are gone.
        removed: &'a [String],
    },
    /// `certificate.change`: another certificate is served.
    CertificateChange {
        /// Name of the pair.
        name: &'a str,
        /// SHA-256 of the leaf, hex.
        fingerprint: &'a str,
        /// When it expires, milliseconds since the Unix epoch.
        not_after_ms: u64,
    },
    /// `store.lost`: a store that replicas share is of no use; limits go by their `on_store_loss`.
    StoreLost {
        /// Which store.
        store: &'a str,
        /// Why, in words.
        reason: &'a str,
    },
    /// `store.back`: it is of use, for the first time or again.
    StoreBack {
        /// Which store.
        store: &'a str,
    },
    /// `admin`: somebody used the admin listener or the command line on a running gateway.
    Admin {
        /// Who.
        actor: Person<&'a str>,
        /// What was called.
        call: &'a str,
    },
    /// `revoke`: sessions are ended before their time.
    Revoke {
        /// Who says so.
        actor: Person<&'a str>,
        /// How.
        via: &'a str,
        /// What kind of thing ends.
        scope: &'a str,
        /// Whose.
        issuer: Option<&'a str>,
        /// The user whose sessions end.
        subject: Option<Person<&'a str>>,
        /// The tenant whose sessions end, or in which the user's do.
        tenant: Option<&'a str>,
        /// What the mark is found by, hex: it stands for ids that are not written down.
        handle: &'a str,
    },
    /// `factor.remove`: a user's second factor is taken away.
    FactorRemove {
        /// Who says so.
        actor: Person<&'a str>,
        /// Name of the user's issuer.
        issuer: &'a str,
        /// The user.
        subject: Person<&'a str>,
        /// In which tenant.
        tenant: Option<&'a str>,
    },
    /// `api_key.new`, `api_key.rotate`, `api_key.revoke`, `api_key.import`: an API key of the state engine is made or changed.
    ApiKey {
        /// Who says so.
        actor: Person<&'a str>,
        /// What is done.
        change: KeyChange,
        /// In which set.
        set: &'a str,
        /// Its id.
        id: &'a str,
        /// The tenant that it belongs to.
        tenant: Option<&'a str>,
        /// Its roles.
        roles: &'a [String],
        /// The permissions that it is good for, where not for all that its roles grant.
        scopes: Option<&'a [String]>,
        /// Id of the key that takes its place.
        successor: Option<&'a str>,
    },
    /// `recovered`: an unfinished last line was set aside at start.
    Recovered {
        /// File that holds it now.
        file: &'a str,
        /// Its length.
        bytes: u64,
    },
    /// `gap`: requests were refused and have no entry, because the log could not be written.
    Gap {
        /// How many.
        refused: u64,
        /// When the first was refused, milliseconds since the Unix epoch.
        since_ms: u64,
    },
    /// `folded`: requests that were refused before anybody was known, more of a kind than have entries of their own.
    Folded(Folded<'a>),
    /// `retention`: older entries were deleted because of their age.
    Retention {
        /// First sequence number that is kept.
        first: u64,
        /// Hash of the entry before it.
        prev: Hash,
    },
    /// `heartbeat`: nothing else happened; silence is distinguishable from absence.
    Heartbeat,
}

/// What is done with an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// It is made.
    New,
    /// It gets a successor.
    Rotate,
    /// It is revoked.
    Revoke,
    /// It is taken over from another program.
    Import,
}

impl KeyChange {
    const fn event(self) -> &'static str {
        match self {
            KeyChange::New => "api_key.new",
            KeyChange::Rotate => "api_key.rotate",
            KeyChange::Revoke => "api_key.revoke",
            KeyChange::Import => "api_key.import",
        }
    }
}

/// How the writer before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There was none.
    Never,
    /// With a `stop` entry.
    Orderly,
    /// Without one.
    Abruptly,
    /// With a `handover` entry to this one.
    HandedOver,
}

impl Event<'_> {
    /// The word in the entry.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Start { .. } => "start",
            Event::Stop { .. } => "stop",
            Event::HandOver { .. } => "handover",
            Event::HandOverEnd { .. } => "handover.end",
            Event::HandOverFailed { .. } => "handover.failed",
            Event::ConfigLoad { .. } => "config.load",
            Event::ConfigRefuse { .. } => "config.refuse",
            Event::KeysChange { .. } => "keys.change",
            Event::CertificateChange { .. } => "certificate.change",
            Event::StoreLost { .. } => "store.lost",
            Event::StoreBack { .. } => "store.back",
            Event::Admin { .. } => "admin",
            Event::Revoke { .. } => "revoke",
            Event::FactorRemove { .. } => "factor.remove",
            Event::ApiKey { change, .. } => change.event(),
            Event::Recovered { .. } => "recovered",
            Event::Gap { .. } => "gap",
            Event::Folded(_) => "folded",
            Event::Retention { .. } => "retention",
            Event::Heartbeat => "heartbeat",
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let actor = match self {
            Event::Admin { actor, .. }
            | Event::Revoke { actor, .. }
            | Event::FactorRemove { actor, .. }
            | Event::ApiKey { actor, .. } => actor.0,
            _ => "system",
        };
        json::text(out, ",\"actor\":\"", actor);
        json::text(out, ",\"event\":\"", self.name());
        match *self {
            Event::Start { version, previous, key } => {
                json::text(out, ",\"detail\":{\"version\":\"", version);
                let previous = match previous {
                    Ended::Never => "none",
                    Ended::Orderly => "stopped",
                    Ended::Abruptly => "interrupted",
                    Ended::HandedOver => "handed-over",
                };
                json::text(out, ",\"previous\":\"", previous);
                json::text(out, ",\"key\":\"", key);
            }
            Event::Stop { unfinished } => json::number(out, ",\"detail\":{\"unfinished\":", unfinished),
            Event::HandOver { successor } => json::number(out, ",\"detail\":{\"successor\":", successor),
            Event::HandOverEnd { predecessor, unfinished } => {
                json::number(out, ",\"detail\":{\"predecessor\":", predecessor);
                json::number(out, ",\"unfinished\":", unfinished);
            }
            Event::HandOverFailed { reason } => json::text(out, ",\"detail\":{\"reason\":\"", reason),
            Event::ConfigLoad { digest, previous, loosened, fallback } => {
                json::text(out, ",\"detail\":{\"digest\":\"", digest);
                json::optional(out, ",\"previous\":\"", previous);
                json::list(out, ",\"loosened\":", loosened);
                if let Some(problems) = fallback {
                    json::number(out, ",\"fallback\":", problems);
                }
            }
            Event::ConfigRefuse { problems } => json::number(out, ",\"detail\":{\"problems\":", problems),
            Event::KeysChange { owner, added, removed } => {
                json::text(out, ",\"detail\":{\"owner\":\"", owner);
                json::list(out, ",\"added\":", added);
                json::list(out, ",\"removed\":", removed);
            }
            Event::CertificateChange { name, fingerprint, not_after_ms } => {
                json::text(out, ",\"detail\":{\"name\":\"", name);
                json::text(out, ",\"fingerprint\":\"", fingerprint);
                instant(out, ",\"not_after\":", not_after_ms);
            }
            Event::StoreLost { store, reason } => {
                json::text(out, ",\"detail\":{\"store\":\"", store);
                json::text(out, ",\"reason\":\"", reason);
            }
            Event::StoreBack { store } => json::text(out, ",\"detail\":{\"store\":\"", store),
            Event::Admin { actor: _, call } => json::text(out, ",\"detail\":{\"call\":\"", call),
            Event::Revoke { actor: _, via, scope, issuer, subject, tenant, handle } => {
                json::text(out, ",\"detail\":{\"scope\":\"", scope);
                json::text(out, ",\"via\":\"", via);
                json::optional(out, ",\"issuer\":\"", issuer);
                json::optional(out, ",\"subject\":\"", subject.map(|subject| subject.0));
                json::optional(out, ",\"tenant\":\"", tenant);
                json::text(out, ",\"handle\":\"", handle);
            }
            Event::FactorRemove { actor: _, issuer, subject, tenant } => {
                json::text(out, ",\"detail\":{\"issuer\":\"", issuer);
                json::text(out, ",\"subject\":\"", subject.0);
                json::optional(out, ",\"tenant\":\"", tenant);
            }
            Event::ApiKey { actor: _, change: _, set, id, tenant, roles, scopes, successor } => {
                json::text(out, ",\"detail\":{\"set\":\"", set);
                json::text(out, ",\"id\":\"", id);
                json::optional(out, ",\"tenant\":\"", tenant);
                json::list(out, ",\"roles\":", roles);
                if let Some(scopes) = scopes {
                    json::list(out, ",\"scopes\":", scopes);
                }
                json::optional(out, ",\"successor\":\"", successor);
            }
            Event::Recovered { file, bytes } => {
                json::text(out, ",\"detail\":{\"file\":\"", file);
                json::number(out, ",\"bytes\":", bytes);
            }
            Event::Gap { refused, since_ms } => {
                json::number(out, ",\"detail\":{\"refused\":", refused);
                instant(out, ",\"since\":", since_ms);
            }
            Event::Folded(folded) => folded.write(out),
            Event::Retention { first, prev } => {
                json::number(out, ",\"detail\":{\"first\":", first);
                out.extend_from_slice(b",\"prev\":\"");
                json::hex(out, &prev.0);
                out.push(b'"');
            }
            Event::Heartbeat => return,
        }
        out.push(b'}');
    }
}

fn instant(out: &mut Vec<u8>, lead: &str, at_ms: u64) {
    out.extend_from_slice(lead.as_bytes());
    out.push(b'"');
    time::write(out, at_ms);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Kind, Verdict};
    use super::*;
    use crate::facts::RequestId;

    const PAGE: &str = include_str!("../../../docs/audit.md");

    fn written(kind: Kind<'_>) -> String {
        let mut out = Vec::new();
        Entry { time_ms: 1_000, node: "gw-1", kind }.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_event_is_json_and_names_its_actor() {
        let none: &[String] = &[];
        let some = &["tenant `a` is no longer suspended".to_owned()];
        let events = [
            Event::Start { version: "0.1.0", previous: Ended::Abruptly, key: "k" },
            Event::Stop { unfinished: 2 },
            Event::HandOver { successor: 7 },
            Event::HandOverEnd { predecessor: 6, unfinished: 1 },
            Event::HandOverFailed { reason: "it ended" },
            Event::ConfigLoad { digest: "ab", previous: Some("cd"), loosened: some, fallback: Some(2) },
            Event::ConfigRefuse { problems: 3 },
            Event::KeysChange { owner: "main", added: some, removed: none },
            Event::CertificateChange { name: "default", fingerprint: "ab", not_after_ms: 5 },
            Event::StoreLost { store: "postgres", reason: "no answer in time" },
            Event::StoreBack { store: "postgres" },
            Event::Admin { actor: Person("ops"), call: "reload" },
            Event::Revoke {
                actor: Person("ops"),
                via: "admin",
                scope: "subject",
                issuer: Some("https://idp.test/"),
                subject: Some(Person("ann \"a\"")),
                tenant: None,
                handle: "00ff",
            },
            Event::FactorRemove {
                actor: Person("ops"),
                issuer: "workforce",
                subject: Person("ann"),
                tenant: Some("acme"),
            },
            Event::ApiKey {
                actor: Person("ops"),
                change: KeyChange::Rotate,
                set: "machines",
                id: "ak_\"1",
                tenant: None,
                roles: some,
                scopes: Some(some),
                successor: Some("4f7Ka91BxQ"),
            },
            Event::Recovered { file: "x", bytes: 7 },
            Event::Gap { refused: 9, since_ms: 5 },
            Event::Folded(Folded {
                requests: 3,
                verdict: Verdict::Refuse(crate::refusal::Code::RequestMalformed),
                listener: "public",
                client: Some(Person("192.0.2.1")),
                clients: 1,
                since_ms: 5,
                until_ms: 6,
                ids: (RequestId(1), RequestId(2)),
            }),
            Event::Retention { first: 5, prev: Hash::default() },
            Event::Heartbeat,
        ];
        for event in events {
            let text = format!("{{{}}}", written(Kind::System(event)));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let ordered = matches!(event.name(), "admin" | "revoke" | "factor.remove" | "api_key.rotate");
            let actor = if ordered { "ops" } else { "system" };
            assert_eq!((&value["actor"], &value["event"]), (&actor.into(), &event.name().into()), "{text}");
            assert!(PAGE.contains(&format!("`{}`", event.name())), "docs/audit.md does not tell of `{}`", event.name());
        }
        for change in [KeyChange::New, KeyChange::Rotate, KeyChange::Revoke, KeyChange::Import] {
            assert!(
                PAGE.contains(&format!("`{}`", change.event())),
                "docs/audit.md does not tell of `{}`",
                change.event()
            );
        }
    }
}
