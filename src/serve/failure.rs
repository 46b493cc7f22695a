//! What a failure of forwarding is called, what it says about the endpoint, and whether the request is sent again.
use crate::serve::context::Context;
use crate::serve::upstream::{Attempt, Failure};
use decide::refusal::{Code, Refusal};
use pingora_core::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::Session;

/// No connection came about: nothing of the request was sent.
pub(super) fn not_connected(session: &Session, ctx: &mut Context, mut e: Box<Error>) -> Box<Error> {
    let Some(lease) = &ctx.lease else { return e };
    // A kept HTTP/2 connection that takes no more streams says nothing about its endpoint.
    let failure_kind = if *e.etype() == ErrorType::H2Error { Failure::Refused } else { Failure::Connect };
    ctx.refusal = failure(&e, true, false);
    if failure_kind == Failure::Connect {
        lease.unreachable(ctx.refusal.as_ref().map_or("unreachable", |refusal| &refusal.cause));
        let endpoint = lease.address();
        ctx.tried_in_vain(endpoint);
    }
    e.set_retry(retries(session, ctx, failure_kind));
    e
}

/// The connection failed with the request under way.
pub(super) fn broken_off(session: &mut Session, ctx: &mut Context, mut e: Box<Error>, reused: bool) -> Box<Error> {
    let certain = matches!(e.retry, RetryType::Decided(true));
    e.set_retry(false);
    let Some(lease) = ctx.lease.as_ref().filter(|_| *e.esource() == ErrorSource::Upstream) else { return e };
    let kind = match e.etype() {
        // REFUSED_STREAM, or GOAWAY before this stream.
        ErrorType::H2Error if certain => Failure::Refused,
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            if session.as_mut().is_body_done() {
                lease.timed_out();
            }
            return e;
        }
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error => {
            Failure::Reset
        }
        _ => {
            // What it is called already, where this is our own finding, stands.
            if ctx.refusal.is_none() {
                lease.broke(e.etype().as_str());
            }
            return e;
        }
    };
    // That an application closes a connection that it had kept says nothing about it.
    if kind == Failure::Reset && !reused {
        lease.broke(e.etype().as_str());
        let endpoint = lease.address();
        ctx.tried_in_vain(endpoint);
    }
    let silent = ctx.upstream_status.is_none() && session.response_written().is_none();
    e.set_retry(silent && retries(session, ctx, kind));
    e
}

fn retries(session: &Session, ctx: &Context, failure: Failure) -> bool {
    let Some(lease) = ctx.lease.as_ref().filter(|lease| ctx.tried.len() < lease.pool().len()) else { return false };
    lease.may_retry(&Attempt {
        failure,
        idempotent: session.req_header().method.is_idempotent(),
        replayable: !session.as_ref().retry_buffer_truncated(),
        tries: ctx.tries,
    })
}

/// What a failure of forwarding is called; `None` when the client itself is gone. An application that waits for the rest
/// of a body is not to blame for its silence.
/// `h2`: whether the application was spoken to in HTTP/2.
pub(super) fn failure(e: &Error, body_done: bool, h2: bool) -> Option<Refusal> {
    let timeout = matches!(e.etype(), ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    let mut cause = format!("{}: {}", e.esource().as_str(), e.etype().as_str());
    match e.etype() {
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => {
            // What rustls says: what is wrong with the certificate.
            let said = e.context.as_ref().map(|context| context.as_str()).unwrap_or_default();
            let said = said.strip_prefix("TLS connect() failed: ").unwrap_or(said);
            cause = format!("{cause}: {}", said.split(", SNI:").next().unwrap_or_default());
        }
        ErrorType::H2Error | ErrorType::InvalidH2 => cause.push_str(": no HTTP/2, or broken"),
        ErrorType::ReadError | ErrorType::ConnectionClosed if h2 => cause.push_str(": no HTTP/2, or broken off"),
        _ => {}
    }
    match e.esource() {
        ErrorSource::Upstream if timeout && !body_done => {
            Some(Refusal::new(Code::RequestTimeout, "the body did not come in time"))
        }
        ErrorSource::Upstream if timeout => Some(Refusal::new(Code::UpstreamTimeout, cause)),
        ErrorSource::Upstream => Some(Refusal::new(Code::UpstreamUnreachable, cause)),
        ErrorSource::Downstream if timeout => Some(Refusal::new(Code::RequestTimeout, cause)),
        ErrorSource::Downstream => match e.etype() {
            // The stream below pingora has watched the grammar of the body.
            ErrorType::ReadError if let Some(cause) = broken(e) => Some(Refusal::new(Code::RequestMalformed, cause)),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => None,
            _ => Some(Refusal::new(Code::RequestMalformed, cause)),
        },
        ErrorSource::Internal | ErrorSource::Unset => Some(Refusal::new(Code::GatewayUnavailable, cause)),
    }
}

/// What the client's bytes broke, where it is not the connection that broke.
fn broken(e: &Error) -> Option<String> {
    let cause = e.root_cause().downcast_ref::<std::io::Error>()?;
    (cause.kind() == std::io::ErrorKind::InvalidData).then(|| cause.to_string())
}
