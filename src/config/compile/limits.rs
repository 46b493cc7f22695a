//! `policies/rate-limits.yaml` → limits.
use super::Compiler;
use crate::config::options::{
    BodyKind, CapOption, HeadersOption, KeyOption, LimitDefaults, LimitOptions, ModeOption, RateLimitsFile, RateOption,
    StoreLossOption, UseOption,
};
use crate::config::problem::At;
use crate::config::read::{Entries, Spanned};
use crate::config::units::{Burst, Period, RateText, seconds};
use decide::policy::nearest;
use decide::rules::{FieldKey, FieldSource, KeyPart, Limit, Rate, Settle, Sharing, SharingMode, StoreLoss};
use std::sync::Arc;
use std::time::Duration;

/// The limits as read, before the classes of tenants are known.
#[derive(Default)]
pub(super) struct Read {
    file: RateLimitsFile,
    /// All names, of limits that could not be read too.
    pub(super) names: Vec<String>,
    /// Every class that a rate names.
    pub(super) classes: Vec<String>,
}

impl Compiler<'_> {
    /// Reads the file.
    pub(super) fn limits(&self) -> Read {
        let Some(name) = &self.options.policies.rate_limits else { return Read::default() };
        let Some(node) = self.files.open(name, Some(name.at)) else { return Read::default() };
        let names = node.get("limits").map(|n| n.keys().map(|k| k.text.clone()).collect()).unwrap_or_default();
        let file: RateLimitsFile = crate::config::read::read(&node, self.report).unwrap_or_default();
        let mut classes: Vec<String> = Vec::new();
        for (_, limit) in file.limits.iter() {
            if let Some(RateOption::ByClass(rates)) = limit.rate.as_ref().map(|rate| &rate.value) {
                classes.extend(rates.names().map(str::to_owned));
            }
            if let Some(CapOption::ByClass(caps)) = limit.concurrent.as_ref().map(|caps| &caps.value) {
                classes.extend(caps.names().map(str::to_owned));
            }
        }
        classes.sort();
        classes.dedup();
        Read { file, names, classes }
    }

    /// Compiles the limits for these classes of tenants.
    pub(super) fn rates(&self, read: &Read, classes: &[Arc<str>]) -> Limits {
        let all = read.file.limits.iter();
        let list = all
            .map(|(name, options)| (name.clone(), Arc::new(self.limit(name, options, classes, &read.file.defaults))))
            .collect();
        Limits { list, names: read.names.clone() }
    }

    fn limit(
        &self,
        name: &Spanned<String>,
        options: &LimitOptions,
        classes: &[Arc<str>],
        defaults: &LimitDefaults,
    ) -> Limit {
        if options.key.is_empty() && !self.report.is_tainted(name.at) {
            self.report.problem(name.at, format!("limit `{}` has no key", name.value));
        }
        let mut key: Vec<KeyPart> = Vec::new();
        for part in &options.key {
            let one = match &part.value {
                KeyOption::ClientPrefix => KeyPart::ClientPrefix,
                KeyOption::Tenant => KeyPart::Tenant,
                KeyOption::User => KeyPart::Subject,
                KeyOption::ApiKey => KeyPart::ApiKey,
                KeyOption::Route => KeyPart::Route,
                KeyOption::Param(name) => KeyPart::Param(name.as_str().into()),
                KeyOption::Field(kind, name) => KeyPart::Field(FieldKey {
                    source: match kind {
                        BodyKind::Form => FieldSource::Form,
                        BodyKind::Json => FieldSource::Json,
                        BodyKind::Any => FieldSource::Any,
                    },
                    name: name.as_str().into(),
                }),
            };
            if key.contains(&one) {
                self.report.problem(part.at, "this part of the key stands there already");
            } else {
                key.push(one);
            }
        }
        let rates = options.rate.as_ref().map_or_else(Vec::new, |rate| self.rates_of(name, options, rate, classes));
        let mut limit = Limit { shadow: options.shadow, ..Limit::new(name, key, rates) };
        limit.legacy = defaults.headers == HeadersOption::Legacy;
        limit.concurrent = options.concurrent.as_ref().map_or_else(Vec::new, |caps| self.caps_of(name, caps, classes));
        self.beyond_the_rate(name, options, &mut limit);
        // A cap is held by each replica alone, and a limit of nothing else needs no store.
        limit.sharing = self.sharing(options, defaults).filter(|_| !limit.rates.is_empty());
        if let (Some(Sharing { mode: SharingMode::Strict, .. }), Some(most)) = (limit.sharing, &options.concurrent) {
            let hint = "write the cap as a limit of its own, with `mode: local`";
            self.report.hinted(
                most.at,
                "each replica holds a cap alone, and a `strict` rate is charged before it",
                Some(hint),
            );
        }
        if let Some(Sharing { mode: SharingMode::Strict, .. }) = limit.sharing
            && limit.settle != Settle::Never
            && let Some(at) = options.count.as_ref().map(|c| c.at).or(options.cost.as_ref().map(|c| c.at))
        {
            let hint = "give the limit `mode: local` or `mode: synced`";
            let message = "a `strict` limit is charged before the answer that tells the cost is known";
            self.report.hinted(at, message, Some(hint));
        }
        limit
    }

    /// How counts are shared: by nobody where there is no store for it.
    fn sharing(&self, options: &LimitOptions, defaults: &LimitDefaults) -> Option<Sharing> {
        let mode = match options.mode.unwrap_or(defaults.mode) {
            ModeOption::Local => None,
            ModeOption::Synced => Some(SharingMode::Synced),
            ModeOption::Strict => Some(SharingMode::Strict),
        };
        if let (None, Some(written)) = (mode, &options.on_store_loss) {
            let hint = "remove it, or give the limit `mode: synced` or `mode: strict`";
            self.report.hinted(written.at, "a limit that each replica counts alone needs no store", Some(hint));
        }
        let on_store_loss = match options.on_store_loss.as_ref().map_or(defaults.on_store_loss, |written| written.value)
        {
            StoreLossOption::Local => StoreLoss::Local,
            StoreLossOption::Open => StoreLoss::Open,
            StoreLossOption::Closed => StoreLoss::Closed,
        };
        let redis = self.options.storage.redis.as_ref()?;
        redis.use_for.iter().any(|one| one.value == UseOption::Limits).then_some(Sharing { mode: mode?, on_store_loss })
    }

    fn rates_of(
        &self,
        name: &Spanned<String>,
        options: &LimitOptions,
        written: &Spanned<RateOption>,
        classes: &[Arc<str>],
    ) -> Vec<Rate> {
        let rate = |text: &RateText| Rate {
            count: text.count,
            period_s: text.period_s,
            burst: self.burst(*text, options.burst, written.at),
        };
        match &written.value {
            RateOption::One(text) => vec![rate(text)],
            RateOption::ByClass(rates) => {
                self.every_class(name, ("rate", written.at), rates, classes);
                classes.iter().filter_map(|class| rates.find(class)).map(rate).collect()
            }
        }
    }

    fn caps_of(&self, name: &Spanned<String>, written: &Spanned<CapOption>, classes: &[Arc<str>]) -> Vec<u32> {
        match &written.value {
            CapOption::One(most) => vec![self.within(&Spanned { value: *most, at: written.at }, 1, MOST_AT_ONCE)],
            CapOption::ByClass(caps) => {
                self.every_class(name, ("cap", written.at), caps, classes);
                let caps = classes.iter().filter_map(|class| caps.find(class));
                caps.map(|most| self.within(most, 1, MOST_AT_ONCE)).collect()
            }
        }
    }

    /// Reports classes of tenants for which nothing is written.
    fn every_class<T>(&self, name: &Spanned<String>, of: (&str, At), written: &Entries<T>, classes: &[Arc<str>]) {
        let (what, at) = of;
        let missing: Vec<&str> = classes.iter().map(|c| &**c).filter(|class| written.find(class).is_none()).collect();
        if !missing.is_empty() && !self.report.is_tainted(name.at) {
            let message = format!("limit `{}` has no {what} for class `{}`", name.value, missing.join("`, `"));
            let near = missing.iter().find_map(|class| nearest(class, written.names()));
            let hint = near.map(|hint| format!("{hint} every class of tenants needs a {what}"));
            self.report.hinted(at, message, hint);
        }
    }

    /// Requests at once: as written, or so many times what the rate allows in a second, at least one.
    fn burst(&self, rate: RateText, written: Burst, at: At) -> u32 {
        let requests = match written {
            Burst::Requests(n) => u64::from(n),
            Burst::Times(times) => u64::from((rate.count / rate.period_s).max(1)) * u64::from(times),
        };
        let refilled = Period(Duration::from_secs(
            (requests.saturating_mul(u64::from(rate.period_s))) / u64::from(rate.count.max(1)),
        ));
        if refilled > LONGEST_REFILL {
            let message = format!("a burst of `{written}` at `{rate}` takes longer than a year to fill up again");
            self.report.hinted(at, message, Some("allow a smaller burst, or a higher rate"));
        }
        u32::try_from(requests).unwrap_or_else(|_| {
            let message = format!("a burst of `{written}` at `{rate}` is more than {} requests", u32::MAX);
            self.report.problem(at, message);
            u32::MAX
        })
    }
}

/// Most requests of a key that a cap may let be under way.
const MOST_AT_ONCE: u32 = 1_000_000;
/// How long a burst may take to fill up again; one that takes longer is no limit but a total.
const LONGEST_REFILL: Period = seconds(365 * 86_400);

/// Limits by name.
pub(super) struct Limits {
    pub(super) list: Vec<(Spanned<String>, Arc<Limit>)>,
    pub(super) names: Vec<String>,
}

impl std::ops::Deref for Limits {
    type Target = [(Spanned<String>, Arc<Limit>)];
    fn deref(&self) -> &Self::Target {
        &self.list
    }
}
