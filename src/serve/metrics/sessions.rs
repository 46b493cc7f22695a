//! What becomes of sessions that the gateway holds, counted.
use super::Metrics;
use decide::totp::Check;

/// Something that happened to a session: the `event` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It was opened.
    Opened,
    /// An answer handed out another handle.
    Rotated,
    /// A replaced handle came back, and the session has ended for it.
    Reused,
    /// Its user signed out.
    SignedOut,
    /// Its user signed in anew.
    Replaced,
    /// It went on by what was read before, because the store was silent.
    Stale,
}

impl SessionEvent {
    /// All of them.
    pub const ALL: [SessionEvent; 6] = [
        SessionEvent::Opened,
        SessionEvent::Rotated,
        SessionEvent::Reused,
        SessionEvent::SignedOut,
        SessionEvent::Replaced,
        SessionEvent::Stale,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            SessionEvent::Opened => "opened",
            SessionEvent::Rotated => "rotated",
            SessionEvent::Reused => "reused",
            SessionEvent::SignedOut => "signed_out",
            SessionEvent::Replaced => "replaced",
            SessionEvent::Stale => "stale",
        }
    }
}

/// How an authentication in a session that there was has ended, at the provider or by a code of an authenticator app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepUp {
    /// The session is as fresh, and as strong.
    Met,
    /// It is not: the provider did less than it was asked for, or the code was wrong.
    Unmet,
}

impl StepUp {
    /// Both.
    pub const ALL: [StepUp; 2] = [StepUp::Met, StepUp::Unmet];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            StepUp::Met => "met",
            StepUp::Unmet => "unmet",
        }
    }
}

/// What a code of an authenticator app was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// Right.
    Code,
    /// A recovery code.
    Recovery,
    /// Wrong, or used before.
    Wrong,
    /// Not looked at, after too many wrong ones.
    TooMany,
    /// Too late for an app that was never confirmed.
    Lapsed,
}

impl Factor {
    /// All of them.
    pub const ALL: [Factor; 5] = [Factor::Code, Factor::Recovery, Factor::Wrong, Factor::TooMany, Factor::Lapsed];

    /// What a check has shown.
    pub const fn of(check: Check) -> Factor {
        match check {
            Check::Code => Factor::Code,
            Check::Recovery { .. } => Factor::Recovery,
            Check::Wrong => Factor::Wrong,
            Check::TooMany { .. } => Factor::TooMany,
            Check::Lapsed => Factor::Lapsed,
        }
    }

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Factor::Code => "code",
            Factor::Recovery => "recovery",
            Factor::Wrong => "wrong",
            Factor::TooMany => "too_many",
            Factor::Lapsed => "lapsed",
        }
    }
}

impl Metrics {
    /// An API key went on by what was read of it before, because the store was silent.
    pub fn api_key_stale(&self) {
        self.families.api_key_stale.inc();
    }

    /// Somebody authenticated again, or did not.
    pub fn step_up(&self, result: StepUp) {
        self.families.step_ups.with_label_values(&[result.word()]).inc();
    }

    /// A code was shown.
    pub fn factor(&self, factor: Factor) {
        self.families.second_factors.with_label_values(&[factor.word()]).inc();
    }

    /// Something happened to a session.
    pub fn session(&self, event: SessionEvent) {
        self.families.session_events.with_label_values(&[event.word()]).inc();
    }

    /// A replaced handle of this tenant's came back.
    pub fn session_reused(&self, tenant: Option<&str>) {
        let name = self.tenants.name(self.tenants.slot(tenant));
        self.families.session_reuse.with_label_values(&[&*name]).inc();
    }

    /// Sessions that were used here within the last minute.
    pub fn sessions_active(&self, count: u64) {
        self.families.session_active.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
