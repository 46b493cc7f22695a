//! `issuers` → settings.
mod client;
mod introspection;

use super::{Compiler, list};
use crate::config::options::{IssuerOptions, ListenOption, SignalsOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::settings::{Issuer, KeySource, SecretSource, Server, Signals};
use crate::config::units::{Period, seconds};
use crate::config::{Purpose, pepper};
use aws_lc_rs::digest::{self, SHA256};
use decide::policy::nearest;
use decide::rules::API_KEY;
use decide::token::{Algorithm, ClaimName, ClaimNames, FIREBASE_JWKS_URL, IssuerRules};
use std::sync::Arc;
use std::time::Duration;

/// The greatest clock skew that can be configured.
const MAX_SKEW: Period = seconds(300);
/// The greatest time that can be written.
const MAX_PERIOD: Period = seconds(100 * 365 * 86_400);

/// Fewest characters that a delivery of events must carry, where it must carry any.
const LEAST_WORD: usize = 16;

impl Compiler<'_> {
    /// Issuers in the order of their names, with the key of the hash under which their session ids are known.
    pub(super) fn issuers(&self, server: &Server) -> (Vec<Arc<Issuer>>, [u8; 32]) {
        if self.options.issuers.is_empty() && self.options.app_sessions.is_empty() {
            return (Vec::new(), [0; 32]);
        }
        let pepper = match self.world.purpose {
            Purpose::Check => [0; 32],
            Purpose::Run => pepper::read_or_make(&server.state_dir, pepper::PEPPER).unwrap_or_else(|error| {
                self.report.problem(At::file(0), format!("`server.state_dir` cannot be used: {error}").to_lowercase());
                [0; 32]
            }),
        };
        let mut issuers: Vec<Arc<Issuer>> =
            self.options.issuers.iter().map(|(name, options)| Arc::new(self.issuer(name, options, pepper))).collect();
        issuers.sort_by(|a, b| a.rules.name.cmp(&b.rules.name));
        (issuers, pepper)
    }

    fn issuer(&self, name: &Spanned<String>, options: &IssuerOptions, pepper: [u8; 32]) -> Issuer {
        if name.value == API_KEY {
            self.report.problem(name.at, format!("`{API_KEY}` stands for API keys, so no issuer can be called so"));
        }
        self.within(&options.clock_skew, Period(Duration::ZERO), MAX_SKEW);
        let rhythm = &options.jwks;
        self.within(&rhythm.min_interval, seconds(1), MAX_PERIOD);
        self.within(&rhythm.refresh, seconds(1), MAX_PERIOD);
        if rhythm.refresh.0 > rhythm.max_stale.0 / 2 {
            let at = if rhythm.refresh.at == At::default() { rhythm.max_stale.at } else { rhythm.refresh.at };
            let message = format!(
                "keys are refreshed every `{}`, and would be too old after `{}`",
                rhythm.refresh.value, rhythm.max_stale.value
            );
            self.report.hinted(at, message, Some("`max_stale` is at least twice `refresh`"));
        }
        let rules = self.issuer_rules(name, options, pepper);
        Issuer {
            client: self.sign_in_client(name, options, &rules),
            rules,
            keys: self.key_source(name, options),
            refresh: options.jwks.refresh.0,
            min_interval: options.jwks.min_interval.0,
            max_stale: options.jwks.max_stale.0,
            introspection: self.introspection(options),
            signals: options.signals.as_ref().map(|signals| self.signals(&signals.value, &options.audiences)),
            ca: options.ca.as_ref().map(|ca| {
                let path = self.files.folder.join(&ca.value);
                self.exists(ca);
                self.files.watch(path.clone());
                path
            }),
        }
    }

    fn signals(&self, options: &SignalsOptions, audiences: &[String]) -> Signals {
        if options.caep.is_empty() {
            self.report.problem(options.caep.at, "signals of nobody: `caep` is empty");
        }
        if let Some(empty) = options.audiences.iter().find(|audience| audience.is_empty()) {
            self.report.problem(empty.at, "an audience is empty");
        }
        let listens = self.options.sessions.revocation.listen.iter().any(|word| word.value == ListenOption::Caep);
        if !listens && !self.options.sessions.revocation.listen.is_empty() {
            let hint = "list `caep` in `sessions.revocation.listen`, or remove `signals`";
            self.report.hinted(options.caep.at, "signals that nobody listens to", Some(hint));
        }
        let audiences = match options.audiences.is_empty() {
            true => audiences.to_vec(),
            false => options.audiences.iter().map(|audience| audience.value.clone()).collect(),
        };
        let authorization = options.authorization.as_ref().and_then(|place| self.delivery_word(place));
        Signals { transmitter: options.caep.value.clone(), audiences, authorization }
    }

    /// What a delivery of events must carry, hashed.
    fn delivery_word(&self, place: &Spanned<SecretPlace>) -> Option<[u8; 32]> {
        let source = place.source(&self.files.folder, &|name| self.files.variable(name));
        if let Ok(SecretSource::File(path)) = &source {
            self.files.watch(path.clone());
        }
        let text = source.and_then(|source| source.read().map_err(|error| format!("it cannot be read: {error}")));
        let text = match text {
            Ok(text) => text,
            Err(message) => {
                self.report.problem(place.at, message);
                return None;
            }
        };
        let text = text.trim();
        if text.len() < LEAST_WORD || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            let hint = "the whole value of the header, `Bearer …`, of 16 visible characters or more";
            self.report.hinted(place.at, "this is no `Authorization` that keeps anybody out", Some(hint));
            return None;
        }
        digest::digest(&SHA256, text.as_bytes()).as_ref().try_into().ok()
    }

    fn issuer_rules(&self, name: &Spanned<String>, options: &IssuerOptions, session_pepper: [u8; 32]) -> IssuerRules {
        let names = &options.claims;
        let claims = ClaimNames {
            tenant: ClaimName::new(&names.tenant),
            roles: ClaimName::new(&names.roles),
            session: ClaimName::new(&names.session),
            auth_time: ClaimName::new(&names.auth_time),
            acr: ClaimName::new(&names.acr),
            amr: ClaimName::new(&names.amr),
        };
        let skew = options.clock_skew.seconds();
        if let Some(firebase) = &options.firebase {
            let set = [
                ("issuer", options.issuer.is_some()),
                ("audiences", !options.audiences.is_empty()),
                ("algorithms", !options.algorithms.is_empty()),
                ("discovery", options.discovery.is_some()),
                ("jwks", options.jwks.url.is_some() || options.jwks.file.is_some()),
            ];
            for (key, _) in set.iter().filter(|(_, set)| *set) {
                let message = format!("`firebase` sets `{key}` by itself");
                self.report.hinted(name.at, message, Some(format!("remove `{key}`")));
            }
            let rules = IssuerRules::firebase(name, &firebase.project, claims, session_pepper);
            return IssuerRules { clock_skew_s: skew, ..rules };
        }
        let whole = !self.report.is_tainted(name.at);
        let missing = [
            ("issuer", options.issuer.is_none()),
            // Then no token is taken as a credential, and browsers only sign in.
            ("audiences", options.audiences.is_empty() && options.client.is_none() && !options.may_lack_audience()),
            ("algorithms", options.algorithms.is_empty() && !options.is_keyless()),
            ("token_types", options.token_types.is_empty()),
        ];
        for (key, _) in missing.iter().filter(|(_, missing)| *missing && whole) {
            self.report.problem(name.at, format!("issuer `{}` has no `{key}`", name.value));
        }
        IssuerRules {
            name: Arc::from(name.as_str()),
            issuer: options.issuer.as_ref().map(|i| i.value.clone()).unwrap_or_default(),
            audiences: options.audiences.clone(),
            algorithms: options.algorithms.iter().filter_map(|a| self.algorithm(a)).collect(),
            token_types: options.token_types.iter().map(|name| token_type(name)).collect(),
            clock_skew_s: skew,
            max_lifetime_s: Some(options.max_lifetime.seconds()),
            claims,
            firebase: false,
            ours: false,
            session_pepper,
        }
    }

    pub(super) fn algorithm(&self, name: &Spanned<String>) -> Option<Algorithm> {
        let found = Algorithm::parse(name);
        if found.is_none() {
            let known = Algorithm::ALL.iter().map(|a| a.as_str());
            let hint = match name.as_str() {
                "none" | "HS256" | "HS384" | "HS512" => {
                    let known: Vec<&str> = known.collect();
                    Some(format!("only signatures with public keys are accepted: `{}`", known.join("`, `")))
                }
                _ => nearest(&name.value, known.clone()).or_else(|| list(known)),
            };
            self.report.hinted(name.at, format!("`{}` is not an allowed algorithm", name.value), hint);
        }
        found
    }

    fn key_source(&self, name: &Spanned<String>, options: &IssuerOptions) -> KeySource {
        if options.firebase.is_some() {
            return KeySource::Url(FIREBASE_JWKS_URL.to_owned());
        }
        if options.is_keyless() {
            return KeySource::Nowhere;
        }
        let sources = (&options.jwks.url, &options.jwks.file);
        if let (Some(discovery), (Some(_), _) | (_, Some(_))) = (&options.discovery, sources)
            && discovery.value
        {
            self.report.problem(discovery.at, "keys come by discovery or from `jwks`, not both");
        }
        match sources {
            (Some(url), None) => {
                self.https(url);
                KeySource::Url(url.value.clone())
            }
            (None, Some(file)) => {
                self.exists(file);
                let path = self.files.folder.join(&file.value);
                self.files.watch(path.clone());
                KeySource::File(path)
            }
            (Some(url), Some(_)) => {
                self.report.problem(url.at, "a key set has a `url` or a `file`, not both");
                KeySource::Url(url.value.clone())
            }
            (None, None) => {
                if options.discovery.as_ref().is_some_and(|d| !d.value) {
                    self.report.problem(name.at, format!("issuer `{}` has no keys", name.value));
                } else if let Some(issuer) = &options.issuer {
                    self.https(issuer);
                }
                KeySource::Discovery
            }
        }
    }

    pub(super) fn exists(&self, name: &Spanned<String>) {
        if let Err(error) = std::fs::metadata(self.files.folder.join(&name.value)) {
            let message = format!("`{}` {}", name.value, crate::config::files::reason(&error));
            self.report.problem(name.at, message);
        }
    }

    /// SHA-256 of a file of certificate authorities; what it lacks is reported where it is read.
    pub(super) fn fingerprint(&self, ca: Option<&Spanned<String>>) -> Option<[u8; 32]> {
        let bytes = std::fs::read(self.files.folder.join(&ca?.value)).ok()?;
        digest::digest(&digest::SHA256, &bytes).as_ref().try_into().ok()
    }

    fn https(&self, url: &Spanned<String>) {
        let fine = url.parse::<http::Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("https") && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
        });
        if !fine {
            self.report
                .problem(url.at, format!("keys are fetched over https only, and `{}` is no https URL", url.value));
        }
    }
}

/// The short form of a media type in lower case, as tokens are compared (RFC 7515, section 4.1.9).
fn token_type(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("application/").map(str::to_owned).unwrap_or(name)
}
