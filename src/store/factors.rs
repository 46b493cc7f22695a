//! Second factors (codes of authenticator apps), one record for each user: sealed, and changed by compare and swap, so that
//! of two who show the same code at two replicas one is believed.
use super::names::{self, Names};
use super::seal::{Keyring, Place, SealError};
use super::state::{Expect, Kind, MOST, NEVER, Put, Record, Silent, State};
use decide::totp::{CONFIRM_WITHIN_S, Check, Factor};

/// Writes that may come between reading and writing. Who loses more often is held up on purpose.
const TRIES: u32 = 8;

/// Whose factor it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Name of the issuer.
    pub issuer: &'a str,
    /// The tenant; empty where there is none.
    pub tenant: &'a str,
    /// The issuer's word for the user.
    pub subject: &'a str,
}

/// Why nothing is known of a factor.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The store is silent.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// Nobody knows where it lies.
    #[error("second factors: {0}")]
    Unnamed(#[from] names::Fault),
    /// What it holds cannot be opened.
    #[error("the second factor cannot be opened: {0}")]
    Sealed(#[from] SealError),
    /// What was sealed is no factor.
    #[error("the second factor cannot be read")]
    Unreadable,
    /// Others were always faster.
    #[error("the second factor is being changed by others")]
    Contended,
}

/// The factors of all users.
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    /// Where they are kept.
    pub state: &'a State,
    /// What they are sealed with.
    pub ring: &'a Keyring,
}

impl Factors<'_> {
    /// The factor of a user, confirmed or not.
    pub async fn get(&self, owner: Owner<'_>) -> Result<Option<Factor>, Unknown> {
        Ok(self.read(&self.key(owner).await?).await?.map(|(factor, _)| factor))
    }

    /// Begins anew with a factor that is not confirmed; `false` where a confirmed one stands.
    pub async fn begin(&self, owner: Owner<'_>, factor: &Factor, now_s: u64) -> Result<bool, Unknown> {
        let key = self.key(owner).await?;
        for _ in 0..TRIES {
            let expect = match self.read(&key).await? {
                Some((known, _)) if known.is_confirmed() => return Ok(false),
                Some((_, version)) => Expect::Version(version),
                None => Expect::Absent,
            };
            if self.write(&key, expect, factor, now_s).await? {
                return Ok(true);
            }
        }
        Err(Unknown::Contended)
    }

    /// Looks at a code; the outcome is durable before it is told. The first right code confirms the factor and gives it
    /// `recovery` codes: then `true` is beside it. `None` where there is no factor.
    pub async fn check(
        &self,
        owner: Owner<'_>,
        attempt: &str,
        recovery: &[String],
        now_s: u64,
    ) -> Result<Option<(Check, bool)>, Unknown> {
        let key = self.key(owner).await?;
        for _ in 0..TRIES {
            let Some((mut factor, version)) = self.read(&key).await? else { return Ok(None) };
            let before = factor.clone();
            let check = factor.check(attempt, now_s);
            let confirmed = factor.is_confirmed() && !before.is_confirmed();
            if confirmed {
                factor.renew_recovery(recovery);
            }
            if factor == before || self.write(&key, Expect::Version(version), &factor, now_s).await? {
                return Ok(Some((check, confirmed)));
            }
        }
        Err(Unknown::Contended)
    }

    /// Takes the factor of a user away; `false` where there was none.
    pub async fn remove(&self, owner: Owner<'_>) -> Result<bool, Unknown> {
        Ok(self.state.remove(Kind::Factor, &self.key(owner).await?).await?.is_some())
    }

    /// Seals anew what was sealed with a key that no longer seals, so that this key may go. How many there were, and how many
    /// do not open with any key.
    pub async fn renew(&self) -> Result<(u64, u64), Unknown> {
        let (mut renewed, mut shut, mut any) = (0, 0, false);
        let mut from: Option<Vec<u8>> = None;
        loop {
            let piece = self.state.scan(Kind::Factor, from.as_deref(), MOST).await?;
            any |= !piece.found.is_empty();
            for found in piece.found {
                let (Ok(key), record) = (<[u8; 32]>::try_from(found.key.as_slice()), found.record) else { continue };
                if self.ring.seals_like(&record.value) {
                    continue;
                }
                let Ok(value) = self.ring.open(place(&key), &record.value) else {
                    shut += 1;
                    continue;
                };
                let sealed = Record { value: self.ring.seal(place(&key), &value)?, ..record };
                // Whoever was faster has sealed it as well.
                self.state.put(Kind::Factor, &key, Expect::Version(record.version), sealed).await?;
                renewed += 1;
            }
            match piece.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        if any {
            // What they are found by is sealed too.
            Names::of(self.state, self.ring, Kind::Factor).await?;
        }
        Ok((renewed, shut))
    }

    /// Where the factor of a user lies.
    async fn key(&self, owner: Owner<'_>) -> Result<[u8; 32], Unknown> {
        let names = Names::of(self.state, self.ring, Kind::Factor).await?;
        Ok(names.place(&[owner.issuer, owner.tenant, owner.subject]))
    }

    async fn read(&self, key: &[u8; 32]) -> Result<Option<(Factor, u64)>, Unknown> {
        let Some(record) = self.state.get(Kind::Factor, key).await? else { return Ok(None) };
        let value = self.ring.open(place(key), &record.value)?;
        let factor = serde_json::from_slice(&value).map_err(|_| Unknown::Unreadable)?;
        Ok(Some((factor, record.version)))
    }

    async fn write(&self, key: &[u8; 32], expect: Expect, factor: &Factor, now_s: u64) -> Result<bool, Unknown> {
        let value = serde_json::to_vec(factor).map_err(|_| Unknown::Unreadable)?;
        let sealed = self.ring.seal(place(key), &value)?;
        let until = now_s.saturating_add(CONFIRM_WITHIN_S).saturating_mul(1000);
        let record = Record::new(sealed, if factor.is_confirmed() { NEVER } else { until });
        Ok(matches!(self.state.put(Kind::Factor, key, expect, record).await?, Put::Written { .. }))
    }
}

/// The key says whose it is, of which issuer and tenant.
fn place(key: &[u8; 32]) -> Place<'_> {
    Place { kind: "factor", tenant: "", key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decide::totp::{Secret, recovery_code};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NOW: u64 = 1_700_000_000;
    const ANN: Owner<'_> = Owner { issuer: "idp", tenant: "acme", subject: "ann" };

    fn fresh() -> Factor {
        Factor::new(Secret::new(*b"12345678901234567890"), NOW)
    }

    fn state() -> (State, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(NOW * 1000));
        let read = clock.clone();
        (State::in_memory_at(Arc::new(move || read.load(Ordering::Relaxed))), clock)
    }

    /// The code of a time, found as a thief with all the time there is would.
    fn code(at_s: u64) -> String {
        let hit = |n: &u32| fresh().check(&format!("{n:06}"), at_s).passed();
        let found = (0..1_000_000).find(hit).unwrap();
        format!("{found:06}")
    }

    #[tokio::test]
    async fn one_code_is_taken_once_however_many_show_it_at_once() {
        let (state, ring) = (state().0, Keyring::new([&[1; 32]]));
        let factors = Factors { state: &state, ring: &ring };
        assert!(factors.begin(ANN, &fresh(), NOW).await.unwrap());
        let code = code(NOW);
        let shown = recovery_code([7; 10]);
        let check = async |attempt: &str| factors.check(ANN, attempt, std::slice::from_ref(&shown), NOW).await.unwrap();
        assert_eq!(check(&code).await, Some((Check::Code, true)));
        assert!(!factors.begin(ANN, &fresh(), NOW).await.unwrap(), "a confirmed one is not replaced");
        let all = tokio::join!(check(&shown), check(&shown), check(&shown));
        let taken = [all.0, all.1, all.2].into_iter().flatten().filter(|(check, _)| check.passed()).count();
        assert_eq!(taken, 1);
        assert!(factors.remove(ANN).await.unwrap() && factors.get(ANN).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn it_is_one_user_s_and_sealed_and_an_unconfirmed_one_goes_away() {
        let ((state, clock), ring) = (state(), Keyring::new([&[1; 32]]));
        let factors = Factors { state: &state, ring: &ring };
        factors.begin(ANN, &fresh(), NOW).await.unwrap();
        for other in [
            Owner { tenant: "globex", ..ANN },
            Owner { subject: "anna", ..ANN },
            Owner { issuer: "idpacme", tenant: "", ..ANN },
        ] {
            assert_eq!(factors.get(other).await.unwrap(), None, "{other:?}");
        }
        let stolen = Keyring::new([&[2; 32]]);
        assert!(matches!(Factors { state: &state, ring: &stolen }.get(ANN).await, Err(Unknown::Unnamed(_))));
        let piece = state.scan(Kind::Factor, None, MOST).await.unwrap();
        let there: Vec<_> = piece.found.iter().filter(|found| found.key != names::KEY).collect();
        let [one] = there[..] else { panic!("{there:?}") };
        let plain = |words: &[&str]| {
            let parts = words.iter().flat_map(|word| [&(word.len() as u64).to_be_bytes(), word.as_bytes()].concat());
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.collect::<Vec<u8>>()).as_ref().to_vec()
        };
        assert_ne!(one.key, plain(&["idp", "acme", "ann"]), "no hash that anybody could make");
        clock.store((NOW + CONFIRM_WITHIN_S) * 1000, Ordering::Relaxed);
        assert_eq!(factors.get(ANN).await.unwrap(), None);
    }

    #[tokio::test]
    async fn keys_can_be_changed_and_the_old_one_taken_away() {
        let (state, _) = state();
        let (old, both, new) = (Keyring::new([&[1; 32]]), Keyring::new([&[2; 32], &[1; 32]]), Keyring::new([&[2; 32]]));
        let at = |ring| Factors { state: &state, ring };
        at(&old).begin(ANN, &fresh(), NOW).await.unwrap();
        assert_eq!(at(&both).get(ANN).await.unwrap(), Some(fresh()));
        // Too early: nobody may take it for absent, and set up another.
        assert!(at(&new).get(ANN).await.is_err() && at(&new).begin(ANN, &fresh(), NOW).await.is_err());
        assert_eq!(at(&new).renew().await.unwrap(), (0, 1), "and it is said");
        assert_eq!(at(&both).renew().await.unwrap(), (1, 0));
        assert_eq!(at(&both).renew().await.unwrap(), (0, 0), "once");
        assert_eq!(at(&new).get(ANN).await.unwrap(), Some(fresh()));
    }
}
