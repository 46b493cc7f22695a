//! Sessions that an application grants: it has signed a user in by itself, and says so in a header of its answer.
//!
//! The header is taken out of every answer, whatever the route. It counts on routes that say `grants: session` alone, and
//! there on answers that are no errors. What it says is believed as an issuer's token is, no more: the tenant must be
//! that of the host, and one that lists its issuers must list this one.
use crate::serve::context::Context;
use crate::serve::gateway::{Gateway, Shared};
use crate::serve::metrics::SessionEvent;
use crate::serve::sessions::{Held, replace, unavailable};
use crate::store::sessions::Realm;
use decide::facts::{Identity, Person};
use decide::guards::own::bind;
use decide::refusal::{Code, Refusal};
use decide::revocation::{Handles, Source};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest text in a grant, in bytes, and most texts in a list of it.
const MOST: usize = 256;

/// What the header says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    subject: String,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    /// Seconds since the epoch; now where absent.
    #[serde(default)]
    auth_time: Option<u64>,
    #[serde(default)]
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
}

/// A session that is to be opened before the answer goes out.
pub struct Granted {
    shared: Arc<Shared>,
    held: Arc<Held>,
    realm: Realm,
    identity: Identity,
    client: IpAddr,
    now_ms: u64,
    /// The session that the browser had.
    before: Option<[u8; 32]>,
}

/// A session that was opened: its cookie, and whose it is.
pub struct Cookie {
    /// The cookie.
    pub value: HeaderValue,
    /// Whose it is.
    pub identity: Arc<Identity>,
}

impl Gateway {
    /// Takes the header of grants out of an application's answer; what it grants, where it may. Refuses with
    /// `upstream.unreachable` where it may and what it says is no grant, or not for this host.
    pub fn granted(
        &self,
        status: StatusCode,
        fields: &mut HeaderMap,
        ctx: &Context,
    ) -> Result<Option<Granted>, Refusal> {
        let Some(held) = ctx.active.held() else { return Ok(None) };
        let Some(grant) = &held.settings.grant else { return Ok(None) };
        if !fields.contains_key(&grant.header) {
            return Ok(None);
        }
        let lines: Vec<HeaderValue> = fields.get_all(&grant.header).iter().cloned().collect();
        fields.remove(&grant.header);
        let Some(route) = ctx.found.as_ref().map(|found| &found.route) else { return Ok(None) };
        if !grant.routes.contains(&route.name) || !(status.is_success() || status.is_redirection()) {
            return Ok(None);
        }
        let nonsense = |cause: &str| Refusal::new(Code::UpstreamUnreachable, format!("a session's grant: {cause}"));
        let [line] = lines.as_slice() else { return Err(nonsense("it stands twice")) };
        let (Some(request), Some(facts)) = (&ctx.request, &ctx.facts) else { return Err(nonsense("no request")) };
        let policies = &ctx.active.snapshot.rules;
        let seat = policies.seat_of_host(request)?;
        let now_s = facts.at_ms / 1000;
        let identity = read(line.as_bytes(), &grant.issuer, seat.as_ref().map(|seat| &*seat.id), now_s);
        let identity = identity.map_err(|cause| nonsense(&cause))?;
        bind(seat.as_ref(), identity.tenant.as_deref(), &identity.issuer)
            .map_err(|refusal| nonsense(&refusal.cause))?;
        Ok(Some(Granted {
            shared: self.shared.clone(),
            held: held.clone(),
            realm: held.realm(seat.as_ref(), None),
            identity,
            client: facts.client.0,
            now_ms: facts.at_ms,
            before: ctx.presented,
        }))
    }
}

impl Granted {
    /// Opens the session, in place of the one that the browser had.
    pub async fn open(self) -> Result<Cookie, Refusal> {
        let Granted { shared, held, realm, identity, client, now_ms, before } = self;
        let opened = shared.sessions.open(&realm, &identity, Some(client), None, now_ms).await;
        let opened = opened.map_err(|fault| unavailable(&fault))?;
        if let Some(before) = before {
            replace(&shared, &realm, before, &identity, now_ms).await;
        }
        shared.metrics.session(SessionEvent::Opened);
        let none = || Refusal::new(Code::GatewayUnavailable, "a handle that is no cookie");
        let value = held.cookie(&opened.handle).ok_or_else(none)?;
        Ok(Cookie { value, identity: opened.identity })
    }
}

/// Reads a grant; the error says what is wrong with it.
fn read(line: &[u8], issuer: &Arc<str>, tenant: Option<&str>, now_s: u64) -> Result<Identity, String> {
    let said: Said = serde_json::from_slice(line).map_err(|error| format!("it is not the JSON of one: {error}"))?;
    let texts = [Some(&said.subject), said.tenant.as_ref(), said.acr.as_ref()];
    let mut texts = texts.into_iter().flatten().chain(&said.roles).chain(&said.amr);
    if said.roles.len() > MOST || said.amr.len() > MOST || !texts.all(|text| (1..=MOST).contains(&text.len())) {
        return Err("a text in it is empty or too long, or there are too many".to_owned());
    }
    if said.auth_time.is_some_and(|at| at > now_s.saturating_add(60)) {
        return Err("its `auth_time` is in the future".to_owned());
    }
    let tenant = said.tenant.as_deref().or(tenant);
    let source = Source { issuer, subject: &said.subject, tenant, ..Source::default() };
    let list = |texts: &[String]| texts.iter().map(|text| Arc::from(text.as_str())).collect();
    Ok(Identity {
        issuer: issuer.clone(),
        handles: Handles::of(&source),
        subject: Person(Arc::from(said.subject.as_str())),
        tenant: tenant.map(Arc::from),
        roles: list(&said.roles),
        session: None,
        auth_time: Some(said.auth_time.unwrap_or(now_s)),
        acr: said.acr.as_deref().map(Arc::from),
        amr: list(&said.amr),
        issued_at: now_s,
        not_before: 0,
        expires_at: u64::MAX,
        bound_to: None,
        scopes: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        match read(line.as_bytes(), &"app".into(), Some("acme"), 1_000) {
            Ok(identity) => format!("{} of {:?}, {:?}", identity.subject.0, identity.tenant, identity.roles),
            Err(cause) => cause.split(':').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn a_grant_is_json_of_known_members() {
        let long = format!("{{\"subject\":\"{}\"}}", "x".repeat(257));
        for (line, expected) in [
            (r#"{"subject":"ada"}"#, "ada of Some(\"acme\"), []"),
            (r#"{"subject":"ada","tenant":"globex","roles":["buyer"]}"#, "ada of Some(\"globex\"), [\"buyer\"]"),
            (r#"{"subject":""}"#, "a text in it is empty or too long, or there are too many"),
            (&long, "a text in it is empty or too long, or there are too many"),
            (r#"{"subject":"ada","auth_time":9999}"#, "its `auth_time` is in the future"),
            (r#"{"subject":"ada","admin":true}"#, "it is not the JSON of one"),
            (r#"{"roles":[]}"#, "it is not the JSON of one"),
            ("ada", "it is not the JSON of one"),
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
    }
}
