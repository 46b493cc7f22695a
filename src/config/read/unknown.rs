//! What to say about a key or word that does not belong where it stands.
use decide::policy::nearest;

/// Keys of the published grammar that this version does not serve: refused by name, never ignored.
const LATER: &[&str] = &[
    "acr_values",
    "auth",
    "session",
    "tls",
    "version",
    "auth_method",
    "body_hash",
    "browser",
    "cache_key",
    "caep",
    "client",
    "cors",
    "debug",
    "embedded",
    "format",
    "hash_ids_with",
    "idempotency",
    "include",
    "level",
    "mtls",
    "on_full",
    "on_missing",
    "on_unwritable",
    "permission_from",
    "postgres",
    "proxy_protocol",
    "redact",
    "required",
    "revocation",
    "service_accounts",
    "ship",
    "signals",
    "status_page",
    "tokens",
    "traces",
    "trust_inbound",
    "webhook_signature",
    "hash",
    "algorithm",
    "idle",
];

/// What to say about a key or word that does not belong here.
pub(crate) fn unknown<'k>(
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> (String, Option<String>) {
    if LATER.contains(&word) {
        let hint = "it is part of the grammar, but the gateway would not act on it; remove it".to_owned();
        return (format!("`{word}` is not supported by this version"), Some(hint));
    }
    if word == "on_store_error" && known.clone().any(|known| known == "on_store_loss") {
        // Silence is a loss too, not only an error: one name for both, and the same in every part of the grammar.
        return (format!("unknown {what} `{word}`"), Some("it is called `on_store_loss`".to_owned()));
    }
    let hint = nearest(word, known.clone()).or_else(|| {
        let mut all: Vec<&str> = known.collect();
        all.sort_unstable();
        choice(&all)
    });
    (format!("unknown {what} `{word}`"), hint)
}

/// The names that exist, where they are few enough to read.
pub(crate) fn choice(all: &[&str]) -> Option<String> {
    match all {
        [] => None,
        [one] => Some(format!("there is only `{one}`")),
        [..] if all.len() <= 16 => Some(format!("there are `{}`", all.join("`, `"))),
        [..] => None,
    }
}
