//! `sessions` → settings.
mod keys;
mod tokens;

use super::limits::Limits;
use super::{Compiler, Noun};
use crate::config::options::{
    BrowserOptions, GrantOptions, RotateOnOption, RotateOption, SameSiteOption, TenantOptions, TotpOptions,
};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{Browser, Grant, Rotation, SameSite, SealingKeys, Server, Sessions, Totp};
use crate::config::units::{Period, seconds};
use decide::facts::Stage;
use decide::rules::{API_KEY, Excess, INSPECT, KeyPart, Limit, Rate, Settle};
use decide::token::mint::OURS;
use std::sync::Arc;

/// Browsers forget cookies after 400 days; nobody should stay signed in for a quarter of a year.
const LONGEST: Period = seconds(90 * 86_400);
/// Name of the limit that the gateway's own endpoints are under in any case.
pub(super) const BUILT_IN: &str = "moat-own";
/// What it lets through where nobody has written it: enough for an office behind one address, too little to guess or to keep
/// the stores busy.
const OWN: Rate = Rate { count: 600, period_s: 60, burst: 120 };

impl Compiler<'_> {
    /// Compiles `sessions`.
    pub(super) fn sessions(&self, server: &Server, limits: &Limits) -> Sessions {
        let options = &self.options.sessions;
        let keys = self.sealing_keys(server);
        let own = limits.list.iter().find(|(name, _)| name.value == BUILT_IN);
        if let Some((name, limit)) = own {
            self.own_limit(name, limit);
        }
        let mut all = vec![own.map_or_else(|| Arc::new(built_in()), |(_, limit)| limit.clone())];
        for name in &options.rate_limits {
            self.refer(Noun::Limit, name, limits.names.iter().map(String::as_str));
            let Some((_, limit)) = limits.list.iter().find(|(known, _)| known.value == name.value) else { continue };
            if name.value == BUILT_IN {
                self.report.problem(name.at, format!("`{BUILT_IN}` is in force without being listed"));
                continue;
            }
            self.own_limit(name, limit);
            all.push(limit.clone());
        }
        if options.browser.as_ref().is_none_or(|browser| browser.grant.is_none()) {
            for (_, route) in self.options.routes.iter() {
                if let Some(grants) = &route.grants {
                    let hint = "write `sessions: {browser: {grant: {issuer: NAME}}}`";
                    self.report.hinted(grants.at, "no application may grant sessions", Some(hint));
                }
            }
        }
        let browser = options.browser.as_ref().map(|browser| Arc::new(self.browser(&browser.value, &keys)));
        let tokens = options.tokens.as_ref().map(|tokens| Arc::new(self.own_tokens(tokens)));
        let totp = options.totp.as_ref().map(|totp| Arc::new(self.totp(totp)));
        Sessions { browser, totp, tokens, dpop: self.dpop_rules(&options.dpop), keys, limits: all }
    }

    /// A limit of the gateway's own endpoints counts by what they know.
    fn own_limit(&self, name: &Spanned<String>, limit: &Limit) {
        if limit.stage() != Stage::Address || limit.key.iter().any(|part| matches!(part, KeyPart::Param(_))) {
            let hint = "the gateway's own endpoints know the address before they know anybody";
            let message = format!("limit `{}` counts by more than the address", name.value);
            self.report.hinted(name.at, message, Some(hint));
        }
    }

    fn browser(&self, options: &BrowserOptions, keys: &SealingKeys) -> Browser {
        let cookie = &options.cookie;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let rest = cookie.value.strip_prefix("__Host-").unwrap_or_default();
        if rest.is_empty() || cookie.len() > 64 || !rest.bytes().all(token) {
            let hint = "it begins with `__Host-`, so that no other host and no plaintext page can set it";
            self.report.hinted(cookie.at, format!("`{}` cannot be the session cookie", cookie.value), Some(hint));
        }
        if decide::cookie::is_own(cookie.as_bytes()) {
            let message =
                format!("cookies whose names begin with `{}` are the gateway's own business", decide::cookie::OWN);
            self.report.hinted(cookie.at, message, Some("write another name, e.g. `__Host-session`"));
        }
        self.within(&options.absolute, seconds(1), LONGEST);
        self.within(&options.idle, seconds(1), LONGEST);
        if options.idle.0 > options.absolute.0 {
            let message = format!("`idle` is longer than `absolute`, `{}`", options.absolute.value);
            self.report.hinted(either(&options.idle, &options.absolute), message, Some("`idle` is at most `absolute`"));
        }
        self.within(&options.reuse_leeway, seconds(1), seconds(60));
        let every = &options.rotate_id.every;
        let every_use = options.rotate == RotateOption::EveryUse;
        if every_use && every.at != At::default() {
            let hint = "remove `every`, or write `rotate: timed`";
            self.report.hinted(every.at, "with `rotate: every_use` there is no `rotate_id.every`", Some(hint));
        }
        if !every_use && every.0 < options.reuse_leeway.0.saturating_mul(2) {
            let message =
                format!("`rotate_id.every` is shorter than twice `reuse_leeway`, `{}`", options.reuse_leeway.value);
            let hint = "else a handle is replaced while the one before it is still good";
            self.report.hinted(either(every, &options.reuse_leeway), message, Some(hint));
        }
        if !every_use && every.at != At::default() && every.0 >= options.absolute.0 {
            let hint = format!("shorten it: sessions end after `absolute`, `{}`", options.absolute.value);
            self.report.hinted(every.at, "no session lives long enough for `rotate_id.every`", Some(hint));
        }
        for issuer in &options.exchange {
            self.refer(Noun::Issuer, issuer, self.names("issuers").into_iter());
        }
        let on = |event| options.rotate_id.on.contains(&event);
        Browser {
            cookie: Arc::from(cookie.as_str()),
            same_site: match options.same_site {
                SameSiteOption::Lax => SameSite::Lax,
                SameSiteOption::Strict => SameSite::Strict,
            },
            idle: options.idle.0,
            absolute: options.absolute.0,
            rotation: Rotation {
                every: (!every_use).then_some(every.0),
                on_step_up: on(RotateOnOption::StepUp),
                on_role_change: on(RotateOnOption::RoleChange),
            },
            reuse_leeway: options.reuse_leeway.0,
            exchange: options.exchange.iter().map(|issuer| Arc::from(issuer.as_str())).collect(),
            grant: options.grant.as_ref().map(|grant| self.grant(&grant.value)),
            keys: match &options.keys {
                Some(place) => self.read_keys(place),
                None => keys.clone(),
            },
        }
    }

    fn totp(&self, options: &Spanned<TotpOptions>) -> Totp {
        if self.tree.get("sessions").is_some_and(|sessions| sessions.get("browser").is_none()) {
            let hint = "write `sessions: {browser: …}`: a token cannot be made stronger, a session can";
            self.report.hinted(options.at, "codes need sessions that the gateway holds", Some(hint));
        }
        let issuer = &options.issuer;
        if issuer.trim().is_empty() || issuer.chars().count() > 64 || issuer.chars().any(char::is_control) {
            let hint = "the name of your product, at most 64 characters";
            self.report.hinted(issuer.at, "this is no name that an app could show", Some(hint));
        }
        if let Some(acr) = options.acr.as_ref().filter(|acr| acr.is_empty()) {
            self.report.problem(acr.at, "an empty `acr` is none");
        }
        self.within(&options.enrol_within, seconds(60), seconds(3600));
        Totp {
            issuer: Arc::from(issuer.as_str()),
            acr: options.acr.as_ref().map(|acr| Arc::from(acr.as_str())),
            enrol_within: options.enrol_within.0,
        }
    }

    fn grant(&self, options: &GrantOptions) -> Grant {
        let header = http::HeaderName::from_bytes(options.header.to_ascii_lowercase().as_bytes());
        let header = header.ok().filter(|name| name.as_str().starts_with("x-"));
        if header.is_none() {
            let hint = "a name of your own that begins with `x-`";
            let message = format!("`{}` cannot be the header of grants", options.header.value);
            self.report.hinted(options.header.at, message, Some(hint));
        }
        let issuer = &options.issuer;
        if issuer.is_empty() {
            self.report.problem(issuer.at, "the application's users need a name of their issuer");
        }
        let others = ["issuers", "ext_auth", "client_certificates", "app_sessions"].map(|section| self.names(section));
        if [API_KEY, OURS].into_iter().chain(others.concat()).any(|name| *name == *issuer.value) {
            let hint =
                "an application does not speak for an identity provider, nor for another service: choose another name";
            let message = format!("`{}` is the name of somebody else who vouches for users", issuer.value);
            self.report.hinted(issuer.at, message, Some(hint));
        }
        if self.granting_routes().is_empty() {
            let hint = "write `grants: session` at the route whose answers sign users in, or remove `grant`";
            self.report.hinted(issuer.at, "no route may grant sessions", Some(hint));
        }
        Grant {
            header: header.unwrap_or(http::HeaderName::from_static("x-moat-session-grant")),
            issuer: Arc::from(issuer.as_str()),
            routes: self.granting_routes(),
        }
    }

    /// Routes that say `grants: session`.
    fn granting_routes(&self) -> Vec<Arc<str>> {
        let granting = self.options.routes.iter().filter(|(_, route)| route.grants.is_some());
        granting.map(|(name, _)| Arc::from(name.as_str())).collect()
    }

    /// The name under which the users of an application that grants sessions are known, if one does.
    pub(super) fn granting(&self) -> Option<&str> {
        let browser = self.options.sessions.browser.as_ref()?;
        browser.grant.as_ref().map(|grant| grant.issuer.as_str())
    }

    /// A tenant may be stricter than the platform, never laxer.
    pub(super) fn tenant_session(&self, id: &Spanned<String>, tenant: &TenantOptions) {
        let browser = self.options.sessions.browser.as_ref().map(|browser| &browser.value);
        let session = &tenant.session;
        let tokens = self.options.sessions.tokens.is_some();
        let pairs = [
            ("idle", &session.idle, browser.map(|b| &b.idle)),
            ("absolute", &session.absolute, browser.map(|b| &b.absolute)),
        ];
        for (key, own, platform) in pairs {
            let Some(own) = own else { continue };
            let unread = self.tree.get("sessions").is_some_and(|sessions| sessions.get("browser").is_some());
            match platform {
                None if unread || tokens => {}
                None => {
                    let message = format!("tenant `{}` bounds sessions that nobody has", id.value);
                    self.report.hinted(own.at, message, Some("write `sessions: {browser: …}`, or remove it"));
                }
                Some(platform) if own.0 > platform.0 => {
                    let message = format!("`{key}` of tenant `{}` is laxer than `sessions.browser.{key}`", id.value);
                    let hint = format!("a tenant may be stricter, never laxer: at most `{}`", platform.value);
                    self.report.hinted(own.at, message, Some(hint));
                }
                Some(_) => {
                    self.within(own, seconds(1), LONGEST);
                }
            }
        }
    }
}

fn either(first: &Spanned<Period>, second: &Spanned<Period>) -> At {
    if first.at == At::default() { second.at } else { first.at }
}

/// The limit of the gateway's own endpoints that nobody has to write; whoever writes one of this name has it in its place.
fn built_in() -> Limit {
    Limit {
        name: Arc::from(BUILT_IN),
        key: vec![KeyPart::ClientPrefix],
        rates: vec![OWN],
        concurrent: Vec::new(),
        cost: 1,
        settle: Settle::Never,
        excess: Excess::Refuse,
        inspect: INSPECT,
        legacy: false,
        shadow: false,
        sharing: None,
    }
}
