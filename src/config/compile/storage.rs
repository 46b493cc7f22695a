//! `storage` → settings.
use super::Compiler;
use super::traces::is_loopback;
use crate::config::options::UseOption;
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::settings::{Embedded, Kept, Redis, RedisPlace, RedisTls, SecretSource, Server};
use crate::config::units::{Period, seconds};
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// The port of Redis, registered with IANA.
const PORT: u16 = 6379;
const URL: &str = "write `rediss://HOST:PORT/DATABASE`, `redis://…` without TLS, or `unix:/PATH`";

/// A URL, taken apart.
pub(super) struct Address {
    pub place: RedisPlace,
    pub tls: bool,
    pub database: u32,
}

/// The kind of state; limits are none.
pub(super) fn kept(one: UseOption) -> Option<Kept> {
    match one {
        UseOption::Limits => None,
        UseOption::Sessions => Some(Kept::Sessions),
        UseOption::RefreshFamilies => Some(Kept::RefreshFamilies),
        UseOption::Revocations => Some(Kept::Revocations),
        UseOption::ApiKeys => Some(Kept::ApiKeys),
        UseOption::Once => Some(Kept::Once),
        UseOption::SignIns => Some(Kept::SignIns),
        UseOption::Factors => Some(Kept::Factors),
    }
}

impl Compiler<'_> {
    /// Compiles `storage.embedded`.
    pub(super) fn embedded(&self, server: &Server) -> Embedded {
        let path = match &self.options.storage.embedded.path {
            None => server.state_dir.join("state.redb"),
            Some(path) => {
                let whole = self.files.folder.join(&path.value);
                if path.value.is_empty() || path.value.ends_with('/') || whole.is_dir() {
                    let hint = "write the path of a file, such as `/var/lib/moat/state.redb`";
                    self.report.hinted(path.at, format!("`{}` is no file", path.value), Some(hint));
                }
                whole
            }
        };
        Embedded { path }
    }

    /// Compiles `storage.redis`; `shared` is whether some limit is counted there.
    pub(super) fn redis(&self, shared: bool) -> Option<Redis> {
        let section = self.options.storage.redis.as_ref()?;
        let options = &section.value;
        let seen = self.uses(&options.use_for, "limits");
        if !shared && seen.contains(&UseOption::Limits) && !self.report.is_tainted(section.at) {
            let hint = "give a limit `mode: synced` or `mode: strict`, or remove `storage.redis`";
            self.report.hinted(section.at, "`storage.redis` is not used by any limit", Some(hint));
        }
        let longest = Period(Duration::from_secs(10));
        let shortest = |ms| Period(Duration::from_millis(ms));
        let connect_timeout = self.within(&options.connect_timeout, shortest(10), seconds(60)).0;
        let command_timeout = self.within(&options.command_timeout, shortest(1), longest).0;
        let prefix = &options.key_prefix;
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(fine) {
            let hint = "1 to 64 letters, digits, `-`, `_`, `.` or `:` will do";
            self.report.hinted(prefix.at, format!("`{}` cannot begin a key", prefix.value), Some(hint));
        }
        if let Some(name) = options.username.as_ref().filter(|_| options.password.is_none()) {
            self.report.hinted(name.at, "a user name needs a password", Some("write `password: {file: …}` beside it"));
        }
        let limits = seen.contains(&UseOption::Limits);
        if limits && options.password.is_none() && options.hash_key.is_none() {
            let hint = "write `hash_key: {file: …}`, with the same secret on all replicas";
            let message = "keys would be hashed with nothing: there is neither a password nor a `hash_key`";
            self.report.hinted(section.at, message, Some(hint));
        }
        let ca = options.ca.as_ref().map(|ca| {
            self.exists(ca);
            let path = self.files.folder.join(&ca.value);
            self.files.watch(path.clone());
            path
        });
        let (password, hash_key) = (self.secret(&options.password), self.secret(&options.hash_key));
        let Address { place, tls, database } = self.redis_address(&options.url, options.plaintext.as_ref())?;
        if let Some(ca) = options.ca.as_ref().filter(|_| !tls) {
            self.report.hinted(ca.at, "without TLS nobody vouches for the server", Some("write `rediss://` in `url`"));
        }
        Some(Redis {
            limits,
            keeps: seen.into_iter().filter_map(kept).collect(),
            place,
            tls: tls.then_some(RedisTls { ca }),
            username: options.username.as_ref().map(|name| name.value.clone()),
            password,
            hash_key,
            database,
            key_prefix: prefix.value.clone(),
            connect_timeout,
            command_timeout,
        })
    }

    /// What a store is used for, once each.
    pub(super) fn uses(&self, use_for: &Spanned<Vec<Spanned<UseOption>>>, example: &str) -> Vec<UseOption> {
        if use_for.is_empty() {
            let hint = format!("write `use_for: [{example}]`");
            self.report.hinted(use_for.at, "it is used for nothing", Some(hint.as_str()));
        }
        let mut seen: Vec<UseOption> = Vec::new();
        for one in &use_for.value {
            if seen.contains(&one.value) {
                self.report.problem(one.at, "this use stands there already");
            }
            seen.push(one.value);
        }
        seen.dedup();
        seen
    }

    pub(super) fn secret(&self, place: &Option<Spanned<SecretPlace>>) -> Option<SecretSource> {
        let place = place.as_ref()?;
        let source = place.source(&self.files.folder, &|name| self.files.variable(name));
        source.map_err(|message| self.report.problem(place.at, message)).ok()
    }

    pub(super) fn redis_address(&self, url: &Spanned<String>, plaintext: Option<&Spanned<String>>) -> Option<Address> {
        if let Some(path) = url.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            let path = PathBuf::from(path.trim_start_matches("//"));
            return Some(Address { place: RedisPlace::Unix(path), tls: false, database: 0 });
        }
        let parsed = url.parse::<Uri>().ok().filter(|_| !url.contains('#'));
        let Some(uri) = parsed.filter(|uri| matches!(uri.scheme_str(), Some("redis" | "rediss"))) else {
            // The text is not quoted: it may hold a password.
            self.report.hinted(url.at, "this is no URL of a Redis", Some(URL));
            return None;
        };
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            let hint = "write `username` and `password: {file: …}`, and change this password: it has been in a file";
            self.report.hinted(url.at, "a URL of a Redis has no user, password or options", Some(hint));
            return None;
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let database = match uri.path().trim_matches('/') {
            "" => Some(0),
            number => number.parse().ok(),
        };
        let Some(database) = database.filter(|_| !host.is_empty()) else {
            self.report.hinted(url.at, "the path of a Redis is the number of a database", Some(URL));
            return None;
        };
        let tls = uri.scheme_str() == Some("rediss");
        match plaintext {
            None if !tls && !is_loopback(&host) => {
                let hint = "write `rediss://`, or say why not: `plaintext: \"<reason>\"`";
                self.report.hinted(url.at, "password and counts would cross the network in the clear", Some(hint));
            }
            Some(reason) if reason.trim().is_empty() => self.report.problem(reason.at, "plaintext needs a reason"),
            Some(reason) if tls => {
                self.report.hinted(reason.at, "this server is spoken to with TLS", Some("remove it"));
            }
            Some(_) | None => {}
        }
        Some(Address { place: RedisPlace::Tcp(host, uri.port_u16().unwrap_or(PORT)), tls, database })
    }
}
