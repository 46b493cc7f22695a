//! What is wrong now: one look at the document by somebody who knows what each figure should be.
use super::document::{Document, Finding, Severity};

/// Requests in the window below which shares say nothing.
const ENOUGH: u64 = 20;
/// Share of requests that end with 5xx, in percent, from which something is wrong.
const FAILING_PERCENT: u64 = 5;
/// Share of requests that are refused with 4xx, in percent, from which somebody should look.
const REFUSED_PERCENT: u64 = 50;
/// Share of `server.max_connections` in use, in percent, from which somebody should look.
const FULL_PERCENT: u64 = 90;
/// Audit entries waiting, from which the disk is too slow.
const BACKLOG: u64 = 10_000;

/// What the document itself does not say.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Certificate files that were not taken.
    pub certificate_complaints: Vec<String>,
    /// Whether the bundle in force is the last good one, since the one on disk was broken at the start.
    pub last_good: bool,
    /// Engines of state that are of no use, and why.
    pub silent: Vec<(&'static str, String)>,
}

/// All findings, the worst first.
pub(super) fn findings(document: &Document, facts: &Facts) -> Vec<Finding> {
    let mut found = Found::default();
    audit(document, &mut found);
    configuration(document, facts, &mut found);
    issuers(document, &mut found);
    store(document, &mut found);
    revocations(document, &mut found);
    state(facts, &mut found);
    certificates(document, facts, &mut found);
    upstreams(document, &mut found);
    traffic(document, &mut found);
    process(document, &mut found);
    found.0.sort_by_key(|finding| finding.severity);
    found.0
}

#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn problem(&mut self, id: &str, what: String, advice: &str) {
        self.add(Severity::Problem, id, what, advice);
    }

    fn warning(&mut self, id: &str, what: String, advice: &str) {
        self.add(Severity::Warning, id, what, advice);
    }

    fn add(&mut self, severity: Severity, id: &str, what: String, advice: &str) {
        self.0.push(Finding { severity, id: id.to_owned(), what, advice: advice.to_owned() });
    }
}

fn audit(document: &Document, found: &mut Found) {
    let audit = &document.audit;
    if let Some(since) = &audit.failing_since {
        let what = format!("the audit log cannot be written since {since}; requests are refused with 503");
        found.problem("audit.failing", what, "make room on its disk, or repair it; writing resumes by itself");
    } else if audit.backlog > BACKLOG {
        let what = format!("{} audit entries wait for the disk", audit.backlog);
        found.warning("audit.slow", what, "the disk of `audit.directory` is too slow for this load");
    }
}

fn configuration(document: &Document, facts: &Facts, found: &mut Found) {
    if facts.last_good {
        let what = "the configuration on disk was broken at the start; the last good one is in force".to_owned();
        found.problem("config.last-good", what, "repair the problems listed under `Configuration`, then reload");
    }
    let Some(reload) = document.reload.as_ref().filter(|reload| reload.outcome == "refused") else { return };
    let problems = if reload.problems == 1 { "1 problem".to_owned() } else { format!("{} problems", reload.problems) };
    let what = format!("the reload at {} was refused: {problems}; what was in force before still is", reload.at);
    found.problem("config.refused", what, "see `Configuration`, or run `moat check`");
}

fn store(document: &Document, found: &mut Found) {
    let Some(store) = document.store.as_ref().filter(|store| !store.up) else { return };
    let why = store.trouble.as_deref().unwrap_or("not tried yet");
    let what = format!("the shared store `{}` is not of use: {why}", store.address);
    found.problem("store.lost", what, "limits go by their `on_store_loss`; see `docs/shared-limits.md`");
}

fn revocations(document: &Document, found: &mut Found) {
    let Some(known) = &document.revocations else { return };
    if !known.ready {
        let what = "what was ended before its time has not been read yet; routes with a session answer 503".to_owned();
        let advice = "make the store of revocations reachable, with all keys that it was written under in `sessions.keys`; \
                      see `docs/revocation.md`";
        found.problem("revocations.unread", what, advice);
    } else if known.stale {
        let what = format!("what other replicas end was last heard of {:.1} s ago", known.silence_s);
        let advice = "`when_stale` holds: repair the store of revocations; see `docs/revocation.md`";
        found.problem("revocations.stale", what, advice);
    }
    if known.marks * 100 >= known.max_marks * FULL_PERCENT {
        let what = format!("{} of {} revocations are remembered; more will be refused", known.marks, known.max_marks);
        found.problem("revocations.full", what, "raise `sessions.revocation.max_marks`, or shorten `keep`");
    }
}

fn state(facts: &Facts, found: &mut Found) {
    for (engine, why) in &facts.silent {
        let what = format!("state cannot be used ({engine}): {}", why.lines().next().unwrap_or_default());
        found.problem("state.lost", what, "requests that need it are refused with 503; see `docs/state.md`");
    }
}

fn issuers(document: &Document, found: &mut Found) {
    for issuer in &document.issuers {
        let (name, error) = (&issuer.name, issuer.last_error.as_deref());
        if !issuer.usable {
            let why = error.map(|error| format!(": {error}")).unwrap_or_default();
            let what = format!("no usable keys of issuer `{name}`; its sessions are refused with 503{why}");
            found.problem("keys.dark", what, "make the key set reachable from this machine; nobody is logged out");
        } else if let Some(error) = error {
            let what = format!("keys of issuer `{name}` cannot be refreshed: {error}");
            found.warning("keys.stale", what, "known keys serve until `jwks.max_stale`, new ones are not accepted");
        }
    }
}

fn certificates(document: &Document, facts: &Facts, found: &mut Found) {
    for pair in &document.certificates.shown {
        let (name, names) = (&pair.name, pair.names.join(", "));
        match pair.state.as_str() {
            "expired" => {
                let what = format!("certificate `{name}` has expired on {}: {names}", pair.not_after);
                found.problem("certificate.expired", what, "put the renewed pair into `tls.certificates`");
            }
            "not-yet-valid" => {
                let what = format!("certificate `{name}` is not valid yet: {names}");
                found.problem("certificate.early", what, "check its dates and this machine's clock");
            }
            "expiring" => {
                let what = format!("certificate `{name}` ends in {} days: {names}", pair.days_left);
                found.warning("certificate.expiring", what, "put the renewed pair into `tls.certificates`");
            }
            _ => {}
        }
    }
    for complaint in &facts.certificate_complaints {
        let what = format!("a certificate was not taken, the last good one stays: {complaint}");
        found.warning("certificate.refused", what, "replace the pair; it is read again when its files change");
    }
}

fn upstreams(document: &Document, found: &mut Found) {
    for upstream in &document.upstreams.shown {
        let (name, all) = (&upstream.name, upstream.endpoints.len());
        let out: Vec<_> = upstream.endpoints.iter().filter(|endpoint| !endpoint.usable).collect();
        if all == 0 {
            let what = format!("upstream `{name}`: none of its names leads to an address");
            found.problem("upstream.down", what, "look at the resolver of this machine");
        }
        let Some(first) = out.first() else { continue };
        let error = first.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let what = format!(
            "upstream `{name}`: {} of {all} endpoints get no requests; {} is {}{error}",
            out.len(),
            first.address,
            first.state
        );
        if out.len() == all {
            found.problem("upstream.down", what, "look at the application, and at the way to it");
        } else {
            found.warning("upstream.degraded", what, "the others carry its share; look at the application there");
        }
    }
}

fn traffic(document: &Document, found: &mut Found) {
    for route in &document.routes.shown {
        let of = |class: &str| route.classes.get(class).copied().unwrap_or_default();
        let total: u64 = route.classes.values().sum();
        let code = route.refused.iter().max_by_key(|(_, count)| **count);
        let code = code.map(|(code, count)| format!(", most often `{code}` ({count})")).unwrap_or_default();
        let name = &route.name;
        if total >= ENOUGH && of("5xx") * 100 >= total * FAILING_PERCENT {
            let what = format!("route `{name}`: {} of {total} requests failed with 5xx{code}", of("5xx"));
            found.problem(
                "route.failing",
                what,
                "without a code, the application itself says 5xx; else look the code up",
            );
        } else if total >= ENOUGH && of("4xx") * 100 >= total * REFUSED_PERCENT {
            let what = format!("route `{name}`: {} of {total} requests ended with 4xx{code}", of("4xx"));
            found.warning("route.refusing", what, "see `Last refusals`; `moat tail --refused` shows causes");
        }
    }
}

fn process(document: &Document, found: &mut Found) {
    let process = &document.gateway;
    if process.draining {
        found.warning("process.draining", "the process is about to end".to_owned(), "nothing, if somebody wants this");
    }
    if process.connections * 100 >= process.max_connections * FULL_PERCENT {
        let what = format!("{} of {} connections are open", process.connections, process.max_connections);
        found.problem("connections.full", what, "a flood, or `server.max_connections` is too low");
    }
    for listener in document.listeners.iter().filter(|listener| listener.rejected_in_window > 0) {
        let what = format!("listener `{}` rejected {} connections", listener.name, listener.rejected_in_window);
        found.warning(
            "connections.rejected",
            what,
            "one greedy client, or a proxy that belongs into `client_ip.trusted`",
        );
    }
    if process.panics > 0 {
        let what = format!("{} tasks have panicked since the start", process.panics);
        found.warning("process.panicked", what, "each is a bug of the gateway: report it with the log");
    }
    if process.access_lines_dropped > 0 {
        let what = format!("{} lines of the access log were dropped", process.access_lines_dropped);
        found.warning("log.dropped", what, "whatever reads standard output is too slow; the audit log is complete");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_documentation_lists_every_finding_with_its_severity_and_no_other() {
        let (source, page) = (include_str!("findings.rs"), include_str!("../../../docs/status.md"));
        let source: String = source.split_whitespace().collect();
        let of = |severity: &'static str| {
            let calls = source.split(&format!("found.{severity}(\"")).skip(1).collect::<Vec<_>>();
            calls.into_iter().map(move |rest| (rest.split('"').next().unwrap().to_owned(), severity))
        };
        let made: BTreeSet<(String, &str)> =
            of("problem").chain(of("warning")).filter(|(id, _)| id.contains('.')).collect();
        let told = page.split_once("## Findings").unwrap().1.split("## ").next().unwrap();
        let told: BTreeSet<(String, &str)> = told
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(id, rest)| (id.to_owned(), rest.split(' ').next().unwrap()))
            .collect();
        assert_eq!(made, told);
    }
}
