//! `auth: {api_key: …}`, the files that it names, and the sets.
use crate::config::compile::{Compiler, list};
use crate::config::options::{ApiKeyAuth, ApiKeyOptions, ApiKeysFile, UseOption};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{ApiKey, ApiKeys, KeyHash, KeySet};
use crate::config::{Purpose, pepper};
use aws_lc_rs::hmac;
use decide::api_key;
use decide::facts::{Identity, Person};
use decide::policy::nearest;
use decide::revocation::{Handles, Source};
use decide::rules::{API_KEY, Accept, Keys, Rules, is_tenant_id};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Fewest bytes of a pepper.
const PEPPER: usize = 32;

impl Compiler<'_> {
    /// What a route accepts; the file is read once, whoever names it.
    pub(in crate::config::compile) fn api_key(&self, options: &ApiKeyAuth, rules: &Rules) -> Option<Accept> {
        let header = self.key_header(&options.header);
        if !api_key::is_prefix(&options.prefix) {
            let hint = "write 2 to 20 letters, digits and `_`, beginning with a letter and ending with `_`: `nlk_`";
            let message = format!("`{}` cannot be the prefix of keys", options.prefix.value);
            self.report.hinted(options.prefix.at, message, Some(hint));
        }
        let keys = match (&options.keys.file, &options.keys.state) {
            (Some(file), None) => self.key_file(file, options, rules)?,
            (None, Some(set)) => self.key_set(set, options)?,
            (Some(_), Some(_)) | (None, None) => {
                let hint = "write `keys: {file: PATH}`, or `keys: {state: NAME}`";
                self.report.hinted(options.keys.at, "keys are in a file or in a set of the state engine", Some(hint));
                return None;
            }
        };
        Some(Accept::ApiKey { header: header?, keys })
    }

    fn key_file(&self, file: &Spanned<String>, options: &ApiKeyAuth, rules: &Rules) -> Option<Keys> {
        let known = self.api_keys.borrow().get(file.as_str()).cloned();
        let keys = match known {
            Some(known) => {
                self.one_prefix(file, &known.prefix, options);
                known
            }
            None => {
                let keys = Arc::new(self.load_keys(file, options, rules)?);
                self.api_keys.borrow_mut().insert(file.value.clone(), keys.clone());
                keys
            }
        };
        Some(Keys::File(keys.name.clone()))
    }

    fn key_set(&self, set: &Spanned<String>, options: &ApiKeyAuth) -> Option<Keys> {
        if !is_tenant_id(set) {
            let message = format!("`{}` cannot be the name of a set", set.value);
            self.report.hinted(set.at, message, Some("write 1 to 63 lowercase letters, digits, `-` and `_`"));
            return None;
        }
        let storage = &self.options.storage;
        let redis = storage.redis.iter().flat_map(|redis| &redis.use_for.value);
        let postgres = storage.postgres.iter().flat_map(|postgres| &postgres.use_for.value);
        if options.pepper.is_none() && redis.chain(postgres).any(|kind| kind.value == UseOption::ApiKeys) {
            let hint = "write `pepper: …` beside `keys`, the same secret for all replicas";
            self.report.hinted(
                set.at,
                "replicas share keys that each of them hashes with a pepper of its own",
                Some(hint),
            );
        }
        let known = self.key_sets.borrow().get(set.as_str()).cloned();
        let keys = match known {
            Some(known) => {
                self.one_prefix(set, &known.prefix, options);
                if !known.has_pepper(&self.pepper(options)) {
                    let place = options.pepper.as_ref().map_or(set.at, |pepper| pepper.at);
                    let message = format!("keys of `{}` are hashed with another pepper elsewhere", set.value);
                    self.report.hinted(place, message, Some("the keys of one set have one pepper"));
                }
                known
            }
            None => {
                let (name, prefix) = (Arc::from(set.as_str()), Box::from(options.prefix.as_str()));
                let keys = Arc::new(KeySet { name, prefix, pepper: self.pepper(options) });
                self.key_sets.borrow_mut().insert(set.value.clone(), keys.clone());
                keys
            }
        };
        Some(Keys::State(keys.name.clone()))
    }

    fn one_prefix(&self, place: &Spanned<String>, known: &str, options: &ApiKeyAuth) {
        if *known != *options.prefix.value {
            let message = format!("keys of `{}` begin with `{known}` elsewhere", place.value);
            self.report.hinted(options.prefix.at, message, Some("the keys of one place have one prefix"));
        }
    }

    fn key_header(&self, name: &Spanned<String>) -> Option<http::HeaderName> {
        let header = http::HeaderName::from_bytes(name.as_bytes()).ok();
        let taken = ["authorization", "cookie", "host", "content-length", "content-type", "origin", "referer"];
        match header {
            Some(header) if !taken.contains(&header.as_str()) => Some(header),
            _ => {
                let message = format!("`{}` cannot be the header of an API key", name.value);
                self.report.hinted(name.at, message, Some("write a header of its own, `x-api-key`"));
                None
            }
        }
    }

    fn load_keys(&self, name: &Spanned<String>, options: &ApiKeyAuth, rules: &Rules) -> Option<ApiKeys> {
        let pepper = self.pepper(options);
        let path = self.files.folder.join(&name.value);
        if !path.exists() {
            self.files.watch(path);
            let hint = "make the first key: `moat keys new --name NAME --tenant ID --role ROLE`";
            self.report.hinted(name.at, format!("`{}` does not exist", name.value), Some(hint));
            return None;
        }
        let file = self.files.load::<ApiKeysFile>(name, name.at)?;
        let mut keys = HashMap::with_capacity(file.keys.0.len());
        let mut imported = Vec::new();
        for (id, options) in file.keys.iter() {
            let Some(key) = self.key(id, options, rules) else { continue };
            if let KeyHash::Bcrypt { .. } = key.hash {
                imported.push(id.len());
            }
            keys.insert(Box::from(id.as_str()), Arc::new(key));
        }
        imported.sort_unstable_by(|a, b| b.cmp(a));
        imported.dedup();
        let prefix = Box::from(options.prefix.as_str());
        Some(ApiKeys { name: Arc::from(name.as_str()), prefix, pepper, keys, imported })
    }

    fn pepper(&self, options: &ApiKeyAuth) -> hmac::Key {
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let Some(place) = &options.pepper else {
            if self.world.purpose == Purpose::Check {
                return key(&[0; PEPPER]);
            }
            let state_dir = self.files.folder.join(&self.options.server.state_dir);
            return match pepper::read_or_make(&state_dir, pepper::API_KEYS) {
                Ok(bytes) => key(&bytes),
                Err(error) => {
                    let message = format!("`server.state_dir` cannot be used: {error}").to_lowercase();
                    self.report.problem(At::file(0), message);
                    key(&[0; PEPPER])
                }
            };
        };
        let read = place.source(&self.files.folder, &|name| self.files.variable(name)).and_then(|source| {
            if let crate::config::settings::SecretSource::File(path) = &source {
                self.files.watch(path.clone());
            }
            source.read().map_err(|error| format!("the pepper {}", crate::config::files::reason(&error)))
        });
        match read {
            Ok(text) if text.len() >= PEPPER => key(text.as_bytes()),
            Ok(_) => {
                self.report.problem(place.at, format!("a pepper has {PEPPER} bytes or more"));
                key(&[0; PEPPER])
            }
            Err(message) => {
                self.report.problem(place.at, message);
                key(&[0; PEPPER])
            }
        }
    }

    fn key(&self, id: &Spanned<String>, options: &ApiKeyOptions, rules: &Rules) -> Option<ApiKey> {
        let hash = self.key_hash(id, &options.hash)?;
        let tenant = match &options.tenant {
            Some(tenant) => Some(self.known_tenant(tenant, &rules.tenants)?),
            None => None,
        };
        self.known_roles(&options.roles, rules);
        if let Some(scopes) = &options.scopes {
            self.known_scopes(scopes, rules);
        }
        let created_s = self.instant(&options.created)?;
        let expires_s = match &options.expires {
            Some(expires) => self.instant(expires)?,
            None => u64::MAX,
        };
        let revoked = match &options.revoked {
            Some(revoked) => self.instant(revoked).map(|_| true)?,
            None => false,
        };
        let subject = options.subject.clone().unwrap_or_else(|| format!("key:{}", id.value));
        let source = Source {
            issuer: API_KEY,
            subject: &subject,
            tenant: tenant.as_deref(),
            token: Some(id.as_str()),
            ..Source::default()
        };
        let handles = Handles::of(&source);
        let identity = Identity {
            issuer: Arc::from(API_KEY),
            subject: Person(Arc::from(subject.as_str())),
            tenant,
            roles: options.roles.iter().map(|role| Arc::from(role.as_str())).collect(),
            session: Some(Arc::from(id.as_str())),
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            issued_at: created_s,
            not_before: 0,
            expires_at: expires_s,
            bound_to: None,
            scopes: options.scopes.as_ref().map(|all| all.iter().map(|scope| Arc::from(scope.as_str())).collect()),
            handles,
        };
        Some(ApiKey { identity: Arc::new(identity), hash, revoked, used_s: Default::default() })
    }

    /// Reports scopes that leave nothing, or that name what nobody can be permitted.
    fn known_scopes(&self, scopes: &Spanned<Vec<Spanned<String>>>, rules: &Rules) {
        if scopes.is_empty() {
            let hint = "name permissions, or remove it: then the key is good for all that its roles grant";
            self.report.hinted(scopes.at, "`scopes` is empty", Some(hint));
        }
        for (i, scope) in scopes.iter().enumerate() {
            if rules.policy.permission(scope).is_none() {
                let known = || rules.policy.permissions().iter().map(|name| &**name);
                let hint = nearest(&scope.value, known()).or_else(|| list(known()));
                self.report.hinted(scope.at, format!("unknown permission `{}`", scope.value), hint);
            } else if scopes.iter().take(i).any(|other| other.value == scope.value) {
                self.report.hinted(scope.at, format!("`{}` stands twice", scope.value), Some("remove one of them"));
            }
        }
    }

    fn key_hash(&self, id: &Spanned<String>, hash: &Spanned<String>) -> Option<KeyHash> {
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match hash.split_once(':') {
            Some(("hmac-sha256", hex)) => {
                let bytes = unhex(hex).filter(|_| id.len() == api_key::ID && plain);
                if bytes.is_none() {
                    self.report.problem(hash.at, format!("`{}` is not the entry of a key", id.value));
                }
                bytes.map(KeyHash::Hmac)
            }
            Some(("bcrypt", hash_text)) => {
                let fine = api_key::is_bcrypt(hash_text) && api_key::is_imported_id(id);
                if !fine {
                    let hint = format!(
                        "write `bcrypt:$2b$…` with a cost of at most {}, for a key of which at least {} characters are its id",
                        api_key::MAX_COST,
                        api_key::MIN_IMPORTED
                    );
                    self.report.hinted(hash.at, "this is no bcrypt hash that can be used", Some(hint));
                }
                fine.then(|| KeyHash::Bcrypt { hash: hash_text.into(), seen: OnceLock::new() })
            }
            _ => {
                let hint = "`moat keys new` makes keys, and `moat keys import` takes bcrypt hashes";
                self.report.hinted(hash.at, "this is no hash of a key", Some(hint));
                None
            }
        }
    }

    fn instant(&self, text: &Spanned<String>) -> Option<u64> {
        let read = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_second()).ok());
        if read.is_none() {
            let message = format!("`{}` is no time", text.value);
            self.report.hinted(text.at, message, Some("write `2026-11-21T12:00:00Z`"));
        }
        read
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
