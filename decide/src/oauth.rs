//! What clients ask at the token endpoint (RFC 6749, 6; RFC 8693; RFC 7009), read strictly from a form, and the words in which
//! they are refused.
use std::borrow::Cow;

/// Most fields of a form.
const MAX_FIELDS: usize = 32;

/// Longest refresh token that is looked at, in bytes. Ours have 59.
const MAX_REFRESH_BYTES: usize = 256;

/// `error` of an answer (RFC 6749, 5.2; RFC 8693, 2.2.2; RFC 9449, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthError {
    /// The form is not what it must be.
    InvalidRequest,
    /// The token is not good, or not any more.
    InvalidGrant,
    /// Another way than ours.
    UnsupportedGrantType,
    /// A token for somebody else than us.
    InvalidTarget,
    /// No proof of possession where one is required, or one that does not hold.
    InvalidProof,
    /// Nobody can say now.
    TemporarilyUnavailable,
    /// Refused, for a reason that has no word of its own.
    AccessDenied,
}

impl OAuthError {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            OAuthError::InvalidRequest => "invalid_request",
            OAuthError::InvalidGrant => "invalid_grant",
            OAuthError::UnsupportedGrantType => "unsupported_grant_type",
            OAuthError::InvalidTarget => "invalid_target",
            OAuthError::InvalidProof => "invalid_dpop_proof",
            OAuthError::TemporarilyUnavailable => "temporarily_unavailable",
            OAuthError::AccessDenied => "access_denied",
        }
    }
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Asked {
    /// To open a family, by exchange of an issuer's token (RFC 8693).
    Exchange {
        /// `subject_token`
        token: String,
    },
    /// The next tokens of a family.
    Refresh {
        /// `refresh_token`
        token: String,
    },
}

/// The fields of a form, each at most once.
pub struct Form<'a> {
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Form<'a> {
    /// Reads `application/x-www-form-urlencoded` (WHATWG URL, 5.1). Refuses another type, more than 32 fields, a field that
    /// stands twice (RFC 6749, 3.2) and what is not UTF-8.
    pub fn read(content_type: Option<&str>, body: &'a [u8]) -> Result<Form<'a>, &'static str> {
        if content_type != Some("application/x-www-form-urlencoded") {
            return Err("the body is not a form");
        }
        let mut fields: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for piece in body.split(|b| *b == b'&').filter(|piece| !piece.is_empty()) {
            let (name, value) = match piece.iter().position(|b| *b == b'=') {
                None => (piece, [].as_slice()),
                Some(at) => (piece.get(..at).unwrap_or_default(), piece.get(at + 1..).unwrap_or_default()),
            };
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err("a field of the form is not text");
            };
            if fields.iter().any(|(known, _)| *known == name) {
                return Err("a field of the form stands twice");
            }
            if fields.len() == MAX_FIELDS {
                return Err("the form has more than 32 fields");
            }
            fields.push((name, value));
        }
        Ok(Form { fields })
    }

    /// A field; an empty one counts as absent (RFC 6749, 3.2).
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// What is asked at the token endpoint. `audience` is that of our own tokens. What we have no use for is ignored
    /// (RFC 6749, 3.2).
    pub fn asked(&self, audience: &str) -> Result<Asked, (OAuthError, &'static str)> {
        use OAuthError::{InvalidRequest, InvalidTarget, UnsupportedGrantType};
        match self.field("grant_type") {
            None => Err((InvalidRequest, "`grant_type` is missing")),
            Some("refresh_token") => self.refresh().map_err(|cause| (InvalidRequest, cause)),
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
                if self.field("resource").is_some() || self.field("audience").is_some_and(|named| named != audience) {
                    return Err((InvalidTarget, "a token for somebody else is asked for"));
                }
                self.exchange().map_err(|cause| (InvalidRequest, cause))
            }
            Some(_) => Err((UnsupportedGrantType, "the grant type is none of ours")),
        }
    }

    fn refresh(&self) -> Result<Asked, &'static str> {
        let token = self.field("refresh_token").ok_or("`refresh_token` is missing")?;
        if token.len() > MAX_REFRESH_BYTES {
            return Err("`refresh_token` is too long");
        }
        Ok(Asked::Refresh { token: token.to_owned() })
    }

    fn exchange(&self) -> Result<Asked, &'static str> {
        const OURS: [&str; 3] = [
            "urn:ietf:params:oauth:token-type:access_token",
            "urn:ietf:params:oauth:token-type:jwt",
            "urn:ietf:params:oauth:token-type:id_token",
        ];
        const GIVEN: [&str; 2] =
            ["urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:refresh_token"];
        let token = self.field("subject_token").ok_or("`subject_token` is missing")?;
        let kind = self.field("subject_token_type").ok_or("`subject_token_type` is missing")?;
        if !OURS.contains(&kind) {
            return Err("`subject_token_type` is none of ours");
        }
        if self.field("requested_token_type").is_some_and(|kind| !GIVEN.contains(&kind)) {
            return Err("`requested_token_type` is none of ours");
        }
        // Acting for somebody else is nothing that we know.
        if self.field("actor_token").is_some() {
            return Err("`actor_token` is not supported");
        }
        Ok(Asked::Exchange { token: token.to_owned() })
    }
}

/// Percent-decoding with `+` for a space; `None` for what is no UTF-8, or a percent sign that begins nothing.
fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit =
                    |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
                digit(rest.next())? << 4 | digit(rest.next())?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
    const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
                            &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&subject_token=a.b.c";

    fn asked(body: &str) -> Result<Asked, (OAuthError, &'static str)> {
        let form = Form::read(FORM, body.as_bytes()).map_err(|cause| (OAuthError::InvalidRequest, cause))?;
        form.asked("api")
    }

    #[test]
    fn two_things_can_be_asked() {
        assert!(asked(EXCHANGE) == Ok(Asked::Exchange { token: "a.b.c".into() }));
        assert!(
            asked("grant_type=refresh_token&refresh_token=mrt_x&scope=all&client_id=app")
                == Ok(Asked::Refresh { token: "mrt_x".into() })
        );
        assert!(
            asked(&format!(
                "{EXCHANGE}&audience=api&requested_token_type=urn:ietf:params:oauth:token-type:refresh_token"
            ))
            .is_ok()
        );
    }

    #[test]
    fn anything_else_is_refused_in_the_word_for_it() {
        use OAuthError::*;
        for (body, error) in [
            ("", InvalidRequest),
            ("grant_type", InvalidRequest),
            ("grant_type=", InvalidRequest),
            ("grant_type=password&username=a&password=b", UnsupportedGrantType),
            ("grant_type=authorization_code&code=x", UnsupportedGrantType),
            ("grant_type=Refresh_Token&refresh_token=x", UnsupportedGrantType),
            ("grant_type=refresh_token", InvalidRequest),
            ("grant_type=refresh_token&refresh_token=", InvalidRequest),
            ("grant_type=refresh_token&refresh_token=x&refresh_token=y", InvalidRequest),
            ("grant_type=refresh_token&refresh_token=x&%72efresh_token=y", InvalidRequest),
            ("grant_type=refresh_token&grant_type=refresh_token&refresh_token=x", InvalidRequest),
            ("grant_type=refresh_token&refresh_token=%zz", InvalidRequest),
            ("grant_type=refresh_token&refresh_token=%f", InvalidRequest),
            ("grant_type=refresh_token&refresh_token=%ff", InvalidRequest),
            (&format!("grant_type=refresh_token&refresh_token={}", "x".repeat(257)), InvalidRequest),
            (&format!("{EXCHANGE}&subject_token=d.e.f"), InvalidRequest),
            (&format!("{EXCHANGE}&actor_token=x"), InvalidRequest),
            (&format!("{EXCHANGE}&audience=other"), InvalidTarget),
            (&format!("{EXCHANGE}&resource=https://other.example"), InvalidTarget),
            (&format!("{EXCHANGE}&requested_token_type=urn:ietf:params:oauth:token-type:saml2"), InvalidRequest),
            (&EXCHANGE.replace("access_token", "saml1"), InvalidRequest),
            (&EXCHANGE.replace("subject_token_type", "x"), InvalidRequest),
            (&format!("{EXCHANGE}{}", "&a%41=".repeat(40)), InvalidRequest),
            (&(0..40).map(|n| format!("a{n}=1&")).collect::<String>(), InvalidRequest),
        ] {
            assert_eq!(asked(body).err().map(|(error, _)| error), Some(error), "{body}");
        }
        for kind in [None, Some("application/json"), Some("multipart/form-data")] {
            assert!(Form::read(kind, EXCHANGE.as_bytes()).is_err());
        }
    }
}
