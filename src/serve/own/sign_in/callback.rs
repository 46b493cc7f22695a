//! `/.moat/callback`: the answer to a flow becomes a session.
use super::{Page, code_does, flow_cookie, login, page, party, unavailable};
use crate::config::settings::SameSite;
use crate::serve::metrics::{SessionEvent, StepUp};
use crate::serve::own::{Visit, cookie, redirect, session};
use crate::serve::respond::Made;
use crate::serve::sessions::{Held, replace, unavailable as silent};
use crate::serve::sign_in::{Exchange, Fault, just_signed_in};
use crate::store::sessions::{Content, Kept, Realm};
use crate::store::state::Kind;
use aws_lc_rs::digest::{SHA256, digest};
use decide::facts::{Answer, Carrier, Credential, Identity};
use decide::guards::own::bind;
use decide::guards::step_up::unmet;
use decide::refusal::{Code, Refusal};
use decide::sign_in::{Callback, Expected, FLOW_LIFE_S, Flow, Purpose, encode};
use http::HeaderValue;
use std::sync::Arc;

pub(in crate::serve::own) async fn answer(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let held = session::held(visit)?;
    let callback = Callback::read(visit.request.query.as_deref().unwrap_or_default())?;
    let id = callback.flow_id().ok_or_else(|| invalid("`state` is none of ours"))?.to_owned();
    let flow = flow_cookie::take(visit, held.ring(), &id)?;
    let landed = land(visit, &held, callback, &flow).await;
    match &landed {
        Err(refusal) if refusal.code == Code::GatewayUnavailable => {}
        // No other answer ends it any more.
        Ok(_) | Err(_) => visit.forget(flow_cookie::end(&id)),
    }
    let made = landed?;
    Ok(flow_cookie::end(&id).into_iter().fold(made, cookie))
}

fn invalid(cause: &'static str) -> Refusal {
    Refusal::new(Code::SessionInvalid, cause)
}

async fn land(visit: &mut Visit<'_>, held: &Held, callback: Callback, flow: &Flow) -> Result<Made, Refusal> {
    let page = Page::find(visit, Some(&flow.return_to));
    let (identity, kept) = redeem(visit, callback, flow, &page).await?;
    visit.identify(identity.clone(), Carrier::Session);
    bind(page.seat.as_ref(), identity.tenant.as_deref(), &identity.issuer)?;
    if let Some(refusal) = ended(visit, &page, &identity)? {
        // The provider let in by itself whom it knew. Whoever was ended authenticates anew, and is asked for it once.
        if flow.purpose.again {
            return Err(refusal);
        }
        visit.done("sign-in.again");
        return Ok(redirect(leads_to(&login::again(&page.target))?));
    }
    let mut target = page.target.clone();
    if let Some(route) = &page.route
        && let Some(refusal) =
            unmet(&visit.active.snapshot.rules, route, page.seat.as_ref(), &identity, visit.facts.at_s())
    {
        if !code_does(visit, route, &identity.amr) {
            // Asked for and not given: to send the browser round once more would never end.
            visit.shared.metrics.step_up(StepUp::Unmet);
            return Err(refusal);
        }
        target = format!("/.moat/totp?{}", encode([("return", &*target)]));
    }
    let handle = begin(visit, held, &page, (identity, kept), flow).await?;
    let made = match held.settings.same_site {
        SameSite::Lax => redirect(leads_to(&target)?),
        SameSite::Strict => page::onward(&target),
    };
    Ok(handle.into_iter().chain(just_signed_in(true)).fold(made, cookie))
}

/// Makes the answer of the provider into who signed in, once, and what is kept of it.
async fn redeem(
    visit: &Visit<'_>,
    callback: Callback,
    flow: &Flow,
    page: &Page,
) -> Result<(Arc<Identity>, Kept), Refusal> {
    let (party, ring) = party(visit, page.seat.as_ref(), &flow.issuer)
        .ok_or_else(|| invalid("nobody signs in here with this issuer any more"))?;
    let client = party.client();
    if *visit.request.path != *client.callback {
        return Err(invalid("the answer arrived where this issuer's answers do not"));
    }
    let provider = party.provider().await.map_err(unavailable)?;
    let (place, now_s) = (page.place(visit), visit.facts.at_s());
    let must_name_itself = provider.names_itself || client.must_name_itself;
    let expected = Expected { place: &place, issuer: &provider.issuer, must_name_itself, now_s };
    let code = callback.accept(flow, &expected)?;
    // The code is good once: first what must be known to believe its tokens, so that where that is missing the browser can
    // come again.
    if !visit.shared.revocations.is_ready() {
        return Err(unavailable("what was ended has not been read yet"));
    }
    ring.at_hand().await.map_err(unavailable)?;
    once(visit, flow).await?;
    let redirect_uri = format!("https://{}{}", flow.authority, client.callback);
    let exchange = Exchange {
        code: &code,
        redirect_uri: &redirect_uri,
        verifier: &flow.verifier(),
        nonce: &flow.nonce(),
        began_s: flow.began_s,
    };
    let redeemed = party.redeem(&exchange, &visit.shared.assertions, &ring, now_s).await;
    let (id_token, identity) = redeemed.map_err(|fault| match fault {
        Fault::Declined => invalid("the provider does not take the code: used before, or not ours"),
        Fault::Nonsense(cause) => Refusal::new(Code::SessionInvalid, cause),
        Fault::Silent(cause) => unavailable(cause),
    })?;
    Ok((identity, Kept { id_token: Some(id_token) }))
}

/// A flow ends once, also where its cookie was kept and its code would still be good.
async fn once(visit: &Visit<'_>, flow: &Flow) -> Result<(), Refusal> {
    let key = digest(&SHA256, format!("sign-in {}", flow.state()).as_bytes());
    let until_ms = flow.began_s.saturating_add(2 * FLOW_LIFE_S).saturating_mul(1000);
    match visit.shared.state.once(Kind::SignIn, key.as_ref(), until_ms).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(invalid("this sign-in has ended before")),
        Err(fault) => Err(unavailable(fault.to_string())),
    }
}

/// Whether somebody has ended whatever this user signed in to, later than the provider says that it was.
fn ended(visit: &Visit<'_>, page: &Page, identity: &Arc<Identity>) -> Result<Option<Refusal>, Refusal> {
    let answer = Answer::Credential(Credential::Valid { identity: identity.clone(), carrier: Carrier::Session });
    let tenant = page.seat.as_ref().map(|seat| &*seat.id);
    // Not as for `sensitive` routes: what this replica has not heard of yet ends the session with its next use.
    match visit.shared.hold(answer, &visit.active.snapshot.revocation, false, tenant) {
        Answer::Credential(Credential::Valid { .. }) => Ok(None),
        Answer::Credential(Credential::Revoked(cause)) => Ok(Some(Refusal::new(Code::SessionRevoked, cause))),
        Answer::Unavailable(cause) => Err(unavailable(cause)),
        Answer::Credential(_) | Answer::Shown(..) | Answer::Quota(_) | Answer::Fields(_) | Answer::CsrfToken(_) => {
            Err(unavailable("an answer to another question"))
        }
    }
}

fn leads_to(target: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(target).map_err(|_| unavailable("the page to return to cannot be named"))
}

/// Opens a session, or, where the browser has one of the same user, makes it as fresh as this authentication. Returns the
/// cookie of a new one.
async fn begin(
    visit: &mut Visit<'_>,
    held: &Held,
    page: &Page,
    (identity, kept): (Arc<Identity>, Kept),
    flow: &Flow,
) -> Result<Option<HeaderValue>, Refusal> {
    let realm = held.realm(visit.seat.as_ref(), page.seat.as_ref());
    let (shared, client, now_ms) = (visit.shared.clone(), visit.facts.client.0, visit.facts.at_ms);
    let shown = session::presented(visit, held, &realm);
    // Else it has lost the cookie on the way, being closed and opened again, and a session without one would be of no use to it.
    let has_cookie = shown.is_some() || held.settings.same_site == SameSite::Strict;
    let before = before(visit, &realm, shown.or(flow.session)).await?;
    if let Some((key, content)) = &before
        && has_cookie
        && is_same(content, &identity)
        && content.life.over(now_ms, &realm.rules).is_none()
    {
        visit.intent("session.step-up").await?;
        let identity = no_weaker(&identity, content);
        let promoted = shared.sessions.promote(&realm, *key, &identity, Some(kept.clone())).await;
        if promoted.map_err(|fault| silent(&fault))? {
            // Else it is another tab that signed in.
            if flow.purpose != Purpose::default() {
                shared.metrics.step_up(StepUp::Met);
            }
            visit.done("session.stepped-up");
            return Ok(None);
        }
    }
    visit.intent("session.open").await?;
    let opened = shared.sessions.open(&realm, &identity, Some(client), Some(kept), now_ms).await;
    let opened = opened.map_err(|fault| silent(&fault))?;
    if let Some((key, _)) = before {
        replace(&shared, &realm, key, &opened.identity, now_ms).await;
    }
    shared.metrics.session(SessionEvent::Opened);
    visit.identify(opened.identity.clone(), Carrier::Session);
    visit.done("session.opened");
    Ok(held.cookie(&opened.handle))
}

/// The session that the browser has, or had when it left; good or not.
async fn before(
    visit: &Visit<'_>,
    realm: &Realm,
    key: Option<[u8; 32]>,
) -> Result<Option<([u8; 32], Content)>, Refusal> {
    let Some(key) = key else { return Ok(None) };
    let content = visit.shared.sessions.content(realm, &key).await.map_err(|fault| silent(&fault))?;
    Ok(content.map(|content| (key, content)))
}

/// Whether a session is of this very user.
fn is_same(content: &Content, identity: &Identity) -> bool {
    let who = &content.who;
    *who.issuer == *identity.issuer && *who.subject == *identity.subject.0 && who.tenant == identity.tenant
}

/// A session does not become older or weaker by a tab that was slower: the younger authentication counts.
fn no_weaker(identity: &Arc<Identity>, content: &Content) -> Arc<Identity> {
    let who = &content.who;
    if who.auth_time <= identity.auth_time {
        return identity.clone();
    }
    let mut kept = (**identity).clone();
    (kept.auth_time, kept.acr, kept.amr) = (who.auth_time, who.acr.clone(), who.amr.clone());
    Arc::new(kept)
}
