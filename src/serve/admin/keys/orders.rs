//! Carries out orders about API keys: each is in the audit log before it is done, and durable before it is answered.
use super::{Demand, Receipt, Row, Who, Wish};
use crate::serve::active::Active;
use crate::serve::admin::sessions::actor;
use crate::serve::api_keys::draw;
use crate::serve::gateway::Shared;
use crate::serve::key_sets::Named;
use crate::serve::revocation::{Order, Via};
use crate::store::key_sets::{Content, Fault, Hash, handle};
use crate::store::key_uses;
use decide::api_key;
use decide::facts::Person;
use decide::policy::nearest;
use decide::record::{Event, KeyChange};
use decide::revocation::Target;
use decide::rules::{API_KEY, Rules};
use http::StatusCode;

/// Longest name and subject, in bytes.
const LONGEST: usize = 256;
/// Most roles of a key.
const MOST_ROLES: usize = 64;
/// Most scopes of a key.
const MOST_SCOPES: usize = 64;

/// Why an order was not carried out: the status, and words for the operator.
#[derive(Debug)]
pub(super) struct Undone(pub StatusCode, pub String);

/// Somebody's order about a set.
#[derive(Clone, Copy)]
struct Desk<'a> {
    shared: &'a Shared,
    named: &'a Named,
    actor: &'a str,
    now_ms: u64,
}

/// Carries an order out.
pub(super) async fn obey(
    shared: &Shared,
    active: &Active,
    named: &Named,
    demand: &Demand,
    now_ms: u64,
) -> Result<Receipt, Undone> {
    let actor = actor(demand.actor.as_deref()).map_err(bad)?;
    let (desk, rules) = (Desk { shared, named, actor, now_ms }, &active.snapshot.rules);
    match &demand.wish {
        Wish::List => desk.list().await,
        Wish::New(who) => {
            let (id, key) = desk.fresh()?;
            let hash = Hash::Hmac(named.settings.hash(&key));
            let content = desk.content(&id, who, hash, rules)?;
            desk.add(&content, KeyChange::New).await?;
            Ok(Receipt::Made { key, id })
        }
        Wish::Rotate { id, overlap_s } => desk.rotate(id, *overlap_s).await,
        Wish::Revoke { id } => desk.revoke(id).await,
        Wish::Import { id, hash, who } => {
            if !api_key::is_bcrypt(hash) || !api_key::is_imported_id(id) || id.len() > LONGEST {
                let (cost, least) = (api_key::MAX_COST, api_key::MIN_IMPORTED);
                let hint =
                    format!("a cost of at most {cost}, for a key of which at least {least} characters are its id");
                return Err(bad(format!("this is no bcrypt hash that can be used\n  hint: write `$2b$…` with {hint}")));
            }
            let content = Content { imported: true, ..desk.content(id, who, Hash::Bcrypt(hash.clone()), rules)? };
            desk.add(&content, KeyChange::Import).await?;
            Ok(Receipt::Imported)
        }
    }
}

impl Desk<'_> {
    async fn list(self) -> Result<Receipt, Undone> {
        let sets = &self.shared.key_sets;
        let all = sets.list(&self.named.shelf).await.map_err(silent)?;
        let mut uses = key_uses::known(&self.shared.state).await.map_err(|fault| silent(fault.into()))?;
        for (place, at_s) in sets.uses() {
            let known = uses.entry(place).or_default();
            *known = at_s.max(*known);
        }
        let now_s = self.now_ms / 1000;
        let row = |key: Content| Row {
            state: key.state(now_s).to_owned(),
            created: time(key.created_s),
            expires: key.expires_s.map(time),
            revoked: key.revoked_s.map(time),
            last_used: uses.get(&self.named.settings.use_place(&key.id)).copied().map(time),
            id: key.id,
            name: key.name,
            subject: Some(key.subject),
            tenant: key.tenant,
            roles: key.roles,
            scopes: key.scopes,
            successor: key.successor,
        };
        Ok(Receipt::Keys(all.into_iter().map(row).collect()))
    }

    async fn rotate(self, id: &str, overlap_s: u64) -> Result<Receipt, Undone> {
        let (sets, shelf, now_s) = (&self.shared.key_sets, &self.named.shelf, self.now_ms / 1000);
        let old = sets.content(shelf, id).await.map_err(silent)?.ok_or_else(|| self.unknown(id))?;
        self.can_rotate(&old)?;
        let (successor, key) = self.fresh()?;
        let until_s = now_s.saturating_add(overlap_s);
        let next = Content {
            id: successor.clone(),
            hash: Hash::Hmac(self.named.settings.hash(&key)),
            imported: false,
            created_s: now_s,
            // It lives as long as the old one was made for.
            expires_s: old.expires_s.map(|at_s| now_s.saturating_add(at_s.saturating_sub(old.created_s))),
            ..old.clone()
        };
        self.told(&old, KeyChange::Rotate, Some(&successor))?;
        // The successor first: a key that nobody was told does no harm, and an old one without successor would.
        if !sets.add(shelf, &next).await.map_err(silent)? {
            return Err(silent(Fault::Busy));
        }
        let changed = sets.change(shelf, id, |content| {
            if content.revoked_s.is_some() || content.successor.is_some() {
                return false;
            }
            content.successor = Some(successor.clone());
            content.expires_s = Some(content.expires_s.map_or(until_s, |at_s| at_s.min(until_s)));
            true
        });
        match changed.await {
            Ok(Some(content)) if content.successor.as_ref() == Some(&successor) => {
                let until = content.expires_s.map_or_else(String::new, time);
                // What the old key has open ends with it, on all replicas.
                let place = shelf.place(id).map_err(|error| silent(error.into()))?;
                if let Err(error) = self.shared.revocations.change(&[place], self.now_ms).await {
                    tracing::warn!(%error, "replicas hear later that an API key was rotated");
                }
                Ok(Receipt::Rotated { key, id: successor, until })
            }
            other => {
                let undone = match other {
                    Ok(Some(content)) => self.can_rotate(&content).err(),
                    Ok(None) => Some(self.unknown(id)),
                    Err(fault) => Some(silent(fault)),
                };
                // What is left of it is listed, and known to nobody.
                let _ = sets.remove(shelf, &successor).await;
                Err(undone.unwrap_or_else(|| silent(Fault::Busy)))
            }
        }
    }

    fn can_rotate(self, old: &Content) -> Result<(), Undone> {
        if old.revoked_s.is_some() {
            return Err(bad(format!("`{}` was revoked: make a new key", old.id)));
        }
        match &old.successor {
            Some(successor) => Err(bad(format!("`{}` has a successor already: `{successor}`", old.id))),
            None => Ok(()),
        }
    }

    async fn revoke(self, id: &str) -> Result<Receipt, Undone> {
        let (sets, shelf) = (&self.shared.key_sets, &self.named.shelf);
        let old = sets.content(shelf, id).await.map_err(silent)?.ok_or_else(|| self.unknown(id))?;
        self.told(&old, KeyChange::Revoke, None)?;
        let changed = sets.change(shelf, id, |content| {
            let fresh = content.revoked_s.is_none();
            content.revoked_s.get_or_insert(self.now_ms / 1000);
            fresh
        });
        changed.await.map_err(silent)?;
        // Told again where it was revoked before: the first time, nobody may have heard it.
        let id = handle(&shelf.set, id);
        let targets = [Target::Key { issuer: API_KEY, id: &id }];
        let order = Order { targets: &targets, at_ms: self.now_ms, actor: self.actor, via: Via::Admin };
        self.shared.end(order).await.map_err(|fault| {
            let meanwhile = "it is revoked; others refuse it within 5 seconds, and what it has open stays open until \
                             this order is given again";
            Undone(StatusCode::SERVICE_UNAVAILABLE, format!("{meanwhile}: {fault}"))
        })?;
        Ok(Receipt::Revoked { again: old.revoked_s.is_some() })
    }

    async fn add(self, content: &Content, change: KeyChange) -> Result<(), Undone> {
        self.told(content, change, None)?;
        match self.shared.key_sets.add(&self.named.shelf, content).await.map_err(silent)? {
            true => Ok(()),
            false => Err(bad(format!("there is a key `{}` already", content.id))),
        }
    }

    /// Before the effect: what cannot be written down is not done.
    fn told(self, content: &Content, change: KeyChange, successor: Option<&str>) -> Result<(), Undone> {
        let event = Event::ApiKey {
            actor: Person(self.actor),
            change,
            set: &self.named.shelf.set,
            id: &content.id,
            tenant: content.tenant.as_deref(),
            roles: &content.roles,
            scopes: content.scopes.as_deref(),
            successor,
        };
        let cannot =
            |why| Undone(StatusCode::SERVICE_UNAVAILABLE, format!("the audit log cannot take an entry: {why}"));
        self.shared.audit.system(event).map_err(cannot)
    }

    /// A new key with its id.
    fn fresh(self) -> Result<(String, String), Undone> {
        let set = &self.named.settings;
        let drawn = draw(&set.prefix, |random| api_key::make_marked(&set.prefix, random, |draft| set.mark(draft)));
        drawn.ok_or_else(|| Undone(StatusCode::SERVICE_UNAVAILABLE, "no random bytes".to_owned()))
    }

    fn content(self, id: &str, who: &Who, hash: Hash, rules: &Rules) -> Result<Content, Undone> {
        let short = |text: &str| !text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control);
        if !short(&who.name) || !who.subject.as_deref().is_none_or(short) {
            return Err(bad(format!("name and subject have 1 to {LONGEST} bytes, and no control characters")));
        }
        if let Some(tenant) = &who.tenant
            && rules.seat(tenant, "operator").is_err()
        {
            let hint = hint(nearest(tenant, rules.tenants.keys()));
            return Err(bad(format!("unknown tenant `{tenant}`{hint}")));
        }
        if who.roles.len() > MOST_ROLES {
            return Err(bad(format!("a key has at most {MOST_ROLES} roles")));
        }
        if let Some(role) = who.roles.iter().find(|role| !rules.policy.knows(role)) {
            let hint = hint(nearest(role, rules.policy.roles().map(|(known, _)| known)));
            return Err(bad(format!("unknown role `{role}`{hint}")));
        }
        if let Some(scopes) = &who.scopes {
            sound(scopes, rules)?;
        }
        let now_s = self.now_ms / 1000;
        Ok(Content {
            id: id.to_owned(),
            name: who.name.clone(),
            subject: who.subject.clone().unwrap_or_else(|| format!("key:{id}")),
            tenant: who.tenant.clone(),
            roles: who.roles.clone(),
            scopes: who.scopes.clone(),
            hash,
            imported: false,
            created_s: now_s,
            expires_s: who.expires_s.map(|after_s| now_s.saturating_add(after_s)),
            revoked_s: None,
            successor: None,
        })
    }

    fn unknown(self, id: &str) -> Undone {
        bad(format!("the set `{}` has no key `{id}`\n  hint: `moat keys list` shows all", self.named.shelf.set))
    }
}

/// Whether scopes name permissions, each once.
fn sound(scopes: &[String], rules: &Rules) -> Result<(), Undone> {
    if scopes.is_empty() || scopes.len() > MOST_SCOPES {
        return Err(bad(format!("a key has 1 to {MOST_SCOPES} scopes, or none and may do what its roles grant")));
    }
    for (i, scope) in scopes.iter().enumerate() {
        if rules.policy.permission(scope).is_none() {
            let hint = hint(nearest(scope, rules.policy.permissions().iter().map(|name| &**name)));
            return Err(bad(format!("unknown permission `{scope}`{hint}")));
        }
        if scopes.iter().take(i).any(|other| other == scope) {
            return Err(bad(format!("the scope `{scope}` stands twice")));
        }
    }
    Ok(())
}

fn bad(why: String) -> Undone {
    Undone(StatusCode::UNPROCESSABLE_ENTITY, why)
}

fn silent(fault: Fault) -> Undone {
    match fault {
        Fault::Lengths => bad(fault.to_string()),
        Fault::Silent(_) | Fault::Seal(_) | Fault::Busy | Fault::Crowded => {
            Undone(StatusCode::SERVICE_UNAVAILABLE, fault.to_string())
        }
    }
}

fn hint(text: Option<String>) -> String {
    text.map(|text| format!("\n  hint: {text}")).unwrap_or_default()
}

/// RFC 3339, in whole seconds.
fn time(at_s: u64) -> String {
    let at = i64::try_from(at_s).ok().and_then(|at_s| jiff::Timestamp::from_second(at_s).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}
