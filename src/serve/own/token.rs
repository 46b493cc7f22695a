//! `POST /.moat/token`: opens a family of refresh tokens by exchange of an issuer's token (RFC 8693), and exchanges refresh
//! tokens for their successors (RFC 6749, 6). `POST /.moat/revoke`: ends a family (RFC 7009).
//!
//! The life of a family is `decide::session::family`; here is what it needs of the world. An unknown write is handed out, a
//! silent store refuses with 503 and `Retry-After`, and never with 401: the client keeps its token and comes back.
use super::{Visit, json};
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::serve::issuing::Issuing;
use crate::serve::proofs;
use crate::serve::respond::Made;
use crate::serve::run::now_ms;
use crate::store::families::{Families, FamilyId, Read, Row, Unread, named_by};
use decide::facts::{Answer, Carrier, Credential, Identity};
use decide::guards::own::holding;
use decide::oauth::{Asked, Form, OAuthError};
use decide::refusal::{Code, Refusal};
use decide::revocation::FAMILIES;
use decide::rules::Seat;
use decide::session::family::{Ending, Family, Moment, Outcome, Over, Rules, Written};
use decide::token::dpop::Proof;
use decide::token::mint::Holder;
use http::StatusCode;
use http::header::USER_AGENT;
use serde_json::json as object;
use std::sync::Arc;

/// How often one request judges its token again because somebody else was faster: as many as may ask at once, in the worst
/// case, each losing to another.
const TRIES: usize = 64;
/// When whoever was refused because a store is silent may try again, in seconds.
const AGAIN_S: u32 = 2;

/// The tokens of one answer.
struct Issued {
    access: String,
    life_s: u64,
    refresh: String,
    bound: bool,
}

pub(super) async fn answer(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let active = visit.active.clone();
    let Some(issuing) = active.issuing() else {
        return Err(Refusal::new(Code::RouteUnknown, "the gateway issues no tokens"));
    };
    let asked = {
        let form = Form::read(visit.facts.body.content_type.as_deref(), &visit.body);
        let form = form.map_err(|cause| (OAuthError::InvalidRequest, cause));
        form.and_then(|form| form.asked(&issuing.settings.audience))
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err((error, cause)) => return Err(visit.refuse(error, Code::BodyInvalid, cause)),
    };
    let proof = match proofs::take(visit.shared, &active, visit.headers, (visit.request, visit.facts)).await {
        Ok(None) if issuing.settings.bound => {
            return Err(visit.refuse(
                OAuthError::InvalidProof,
                Code::SessionInvalid,
                "a proof of possession is required",
            ));
        }
        Ok(proof) => proof,
        Err(cause) => return Err(visit.refuse(OAuthError::InvalidProof, Code::SessionInvalid, cause)),
    };
    match asked {
        Asked::Exchange { token } => {
            let issued = open(visit, issuing, &token, proof).await?;
            Ok(said(&issued, Some("urn:ietf:params:oauth:token-type:access_token")))
        }
        Asked::Refresh { token } => {
            let issued = refresh(visit, issuing, &token, proof.as_ref()).await;
            let result = match &issued {
                Ok(_) => "ok",
                Err(refusal) => result(refusal.code),
            };
            visit.shared.metrics.tokens().refreshed(result);
            Ok(said(&issued?, None))
        }
    }
}

/// Ends the family of a refresh token. Whoever asks has the token, so no more is asked of them; a token that is none of ours
/// is as good as ended (RFC 7009, 2.2).
pub(super) async fn revoke(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let active = visit.active.clone();
    let Some(issuing) = active.issuing() else {
        return Err(Refusal::new(Code::RouteUnknown, "the gateway issues no tokens"));
    };
    let token = {
        let form = Form::read(visit.facts.body.content_type.as_deref(), &visit.body);
        form.and_then(|form| form.field("token").map(str::to_owned).ok_or("`token` is missing"))
    };
    let token = match token {
        Ok(token) => token,
        Err(cause) => return Err(visit.refuse(OAuthError::InvalidRequest, Code::BodyInvalid, cause)),
    };
    let done = object!({});
    let Some((id, _)) = named_by(&issuing.ring, &token) else { return Ok(json(StatusCode::OK, &done)) };
    let shared = visit.shared.clone();
    let families = Families { state: &shared.state, ring: &issuing.ring };
    let mut read = read(&families, id).await?;
    for _ in 0..TRIES {
        let Some(there) = &read else { return Ok(json(StatusCode::OK, &done)) };
        let (holder, _, rules) = judged(visit, issuing, id, &there.row)?;
        visit.identify(holder, Carrier::Bearer);
        visit.intent("session.revoke").await?;
        let row = Row { family: there.row.family.end(Ending::Revoked), ..there.row.clone() };
        match families.write(id, there, &row, row.family.expires_at_ms(&rules)).await.map_err(unread)? {
            (Written::Yes, _) => {
                visit.end_family(&id.word(), crate::serve::own::Why::SignOut).await?;
                visit.done("session.revoked");
                return Ok(json(StatusCode::OK, &done));
            }
            (Written::Conflict(_), there) => read = there,
            (Written::Unknown | Written::No, _) => return Err(unavailable("whether the family has ended is unknown")),
        }
    }
    Err(unavailable("others were always faster"))
}

/// Has the row of a family say that it was ended, which its mark has done already.
pub(super) async fn bury(shared: &Shared, active: &Active, seat: Option<&Seat>, id: FamilyId) -> Result<(), String> {
    let Some(issuing) = active.issuing() else { return Ok(()) };
    let families = Families { state: &shared.state, ring: &issuing.ring };
    let rules = rules(issuing, seat);
    let mut read = families.read(id).await.map_err(|unread| unread.to_string())?;
    for _ in 0..TRIES {
        let Some(there) = &read else { return Ok(()) };
        let row = Row { family: there.row.family.end(Ending::Revoked), ..there.row.clone() };
        let written = families.write(id, there, &row, row.family.expires_at_ms(&rules)).await;
        match written.map_err(|unread| unread.to_string())? {
            (Written::Conflict(_), there) => read = there,
            (Written::Yes | Written::Unknown | Written::No, _) => return Ok(()),
        }
    }
    Ok(())
}

async fn open(visit: &mut Visit<'_>, issuing: &Issuing, token: &str, proof: Option<Proof>) -> Result<Issued, Refusal> {
    let identity = verified(visit, issuing, token).await?;
    let carrier = if proof.is_some() { Carrier::Dpop } else { Carrier::Bearer };
    visit.identify(identity.clone(), carrier);
    let facts = visit.facts;
    let seat = holding(
        &visit.active.snapshot.rules,
        facts,
        visit.seat.as_ref(),
        &identity.issuer,
        identity.tenant.as_deref(),
    )?;
    let id = FamilyId(crate::serve::gateway::random());
    let mut holder = Holder::of(&identity, proof.map(|proof| proof.thumbprint));
    holder.handles = holder.handles.held_as(FAMILIES, &id.word());
    let rules = rules(issuing, seat.as_ref());
    let family = Family::open(facts.at_ms);
    let expires_at_ms = family.expires_at_ms(&rules);
    let row = Row { family, holder, client: client(visit, issuing) };
    let issued = issue(issuing, id, &row, row.family.generation, facts.at_s(), expires_at_ms)?;
    visit.intent("session.open").await?;
    let families = Families { state: &visit.shared.state, ring: &issuing.ring };
    families.open(id, &row, expires_at_ms).await.map_err(unread)?;
    visit.done("session.opened");
    visit.shared.metrics.tokens().opened();
    Ok(issued)
}

/// Who the issuer's token says, where it is one that we exchange.
async fn verified(visit: &mut Visit<'_>, issuing: &Issuing, token: &str) -> Result<Arc<Identity>, Refusal> {
    let names = &issuing.settings.exchange;
    let claimed = decide::token::peek_issuer(token);
    let mut rings = names.iter().filter_map(|name| visit.active.issuer(name));
    let ring = rings.find(|ring| names.len() == 1 || Some(&*ring.settings().rules.issuer) == claimed.as_deref());
    let now_s = visit.received_s();
    let answer = match ring {
        Some(ring) => ring.verify(token, now_s, Carrier::Bearer).await,
        None => Answer::Credential(Credential::Invalid("no issuer that is exchanged made this token".to_owned())),
    };
    let answer = visit.hold(answer);
    match answer {
        Answer::Credential(Credential::Valid { identity, .. }) if identity.expires_at > now_s => Ok(identity),
        Answer::Credential(Credential::Valid { .. }) => {
            Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionExpired, "the token has expired"))
        }
        Answer::Credential(Credential::Invalid(cause)) => {
            Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionInvalid, cause))
        }
        Answer::Credential(Credential::Expired(cause)) => {
            Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionExpired, cause))
        }
        Answer::Credential(Credential::Revoked(cause) | Credential::Reused(cause)) => {
            Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionRevoked, cause))
        }
        Answer::Credential(Credential::Missing | Credential::Denied(_))
        | Answer::Shown(..)
        | Answer::Quota(_)
        | Answer::Fields(_)
        | Answer::CsrfToken(_) => Err(unavailable("a question was answered with another's answer")),
        Answer::Unavailable(cause) => Err(unavailable(cause)),
    }
}

async fn refresh(
    visit: &mut Visit<'_>,
    issuing: &Issuing,
    token: &str,
    proof: Option<&Proof>,
) -> Result<Issued, Refusal> {
    let Some((id, generation)) = named_by(&issuing.ring, token) else {
        return Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionInvalid, "the refresh token is none of ours"));
    };
    let shared = visit.shared.clone();
    let families = Families { state: &shared.state, ring: &issuing.ring };
    let (asked_ms, client) = (visit.received_ms, client(visit, issuing));
    let mut there = read(&families, id).await?;
    let mut intended = false;
    for _ in 0..TRIES {
        let Some(read) = there.take() else {
            return Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionInvalid, "the family is unknown"));
        };
        let row = &read.row;
        let (identity, seat, rules) = judged(visit, issuing, id, row)?;
        let carrier = if proof.is_some() { Carrier::Dpop } else { Carrier::Bearer };
        visit.identify(identity.clone(), carrier);
        let bound = row.holder.bound_to.as_deref();
        if bound.is_some() && bound != proof.map(|proof| &*proof.thumbprint) {
            let cause = "the family is bound to a key that was not proven";
            return Err(visit.refuse(OAuthError::InvalidProof, Code::SessionInvalid, cause));
        }
        // A family that has ended tells why itself; its own mark would say less.
        if row.family.ended.is_none()
            && let Some(refusal) = visit.ended(&identity, seat.as_ref())
        {
            return Err(match refusal.code {
                Code::GatewayUnavailable => refusal,
                code => visit.refuse(OAuthError::InvalidGrant, code, refusal.cause),
            });
        }
        let step = row.family.present(generation, Moment { asked_ms, now_ms: now_ms() }, &rules);
        let expires_at_ms = row.family.expires_at_ms(&rules);
        let mut written = Written::Yes;
        if let Some(family) = step.row() {
            if !std::mem::replace(&mut intended, true) {
                visit.intent("session.refresh").await?;
            }
            let next = Row { family: family.clone(), client: client.clone(), ..row.clone() };
            (written, there) = families.write(id, &read, &next, expires_at_ms).await.map_err(unread)?;
        }
        match step.conclude(written) {
            Outcome::Grant(generation) => {
                visit.done("session.refreshed");
                return issue(issuing, id, row, generation, visit.facts.at_s(), expires_at_ms);
            }
            Outcome::Again(_) => {}
            Outcome::Unknown => {
                return Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionInvalid, "the family is unknown"));
            }
            // Only now: until its row was written, somebody else may have said what makes this token a good one.
            Outcome::Reused => return Err(reused(visit, id, row, &client).await),
            Outcome::Over(Over::Expired) => {
                return Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionExpired, "the family has expired"));
            }
            Outcome::Over(Over::Ended(Ending::Revoked)) => {
                return Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionRevoked, "the family was ended"));
            }
            Outcome::Over(Over::Ended(Ending::Reused)) => {
                if visit.ended(&identity, seat.as_ref()).is_none() {
                    // Whoever showed the old token has left between the row and the mark. Should this fail too, the next one tries.
                    let _ = visit.end_family(&id.word(), crate::serve::own::Why::Reuse).await;
                }
                let cause = "the family has ended, because one of its tokens was used twice";
                return Err(visit.refuse(OAuthError::InvalidGrant, Code::SessionReused, cause));
            }
            Outcome::Unavailable => return Err(unavailable("the family could not be written")),
            Outcome::Late => {
                return Err(unavailable("the store was so slow that nobody can say whether this is reuse"));
            }
        }
    }
    Err(unavailable("others were always faster"))
}

/// A token came back after its time: the family has ended, and what it opened is closed, on all replicas.
async fn reused(visit: &mut Visit<'_>, id: FamilyId, row: &Row, client: &str) -> Refusal {
    visit.done("session.reused");
    visit.shared.metrics.reused(row.holder.tenant.as_deref());
    let told = visit.end_family(&id.word(), crate::serve::own::Why::Reuse).await;
    let told = if told.is_err() { "; its marks could not be told to all replicas" } else { "" };
    let cause = format!(
        "a refresh token came back after it had been exchanged: last by client {}, now by client {client}{told}",
        row.client
    );
    visit.refuse(OAuthError::InvalidGrant, Code::SessionReused, cause)
}

/// Who the holder of a family is, in which tenant, and by which rules it lives: all as it is now.
fn judged(
    visit: &Visit<'_>,
    issuing: &Issuing,
    id: FamilyId,
    row: &Row,
) -> Result<(Arc<Identity>, Option<Seat>, Rules), Refusal> {
    let holder = &row.holder;
    let seat = holding(
        &visit.active.snapshot.rules,
        visit.facts,
        visit.seat.as_ref(),
        &holder.issuer,
        holder.tenant.as_deref(),
    )?;
    let rules = rules(issuing, seat.as_ref());
    let expires_at = row.family.expires_at_ms(&rules) / 1000;
    let session =
        visit.active.issuer(decide::token::mint::OURS).map(|ring| ring.settings().rules.session_hash(&id.word()));
    Ok((Arc::new(holder.identity(session, expires_at)), seat, rules))
}

/// The platform's rules, with the tenant's bounds where they are stricter.
pub(super) fn rules(issuing: &Issuing, seat: Option<&Seat>) -> Rules {
    let ms = |seconds: Option<u64>| seconds.map(|seconds| seconds.saturating_mul(1000));
    let tenant = seat.map(|seat| &seat.tenant);
    issuing.settings.rules.bounded(tenant.and_then(|t| ms(t.absolute_s)), tenant.and_then(|t| ms(t.idle_s)))
}

fn issue(
    issuing: &Issuing,
    id: FamilyId,
    row: &Row,
    generation: u64,
    now_s: u64,
    expires_at_ms: u64,
) -> Result<Issued, Refusal> {
    let access = issuing.access(&row.holder, id, now_s, expires_at_ms / 1000);
    let (access, life_s) = access.ok_or_else(|| unavailable("no access token could be signed"))?;
    let refresh = issuing.refresh(id, generation).ok_or_else(|| unavailable("there is no key for refresh tokens"))?;
    Ok(Issued { access, life_s, refresh, bound: row.holder.bound_to.is_some() })
}

fn said(issued: &Issued, kind: Option<&str>) -> Made {
    let mut body = object!({
        "access_token": issued.access,
        "token_type": if issued.bound { "DPoP" } else { "Bearer" },
        "expires_in": issued.life_s,
        "refresh_token": issued.refresh,
    });
    if let (Some(kind), Some(body)) = (kind, body.as_object_mut()) {
        body.insert("issued_token_type".to_owned(), kind.into());
    }
    json(StatusCode::OK, &body)
}

fn client(visit: &Visit<'_>, issuing: &Issuing) -> String {
    let agent = visit.headers.get(USER_AGENT).map_or(&[][..], http::HeaderValue::as_bytes);
    issuing.client(visit.facts.client.0, agent)
}

async fn read(families: &Families<'_>, id: FamilyId) -> Result<Option<Read>, Refusal> {
    families.read(id).await.map_err(unread)
}

fn unread(unread: Unread) -> Refusal {
    unavailable(unread.to_string())
}

fn unavailable(cause: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::GatewayUnavailable, cause).retry_after(AGAIN_S)
}

/// The `result` label of a refresh.
fn result(code: Code) -> &'static str {
    match code {
        Code::SessionReused => "reused",
        Code::SessionRevoked => "revoked",
        Code::SessionExpired => "expired",
        Code::GatewayUnavailable => "unavailable",
        _ => "refused",
    }
}
