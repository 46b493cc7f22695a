//! Asks an issuer about tokens that only it can read (RFC 7662).
use crate::config::settings::{AskWhat, Introspection, IntrospectionProof, Issuer, SecretSource};
use crate::serve::callout::Line;
use crate::serve::inquiry::{Counts, Inquiry, No, Verdict};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use decide::facts::Identity;
use decide::sign_in::{encode, encoded};
use decide::token::{self, Introspected};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Full;
use std::sync::Arc;

/// The endpoint of an issuer, and what it has said.
pub struct Introspector {
    issuer: Arc<Issuer>,
    settings: Arc<Introspection>,
    line: Arc<Line>,
    inquiry: Inquiry,
}

impl Introspector {
    /// Nobody has been asked yet. `None` for an issuer that is not asked.
    pub fn new(issuer: &Arc<Issuer>, counts: &Arc<Counts>) -> Option<Introspector> {
        let settings = issuer.introspection.clone()?;
        let name = issuer.rules.name.clone();
        let line = Line::new(name, true, issuer.ca.clone(), settings.timeout, settings.max_in_flight);
        let inquiry = Inquiry::new(settings.keep, counts.clone())?;
        Some(Introspector { issuer: issuer.clone(), settings, line: Arc::new(line), inquiry })
    }

    /// Whether this token is one to ask about.
    pub fn asks_about(&self, token: &str) -> bool {
        match self.settings.tokens {
            AskWhat::All => true,
            AskWhat::Opaque => token::is_opaque(token),
        }
    }

    /// How many remembered tokens are of identities like this.
    pub fn remembered(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        self.inquiry.matching(like)
    }

    /// What the issuer says of a token, now or a moment ago.
    pub async fn judge(&self, token: &str, now_s: u64) -> Verdict {
        if !token::is_token(token) {
            return Verdict::Refused(No::Invalid("this is no bearer token"));
        }
        let begin = || {
            let turn = self.line.turn()?;
            let (line, issuer, settings) = (self.line.clone(), self.issuer.clone(), self.settings.clone());
            let token = token.to_owned();
            Ok(async move {
                let asked = async {
                    let request = question(&settings, &token).await?;
                    let (head, body) = line.ask(&turn, request).await?;
                    read(&issuer, &settings, (head.status, &head.headers, body), now_s)
                };
                asked.await.unwrap_or_else(Verdict::unavailable)
            })
        };
        self.inquiry.ask(token, now_s, begin).await
    }
}

/// RFC 7662, 2.1
async fn question(settings: &Introspection, token: &str) -> Result<Request<Full<Bytes>>, String> {
    let mut fields = vec![("token", token), ("token_type_hint", "access_token")];
    let secret = secret(settings.proof.secret()).await?;
    let mut authorization = None;
    match &settings.proof {
        // RFC 6749, 2.3.1: both parts are encoded as in a form before they are joined.
        IntrospectionProof::Basic(_) => {
            let pair = format!("{}:{}", encoded(&settings.client_id), encoded(&secret));
            authorization = Some(format!("Basic {}", STANDARD.encode(pair)));
        }
        IntrospectionProof::Post(_) => {
            fields.extend([("client_id", settings.client_id.as_str()), ("client_secret", secret.as_str())]);
        }
    }
    let mut request = Request::post(settings.url.clone())
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::USER_AGENT, concat!("moat/", env!("CARGO_PKG_VERSION")));
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Full::from(encode(fields))).map_err(|_| "the question cannot be asked".to_owned())
}

/// Read for each question: a rotated secret counts at once, and none is in a snapshot.
async fn secret(place: &SecretSource) -> Result<String, String> {
    let place = place.clone();
    match tokio::task::spawn_blocking(move || place.read()).await {
        Ok(Ok(secret)) if !secret.is_empty() => Ok(secret),
        Ok(Ok(_)) => Err("the secret for introspection is empty".to_owned()),
        Ok(Err(error)) => Err(format!("the secret for introspection cannot be read: {error}")),
        Err(_) => Err("the secret for introspection cannot be read".to_owned()),
    }
}

/// Only 200 with JSON is an answer: to whoever is not let in by the endpoint, it says nothing about the token.
fn read(
    issuer: &Issuer,
    settings: &Introspection,
    (status, headers, body): (StatusCode, &HeaderMap, Result<Bytes, String>),
    now_s: u64,
) -> Result<Verdict, String> {
    let name = &issuer.rules.name;
    if status != StatusCode::OK {
        return Err(format!("the introspection of `{name}` says {}", status.as_u16()));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(format!("the introspection of `{name}` does not answer with JSON"));
    }
    let body = body.map_err(|cause| format!("the introspection of `{name}`: {cause}"))?;
    match token::introspected(&body, &issuer.rules, &settings.may_lack, now_s) {
        Introspected::Active(identity) => Ok(Verdict::Known(Arc::from(identity))),
        Introspected::Refused(cause) => Ok(Verdict::Refused(No::Invalid(cause))),
        Introspected::Nonsense(cause) => Err(format!("the introspection of `{name}`: {cause}")),
    }
}
