//! `/.moat/logout`: ends the session here, and has the provider end its own (OpenID Connect RP-Initiated Logout 1.0).
use super::{page, party};
use crate::serve::own::{Visit, cookie, json, redirect, session};
use crate::serve::respond::{Made, wants_html};
use crate::serve::sign_in::just_signed_in;
use crate::store::sessions::Content;
use decide::facts::{FetchDest, FetchMode, FetchSite};
use decide::refusal::Refusal;
use decide::sign_in::{Place, encode};
use http::{HeaderValue, StatusCode};

/// Longest ID token that goes into an address; beyond it the provider asks the user.
const MAX_HINT: usize = 4096;

/// GET: signs out where our own page or the user asks for it, and asks first where a page of somebody else does.
pub(in crate::serve::own) async fn by_link(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let site = &visit.facts.site;
    let meant = matches!(site.fetch_site, Some(FetchSite::SameOrigin | FetchSite::None))
        && site.fetch_mode == Some(FetchMode::Navigate)
        && site.fetch_dest == Some(FetchDest::Document);
    if !meant {
        visit.page = true;
        return Ok(page::sure());
    }
    let (to, cookies) = sign_out(visit).await?;
    let made = match HeaderValue::try_from(to) {
        Ok(location) => redirect(location),
        Err(_) => page::signed_out(),
    };
    Ok(cookies.into_iter().chain(just_signed_in(false)).fold(made, cookie))
}

/// POST, with evidence of our own site. A page gets a page that leads on: `form-action` of the page with the form would stop
/// a redirect to the provider. A script is told where to lead the browser.
pub(in crate::serve::own) async fn by_form(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let (to, cookies) = sign_out(visit).await?;
    let made = if wants_html(visit.headers) {
        page::onward(&to)
    } else {
        json(StatusCode::OK, &serde_json::json!({ "continue_at": to }))
    };
    Ok(cookies.into_iter().chain(just_signed_in(false)).fold(made, cookie))
}

/// The page that says so.
pub(in crate::serve::own) fn done() -> Made {
    page::signed_out()
}

/// Ends the session, and says where the browser goes from here. The cookie goes in any case; that there is no session is
/// no mistake.
async fn sign_out(visit: &mut Visit<'_>) -> Result<(String, Option<HeaderValue>), Refusal> {
    let held = session::held(visit)?;
    let to = match session::sign_out(visit, &held).await? {
        Some(content) => farewell(visit, &content).await,
        None => None,
    };
    Ok((to.unwrap_or_else(|| "/.moat/signed-out".to_owned()), held.no_cookie()))
}

/// Where the provider signs out, with the way back; `None` where it does not, or cannot be asked.
async fn farewell(visit: &Visit<'_>, content: &Content) -> Option<String> {
    // Whatever tenant: nobody is let in here.
    let (party, _) = party(visit, None, &content.who.issuer)?;
    let client = party.client();
    let provider = party.provider().await.ok();
    let Some(endpoint) = provider.and_then(|provider| provider.end_session.clone()) else {
        return Some(client.signed_out.clone());
    };
    let back = format!("https://{}{}", Place::authority(visit.request), client.signed_out);
    let hint = content.kept.as_ref().and_then(|kept| kept.id_token.as_deref());
    let hint = hint.filter(|token| token.len() <= MAX_HINT).map(|token| ("id_token_hint", token));
    let fields = [("client_id", &*client.id), ("post_logout_redirect_uri", &*back)];
    let query = encode(hint.into_iter().chain(fields));
    let glue = if endpoint.contains('?') { "&" } else { "?" };
    Some(format!("{endpoint}{glue}{query}"))
}
