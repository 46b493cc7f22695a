//! Refusals on the wire: RFC 9457 problem+json, or a small page for browsers, dressed like every other response.
use crate::serve::listener::Reply;
use bytes::Bytes;
use decide::facts::{Carrier, LimitState, RequestId};
use decide::headers::{DressContext, Fields, Profile, Said, Values, dress};
use decide::oauth::OAuthError;
use decide::refusal::{Accepted, Challenge, Code, Refusal};
use decide::request::Method;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A response of the gateway's own making.
#[derive(Debug)]
pub struct Made {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, dressed.
    pub headers: HeaderMap,
    /// Its body; empty for HEAD.
    pub body: Bytes,
}

/// What the shape of a refusal depends on besides the refusal.
#[derive(Debug)]
pub struct Audience<'a> {
    /// Our id of the request.
    pub id: RequestId,
    /// Whether the client prefers HTML.
    pub html: bool,
    /// Whether the request was HEAD.
    pub head: bool,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The header profile to dress with.
    pub profile: &'a Profile,
    /// Wall clock, seconds since the epoch.
    pub now_s: u64,
    /// The limit to report.
    pub limit: Option<&'a LimitState>,
    /// The word of OAuth for it, where its clients are asked to be answered in these.
    pub oauth: Option<OAuthError>,
}

static RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
// De facto names; `reset` in seconds from now, as most who send them mean it.
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes the response of a refusal. Nothing in it but the code, the title and the request's id: the cause stays in
/// the audit entry.
pub fn refusal(refusal: &Refusal, audience: &Audience<'_>) -> Made {
    let row = refusal.code.row();
    let mut status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let (mut headers, mut values) = (HeaderMap::with_capacity(20), Values::default());
    let id = audience.id.to_string();
    let (body, content_type) = if let Some(error) = audience.oauth {
        status = oauth_status(status);
        (oauth(refusal.code, error, &id), "application/json")
    } else if audience.html {
        (page(row.status, row.title, row.id, &id), "text/html; charset=utf-8")
    } else {
        (problem(refusal, &id), "application/problem+json")
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    request_id(&mut headers, audience.id, &mut values);
    if let Some(challenge) = refusal.challenge.as_ref().filter(|_| audience.oauth.is_none()) {
        for line in authenticate(challenge) {
            if let Ok(line) = HeaderValue::from_str(&line) {
                headers.append(WWW_AUTHENTICATE, line);
            }
        }
    }
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refusal.allow {
        let list: Vec<&str> = allow.iter().map(decide::request::Method::as_str).collect();
        text(&mut headers, ALLOW, &list.join(", "));
    }
    if let Some(limit) = audience.limit {
        limit_fields(&mut headers, limit, &mut values);
    }
    dress(&mut headers, audience.profile, &context(audience.tls, audience.now_s, status));
    Made { status, headers, body: if audience.head { Bytes::new() } else { Bytes::from(body) } }
}

/// `RateLimit` and `RateLimit-Policy` of a limit, and `X-RateLimit-*` where it is to be told in them too.
pub fn limit_fields(headers: &mut impl Fields, limit: &LimitState, values: &mut Values) {
    let mut say = |name: &HeaderName, said: Said<'_>| {
        headers.remove(name);
        headers.say(name, said, values);
    };
    say(&RATELIMIT, Said::Limit(limit));
    say(&RATELIMIT_POLICY, Said::Policy(limit));
    if limit.legacy {
        say(&LEGACY_LIMIT, Said::Number(limit.quota));
        say(&LEGACY_REMAINING, Said::Number(limit.remaining));
        say(&LEGACY_RESET, Said::Number(limit.reset_s));
    }
}

/// Our id of the request, for the client to quote.
pub fn request_id(headers: &mut impl Fields, id: RequestId, values: &mut Values) {
    headers.remove(&REQUEST_ID);
    headers.say(&REQUEST_ID, Said::Plain(&id.text()), values);
}

/// 308 to https (RFC 9110, 15.4.9), dressed as far as plaintext allows.
pub fn redirect(id: RequestId, location: HeaderValue, profile: &Profile, now_s: u64) -> Made {
    let status = StatusCode::PERMANENT_REDIRECT;
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(LOCATION, location);
    request_id(&mut headers, id, &mut Values::default());
    dress(&mut headers, profile, &context(false, now_s, status));
    Made { status, headers, body: Bytes::new() }
}

/// An answer of one of the gateway's own resources, dressed. What says nothing of caches is kept by none.
pub fn own(mut made: Made, method: Method, id: RequestId, tls: bool, profile: &Profile, now_s: u64) -> Made {
    if made.status != StatusCode::NO_CONTENT {
        made.headers.insert(CONTENT_LENGTH, HeaderValue::from(made.body.len()));
    }
    if !made.headers.contains_key(CACHE_CONTROL) {
        made.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    request_id(&mut made.headers, id, &mut Values::default());
    dress(&mut made.headers, profile, &context(tls, now_s, made.status));
    if method == Method::Head {
        made.body = Bytes::new();
    }
    made
}

/// The answer to a preflight, of which `headers` says what it grants.
pub fn granted(mut headers: HeaderMap, id: RequestId, tls: bool, profile: &Profile, now_s: u64) -> Made {
    let status = StatusCode::NO_CONTENT;
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    request_id(&mut headers, id, &mut Values::default());
    dress(&mut headers, profile, &context(tls, now_s, status));
    Made { status, headers, body: Bytes::new() }
}

fn context(tls: bool, now_s: u64, status: StatusCode) -> DressContext<'static> {
    DressContext { tls, now_s, status, authenticated: false, nonce: None, embed_origins: &[] }
}

impl From<Made> for Reply {
    fn from(made: Made) -> Reply {
        let headers = made.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Reply { status: made.status, headers, body: made.body }
    }
}

/// Whether a browser asks for a page: `Accept` lists text/html before any JSON type.
pub fn wants_html(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(ACCEPT).and_then(|v| v.to_str().ok()) else { return false };
    let first = |needle: &str| accept.find(needle);
    first("text/html").is_some_and(|html| first("json").is_none_or(|json| html < json))
}

fn text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// RFC 9457, with the members `code` and, for a used-up limit, `violated-policies`.
fn problem(refusal: &Refusal, id: &str) -> String {
    let row = refusal.code.row();
    let kind = match refusal.code {
        Code::QuotaExceeded => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
        _ => format!("urn:moat:refusal:{}", row.id),
    };
    let mut body = serde_json::json!({
        "type": kind,
        "title": row.title,
        "status": row.status,
        "code": row.id,
        "instance": format!("urn:uuid:{id}"),
        "request_id": id,
    });
    if let Some(Challenge::StepUp { max_age_s: Some(max_age), .. }) = &refusal.challenge
        && let Some(object) = body.as_object_mut()
    {
        object.insert("max_age".to_owned(), (*max_age).into());
    }
    body.to_string()
}

/// RFC 6749, 5.2: the error's word, with our code beside.
fn oauth(code: Code, error: OAuthError, id: &str) -> String {
    let error = match code {
        Code::GatewayUnavailable | Code::QuotaExceeded => OAuthError::TemporarilyUnavailable,
        Code::RequestTooLarge | Code::RequestTimeout | Code::RequestMalformed => OAuthError::InvalidRequest,
        _ => error,
    };
    let title = code.row().title;
    serde_json::json!({"error": error.word(), "error_description": title, "code": code.id(), "request_id": id})
        .to_string()
}

/// RFC 6749, 5.2: whoever is refused a token is refused with 400.
fn oauth_status(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            StatusCode::BAD_REQUEST
        }
        other => other,
    }
}

/// A page without scripts, styles or anything of the request in it.
fn page(status: u16, title: &str, code: &str, id: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title></head>\n\
         <body><h1>{title}</h1><p>{status} <code>{code}</code></p><p>Request <code>{id}</code></p></body></html>\n"
    )
}

/// `WWW-Authenticate` (RFC 6750, RFC 9470): one line for each challenge, since few parsers take lists of them apart rightly.
fn authenticate(challenge: &Challenge) -> Vec<String> {
    match challenge {
        Challenge::Bearer => vec!["Bearer".to_owned()],
        Challenge::InvalidToken => vec!["Bearer error=\"invalid_token\"".to_owned()],
        Challenge::Accepted(accepted) => schemes(accepted),
        Challenge::StepUp { max_age_s, acr, dpop } => {
            let mut value = format!(
                "{} error=\"insufficient_user_authentication\", \
                 error_description=\"A fresh authentication is required\"",
                if *dpop { "DPoP" } else { "Bearer" }
            );
            if !acr.is_empty() {
                value.push_str(&format!(", acr_values=\"{}\"", acr.join(" ")));
            }
            if let Some(seconds) = max_age_s {
                value.push_str(&format!(", max_age=\"{seconds}\""));
            }
            vec![value]
        }
    }
}

/// One challenge for each way in, with the error on the one that was tried. `ApiKey` and `Cookie` say where the credential goes.
fn schemes(accepted: &Accepted) -> Vec<String> {
    let line = |scheme: &str, carrier: Carrier, own: Option<String>| {
        let error = (accepted.wrong == Some(carrier)).then(|| "error=\"invalid_token\"".to_owned());
        let parameters: Vec<String> = error.into_iter().chain(own).collect();
        format!("{scheme} {}", parameters.join(", ")).trim_end().to_owned()
    };
    let bearer = accepted.bearer.then(|| line("Bearer", Carrier::Bearer, None));
    let algorithms = |names: &str| (!names.is_empty()).then(|| format!("algs=\"{names}\""));
    let dpop = accepted.dpop.iter().map(|names| line("DPoP", Carrier::Dpop, algorithms(names)));
    let key = |name| line("ApiKey", Carrier::ApiKey, Some(format!("header=\"{name}\"")));
    let keys = accepted.api_keys.iter().map(key);
    let cookies = accepted.cookies.iter().map(|name| format!("Cookie cookie-name=\"{name}\""));
    bearer.into_iter().chain(dpop).chain(keys).chain(cookies).collect()
}
