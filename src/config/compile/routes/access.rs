//! Who may use a route: `public`, `require` and `auth`.
use crate::config::compile::{Compiler, Noun};
use crate::config::options::{
    AuthOptions, CookieAuth, OnMissingOption, OneAuth, RequireOptions, RouteAuth, RouteOptions, SessionAuth,
};
use crate::config::problem::At;
use crate::config::read::Spanned;
use decide::condition::Condition;
use decide::rules::{Accept, Access, OnMissing, Permission, Rules, SessionRules};
use std::sync::Arc;

impl Compiler<'_> {
    /// `public`, or `require` with `auth`. `None` is reported.
    pub(super) fn access(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        rules: &Rules,
        permissions: &[Spanned<String>],
    ) -> Option<Access> {
        match (&options.require, &options.public) {
            (Some(_), Some(public)) => {
                self.report.hinted(
                    public.at,
                    "a route is `public` or has `require`, not both",
                    Some("remove one of them"),
                );
                None
            }
            (None, None) if self.report.is_tainted(name.at) => None,
            (None, None) => {
                let hint = "write `require: {permission: …}`, `require: {session: any}`, or `public: \"<reason>\"`";
                self.report.hinted(name.at, format!("route `{}` does not say who may use it", name.value), Some(hint));
                None
            }
            (None, Some(reason)) => {
                if reason.trim().is_empty() {
                    self.report.problem(reason.at, "an open route needs a reason");
                }
                if let Some(auth) = &options.auth {
                    self.report.problem(auth.at, "a public route checks no session, so it has no `auth`");
                }
                Some(Access::Public { reason: Arc::from(reason.as_str()) })
            }
            (Some(require), None) => {
                self.session_rules(name, options, require, rules, permissions).map(Box::new).map(Access::Session)
            }
        }
    }

    fn session_rules(
        &self,
        name: &Spanned<String>,
        options: &RouteOptions,
        require: &Spanned<RequireOptions>,
        rules: &Rules,
        permissions: &[Spanned<String>],
    ) -> Option<SessionRules> {
        let whole = !self.report.is_tainted(name.at);
        let mut on_missing = OnMissing::Refuse;
        let accept = match &options.auth {
            Some(auth) => {
                on_missing = self.on_missing(auth);
                self.accept(auth, rules)
            }
            None if whole => {
                let hint = "write `auth: {bearer: ISSUER}`";
                self.report.hinted(
                    name.at,
                    format!("route `{}` does not say which `auth` it accepts", name.value),
                    Some(hint),
                );
                Vec::new()
            }
            None => Vec::new(),
        };
        if whole && require.permission.is_some() == require.session.is_some() {
            self.report.problem(require.at, "`require` has exactly one of `permission` and `session: any`");
        }
        let permission = require.permission.as_ref().and_then(|permission| {
            let id = rules.policy.permission(permission);
            let known = permissions.iter().map(|known| known.as_str());
            // Roles that did not compile are reported where they stand.
            let unreadable = permissions.is_empty() && self.options.policies.roles.is_some();
            if unreadable {
                self.used.borrow_mut().insert((Noun::Permission, permission.value.clone()));
            } else {
                self.refer(Noun::Permission, permission, known);
            }
            Some(Permission { id: id?, name: Arc::from(permission.as_str()) })
        });
        let step_up = require.step_up.as_ref().and_then(|step_up| {
            self.refer(Noun::StepUp, step_up, self.names_of_step_ups().into_iter());
            self.step_up(step_up)
        });
        let when = require.when.as_ref().and_then(|when| match Condition::compile(when) {
            Ok(condition) => Some(condition),
            Err(message) => {
                let (message, hint) = readable(&message);
                self.report.hinted(when.at, format!("the condition does not compile{message}"), hint);
                None
            }
        });
        (permission.is_some() == require.permission.is_some()).then_some(SessionRules {
            accept,
            proofs: self.proofs(),
            permission,
            step_up,
            when,
            on_missing,
        })
    }

    /// What becomes of a browser without a session. To send it somewhere, there must be a session that it comes back with, and
    /// an issuer to sign in with.
    fn on_missing(&self, auth: &Spanned<RouteAuth>) -> OnMissing {
        let Some(on_missing) = auth.on_missing.as_ref().filter(|said| said.value == OnMissingOption::Login) else {
            return OnMissing::Refuse;
        };
        let held = match &auth.way {
            AuthOptions::Session(_) => true,
            AuthOptions::AnyOf(all) => all.iter().any(|one| matches!(one.value, OneAuth::Session(_))),
            AuthOptions::Bearer(_)
            | AuthOptions::Dpop(_)
            | AuthOptions::Cookie(_)
            | AuthOptions::ApiKey(_)
            | AuthOptions::AppSession(_)
            | AuthOptions::Certificate(_)
            | AuthOptions::ExtAuth(_) => false,
        };
        if !held {
            let hint = "write `{session: browser, on_missing: login}`";
            let message = "whoever signs in comes back with a session, which is not accepted here";
            self.report.hinted(on_missing.at, message, Some(hint));
        }
        // With codes of its own, the gateway has somewhere to send whoever must step up.
        if self.options.sessions.totp.is_none() && !self.options.issuers.iter().any(|(_, one)| one.client.is_some()) {
            let hint = "write `client: {id: …}` below one of `issuers`";
            self.report.hinted(on_missing.at, "there is no issuer that browsers can sign in with", Some(hint));
        }
        OnMissing::Login
    }

    fn accept(&self, auth: &Spanned<RouteAuth>, rules: &Rules) -> Vec<Accept> {
        let mut accept: Vec<Accept> = match &auth.way {
            AuthOptions::Bearer(issuer) => vec![self.bearer(issuer)],
            AuthOptions::Dpop(issuer) => vec![self.dpop(issuer)],
            AuthOptions::Cookie(cookie) => vec![self.cookie(cookie)],
            AuthOptions::Session(SessionAuth::Browser) => vec![self.session(auth.at)],
            AuthOptions::AppSession(name) => vec![self.app_session(name)],
            AuthOptions::ExtAuth(name) => vec![self.asks(name)],
            AuthOptions::Certificate(name) => vec![self.certificate(name)],
            AuthOptions::ApiKey(keys) => self.api_key(keys, rules).into_iter().collect(),
            AuthOptions::AnyOf(all) => all
                .iter()
                .filter_map(|one| match &one.value {
                    OneAuth::Bearer(issuer) => Some(self.bearer(issuer)),
                    OneAuth::Dpop(issuer) => Some(self.dpop(issuer)),
                    OneAuth::Cookie(cookie) => Some(self.cookie(cookie)),
                    OneAuth::Session(SessionAuth::Browser) => Some(self.session(one.at)),
                    OneAuth::AppSession(name) => Some(self.app_session(name)),
                    OneAuth::ExtAuth(name) => Some(self.asks(name)),
                    OneAuth::Certificate(name) => Some(self.certificate(name)),
                    OneAuth::ApiKey(keys) => self.api_key(keys, rules),
                })
                .collect(),
        };
        if let AuthOptions::AnyOf(all) = &auth.way {
            if all.is_empty() {
                self.report.problem(auth.at, "`any_of` accepts nothing");
            }
            self.one_is_asked(all);
        }
        accept.sort_by_key(Accept::is_ambient);
        accept
    }

    fn bearer(&self, issuer: &Spanned<String>) -> Accept {
        self.refer(Noun::Issuer, issuer, self.names_of_issuers().into_iter());
        Accept::Bearer { issuer: Arc::from(issuer.as_str()) }
    }

    fn session(&self, at: At) -> Accept {
        let cookie = match &self.options.sessions.browser {
            Some(browser) => browser.cookie.as_str(),
            // What could not be read is reported where it stands.
            None if self.tree.get("sessions").is_some_and(|sessions| sessions.get("browser").is_some()) => "",
            None => {
                self.report.hinted(at, "the gateway holds no sessions", Some("write `sessions: {browser: {…}}`"));
                ""
            }
        };
        Accept::Session { cookie: Arc::from(cookie) }
    }

    /// As a challenge names them (RFC 9449, 7.1).
    fn proofs(&self) -> Arc<str> {
        let names: Vec<&str> = self.options.sessions.dpop.algorithms.iter().map(|name| name.value.as_str()).collect();
        names.join(" ").into()
    }

    fn dpop(&self, issuer: &Spanned<String>) -> Accept {
        self.refer(Noun::Issuer, issuer, self.names_of_issuers().into_iter());
        Accept::Dpop { issuer: Arc::from(issuer.as_str()) }
    }

    fn cookie(&self, cookie: &CookieAuth) -> Accept {
        self.refer(Noun::Issuer, &cookie.issuer, self.names("issuers").into_iter());
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if cookie.name.is_empty() || !cookie.name.bytes().all(token) {
            self.report.problem(cookie.name.at, format!("`{}` cannot be the name of a cookie", cookie.name.value));
        }
        let browser = self.options.sessions.browser.as_ref();
        if browser.is_some_and(|browser| browser.cookie.eq_ignore_ascii_case(&cookie.name)) {
            let hint = "give one of them another name";
            self.report.hinted(cookie.name.at, "this is the cookie of `sessions.browser`", Some(hint));
        }
        Accept::Cookie { name: Arc::from(cookie.name.as_str()), issuer: Arc::from(cookie.issuer.as_str()) }
    }
}

/// The first complaint of the CEL compiler without its drawing, `ERROR: <input>:LINE:COLUMN: MESSAGE | SOURCE | ....^`; other
/// complaints as they are.
fn readable(message: &str) -> (String, Option<&'static str>) {
    let first = message.strip_prefix("ERROR: <input>:").and_then(|rest| {
        let (place, rest) = rest.split_once(": ")?;
        let (_, column) = place.split_once(':')?;
        let text = rest.split(" | ").next()?;
        let text = text.strip_prefix("Syntax error: ").unwrap_or(text).trim();
        Some(format!(" at its character {column}: {text}"))
    });
    match first {
        Some(text) => (text, Some("conditions are CEL: compare with `==`, join with `&&` and `||`, quote texts")),
        None => (format!(": {message}"), None),
    }
}
