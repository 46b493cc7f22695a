//! Which fields may stand in a trailer section (RFC 9110, 6.5.1): none that frames, routes, proves, controls or names.
use crate::headers::request::IdentityHeaders;

/// Whether a field of this lowercase name may be passed on as a trailer. `identity` are the names under which the
/// application learns who calls: a recipient that merges trailers into headers must not find them, nor what proxies say.
/// A name in other marks (`content_length`) is judged as the name that CGI and its heirs make of it.
pub fn may_trail(name: &str, identity: &IdentityHeaders) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !name.chars().all(plain) {
        let folded: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
        return may_trail(&folded, identity);
    }
    let forbidden = matches!(
        name,
        "content-length"
            | "transfer-encoding"
            | "trailer"
            | "te"
            | "connection"
            | "keep-alive"
            | "http2-settings"
            | "upgrade"
            | "proxy-connection"
            | "host"
            | "forwarded"
            | "via"
            | "max-forwards"
            | "expect"
            | "range"
            | "cache-control"
            | "pragma"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "www-authenticate"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "content-disposition"
            | "content-location"
            | "location"
            | "age"
            | "date"
            | "expires"
            | "retry-after"
            | "vary"
            | "warning"
            | "origin"
            | "referer"
            | "link"
            | "refresh"
            | "clear-site-data"
            | "strict-transport-security"
            | "server"
            | "alt-svc"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "idempotency-key"
            | "x-request-id"
            | "x-content-type-options"
            | "x-frame-options"
            | "referrer-policy"
    );
    let group =
        ["if-", "proxy-", "sec-", "access-control-", "content-security-policy", "cross-origin-", "permissions-policy"];
    !forbidden && !group.iter().any(|start| name.starts_with(start)) && !identity.forbids(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_no_trailer() {
        let identity = IdentityHeaders::default();
        for name in ["grpc-status", "grpc-message", "x-checksum", "digest", "server-timing", "expires-in", "x_sum"] {
            assert!(may_trail(name, &identity), "{name}");
        }
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "cookie",
            "set-cookie",
            "x-tenant-id",
            "x_tenant_id",
            "x-user-id",
            "moat-assertion",
            "x-forwarded-for",
            "x-real-ip",
            "if-match",
            "proxy-authorization",
            "content-security-policy-report-only",
            "http2-settings",
            "content_length",
            "transfer_encoding",
            "transfer.encoding",
            "x_user_id",
            "set_cookie",
            "proxy_authorization",
        ] {
            assert!(!may_trail(name, &identity), "{name}");
        }
    }
}
