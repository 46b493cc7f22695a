//! A service of the operator's that says who somebody is, as nginx's `auth_request` asks one.
use super::{Way, invalid};
use crate::config::settings::ExtAuth;
use crate::serve::callout::Reply;
use decide::facts::{Answer, Carrier, Credential, Identity, Person};
use decide::revocation::{Handles, Source};
use decide::rules::is_tenant_id;
use http::header::{COOKIE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// Longest name of a user.
const SUBJECT: usize = 256;
/// Most roles, and the longest.
const ROLES: (usize, usize) = (64, 64);

/// Asks about a request; `None` where it has none of the headers that the service decides by.
pub(super) async fn verify(way: Way<'_>, name: &str) -> Option<Answer> {
    let Some(callout) = way.active.callout(name) else { return Some(invalid("the service is gone")) };
    let settings = &callout.settings;
    let mut headers = HeaderMap::with_capacity(16);
    for name in &settings.send {
        way.headers.get_all(name).iter().for_each(|value| {
            headers.append(name.clone(), value.clone());
        });
    }
    if headers.is_empty() {
        return None;
    }
    // Sent by browsers on their own: then whoever is meant must have been on our pages.
    let carrier = if headers.contains_key(COOKIE) { Carrier::Cookie } else { Carrier::ExtAuth };
    about(way, &mut headers);
    Some(match callout.ask(headers).await {
        Err(cause) => Answer::Unavailable(cause),
        Ok(reply) => judge(settings, &reply, way.facts.at_s(), carrier),
    })
}

/// What the request is, in the headers that such services read.
fn about(way: Way<'_>, headers: &mut HeaderMap) {
    let request = way.request;
    let target = request.target();
    let scheme = if way.facts.tls.is_some() { "https" } else { "http" };
    let client = way.facts.client.0.to_canonical().to_string();
    for (name, value) in [
        ("x-original-method", request.method.as_str()),
        ("x-original-uri", &target),
        ("x-forwarded-host", &request.host),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-for", &client),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if let Ok(id) = HeaderValue::from_bytes(&way.facts.id.text()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
}

fn judge(settings: &ExtAuth, reply: &Reply, now_s: u64, carrier: Carrier) -> Answer {
    let name = &settings.name;
    match reply.status {
        StatusCode::UNAUTHORIZED => return invalid(format!("`{name}` says 401")),
        StatusCode::FORBIDDEN => return Answer::Credential(Credential::Denied(format!("`{name}` says 403"))),
        status if !status.is_success() => return Answer::Unavailable(format!("`{name}` says {}", status.as_u16())),
        _ => {}
    }
    match identity(settings, &reply.headers, now_s) {
        Ok(identity) => Answer::Credential(Credential::Valid { identity: Arc::new(identity), carrier }),
        // Its mistake, not the caller's.
        Err(cause) => Answer::Unavailable(format!("`{name}`: {cause}")),
    }
}

fn identity(settings: &ExtAuth, headers: &HeaderMap, now_s: u64) -> Result<Identity, String> {
    let subject = one(headers, &settings.subject)?.filter(|text| !text.is_empty() && text.len() <= SUBJECT);
    let subject = subject.ok_or_else(|| format!("`{}` of its answer names no user", settings.subject))?;
    let tenant = match &settings.tenant {
        Some(name) => one(headers, name)?.filter(|tenant| !tenant.is_empty()),
        None => None,
    };
    if let Some(tenant) = tenant.filter(|tenant| !is_tenant_id(tenant)) {
        return Err(format!("`{}` is no tenant", tenant.chars().take(64).collect::<String>()));
    }
    let roles = match &settings.roles {
        Some(name) => one(headers, name)?.unwrap_or_default(),
        None => "",
    };
    let roles: Vec<Arc<str>> = roles.split(',').map(str::trim).filter(|role| !role.is_empty()).map(Arc::from).collect();
    if roles.len() > ROLES.0 || roles.iter().any(|role| role.len() > ROLES.1) {
        return Err("more or longer roles than anybody has".to_owned());
    }
    let source = Source { issuer: &settings.name, subject, tenant, ..Source::default() };
    Ok(Identity {
        issuer: settings.name.clone(),
        subject: Person(Arc::from(subject)),
        tenant: tenant.map(Arc::from),
        roles,
        session: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        issued_at: now_s,
        not_before: 0,
        expires_at: now_s.saturating_add(settings.max_age_s),
        bound_to: None,
        scopes: None,
        handles: Handles::of(&source),
    })
}

/// A header that stands once or not at all, in visible ASCII and spaces.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("`{name}` of its answer is repeated"));
    }
    let text = value.to_str().map_err(|_| format!("`{name}` of its answer is not ASCII"))?;
    Ok(Some(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings() -> ExtAuth {
        let name = |text: &'static str| HeaderName::from_static(text);
        ExtAuth {
            name: "app".into(),
            url: http::Uri::from_static("http://127.0.0.1/auth"),
            ca: None,
            send: vec![COOKIE],
            subject: name("x-auth-user"),
            tenant: Some(name("x-auth-tenant")),
            roles: Some(name("x-auth-roles")),
            timeout: Duration::from_secs(1),
            max_age_s: 60,
            max_in_flight: 1,
        }
    }

    fn said(status: u16, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let reply = Reply { status: StatusCode::from_u16(status).unwrap(), headers: map };
        match judge(&settings(), &reply, 1000, Carrier::Cookie) {
            Answer::Credential(Credential::Valid { identity, .. }) => {
                let Identity { subject, tenant, roles, expires_at, .. } = &*identity;
                format!("{} of {} with {roles:?} until {expires_at}", subject.0, tenant.as_deref().unwrap_or("none"))
            }
            Answer::Credential(Credential::Invalid(cause)) => format!("401: {cause}"),
            Answer::Credential(Credential::Denied(cause)) => format!("403: {cause}"),
            Answer::Unavailable(cause) => format!("503: {cause}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_has_one_meaning() {
        let user = ("x-auth-user", "ann");
        for (status, headers, expected) in [
            (
                200,
                &[user, ("x-auth-tenant", "acme"), ("x-auth-roles", "a, b,,")][..],
                "ann of acme with [\"a\", \"b\"] until 1060",
            ),
            (204, &[user], "ann of none with [] until 1060"),
            (200, &[user, ("x-auth-tenant", "")], "ann of none with [] until 1060"),
            (401, &[user], "401: `app` says 401"),
            (403, &[user], "403: `app` says 403"),
            (302, &[user], "503: `app` says 302"),
            (500, &[user], "503: `app` says 500"),
            (407, &[user], "503: `app` says 407"),
            (200, &[], "503: `app`: `x-auth-user` of its answer names no user"),
            (200, &[("x-auth-user", " ")], "503: `app`: `x-auth-user` of its answer names no user"),
            (200, &[user, user], "503: `app`: `x-auth-user` of its answer is repeated"),
            (200, &[user, ("x-auth-tenant", "ac/me")], "503: `app`: `ac/me` is no tenant"),
            (200, &[("x-auth-user", "\u{e9}")], "503: `app`: `x-auth-user` of its answer is not ASCII"),
        ] {
            assert_eq!(said(status, headers), expected, "{status} {headers:?}");
        }
        let many = vec!["r"; 65].join(",");
        assert_eq!(said(200, &[user, ("x-auth-roles", &many)]), "503: `app`: more or longer roles than anybody has");
        assert!(said(200, &[("x-auth-user", &"u".repeat(257))]).starts_with("503"));
    }
}
