//! The token endpoint (RFC 6749, 4.1.3): what is sent, how the gateway proves who it is, and how answers are read.
use super::{Exchange, wire};
use crate::config::settings::{Client, ClientProof, Issuer, SecretSource};
use crate::serve::assertion::Assertions;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use decide::sign_in::{Provider, encode, encoded};
use decide::token::MAX_TOKEN_BYTES;
use http::StatusCode;
use serde::Deserialize;

/// RFC 7523, 2.2
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a provider gave. All of it is secret.
#[derive(Deserialize)]
pub struct Granted {
    token_type: String,
    /// The ID token, as sent.
    pub id_token: Option<String>,
    /// The access token, which the ID token may name.
    pub access_token: Option<String>,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").finish_non_exhaustive()
    }
}

/// Why there are no tokens. The texts are for the audit entry and the operator, and hold nothing that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider says that the code is no good: `invalid_grant` (RFC 6749, 5.2).
    Declined,
    /// The provider does not answer, cannot now, or does not know the gateway: no user's doing.
    Silent(String),
    /// The provider's answer is not one, or its ID token does not verify.
    Nonsense(String),
}

/// An error of the token endpoint.
#[derive(Deserialize)]
struct Complaint {
    error: String,
}

/// How the gateway proves who it is in one request.
pub(super) struct Proof {
    client_id: String,
    how: How,
}

enum How {
    Basic(String),
    Post(String),
    Assertion(String),
}

impl Proof {
    pub(super) async fn of(
        client: &Client,
        provider: &Provider,
        assertions: &Assertions,
        now_s: u64,
    ) -> Result<Proof, Fault> {
        let how = match &client.proof {
            ClientProof::Basic(place) => How::Basic(secret(place).await?),
            ClientProof::Post(place) => How::Post(secret(place).await?),
            ClientProof::PrivateKey => {
                let signed = assertions.client(&client.id, &provider.issuer, now_s);
                How::Assertion(signed.ok_or_else(|| Fault::Silent("no client assertion could be made".to_owned()))?)
            }
        };
        Ok(Proof { client_id: client.id.to_string(), how })
    }
}

/// Read when it is needed: a rotated secret counts at once, and none is in a snapshot.
async fn secret(place: &SecretSource) -> Result<String, Fault> {
    let place = place.clone();
    let read = tokio::task::spawn_blocking(move || place.read()).await;
    match read {
        Ok(Ok(secret)) if !secret.is_empty() => Ok(secret),
        Ok(Ok(_)) => Err(Fault::Silent("the client's secret is empty".to_owned())),
        Ok(Err(error)) => Err(Fault::Silent(format!("the client's secret cannot be read: {error}"))),
        Err(_) => Err(Fault::Silent("the client's secret cannot be read".to_owned())),
    }
}

/// Asks once. Nothing is repeated: a code is good for one request.
pub(super) async fn ask(
    issuer: &Issuer,
    provider: &Provider,
    proof: &Proof,
    exchange: &Exchange<'_>,
) -> Result<Granted, Fault> {
    let mut fields: Vec<(&str, &str)> = vec![
        ("grant_type", "authorization_code"),
        ("code", exchange.code),
        ("redirect_uri", exchange.redirect_uri),
        ("code_verifier", exchange.verifier),
    ];
    let mut authorization = None;
    match &proof.how {
        // RFC 6749, 2.3.1: both parts are encoded as in a form before they are joined.
        How::Basic(secret) => {
            let pair = format!("{}:{}", encoded(&proof.client_id), encoded(secret));
            authorization = Some(format!("Basic {}", STANDARD.encode(pair)));
        }
        How::Post(secret) => fields.extend([("client_id", &*proof.client_id), ("client_secret", secret)]),
        How::Assertion(assertion) => fields.extend([
            ("client_id", &*proof.client_id),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
        ]),
    }
    let request = wire::post(&provider.token, encode(fields), authorization.as_deref()).map_err(Fault::Silent)?;
    let (status, body) = wire::send(issuer, request).await.map_err(Fault::Silent)?;
    read(status, &body)
}

fn read(status: StatusCode, body: &[u8]) -> Result<Granted, Fault> {
    if status != StatusCode::OK {
        let complaint = serde_json::from_slice::<Complaint>(body).ok().filter(|_| status.is_client_error());
        return Err(match complaint.as_ref().map(|complaint| &*complaint.error) {
            Some("invalid_grant") => Fault::Declined,
            // Of the provider's words only those that RFC 6749 knows go into our log.
            Some(
                known @ ("invalid_request"
                | "invalid_client"
                | "unauthorized_client"
                | "unsupported_grant_type"
                | "invalid_scope"),
            ) => Fault::Silent(format!("the token endpoint answered {} {known}", status.as_u16())),
            Some(_) | None => Fault::Silent(format!("the token endpoint answered {}", status.as_u16())),
        });
    }
    let nonsense = |text: &str| Fault::Nonsense(text.to_owned());
    let granted: Granted =
        serde_json::from_slice(body).map_err(|_| nonsense("the token endpoint's answer holds no tokens"))?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(nonsense("the token endpoint's answer is of another type than `Bearer`"));
    }
    let all = [&granted.id_token, &granted.access_token];
    if all.into_iter().flatten().any(|token| token.is_empty() || token.len() > MAX_TOKEN_BYTES) {
        return Err(nonsense("a token of the token endpoint is empty, or larger than 16 KiB"));
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_token_endpoint() {
        let outcome = |status: u16, body: &str| match read(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Ok(granted) => format!("{:?} {:?}", granted.id_token, granted.access_token),
            Err(Fault::Declined) => "declined".to_owned(),
            Err(Fault::Silent(cause)) => format!("silent: {cause}"),
            Err(Fault::Nonsense(cause)) => format!("nonsense: {cause}"),
        };
        let large = format!(r#"{{"token_type":"Bearer","id_token":"{}"}}"#, "a".repeat(MAX_TOKEN_BYTES + 1));
        for (status, body, expected) in [
            (
                200,
                r#"{"token_type":"bearer","id_token":"i","access_token":"a","expires_in":5}"#,
                "Some(\"i\") Some(\"a\")",
            ),
            (200, r#"{"token_type":"Bearer","access_token":"a","refresh_token":"r"}"#, "None Some(\"a\")"),
            (
                200,
                r#"{"token_type":"DPoP","id_token":"i"}"#,
                "nonsense: the token endpoint's answer is of another type than `Bearer`",
            ),
            (200, r#"{"id_token":"i"}"#, "nonsense: the token endpoint's answer holds no tokens"),
            (
                200,
                r#"{"token_type":"Bearer","id_token":"i","id_token":"j"}"#,
                "nonsense: the token endpoint's answer holds no tokens",
            ),
            (200, "<html>", "nonsense: the token endpoint's answer holds no tokens"),
            (
                200,
                r#"{"token_type":"Bearer","id_token":""}"#,
                "nonsense: a token of the token endpoint is empty, or larger than 16 KiB",
            ),
            (200, &large, "nonsense: a token of the token endpoint is empty, or larger than 16 KiB"),
            (400, r#"{"error":"invalid_grant","error_description":"x"}"#, "declined"),
            (401, r#"{"error":"invalid_client"}"#, "silent: the token endpoint answered 401 invalid_client"),
            (400, r#"{"error":"\u001b[31mred"}"#, "silent: the token endpoint answered 400"),
            (302, "", "silent: the token endpoint answered 302"),
            (503, r#"{"error":"invalid_grant"}"#, "silent: the token endpoint answered 503"),
            (500, "", "silent: the token endpoint answered 500"),
        ] {
            assert_eq!(outcome(status, body), expected, "{status} {body:.60}");
        }
    }
}
