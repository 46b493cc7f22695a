//! One request to one of the gateway's own resources, and how such a resource says what it does.
use crate::serve::active::Active;
use crate::serve::context::Context;
use crate::serve::gateway::Shared;
use crate::serve::respond::Made;
use crate::serve::revocation::{Order, Via};
use bytes::Bytes;
use decide::facts::{Answer, Carrier, Facts, Identity};
use decide::oauth::OAuthError;
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::revocation::{FAMILIES, Target};
use decide::rules::Seat;
use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;

/// One request, judged so far as all of them are.
pub struct Visit<'a> {
    /// What all requests share.
    pub shared: &'a Arc<Shared>,
    /// The snapshot in force and its living parts.
    pub active: &'a Arc<Active>,
    /// The request.
    pub request: &'a Request,
    /// The facts.
    pub facts: &'a Facts,
    /// The tenant that the host names, served and reachable from here; `None` where the host names none.
    pub seat: Option<Seat>,
    /// The request's fields.
    pub headers: &'a HeaderMap,
    /// The body of a resource that reads one, at most 64 KiB.
    pub body: Vec<u8>,
    /// When all of the request had been received, milliseconds since the Unix epoch. What a body says is judged as of then, not
    /// as of the arrival of its head: whoever holds it back gains nothing.
    pub received_ms: u64,
    /// Whether the answer is a page with a form.
    pub page: bool,
    pub(super) ctx: &'a mut Context,
}

impl Visit<'_> {
    /// The same in whole seconds, the unit of token claims.
    pub fn received_s(&self) -> u64 {
        self.received_ms / 1000
    }

    /// The tenant that the host names, or nothing.
    pub fn tenant(&self) -> &str {
        self.seat.as_ref().map_or("", |seat| &seat.id)
    }

    /// Says who calls, as verified, for the entries of this request.
    pub fn identify(&mut self, identity: Arc<Identity>, carrier: Carrier) {
        self.ctx.findings.identity = Some(identity);
        self.ctx.findings.carrier = Some(carrier);
    }

    /// Writes down what is about to be done, e.g. `session.open`. Must come before anything is; refuses with
    /// `gateway.unavailable` where it cannot be written, and then nothing may be done.
    pub async fn intent(&mut self, action: &'static str) -> Result<(), Refusal> {
        self.ctx.action = Some(action);
        let entry = self.ctx.entry(false);
        let Some(slot) = &self.ctx.slot else { return Ok(()) };
        slot.intent(entry, false).await.map_err(|error| {
            let cause = format!("the intent could not be written: {error}");
            Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)
        })
    }

    /// Should it be refused, the browser forgets this.
    pub fn forget(&mut self, cookie: Option<HeaderValue>) {
        self.ctx.forget = cookie;
    }

    /// A refusal in the words of OAuth.
    pub fn refuse(&mut self, error: OAuthError, code: Code, cause: impl Into<Cow<'static, str>>) -> Refusal {
        self.ctx.oauth = Some(error);
        Refusal::new(code, cause)
    }

    /// What an answer about a credential is worth, held against all that was ended.
    pub fn hold(&self, answer: Answer) -> Answer {
        self.shared.hold(answer, &self.active.snapshot.revocation, true, self.seat.as_ref().map(|seat| &*seat.id))
    }

    /// The refusal of whoever was ended since, and of everybody while nobody here knows who was.
    pub fn ended(&self, identity: &Identity, seat: Option<&Seat>) -> Option<Refusal> {
        if !self.shared.revocations.is_ready() {
            let cause = "what was ended has not been read yet";
            return Some(Refusal::new(Code::GatewayUnavailable, cause).retry_after(5));
        }
        self.shared.ended(identity, seat.map(|seat| &*seat.id))
    }

    /// Ends whatever a family has opened, on all replicas.
    pub async fn end_family(&self, id: &str, why: Why) -> Result<(), Refusal> {
        let targets = [Target::Session { issuer: FAMILIES, id }];
        let (actor, via) = match why {
            Why::SignOut => ("holder", Via::SignOut),
            Why::Reuse => ("system", Via::Reuse),
        };
        let order = Order { targets: &targets, at_ms: self.received_ms, actor, via };
        let fault = |fault| Refusal::new(Code::GatewayUnavailable, format!("{fault}")).retry_after(2);
        self.shared.end(order).await.map_err(fault)
    }

    /// Says what was done, e.g. `session.opened`, for the entry of the outcome.
    pub fn done(&mut self, action: &'static str) {
        self.ctx.action = Some(action);
    }
}

/// Why a family ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Whoever holds it wants to.
    SignOut,
    /// One of its tokens was used twice.
    Reuse,
}

/// An answer in JSON.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Made {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Made { status, headers, body: Bytes::from(value.to_string()) }
}

/// 303 to another place (RFC 9110, 15.4.4).
pub fn redirect(location: HeaderValue) -> Made {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(LOCATION, location);
    Made { status: StatusCode::SEE_OTHER, headers, body: Bytes::new() }
}

/// The same answer with one more cookie.
pub fn cookie(mut made: Made, cookie: HeaderValue) -> Made {
    made.headers.append(SET_COOKIE, cookie);
    made
}
