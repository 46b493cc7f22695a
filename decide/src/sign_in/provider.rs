//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0, 3; RFC 8414), as far as a sign-in needs it.
use crate::token::json::{Map, Value};
use crate::token::strict_object;

/// Largest discovery document that is read, in bytes.
pub const MAX_DISCOVERY_BYTES: usize = 256 * 1024;

/// Longest endpoint, in bytes.
const MAX_URL: usize = 2048;

/// An OpenID provider's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, byte for byte what `iss` says in its tokens.
    pub issuer: String,
    /// Where browsers are sent to sign in.
    pub authorization: String,
    /// Where codes become tokens.
    pub token: String,
    /// Where browsers are sent to sign out, where it has such a page (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session: Option<String>,
    /// Whether it names itself in every answer to a sign-in (RFC 9207): then an answer without its name is refused.
    pub names_itself: bool,
}

impl Provider {
    /// Reads a discovery document, which must be about `issuer`: a document about another issuer is the mix-up attack of
    /// OpenID Connect Discovery 1.0, 7.2. Every endpoint is an https URL without user, password and fragment. The error is
    /// for the operator.
    pub fn parse(document: &[u8], issuer: &str) -> Result<Provider, String> {
        if document.len() > MAX_DISCOVERY_BYTES {
            return Err("the discovery document is larger than 256 KiB".to_owned());
        }
        let members = strict_object(document).ok_or("the discovery document is not one strict JSON object")?;
        if members.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err("the discovery document is about another issuer".to_owned());
        }
        // Absent means the code flow too (RFC 8414, 2), but what is there must hold what we use.
        for (name, wanted) in [("code_challenge_methods_supported", "S256"), ("response_types_supported", "code")] {
            if let Some(list) = members.get(name) {
                let holds = list.as_array().is_some_and(|list| list.iter().any(|item| item == wanted));
                if !holds {
                    return Err(format!("`{name}` does not hold `{wanted}`"));
                }
            }
        }
        let needed = |name: &str| endpoint(&members, name)?.ok_or_else(|| format!("`{name}` is missing"));
        Ok(Provider {
            issuer: issuer.to_owned(),
            authorization: needed("authorization_endpoint")?,
            token: needed("token_endpoint")?,
            end_session: endpoint(&members, "end_session_endpoint")?,
            names_itself: members.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }

    /// A provider whose endpoints were configured.
    pub fn configured(issuer: &str, authorization: &str, token: &str, end_session: Option<&str>) -> Provider {
        Provider {
            issuer: issuer.to_owned(),
            authorization: authorization.to_owned(),
            token: token.to_owned(),
            end_session: end_session.map(str::to_owned),
            names_itself: false,
        }
    }

    /// Whether a text can be an endpoint: an https URL of visible ASCII, without user, password and fragment.
    pub fn is_endpoint(url: &str) -> bool {
        let plain =
            url.len() <= MAX_URL && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#');
        plain
            && url.parse::<http::Uri>().is_ok_and(|uri| {
                uri.scheme_str() == Some("https") && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
            })
    }
}

fn endpoint(members: &Map<'_>, name: &str) -> Result<Option<String>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(url)) if Provider::is_endpoint(url) => Ok(Some(url.to_string())),
        Some(_) => Err(format!("`{name}` is not a plain https URL")),
    }
}
