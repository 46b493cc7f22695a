//! RFC 3339 timestamps in UTC with milliseconds, written without allocation.

const MS_PER_DAY: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can say.
const LAST_MS: u64 = 253_402_300_799_999;

/// Appends `2026-11-21T01:52:40.123Z` for milliseconds since the Unix epoch; later than the year 9999 is written as its
/// last millisecond.
pub fn write(out: &mut Vec<u8>, at_ms: u64) {
    let at_ms = at_ms.min(LAST_MS);
    let (year, month, day) = date(at_ms / MS_PER_DAY);
    let ms = at_ms % MS_PER_DAY;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    (text[0], text[1]) = two(year / 100);
    (text[2], text[3]) = two(year % 100);
    (text[5], text[6]) = two(month);
    (text[8], text[9]) = two(day);
    (text[11], text[12]) = two(ms / 3_600_000);
    (text[14], text[15]) = two(ms / 60_000 % 60);
    (text[17], text[18]) = two(ms / 1000 % 60);
    (text[20], text[21]) = two(ms % 1000 / 10);
    (_, text[22]) = two(ms % 10);
    out.extend_from_slice(&text);
}

/// The digits of a number below 100.
const fn two(number: u64) -> (u8, u8) {
    (b'0' + (number / 10) as u8, b'0' + (number % 10) as u8)
}

/// The same as a string.
pub fn format(at_ms: u64) -> String {
    let mut out = Vec::with_capacity(24);
    write(&mut out, at_ms);
    out.into_iter().map(char::from).collect()
}

/// Reads exactly what [`write()`] writes: 24 characters, UTC, milliseconds. `None` for anything else.
pub fn parse(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, ms) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
    let days = days_since_epoch(year, month, day)?;
    let at_ms = days * MS_PER_DAY + hour * 3_600_000 + minute * 60_000 + second * 1000 + ms;
    // Writing it again rejects 24:00, 30 February and every wrong separator at once.
    (format(at_ms) == text).then_some(at_ms)
}

/// Civil date of a day count. Years begin in March here, so that the leap day is a year's last day and month lengths
/// follow one line: (153 m + 2) / 5.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_EPOCH: u64 = 719_468; // from 0000-03-01 to 1970-01-01
    let days = days + DAYS_TO_EPOCH;
    let era = days / 146_097; // 400 years
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let of_era = year % 400;
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = year / 400 * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
        assert_eq!(format(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn only_its_own_form_is_read() {
        for text in [
            "",
            "2023-02-29T00:00:00.000Z",
            "2024-02-29T24:00:00.000Z",
            "2024-02-29 23:59:59.999Z",
            "2024-02-29T23:59:59.999z",
            "2024-02-29T23:59:59.99Z",
            "+024-02-29T23:59:59.999Z",
            "1969-12-31T23:59:59.999Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_survives(ms in 0..=LAST_MS) {
            prop_assert_eq!(parse(&format(ms)), Some(ms));
        }
    }
}
