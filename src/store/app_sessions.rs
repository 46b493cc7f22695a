//! Sessions that an application keeps in a Redis or PostgreSQL of its own: read one at a time, never written.
use crate::store::shared::{Fault, Op, Reply, SharedStore};
use crate::store::state::postgres::Reader;
use decide::app_session::{KeyPattern, MAX_SESSION};

/// A store, and how sessions are found in it. Dropping it ends its connections.
pub enum Source {
    /// Redis or Valkey.
    Redis(SharedStore, KeyPattern),
    /// PostgreSQL.
    Postgres(Reader),
}

impl Source {
    /// The session of this id; `None` where there is none. At most one byte more than a session may have. The error is for
    /// the operator.
    pub async fn read(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        match self {
            Source::Postgres(reader) => reader.read(id).await.map_err(|silent| silent.to_string()),
            Source::Redis(store, pattern) => {
                let key = pattern.key(id);
                // Of a longer value no more is sent than shows that it is too long.
                let last = MAX_SESSION.to_string();
                let reply = store.command(Op::State, &[b"GETRANGE", key.as_bytes(), b"0", last.as_bytes()]).await;
                match reply {
                    // What is not there is empty.
                    Ok(Reply::Bulk(bytes)) => Ok((!bytes.is_empty()).then_some(bytes)),
                    Ok(Reply::Nil) => Ok(None),
                    // The cookie names something else that the application keeps there.
                    Err(Fault::Refused(text)) if text.starts_with("WRONGTYPE") => Ok(None),
                    Ok(Reply::Status(_) | Reply::Error(_) | Reply::Number(_) | Reply::List(_)) => {
                        Err(Fault::Malformed.to_string())
                    }
                    Err(fault) => Err(fault.to_string()),
                }
            }
        }
    }

    /// Waits until the first attempt to connect has ended, one way or the other.
    pub async fn tried(&self) {
        match self {
            Source::Redis(store, _) => store.tried().await,
            Source::Postgres(reader) => reader.tried().await,
        }
    }

    /// Whether it is of use; else why not.
    pub fn health(&self) -> Result<(), String> {
        match self {
            Source::Postgres(reader) => reader.health(),
            Source::Redis(store, _) if store.is_up() => Ok(()),
            Source::Redis(store, _) => Err(store.health().trouble.unwrap_or_else(|| "not connected yet".to_owned())),
        }
    }
}
