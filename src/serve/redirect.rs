//! The plaintext listener: tells browsers where TLS is, and refuses what should never have been sent without it.
use super::drain;
use super::head::{Read, glimpse, read_head};
use super::http1::send_last;
use super::listener::{Front, House};
use super::stream::Wire;
use crate::config::settings::Listener;
use decide::head::{HeadView, check};
use decide::refusal::{Code, Refusal};
use decide::request::{Method, Request};
use http::HeaderValue;

/// Answers one request and closes.
pub(crate) async fn run<A, F: Front>(
    mut wire: Box<Wire>,
    https_port: Option<u16>,
    settings: &Listener,
    house: &House<A, F>,
) {
    let mut draining = house.drain.watch();
    wire.expose(Some(0));
    let read = tokio::select! {
        biased;
        read = read_head(&mut wire, settings) => read,
        () = drain::idle_over(&mut draining) => Read::Idle,
    };
    let (outcome, seen) = match read {
        Read::Head(taken) => {
            let bytes = &*taken.raw;
            wire.give_back(&taken.raw);
            let admitted = wire.conn().admitted_to(settings);
            let location = || check(bytes, &settings.head).and_then(|view| target(&view, https_port));
            (admitted.and_then(|()| location()), glimpse(bytes))
        }
        Read::Gone => return,
        Read::Idle => return wire.close().await,
        Read::Refused(refusal, glimpse) => (Err(refusal), glimpse),
    };
    let to_head = seen.method.as_deref() == Some(Method::Head.as_str());
    let reply = match outcome {
        Ok(location) => house.front.redirect(wire.conn(), location, seen).await,
        Err(refusal) => house.front.refuse(wire.conn(), refusal, seen).await,
    };
    send_last(wire, &reply, to_head).await;
}

/// The https URL of a plaintext GET or HEAD. It is put together from the canonical reading of the request, so nothing
/// that could end a header line, name another authority or be read in two ways gets into it.
fn target(view: &HeadView<'_>, https_port: Option<u16>) -> Result<HeaderValue, Refusal> {
    if view.method != Method::Get && view.method != Method::Head {
        return Err(Refusal::new(Code::RequestPlaintext, "only GET and HEAD are redirected"));
    }
    if view.has_body() {
        return Err(Refusal::new(Code::RequestPlaintext, "a request with a body is not redirected"));
    }
    let request = Request::parse(view.method.as_str(), view.target, view.host)?;
    let port = https_port.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::try_from(format!("https://{}{port}{}{query}", request.host, request.path))
        .map_err(|_| Refusal::new(Code::RequestMalformed, "the target is not a URL"))
}
