//! The one table of refusal codes: id, status, title and what the client may do about it.
use crate::facts::Carrier;
use std::borrow::Cow;

/// Why a request was refused: a stable word, used alike in the response, the audit entry, the metric and the docs.
/// Codes are promises: never renamed, only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The request head breaks RFC 9112 or RFC 9113 grammar.
    RequestMalformed,
    /// Two parsers could read the request differently.
    RequestAmbiguous,
    /// The request came without TLS where TLS is required.
    RequestPlaintext,
    /// The request names a host that this connection was not made for (RFC 9110, 15.5.20).
    RequestMisdirected,
    /// Head, target or body is larger than allowed.
    RequestTooLarge,
    /// The client did not finish its request in time.
    RequestTimeout,
    /// No route matches.
    RouteUnknown,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The client's address is not allowed for this tenant.
    NetworkDenied,
    /// A rate limit is used up.
    QuotaExceeded,
    /// No credential was presented.
    SessionMissing,
    /// The credential is not valid.
    SessionInvalid,
    /// The credential was valid once.
    SessionExpired,
    /// The credential was ended before its time.
    SessionRevoked,
    /// The credential was exchanged for its successor before.
    SessionReused,
    /// The authentication is too old or too weak for this action (RFC 9470).
    SessionStepUp,
    /// No such tenant.
    TenantUnknown,
    /// The tenant is suspended.
    TenantSuspended,
    /// The session belongs to another tenant.
    TenantMismatch,
    /// A state-changing request without evidence that it came from our own site.
    CsrfUnproven,
    /// The caller lacks the permission.
    AccessDenied,
    /// The body cannot be counted: it lacks the field that a limit counts by, or can be read in two ways.
    BodyInvalid,
    /// The content type is not accepted here.
    BodyUnsupported,
    /// Something the decision depends on is not available.
    GatewayUnavailable,
    /// No endpoint of the upstream could be reached.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The code.
    pub code: Code,
    /// Its public name, `subject.state`.
    pub id: &'static str,
    /// HTTP status.
    pub status: u16,
    /// RFC 9457 title: the same for every occurrence, no detail about the request.
    pub title: &'static str,
    /// What the person who reads the reference should know.
    pub help: &'static str,
}

macro_rules! table {
    ($($code:ident $id:literal $status:literal $title:literal $help:literal;)*) => {
        /// All codes, in the order of the reference.
        pub const TABLE: &[Row] = &[$(Row { code: Code::$code, id: $id, status: $status, title: $title, help: $help }),*];
        impl Code {
            /// The row of this code.
            pub const fn row(self) -> Row {
                match self { $(Code::$code => Row { code: Code::$code, id: $id, status: $status, title: $title, help: $help }),* }
            }
        }
    };
}

table! {
    RequestMalformed "request.malformed" 400 "The request is malformed" "The head breaks HTTP grammar (RFC 9112, RFC 9113). The connection is closed.";
    RequestAmbiguous "request.ambiguous" 400 "The request can be read in two ways" "Repeated or missing Host, Content-Length with Transfer-Encoding, encoded slashes or dots, dot segments, two cookies of one name, and whatever else two parsers could read differently.";
    RequestPlaintext "request.plaintext" 403 "TLS is required" "The plaintext listener redirects GET and HEAD and refuses the rest: a redirected body has already leaked.";
    RequestMisdirected "request.misdirected" 421 "This connection does not serve that host" "The Host differs from the server name of the TLS handshake in a way that the certificate does not cover.";
    RequestTooLarge "request.too-large" 413 "The request is too large" "Head, target or body exceeds the limit of the listener or route.";
    RequestTimeout "request.timeout" 408 "The request took too long to arrive" "The head was not complete before `header_timeout`, or the body stalled.";
    RouteUnknown "route.unknown" 404 "There is nothing here" "No route matches host and path.";
    MethodNotAllowed "method.not-allowed" 405 "The method is not allowed here" "A route matches the path, none the method. `Allow` lists those that exist.";
    NetworkDenied "network.denied" 403 "This network is not allowed" "The client address is outside the tenant's `ip_allow`.";
    QuotaExceeded "quota.exceeded" 429 "Too many requests" "A limit of the route is used up; `Retry-After` says when to come back.";
    SessionMissing "session.missing" 401 "A session is required" "The route asks for a session and the request carries no credential.";
    SessionInvalid "session.invalid" 401 "The session is not valid" "The credential does not verify. The cause is in the audit entry only.";
    SessionExpired "session.expired" 401 "The session has expired" "The credential's lifetime is over.";
    SessionRevoked "session.revoked" 401 "The session was ended" "Somebody signed out, or an operator ended the session, its user's sessions, its tenant's, or the key, before their time.";
    SessionReused "session.reused" 401 "The session was used twice" "A credential that serves once was presented again after it had been exchanged: somebody else may hold a copy, so the session is over for both.";
    SessionStepUp "session.step-up" 401 "A fresh authentication is required" "The action needs a younger or stronger authentication (RFC 9470).";
    TenantUnknown "tenant.unknown" 404 "There is nothing here" "The request names no tenant that exists.";
    TenantSuspended "tenant.suspended" 403 "This tenant is suspended" "`status: suspended` stands in the tenant's entry.";
    TenantMismatch "tenant.mismatch" 403 "The session belongs to another tenant" "The tenant of host, path or header must equal the tenant of the session.";
    CsrfUnproven "csrf.unproven" 403 "The origin of the request is not proven" "A state-changing request with a cookie needs Sec-Fetch-Site or Origin of our own site; so does any on a public route with `csrf: strict`. With `csrf: token` one that says nothing needs the token of its page. A page of another site fetched what `isolation` keeps to our own, or a preflight asked for what `cors` does not grant.";
    AccessDenied "access.denied" 403 "Access is denied" "No role of the caller grants the permission, the route's condition is not met, or the route leads out of the region that the tenant's data stays in (`residency`).";
    BodyInvalid "body.invalid" 422 "The body is not valid" "A limit counts by a field of the body (`form.FIELD_hash`), and the field is missing, stands twice, has a look-alike, or is no text.";
    BodyUnsupported "body.unsupported" 415 "The content type is not accepted" "`body.content_types` of the route lists what is. Where a limit counts by a field of the body, it must be a form or JSON in UTF-8, and not encoded.";
    GatewayUnavailable "gateway.unavailable" 503 "The gateway cannot decide right now" "A key set, a store or the audit log is not available, or the upstream has `max_in_flight` requests under way. Nobody is let in and nobody is logged out.";
    UpstreamUnreachable "upstream.unreachable" 502 "The application cannot be reached" "No endpoint of the upstream accepted the request, or it answered with broken HTTP.";
    UpstreamTimeout "upstream.timeout" 504 "The application did not answer in time" "`first_byte_timeout` or `total_timeout` of the upstream passed, or those of the route.";
}

impl Code {
    /// The public name, `subject.state`.
    pub const fn id(self) -> &'static str {
        self.row().id
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// Finds a code by its public name.
    pub fn parse(id: &str) -> Option<Code> {
        TABLE.iter().find(|row| row.id == id).map(|row| row.code)
    }
}

/// A refusal: the code for the client, the cause for the audit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What exactly was wrong. Goes to the audit entry, never to the client; holds no secret.
    pub cause: Cow<'static, str>,
    /// Seconds after which a retry may succeed (`Retry-After`).
    pub retry_after_s: Option<u32>,
    /// What the client is asked for, where the refusal can be cured by authenticating.
    pub challenge: Option<Challenge>,
    /// `Allow`, for `method.not-allowed`.
    pub allow: Option<crate::request::Methods>,
}

/// `WWW-Authenticate` of a refusal, as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 6750: no credential; no error attribute.
    Bearer,
    /// RFC 6750: `error="invalid_token"`.
    InvalidToken,
    /// What a route accepts.
    Accepted(Accepted),
    /// RFC 9470: `error="insufficient_user_authentication"`.
    StepUp {
        /// Greatest age of the authentication, in seconds.
        max_age_s: Option<u64>,
        /// Acceptable authentication context classes, in order of preference.
        acr: Vec<String>,
        /// Whether the credential came as `DPoP` and not as `Bearer`.
        dpop: bool,
    },
}

/// The ways in of a route as challenges, one for each scheme (RFC 9110, 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Accepted {
    /// `Bearer` (RFC 6750, 3).
    pub bearer: bool,
    /// `DPoP` (RFC 9449, 7.1), with the algorithms that proofs may be signed with, a space between two.
    pub dpop: Option<std::sync::Arc<str>>,
    /// `ApiKey`, once for each header that may hold a key. No scheme is registered for them: the name is ours.
    pub api_keys: Vec<http::HeaderName>,
    /// `Cookie`, for routes that take nothing else. No scheme is registered for them: the name is ours.
    pub cookies: Vec<std::sync::Arc<str>>,
    /// How something came that is not good, `invalid_token`: the error belongs to that scheme alone (RFC 6750, 3.1). `None`
    /// where nothing was presented.
    pub wrong: Option<Carrier>,
}

impl Refusal {
    /// A refusal with a cause for the audit entry.
    pub fn new(code: Code, cause: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, cause: cause.into(), retry_after_s: None, challenge: None, allow: None }
    }

    /// The same, with a challenge.
    pub fn challenge(mut self, challenge: Challenge) -> Refusal {
        self.challenge = Some(challenge);
        self
    }

    /// The same for a credential that came in this way: `Bearer` is blamed for nothing that did not come as `Bearer`.
    pub fn shown_by(mut self, carrier: Option<Carrier>) -> Refusal {
        let Some(carrier) = carrier else { return self };
        match (&mut self.challenge, carrier) {
            (Some(Challenge::StepUp { dpop, .. }), _) => *dpop = carrier == Carrier::Dpop,
            (Some(challenge @ Challenge::InvalidToken), Carrier::Dpop) => {
                let wrong = Some(carrier);
                *challenge = Challenge::Accepted(Accepted { dpop: Some("".into()), wrong, ..Accepted::default() });
            }
            (
                Some(challenge @ Challenge::InvalidToken),
                Carrier::Cookie | Carrier::Session | Carrier::ApiKey | Carrier::ExtAuth | Carrier::Certificate,
            ) => *challenge = Challenge::Bearer,
            (Some(Challenge::InvalidToken | Challenge::Bearer | Challenge::Accepted(_)) | None, _) => {}
        }
        self
    }

    /// The same, with `Retry-After`.
    pub fn retry_after(mut self, seconds: u32) -> Refusal {
        self.retry_after_s = Some(seconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code.row().id, row.id);
            assert_eq!(Code::parse(row.id), Some(row.code));
            assert!((400..600).contains(&row.status), "{}", row.id);
            assert!(row.id.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()));
            assert!(TABLE.iter().skip(i + 1).all(|other| other.id != row.id), "{} twice", row.id);
        }
    }
}
