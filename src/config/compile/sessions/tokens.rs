//! `sessions.tokens` and `sessions.dpop` → settings, and the issuer that is built in.
use crate::config::compile::{Compiler, Noun};
use crate::config::options::{BindingOption, DpopOptions, TokensOptions};
use crate::config::read::Spanned;
use crate::config::settings::{Dpop, Issuer, KeySource, SealingKeys, Tokens};
use crate::config::units::{Period, seconds};
use decide::session::family;
use decide::token::mint::{OURS, SigningKey};
use decide::token::{Algorithm, IssuerRules};
use std::sync::Arc;
use std::time::Duration;

/// Nothing that is issued once should be good for longer.
const LONGEST: Period = seconds(365 * 86_400);

impl Compiler<'_> {
    /// `sessions.tokens`.
    pub(super) fn own_tokens(&self, options: &Spanned<TokensOptions>) -> Tokens {
        for issuer in &options.exchange {
            self.refer(Noun::Issuer, issuer, self.names("issuers").into_iter());
        }
        if options.exchange.is_empty() {
            let at = options.at;
            let hint = "write `exchange: [ISSUER]`: the issuers whose tokens are exchanged";
            self.report.hinted(at, "`sessions.tokens` exchanges the tokens of nobody", Some(hint));
        }
        self.within(&options.access_ttl, seconds(10), seconds(3600));
        let refresh = &options.refresh;
        self.within(&refresh.ttl, options.access_ttl.value.max(seconds(10)), LONGEST);
        self.within(&refresh.reuse_leeway, seconds(1), seconds(60));
        self.within(&refresh.clock_skew, Period(Duration::ZERO), seconds(10));
        for (text, what) in [(&options.issuer, "issuer"), (&options.audience, "audience")] {
            if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
                self.report.problem(text.at, format!("`{what}` is a short text"));
            }
        }
        Tokens {
            exchange: options.exchange.iter().map(|issuer| Arc::from(issuer.as_str())).collect(),
            issue_at: options.issue_at.iter().filter_map(|path| self.issue_at(path)).collect(),
            issuer: Arc::from(options.issuer.as_str()),
            audience: Arc::from(options.audience.as_str()),
            access_ttl_s: options.access_ttl.seconds(),
            rules: family::Rules {
                ttl_ms: millis(&refresh.ttl),
                idle_ms: None,
                single_use: refresh.single_use,
                leeway_ms: millis(&refresh.reuse_leeway),
                skew_ms: millis(&refresh.clock_skew),
            },
            bound: options.dpop == BindingOption::Required,
        }
    }

    /// A path of the token endpoint: as requests are read, and none that is taken.
    fn issue_at(&self, path: &Spanned<String>) -> Option<Arc<str>> {
        let fine = path.len() > 1 && !path.contains(['{', '}', '*', '?', '#']);
        let fine = fine && decide::path::canonical(path).is_ok_and(|canonical| canonical == path.value);
        if !fine || path.starts_with("/.moat/") {
            let hint = "a path as requests have it, as `/oauth/token`, and not below `/.moat/`";
            self.report.hinted(path.at, format!("`{}` cannot be a token endpoint", path.value), Some(hint));
            return None;
        }
        Some(Arc::from(path.as_str()))
    }

    /// `sessions.dpop`.
    pub(super) fn dpop_rules(&self, options: &DpopOptions) -> Dpop {
        self.within(&options.max_age, seconds(5), seconds(600));
        self.within(&options.clock_skew, Period(Duration::ZERO), seconds(300));
        let algorithms: Vec<Algorithm> = options.algorithms.iter().filter_map(|name| self.algorithm(name)).collect();
        if options.algorithms.is_empty() {
            self.report.problem(options.algorithms.at, "`sessions.dpop.algorithms` lists none");
        }
        Dpop { max_age_s: options.max_age.seconds(), skew_s: options.clock_skew.seconds(), algorithms }
    }

    /// The issuer of our own access tokens, where there are any. It verifies with every key of the ring.
    pub(in crate::config::compile) fn own_issuer(
        &self,
        tokens: Option<&Tokens>,
        keys: &SealingKeys,
        pepper: [u8; 32],
    ) -> Option<Arc<Issuer>> {
        if let Some((name, _)) = self.options.issuers.iter().find(|(name, _)| name.value == OURS) {
            let hint = "it is the name of the gateway's own access tokens (`sessions.tokens`)";
            self.report.hinted(name.at, format!("no issuer can be called `{OURS}`"), Some(hint));
        }
        let tokens = tokens?;
        let list: Vec<String> = keys.iter().filter_map(SigningKey::derive).map(|key| key.jwk()).collect();
        let skew_s = tokens.rules.skew_ms.div_ceil(1000);
        Some(Arc::new(Issuer {
            rules: IssuerRules::ours(&tokens.issuer, &tokens.audience, tokens.access_ttl_s, skew_s, pepper),
            introspection: None,
            keys: KeySource::Ours(format!("{{\"keys\":[{}]}}", list.join(","))),
            refresh: LONGEST.0,
            min_interval: LONGEST.0,
            max_stale: LONGEST.0.saturating_mul(3),
            ca: None,
            client: None,
            signals: None,
        }))
    }

    /// The names that `bearer` and `dpop` of a route may say.
    pub(in crate::config::compile) fn names_of_issuers(&self) -> Vec<&str> {
        let ours = self.tree.get("sessions").is_some_and(|sessions| sessions.get("tokens").is_some());
        self.names("issuers").into_iter().chain(ours.then_some(OURS)).collect()
    }
}

fn millis(period: &Spanned<Period>) -> u64 {
    u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX)
}
