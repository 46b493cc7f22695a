//! Ending sessions: what every credential is held against, and the one way in which anybody ends anything.
use crate::config::settings::Revocation;
use crate::serve::gateway::Shared;
use crate::serve::metrics::RevocationMetrics;
use crate::serve::run::now_ms;
use crate::store::revocations::{Fault, Observer};
use decide::facts::{Answer, Credential, Identity, Person};
use decide::record::Event;
use decide::refusal::{Challenge, Code, Refusal};
use decide::revocation::{Mark, Scope, Target, Within};
use std::sync::Arc;
use std::time::Duration;

/// How often a replica looks whether it is stale.
const TICK: Duration = Duration::from_millis(100);
/// When whoever was refused because nothing could be ended may try again, in seconds.
const AGAIN_S: u32 = 2;

/// By which way somebody ends something: the `via` label of metrics, and a word in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// An operator.
    Admin,
    /// A user, among the own sessions.
    Users,
    /// A sign-out, of the session that it came with.
    SignOut,
    /// A signal of an issuer (CAEP).
    Signals,
    /// A logout token of an issuer.
    BackChannel,
    /// The gateway itself: a credential was used twice.
    Reuse,
}

impl Via {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Via::Admin => "admin",
            Via::Users => "users",
            Via::SignOut => "sign-out",
            Via::Signals => "signals",
            Via::BackChannel => "back-channel",
            Via::Reuse => "reuse",
        }
    }

    /// How many marks there may be for one more of this way, of `most` in all. Users, and thieves, who open and end sessions all
    /// day leave a tenth to operators and issuers.
    const fn room(self, most: u64) -> u64 {
        match self {
            Via::Admin | Via::Signals | Via::BackChannel => most,
            Via::Users | Via::SignOut | Via::Reuse => most - most / 10,
        }
    }
}

/// An order to end something.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What.
    pub targets: &'a [Target<'a>],
    /// As of when, milliseconds since the Unix epoch: who signed in later stays. Not after now, unless whoever ends their own
    /// sessions has signed in by a clock that is ahead.
    pub at_ms: u64,
    /// Who says so, for the audit log.
    pub actor: &'a str,
    /// How they say it.
    pub via: Via,
}

impl Shared {
    /// Ends something: it is in the audit log, durable, in force here and told to all replicas when this returns. What was
    /// opened by it is closed, here and on all replicas, by and by.
    pub async fn end(&self, order: Order<'_>) -> Result<(), Fault> {
        let asked_ms = now_ms();
        let settings = &self.active().snapshot.revocation;
        let marks: Vec<Mark> = order.targets.iter().map(|target| mark(target, &order, settings, asked_ms)).collect();
        for (target, mark) in order.targets.iter().zip(&marks) {
            // Before the effect: what cannot be written down is not done.
            let entry = self.audit.system(event(target, &mark.handle.to_string(), &order));
            entry.map_err(|error| Fault::Unwritten(format!("the audit log cannot take an entry: {error}")))?;
        }
        // In a task of its own: what has begun is in force and told, also where whoever asked for it does not wait.
        let (revocations, most) = (self.revocations.clone(), order.via.room(settings.max_marks));
        let ending = tokio::spawn(async move { revocations.end(&marks, asked_ms, most).await });
        let done = ending.await.unwrap_or_else(|_| Err(Fault::Unwritten("ending it has ended by itself".to_owned())));
        let result = match &done {
            Ok(()) => "ok",
            Err(Fault::Unwritten(_)) => "unwritten",
            Err(Fault::Untold(_)) => "untold",
            Err(Fault::Full(_)) => "full",
        };
        let metrics = self.metrics.revocations();
        order.targets.iter().for_each(|target| metrics.ordered(target.scope(), order.via.word(), result));
        if let Err(fault) = &done {
            tracing::error!(via = order.via.word(), %fault, "a revocation is not complete");
        }
        done
    }

    /// What an answer about a credential is worth, held against all that was ended: every way in comes by here, remembered
    /// tokens too. `sensitive` is the route's word, `tenant` that of the request.
    pub(super) fn hold(&self, answer: Answer, settings: &Revocation, sensitive: bool, tenant: Option<&str>) -> Answer {
        let Answer::Credential(Credential::Valid { identity, .. }) = &answer else { return answer };
        if !self.revocations.is_ready() {
            return Answer::Unavailable("what was ended has not been read yet".to_owned());
        }
        if let Some(scope) = self.revocations.ended(identity, tenant) {
            return Answer::Credential(Credential::Revoked(cause(scope)));
        }
        // Ordinary routes look at a flag, sensitive ones at the clock: after a pause of the machine the flag is old.
        let stale = self.revocations.is_stale() || (sensitive && self.revocations.silence() > settings.max_staleness);
        if !stale {
            return answer;
        }
        let deny = if sensitive { settings.deny_stale_sensitive } else { settings.deny_stale };
        self.metrics.revocations().stale(deny);
        if deny {
            let silence = self.revocations.silence().as_secs_f64();
            return Answer::Unavailable(format!("what others have ended was last heard of {silence:.1} s ago"));
        }
        answer
    }

    /// The refusal of whoever was ended since the credential was verified.
    pub(super) fn ended(&self, identity: &Identity, tenant: Option<&str>) -> Option<Refusal> {
        self.revocations.ended(identity, tenant).map(refusal)
    }
}

/// What whoever wanted something ended is told when that failed.
pub(super) fn undone(fault: &Fault) -> Refusal {
    Refusal::new(Code::GatewayUnavailable, fault.to_string()).retry_after(AGAIN_S)
}

/// What whoever is out by this meets.
pub(super) fn refusal(scope: Scope) -> Refusal {
    Refusal::new(Code::SessionRevoked, cause(scope)).challenge(Challenge::InvalidToken)
}

fn cause(scope: Scope) -> String {
    match scope {
        Scope::Token => "the token was ended",
        Scope::Session => "the session was ended",
        Scope::Subject => "all sessions of the user were ended",
        Scope::Tenant => "all sessions of the tenant were ended",
        Scope::Key => "all tokens of the key were ended",
        Scope::Issuer => "all sessions of the issuer were ended",
    }
    .to_owned()
}

fn mark(target: &Target<'_>, order: &Order<'_>, settings: &Revocation, asked_ms: u64) -> Mark {
    let until_s = (asked_ms / 1000).saturating_add(settings.keep_s);
    Mark::of(target, order.at_ms, settings.clock_tolerance_s, until_s)
}

fn event<'a>(target: &Target<'a>, handle: &'a str, order: &Order<'a>) -> Event<'a> {
    let (issuer, subject, tenant) = match *target {
        Target::Token { issuer, .. }
        | Target::Session { issuer, .. }
        | Target::Key { issuer, .. }
        | Target::Issuer { issuer } => (Some(issuer), None, None),
        Target::Subject { issuer, subject, within } => {
            let tenant = match within {
                Within::Tenant(id) => Some(id),
                Within::Anywhere | Within::NoTenant => None,
            };
            (Some(issuer), Some(Person(subject)), tenant)
        }
        Target::Known { .. } => (None, None, None),
        Target::Tenant { id } => (None, None, Some(id)),
    };
    let scope = target.scope().as_str();
    Event::Revoke { actor: Person(order.actor), via: order.via.word(), scope, issuer, subject, tenant, handle }
}

/// Says when this replica begins and ceases to be stale. Never ends.
pub async fn watch_over(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let most = shared.active().snapshot.revocation.max_staleness;
        let silence = shared.revocations.silence();
        let stale = shared.revocations.is_ready() && silence > most;
        if shared.revocations.set_stale(stale) == stale {
            continue;
        }
        if stale {
            tracing::error!(?silence, "what other replicas end is not heard of: `when_stale` holds");
        } else {
            tracing::info!("what other replicas end is heard of again");
        }
    }
}

/// Tells metrics and log what the store of revocations sees.
pub(super) struct Watcher(pub(super) RevocationMetrics);

impl Observer for Watcher {
    fn applied(&self, took: Duration) {
        self.0.applied(took);
    }

    fn heard(&self, state: Result<(), &str>) {
        match state {
            Ok(()) => tracing::info!("revocations are followed"),
            Err(reason) => tracing::warn!(reason, "revocations cannot be followed"),
        }
    }
}
