//! What the gateway holds for a user: sessions of browsers and families of refresh tokens, listed beside each other.
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::serve::own::token;
use crate::serve::run::now_ms;
use crate::serve::sessions::Held;
use crate::store::families::{Families, FamilyId, Read, Unread};
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
/// Most sessions of one user that are looked at for it: those that have ended lie there to their end.
const LOOKED_AT: usize = 2_000;
/// Sessions that are asked for at once.
const PIECE: usize = 200;

/// Where somebody's sessions are looked for, and how many.
#[derive(Clone, Copy)]
pub(in crate::serve) enum Look<'a> {
    /// At a host that names this tenant, or none: what a user of that host may see, at most [`MOST`].
    Host(Option<&'a Seat>),
    /// At all hosts, also those that do not name the tenant: what an operator may see, at most [`MOST`].
    Anywhere(Option<&'a Seat>),
    /// The same, all there are.
    All(Option<&'a Seat>),
}

impl<'a> Look<'a> {
    fn seat(self) -> Option<&'a Seat> {
        match self {
            Look::Host(seat) | Look::Anywhere(seat) | Look::All(seat) => seat,
        }
    }

    /// What is sealed for whom may be seen.
    fn realms(self, held: &Held) -> Vec<Realm> {
        match self {
            Look::Host(seat) => vec![held.realm(seat, None)],
            // Where the tenant is found by the route, the host names none, and sessions are sealed for none.
            Look::Anywhere(seat) | Look::All(seat) => {
                let named = seat.map(|seat| held.realm(Some(seat), None));
                named.into_iter().chain([held.realm(None, seat)]).collect()
            }
        }
    }

    /// How many are told, and how many are looked at.
    fn bounds(self) -> (usize, usize) {
        match self {
            Look::Host(_) | Look::Anywhere(_) => (MOST, LOOKED_AT),
            Look::All(_) => (usize::MAX, usize::MAX),
        }
    }
}

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
    Browser { realm: Realm, key: [u8; 32], content: Box<Content> },
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
    pub fn place(&self) -> Option<(&Realm, [u8; 32])> {
        match &self.what {
            What::Browser { realm, key, .. } => Some((realm, *key)),
            What::Family(_) => None,
        }
    }

    /// Has the store say that it is over. Its mark has ended it already: this only keeps it from lying there to its end.
    pub async fn bury(&self, shared: &Shared, active: &Active, seat: Option<&Seat>) {
        let buried = match &self.what {
            What::Browser { realm, key, .. } => {
                let ended = shared.sessions.end(realm, *key, Ending::Revoked).await;
                ended.map(|_| ()).map_err(|fault| fault.to_string())
            }
            What::Family(id) => token::bury(shared, active, seat, *id).await,
        };
        if let Err(fault) = buried {
            tracing::debug!(%fault, "a session that was ended lies there to its end");
        }
    }
}

/// What the gateway holds for a user (name of the issuer, tenant, subject) and is not over, that used last first; and whether
/// there may be more. The error says that a store is silent.
pub(in crate::serve) async fn held_for(
    shared: &Shared,
    active: &Active,
    look: Look<'_>,
    who: (&str, Option<&str>, &str),
) -> Result<(Vec<Row>, bool), String> {
    let (now_s, tenant) = (now_ms() / 1000, look.seat().map(|seat| &*seat.id));
    let lives = |who: &Identity| who.expires_at > now_s && shared.ended(who, tenant).is_none();
    let (mut rows, more) = sessions(shared, active, look, who, lives).await?;
    let (clients, more_clients) = families(shared, active, look.seat(), who).await?;
    rows.extend(clients.into_iter().filter(|row| lives(&row.identity)));
    rows.sort_by_key(|row| std::cmp::Reverse(row.used_at_s));
    Ok((rows, more || more_clients))
}

async fn sessions(
    shared: &Shared,
    active: &Active,
    look: Look<'_>,
    (issuer, tenant, subject): (&str, Option<&str>, &str),
    lives: impl Fn(&Identity) -> bool,
) -> Result<(Vec<Row>, bool), String> {
    let Some(held) = active.held() else { return Ok((Vec::new(), false)) };
    let (realms, (most, mut left)) = (look.realms(held), look.bounds());
    let mut rows = Vec::new();
    for index in indices(held.ring(), issuer, tenant, subject) {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let found = shared.state.list(Kind::Session, &index, after.as_deref(), PIECE).await;
            let found = found.map_err(|error| error.to_string())?;
            after = found.last().map(|last| last.key.clone());
            let whole = found.len() == PIECE;
            for found in found {
                if rows.len() >= most || left == 0 {
                    return Ok((rows, true));
                }
                left -= 1;
                let Ok(key) = <[u8; 32]>::try_from(found.key.as_slice()) else { continue };
                // Of another host's tenant, or under a key that is gone: not theirs to see.
                let open = |realm: &Realm| {
                    let content = Content::open(&realm.ring, &realm.tenant, &key, &found.record.value).ok()?;
                    Some((realm.clone(), content))
                };
                let Some((realm, content)) = realms.iter().find_map(open) else { continue };
                let identity = content.identity(&key, content.life.expires_at_ms(&realm.rules));
                if content.life.ended.is_some() || !lives(&identity) {
                    continue;
                }
                rows.push(Row {
                    id: identity.session.as_deref().unwrap_or_default().into(),
                    opened_at_s: identity.issued_at,
                    used_at_s: content.life.used_at_ms / 1000,
                    what: What::Browser { realm, key, content: Box::new(content) },
                    identity,
                });
            }
            if !whole {
                break;
            }
        }
    }
    Ok((rows, false))
}

async fn families(
    shared: &Shared,
    active: &Active,
    seat: Option<&Seat>,
    who: (&str, Option<&str>, &str),
) -> Result<(Vec<Row>, bool), String> {
    let Some(issuing) = active.issuing() else { return Ok((Vec::new(), false)) };
    let families = Families { state: &shared.state, ring: &issuing.ring };
    let rules = token::rules(issuing, seat);
    let found = families.of_user(who, MOST).await.map_err(|unread: Unread| unread.to_string())?;
    let more = found.len() >= MOST;
    let living = found.into_iter().filter(|(_, read)| read.row.family.ended.is_none());
    let row = |(id, read): (FamilyId, Read)| {
        let (family, word) = (&read.row.family, id.word());
        let hashed = active.issuer(OURS).map(|ring| ring.settings().rules.session_hash(&word));
        Row {
            what: What::Family(id),
            identity: read.row.holder.identity(hashed, family.expires_at_ms(&rules) / 1000),
            id: word.into(),
            opened_at_s: family.opened_at_ms / 1000,
            used_at_s: family.exchanged_ms.last().copied().unwrap_or(family.opened_at_ms) / 1000,
        }
    };
    Ok((living.map(row).collect(), more))
}
