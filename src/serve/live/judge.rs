//! An exchange that is still running, and what rules that came later say about it.
use super::leash::Leash;
use crate::config::settings::{AppSessionStore, AskedOfClients, Snapshot};
use crate::serve::client_certificates::{Presented, Worth, demand, objection};
use crate::serve::key_sets::at_home;
use crate::serve::listener::ConnInfo;
use crate::serve::revocation;
use crate::store::key_sets;
use crate::store::revocations::Revocations;
use decide::deliberation::{Deliberation, Findings, Step};
use decide::facts::{Answer, Bound, Carrier, Credential, Facts, Identity, Question, Reading};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::rules::{Accept, Access, Keys, Resolve, Route, Rules};
use decide::token::mint::OURS;
use http::HeaderName;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What must be known of a running exchange to judge it again. No secret is in it: the credential was verified, and is
/// not kept.
#[derive(Debug)]
pub struct Exchange {
    request: Request,
    facts: Facts,
    /// The certificate of its connection.
    presented: Option<Arc<Presented>>,
    caller: Option<(Arc<Identity>, Carrier)>,
    tenant: Option<Arc<str>>,
    /// Whether a double-submit token was shown.
    csrf_token: bool,
    /// Headers that named a tenant when the request came.
    named: Vec<(HeaderName, String)>,
    /// Generation of the snapshot that last permitted it.
    generation: AtomicU64,
    /// When what opened it is over, seconds since the epoch.
    ends_at_s: AtomicU64,
    /// By which it can be ended.
    pub leash: Arc<Leash>,
}

impl Exchange {
    /// Of a request that was permitted under `rules`; `header` reads a header that stands exactly once.
    pub fn new<'h>(
        (request, conn): (&Request, &ConnInfo),
        facts: &Facts,
        findings: &Findings,
        rules: (&Rules, u64),
        header: impl Fn(&HeaderName) -> Option<&'h str>,
        leash: Arc<Leash>,
    ) -> Exchange {
        let named = |rule: &Resolve| match rule {
            Resolve::Header(name) => header(name).map(|value| (name.clone(), value.to_owned())),
            Resolve::Host(_) | Resolve::CustomDomain | Resolve::Path(_) => None,
        };
        Exchange {
            request: request.clone(),
            facts: facts.clone(),
            presented: conn.client_certificate.clone(),
            caller: findings.identity.clone().zip(findings.carrier),
            tenant: findings.seat.as_ref().map(|seat| seat.id.clone()),
            csrf_token: findings.csrf_token,
            named: rules.0.resolve.iter().filter_map(named).collect(),
            generation: AtomicU64::new(rules.1),
            ends_at_s: AtomicU64::new(findings.identity.as_ref().map_or(u64::MAX, |identity| identity.expires_at)),
            leash,
        }
    }

    /// What opened it is over at this time, seconds since the epoch, if not sooner.
    pub fn end_by(&self, at_s: u64) {
        self.ends_at_s.fetch_min(at_s, Ordering::Relaxed);
    }

    /// Whether a snapshot has not been asked about it yet; from now on it has.
    pub fn is_new_to(&self, generation: u64) -> bool {
        self.generation.fetch_max(generation, Ordering::Relaxed) < generation
    }

    /// Why `snapshot` would not have permitted the request, at the moment at which it came: nothing gets old by a
    /// reload. Limits are not counted again, and the credential is not verified again; whether its issuer may still
    /// vouch for it is asked.
    pub fn judge(&self, snapshot: &Snapshot) -> Result<(), Refusal> {
        self.judge_by(snapshot, self.caller.as_ref())
    }

    /// The same, as if `identity` had come in the way in which its caller has.
    pub fn judge_as(&self, snapshot: &Snapshot, identity: Identity) -> Result<(), Refusal> {
        let caller = self.caller.as_ref().map(|(_, carrier)| (Arc::new(identity), *carrier));
        self.judge_by(snapshot, caller.as_ref())
    }

    fn judge_by(&self, snapshot: &Snapshot, caller: Option<&(Arc<Identity>, Carrier)>) -> Result<(), Refusal> {
        let rules = &*snapshot.rules;
        demand(self.asked(snapshot), self.presented.as_deref(), self.facts.at_s())?;
        // A header that names a tenant only now was not kept: the tenant that was served is what it must have named.
        let header = |name: &HeaderName| match self.named.iter().find(|(known, _)| known == name) {
            Some((_, value)) => Some(value.as_str()),
            None => self.tenant.as_deref(),
        };
        let found = rules.find(&self.request, header)?;
        let mut deliberation = Deliberation::new(rules, &self.request, &self.facts, &found);
        let mut answer = None;
        loop {
            match deliberation.proceed(answer.take()) {
                Step::Ask(Question::Quota(_)) => answer = Some(Answer::Quota(Reading::default())),
                Step::Ask(Question::Fields) => answer = Some(Answer::Fields(Ok(()))),
                // The token itself is not kept.
                Step::Ask(Question::CsrfToken) if self.csrf_token => answer = Some(Answer::CsrfToken(Ok(()))),
                Step::Ask(Question::CsrfToken) => {
                    let refusal = Refusal::new(Code::CsrfUnproven, "no token was asked for when the request came");
                    answer = Some(Answer::CsrfToken(Err(refusal)));
                }
                Step::Ask(Question::Credential) => {
                    answer = Some(self.credential(&found.route, snapshot, caller));
                }
                Step::Permit(_) => return Ok(()),
                Step::Refuse(refusal) => return Err(refusal),
                Step::Grant => return Err(Refusal::new(Code::GatewayUnavailable, "a preflight does not last")),
            }
        }
    }

    /// What its listener asks of clients.
    fn asked<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s AskedOfClients> {
        let listener = snapshot.listeners.iter().find(|listener| listener.name == self.facts.listener)?;
        listener.client_certificates.as_deref()
    }

    fn credential(&self, route: &Route, snapshot: &Snapshot, caller: Option<&(Arc<Identity>, Carrier)>) -> Answer {
        if let Some((identity, carrier)) = caller {
            let (presented, now_s) = (self.presented.as_deref(), self.facts.at_s());
            let accepted = |name: &str| match &route.access {
                Access::Public { .. } => false,
                Access::Session(rules) => rules.accept.iter().any(|accept| accept.fits(name, *carrier)),
            };
            if *carrier == Carrier::Certificate {
                let certificates = snapshot.client_certificates.get(&identity.issuer);
                let certificates = certificates.filter(|_| accepted(&identity.issuer));
                return match presented.zip(certificates).map(|(shown, of)| shown.worth(of, now_s)) {
                    Some(Worth::Decided(answer)) => answer,
                    Some(Worth::Other(cause)) => Answer::Credential(Credential::Invalid(cause)),
                    None => Answer::Credential(Credential::Missing),
                };
            }
            if let Some(Bound::Certificate(thumbprint)) = &identity.bound_to
                && let Some(answer) = objection(self.asked(snapshot), presented, thumbprint, now_s)
            {
                return answer;
            }
        }
        let credential = vouched(route, snapshot, caller);
        if let Credential::Valid { identity, carrier: Carrier::ApiKey } = &credential {
            // A rotation has given the key an end.
            self.end_by(identity.expires_at);
        }
        Answer::Credential(credential)
    }

    /// What it asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Who opened it, where somebody is known.
    pub fn caller(&self) -> Option<&Identity> {
        self.caller.as_ref().map(|(identity, _)| &**identity)
    }

    /// Whether whoever opened it is out since.
    pub fn revoked(&self, revocations: &Revocations) -> Option<Refusal> {
        let (identity, _) = self.caller.as_ref()?;
        revocations.ended(identity, self.tenant.as_deref()).map(revocation::refusal)
    }

    /// Whether the session that opened it is over.
    pub fn expired(&self, now_s: u64) -> Option<Refusal> {
        let over = self.ends_at_s.load(Ordering::Relaxed) <= now_s;
        over.then(|| Refusal::new(Code::SessionExpired, "the session that opened it is over"))
    }
}

/// Whoever opened an exchange, as far as their issuer may still vouch for them.
fn vouched(route: &Route, snapshot: &Snapshot, caller: Option<&(Arc<Identity>, Carrier)>) -> Credential {
    let Some((identity, carrier)) = caller else { return Credential::Missing };
    let accepted = match &route.access {
        Access::Public { .. } => false,
        Access::Session(rules) => {
            // Our own access tokens pass on the word of others.
            let ours = identity.handles.is_held() && matches!(carrier, Carrier::Bearer | Carrier::Dpop);
            let voucher = if ours { OURS } else { &*identity.issuer };
            let same = |accept: &&Accept| accept.fits(voucher, *carrier);
            if *carrier == Carrier::ApiKey {
                let places = rules.accept.iter().filter(same).filter_map(|accept| match accept {
                    Accept::ApiKey { keys, .. } => Some(keys),
                    Accept::Bearer { .. }
                    | Accept::Cookie { .. }
                    | Accept::Session { .. }
                    | Accept::Dpop { .. }
                    | Accept::AppSession { .. }
                    | Accept::ExtAuth { .. }
                    | Accept::Certificate { .. } => None,
                });
                return key_holder(identity, places, snapshot);
            }
            rules.accept.iter().any(|accept| same(&accept))
        }
    };
    if !accepted {
        return Credential::Missing;
    }
    let grants = snapshot.sessions.browser.as_ref().and_then(|browser| browser.grant.as_ref());
    let granted = grants.is_some_and(|grant| grant.issuer == identity.issuer);
    let store = |store: &Arc<AppSessionStore>| store.sessions.name == identity.issuer;
    let service = snapshot.ext_auth.iter().any(|service| service.name == identity.issuer)
        || snapshot.app_sessions.iter().any(store);
    if !service && !granted && !snapshot.issuers.iter().any(|issuer| issuer.rules.name == identity.issuer) {
        return Credential::Invalid("the issuer is gone".to_owned());
    }
    Credential::Valid { identity: identity.clone(), carrier: *carrier }
}

/// Who holds the API key now by which an exchange was opened: its entry in a file may have been changed, revoked or removed; what
/// became of one in the state engine is told by marks.
fn key_holder<'a>(
    identity: &Arc<Identity>,
    mut places: impl Iterator<Item = &'a Keys>,
    snapshot: &Snapshot,
) -> Credential {
    let id = identity.session.as_deref().unwrap_or_default();
    let key = places.find_map(|keys| match keys {
        Keys::File(file) => {
            let key = snapshot.api_keys.get(&**file)?.key(id).filter(|key| key.is_of(identity))?;
            Some((&key.identity, key.revoked))
        }
        Keys::State(set) => key_sets::is_of(set, identity).then_some((identity, false)),
    });
    match key.map(|(identity, revoked)| at_home(&snapshot.rules, identity).map(|()| (identity, revoked))) {
        None => Credential::Invalid("the API key is gone".to_owned()),
        Some(Err(cause)) => Credential::Invalid(cause.to_owned()),
        Some(Ok((_, true))) => Credential::Revoked("the API key was revoked".to_owned()),
        Some(Ok((identity, false))) => Credential::Valid { identity: identity.clone(), carrier: Carrier::ApiKey },
    }
}
