//! What a limit charges, which requests count, and what happens to those beyond its rate.
use super::Compiler;
use crate::config::options::{
    CostOption, CountOption, CountWord, DelayOptions, ExceedOption, LimitOptions, ResponseCost,
};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::units::{Period, Size, seconds};
use decide::request::{Method, Methods};
use decide::rules::{Excess, KeyPart, Limit, Settle, Statuses};
use http::HeaderName;
use http::header;
use std::sync::Arc;
use std::time::Duration;

/// Most that one request costs.
const DEAREST: u32 = 1_000_000;
/// Bounds of `on_exceed.delay`.
const DELAYS: (Period, Period) = (Period(Duration::from_millis(10)), seconds(60));
/// Most requests of a key that may wait.
const MOST_WAITING: u32 = 100;
/// Bounds of `inspect`: beyond, a body could not be repeated to an application that speaks HTTP/2.
const INSPECTED: (Size, Size) = (Size(64), Size(32 << 10));
/// Fields of an answer that mean something by themselves.
const TAKEN: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::LOCATION,
    header::SET_COOKIE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Compiler<'_> {
    /// Everything about a limit besides its key, its rates and its cap.
    pub(super) fn beyond_the_rate(&self, name: &Spanned<String>, options: &LimitOptions, limit: &mut Limit) {
        if options.rate.is_none() {
            let of_the_rate = [
                options.cost.as_ref().map(|cost| ("cost", cost.at)),
                options.count.as_ref().map(|count| ("count", count.at)),
                options.on_exceed.as_ref().map(|exceed| ("on_exceed", exceed.at)),
            ];
            for (key, at) in of_the_rate.into_iter().flatten() {
                self.report.problem(at, format!("`{key}` is of a rate, and limit `{}` has none", name.value));
            }
            if options.concurrent.is_none() && !self.report.is_tainted(name.at) {
                let hint = "write `rate: 20/s`, `concurrent: 2`, or both";
                self.report.hinted(name.at, format!("limit `{}` limits nothing", name.value), Some(hint));
            }
        }
        let burst = limit.rates.iter().map(|rate| rate.burst).min().unwrap_or(u32::MAX);
        match options.cost.as_ref().map(|cost| (&cost.value, cost.at)) {
            None => {}
            Some((CostOption::Fixed(cost), at)) => limit.cost = self.cost(*cost, burst, at),
            Some((CostOption::ByResponse(by), at)) => self.by_response(&by.by_response, at, burst, limit),
        }
        if let Some(count) = &options.count {
            self.count(count, limit);
        }
        match options.on_exceed.as_ref().map(|exceed| &exceed.value) {
            None | Some(ExceedOption::Refuse(_)) => {}
            Some(ExceedOption::Delay(DelayOptions { delay, waiting })) => {
                self.within(delay, DELAYS.0, DELAYS.1);
                limit.excess = Excess::Delay { each: delay.value.0, waiting: self.within(waiting, 1, MOST_WAITING) };
            }
        }
        if let Some(size) = &options.inspect {
            if limit.fields().next().is_none() {
                let hint = "it is of keys such as `form.username_hash`";
                let message = format!("limit `{}` looks into no body", name.value);
                self.report.hinted(size.at, message, Some(hint));
            }
            limit.inspect = usize::try_from(self.within(size, INSPECTED.0, INSPECTED.1).0).unwrap_or(usize::MAX);
        }
    }

    /// A cost that can ever be paid.
    pub(super) fn cost(&self, cost: u32, burst: u32, at: At) -> u32 {
        if cost == 0 {
            self.report.hinted(at, "a cost of 0 limits nothing", Some("leave the limit out"));
        } else if cost > burst {
            let hint = "no request would ever pass; raise `burst`";
            self.report.hinted(at, format!("a cost of {cost} is more than the burst of {burst}"), Some(hint));
        }
        cost.clamp(1, DEAREST)
    }

    fn by_response(&self, by: &ResponseCost, at: At, burst: u32, limit: &mut Limit) {
        let max = self.within(&by.max, 1, DEAREST);
        limit.cost =
            self.cost(by.reserve.value, burst, if by.reserve.at == At::default() { at } else { by.reserve.at });
        limit.settle = match (&by.header, &by.bytes) {
            (Some(header), None) => match HeaderName::from_bytes(header.to_ascii_lowercase().as_bytes()) {
                Ok(name) if !TAKEN.contains(&name) => Settle::Header { name, max },
                Ok(_) => {
                    let message =
                        format!("`{}` means something else, and would be taken out of every answer", header.value);
                    self.report.hinted(header.at, message, Some("have the application use a name of its own"));
                    return;
                }
                Err(_) => {
                    self.report.problem(header.at, format!("`{}` is not the name of a header", header.value));
                    return;
                }
            },
            (None, Some(size)) => Settle::Bytes { each: self.within(size, Size(1), Size(1 << 40)).0, max },
            (Some(_), Some(_)) | (None, None) => {
                self.report.problem(at, "`by_response` needs either `header` or `bytes`");
                return;
            }
        };
    }

    fn count(&self, count: &Spanned<CountOption>, limit: &mut Limit) {
        let statuses = match &count.value {
            CountOption::Word(CountWord::All) => return,
            CountOption::Word(CountWord::Failures) => Statuses::failures(),
            CountOption::Statuses(list) => {
                if list.is_empty() {
                    self.report.problem(count.at, "an empty `count` counts nothing");
                }
                Statuses::new(list.iter().filter_map(|status| self.statuses(status)).collect())
            }
        };
        if limit.settle == Settle::Never {
            limit.settle = Settle::Status(statuses);
        } else {
            self.report.problem(count.at, "`count` and `cost.by_response` are two ways to charge; choose one");
        }
    }

    /// `401`, or `4xx`.
    fn statuses(&self, text: &Spanned<String>) -> Option<(u16, u16)> {
        let range = match text.strip_suffix("xx") {
            Some(class) => class.parse::<u16>().ok().map(|class| (class * 100, class * 100 + 99)),
            None => text.parse().ok().map(|status: u16| (status, status)),
        };
        let range = range.filter(|(first, last)| text.len() == 3 && *first >= 200 && *last <= 599);
        if range.is_none() {
            let hint = "write `401`, `5xx` and the like; interim answers do not count";
            self.report.hinted(text.at, format!("`{}` is no status of an answer", text.value), Some(hint));
        }
        range
    }

    /// Limits that could never count on this route: its requests have no body, no such parameter, another kind of body.
    pub(super) fn countable(
        &self,
        limit: &Limit,
        methods: Methods,
        templates: &[&str],
        content_types: &[Spanned<String>],
        at: At,
    ) {
        for part in &limit.key {
            match part {
                KeyPart::Param(name) => {
                    let has = |template: &&&str| template.split('/').any(|s| s == format!("{{{name}}}"));
                    if let Some(lacks) = templates.iter().find(|template| !has(template)) {
                        let message = format!("limit `{}` counts by `{{{name}}}`, and `{lacks}` has none", limit.name);
                        self.report.problem(at, message);
                    }
                }
                KeyPart::Field(_)
                    if methods.iter().all(|m| matches!(m, Method::Get | Method::Head | Method::Options)) =>
                {
                    let message =
                        format!("limit `{}` counts by a field of the body, and this route takes none", limit.name);
                    self.report.hinted(at, message, Some("list it on the route that takes the form"));
                }
                KeyPart::Field(field) => {
                    let kinds = decide::body::content_types(field.source);
                    let fits =
                        |kind: &Spanned<String>| kinds.contains(&kind.value.as_str()) || kind.value.ends_with("+json");
                    if !content_types.is_empty() && !content_types.iter().any(fits) {
                        let message = format!(
                            "limit `{}` counts by a field of a body that this route does not accept",
                            limit.name
                        );
                        self.report.hinted(
                            at,
                            message,
                            Some(format!("`body.content_types` lacks `{}`", kinds.join("` and `"))),
                        );
                    }
                }
                KeyPart::ClientPrefix | KeyPart::Tenant | KeyPart::Subject | KeyPart::ApiKey | KeyPart::Route => {}
            }
        }
    }
}

/// The limit as one route lists it.
pub(super) fn with_cost(limit: &Arc<Limit>, cost: Option<u32>) -> Arc<Limit> {
    match cost {
        None => limit.clone(),
        Some(cost) => Arc::new(Limit { cost, ..Limit::clone(limit) }),
    }
}
