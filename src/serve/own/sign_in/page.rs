//! The few pages of signing in and out: without scripts and styles, and with nothing of the request in them but an address
//! that was checked.
use crate::serve::html::escaped;
use crate::serve::respond::Made;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

/// Leads on by itself. For where a redirect would not do: what follows is then asked for by our own page, so that browsers
/// send cookies that are `SameSite=Strict`, and `form-action` of the page that was left does not count.
pub(super) fn onward(to: &str) -> Made {
    let to = escaped(to);
    made(
        "One moment",
        &format!("<meta http-equiv=\"refresh\" content=\"0;url={to}\">"),
        &format!("<p><a href=\"{to}\">Go on</a></p>"),
    )
}

/// Asks before it signs out: the request for it came from somewhere else.
pub(super) fn sure() -> Made {
    let form = "<form method=\"post\" action=\"/.moat/logout\"><p><button>Sign out</button></p></form>";
    made("Sign out?", "", form)
}

/// Says that it is done.
pub(super) fn signed_out() -> Made {
    made("You are signed out", "", "<p><a href=\"/.moat/login\">Sign in again</a></p>")
}

fn made(title: &str, head: &str, body: &str) -> Made {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>{head}</head>\n\
         <body><h1>{title}</h1>{body}</body></html>\n"
    );
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Made { status: StatusCode::OK, headers, body: Bytes::from(page) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stays_in_its_attribute() {
        let made = onward("/a?b=\"><script>alert(1)</script>&c='");
        let page = String::from_utf8(made.body.to_vec()).unwrap();
        assert!(
            !page.contains("<script")
                && page.contains("/a?b=&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;c=&#39;")
        );
    }
}
