//! Origins as browsers write them (RFC 6454, 6.2): the one spelling that a configuration may hold.
use crate::authority::Authority;

/// Why a text is not an origin, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoOrigin {
    /// What is wrong.
    pub message: &'static str,
    /// The cure.
    pub hint: &'static str,
}

/// Whether the text is an origin in the very bytes that a browser sends: `https://app.example.com`, or with a port that is
/// not the scheme's own. Plain `http` only of this machine, since anybody on the way can speak as any other.
pub fn check_origin(text: &str) -> Result<(), NoOrigin> {
    let wrong = |message, hint| Err(NoOrigin { message, hint });
    if text == "null" {
        return wrong("every sandboxed frame and every local file says `null`", "name the origins that you mean");
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return wrong("an origin has a scheme", "write `https://app.example.com`");
    };
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return wrong("the scheme is not `https`", "write `https://app.example.com`"),
    };
    if authority.contains(['/', '?', '#']) {
        return wrong("an origin has no path", "end it with the host, or its port; no `/`");
    }
    if authority.contains('*') {
        return wrong("an origin has no stars", "list each origin; suffixes and patterns let strangers in");
    }
    if !authority.is_ascii() {
        return wrong("the host is not ASCII", "write the form that browsers send, which begins with `xn--`");
    }
    let Ok(parsed) = Authority::parse(authority) else {
        return wrong("this is no host", "write `https://app.example.com`, without user, in lower case");
    };
    if parsed.port == Some(default) {
        return wrong("browsers leave out the scheme's own port", "leave the port out");
    }
    let canonical = match parsed.port {
        Some(port) => format!("{}:{port}", parsed.host),
        None => parsed.host.to_string(),
    };
    if canonical != authority {
        return wrong("browsers write this host otherwise", "lower case, no dot at the end, no leading zeros");
    }
    let host = &*parsed.host;
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost");
    if scheme == "http" && !local {
        return wrong("anybody on the way can speak as an origin of plain `http`", "write `https://`");
    }
    Ok(())
}
