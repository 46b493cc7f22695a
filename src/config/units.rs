//! Quantities as people write them: durations, sizes and rates carry their units.
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::time::Duration;

/// A duration: `250ms`, `10s`, `15m`, `12h`, `30d`, `1y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A size in bytes: `512B`, `64KiB`, `1MiB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A rate: `20/s`, `600/m`, `5000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateText {
    /// Requests.
    pub count: u32,
    /// Per so many seconds.
    pub period_s: u32,
}

/// A burst: a number of requests, or `2x`: so many times what the rate allows in a second (at least one request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// So many requests.
    Requests(u32),
    /// So many times the requests of one second.
    Times(u32),
}

/// A share: `100%`, `2.5%`; kept in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// `100%`
    pub const ALL: Share = Share(10_000);
    /// `1%`
    pub const ONE_PERCENT: Share = Share(100);

    /// `10%`
    pub const TENTH: Share = Share(1_000);
    /// `50%`
    pub const HALF: Share = Share(5_000);
    /// `20%`
    pub const FIFTH: Share = Share(2_000);

    /// Hundredths of a percent, 0 to 10,000.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// From 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// From 0 to 1,000,000.
    pub const fn per_million(self) -> u32 {
        self.0.saturating_mul(100)
    }
}

/// A text with units that can be read and written.
trait Quantity: Sized {
    /// What it looks like, for messages and the schema.
    const EXAMPLES: &'static str;
    /// Regular expression of the schema.
    const PATTERN: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn print(&self) -> String;
}

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 365 * DAY_S;

impl Period {
    /// Reads `20m` and the like.
    pub fn read(text: &str) -> Option<Period> {
        Quantity::parse(text)
    }
}

impl Quantity for Period {
    const EXAMPLES: &'static str = "a duration such as `250ms`, `10s`, `15m`, `12h`, `30d` or `1y`";
    const PATTERN: &'static str = "^[0-9]+(ms|s|m|h|d|y)$";

    fn parse(text: &str) -> Option<Period> {
        let (number, unit) = split(text)?;
        let seconds = |each: u64| number.checked_mul(each).filter(|s| *s <= 100 * YEAR_S).map(Duration::from_secs);
        Some(Period(match unit {
            "ms" if number <= 100 * YEAR_S => Duration::from_millis(number),
            "s" => seconds(1)?,
            "m" => seconds(60)?,
            "h" => seconds(3600)?,
            "d" => seconds(DAY_S)?,
            "y" => seconds(YEAR_S)?,
            _ => return None,
        }))
    }

    fn print(&self) -> String {
        let seconds = self.0.as_secs();
        if self.0.subsec_millis() != 0 || seconds == 0 {
            return format!("{}ms", self.0.as_millis());
        }
        let units = [(YEAR_S, "y"), (DAY_S, "d"), (3600, "h"), (60, "m")];
        // 60s, 90s and 24h read better than 1m, 1.5m and 1d, but one rule is easier to foresee: the greatest exact unit.
        match units.iter().find(|(each, _)| seconds.is_multiple_of(*each)) {
            Some((each, unit)) => format!("{}{unit}", seconds / each),
            None => format!("{seconds}s"),
        }
    }
}

impl Size {
    /// Reads one; `None` where it is none.
    pub fn read(text: &str) -> Option<Size> {
        <Size as Quantity>::parse(text)
    }
}

impl Quantity for Size {
    const EXAMPLES: &'static str = "a size such as `512B`, `64KiB`, `1MiB` or `2GiB`";
    const PATTERN: &'static str = "^[0-9]+(B|KiB|MiB|GiB)$";

    fn parse(text: &str) -> Option<Size> {
        let (number, unit) = split(text)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift).map(Size)
    }

    fn print(&self) -> String {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0 != 0 && self.0.is_multiple_of(1 << shift)) {
            Some((shift, unit)) => format!("{}{unit}", self.0 >> shift),
            None => format!("{}B", self.0),
        }
    }
}

impl Quantity for RateText {
    const EXAMPLES: &'static str = "a rate such as `20/s`, `600/m` or `5000/h`";
    const PATTERN: &'static str = "^[1-9][0-9]*/(s|m|h)$";

    fn parse(text: &str) -> Option<RateText> {
        let (count, unit) = text.split_once('/')?;
        let period_s = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count = digits(count)?.try_into().ok().filter(|n| *n > 0)?;
        Some(RateText { count, period_s })
    }

    fn print(&self) -> String {
        let unit = match self.period_s {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        format!("{}/{unit}", self.count)
    }
}

impl Quantity for Burst {
    const EXAMPLES: &'static str = "a burst such as `30` or `2x`";
    const PATTERN: &'static str = "^[1-9][0-9]*x?$";

    fn parse(text: &str) -> Option<Burst> {
        let (number, times) = match text.strip_suffix('x') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let n = digits(number)?.try_into().ok().filter(|n| *n > 0)?;
        Some(if times { Burst::Times(n) } else { Burst::Requests(n) })
    }

    fn print(&self) -> String {
        match self {
            Burst::Requests(n) => n.to_string(),
            Burst::Times(n) => format!("{n}x"),
        }
    }
}

impl Quantity for Share {
    const EXAMPLES: &'static str = "a share such as `100%` or `2.5%`";
    const PATTERN: &'static str = "^[0-9]{1,3}([.][0-9]{1,2})?%$";

    fn parse(text: &str) -> Option<Share> {
        let number = text.strip_suffix('%')?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let scale = match part.len() {
            1 => 10,
            2 => 1,
            _ => return None,
        };
        let hundredths = digits(whole)?.checked_mul(100)?.checked_add(digits(part)?.checked_mul(scale)?)?;
        u32::try_from(hundredths).ok().filter(|n| *n <= 10_000).map(Share)
    }

    fn print(&self) -> String {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => format!("{whole}%"),
            (whole, part) => format!("{}%", format!("{whole}.{part:02}").trim_end_matches('0')),
        }
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(at)?;
    Some((digits(number)?, unit))
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Reads a text, parses it, and says what was expected when it does not fit.
pub(crate) fn parse_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Text<F>(&'static str, F);
    impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::custom(format!("expected {}, found `{text}`", self.0)))
        }
    }
    deserializer.deserialize_str(Text(expected, parse))
}

/// Reads one of these words.
pub(crate) fn expect_word<'de, D: Deserializer<'de>, T: Clone>(
    deserializer: D,
    expected: &'static str,
    words: &[(&str, T)],
) -> Result<T, D::Error> {
    parse_text(deserializer, expected, |text| words.iter().find(|(word, _)| *word == text).map(|(_, t)| t.clone()))
}

macro_rules! quantity {
    ($($type:ident)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parse_text(deserializer, <$type as Quantity>::EXAMPLES, <$type as Quantity>::parse)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.print())
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.print())
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": ["string", "integer"],
                    "pattern": <$type as Quantity>::PATTERN,
                    "title": <$type as Quantity>::EXAMPLES,
                })
            }
        }
    )*};
}

quantity! { Period Size RateText Burst Share }

impl Period {
    /// Whole seconds, rounded down.
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

/// `10s` in code, for defaults.
pub(crate) const fn seconds(n: u64) -> Period {
    Period(Duration::from_secs(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: Quantity>(text: &str) -> String {
        T::parse(text).map_or_else(|| "refused".to_owned(), |q| q.print())
    }

    #[test]
    fn quantities_carry_units() {
        for (text, expected) in [
            ("250ms", "250ms"),
            ("10s", "10s"),
            ("90s", "90s"),
            ("60s", "1m"),
            ("365d", "1y"),
            ("0s", "0ms"),
            ("10", "refused"),
            ("-1s", "refused"),
            ("1.5s", "refused"),
            ("1 s", "refused"),
            ("101y", "refused"),
            ("99999999999999999999s", "refused"),
            ("", "refused"),
        ] {
            assert_eq!(round::<Period>(text), expected, "{text}");
        }
        for (text, expected) in [("64KiB", "64KiB"), ("1024B", "1KiB"), ("64kb", "refused"), ("64", "refused")] {
            assert_eq!(round::<Size>(text), expected, "{text}");
        }
        for (text, expected) in [("20/s", "20/s"), ("5000/h", "5000/h"), ("0/s", "refused"), ("1/d", "refused")] {
            assert_eq!(round::<RateText>(text), expected, "{text}");
        }
        for (text, expected) in
            [("100%", "100%"), ("2.5%", "2.5%"), ("0.25%", "0.25%"), ("101%", "refused"), ("5", "refused")]
        {
            assert_eq!(round::<Share>(text), expected, "{text}");
        }
        for (text, expected) in [("30", "30"), ("2x", "2x"), ("0", "refused"), ("x", "refused")] {
            assert_eq!(round::<Burst>(text), expected, "{text}");
        }
    }
}
