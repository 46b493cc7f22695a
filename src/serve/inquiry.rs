//! What others say of a credential: asked once for all who come with it at the same time, and remembered for a while.
//!
//! **Good and bad apart.** Whoever sends random credentials fills a table of their own: what is refused never takes the
//! place of what is good. Both are bounded, and both know a credential by a keyed hash only.
//!
//! **A question outlives its request.** It is a task of its own, so that a client that goes away cannot cancel what
//! others wait for, and each ends within the time for an answer.
use crate::config::settings::Keep;
use crate::serve::tokens::{TokenKey, Tokens};
use aws_lc_rs::{hmac, rand};
use decide::facts::{Answer, Carrier, Credential, Identity};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Places for what was refused: each takes as many bytes as a place for what is good, and a newer one takes an older one's.
const REFUSED: usize = 4096;

/// What somebody said of a credential.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Whose it is.
    Known(Arc<Identity>),
    /// Nobody's.
    Refused(No),
    /// It cannot be told now; the cause is for the audit entry.
    Unavailable(Arc<str>),
}

impl Verdict {
    /// It cannot be told now.
    pub fn unavailable(cause: impl Into<Arc<str>>) -> Verdict {
        Verdict::Unavailable(cause.into())
    }

    /// The same as an answer to the session guard.
    pub fn answer(self, carrier: Carrier) -> Answer {
        Answer::Credential(match self {
            Verdict::Known(identity) => Credential::Valid { identity, carrier },
            Verdict::Refused(No::Invalid(cause)) => Credential::Invalid(cause.to_owned()),
            Verdict::Refused(No::Over(cause)) => Credential::Expired(cause.to_owned()),
            Verdict::Refused(No::Nobody) => Credential::Missing,
            Verdict::Unavailable(cause) => return Answer::Unavailable(cause.as_ref().to_owned()),
        })
    }
}

/// Why a credential is nobody's. Causes are for the audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum No {
    /// It does not verify.
    Invalid(&'static str),
    /// Nothing is known of it any more.
    Over(&'static str),
    /// It is of somebody who has not said who it is. Not remembered: who signs in is known at once.
    Nobody,
}

/// How questions ended, since the start of the process.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; 4]);

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Remembered,
    Known,
    Refused,
    Unavailable,
}

impl Counts {
    /// Words and totals, in a fixed order. Questions that several requests waited for are counted once.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words = ["remembered", "known", "refused", "unavailable"];
        words.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    fn add(&self, ended: Ended) {
        let [remembered, known, refused, unavailable] = &self.0;
        let count = match ended {
            Ended::Remembered => remembered,
            Ended::Known => known,
            Ended::Refused => refused,
            Ended::Unavailable => unavailable,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The memory of what was said, and the questions under way.
pub struct Inquiry {
    inner: Arc<Inner>,
}

struct Inner {
    /// Made at random: what credentials are known by means nothing elsewhere.
    key: hmac::Key,
    keep: Keep,
    known: Tokens,
    refused: Vec<Mutex<Option<Refused>>>,
    under_way: Mutex<HashMap<TokenKey, watch::Receiver<Option<Verdict>>>>,
    counts: Arc<Counts>,
}

#[derive(Clone, Copy)]
struct Refused {
    key: TokenKey,
    from_s: u64,
    until_s: u64,
    why: No,
}

impl Inquiry {
    /// Nothing is known yet. Fails where the system has no randomness.
    pub fn new(keep: Keep, counts: Arc<Counts>) -> Option<Inquiry> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).ok()?;
        let places = if keep.refused_s == 0 { 0 } else { REFUSED };
        Some(Inquiry {
            inner: Arc::new(Inner {
                key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
                keep,
                known: Tokens::new(if keep.max_age_s == 0 { 0 } else { keep.entries }),
                refused: std::iter::repeat_with(Mutex::default).take(places).collect(),
                under_way: Mutex::default(),
                counts,
            }),
        })
    }

    /// What is known of a credential at `now_s` (seconds since the epoch), or what whoever `begin` asks says of it. It is not
    /// called where somebody asks already; its error is that nobody can be asked now.
    pub async fn ask<F>(&self, credential: &str, now_s: u64, begin: impl FnOnce() -> Result<F, String>) -> Verdict
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let inner = &self.inner;
        let key = TokenKey::keyed(&inner.key, credential);
        if let Some(verdict) = inner.remembered(&key, now_s) {
            inner.counts.add(Ended::Remembered);
            return verdict;
        }
        let mut verdict = match self.join(key, now_s, begin) {
            Ok(verdict) => verdict,
            Err(cause) => {
                inner.counts.add(Ended::Unavailable);
                return Verdict::unavailable(cause);
            }
        };
        let told = verdict.wait_for(Option::is_some).await.ok().and_then(|verdict| verdict.clone());
        told.unwrap_or_else(|| Verdict::unavailable("the question ended without an answer"))
    }

    /// How many good ones are remembered of identities like this. Looks at all of them.
    pub fn matching(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        self.inner.known.matching(like)
    }

    /// The question under way about this credential, or a new one; always a new one where nothing is remembered.
    fn join<F>(
        &self,
        key: TokenKey,
        now_s: u64,
        begin: impl FnOnce() -> Result<F, String>,
    ) -> Result<watch::Receiver<Option<Verdict>>, String>
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let mut under_way = self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nothing may be old, not even an answer to a question of a moment ago is young enough.
        let common = self.inner.keep.max_age_s > 0;
        if let Some(verdict) = under_way.get(&key).filter(|_| common) {
            return Ok(verdict.clone());
        }
        let question = begin()?;
        let (tell, verdict) = watch::channel(None);
        if common {
            under_way.insert(key, verdict.clone());
        }
        drop(under_way);
        let end = End { inner: self.inner.clone(), key };
        tokio::spawn(async move {
            let verdict = question.await;
            end.inner.keep(key, now_s, &verdict);
            tell.send_replace(Some(verdict));
        });
        Ok(verdict)
    }
}

/// Ends a question, however its task ends.
struct End {
    inner: Arc<Inner>,
    key: TokenKey,
}

impl Drop for End {
    fn drop(&mut self) {
        self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Inner {
    fn remembered(&self, key: &TokenKey, now_s: u64) -> Option<Verdict> {
        if let Some(identity) = self.known.find(key, 0, now_s) {
            return Some(Verdict::Known(identity));
        }
        let place = *self.place(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that went back behind the refusal finds nothing.
        let refused = place.filter(|refused| refused.key == *key && (refused.from_s..refused.until_s).contains(&now_s));
        refused.map(|refused| Verdict::Refused(refused.why))
    }

    /// Remembers what was said about a question of `asked_s`.
    fn keep(&self, key: TokenKey, asked_s: u64, verdict: &Verdict) {
        match verdict {
            Verdict::Known(identity) => {
                self.known.insert_for(self.keep.max_age_s, key, 0, asked_s, identity.clone());
                self.counts.add(Ended::Known);
            }
            Verdict::Refused(why) => {
                let until_s = asked_s.saturating_add(self.keep.refused_s);
                let refused = Refused { key, from_s: asked_s, until_s, why: *why };
                if let Some(place) = self.place(&key).filter(|_| *why != No::Nobody) {
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                }
                self.counts.add(Ended::Refused);
            }
            Verdict::Unavailable(_) => self.counts.add(Ended::Unavailable),
        }
    }

    fn place(&self, key: &TokenKey) -> Option<&Mutex<Option<Refused>>> {
        let index = key.number().checked_rem(self.refused.len() as u64)?;
        self.refused.get(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixtures::identity;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Semaphore;

    const NOW: u64 = 1_000;
    const KEEP: Keep = Keep { max_age_s: 10, refused_s: 3, entries: 8 };

    fn known(expires_at: u64) -> Verdict {
        Verdict::Known(Arc::new(identity("idp", "user", expires_at)))
    }

    fn inquiry(keep: Keep) -> Inquiry {
        Inquiry::new(keep, Arc::default()).unwrap()
    }

    /// Whether somebody had to be asked, and the word for the verdict.
    async fn asked(inquiry: &Inquiry, credential: &str, now_s: u64, verdict: Verdict) -> (bool, &'static str) {
        let count = AtomicUsize::new(0);
        let begin = || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(async move { verdict })
        };
        let word = match inquiry.ask(credential, now_s, begin).await {
            Verdict::Known(_) => "known",
            Verdict::Refused(No::Invalid(cause) | No::Over(cause)) => cause,
            Verdict::Refused(No::Nobody) => "nobody",
            Verdict::Unavailable(_) => "unavailable",
        };
        (count.into_inner() == 1, word)
    }

    #[tokio::test]
    async fn answers_serve_their_time_and_faults_none() {
        let inquiry = inquiry(KEEP);
        let (good, no, out) =
            (|| known(NOW + 100), || Verdict::Refused(No::Invalid("no")), || Verdict::unavailable("out"));
        for (credential, now_s, verdict, expected) in [
            ("a", NOW, good(), (true, "known")),
            ("a", NOW + 9, no(), (false, "known")),
            ("a", NOW + 10, no(), (true, "no")),
            ("a", NOW + 12, good(), (false, "no")),
            ("a", NOW + 13, out(), (true, "unavailable")),
            ("a", NOW + 13, good(), (true, "known")),
            ("b", NOW, known(NOW + 2), (true, "known")),
            ("b", NOW + 1, no(), (false, "known")),
            ("b", NOW + 2, no(), (true, "no")),
            ("b", NOW + 3, good(), (false, "no")),
        ] {
            assert_eq!(asked(&inquiry, credential, now_s, verdict).await, expected, "{credential} {now_s}");
        }
        let nobody = || Verdict::Refused(No::Nobody);
        assert_eq!(asked(&inquiry, "visitor", NOW, nobody()).await, (true, "nobody"));
        assert_eq!(asked(&inquiry, "visitor", NOW, nobody()).await, (true, "nobody"), "who signs in is known at once");
        let totals: Vec<_> = inquiry.inner.counts.totals().collect();
        assert_eq!(totals, [("remembered", 4), ("known", 3), ("refused", 4), ("unavailable", 1)]);
        let nothing = Keep { max_age_s: 0, refused_s: 0, entries: 8 };
        let forgetful = self::inquiry(nothing);
        for verdict in [good(), good(), no(), no()] {
            assert!(asked(&forgetful, "a", NOW, verdict).await.0, "nothing is remembered");
        }
    }

    #[tokio::test]
    async fn strangers_do_not_take_the_place_of_those_who_are_known() {
        let inquiry = inquiry(KEEP);
        for name in ["a", "b", "c", "d"] {
            asked(&inquiry, name, NOW, known(NOW + 100)).await;
        }
        for number in 0..20_000 {
            asked(&inquiry, &format!("guess {number}"), NOW, Verdict::Refused(No::Invalid("no"))).await;
        }
        for name in ["a", "b", "c", "d"] {
            assert_eq!(
                asked(&inquiry, name, NOW, Verdict::Refused(No::Invalid("no"))).await,
                (false, "known"),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn all_who_come_together_ask_once_and_nobody_cancels() {
        assert_eq!(questions_of_a_crowd(KEEP).await, 1);
        let nothing = Keep { max_age_s: 0, ..KEEP };
        assert_eq!(questions_of_a_crowd(nothing).await, 21, "nobody gets an answer from before their question");
    }

    /// One comes, is asked about and goes away; twenty come meanwhile.
    async fn questions_of_a_crowd(keep: Keep) -> usize {
        let inquiry = Arc::new(inquiry(keep));
        let (begun, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (inquiry, begun, go) = (inquiry.clone(), begun.clone(), go.clone());
            tokio::spawn(async move {
                let begin = || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    Ok(async move {
                        go.acquire().await.unwrap().forget();
                        known(NOW + 100)
                    })
                };
                matches!(inquiry.ask("a", NOW, begin).await, Verdict::Known(_))
            })
        };
        let first = ask();
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (0..20).map(|_| ask()).collect();
        first.abort();
        assert!(first.await.is_err());
        // As many permits as there may be questions.
        go.add_permits(21);
        for one in rest {
            assert!(one.await.unwrap());
        }
        begun.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn a_question_that_panics_leaves_nobody_waiting() {
        let inquiry = inquiry(KEEP);
        let begin = || Ok(async { panic!("a mistake") });
        assert!(matches!(inquiry.ask("a", NOW, begin).await, Verdict::Unavailable(_)));
        assert_eq!(asked(&inquiry, "a", NOW, known(NOW + 1)).await, (true, "known"));
        let full = inquiry.ask("b", NOW, || Err::<std::future::Ready<Verdict>, _>("full".to_owned())).await;
        assert!(matches!(full, Verdict::Unavailable(cause) if &*cause == "full"));
    }
}
