//! Families of refresh tokens, as they are kept: sealed rows in the engine of their kind, and tokens that name a row and a
//! generation under a mark that only we can make.
//!
//! ```text
//! token: "mrt_" base64url( family (16) | generation (8) | mark (16) )
//! row:   tenant's length (1) | tenant | sealed JSON of holder and generation
//! ```
//!
//! A token follows from family and generation alone: whoever makes it, it is the same.
use super::seal::{Keyring, Place};
use super::state::{Cause, Expect, Kind, Put, Record, Silent, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use decide::session::family::{Family, Written};
use decide::token::mint::Holder;
use serde::{Deserialize, Serialize};

/// What a refresh token begins with, for scanners of secrets to find.
pub const PREFIX: &str = "mrt_";

/// How long a row is kept behind its end, so that whoever comes late is told that the family has expired.
const KEPT_MS: u64 = 86_400_000;

const KIND: &str = "family";
const TOKEN: &str = "refresh token";
/// The word that they are listed under.
const INDEXED: &str = "family index";

/// A family's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyId(pub [u8; 16]);

impl FamilyId {
    /// Its word in tokens, entries and marks: `sid` of its access tokens.
    pub fn word(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The family of a word.
    pub fn parse(word: &str) -> Option<FamilyId> {
        let plain = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let number = u128::from_str_radix(word, 16).ok().filter(|_| plain)?;
        Some(FamilyId(number.to_be_bytes()))
    }
}

/// What is kept of a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its life.
    pub family: Family,
    /// Who holds it.
    pub holder: Holder,
    /// The client that asked last, hashed.
    pub client: String,
}

/// A row as it was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The row.
    pub row: Row,
    version: u64,
}

/// Why a family could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unread {
    /// Nobody can say.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// What is there was not written by us, or with a key that is gone.
    #[error("the row of the family does not open: {0}")]
    Broken(&'static str),
}

/// The token of a family's generation; `None` without keys.
pub fn token(ring: &Keyring, family: FamilyId, generation: u64) -> Option<String> {
    let named = named(family, generation);
    let mark = ring.mark(Place { kind: TOKEN, tenant: "", key: &named }).ok()?;
    let mut bytes = named.to_vec();
    bytes.extend_from_slice(&mark);
    Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The family and generation that a token names, where its mark is ours.
pub fn named_by(ring: &Keyring, token: &str) -> Option<(FamilyId, u64)> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    let (family, rest) = bytes.split_first_chunk::<16>()?;
    let (generation, mark) = rest.split_first_chunk::<8>()?;
    let (family, generation) = (FamilyId(*family), u64::from_be_bytes(*generation));
    let mark: &[u8; 16] = mark.try_into().ok()?;
    let place = Place { kind: TOKEN, tenant: "", key: &named(family, generation) };
    ring.is_marked(place, mark).then_some((family, generation))
}

fn named(family: FamilyId, generation: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    let parts = family.0.into_iter().chain(generation.to_be_bytes());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    bytes
}

/// Families in their store.
#[derive(Clone, Copy)]
pub struct Families<'a> {
    /// Where they are kept.
    pub state: &'a State,
    /// What they are sealed with.
    pub ring: &'a Keyring,
}

impl Families<'_> {
    /// Keeps a family that begins.
    pub async fn open(&self, id: FamilyId, row: &Row, expires_at_ms: u64) -> Result<(), Unread> {
        let record = self.seal(id, row, expires_at_ms)?;
        match self.state.put(Kind::Family, &id.0, Expect::Absent, record).await? {
            Put::Written { .. } => Ok(()),
            Put::Conflict(_) => Err(Unread::Broken("the id of a new family is taken")),
        }
    }

    /// The row of a family; `None` where there is none.
    pub async fn read(&self, id: FamilyId) -> Result<Option<Read>, Unread> {
        self.state.get(Kind::Family, &id.0).await?.map(|record| self.unseal(id, &record)).transpose()
    }

    /// The families of a user (name of the issuer, tenant, subject), ended ones too; at most about `most`. Rows that do not open
    /// are not this user's to see.
    pub async fn of_user(
        &self,
        (issuer, tenant, subject): (&str, Option<&str>, &str),
        most: usize,
    ) -> Result<Vec<(FamilyId, Read)>, Unread> {
        let mut all = Vec::new();
        for index in self.ring.of_user(INDEXED, issuer, tenant, subject) {
            for found in self.state.list(Kind::Family, &index, None, most).await? {
                let Ok(id) = found.key.as_slice().try_into().map(FamilyId) else { continue };
                if let Ok(read) = self.unseal(id, &found.record) {
                    all.push((id, read));
                }
            }
        }
        Ok(all)
    }

    /// Writes a row over the one that was read, and says what became of it; where somebody else was first, what they wrote.
    pub async fn write(
        &self,
        id: FamilyId,
        read: &Read,
        row: &Row,
        expires_at_ms: u64,
    ) -> Result<(Written, Option<Read>), Unread> {
        let record = self.seal(id, row, expires_at_ms)?;
        match self.state.put(Kind::Family, &id.0, Expect::Version(read.version), record).await {
            Ok(Put::Written { .. }) => Ok((Written::Yes, None)),
            Ok(Put::Conflict(None)) => Ok((Written::Conflict(None), None)),
            Ok(Put::Conflict(Some(record))) => {
                let there = self.unseal(id, &record)?;
                Ok((Written::Conflict(Some(there.row.family.clone())), Some(there)))
            }
            Err(silent) => match silent.cause {
                // It may have been carried out before the conversation ended.
                Cause::Timeout | Cause::Unreachable => Ok((Written::Unknown, None)),
                Cause::Full | Cause::Damaged | Cause::Refused | Cause::TooLong => Err(silent.into()),
            },
        }
    }

    fn seal(&self, id: FamilyId, row: &Row, expires_at_ms: u64) -> Result<Record, Unread> {
        let tenant = row.holder.tenant.as_deref().unwrap_or_default();
        let length = u8::try_from(tenant.len()).map_err(|_| Unread::Broken("the tenant's id is too long"))?;
        let json = serde_json::to_vec(row).map_err(|_| Unread::Broken("the row cannot be written"))?;
        let sealed = self.ring.seal(Place { kind: KIND, tenant, key: &id.0 }, &json);
        let sealed = sealed.map_err(|_| Unread::Broken("there is no key to seal with"))?;
        let mut value = Vec::with_capacity(1 + tenant.len() + sealed.len());
        value.push(length);
        value.extend_from_slice(tenant.as_bytes());
        value.extend_from_slice(&sealed);
        let holder = &row.holder;
        let indices = self.ring.of_user(INDEXED, &holder.issuer, holder.tenant.as_deref(), &holder.subject);
        let index = indices.first().ok_or(Unread::Broken("there is no key to seal with"))?;
        Ok(Record::new(value, expires_at_ms.saturating_add(KEPT_MS)).indexed(*index))
    }

    fn unseal(&self, id: FamilyId, record: &Record) -> Result<Read, Unread> {
        const SHORT: Unread = Unread::Broken("it is too short");
        let (length, rest) = record.value.split_first().ok_or(SHORT)?;
        let (tenant, sealed) = rest.split_at_checked(usize::from(*length)).ok_or(SHORT)?;
        let tenant = std::str::from_utf8(tenant).map_err(|_| Unread::Broken("its tenant is no text"))?;
        let json = self.ring.open(Place { kind: KIND, tenant, key: &id.0 }, sealed);
        let json = json.map_err(|_| Unread::Broken("its seal is broken, or of a key that is gone"))?;
        let row: Row = serde_json::from_slice(&json).map_err(|_| Unread::Broken("it is of another version"))?;
        Ok(Read { row, version: record.version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decide::revocation::{Handles, Source};

    fn ring(keys: &[u8]) -> Keyring {
        let keys: Vec<[u8; 32]> = keys.iter().map(|key| [*key; 32]).collect();
        Keyring::new(&keys)
    }

    fn row(tenant: &str) -> Row {
        let holder = Holder {
            issuer: "workforce".into(),
            subject: "zoë".into(),
            tenant: Some(tenant.into()),
            roles: vec!["buyer".into()],
            auth_time: None,
            issued_at: 5,
            acr: None,
            amr: Vec::new(),
            bound_to: None,
            handles: Handles::of(&Source { issuer: "https://idp.test/", subject: "zoë", ..Source::default() }),
        };
        Row { family: Family::open(1_000), holder, client: "abc".into() }
    }

    #[test]
    fn a_token_is_the_same_whoever_makes_it_and_cannot_be_made_up() {
        let (old, both) = (ring(&[1]), ring(&[2, 1]));
        let id = FamilyId([7; 16]);
        let made = token(&old, id, 5).unwrap();
        assert_eq!(token(&ring(&[1]), id, 5).unwrap(), made);
        assert_eq!((made.len(), named_by(&both, &made)), (58, Some((id, 5))));
        assert_eq!(named_by(&ring(&[2]), &made), None);
        let forged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = URL_SAFE_NO_PAD.decode(made.strip_prefix(PREFIX).unwrap()).unwrap();
            change(&mut bytes);
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        for token in [
            forged(&|bytes| bytes[23] += 1),
            forged(&|bytes| bytes[0] ^= 1),
            forged(&|bytes| bytes[39] ^= 1),
            forged(&|bytes| bytes.truncate(39)),
            forged(&|bytes| bytes.push(0)),
            made.replacen("mrt_", "", 1),
            format!("{made}="),
            "mrt_".to_owned(),
            String::new(),
        ] {
            assert_eq!(named_by(&old, &token), None, "{token}");
        }
    }

    #[test]
    fn a_family_has_one_word() {
        let id = FamilyId([0x0a; 16]);
        assert_eq!(FamilyId::parse(&id.word()), Some(id));
        for other in ["", "0a", &"0A".repeat(16), &format!("+{}", "0".repeat(31)), &"0".repeat(33)] {
            assert_eq!(FamilyId::parse(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn the_families_of_a_user_are_found_under_a_key() {
        let state = State::in_memory();
        let (old, both) = (ring(&[1]), ring(&[2, 1]));
        let who = ("workforce", Some("acme"), "zo\u{eb}");
        Families { state: &state, ring: &old }.open(FamilyId([7; 16]), &row("acme"), u64::MAX).await.unwrap();
        Families { state: &state, ring: &both }.open(FamilyId([8; 16]), &row("acme"), u64::MAX).await.unwrap();
        let found = async |ring: &Keyring, who| {
            let found = Families { state: &state, ring }.of_user(who, 10).await.unwrap();
            found.into_iter().map(|(id, _)| id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(found(&both, who).await, [8, 7], "whichever key of the ring wrote them");
        assert_eq!(found(&old, who).await, [7]);
        assert!(found(&both, ("workforce", Some("globex"), "zo\u{eb}")).await.is_empty());
        assert!(found(&both, ("workforce", None, "zo\u{eb}")).await.is_empty());
        assert!(found(&ring(&[3]), who).await.is_empty(), "names cannot be tried without a key");
    }

    #[tokio::test]
    async fn rows_are_sealed_to_their_family_and_tenant() {
        let (state, ring) = (State::in_memory(), ring(&[1]));
        let families = Families { state: &state, ring: &ring };
        let (id, other) = (FamilyId([7; 16]), FamilyId([8; 16]));
        let far = u64::MAX;
        families.open(id, &row("acme"), far).await.unwrap();
        assert_eq!(families.read(id).await.unwrap().unwrap().row, row("acme"));
        assert!(families.read(other).await.unwrap().is_none());
        assert!(families.open(id, &row("acme"), far).await.is_err());
        let record = state.get(Kind::Family, &id.0).await.unwrap().unwrap();
        assert!(!record.value.windows(5).any(|w| w == b"buyer"), "it cannot be read where it lies");
        // Copied to another family, or said to be another tenant's.
        state.put(Kind::Family, &other.0, Expect::Any, record.clone()).await.unwrap();
        assert!(matches!(families.read(other).await, Err(Unread::Broken(_))));
        let mut value = record.value.clone();
        value[1] = b'b';
        state.put(Kind::Family, &id.0, Expect::Any, Record { value, ..record }).await.unwrap();
        assert!(matches!(families.read(id).await, Err(Unread::Broken(_))));
    }

    #[tokio::test]
    async fn of_two_writers_the_second_sees_what_the_first_wrote() {
        let (state, ring) = (State::in_memory(), ring(&[1]));
        let families = Families { state: &state, ring: &ring };
        let id = FamilyId([7; 16]);
        families.open(id, &row("acme"), u64::MAX).await.unwrap();
        let read = families.read(id).await.unwrap().unwrap();
        let next = Row { client: "first".into(), ..row("acme") };
        assert_eq!(families.write(id, &read, &next, u64::MAX).await.unwrap().0, Written::Yes);
        let (written, there) = families.write(id, &read, &row("acme"), u64::MAX).await.unwrap();
        assert_eq!(written, Written::Conflict(Some(next.family.clone())));
        assert_eq!(&*there.unwrap().row.client, "first");
        state.remove(Kind::Family, &id.0).await.unwrap();
        assert_eq!(families.write(id, &read, &next, u64::MAX).await.unwrap().0, Written::Conflict(None));
    }
}
