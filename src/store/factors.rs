//! Second factors (codes of authenticator apps), one record for each user: sealed, and changed by compare and swap, so that
//! of two who show the same code at two replicas one is believed.
use super::seal::{Keyring, Place, SealError};
use super::state::{Expect, Kind, NEVER, Put, Record, Silent, State};
use aws_lc_rs::digest::{Context, SHA256};
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

impl Owner<'_> {
    fn key(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        for part in [self.issuer, self.tenant, self.subject] {
            hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finish().as_ref().try_into().unwrap_or_default()
    }
}

/// Why nothing is known of a factor.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The store is silent.
    #[error(transparent)]
    Silent(#[from] Silent),
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
        Ok(self.read(owner).await?.map(|(factor, _)| factor))
    }

    /// Begins anew with a factor that is not confirmed; `false` where a confirmed one stands.
    pub async fn begin(&self, owner: Owner<'_>, factor: &Factor, now_s: u64) -> Result<bool, Unknown> {
        for _ in 0..TRIES {
            let expect = match self.read(owner).await? {
                Some((known, _)) if known.is_confirmed() => return Ok(false),
                Some((_, version)) => Expect::Version(version),
                None => Expect::Absent,
            };
            if self.write(owner, expect, factor, now_s).await? {
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
        for _ in 0..TRIES {
            let Some((mut factor, version)) = self.read(owner).await? else { return Ok(None) };
            let before = factor.clone();
            let check = factor.check(attempt, now_s);
            let confirmed = factor.is_confirmed() && !before.is_confirmed();
            if confirmed {
                factor.renew_recovery(recovery);
            }
            if factor == before || self.write(owner, Expect::Version(version), &factor, now_s).await? {
                return Ok(Some((check, confirmed)));
            }
        }
        Err(Unknown::Contended)
    }

    /// Takes the factor of a user away; `false` where there was none.
    pub async fn remove(&self, owner: Owner<'_>) -> Result<bool, Unknown> {
        Ok(self.state.remove(Kind::Factor, &owner.key()).await?.is_some())
    }

    async fn read(&self, owner: Owner<'_>) -> Result<Option<(Factor, u64)>, Unknown> {
        let key = owner.key();
        let Some(record) = self.state.get(Kind::Factor, &key).await? else { return Ok(None) };
        let value = self.ring.open(place(&owner, &key), &record.value)?;
        let factor = serde_json::from_slice(&value).map_err(|_| Unknown::Unreadable)?;
        Ok(Some((factor, record.version)))
    }

    async fn write(&self, owner: Owner<'_>, expect: Expect, factor: &Factor, now_s: u64) -> Result<bool, Unknown> {
        let key = owner.key();
        let value = serde_json::to_vec(factor).map_err(|_| Unknown::Unreadable)?;
        let sealed = self.ring.seal(place(&owner, &key), &value)?;
        let until = now_s.saturating_add(CONFIRM_WITHIN_S).saturating_mul(1000);
        let record = Record::new(sealed, if factor.is_confirmed() { NEVER } else { until });
        Ok(matches!(self.state.put(Kind::Factor, &key, expect, record).await?, Put::Written { .. }))
    }
}

fn place<'a>(owner: &Owner<'a>, key: &'a [u8; 32]) -> Place<'a> {
    Place { kind: "factor", tenant: owner.tenant, key }
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
        assert!(matches!(Factors { state: &state, ring: &stolen }.get(ANN).await, Err(Unknown::Sealed(_))));
        clock.store((NOW + CONFIRM_WITHIN_S) * 1000, Ordering::Relaxed);
        assert_eq!(factors.get(ANN).await.unwrap(), None);
    }
}
