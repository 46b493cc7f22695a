//! `Strict-Transport-Security` (RFC 6797, and the rules of hstspreload.org): load-time checks and the value of the day.
use super::options::HstsOptions;
use super::problems::Problems;
use http::HeaderValue;

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 365 * DAY_S;

/// The header's value over time: the steps of the ramp, then the full one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hsts {
    /// (second at which the step ends, value), oldest first.
    steps: Vec<(u64, HeaderValue)>,
    full: HeaderValue,
}

impl Hsts {
    /// The value at a time, seconds since the epoch.
    pub(super) fn at(&self, now_s: u64) -> &HeaderValue {
        self.steps.iter().find(|(until_s, _)| now_s < *until_s).map_or(&self.full, |(_, value)| value)
    }

    /// Checks the options and renders every value that will ever be sent.
    pub(super) fn compile(options: &HstsOptions, path: &str, problems: &mut Problems) -> Option<Hsts> {
        let before = problems.0.len();
        let age_path = format!("{path}.max_age");
        let max_age_s = duration(&options.max_age, &age_path, problems)?;
        if options.preload && max_age_s < YEAR_S {
            problems.hinted(
                &age_path,
                format!("`preload` needs a `max_age` of at least 1y, not `{}`", options.max_age),
                "write `max_age: 1y`, or `preload: false`",
            );
        }
        if options.preload && !options.include_subdomains {
            problems.hinted(
                &format!("{path}.preload"),
                "`preload` needs `include_subdomains: true`",
                "the preload list takes whole domains only",
            );
        }
        let mut steps: Vec<(u64, HeaderValue)> = Vec::new();
        let mut last_age_s = 0;
        for (i, step) in options.ramp.0.iter().enumerate() {
            let step_path = format!("{path}.ramp[{i}]");
            let (Some(until_s), Some(age_s)) = (
                day(&step.until, &format!("{step_path}.until"), problems),
                duration(&step.max_age, &format!("{step_path}.max_age"), problems),
            ) else {
                continue;
            };
            if steps.last().is_some_and(|(before_s, _)| until_s <= *before_s) {
                problems.hinted(&step_path, "the steps are not in order of their dates", "put the oldest first");
            }
            if age_s < last_age_s || age_s > max_age_s {
                problems.hinted(
                    &format!("{step_path}.max_age"),
                    format!("`{}` does not lead up to `{}`", step.max_age, options.max_age),
                    "each step is longer than the one before it, and none longer than `max_age`",
                );
            }
            last_age_s = age_s;
            // A domain that is still ramping must not ask for the preload list.
            steps.push((until_s, value(age_s, options.include_subdomains, false)?));
        }
        let full = value(max_age_s, options.include_subdomains, options.preload)?;
        (problems.0.len() == before).then_some(Hsts { steps, full })
    }
}

fn value(max_age_s: u64, include_subdomains: bool, preload: bool) -> Option<HeaderValue> {
    let subdomains = if include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if preload { "; preload" } else { "" };
    HeaderValue::try_from(format!("max-age={max_age_s}{subdomains}{preload}")).ok()
}

/// Reads `90s`, `5m`, `12h`, `30d`, `2w`, `1y` (a year has 365 days), in seconds.
fn duration(text: &str, path: &str, problems: &mut Problems) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match text.strip_prefix(digits) {
        Some("s") => Some(1),
        Some("m") => Some(60),
        Some("h") => Some(3600),
        Some("d") => Some(DAY_S),
        Some("w") => Some(7 * DAY_S),
        Some("y") => Some(YEAR_S),
        Some(_) | None => None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let seconds = match (plain, unit_s) {
        (true, Some(unit_s)) => digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_s)),
        (true | false, _) => None,
    };
    // RFC 6797 sets no bound; ten years is beyond what browsers keep, so more is a slip of the pen.
    match seconds.filter(|s| *s <= 10 * YEAR_S) {
        Some(seconds) => Some(seconds),
        None => {
            problems.hinted(path, format!("`{text}` is not a duration of at most 10y"), "write it like `30d` or `1y`");
            None
        }
    }
}

/// Reads `2027-01-31` as the second at which that day begins in UTC.
fn day(text: &str, path: &str, problems: &mut Problems) -> Option<u64> {
    let fields: Vec<&str> = text.split('-').collect();
    let parsed = match fields.as_slice() {
        [y, m, d] if [y.len(), m.len(), d.len()] == [4, 2, 2] => match (y.parse(), m.parse(), d.parse()) {
            (Ok(y), Ok(m), Ok(d)) => midnight_s(y, m, d),
            (Ok(_) | Err(_), _, _) => None,
        },
        _ => None,
    };
    if parsed.is_none() {
        problems.hinted(path, format!("`{text}` is not a date"), "write it like `2027-01-31`");
    }
    parsed
}

/// Seconds from the epoch to midnight UTC of a day of the Gregorian calendar, from 1970 to 9999.
pub(super) fn midnight_s(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    // 719,468 days lie between 1 March of the year 0 and the epoch.
    days.checked_sub(719_468).map(|days| days * DAY_S)
}

#[cfg(test)]
mod tests {
    use super::super::options::{Ramp, RampStep};
    use super::*;

    fn options(max_age: &str, include_subdomains: bool, preload: bool, ramp: &[(&str, &str)]) -> HstsOptions {
        let steps = ramp.iter().map(|(u, a)| RampStep { until: u.to_string(), max_age: a.to_string() }).collect();
        HstsOptions { max_age: max_age.into(), include_subdomains, preload, ramp: Ramp(steps) }
    }

    fn check(options: HstsOptions, now_s: u64, expected: &str) {
        let mut problems = Problems::default();
        let got = match Hsts::compile(&options, "hsts", &mut problems) {
            Some(hsts) => hsts.at(now_s).to_str().unwrap().to_owned(),
            None => problems.0.iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>().join(" | "),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn values_and_problems() {
        check(options("1y", true, false, &[]), 0, "max-age=31536000; includeSubDomains");
        check(options("2y", true, true, &[]), 0, "max-age=63072000; includeSubDomains; preload");
        check(options("0s", false, false, &[]), 0, "max-age=0");
        check(
            options("30d", true, true, &[]),
            0,
            "hsts.max_age: `preload` needs a `max_age` of at least 1y, not `30d`",
        );
        check(options("1y", false, true, &[]), 0, "hsts.preload: `preload` needs `include_subdomains: true`");
        for bad in ["", "1", "y", "1 y", "-1d", "+1d", "1.5d", "1yy", "11y", "99999999999999999999s", "1Y", "é"] {
            check(
                options(bad, true, false, &[]),
                0,
                &format!("hsts.max_age: `{bad}` is not a duration of at most 10y"),
            );
        }
    }

    #[test]
    fn the_ramp_walks_by_date_and_never_preloads() {
        let ramp = [("2027-01-01", "5m"), ("2027-01-08", "7d"), ("2027-02-08", "30d")];
        let at = |y, m, d| midnight_s(y, m, d).unwrap();
        let o = || options("2y", true, true, &ramp);
        check(o(), at(2026, 12, 31), "max-age=300; includeSubDomains");
        check(o(), at(2027, 1, 1) - 1, "max-age=300; includeSubDomains");
        check(o(), at(2027, 1, 1), "max-age=604800; includeSubDomains");
        check(o(), at(2027, 2, 7), "max-age=2592000; includeSubDomains");
        check(o(), at(2027, 2, 8), "max-age=63072000; includeSubDomains; preload");
        check(
            options("1y", true, false, &[("2027-01-08", "7d"), ("2027-01-01", "5m")]),
            0,
            "hsts.ramp[1]: the steps are not in order of their dates | hsts.ramp[1].max_age: `5m` does not lead up to `1y`",
        );
        check(
            options("1d", true, false, &[("2027-01-08", "7d")]),
            0,
            "hsts.ramp[0].max_age: `7d` does not lead up to `1d`",
        );
        for bad in
            ["2027-02-29", "2027-13-01", "2027-1-1", "27-01-01", "2027-01-00", "tomorrow", "1969-12-31", "+027-01-01"]
        {
            check(options("1y", true, false, &[(bad, "7d")]), 0, &format!("hsts.ramp[0].until: `{bad}` is not a date"));
        }
    }

    #[test]
    fn days_are_counted_right() {
        assert_eq!(midnight_s(1970, 1, 1), Some(0));
        assert_eq!(midnight_s(2000, 2, 29), Some(951_782_400));
        assert_eq!(midnight_s(2026, 11, 21), Some(1_795_219_200));
        assert_eq!(midnight_s(2100, 2, 29), None);
    }
}
