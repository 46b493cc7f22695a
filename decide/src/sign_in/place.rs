//! Where a sign-in happens and where it leads back to: one host, one tenant, and nowhere else.
use crate::request::Request;
use crate::rules::{Found, Rules};
use std::sync::Arc;

/// The gateway's own resources: nobody is led back to them, or a sign-in could end in a sign-out.
const OWN: &str = "/.moat/";

/// Longest address to return to, in bytes: it travels in the flow's cookie.
const MAX_RETURN: usize = 1024;

/// A host as the browser sees it, and the tenant that signs in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Host and port, as the request names them.
    pub authority: String,
    /// The tenant; `None` on a gateway or a route without.
    pub tenant: Option<Arc<str>>,
}

impl Place {
    /// Host and port of a request.
    pub fn authority(request: &Request) -> String {
        match request.port {
            Some(port) => format!("{}:{port}", request.host),
            None => request.host.to_string(),
        }
    }
}

/// Where a browser may be led after signing in: a page of the very host that was asked, in its canonical spelling, with
/// what would serve it there.
///
/// `None` for whatever else `wanted` is: another host in any of its spellings (`//host`, `/\host`, a whole URL, a scheme),
/// control characters, a path that two readers read in two ways, one of the gateway's own resources, one that no route
/// serves, and what is longer than 1 KiB.
pub fn return_to<'h>(
    rules: &Rules,
    at: &Request,
    wanted: &str,
    header: impl Fn(&http::HeaderName) -> Option<&'h str>,
) -> Option<(Request, Found)> {
    if !wanted.starts_with('/') || wanted.len() > MAX_RETURN {
        return None;
    }
    let page = Request::parse("GET", wanted, &Place::authority(at)).ok()?;
    // What the request was read from, it says again: nothing was lost on the way.
    if page.path.starts_with(OWN) || *page.path == *OWN.trim_end_matches('/') || !is_visible(&page.target()) {
        return None;
    }
    let found = rules.find(&page, header).ok()?;
    Some((page, found))
}

/// What can stand in `Location` as it is.
fn is_visible(target: &str) -> bool {
    target.bytes().all(|byte| byte.is_ascii_graphic())
}
