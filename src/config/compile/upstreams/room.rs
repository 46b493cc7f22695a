//! `upstreams.X.adaptive` and `fairness` → who gets how much of the room that `max_in_flight` makes.
use crate::config::compile::Compiler;
use crate::config::options::{FairnessBy, FairnessOptions, UpstreamOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::Fairness;
use crate::config::units::Share;
use decide::policy::nearest;
use std::sync::Arc;

impl Compiler<'_> {
    pub(super) fn adaptive_min(&self, options: &UpstreamOptions) -> Option<usize> {
        let adaptive = options.adaptive.as_ref()?;
        let max = self.room(options, "adaptive", adaptive.at)?;
        let min = self.within(&adaptive.min, 1, 10_000_000);
        if min > max {
            let message = format!("`min` is {min}, more than `max_in_flight`, which is {max}");
            self.report.problem(adaptive.min.at, message);
        }
        Some(min)
    }

    pub(super) fn fairness(
        &self,
        fairness: &Spanned<FairnessOptions>,
        options: &UpstreamOptions,
        classes: &[Arc<str>],
    ) -> Option<Fairness> {
        match fairness.by {
            FairnessBy::Tenant => {}
        }
        self.room(options, "fairness", fairness.at)?;
        if fairness.reserve.hundredths() >= Share::HALF.hundredths() {
            self.report.problem(fairness.reserve.at, "`reserve` keeps half of the room or more from everybody");
        }
        for (class, weight) in fairness.weights.iter() {
            self.within(weight, 1, 1000);
            if !classes.iter().any(|known| **known == *class.value) {
                let hint = nearest(&class.value, classes.iter());
                self.report.hinted(class.at, format!("no tenant is of class `{}`", class.value), hint);
            }
        }
        let weight = |class: &Arc<str>| fairness.weights.find(class).map_or(1, |weight| weight.value);
        Some(Fairness { reserve: fairness.reserve.hundredths(), weights: classes.iter().map(weight).collect() })
    }

    /// Both divide what is bounded.
    fn room(&self, options: &UpstreamOptions, key: &str, at: At) -> Option<usize> {
        if options.max_in_flight.is_none() {
            let hint = "write the most that the application can take, e.g. `max_in_flight: 200`";
            self.report.hinted(at, format!("`{key}` without `max_in_flight`"), Some(hint));
        }
        options.max_in_flight.as_ref().map(|max| max.value)
    }
}
