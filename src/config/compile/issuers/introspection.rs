//! `issuers.NAME.introspection` → settings.
use crate::config::compile::Compiler;
use crate::config::options::{
    AskWhatOption, IntrospectionAuthOption, IntrospectionOptions, IssuerOptions, MemberOption, OneAuth,
};
use crate::config::read::Spanned;
use crate::config::settings::{AskWhat, Introspection, IntrospectionProof, Keep};
use crate::config::units::{Period, seconds};
use decide::sign_in::Provider;
use decide::token::Member;
use std::sync::Arc;
use std::time::Duration;

/// Longest service of an answer.
const LONGEST: Period = seconds(60);
const NOTHING: Period = Period(Duration::ZERO);

impl IssuerOptions {
    /// Whether the issuer is asked about all of its tokens, and has no keys that we need.
    pub(in crate::config::compile) fn is_keyless(&self) -> bool {
        let asked = self.introspection.as_ref().is_some_and(|asked| asked.value.tokens == AskWhatOption::All);
        let keys = self.jwks.url.is_some() || self.jwks.file.is_some() || self.discovery.is_some();
        asked && !keys && self.algorithms.is_empty() && self.firebase.is_none()
    }

    /// Whether answers need not say whom a token is meant for.
    pub(super) fn may_lack_audience(&self) -> bool {
        let lacks = |asked: &Spanned<IntrospectionOptions>| {
            asked.may_lack.iter().any(|member| member.value == MemberOption::Aud)
        };
        self.introspection.as_ref().is_some_and(lacks)
    }
}

impl Compiler<'_> {
    pub(super) fn introspection(&self, issuer: &IssuerOptions) -> Option<Arc<Introspection>> {
        let options = issuer.introspection.as_ref()?;
        if issuer.firebase.is_some() {
            self.report.hinted(options.at, "Firebase has no endpoint that is asked about tokens", Some("remove it"));
        }
        let keyless = issuer.is_keyless();
        if let Some(client) = issuer.client.as_ref().filter(|_| keyless) {
            let hint = "list the `algorithms` of the issuer's keys";
            self.report.hinted(client.id.at, "ID tokens are signed, and this issuer has no keys", Some(hint));
        }
        if let Some(signals) = issuer.signals.as_ref().filter(|_| keyless) {
            let hint = "list the `algorithms` of the issuer's keys";
            self.report.hinted(signals.at, "security events are signed, and this issuer has no keys", Some(hint));
        }
        if !Provider::is_endpoint(&options.url) {
            self.report.problem(options.url.at, format!("`{}` is no plain https URL", options.url.value));
        }
        let id = &options.client_id;
        if id.is_empty() || !id.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            self.report.problem(id.at, "`client_id` is visible ASCII, and not empty");
        }
        let mut may_lack = Vec::new();
        for member in &options.may_lack {
            let known = match member.value {
                MemberOption::Iss => Member::Iss,
                MemberOption::Aud => Member::Aud,
                MemberOption::Iat => Member::Iat,
                MemberOption::TokenType => Member::TokenType,
            };
            if may_lack.contains(&known) {
                self.report.problem(member.at, "this member stands there already");
            }
            may_lack.push(known);
        }
        let cache = &options.cache;
        let whole = |period: &Spanned<Period>| {
            self.within(period, NOTHING, LONGEST);
            if period.0.subsec_nanos() != 0 {
                self.report.problem(period.at, "answers are remembered for whole seconds");
            }
            period.seconds()
        };
        let keep = Keep {
            max_age_s: whole(&cache.max_age),
            refused_s: whole(&cache.refused),
            entries: self.within(&cache.entries, 1, 1_000_000),
        };
        let timeout = self.within(&options.timeout, Period(Duration::from_millis(10)), seconds(10)).0;
        let max_in_flight = self.within(&options.max_in_flight, 1, 10_000);
        let secret = self.secret(&Some(options.secret.clone()))?;
        Some(Arc::new(Introspection {
            url: options.url.parse().ok()?,
            client_id: id.value.clone(),
            proof: match options.auth_method {
                IntrospectionAuthOption::ClientSecretBasic => IntrospectionProof::Basic(secret),
                IntrospectionAuthOption::ClientSecretPost => IntrospectionProof::Post(secret),
            },
            tokens: match options.tokens {
                AskWhatOption::Opaque => AskWhat::Opaque,
                AskWhatOption::All => AskWhat::All,
            },
            may_lack,
            authorities: self.fingerprint(issuer.ca.as_ref()),
            keep,
            timeout,
            max_in_flight,
        }))
    }

    /// An opaque token does not say who made it: where several issuers could be asked, each would learn the others' tokens.
    pub(in crate::config::compile) fn one_is_asked(&self, all: &[Spanned<OneAuth>]) {
        let mut first: [Option<&str>; 2] = [None, None];
        for one in all {
            let (issuer, scheme) = match &one.value {
                OneAuth::Bearer(issuer) => (issuer, 0),
                OneAuth::Dpop(issuer) => (issuer, 1),
                _ => continue,
            };
            let asked = self.options.issuers.find(issuer).is_some_and(|issuer| issuer.introspection.is_some());
            let Some(first) = first.get_mut(scheme).filter(|_| asked) else { continue };
            match first {
                None => *first = Some(issuer.as_str()),
                Some(other) if *other == issuer.value => {}
                Some(other) => {
                    let message = format!(
                        "opaque tokens do not say whether `{other}` or `{}` is to be asked about them",
                        issuer.value
                    );
                    self.report.hinted(issuer.at, message, Some("accept them on routes of their own"));
                }
            }
        }
    }
}
