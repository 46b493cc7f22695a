//! `/.moat/login`: begins a flow and sends the browser to its provider. Nothing is kept here.
use super::{Page, code_does, flow_cookie, issuers, party, unavailable};
use crate::serve::gateway::random;
use crate::serve::own::{Visit, cookie, redirect, session};
use crate::serve::respond::Made;
use decide::guards::step_up::purpose;
use decide::refusal::{Code, Refusal};
use decide::sign_in::{Flow, Purpose, encode, fields};
use http::HeaderValue;

/// Where a browser goes whose user is to authenticate again for a page.
pub(in crate::serve::own) fn again(target: &str) -> String {
    format!("/.moat/login?{}", encode([("return_to", target), ("prompt", "login")]))
}

/// Takes `return_to`, a page of this host; `issuer`, one by name where a tenant has several; `prompt=login`, which has the
/// user authenticate again. What the page asks of an authentication, the provider is asked for.
pub(in crate::serve::own) async fn answer(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let held = session::held(visit)?;
    let malformed = |cause: &'static str| Refusal::new(Code::RequestMalformed, cause);
    let query = visit.request.query.as_deref().unwrap_or_default();
    let [wanted, named, prompt] = fields(query, ["return_to", "issuer", "prompt"]).map_err(malformed)?;
    let page = Page::find(visit, wanted.as_deref());
    let chosen = issuers(visit, page.seat.as_ref())
        .map(|issuer| issuer.rules.name.clone())
        .find(|name| named.as_deref().is_none_or(|named| *named == **name));
    let none = || Refusal::new(Code::RouteUnknown, "nobody signs in here with such an issuer");
    let name = chosen.ok_or_else(none)?;
    let (party, _) = party(visit, page.seat.as_ref(), &name).ok_or_else(none)?;
    let rules = &visit.active.snapshot.rules;
    let again = prompt.as_deref() == Some("login");
    let purpose = match &page.route {
        // The provider is not asked for what the gateway asks for by itself. Of the methods, none is known yet.
        Some(route) if code_does(visit, route, &[]) => Purpose { again, ..Purpose::default() },
        Some(route) => purpose(rules, route, page.seat.as_ref(), again),
        None => Purpose { again, ..Purpose::default() },
    };
    let provider = party.provider().await.map_err(unavailable)?;
    let place = page.place(visit);
    let redirect_uri = format!("https://{}{}", place.authority, party.client().callback);
    let mut flow = Flow::begin(name, place, page.target, purpose, random(), visit.facts.at_s());
    flow.session = session::presented(visit, &held, &held.realm(visit.seat.as_ref(), None));
    let client = party.client();
    let url = flow.authorization_url(&provider, &client.id, &client.scopes, &redirect_uri);
    let location = HeaderValue::try_from(url).map_err(|_| unavailable("the provider's address cannot be sent"))?;
    let cookies = flow_cookie::give(visit, held.ring(), &flow)?;
    visit.done("sign-in.begun");
    Ok(cookies.into_iter().fold(redirect(location), cookie))
}
