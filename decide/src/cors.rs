//! Cross-origin resource sharing (Fetch, 3.3): which other origins may ask, for what, and what they are told.
use crate::facts::Site;
use crate::fields::{ambiguous, malformed, trim};
use crate::headers::{Fields, vary};
use crate::refusal::Refusal;
use crate::request::{Method, Methods, Request, is_token};
use crate::rules::{Isolation, Route, Seat};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue};

mod origin;
#[cfg(test)]
mod tests;

pub use origin::{NoOrigin, check_origin};

static REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
static ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// `cors:` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// No other origin may read, and what the application says about it is removed. The default.
    #[default]
    Closed,
    /// Written out as `cors: application`: the application answers preflights, and its headers pass.
    Application,
    /// These rules, and none of the application's.
    Shared(Box<Sharing>),
}

/// What is shared with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// With which origins.
    pub origins: Origins,
    /// Methods that they may use.
    pub methods: Methods,
    /// Request headers that they may set beside the safelisted ones, lowercase.
    pub headers: Box<[Box<str>]>,
    /// Response headers that they may read beside the safelisted ones: the value of `Access-Control-Expose-Headers`.
    pub expose: Option<HeaderValue>,
    /// Whether browsers send cookies, and let the page read answers to them.
    pub credentials: bool,
    /// How long browsers may remember what a preflight was told, seconds.
    pub max_age_s: u32,
    /// Whether pages of the public internet may reach us at a private address.
    pub private_network: bool,
}

/// Origins that something is shared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All: written `origins: ["*"]`, and never with credentials.
    Any,
    /// These, each as browsers write it.
    Listed(Box<[Box<str>]>),
    /// `embed_origins` of the request's tenant.
    Tenant,
}

impl Sharing {
    /// Whether the origin that the browser names is one of those. `null` names none.
    pub fn admits(&self, site: &Site, seat: Option<&Seat>) -> bool {
        let Some(origin) = site.foreign.as_deref() else { return false };
        let among = |list: &[Box<str>]| list.iter().any(|allowed| **allowed == *origin);
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(list) => among(list),
            Origins::Tenant => seat.is_some_and(|seat| among(&seat.tenant.embed_origins)),
        }
    }

    /// What the announced request would need and may not have.
    pub(crate) fn lacks(&self, preflight: &Preflight) -> Option<&'static str> {
        if !self.methods.contains(preflight.method) {
            return Some("the method is not open to other origins");
        }
        if preflight.headers.iter().any(|name| !self.headers.contains(name)) {
            return Some("a request header is not open to other origins");
        }
        (preflight.private_network && !self.private_network).then_some("the private network is not open to other pages")
    }

    /// Tells an admitted origin what it may read.
    fn tell(&self, fields: &mut impl Fields, site: &Site, seat: Option<&Seat>) {
        let origin = match (&self.origins, &site.foreign) {
            (Origins::Any, _) => HeaderValue::from_static("*"),
            (Origins::Listed(_) | Origins::Tenant, Some(origin)) if self.admits(site, seat) => {
                // Equal to one of ours, so it is a header's value.
                let Ok(origin) = HeaderValue::from_str(origin) else { return };
                origin
            }
            (Origins::Listed(_) | Origins::Tenant, _) => return,
        };
        fields.set(&ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            fields.set(&ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = &self.expose {
            fields.set(&ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// What a browser announces before a cross-origin request that no form could send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The method to follow.
    pub method: Method,
    /// Names of the headers to follow, lowercase.
    pub headers: Box<[Box<str>]>,
    /// Whether the page is on a public network and we are not.
    pub private_network: bool,
}

impl Preflight {
    /// Reads the announcement; `None` where the request is none: not OPTIONS, or without `Origin` or
    /// `Access-Control-Request-Method`.
    ///
    /// Refuses one that two readers could read differently, `method.not-allowed` a method that cannot be routed.
    pub fn read(request: &Request, fields: &HeaderMap) -> Result<Option<Preflight>, Refusal> {
        if request.method != Method::Options || !fields.contains_key(ORIGIN) {
            return Ok(None);
        }
        let Some(method) = once(fields, &ACCESS_CONTROL_REQUEST_METHOD)? else { return Ok(None) };
        let mut names: Vec<Box<str>> = Vec::new();
        for name in once(fields, &ACCESS_CONTROL_REQUEST_HEADERS)?.unwrap_or_default().split(|b| *b == b',') {
            let name = trim(name);
            if !name.iter().copied().all(is_token) {
                return Err(malformed("Access-Control-Request-Headers is no list of names"));
            }
            if let Ok(name) = str::from_utf8(name)
                && !name.is_empty()
            {
                names.push(name.to_ascii_lowercase().into());
            }
        }
        Ok(Some(Preflight {
            method: Method::read(method)?,
            headers: names.into(),
            private_network: once(fields, &REQUEST_PRIVATE_NETWORK)?.is_some(),
        }))
    }

    /// The headers of its answer. `fields` hold nothing about other origins yet.
    pub fn answer(&self, fields: &mut impl Fields, route: &Route, seat: Option<&Seat>, site: &Site) {
        let Cors::Shared(sharing) = &route.cors else { return };
        share(fields, route, seat, site);
        fields.remove(&ACCESS_CONTROL_EXPOSE_HEADERS);
        fields.set(&ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(self.method.as_str()));
        if let Ok(names) = HeaderValue::try_from(self.headers.join(", "))
            && !self.headers.is_empty()
        {
            fields.set(&ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        fields.set(&ACCESS_CONTROL_MAX_AGE, HeaderValue::from(sharing.max_age_s));
        if self.private_network {
            fields.set(&ALLOW_PRIVATE_NETWORK, TRUE);
        }
        vary(fields, "access-control-request-method, access-control-request-headers");
    }
}

fn once<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Result<Option<&'f [u8]>, Refusal> {
    let mut values = fields.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    match values.next() {
        None => Ok(first),
        Some(_) => Err(ambiguous("repeated field of a preflight")),
    }
}

/// Writes into a response what other origins may know of it, and what caches must tell apart; the application's own words
/// on it are removed. How many headers that were.
pub fn share(fields: &mut impl Fields, route: &Route, seat: Option<&Seat>, site: &Site) -> usize {
    let removed = match &route.cors {
        Cors::Application => 0,
        Cors::Closed => silence(fields),
        Cors::Shared(sharing) => {
            let removed = silence(fields);
            sharing.tell(fields, site, seat);
            removed
        }
    };
    match (&route.cors, route.isolation) {
        (Cors::Shared(_), Isolation::Off) => vary(fields, "origin"),
        (Cors::Shared(_), Isolation::SameSite | Isolation::SameOrigin) => {
            vary(fields, "origin, sec-fetch-site, sec-fetch-mode, sec-fetch-dest");
        }
        (Cors::Closed | Cors::Application, Isolation::SameSite | Isolation::SameOrigin) => {
            vary(fields, "sec-fetch-site, sec-fetch-mode, sec-fetch-dest");
        }
        (Cors::Closed | Cors::Application, Isolation::Off) => {}
    }
    removed
}

/// Removes every `Access-Control-…`.
fn silence(fields: &mut impl Fields) -> usize {
    let theirs = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let names: Vec<HeaderName> = fields.names().filter(theirs).cloned().collect();
    names.iter().for_each(|name| fields.remove(name));
    names.len()
}
