//! `issuers.NAME.client` → settings.
use crate::config::compile::{Compiler, Noun};
use crate::config::options::{AuthMethodOption, CallbackOption, ClientOptions, EndpointOptions, IssuerOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{Client, ClientProof};
use decide::path;
use decide::sign_in::Provider;
use decide::token::IssuerRules;
use std::sync::Arc;

impl Compiler<'_> {
    pub(super) fn sign_in_client(
        &self,
        name: &Spanned<String>,
        issuer: &IssuerOptions,
        rules: &IssuerRules,
    ) -> Option<Arc<Client>> {
        let options = issuer.client.as_ref()?;
        // Whether or not a route takes its tokens: browsers sign in with it.
        self.used.borrow_mut().insert((Noun::Issuer, name.value.clone()));
        if let Some(firebase) = &issuer.firebase {
            let hint = "sign-ins of Firebase happen in its own library; exchange its tokens at `/.moat/session`";
            self.report.hinted(
                firebase.project.at,
                "Firebase is no OpenID provider that browsers are sent to",
                Some(hint),
            );
        }
        if self.options.sessions.browser.is_none() && !self.report.is_tainted(name.at) {
            let unread = self.tree.get("sessions").is_some_and(|sessions| sessions.get("browser").is_some());
            if !unread {
                let hint = "write `sessions: {browser: {}}`";
                self.report.hinted(
                    options.id.at,
                    "browsers sign in to sessions, and the gateway holds none",
                    Some(hint),
                );
            }
        }
        if options.id.is_empty() || !options.id.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            self.report.problem(options.id.at, "a client's `id` is visible ASCII, and not empty");
        }
        let shared = |other: &IssuerOptions| {
            other.client.as_ref().is_some_and(|client| client.callback == CallbackOption::Shared)
        };
        let several = self.options.issuers.iter().filter(|(_, other)| shared(other)).count() > 1;
        let (callback, must_name_itself) = match options.callback {
            CallbackOption::Shared => ("/.moat/callback".to_owned(), several),
            CallbackOption::Own => {
                self.own_callback(name);
                (format!("/.moat/callback/{}", name.value), false)
            }
        };
        Some(Arc::new(Client {
            id: Arc::from(options.id.as_str()),
            rules: IssuerRules {
                audiences: vec![options.id.value.clone()],
                // The gateway's session has a life of its own; an ID token is looked at once.
                max_lifetime_s: None,
                ..rules.clone()
            },
            proof: self.proof(options),
            scopes: self.scopes(options),
            callback,
            must_name_itself,
            signed_out: self.signed_out(&options.signed_out),
            endpoints: options.endpoints.as_ref().map(|endpoints| self.endpoints(issuer, endpoints)),
        }))
    }

    /// The name is a segment of a path.
    fn own_callback(&self, name: &Spanned<String>) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !name.bytes().all(plain) {
            let hint = "letters, digits, `-` and `_` only";
            self.report.hinted(name.at, "with `callback: own` the issuer's name is part of a path", Some(hint));
        }
    }

    fn proof(&self, options: &ClientOptions) -> ClientProof {
        let method = options.auth_method.value;
        let secret = options.secret.as_ref().and_then(|place| {
            let source = place.source(&self.files.folder, &|name| self.files.variable(name));
            source.map_err(|message| self.report.problem(place.at, message)).ok()
        });
        match (method, &options.secret, secret) {
            (AuthMethodOption::PrivateKeyJwt, Some(place), _) => {
                let hint = "remove `secret`; the issuer reads the public key at `/.moat/jwks.json`";
                self.report.hinted(place.at, "`private_key_jwt` needs no secret", Some(hint));
                ClientProof::PrivateKey
            }
            (AuthMethodOption::PrivateKeyJwt, None, _) => ClientProof::PrivateKey,
            (_, None, _) => {
                let at = if options.auth_method.at == At::default() { options.id.at } else { options.auth_method.at };
                let hint = "write `secret: {file: …}`, or `auth_method: private_key_jwt`";
                self.report.hinted(at, "the client has no `secret`", Some(hint));
                ClientProof::PrivateKey
            }
            // Reported where its place stands.
            (_, Some(_), None) => ClientProof::PrivateKey,
            (AuthMethodOption::ClientSecretBasic, Some(_), Some(source)) => ClientProof::Basic(source),
            (AuthMethodOption::ClientSecretPost, Some(_), Some(source)) => ClientProof::Post(source),
        }
    }

    fn scopes(&self, options: &ClientOptions) -> String {
        let mut scopes: Vec<&str> = vec!["openid"];
        for scope in &options.scopes {
            // RFC 6749, 3.3
            let fine = !scope.is_empty() && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
            if !fine {
                self.report.problem(scope.at, format!("`{}` cannot be a scope", scope.value));
            } else if scope.as_str() == "offline_access" {
                let hint = "remove it; a session lasts as long as `sessions.browser` says";
                self.report.hinted(
                    scope.at,
                    "`offline_access` asks for a refresh token, which nothing here would use",
                    Some(hint),
                );
            } else if !scopes.contains(&scope.as_str()) {
                scopes.push(scope);
            }
        }
        scopes.join(" ")
    }

    fn signed_out(&self, wanted: &Spanned<String>) -> String {
        let own = wanted.starts_with("/.moat/") && wanted.as_str() != "/.moat/signed-out";
        let canonical = wanted.starts_with('/') && path::canonical(wanted).is_ok_and(|path| *path == *wanted.as_str());
        if own || !canonical {
            let hint = "write a path in its plain form, e.g. `/` or `/goodbye`";
            self.report.hinted(wanted.at, format!("`{}` is no page of the same host", wanted.value), Some(hint));
        }
        wanted.value.clone()
    }

    fn endpoints(&self, issuer: &IssuerOptions, endpoints: &EndpointOptions) -> Provider {
        for url in [&endpoints.authorization, &endpoints.token].into_iter().chain(&endpoints.end_session) {
            if !Provider::is_endpoint(url) {
                self.report.problem(url.at, format!("`{}` is no plain https URL", url.value));
            }
        }
        let name = issuer.issuer.as_ref().map(|name| name.value.as_str()).unwrap_or_default();
        let end_session = endpoints.end_session.as_ref().map(|url| url.value.as_str());
        Provider::configured(name, &endpoints.authorization, &endpoints.token, end_session)
    }
}
