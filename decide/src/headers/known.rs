//! What is known about single headers: which may stand in a profile, with which values, and how ours meets the
//! application's.
use super::Fields;
use http::header::{HeaderName, HeaderValue};

/// How our value meets the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Ours alone.
    Replace,
    /// The stricter of the two, by a known order.
    Ladder(&'static Ladder, usize),
    /// The one that keeps more from shared caches; our strength.
    Cache(usize),
}

/// The values of a header in order of strictness.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ladder {
    /// From weakest to strictest.
    steps: &'static [&'static str],
    /// Whether browsers take the last value they know (Referrer-Policy); else any of several counts.
    last_wins: bool,
}

const FRAME_OPTIONS: Ladder = Ladder { steps: &["SAMEORIGIN", "DENY"], last_wins: false };
const REFERRER: Ladder = Ladder {
    steps: &[
        "unsafe-url",
        "no-referrer-when-downgrade",
        "origin-when-cross-origin",
        "origin",
        "strict-origin-when-cross-origin",
        "strict-origin",
        "same-origin",
        "no-referrer",
    ],
    last_wins: true,
};
const OPENER: Ladder = Ladder { steps: &["unsafe-none", "same-origin-allow-popups", "same-origin"], last_wins: false };
const EMBEDDER: Ladder = Ladder { steps: &["unsafe-none", "credentialless", "require-corp"], last_wins: false };
const RESOURCE: Ladder = Ladder { steps: &["cross-origin", "same-site", "same-origin"], last_wins: false };
const CROSS_DOMAIN: Ladder = Ladder { steps: &["all", "by-content-type", "master-only", "none"], last_wins: false };

impl Ladder {
    /// The rank of what the lines say, if they say anything known.
    fn rank<'a>(&self, lines: impl Iterator<Item = &'a HeaderValue>) -> Option<usize> {
        let words = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        let ranks = words.filter_map(|word| {
            let word = word.split(';').next().unwrap_or_default().trim();
            self.steps.iter().position(|step| step.eq_ignore_ascii_case(word))
        });
        if self.last_wins { ranks.last() } else { ranks.max() }
    }

    /// The stricter of ours and theirs; `None` where ours already is.
    pub(super) fn stricter<'a>(
        &self,
        ours: usize,
        theirs: impl Iterator<Item = &'a HeaderValue>,
    ) -> Option<HeaderValue> {
        let rank = self.rank(theirs).filter(|rank| *rank > ours)?;
        self.steps.get(rank).map(|step| HeaderValue::from_static(step))
    }
}

/// How much `Cache-Control` keeps from caches: 2 for `no-store`, 1 for `private`, else 0.
pub(super) fn cache_strength<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> usize {
    let words = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let strengths = words.map(|word| match word.trim() {
        w if w.eq_ignore_ascii_case("no-store") => 2,
        w if w.eq_ignore_ascii_case("private") => 1,
        _ => 0,
    });
    strengths.max().unwrap_or(0)
}

/// Puts our `Cache-Control` unless the application's keeps more from caches.
pub(super) fn tighten_cache(fields: &mut impl Fields, ours: &HeaderValue, strength: usize) {
    if cache_strength(fields.values(&http::header::CACHE_CONTROL)) <= strength {
        fields.set(&http::header::CACHE_CONTROL, ours.clone());
    }
}

/// A mistake, and its cure.
pub(super) type Wrong = (String, &'static str);

/// Whether a profile may set the header to the value, and how it meets the application's.
pub(super) fn check_set(name: &str, value: &str) -> Result<Merge, Wrong> {
    let ladder = |ladder: &'static Ladder, hint: &'static str| {
        let line = HeaderValue::from_str(value).ok();
        let known = value.split(',').all(|word| ladder.steps.iter().any(|step| step.eq_ignore_ascii_case(word.trim())));
        match ladder.rank(line.iter()) {
            Some(rank) if known && (ladder.last_wins || !value.contains(',')) => Ok(Merge::Ladder(ladder, rank)),
            Some(_) | None => Err((format!("`{value}` is not a value of `{name}`"), hint)),
        }
    };
    let only = |allowed: &[&str], hint: &'static str| match allowed.contains(&value) {
        true => Ok(Merge::Replace),
        false => Err((format!("`{value}` is not a value of `{name}`"), hint)),
    };
    match name {
        "strict-transport-security" | "content-security-policy" | "permissions-policy" => {
            Err((format!("`{name}` has a form of its own"), "write it under `set`, as the reference shows"))
        }
        "content-security-policy-report-only" => Err((
            "a reported policy is written with the enforced one".to_owned(),
            "write `content-security-policy: {mode: report_only, …}`, or `mode: both`",
        )),
        "x-frame-options" => ladder(&FRAME_OPTIONS, "write `DENY` or `SAMEORIGIN`"),
        "x-content-type-options" => only(&["nosniff"], "write `nosniff`"),
        "referrer-policy" if value.contains("unsafe-url") => {
            Err(("`unsafe-url` sends whole addresses everywhere".to_owned(), "write `strict-origin-when-cross-origin`"))
        }
        "referrer-policy" => ladder(&REFERRER, "write `strict-origin-when-cross-origin` or `no-referrer`"),
        // Neither stricter nor looser than the others, hence without a place on the ladder.
        "cross-origin-opener-policy" if value == "noopener-allow-popups" => Ok(Merge::Replace),
        "cross-origin-opener-policy" => ladder(&OPENER, "write `same-origin` or `same-origin-allow-popups`"),
        "cross-origin-embedder-policy" => ladder(&EMBEDDER, "write `require-corp` or `credentialless`"),
        "cross-origin-resource-policy" => ladder(&RESOURCE, "write `same-origin`, `same-site` or `cross-origin`"),
        "x-permitted-cross-domain-policies" => ladder(&CROSS_DOMAIN, "write `none`"),
        "origin-agent-cluster" => only(&["?1", "?0"], "it is a structured boolean: write \"?1\""),
        "x-xss-protection" => only(&["0"], "the filter it switches on leaks; leave the header out, or write \"0\""),
        "cache-control" => Ok(Merge::Cache(cache_strength(HeaderValue::from_str(value).ok().iter()))),
        "public-key-pins" | "public-key-pins-report-only" | "expect-ct" | "feature-policy" => {
            Err((format!("`{name}` is obsolete"), "put it under `remove` instead"))
        }
        _ if name.starts_with("access-control-") => Err((
            "a profile cannot grant access to other origins".to_owned(),
            "which origins may read an answer depends on the request",
        )),
        _ => check_free(name).map(|()| Merge::Replace),
    }
}

/// Whether a profile may add the header where the application sent none.
pub(super) fn check_add(name: &str, value: &str) -> Result<(), Wrong> {
    check_set(name, value).map(drop)
}

/// Whether a profile may remove the application's header.
pub(super) fn check_remove(name: &str) -> Result<(), Wrong> {
    match name {
        "strict-transport-security"
        | "content-security-policy"
        | "content-security-policy-report-only"
        | "permissions-policy"
        | "x-frame-options"
        | "x-content-type-options"
        | "referrer-policy"
        | "cross-origin-opener-policy"
        | "cross-origin-embedder-policy"
        | "cross-origin-resource-policy" => {
            Err((format!("removing `{name}` would loosen what the application asks for"), "set it instead"))
        }
        "set-cookie" => Ok(()),
        _ => check_free(name),
    }
}

/// Headers that frame the message or say something about this one answer are nobody's to fix in a file.
fn check_free(name: &str) -> Result<(), Wrong> {
    match name {
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" => {
            Err((format!("`{name}` belongs to the connection"), "the gateway writes it"))
        }
        "content-length"
        | "content-encoding"
        | "content-range"
        | "content-type"
        | "content-location"
        | "date"
        | "location"
        | "allow"
        | "age"
        | "etag"
        | "last-modified"
        | "accept-ranges"
        | "vary"
        | "set-cookie"
        | "www-authenticate"
        | "proxy-authenticate"
        | "authentication-info"
        | "retry-after"
        | "host" => Err((format!("`{name}` says something about one answer"), "only the application can write it")),
        _ => Ok(()),
    }
}

/// A header name as it may stand in the file: without marks that some readers take for `-`.
pub(super) fn name(text: &str) -> Result<HeaderName, Wrong> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match HeaderName::try_from(text) {
        Ok(name) if plain => Ok(name),
        Ok(_) | Err(_) => Err((format!("`{text}` is not a header name"), "names are words with `-` between them")),
    }
}
