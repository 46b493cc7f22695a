//! What a client is told about a limit: `RateLimit`, `RateLimit-Policy` and `Retry-After`.
//!
//! Syntax of draft-ietf-httpapi-ratelimit-headers-11: each field is a list of items, the name of the limit being a
//! structured-field string (RFC 9651, 3.3.3). The `pk` parameter is left out: it could carry what identifies a person.
use crate::digits::decimal;
use crate::facts::{LimitState, Unit};
use crate::record::is_plain;
use bytes::BufMut;

/// The most that jitter adds to `Retry-After`, in seconds.
const SPREAD_MAX_S: u32 = 30;

/// Writes the value of `RateLimit`: what is left (`r`) and the seconds until more comes (`t`), e.g. `"per-tenant";r=37;t=1`. When a
/// request under way will end is not known: there is no `t` then.
pub fn limit_field(out: &mut impl BufMut, state: &LimitState) {
    named(out, &state.name);
    number(out, b";r=", state.remaining);
    if state.unit == Unit::Requests {
        number(out, b";t=", state.reset_s);
    }
}

/// Writes the value of `RateLimit-Policy`: requests at once (`q`) and the seconds in which they refill (`w`), e.g.
/// `"per-tenant";q=200;w=1`; or the requests that may be under way, `"export";q=2;qu="concurrent-requests"`.
pub fn policy_field(out: &mut impl BufMut, state: &LimitState) {
    named(out, &state.name);
    number(out, b";q=", state.quota);
    match state.unit {
        Unit::Requests => number(out, b";w=", state.window_s),
        Unit::Concurrent => out.put_slice(b";qu=\"concurrent-requests\""),
    }
}

fn number(out: &mut impl BufMut, lead: &[u8], value: u32) {
    out.put_slice(lead);
    decimal(out, value.into());
}

/// Value of `Retry-After` in seconds (RFC 9110, 10.2.3): at least one, never earlier than `t` of `RateLimit`, and up to
/// a quarter of that later (one second at least, 30 at most), so that clients refused together do not return together.
///
/// `random` is any uniformly distributed number.
pub fn retry_after_s(state: &LimitState, random: u32) -> u32 {
    let earliest = state.reset_s.max(1);
    let spread = (earliest / 4).clamp(1, SPREAD_MAX_S);
    earliest.saturating_add(random % (spread + 1))
}

/// The name of a limit as an sf-string.
fn named(out: &mut impl BufMut, name: &str) {
    out.put_u8(b'"');
    // Almost always nothing is special, and the name goes out in one piece.
    if name.is_ascii() && is_plain(name.as_bytes()) {
        out.put_slice(name.as_bytes());
        return out.put_u8(b'"');
    }
    for c in name.chars() {
        match c {
            '"' | '\\' => out.put_slice(&[b'\\', c as u8]),
            ' '..='~' => out.put_u8(c as u8),
            // An sf-string holds printable ASCII only; a name outside of it must not break the field.
            _ => out.put_u8(b'_'),
        }
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit_field(state: &LimitState) -> String {
        let mut out = Vec::new();
        super::limit_field(&mut out, state);
        String::from_utf8(out).unwrap()
    }

    fn policy_field(state: &LimitState) -> String {
        let mut out = Vec::new();
        super::policy_field(&mut out, state);
        String::from_utf8(out).unwrap()
    }

    fn state(name: &str, reset_s: u32) -> LimitState {
        let (unit, legacy) = (Unit::Requests, false);
        LimitState { name: name.into(), unit, quota: 200, window_s: 1, remaining: 37, reset_s, legacy }
    }

    #[test]
    fn fields_read_as_in_the_draft() {
        let state = state("per-tenant-read", 1);
        assert_eq!(limit_field(&state), r#""per-tenant-read";r=37;t=1"#);
        assert_eq!(policy_field(&state), r#""per-tenant-read";q=200;w=1"#);
    }

    #[test]
    fn requests_under_way_have_a_unit_and_no_time() {
        let state = LimitState { unit: Unit::Concurrent, quota: 2, remaining: 0, ..state("export", 1) };
        assert_eq!(limit_field(&state), r#""export";r=0"#);
        assert_eq!(policy_field(&state), r#""export";q=2;qu="concurrent-requests""#);
    }

    #[test]
    fn a_strange_name_stays_inside_its_string() {
        assert_eq!(limit_field(&state("a\"b\\c\r\nd\u{e9}", 0)), r#""a\"b\\c__d_";r=37;t=0"#);
    }

    proptest! {
        #[test]
        fn retry_after_is_never_early_and_little_late(reset_s: u32, random: u32) {
            let after = retry_after_s(&state("x", reset_s), random);
            prop_assert!(after >= reset_s.max(1));
            prop_assert!(after - reset_s.max(1) <= 30.min((reset_s / 4).max(1)));
        }

        #[test]
        fn a_field_is_always_a_header_value(name: String) {
            prop_assert!(http::HeaderValue::from_str(&limit_field(&state(&name, 1))).is_ok());
        }
    }
}
