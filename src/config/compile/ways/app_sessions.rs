//! `app_sessions` and the routes that accept them.
use crate::config::compile::storage::Address;
use crate::config::compile::{Compiler, Noun, postgres};
use crate::config::options::{AppSessionsOptions, SessionClaims, SessionsInPostgres, SessionsInRedis};
use crate::config::read::Spanned;
use crate::config::settings::{AppSessionStore, Keep, RedisTls, SecretSource, Server, SessionSource};
use crate::config::units::{Period, seconds};
use decide::app_session::{AppSessions, KeyPattern, Secret};
use decide::rules::{API_KEY, Accept};
use decide::token::{ClaimName, ClaimNames};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest service of a session without a look-up.
const LONGEST: Period = seconds(60);
const NOTHING: Period = Period(Duration::ZERO);
const SHORTEST: Period = Period(Duration::from_millis(10));

impl Compiler<'_> {
    /// All stores, in the order of the file. `pepper` is the key of the hash under which session ids are known.
    pub(in crate::config::compile) fn app_sessions(
        &self,
        server: &Server,
        pepper: [u8; 32],
    ) -> Vec<Arc<AppSessionStore>> {
        let all = self.options.app_sessions.iter();
        all.filter_map(|(name, options)| self.app_session_store(name, options, server, pepper).map(Arc::new)).collect()
    }

    /// What a route accepts that names one.
    pub(in crate::config::compile) fn app_session(&self, name: &Spanned<String>) -> Accept {
        self.refer(Noun::AppSessions, name, self.names("app_sessions").into_iter());
        let cookie = self.options.app_sessions.find(name).map_or("", |options| options.cookie.as_str());
        Accept::AppSession { cookie: Arc::from(cookie), name: Arc::from(name.as_str()) }
    }

    fn app_session_store(
        &self,
        name: &Spanned<String>,
        options: &AppSessionsOptions,
        server: &Server,
        pepper: [u8; 32],
    ) -> Option<AppSessionStore> {
        let others = ["issuers", "ext_auth", "client_certificates"].map(|section| self.names(section)).concat();
        if name.value == API_KEY || others.contains(&name.as_str()) {
            let message = format!("`{}` is the name of somebody else who vouches for users", name.value);
            self.report.hinted(name.at, message, Some("choose another name"));
        }
        self.app_cookie(&options.cookie);
        let cache = &options.cache;
        let whole = |period: &Spanned<Period>| {
            self.within(period, NOTHING, LONGEST);
            if period.0.subsec_nanos() != 0 {
                self.report.problem(period.at, "sessions are remembered for whole seconds");
            }
            period.seconds()
        };
        let keep = Keep {
            max_age_s: whole(&cache.max_age),
            refused_s: whole(&cache.refused),
            entries: self.within(&cache.entries, 1, 1_000_000),
        };
        self.within(&options.max_age, seconds(1), seconds(86_400));
        let connect_timeout = self.within(&options.connect_timeout, SHORTEST, LONGEST).0;
        let timeout = self.within(&options.timeout, SHORTEST, seconds(10)).0;
        let max_in_flight = self.within(&options.max_in_flight, 1, 100_000);
        let express = options.express_secrets.iter().filter_map(|place| self.express_secret(place)).collect();
        let (subject, claims) = self.session_claims(&options.claims);
        let source = match (&options.redis, &options.postgres) {
            (Some(redis), None) => self.sessions_in_redis(redis),
            (None, Some(postgres)) => self.sessions_in_postgres(postgres),
            (None, None) => {
                let hint = "write `redis: {url: …, key: …}` or `postgres: {url: …, statement: …}`";
                self.report.hinted(
                    name.at,
                    format!("nobody knows where the sessions of `{}` are", name.value),
                    Some(hint),
                );
                None
            }
            (Some(_), Some(postgres)) => {
                self.report.hinted(
                    postgres.at,
                    "sessions are in a `redis` or a `postgres`, not both",
                    Some("remove one"),
                );
                None
            }
        };
        let ca = options.redis.as_ref().and_then(|redis| redis.ca.as_ref());
        let ca = ca.or(options.postgres.as_ref().and_then(|postgres| postgres.ca.as_ref()));
        Some(AppSessionStore {
            cookie: Arc::from(options.cookie.as_str()),
            sessions: AppSessions {
                name: Arc::from(name.as_str()),
                subject,
                claims,
                express,
                max_age_s: options.max_age.seconds(),
                pepper,
            },
            source: source?,
            authorities: self.fingerprint(ca),
            keep,
            connect_timeout,
            timeout,
            max_in_flight,
            instance: server.instance.clone(),
        })
    }

    fn app_cookie(&self, cookie: &Spanned<String>) {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if cookie.is_empty() || !cookie.bytes().all(token) {
            self.report.problem(cookie.at, format!("`{}` cannot be the name of a cookie", cookie.value));
        }
        let browser = self.options.sessions.browser.as_ref();
        if browser.is_some_and(|browser| browser.cookie.eq_ignore_ascii_case(cookie)) {
            let hint = "give one of them another name";
            self.report.hinted(cookie.at, "this is the cookie of `sessions.browser`", Some(hint));
        }
    }

    /// A secret of express-session, read now; a change of its file is a reload.
    fn express_secret(&self, place: &Spanned<crate::config::secrets::SecretPlace>) -> Option<Secret> {
        let read = place.source(&self.files.folder, &|name| self.files.variable(name)).and_then(|source| {
            if let SecretSource::File(path) = &source {
                self.files.watch(path.clone());
            }
            source.read().map_err(|error| format!("the secret {}", crate::config::files::reason(&error)))
        });
        match read {
            Ok(text) if !text.is_empty() => Some(Secret::new(text.as_bytes())),
            Ok(_) => {
                self.report.problem(place.at, "the secret is empty");
                None
            }
            Err(message) => {
                self.report.problem(place.at, message);
                None
            }
        }
    }

    fn session_claims(&self, claims: &SessionClaims) -> (ClaimName, ClaimNames) {
        let name = |place: Option<&Spanned<String>>| {
            if let Some(empty) = place.filter(|place| matches!(place.as_str(), "" | "/")) {
                self.report.hinted(
                    empty.at,
                    "this points at nothing",
                    Some("write `/user/id`, or the name of a member"),
                );
            }
            // A name that no document has: JSON that is read has no such member.
            place.map_or(ClaimName::nowhere(), |place| ClaimName::new(place))
        };
        let names = ClaimNames {
            tenant: name(claims.tenant.as_ref()),
            roles: name(claims.roles.as_ref()),
            session: ClaimName::nowhere(),
            auth_time: name(claims.auth_time.as_ref()),
            acr: name(claims.acr.as_ref()),
            amr: name(claims.amr.as_ref()),
        };
        (name(Some(&claims.subject)), names)
    }

    fn watched(&self, ca: Option<&Spanned<String>>) -> Option<PathBuf> {
        ca.map(|ca| {
            self.exists(ca);
            let path = self.files.folder.join(&ca.value);
            self.files.watch(path.clone());
            path
        })
    }

    fn sessions_in_redis(&self, options: &SessionsInRedis) -> Option<SessionSource> {
        let key = KeyPattern::parse(&options.key);
        if key.is_none() {
            let hint = "write the key with exactly one `{cookie}` or `{cookie_sha256}`: `sess:{cookie}`";
            self.report.hinted(options.key.at, "this is no key of a session", Some(hint));
        }
        if let Some(name) = options.username.as_ref().filter(|_| options.password.is_none()) {
            self.report.hinted(name.at, "a user name needs a password", Some("write `password: {file: …}` beside it"));
        }
        let ca = self.watched(options.ca.as_ref());
        let password = self.secret(&options.password);
        let Address { place, tls, database } = self.redis_address(&options.url, options.plaintext.as_ref())?;
        if let Some(ca) = options.ca.as_ref().filter(|_| !tls) {
            self.report.hinted(ca.at, "without TLS nobody vouches for the server", Some("write `rediss://` in `url`"));
        }
        Some(SessionSource::Redis {
            place,
            tls: tls.then_some(RedisTls { ca }),
            username: options.username.as_ref().map(|name| name.value.clone()),
            password,
            database,
            key: key?,
        })
    }

    fn sessions_in_postgres(&self, options: &SessionsInPostgres) -> Option<SessionSource> {
        let statement = &options.statement;
        let begins = |word: &str| {
            let start = statement.trim_start().get(..word.len()).unwrap_or_default();
            start.eq_ignore_ascii_case(word)
        };
        let dollars: Vec<&str> = statement.split('$').skip(1).collect();
        let first = |rest: &&str| {
            rest.strip_prefix('1').is_some_and(|next| !next.starts_with(|next: char| next.is_ascii_digit()))
        };
        if statement.contains([';', '\0']) || !(begins("select") || begins("with")) {
            let hint = "write one `SELECT` without `;`, whose first column is the session";
            self.report.hinted(statement.at, "the statement is no single query", Some(hint));
        } else if dollars.is_empty() || !dollars.iter().all(first) {
            let hint = "write `WHERE sid = $1`; there are no other parameters";
            self.report.hinted(statement.at, "the statement has no place for the id, or has others", Some(hint));
        }
        let connections = self.within(&options.connections, 1, 64);
        let ca = self.watched(options.ca.as_ref());
        let password = self.secret(&options.password);
        let postgres::Address { place, user, database } = self.postgres_address(&options.url)?;
        let tls = self.postgres_tls(options.ca.as_ref(), options.plaintext.as_ref(), &place, ca);
        self.postgres_password(&options.url, options.password.is_some(), &place);
        Some(SessionSource::Postgres {
            place,
            tls,
            user,
            password,
            database,
            statement: statement.value.clone(),
            connections,
        })
    }
}
