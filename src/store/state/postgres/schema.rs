//! The tables in PostgreSQL: made where we may, else asked for.
use super::{Cause, Silent, silent};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// The version that [`SCHEMA`] makes. Another one is refused.
const VERSION: i32 = 1;

/// What a database needs, for who has the right to make it. May be run any number of times.
pub const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS moat_state (
  kind smallint NOT NULL,
  key bytea NOT NULL,
  version bigint NOT NULL,
  expires_at bigint NOT NULL,
  minute bigint,
  idx bytea,
  value bytea NOT NULL,
  PRIMARY KEY (kind, key)
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS moat_state_idx ON moat_state (kind, idx, key) WHERE idx IS NOT NULL;
CREATE INDEX IF NOT EXISTS moat_state_minute ON moat_state (minute) WHERE minute IS NOT NULL;
CREATE TABLE IF NOT EXISTS moat_feed (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at bigint NOT NULL,
  note bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS moat_schema (version integer PRIMARY KEY);
INSERT INTO moat_schema VALUES (1) ON CONFLICT DO NOTHING;
";

/// Makes sure that the tables are there and ours.
pub(super) async fn ensure(client: &Client) -> Result<(), Silent> {
    match version(client).await? {
        Some(version) => known(version),
        None => {
            // Replicas start together; one makes the tables.
            let script = format!("BEGIN; SELECT pg_advisory_xact_lock(1836016996, 2); {SCHEMA} COMMIT;");
            if let Err(error) = client.batch_execute(&script).await {
                // The transaction must not stay open, whatever comes of its end.
                let _ = client.batch_execute("ROLLBACK").await;
                return Err(refused(&error));
            }
            tracing::info!(engine = "postgres", version = VERSION, "made the tables of state");
            known(version(client).await?.unwrap_or_default())
        }
    }
}

async fn version(client: &Client) -> Result<Option<i32>, Silent> {
    match client.query_typed("SELECT max(version) FROM moat_schema", &[]).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.try_get::<_, Option<i32>>(0).ok().flatten())),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(super::wire::silent_of(&error)),
    }
}

fn known(version: i32) -> Result<(), Silent> {
    if version == VERSION {
        return Ok(());
    }
    let text = format!("its tables are of version {version}, this program knows version {VERSION}");
    Err(silent(Cause::Refused, text))
}

fn refused(error: &tokio_postgres::Error) -> Silent {
    let base = super::wire::silent_of(error);
    if base.cause != Cause::Refused {
        return base;
    }
    let text = format!("{}; have somebody who may do so run this in the database:\n{SCHEMA}", base.text);
    silent(Cause::Refused, text)
}
