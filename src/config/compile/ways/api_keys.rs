//! `auth: {api_key: …}` and the files that it names.
use crate::config::compile::Compiler;
use crate::config::options::{ApiKeyAuth, ApiKeyOptions, ApiKeysFile};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{ApiKey, ApiKeys, KeyHash};
use crate::config::{Purpose, pepper};
use aws_lc_rs::hmac;
use decide::api_key;
use decide::facts::{Identity, Person};
use decide::revocation::{Handles, Source};
use decide::rules::{API_KEY, Accept, Rules};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Fewest bytes of a pepper.
const PEPPER: usize = 32;
/// The greatest cost of a bcrypt hash: a second or more of a processor.
const MAX_COST: u32 = 14;
/// Fewest characters by which an imported key is found: fewer are no id, but a guess.
const MIN_IMPORTED: usize = 4;

impl Compiler<'_> {
    /// What a route accepts; the file is read once, whoever names it.
    pub(in crate::config::compile) fn api_key(&self, options: &ApiKeyAuth, rules: &Rules) -> Option<Accept> {
        let header = self.key_header(&options.header);
        if !api_key::is_prefix(&options.prefix) {
            let hint = "write 2 to 20 letters, digits and `_`, beginning with a letter and ending with `_`: `nlk_`";
            let message = format!("`{}` cannot be the prefix of keys", options.prefix.value);
            self.report.hinted(options.prefix.at, message, Some(hint));
        }
        let file = &options.keys.file;
        let known = self.api_keys.borrow().get(file.as_str()).cloned();
        let keys = match known {
            Some(known) => {
                if *known.prefix != *options.prefix.value {
                    let message = format!("keys of `{}` begin with `{}` elsewhere", file.value, known.prefix);
                    self.report.hinted(options.prefix.at, message, Some("the keys of one file have one prefix"));
                }
                known
            }
            None => {
                let keys = Arc::new(self.load_keys(options, rules)?);
                self.api_keys.borrow_mut().insert(file.value.clone(), keys.clone());
                keys
            }
        };
        Some(Accept::ApiKey { header: header?, keys: keys.name.clone() })
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

    fn load_keys(&self, options: &ApiKeyAuth, rules: &Rules) -> Option<ApiKeys> {
        let name = &options.keys.file;
        let pepper = self.pepper(options);
        let (_, file) = self.files.load::<ApiKeysFile>(name, name.at)?;
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
            handles,
        };
        Some(ApiKey { identity: Arc::new(identity), hash, revoked, used_s: Default::default() })
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
                let fine = is_bcrypt(hash_text) && id.len() >= MIN_IMPORTED && id.bytes().all(|b| b.is_ascii_graphic());
                if !fine {
                    let hint = format!(
                        "write `bcrypt:$2b$…` with a cost of at most {MAX_COST}, for a key of which at least \
                         {MIN_IMPORTED} characters are its id"
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

/// `$2b$12$` and 53 characters.
fn is_bcrypt(text: &str) -> bool {
    let version = ["$2a$", "$2b$", "$2y$"].into_iter().find_map(|version| text.strip_prefix(version));
    let Some((cost, rest)) = version.and_then(|rest| rest.split_once('$')) else { return false };
    let cost_fine = cost.len() == 2 && cost.parse::<u32>().is_ok_and(|cost| (4..=MAX_COST).contains(&cost));
    cost_fine && rest.len() == 53 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
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
