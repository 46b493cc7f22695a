//! Sessions of browsers as requests meet them: the realm of a host, the cookie, and what becomes of a presented handle.
use crate::config::settings::{Browser, SameSite};
use crate::serve::gateway::Shared;
use crate::serve::metrics::SessionEvent;
use crate::serve::revocation::{Order, Via};
use crate::store::seal::Keyring;
use crate::store::sessions::{Fault, Presented, Realm, Renewing, Sessions};
use decide::facts::Identity;
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::revocation::{OWN_SESSIONS, Target};
use decide::rules::{Rules as Policies, Seat};
use decide::session::browser::{Ending, Rules};
use decide::session::handle::public_id;
use http::HeaderValue;
use http::header::SET_COOKIE;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a session that was read a while ago is not good enough.
pub const OLD: &str = "the store is silent, and what was read of the session before does not do here";

/// What sessions of browsers are held by, under one snapshot.
pub struct Held {
    /// Their settings.
    pub settings: Arc<Browser>,
    ring: Arc<Keyring>,
    rules: Rules,
}

/// A handle that an answer is to hand out.
#[derive(Debug)]
pub struct Hand {
    cookie: HeaderValue,
    /// When it is too late to do so.
    until: Instant,
}

impl Held {
    /// By these settings.
    pub fn new(settings: Arc<Browser>) -> Held {
        let rules = Rules {
            idle_ms: millis(settings.idle),
            absolute_ms: millis(settings.absolute),
            leeway_ms: millis(settings.reuse_leeway),
            every_ms: settings.rotation.every.map(millis),
        };
        Held { ring: Arc::new(Keyring::new(settings.keys.iter())), settings, rules }
    }

    /// What handles and flows are sealed with.
    pub fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// The realm of a host. `seat` is the tenant that the host itself names; `bounds` the one whose rules hold too, where a
    /// route finds its tenant in another way.
    pub fn realm(&self, seat: Option<&Seat>, bounds: Option<&Seat>) -> Realm {
        let bounded = |rules: Rules, seat: Option<&Seat>| {
            let ms = |seconds: Option<u64>| seconds.map(|seconds| seconds.saturating_mul(1000));
            seat.map_or(rules, |seat| rules.bounded(ms(seat.tenant.idle_s), ms(seat.tenant.absolute_s)))
        };
        Realm {
            ring: self.ring.clone(),
            tenant: seat.map_or_else(|| Arc::from(""), |seat| seat.id.clone()),
            rules: bounded(bounded(self.rules, seat), bounds),
            renewing: Renewing {
                step_up: self.settings.rotation.on_step_up,
                role_change: self.settings.rotation.on_role_change,
            },
        }
    }

    /// The realm of a request whose route has found this tenant.
    pub fn realm_of(&self, policies: &Policies, request: &Request, found: Option<&Seat>) -> Result<Realm, Refusal> {
        // What the host names is what the route has found, nearly always.
        match found.filter(|seat| matches!(seat.source, "host" | "custom-domain")) {
            Some(seat) => Ok(self.realm(Some(seat), None)),
            None => Ok(self.realm(policies.seat_of_host(request)?.as_ref(), found)),
        }
    }

    /// Whether answers of this route may grant sessions.
    pub fn grants(&self, route: &str) -> bool {
        self.settings.grant.as_ref().is_some_and(|grant| grant.routes.iter().any(|known| **known == *route))
    }

    /// The session whose handle a request carries, good or not.
    pub fn presented(
        &self,
        sessions: &Sessions,
        policies: &Policies,
        request: &Request,
        headers: &http::HeaderMap,
    ) -> Option<[u8; 32]> {
        let lines = headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes);
        let text = decide::cookie::find(lines, &self.settings.cookie).ok().flatten()?;
        let realm = self.realm(policies.seat_of_host(request).ok()?.as_ref(), None);
        sessions.key_of(&realm, text)
    }

    /// The cookie with this handle. It has no `Max-Age`: how long a session lasts is decided here, and the browser's copy ends
    /// with the browser.
    pub fn cookie(&self, handle: &str) -> Option<HeaderValue> {
        self.set_cookie(handle, "")
    }

    /// What has the browser forget the cookie.
    pub fn no_cookie(&self) -> Option<HeaderValue> {
        self.set_cookie("", "; Max-Age=0")
    }

    fn set_cookie(&self, value: &str, more: &str) -> Option<HeaderValue> {
        let same_site = match self.settings.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
        };
        let name = &self.settings.cookie;
        let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{more}");
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A handle for an answer that begins soon: a late one would put it back over a newer one.
    pub fn hand(&self, handle: &str) -> Option<Hand> {
        let until = Instant::now() + Duration::from_millis(self.rules.carry_ms());
        Some(Hand { cookie: self.cookie(handle)?, until })
    }

    /// Takes away what an application says for our cookies: nobody else makes handles, or says how a sign-in stands.
    pub fn guard(&self, fields: &mut http::HeaderMap) {
        if !fields.contains_key(SET_COOKIE) {
            return;
        }
        let ours = |line: &HeaderValue| {
            let line = line.as_bytes();
            let name = line.split(|b| matches!(b, b'=' | b';')).next().unwrap_or_default();
            let name = name.trim_ascii();
            name.eq_ignore_ascii_case(self.settings.cookie.as_bytes()) || decide::cookie::is_own(name)
        };
        if fields.get_all(SET_COOKIE).iter().any(ours) {
            let kept: Vec<HeaderValue> =
                fields.get_all(SET_COOKIE).iter().filter(|line| !ours(line)).cloned().collect();
            fields.remove(SET_COOKIE);
            for line in kept {
                fields.append(SET_COOKIE, line);
            }
        }
    }
}

impl Hand {
    /// Adds the cookie to an answer, in time and where no cache shares it. An answer that says nothing of caches becomes
    /// private; one that may be shared carries none, and the next answer does.
    pub fn give(self, fields: &mut http::HeaderMap) {
        use http::header::CACHE_CONTROL;
        if Instant::now() > self.until {
            return;
        }
        let mut said = fields.get_all(CACHE_CONTROL).iter().peekable();
        if said.peek().is_none() {
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        } else {
            let keeps = |line: &HeaderValue| {
                let line = line.to_str().unwrap_or_default().to_ascii_lowercase();
                line.split(',').map(str::trim).any(|one| one == "private" || one == "no-store")
            };
            if !said.any(keeps) {
                return;
            }
        }
        fields.append(SET_COOKIE, self.cookie);
    }
}

/// Judges what a cookie holds, as [`Sessions::present`] does, for a client at this time. A theft that comes to light ends the
/// session, is counted, and closes what the session has open, on all replicas, also where whoever brought it to light does not
/// wait for the answer: else a thief could leave before anybody knows.
pub async fn present(
    shared: &Arc<Shared>,
    realm: &Realm,
    text: &str,
    (client, now_ms): (IpAddr, u64),
) -> Result<Presented, Fault> {
    let presented = shared.sessions.present(realm, text, client, now_ms).await?;
    if let Presented::Reused { identity, key, .. } = &presented {
        let (shared, realm, identity, key) = (shared.clone(), realm.clone(), identity.clone(), *key);
        let ending = tokio::spawn(async move {
            if shared.sessions.end(&realm, key, Ending::Reused).await? {
                shared.metrics.session(SessionEvent::Reused);
                shared.metrics.session_reused(identity.tenant.as_deref());
            }
            proclaim(&shared, &public_id(&key), "system", Via::Reuse, now_ms).await;
            Ok::<(), Fault>(())
        });
        // A task that ended by itself has let nobody in either.
        if let Ok(Err(fault)) = ending.await {
            return Err(fault);
        }
    }
    Ok(presented)
}

/// Ends the session that a browser had before this user signed in, with whatever it has open. The new one stands, whatever
/// becomes of the old one.
pub async fn replace(shared: &Shared, realm: &Realm, before: [u8; 32], by: &Identity, now_ms: u64) {
    match shared.sessions.end(realm, before, Ending::Replaced).await {
        Ok(true) => {
            proclaim(shared, &public_id(&before), &by.subject.0, Via::SignOut, now_ms).await;
            shared.metrics.session(SessionEvent::Replaced);
        }
        Ok(false) => {}
        Err(fault) => tracing::warn!(%fault, "a session that was replaced goes on until it is idle"),
    }
}

/// Tells all replicas that a session has ended, and has closed what was opened by it. Its row says so already, so that this
/// process and whoever reads it anew refuses it, whatever becomes of this.
pub async fn proclaim(shared: &Shared, id: &str, actor: &str, via: Via, at_ms: u64) {
    let targets = [Target::Session { issuer: OWN_SESSIONS, id }];
    // What goes wrong is logged where it does.
    let _ = shared.end(Order { targets: &targets, at_ms, actor, via }).await;
}

/// What a request is told while the store is silent: come again, you are not signed out.
pub fn unavailable(fault: &Fault) -> Refusal {
    Refusal::new(Code::GatewayUnavailable, fault.to_string()).retry_after(5)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
