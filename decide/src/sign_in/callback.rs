//! What a browser comes back with, and whether it is the answer to the flow that it was sent away with.
use super::{Flow, Place, form};
use crate::refusal::{Code, Refusal};
use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Longest code, in bytes; some providers put a whole sealed grant into it.
const MAX_CODE: usize = 4096;

/// The parameters of an answer (RFC 6749, 4.1.2; RFC 9207). The code is a secret: it is in no log and no message.
pub struct Callback {
    state: String,
    issuer: Option<String>,
    end: End,
}

enum End {
    Code(String),
    Declined(Declined),
}

/// Why the provider gave no code, as far as it makes a difference.
#[derive(Clone, Copy)]
enum Declined {
    /// The user, or the provider's rules.
    Denied,
    /// The provider cannot now (RFC 6749, 4.1.2.1).
    Unavailable,
    /// It does not authenticate as strongly as was asked (OpenID Connect Unmet Authentication Requirements 1.0).
    Unmet,
    /// Whatever else; mostly a mistake in a configuration.
    Other,
}

/// What the answer is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Where the answer arrived: host and port.
    pub place: &'a Place,
    /// `iss` of the provider that the flow was sent to.
    pub issuer: &'a str,
    /// Whether an answer must say `iss`: the provider says that it does (RFC 9207), or answers of several providers arrive
    /// at one address.
    pub must_name_itself: bool,
    /// Wall clock, seconds since the epoch.
    pub now_s: u64,
}

impl Callback {
    /// Reads a query. What is repeated, not text or larger than any provider makes it is refused with `request.malformed`.
    pub fn read(query: &str) -> Result<Callback, Refusal> {
        let malformed = |cause: &'static str| Refusal::new(Code::RequestMalformed, cause);
        let names = ["state", "code", "error", "iss"];
        let [state, code, error, issuer] = form::fields(query, names).map_err(malformed)?;
        let state = state.ok_or_else(|| malformed("the answer to a sign-in has no `state`"))?;
        let end = match (code, error) {
            (Some(code), None) if (1..=MAX_CODE).contains(&code.len()) => {
                if !code.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                    return Err(malformed("the code of a sign-in is not visible ASCII"));
                }
                End::Code(code)
            }
            (None, Some(error)) => End::Declined(match &*error {
                "access_denied" => Declined::Denied,
                "temporarily_unavailable" | "server_error" => Declined::Unavailable,
                "unmet_authentication_requirements" => Declined::Unmet,
                _ => Declined::Other,
            }),
            _ => return Err(malformed("the answer to a sign-in holds neither a code nor an error, or both")),
        };
        Ok(Callback { state, issuer, end })
    }

    /// The name of the flow that it claims to answer; `None` where `state` is none of ours.
    pub fn flow_id(&self) -> Option<&str> {
        Flow::id_of(&self.state)
    }

    /// The code, where this is the answer to the flow: begun by this browser, for this host and tenant, not too long ago, and
    /// answered by the provider that it was sent to.
    ///
    /// Refuses with `session.invalid` what is not; where it is and the provider declined, with `access.denied`,
    /// `session.step-up` or `gateway.unavailable`.
    pub fn accept(self, flow: &Flow, expected: &Expected<'_>) -> Result<String, Refusal> {
        let refuse = |cause: &'static str| Err(Refusal::new(Code::SessionInvalid, cause));
        if verify_slices_are_equal(flow.state().as_bytes(), self.state.as_bytes()).is_err() {
            return refuse("the answer is to another sign-in");
        }
        if !flow.is_live(expected.now_s) {
            return refuse("the sign-in took too long");
        }
        if flow.authority != expected.place.authority || flow.tenant != expected.place.tenant {
            return refuse("the sign-in began at another host or for another tenant");
        }
        match &self.issuer {
            Some(issuer) if issuer != expected.issuer => return refuse("another provider answered (RFC 9207)"),
            None if expected.must_name_itself => return refuse("the answer does not say which provider made it"),
            Some(_) | None => {}
        }
        match self.end {
            End::Code(code) => Ok(code),
            End::Declined(why) => Err(match why {
                Declined::Denied => Refusal::new(Code::AccessDenied, "the provider denied the sign-in"),
                Declined::Unmet => {
                    Refusal::new(Code::SessionStepUp, "the provider cannot authenticate as strongly as asked")
                }
                Declined::Unavailable => {
                    Refusal::new(Code::GatewayUnavailable, "the provider cannot sign in now").retry_after(5)
                }
                Declined::Other => Refusal::new(Code::SessionInvalid, "the provider refused the request to sign in"),
            }),
        }
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
