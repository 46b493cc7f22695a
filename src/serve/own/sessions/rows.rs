//! What the gateway holds for a user: sessions of browsers and families of refresh tokens, listed beside each other.
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::serve::own::token;
use crate::serve::run::now_ms;
use crate::store::families::{Families, FamilyId, Unread};
use crate::store::sessions::{Content, Realm, indices};
use crate::store::state::Kind;
use decide::facts::Identity;
use decide::revocation::{FAMILIES, OWN_SESSIONS, Target};
use decide::rules::Seat;
use decide::session::browser::Ending;
use decide::token::mint::OURS;
use serde_json::{Value, json};

/// Most sessions of one user that are listed, and as many families.
pub const MOST: usize = 200;

/// Something that the gateway holds, of one user.
pub(in crate::serve) struct Row {
    what: What,
    /// Who it makes of whoever holds it.
    identity: Identity,
    /// The id that it is listed and ended by.
    id: Box<str>,
    opened_at_s: u64,
    used_at_s: u64,
}

enum What {
    /// A session of a browser, by where it lies.
    Browser { key: [u8; 32], content: Box<Content> },
    /// A family of refresh tokens.
    Family(FamilyId),
}

impl Row {
    /// What may be told of it: no handle, no token. `this` says whether whoever asks came with it.
    pub fn told(&self, this: bool) -> Value {
        let (kind, client) = match &self.what {
            What::Browser { content, .. } => ("browser", content.client),
            What::Family(_) => ("client", None),
        };
        json!({
            "id": self.id,
            "kind": kind,
            "this": this,
            "opened_at": self.opened_at_s,
            "last_used_at": self.used_at_s,
            "expires_at": self.identity.expires_at,
            "client": client,
        })
    }

    /// The id that it is listed and ended by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What ends it, and all that it has opened.
    pub fn target(&self) -> Target<'_> {
        let issuer = match &self.what {
            What::Browser { .. } => OWN_SESSIONS,
            What::Family(_) => FAMILIES,
        };
        Target::Session { issuer, id: &self.id }
    }

    /// Whether whoever asks came with it: with this session, or as this identity by a token of the family.
    pub fn is_of(&self, key: Option<[u8; 32]>, caller: &Identity) -> bool {
        match &self.what {
            What::Browser { key: own, .. } => key == Some(*own),
            What::Family(_) => caller.session.is_some() && caller.session == self.identity.session,
        }
    }

    /// Where it lies, where it is a session of a browser.
    pub fn key(&self) -> Option<[u8; 32]> {
        match &self.what {
            What::Browser { key, .. } => Some(*key),
            What::Family(_) => None,
        }
    }

    /// Has the store say that it is over. Its mark has ended it already: this only keeps it from lying there to its end.
    pub async fn bury(&self, shared: &Shared, active: &Active, seat: Option<&Seat>) {
        let buried = match &self.what {
            What::Browser { key, .. } => match active.held() {
                Some(held) => {
                    let realm = held.realm(seat, None);
                    let ended = shared.sessions.end(&realm, *key, Ending::Revoked).await;
                    ended.map(|_| ()).map_err(|fault| fault.to_string())
                }
                None => Ok(()),
            },
            What::Family(id) => token::bury(shared, active, seat, *id).await,
        };
        if let Err(fault) = buried {
            tracing::debug!(%fault, "a session that was ended lies there to its end");
        }
    }
}

/// What the gateway holds for a user (name of the issuer, tenant, subject) on hosts of this tenant and is not over, that used
/// last first; at most [`MOST`] of each kind. The error says that a store is silent.
pub(in crate::serve) async fn held_for(
    shared: &Shared,
    active: &Active,
    seat: Option<&Seat>,
    who: (&str, Option<&str>, &str),
) -> Result<Vec<Row>, String> {
    let mut rows = sessions(shared, active, seat, who).await?;
    rows.extend(families(shared, active, seat, who).await?);
    let now_s = now_ms() / 1000;
    let tenant = seat.map(|seat| &*seat.id);
    rows.retain(|row| row.identity.expires_at > now_s && shared.ended(&row.identity, tenant).is_none());
    rows.sort_by_key(|row| std::cmp::Reverse(row.used_at_s));
    Ok(rows)
}

async fn sessions(
    shared: &Shared,
    active: &Active,
    seat: Option<&Seat>,
    (issuer, tenant, subject): (&str, Option<&str>, &str),
) -> Result<Vec<Row>, String> {
    let Some(held) = active.held() else { return Ok(Vec::new()) };
    let realm: Realm = held.realm(seat, None);
    let mut rows = Vec::new();
    for index in indices(&realm.ring, issuer, tenant, subject) {
        let found = shared.state.list(Kind::Session, &index, None, MOST).await;
        for found in found.map_err(|error| error.to_string())? {
            let Ok(key) = <[u8; 32]>::try_from(found.key.as_slice()) else { continue };
            // Of another host's tenant, or under a key that is gone: not theirs to see.
            let Ok(content) = Content::open(&realm.ring, &realm.tenant, &key, &found.record.value) else { continue };
            let identity = content.identity(&key, content.life.expires_at_ms(&realm.rules));
            if content.life.ended.is_some() {
                continue;
            }
            rows.push(Row {
                id: identity.session.as_deref().unwrap_or_default().into(),
                opened_at_s: identity.issued_at,
                used_at_s: content.life.used_at_ms / 1000,
                what: What::Browser { key, content: Box::new(content) },
                identity,
            });
        }
    }
    Ok(rows)
}

async fn families(
    shared: &Shared,
    active: &Active,
    seat: Option<&Seat>,
    who: (&str, Option<&str>, &str),
) -> Result<Vec<Row>, String> {
    let Some(issuing) = active.issuing() else { return Ok(Vec::new()) };
    let families = Families { state: &shared.state, ring: &issuing.ring };
    let rules = token::rules(issuing, seat);
    let found = families.of_user(who, MOST).await.map_err(|unread: Unread| unread.to_string())?;
    let living = found.into_iter().filter(|(_, read)| read.row.family.ended.is_none());
    Ok(living
        .map(|(id, read)| {
            let (family, word) = (&read.row.family, id.word());
            let hashed = active.issuer(OURS).map(|ring| ring.settings().rules.session_hash(&word));
            Row {
                what: What::Family(id),
                identity: read.row.holder.identity(hashed, family.expires_at_ms(&rules) / 1000),
                id: word.into(),
                opened_at_s: family.opened_at_ms / 1000,
                used_at_s: family.exchanged_ms.last().copied().unwrap_or(family.opened_at_ms) / 1000,
            }
        })
        .collect())
}
