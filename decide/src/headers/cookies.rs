//! Hardening of the application's `Set-Cookie` (draft-ietf-httpbis-rfc6265bis): attributes only, values never.
use super::Fields;
use super::hsts::midnight_s;
use super::options::{CookieOptions, CookiePrefix, OnViolation, SameSite};
use super::problems::Problems;
use http::HeaderValue;
use http::header::SET_COOKIE;

/// Name and value together, in bytes; browsers ignore longer cookies.
const PAIR_MAX: usize = 4096;
/// An attribute's value, in bytes; browsers ignore longer attributes.
const ATTRIBUTE_MAX: usize = 1024;
/// The longest life that browsers grant.
const LIFE_MAX_S: u64 = 400 * 86_400;

/// What became of the application's cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieCounts {
    /// Cookies whose attributes were corrected.
    pub fixed: u32,
    /// Cookies that were removed: malformed, too large, or by `on_violation: strip`.
    pub removed: u32,
    /// Cookies that passed although their name lacks the required prefix.
    pub unprefixed: u32,
}

/// Compiled `cookies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CookieRules(CookieOptions);

/// What is to be done with one `Set-Cookie`.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Keep { unprefixed: bool },
    Fix { value: HeaderValue, unprefixed: bool },
    Remove,
}

impl CookieRules {
    /// Checks the options.
    pub(super) fn compile(options: &CookieOptions, path: &str, problems: &mut Problems) -> CookieRules {
        if !options.secure && options.require_prefix != CookiePrefix::None {
            let hint = "browsers drop prefixed cookies without `Secure`: write `secure: true`";
            problems.hinted(&format!("{path}.secure"), "`require_prefix` needs `secure: true`", hint);
        }
        for (i, name) in options.script_readable.iter().enumerate() {
            if !is_name(name.as_bytes()) {
                problems.plain(&format!("{path}.script_readable[{i}]"), format!("`{name}` is not a cookie name"));
            }
        }
        CookieRules(options.clone())
    }

    /// Hardens every `Set-Cookie` of a response.
    pub(super) fn apply(&self, fields: &mut impl Fields, now_s: u64) -> CookieCounts {
        let mut counts = CookieCounts::default();
        if fields.value(&SET_COOKIE).is_none() {
            return counts;
        }
        let mut kept = Vec::new();
        for line in fields.values(&SET_COOKIE) {
            match self.judge(line.as_bytes(), now_s) {
                Fate::Keep { unprefixed } => {
                    counts.unprefixed += u32::from(unprefixed);
                    kept.push(line.clone());
                }
                Fate::Fix { value, unprefixed } => {
                    counts.fixed += 1;
                    counts.unprefixed += u32::from(unprefixed);
                    kept.push(value);
                }
                Fate::Remove => counts.removed += 1,
            }
        }
        if counts.fixed + counts.removed > 0 {
            fields.remove(&SET_COOKIE);
            for value in kept {
                fields.append(&SET_COOKIE, value);
            }
        }
        counts
    }

    fn judge(&self, line: &[u8], now_s: u64) -> Fate {
        let mut segments = line.split(|b| *b == b';');
        let Some(pair) = segments.next() else { return Fate::Remove };
        let Some(equals) = pair.iter().position(|b| *b == b'=') else { return Fate::Remove };
        let (name, value) = pair.split_at(equals);
        let name = name.trim_ascii();
        // The `=` stands in for itself: it is not counted.
        if !is_name(name) || name.len() + value.trim_ascii().len().saturating_sub(1) > PAIR_MAX {
            return Fate::Remove;
        }
        let attributes: Vec<Attribute<'_>> = segments.map(Attribute::read).collect();
        let rules = &self.0;
        let prefix = Prefix::of(name);
        let unprefixed = match rules.require_prefix {
            CookiePrefix::None => false,
            CookiePrefix::Secure => !(prefix.secure || prefix.host),
            CookiePrefix::Host => !prefix.host,
        };
        let has = |kind: Kind| attributes.iter().any(|a| a.kind == kind);
        let last = |kind: Kind| attributes.iter().rev().find(|a| a.kind == kind).map(|a| a.value);

        let mut dropped: Vec<Kind> = Vec::new();
        let mut added: Vec<&str> = Vec::new();
        let theirs = last(Kind::SameSite).and_then(same_site);
        let same_site = theirs.map_or(rules.same_site, |theirs| theirs.max(rules.same_site));
        // Under `same_site: none` nothing is added: a missing or unknown value is `Lax` to most browsers already.
        if theirs != Some(same_site) && rules.same_site != SameSite::None {
            dropped.push(Kind::SameSite);
            added.push(match same_site {
                SameSite::None => "; SameSite=None",
                SameSite::Lax => "; SameSite=Lax",
                SameSite::Strict => "; SameSite=Strict",
            });
        }
        let host_bound = prefix.host || rules.require_prefix == CookiePrefix::Host;
        if host_bound && has(Kind::Domain) {
            dropped.push(Kind::Domain);
        }
        if prefix.host && last(Kind::Path) != Some(b"/".as_slice()) {
            dropped.push(Kind::Path);
            added.push("; Path=/");
        }
        if outlives(last(Kind::MaxAge), last(Kind::Expires), now_s) {
            dropped.push(Kind::MaxAge);
            added.push("; Max-Age=34560000");
        }
        let none = theirs == Some(SameSite::None) && same_site == SameSite::None;
        if (rules.secure || prefix.host || prefix.secure || none) && !has(Kind::Secure) {
            added.push("; Secure");
        }
        let readable = rules.script_readable.iter().any(|readable| readable.as_bytes() == name);
        if (prefix.http || rules.http_only && !readable) && !has(Kind::HttpOnly) {
            added.push("; HttpOnly");
        }

        let unchanged = dropped.is_empty() && added.is_empty();
        match rules.on_violation {
            OnViolation::Strip if !unchanged || unprefixed => Fate::Remove,
            OnViolation::FixAndCount | OnViolation::Strip if unchanged => Fate::Keep { unprefixed },
            OnViolation::FixAndCount | OnViolation::Strip => {
                let mut text = pair.to_vec();
                for attribute in attributes.iter().filter(|a| !dropped.contains(&a.kind)) {
                    text.push(b';');
                    text.extend_from_slice(attribute.raw);
                }
                added.iter().for_each(|attribute| text.extend_from_slice(attribute.as_bytes()));
                HeaderValue::try_from(text).map_or(Fate::Remove, |value| Fate::Fix { value, unprefixed })
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Domain,
    Path,
    MaxAge,
    Expires,
    Secure,
    HttpOnly,
    SameSite,
    /// Unknown, or so long that browsers pass over it.
    Other,
}

struct Attribute<'a> {
    kind: Kind,
    value: &'a [u8],
    raw: &'a [u8],
}

impl Attribute<'_> {
    fn read(raw: &[u8]) -> Attribute<'_> {
        let (name, value) = match raw.iter().position(|b| *b == b'=') {
            Some(at) => {
                let (name, value) = raw.split_at(at);
                (name.trim_ascii(), value.strip_prefix(b"=").unwrap_or(value).trim_ascii())
            }
            None => (raw.trim_ascii(), [].as_slice()),
        };
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let kind = match name {
            _ if value.len() > ATTRIBUTE_MAX => Kind::Other,
            _ if is("secure") => Kind::Secure,
            _ if is("httponly") => Kind::HttpOnly,
            _ if is("samesite") => Kind::SameSite,
            _ if is("path") => Kind::Path,
            _ if is("domain") => Kind::Domain,
            _ if is("max-age") => Kind::MaxAge,
            _ if is("expires") => Kind::Expires,
            _ => Kind::Other,
        };
        Attribute { kind, value, raw }
    }
}

/// What a cookie's name promises; browsers compare prefixes without regard to case.
struct Prefix {
    host: bool,
    secure: bool,
    http: bool,
}

impl Prefix {
    fn of(name: &[u8]) -> Prefix {
        let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix.as_bytes()));
        let http = starts("__Http-") || starts("__Host-Http-");
        Prefix { host: starts("__Host-"), secure: starts("__Secure-") || http, http }
    }
}

/// Printable, without what separates. RFC 6265 asks for a token; brackets are in wide use and harmless.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && !b"=;,\"\\".contains(b))
}

fn same_site(value: &[u8]) -> Option<SameSite> {
    let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    match value {
        _ if is("strict") => Some(SameSite::Strict),
        _ if is("lax") => Some(SameSite::Lax),
        _ if is("none") => Some(SameSite::None),
        _ => None,
    }
}

/// Whether a cookie asks for a longer life than browsers grant. `Max-Age` wins over `Expires`.
fn outlives(max_age: Option<&[u8]>, expires: Option<&[u8]>, now_s: u64) -> bool {
    let number = max_age
        .filter(|v| !v.is_empty() && v.iter().enumerate().all(|(i, b)| b.is_ascii_digit() || i == 0 && *b == b'-'));
    match (number.and_then(|v| str::from_utf8(v).ok()), expires) {
        // What does not fit into the number is longer than any life.
        (Some(text), _) => {
            !text.starts_with('-') && text.parse().is_ok_and(|s: u64| s > LIFE_MAX_S)
                || text.len() > 19 && !text.starts_with('-')
        }
        (None, Some(date)) => expiry_day_s(date).is_some_and(|s| s > now_s.saturating_add(LIFE_MAX_S)),
        (None, None) => false,
    }
}

/// The day of an `Expires` date, by the tolerant algorithm that browsers use (RFC 6265, 5.1.1).
fn expiry_day_s(date: &[u8]) -> Option<u64> {
    let delimiter = |b: &u8| matches!(b, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e);
    let (mut time, mut day, mut month, mut year) = (false, None, None, None);
    for token in date.split(delimiter).filter(|t| !t.is_empty()) {
        let digits = token.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = token.get(..digits).and_then(|d| str::from_utf8(d).ok()).and_then(|d| d.parse::<u64>().ok());
        if !time && token.contains(&b':') {
            time = true;
        } else if day.is_none() && (1..=2).contains(&digits) {
            day = number;
        } else if month.is_none() && digits == 0 {
            month = token.get(..3).and_then(|m| {
                let names = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
                (1..).zip(names).find(|(_, name)| m.eq_ignore_ascii_case(name.as_bytes())).map(|(i, _)| i)
            });
        } else if year.is_none() && (2..=4).contains(&digits) {
            year = number.map(|y| match y {
                0..=69 => 2000 + y,
                70..=99 => 1900 + y,
                _ => y,
            });
        }
    }
    midnight_s(year?, month?, day?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_795_219_200; // 2026-11-21

    fn rules(edit: impl Fn(&mut CookieOptions)) -> CookieRules {
        let mut options = CookieOptions::default();
        edit(&mut options);
        CookieRules::compile(&options, "cookies", &mut Problems::default())
    }

    fn run(rules: &CookieRules, line: &[u8]) -> String {
        match rules.judge(line, NOW_S) {
            Fate::Keep { unprefixed } => format!("kept{}", if unprefixed { " unprefixed" } else { "" }),
            Fate::Fix { value, unprefixed } => {
                format!("{}{}", String::from_utf8_lossy(value.as_bytes()), if unprefixed { " unprefixed" } else { "" })
            }
            Fate::Remove => "removed".into(),
        }
    }

    #[test]
    fn attributes_are_corrected_and_values_left_alone() {
        let lax = rules(|_| {});
        for (line, expected) in [
            ("a=1; Secure; HttpOnly; SameSite=Lax", "kept"),
            ("a=1;secure;HTTPONLY;samesite=strict; Path=/x", "kept"),
            ("a=1", "a=1; SameSite=Lax; Secure; HttpOnly"),
            ("a=1; SameSite=None; Secure; HttpOnly", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=1; SameSite=whatever; Secure; HttpOnly", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=1; SameSite=Strict; SameSite=None; Secure; HttpOnly", "a=1; Secure; HttpOnly; SameSite=Lax"),
            (
                "a=\"x=y, z\"; Domain=.example.com; Secure; SameSite=Lax",
                "a=\"x=y, z\"; Domain=.example.com; Secure; SameSite=Lax; HttpOnly",
            ),
            (
                "foo[bar]=%20 1 ;  Path=/ ;Secure;SameSite=Lax",
                "foo[bar]=%20 1 ;  Path=/ ;Secure;SameSite=Lax; HttpOnly",
            ),
            ("a=; Max-Age=0; Secure; HttpOnly; SameSite=Lax", "kept"),
            ("a=1; Max-Age=34560000; Secure; HttpOnly; SameSite=Lax", "kept"),
            (
                "a=1; Max-Age=34560001; Secure; HttpOnly; SameSite=Lax",
                "a=1; Secure; HttpOnly; SameSite=Lax; Max-Age=34560000",
            ),
            (
                "a=1; Max-Age=99999999999999999999999; Secure; HttpOnly; SameSite=Lax",
                "a=1; Secure; HttpOnly; SameSite=Lax; Max-Age=34560000",
            ),
            ("a=1; Max-Age=-1; Secure; HttpOnly; SameSite=Lax", "kept"),
            ("a=1; Max-Age=60; Expires=Fri, 31 Dec 9999 23:59:59 GMT; Secure; HttpOnly; SameSite=Lax", "kept"),
            (
                "a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT; Secure; HttpOnly; SameSite=Lax",
                "a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT; Secure; HttpOnly; SameSite=Lax; Max-Age=34560000",
            ),
            ("a=1; Expires=Thursday, 01-Jan-70 00:00:00 GMT; Secure; HttpOnly; SameSite=Lax", "kept"),
            ("a=1; Expires=Sat Nov 20 2027 10:11:12 GMT+0000; Secure; HttpOnly; SameSite=Lax", "kept"),
            (
                "a=1; Expires=01-Jan-29 00:00:00; Secure; HttpOnly; SameSite=Lax",
                "a=1; Expires=01-Jan-29 00:00:00; Secure; HttpOnly; SameSite=Lax; Max-Age=34560000",
            ),
            ("a=1; Expires=never; Secure; HttpOnly; SameSite=Lax", "kept"),
            ("__Host-a=1; Secure; HttpOnly; SameSite=Lax; Path=/", "kept"),
            (
                "__host-a=1; Domain=x.example; Path=/app; HttpOnly; SameSite=Lax",
                "__host-a=1; HttpOnly; SameSite=Lax; Path=/; Secure",
            ),
            ("__Host-a=1; HttpOnly; SameSite=Lax; Secure", "__Host-a=1; HttpOnly; SameSite=Lax; Secure; Path=/"),
        ] {
            assert_eq!(run(&lax, line.as_bytes()), expected, "{line}");
        }
        let obs = run(&lax, b"a=\xff\xfe; Secure; SameSite=Lax");
        assert_eq!(obs, String::from_utf8_lossy(b"a=\xff\xfe; Secure; SameSite=Lax; HttpOnly"));
        let long = format!("a=1; HttpOnly; SameSite=Lax; Secure={}", "x".repeat(1025));
        assert_eq!(run(&lax, long.as_bytes()), format!("{long}; Secure"), "browsers pass over long attributes");
    }

    #[test]
    fn what_no_browser_should_see_is_removed() {
        let lax = rules(|_| {});
        for line in ["", ";", "a", "=1", "=__Host-a=1", "a b=1", "a\tb=1", "\"a\"=1", " ; Secure", "a,b=1"] {
            assert_eq!(run(&lax, line.as_bytes()), "removed", "{line}");
        }
        assert_eq!(run(&lax, format!("a={}; Secure; HttpOnly; SameSite=Lax", "x".repeat(4095)).as_bytes()), "kept");
        assert_eq!(run(&lax, format!("a={}; Secure; HttpOnly; SameSite=Lax", "x".repeat(4096)).as_bytes()), "removed");
    }

    #[test]
    fn each_rule_by_itself() {
        let open = |edit: fn(&mut CookieOptions)| {
            rules(|o| {
                *o = CookieOptions {
                    secure: false,
                    http_only: false,
                    same_site: SameSite::None,
                    ..CookieOptions::default()
                };
                edit(o);
            })
        };
        for (rules, line, expected) in [
            (open(|_| {}), "a=1", "kept"),
            (open(|_| {}), "a=1; SameSite=whatever", "kept"),
            (open(|_| {}), "a=1; SameSite=None", "a=1; SameSite=None; Secure"),
            (open(|o| o.secure = true), "a=1", "a=1; Secure"),
            (open(|o| o.http_only = true), "a=1", "a=1; HttpOnly"),
            (open(|_| {}), "__Http-a=1; Secure", "__Http-a=1; Secure; HttpOnly"),
            (open(|_| {}), "__Secure-a=1", "__Secure-a=1; Secure"),
            (open(|o| o.same_site = SameSite::Strict), "a=1; SameSite=Lax", "a=1; SameSite=Strict"),
            (rules(|o| o.script_readable = vec!["xsrf".into()]), "xsrf=1; Secure; SameSite=Lax", "kept"),
            (
                rules(|o| o.require_prefix = CookiePrefix::Host),
                "a=1; Domain=x; Path=/p; Secure; HttpOnly; SameSite=Lax",
                "a=1; Path=/p; Secure; HttpOnly; SameSite=Lax unprefixed",
            ),
            (
                rules(|o| o.require_prefix = CookiePrefix::Host),
                "a=1; Path=/p; Secure; HttpOnly; SameSite=Lax",
                "kept unprefixed",
            ),
            (
                rules(|o| o.require_prefix = CookiePrefix::Secure),
                "__Host-a=1; Path=/; Secure; HttpOnly; SameSite=Lax",
                "kept",
            ),
            (
                rules(|o| o.require_prefix = CookiePrefix::Secure),
                "a=1; Secure; HttpOnly; SameSite=Lax",
                "kept unprefixed",
            ),
            (rules(|o| o.on_violation = OnViolation::Strip), "a=1", "removed"),
            (rules(|o| o.on_violation = OnViolation::Strip), "a=1; Secure; HttpOnly; SameSite=Lax", "kept"),
        ] {
            assert_eq!(run(&rules, line.as_bytes()), expected, "{line}");
        }
        let mut problems = Problems::default();
        let options = CookieOptions {
            secure: false,
            require_prefix: CookiePrefix::Host,
            script_readable: vec!["a b".into()],
            ..CookieOptions::default()
        };
        CookieRules::compile(&options, "cookies", &mut problems);
        assert_eq!(problems.0.len(), 2);
    }
}
