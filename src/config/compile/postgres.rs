//! `storage.postgres` → settings.
use super::Compiler;
use super::storage::kept;
use super::traces::is_loopback;
use crate::config::options::UseOption;
use crate::config::read::Spanned;
use crate::config::settings::{Postgres, PostgresPlace, PostgresTls};
use crate::config::units::{Period, seconds};
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// The port of PostgreSQL, registered with IANA.
const PORT: u16 = 5432;
const URL: &str =
    "write `postgresql://USER@HOST:PORT/DATABASE`, or `postgresql://USER@/DATABASE?host=/FOLDER` for a socket";

/// A URL, taken apart.
pub(super) struct Address {
    pub place: PostgresPlace,
    pub user: String,
    pub database: String,
}

impl Compiler<'_> {
    /// Compiles `storage.postgres`.
    pub(super) fn postgres(&self) -> Option<Postgres> {
        let options = &self.options.storage.postgres.as_ref()?.value;
        let seen = self.uses(&options.use_for, "refresh_families, sessions");
        let redis = self.options.storage.redis.as_ref().map(|redis| redis.value.use_for.value.as_slice());
        for one in &options.use_for.value {
            if one.value == UseOption::Limits {
                self.report.hinted(
                    one.at,
                    "limits are counted in a Redis",
                    Some("write it into `storage.redis.use_for`"),
                );
            } else if redis.unwrap_or_default().iter().any(|other| other.value == one.value) {
                let hint = "take it out of one of the two lists";
                self.report.hinted(one.at, "`storage.redis.use_for` has this too: one store keeps it", Some(hint));
            }
        }
        let shortest = Period(Duration::from_millis(10));
        let connect_timeout = self.within(&options.connect_timeout, shortest, seconds(60)).0;
        let command_timeout = self.within(&options.command_timeout, shortest, seconds(30)).0;
        let connections = self.within(&options.connections, 1, 64);
        let ca = options.ca.as_ref().map(|ca| {
            self.exists(ca);
            let path = self.files.folder.join(&ca.value);
            self.files.watch(path.clone());
            path
        });
        let password = self.secret(&options.password);
        let Address { place, user, database } = self.postgres_address(&options.url)?;
        let tls = self.postgres_tls(options.ca.as_ref(), options.plaintext.as_ref(), &place, ca);
        self.postgres_password(&options.url, options.password.is_some(), &place);
        let keeps = seen.into_iter().filter_map(kept).collect();
        Some(Postgres { place, tls, user, password, database, keeps, connections, connect_timeout, command_timeout })
    }

    /// Without a password, a server takes us for whoever we say only over a socket.
    pub(super) fn postgres_password(&self, url: &Spanned<String>, written: bool, place: &PostgresPlace) {
        if !written && matches!(place, PostgresPlace::Tcp(..)) {
            let hint = "write `password: {file: …}` beside it";
            self.report.hinted(url.at, "a server that is reached over the network needs a password", Some(hint));
        }
    }

    pub(super) fn postgres_tls(
        &self,
        written: Option<&Spanned<String>>,
        plaintext: Option<&Spanned<String>>,
        place: &PostgresPlace,
        ca: Option<PathBuf>,
    ) -> Option<PostgresTls> {
        let near = match place {
            PostgresPlace::Unix(_) => {
                if let Some(ca) = written {
                    self.report.hinted(ca.at, "a socket of this machine has no TLS", Some("remove it"));
                }
                return None;
            }
            PostgresPlace::Tcp(host, _) => is_loopback(host),
        };
        match plaintext {
            Some(reason) if reason.trim().is_empty() => {
                self.report.problem(reason.at, "plaintext needs a reason");
                None
            }
            Some(reason) if near || ca.is_some() => {
                let what = if near { "this machine is spoken to in the clear anyway" } else { "`ca` asks for TLS" };
                self.report.hinted(reason.at, what, Some("remove it"));
                None
            }
            Some(_) => None,
            None => (!near || ca.is_some()).then_some(PostgresTls { ca }),
        }
    }

    pub(super) fn postgres_address(&self, url: &Spanned<String>) -> Option<Address> {
        // The text is not quoted: it may hold a password.
        let wrong = |message: &str| {
            self.report.hinted(url.at, message.to_owned(), Some(URL));
            None
        };
        let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
        let Some(rest) = rest.filter(|rest| !rest.contains(['#', '%', ' '])) else {
            return wrong("this is no URL of a PostgreSQL");
        };
        let (before, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (database, query) = database.split_once('?').unwrap_or((database, ""));
        let Some((user, host)) = before.rsplit_once('@').filter(|(user, _)| !user.is_empty()) else {
            return wrong("the URL of a PostgreSQL says who we are");
        };
        if user.contains(':') {
            let hint = "write `password: {file: …}`, and change this password: it has been in a file";
            self.report.hinted(url.at, "a URL has no password", Some(hint));
            return None;
        }
        if database.is_empty() || database.contains('/') {
            return wrong("the path of a PostgreSQL is the name of a database");
        }
        let place = match (host, query.strip_prefix("host=")) {
            ("", Some(folder)) if folder.starts_with('/') => {
                PostgresPlace::Unix(PathBuf::from(folder).join(format!(".s.PGSQL.{PORT}")))
            }
            (host, None) if query.is_empty() && !host.is_empty() => {
                let Some(uri) = format!("http://{host}").parse::<Uri>().ok() else {
                    return wrong("this is no URL of a PostgreSQL");
                };
                let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                PostgresPlace::Tcp(name.to_owned(), uri.port_u16().unwrap_or(PORT))
            }
            _ => return wrong("a URL of a PostgreSQL has a host, or `?host=/FOLDER`, and no other options"),
        };
        Some(Address { place, user: user.to_owned(), database: database.to_owned() })
    }
}
