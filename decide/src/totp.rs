//! Codes of an authenticator app (TOTP, RFC 6238) and recovery codes: a second factor, as values and their changes.
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use serde::{Deserialize, Serialize};

/// How long a code is shown, seconds. Authenticator apps know no other value.
pub const STEP_S: u64 = 30;
/// Steps before and after the clock's whose codes are taken too (RFC 6238, 5.2): for clocks that disagree, and slow hands.
const SLACK: u64 = 1;
/// Wrong codes in a row before the next must wait.
const FREE_FAILURES: u32 = 5;
/// The first wait; each further wrong code doubles it.
const FIRST_WAIT_S: u64 = 30;
/// The longest wait. There is no lock-out for good: it would be a gift to whoever wants somebody else out.
const LONGEST_WAIT_S: u64 = 3600;
/// Time to confirm a new secret with its first code.
pub const CONFIRM_WITHIN_S: u64 = 900;
/// How many recovery codes there are.
pub const RECOVERY_CODES: usize = 10;

/// A shared secret of 160 bits (RFC 4226, 4: R6). Not printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u8; 20]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// From random bytes.
    pub const fn new(bytes: [u8; 20]) -> Secret {
        Secret(bytes)
    }

    /// As people type it into an app: base32 (RFC 4648, 6), 32 characters.
    pub fn text(&self) -> String {
        base32(&self.0)
    }

    /// The URI that apps read from a picture (`otpauth://totp/ISSUER:ACCOUNT?…`, the "Key URI Format").
    pub fn uri(&self, issuer: &str, account: &str) -> String {
        let (issuer, account) = (percent(issuer), percent(account));
        format!("otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&period={STEP_S}", self.text())
    }

    /// The code of a step: six digits (RFC 4226, 5.3).
    fn code(&self, step: u64) -> [u8; 6] {
        let key = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let bytes = tag.as_ref();
        let at = usize::from(bytes.last().copied().unwrap_or_default() & 0xf);
        let part = bytes.get(at..at + 4).and_then(|part| <[u8; 4]>::try_from(part).ok()).unwrap_or_default();
        let mut number = u32::from_be_bytes(part) & 0x7fff_ffff;
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
        digits
    }
}

/// A user's second factor, as it is kept (sealed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    secret: Secret,
    /// Until when the first code must come, seconds since the epoch; `None` once it has.
    confirm_until_s: Option<u64>,
    /// The newest step whose code was taken: neither it nor an older one is taken again (RFC 6238, 5.2).
    last_step: u64,
    /// Wrong codes since the last right one.
    failures: u32,
    /// Before then no code is looked at, seconds since the epoch.
    waits_until_s: u64,
    /// SHA-256 of the recovery codes that are left.
    recovery: Vec<[u8; 32]>,
}

/// What a code has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is the app's.
    Code,
    /// It is a recovery code, used up now; so many are left.
    Recovery {
        /// Recovery codes that are left.
        left: usize,
    },
    /// It is neither, or has been used before.
    Wrong,
    /// It was not looked at: there were too many wrong ones.
    TooMany {
        /// Seconds until the next is looked at.
        wait_s: u64,
    },
    /// The new secret was not confirmed in time: enrolment begins anew.
    Lapsed,
}

impl Check {
    /// Whether the factor is shown.
    pub const fn passed(self) -> bool {
        matches!(self, Check::Code | Check::Recovery { .. })
    }
}

impl Factor {
    /// A factor that counts once its first code has come.
    pub const fn new(secret: Secret, now_s: u64) -> Factor {
        Factor {
            secret,
            confirm_until_s: Some(now_s.saturating_add(CONFIRM_WITHIN_S)),
            last_step: 0,
            failures: 0,
            waits_until_s: 0,
            recovery: Vec::new(),
        }
    }

    /// Gives it these recovery codes, in clear, in place of those that are left.
    pub fn renew_recovery(&mut self, codes: &[String]) {
        self.recovery = codes.iter().map(|code| hash(code)).collect();
    }

    /// Whether its first code has come.
    pub const fn is_confirmed(&self) -> bool {
        self.confirm_until_s.is_none()
    }

    /// How it stands, in a word.
    pub const fn state(&self) -> &'static str {
        if self.is_confirmed() { "enrolled" } else { "unconfirmed" }
    }

    /// The secret, while it has not been confirmed; it is never shown again.
    pub fn unconfirmed(&self) -> Option<&Secret> {
        self.confirm_until_s.is_some().then_some(&self.secret)
    }

    /// How many recovery codes are left.
    pub const fn recovery_left(&self) -> usize {
        self.recovery.len()
    }

    /// Looks at a code. Whatever the outcome, the changed factor must be kept before anybody is told: a code that was
    /// taken twice, or a wrong one that was not counted, would be no limit.
    pub fn check(&mut self, attempt: &str, now_s: u64) -> Check {
        if self.waits_until_s > now_s {
            return Check::TooMany { wait_s: self.waits_until_s - now_s };
        }
        if self.confirm_until_s.is_some_and(|until| until <= now_s) {
            return Check::Lapsed;
        }
        let check = self.find(attempt, now_s);
        if check.passed() {
            (self.confirm_until_s, self.failures, self.waits_until_s) = (None, 0, 0);
        } else {
            self.failures = self.failures.saturating_add(1);
            if let Some(beyond) = self.failures.checked_sub(FREE_FAILURES) {
                let wait = FIRST_WAIT_S.saturating_mul(1 << beyond.min(10)).min(LONGEST_WAIT_S);
                self.waits_until_s = now_s.saturating_add(wait);
            }
        }
        check
    }

    fn find(&mut self, attempt: &str, now_s: u64) -> Check {
        let plain: String = attempt.chars().filter(|c| !c.is_ascii_whitespace() && *c != '-').take(64).collect();
        if plain.len() == 6 {
            let now = now_s / STEP_S;
            let steps = now.saturating_sub(SLACK)..=now.saturating_add(SLACK);
            let same = |step: &u64| verify_slices_are_equal(&self.secret.code(*step), plain.as_bytes()).is_ok();
            return match steps.filter(|step| *step > self.last_step).find(same) {
                Some(step) => {
                    self.last_step = step;
                    Check::Code
                }
                None => Check::Wrong,
            };
        }
        let hashed = hash(&plain);
        match self.recovery.iter().position(|code| verify_slices_are_equal(code, &hashed).is_ok()) {
            Some(at) => {
                self.recovery.remove(at);
                Check::Recovery { left: self.recovery.len() }
            }
            None => Check::Wrong,
        }
    }
}

/// A recovery code of 80 random bits, in groups of four: `K7F3-QM2X-ZPA4-77QD`.
pub fn recovery_code(random: [u8; 10]) -> String {
    let mut code = base32(&random);
    for at in [12, 8, 4] {
        code.insert(at, '-');
    }
    code
}

/// Without hyphens and in capitals, as it may be typed in many ways.
fn hash(code: &str) -> [u8; 32] {
    let plain: String = code.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    digest(&SHA256, plain.as_bytes()).as_ref().try_into().unwrap_or_default()
}

/// RFC 4648, 6, for whole groups of five bytes, which need no padding.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let group = |group: &[u8]| group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let letter = |bits: u64, at: u32| LETTERS.get((bits >> (35 - 5 * at) & 31) as usize).copied().unwrap_or_default();
    let letters = bytes.chunks_exact(5).map(group).flat_map(|bits| (0..8).map(move |at| letter(bits, at)));
    letters.map(char::from).collect()
}

/// Everything but unreserved characters (RFC 3986, 2.3) written as `%XX`.
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
