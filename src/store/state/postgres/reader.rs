//! Reads with a statement of the operator's, over connections that cannot write.
use super::pool::Pool;
use super::{Cause, Options, Silent, Watcher, silent};
use decide::app_session::MAX_SESSION;
use std::sync::Arc;
use tokio_postgres::types::Type;

/// A statement of somebody else's tables, and the connections over which it is asked.
pub struct Reader {
    pool: Pool,
    statement: String,
}

impl Reader {
    /// Begins to connect. The statement is one `SELECT` with `$1`, a text; of its first column no more is read than shows
    /// that it is too long. Needs a tokio runtime.
    pub fn start(options: Options, statement: &str, watcher: Arc<dyn Watcher>) -> Reader {
        let statement = whole(statement);
        let options = Options { reads: Some(statement.clone().into()), ..options };
        Reader { pool: Pool::start(options, watcher), statement }
    }

    /// The first column of the row that the statement finds for this value; `None` where it finds none, or the value is none
    /// that its types have.
    pub async fn read(&self, value: &str) -> Result<Option<Vec<u8>>, Silent> {
        let rows = self.pool.rows_of(&self.statement, &[(&value, Type::TEXT)]).await?;
        match rows.as_deref().unwrap_or_default() {
            [] => Ok(None),
            [row] => {
                let text = row.try_get::<_, Option<String>>(0);
                let text = text.map_err(|error| silent(Cause::Damaged, error.to_string()))?;
                Ok(text.map(String::into_bytes))
            }
            _ => Err(silent(Cause::Damaged, "the statement finds several rows for one session")),
        }
    }

    /// Waits until the first attempt to connect has ended, one way or the other.
    pub async fn tried(&self) {
        self.pool.tried().await;
    }

    /// Whether it is of use; else why not.
    pub fn health(&self) -> Result<(), String> {
        self.pool.health()
    }
}

/// As part of a statement of ours, theirs can only be a query; a comment at its end ends with its line.
fn whole(statement: &str) -> String {
    let most = MAX_SESSION + 1;
    format!("SELECT left(found.session::text, {most}) FROM (\n{statement}\n) AS found(session) LIMIT 2")
}
