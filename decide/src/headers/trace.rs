//! `traceparent` (W3C Trace Context): a new trace at the edge, or a trusted one continued.
use crate::digits;
use http::HeaderValue;
use std::fmt;

/// The place of a request in a trace. `Display` writes the header, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace: u128,
    /// The parent of whatever the application does; never 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceParent {
    /// Begins a trace from random bytes; `sample_ppm` of a million traces are marked as recorded.
    pub fn begin(random: [u8; 24], sample_ppm: u32) -> TraceParent {
        let (trace, span) = random.split_at(16);
        let trace = trace.iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte)).max(1);
        let span = span.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte)).max(1);
        TraceParent { trace, span, sampled: trace % 1_000_000 < u128::from(sample_ppm) }
    }

    /// What a client says about its place in a trace: `None` unless there is exactly one header, and it is valid.
    pub fn inbound<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>) -> Option<TraceParent> {
        let first = lines.next()?;
        if lines.next().is_some() { None } else { TraceParent::parse(first) }
    }

    /// Continues the inbound trace where it is trusted, with its decision whether to record; begins one otherwise.
    /// The flag says which: `tracestate` and `baggage` belong to the inbound trace.
    pub fn at_edge(
        inbound: Option<TraceParent>,
        trusted: bool,
        random: [u8; 24],
        sample_ppm: u32,
    ) -> (TraceParent, bool) {
        let begun = TraceParent::begin(random, sample_ppm);
        match inbound.filter(|_| trusted) {
            Some(parent) => (TraceParent { span: begun.span, ..parent }, true),
            None => (begun, false),
        }
    }

    /// The same trace, seen from another span of ours.
    pub fn from_span(self, span: u64) -> TraceParent {
        TraceParent { span: span.max(1), ..self }
    }

    /// The header's text.
    pub fn text(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        digits::hex(&self.trace.to_be_bytes(), &mut text[3..35]);
        digits::hex(&self.span.to_be_bytes(), &mut text[36..52]);
        digits::hex(&[u8::from(self.sampled)], &mut text[53..]);
        text
    }

    /// Reads the header: lowercase hex, no zero ids, version ff forbidden, later versions by their first four fields.
    pub fn parse(value: &HeaderValue) -> Option<TraceParent> {
        let text = value.to_str().ok()?;
        let mut fields = text.split('-');
        let mut hex = |length: usize| {
            let field = fields.next().filter(|f| f.len() == length)?;
            let lower = field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if lower { u128::from_str_radix(field, 16).ok() } else { None }
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let whole = version != 0 || fields.next().is_none();
        let span = u64::try_from(span).ok()?;
        let valid = version != 0xff && whole && trace != 0 && span != 0;
        valid.then_some(TraceParent { trace, span, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const S: &str = "00f067aa0ba902b7";

    #[test]
    fn headers_are_read_as_the_specification_says() {
        for (text, valid) in [
            (format!("00-{T}-{S}-01"), true),
            (format!("00-{T}-{S}-00"), true),
            (format!("01-{T}-{S}-03"), true),
            (format!("01-{T}-{S}-01-what-comes-later"), true),
            (format!("00-{T}-{S}-01-"), false),
            (format!("ff-{T}-{S}-01"), false),
            (format!("00-{}-{S}-01", T.to_uppercase()), false),
            (format!("00-{}-{S}-01", "0".repeat(32)), false),
            (format!("00-{T}-{}-01", "0".repeat(16)), false),
            (format!("00-{T}-{S}"), false),
            (format!("00-{T}-{S}-1"), false),
            (format!("00-{T}-+{}-01", &S[1..]), false),
            (String::new(), false),
        ] {
            let parsed = TraceParent::parse(&HeaderValue::try_from(&text).unwrap());
            assert_eq!(parsed.is_some(), valid, "{text}");
            if let Some(parent) = parsed {
                assert_eq!(parent.text(), parent.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn the_edge_begins_unless_told_to_trust() {
        let line = HeaderValue::try_from(format!("00-{T}-{S}-01")).unwrap();
        let bad = HeaderValue::from_static("00-1-2-3");
        let at = |lines: &[HeaderValue], trusted| {
            let inbound = TraceParent::inbound(lines.iter());
            let (parent, continued) = TraceParent::at_edge(inbound, trusted, [9; 24], 0);
            (parent.to_string(), continued)
        };
        let begun = (format!("00-{}-{}-00", "09".repeat(16), "09".repeat(8)), false);
        assert_eq!(at(std::slice::from_ref(&line), true), (format!("00-{T}-{}-01", "09".repeat(8)), true));
        assert_eq!(at(std::slice::from_ref(&line), false), begun);
        assert_eq!(at(&[line.clone(), line.clone()], true), begun);
        assert_eq!(at(&[bad], true), begun);
        assert_eq!(at(&[], true), begun);
        assert_eq!(
            TraceParent::begin([0; 24], 1_000_000).to_string(),
            format!("00-{}1-{}1-01", "0".repeat(31), "0".repeat(15))
        );
    }
}
