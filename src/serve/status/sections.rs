//! The sections of the status page, the most urgent first.
use super::document::{Document, Endpoint, Reload, Severity, Top, Traffic, Upstream};
use super::words::{ago, bound, counts, figure, plural, quantile, span};
use crate::serve::html::Html;

/// Who this is, and how it is.
pub(super) fn head(html: &mut Html, document: &Document, (problems, warnings): (usize, usize)) {
    let process = &document.gateway;
    html.raw("<header><h1>moat · ").text(&process.instance).raw("</h1>");
    if problems > 0 {
        html.raw("<span class=\"badge bad\">").text(plural(problems, "problem")).raw("</span>");
    }
    if warnings > 0 {
        html.raw("<span class=\"badge warn\">").text(plural(warnings, "warning")).raw("</span>");
    }
    if problems + warnings == 0 {
        html.raw("<span class=\"badge good\">nothing wrong</span>");
    }
    html.raw("<span class=\"dim\">version ").text(&process.version).text(", up ").text(span(process.uptime_s));
    html.text(", process ").text(process.pid).raw("</span></header>\n");
}

/// All sections.
pub(super) fn body(html: &mut Html, document: &Document) {
    now(html, document);
    traffic(html, &document.traffic, document);
    routes(html, document);
    upstreams(html, document);
    tenants(html, document);
    configuration(html, document);
    certificates(html, document);
    issuers(html, document);
    audit(html, document);
    listeners(html, document);
    limits(html, document);
    store(html, document);
    revocations(html, document);
    refusals(html, document);
}

fn now(html: &mut Html, document: &Document) {
    let worst = document.findings.first().map(|finding| finding.severity);
    match worst {
        None => {
            html.raw("<section id=\"now\" class=\"good\"><h2>Nothing is wrong now</h2>");
            html.raw("<p class=\"dim\">Every check of this page passed.</p></section>\n");
            return;
        }
        Some(Severity::Problem) => html.raw("<section id=\"now\" class=\"bad\">"),
        Some(Severity::Warning) => html.raw("<section id=\"now\" class=\"warn\">"),
    };
    html.raw("<h2>What is wrong now</h2>\n<ul>\n");
    for finding in &document.findings {
        match finding.severity {
            Severity::Problem => html.raw("<li><b class=\"bad\">problem</b> "),
            Severity::Warning => html.raw("<li><b class=\"warn\">warning</b> "),
        };
        html.sentence(&finding.what).raw("<span>").sentence(&finding.advice).raw(" (<code>").text(&finding.id);
        html.raw("</code>)</span></li>\n");
    }
    html.raw("</ul></section>\n");
}

fn traffic(html: &mut Html, traffic: &Traffic, document: &Document) {
    let of = |class: &str| traffic.classes.get(class).copied().unwrap_or_default();
    html.raw("<section id=\"traffic\"><dl>\n");
    tile(html, "requests", &format!("{} /s", figure(traffic.rate)), "");
    tile(html, "p50", &quantile(traffic.p50), &bound(traffic.p50));
    tile(html, "p99", &quantile(traffic.p99), &bound(traffic.p99));
    tile(html, "4xx", &of("4xx").to_string(), "");
    tile(html, "5xx", &of("5xx").to_string(), "");
    tile(html, "under way", &traffic.under_way.to_string(), "");
    tile(html, "answers running", &traffic.answering.to_string(), "");
    tile(html, "WebSockets", &traffic.tunnels.to_string(), "");
    let process = &document.gateway;
    tile(html, "connections", &process.connections.to_string(), &format!("of {}", process.max_connections));
    html.raw("</dl></section>\n");
}

fn tile(html: &mut Html, name: &'static str, value: &str, more: &str) {
    html.raw("<div><dt>")
        .raw(name)
        .raw("</dt><dd>")
        .text(value)
        .raw(" <small>")
        .text(more)
        .raw("</small></dd></div>\n");
}

/// Begins a section with a table; `heads` are names of columns, those with `#` in front hold numbers.
fn table(html: &mut Html, id: &'static str, title: &'static str, note: &str, heads: &[&'static str]) {
    html.raw("<section id=\"").raw(id).raw("\"><h2>").raw(title).raw(" <small>").text(note).raw("</small></h2>\n");
    html.raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"")
        .raw(title)
        .raw("\"><table><thead><tr>");
    for head in heads {
        match head.strip_prefix('#') {
            Some(number) => html.raw("<th class=\"num\" scope=\"col\">").text(number),
            None => html.raw("<th scope=\"col\">").text(head),
        };
        html.raw("</th>");
    }
    html.raw("</tr></thead><tbody>\n");
}

fn end(html: &mut Html) {
    html.raw("</tbody></table></div></section>\n");
}

fn empty(html: &mut Html, id: &'static str, title: &'static str, why: &'static str) {
    html.raw("<section id=\"").raw(id).raw("\"><h2>").raw(title).raw("</h2><p class=\"dim\">").raw(why);
    html.raw("</p></section>\n");
}

fn number(html: &mut Html, value: impl std::fmt::Display) {
    html.raw("<td class=\"num\">").text(value).raw("</td>");
}

fn cell(html: &mut Html, value: impl std::fmt::Display) {
    html.raw("<td>").text(value).raw("</td>");
}

fn mono(html: &mut Html, value: impl std::fmt::Display) {
    html.raw("<td class=\"mono\">").text(value).raw("</td>");
}

fn verdict(html: &mut Html, good: bool, text: &str) {
    html.raw(if good { "<td class=\"good\">" } else { "<td class=\"bad\">" }).text(text).raw("</td>");
}

fn shown<T>(top: &Top<T>) -> String {
    if top.shown.len() == top.total { String::new() } else { format!("{} of {}", top.shown.len(), top.total) }
}

fn routes(html: &mut Html, document: &Document) {
    if document.routes.shown.is_empty() {
        return empty(html, "routes", "Routes", "No request in the last minute.");
    }
    let heads = ["route", "#rate /s", "#p50", "#p99", "#2xx", "#3xx", "#4xx", "#5xx", "#none", "refused, by code"];
    table(html, "routes", "Routes", &shown(&document.routes), &heads);
    for route in &document.routes.shown {
        let of = |class: &str| route.classes.get(class).copied().unwrap_or_default();
        html.raw("<tr>");
        cell(html, &route.name);
        number(html, figure(route.rate));
        for value in [route.p50, route.p99] {
            html.raw("<td class=\"num\">")
                .text(quantile(value))
                .raw(" <small>")
                .text(bound(value))
                .raw("</small></td>");
        }
        for class in ["2xx", "3xx", "4xx"] {
            number(html, of(class));
        }
        html.raw(if of("5xx") > 0 { "<td class=\"num bad\">" } else { "<td class=\"num\">" }).text(of("5xx"));
        html.raw("</td>");
        number(html, of("none"));
        cell(html, counts(&route.refused));
        html.raw("</tr>\n");
    }
    end(html);
}

fn refusals(html: &mut Html, document: &Document) {
    if document.refusals.is_empty() {
        return empty(html, "refusals", "Last refusals", "None since the start.");
    }
    let note = "causes: moat audit show --request-id ID, or moat tail --refused";
    let heads = ["time", "code", "request", "route", "tenant", "from", "request id"];
    table(html, "refusals", "Last refusals", note, &heads);
    for refusal in &document.refusals {
        html.raw("<tr><td class=\"nowrap\">").text(ago(&document.at, &refusal.at)).raw("</td><td class=\"nowrap\">");
        html.text(refusal.status).text(" ").raw("<code>").text(&refusal.code).raw("</code></td><td class=\"mono\">");
        html.text(or_dash(refusal.method.as_deref())).text(" ");
        html.text(or_dash(refusal.host.as_deref())).text(refusal.path.as_deref().unwrap_or_default()).raw("</td>");
        cell(html, or_dash(refusal.route.as_deref()));
        cell(html, or_dash(refusal.tenant.as_deref()));
        cell(html, or_dash(refusal.network.as_deref()));
        html.raw("<td class=\"nowrap\"><code>").text(&refusal.id).raw("</code></td></tr>\n");
    }
    end(html);
}

fn upstreams(html: &mut Html, document: &Document) {
    if document.upstreams.shown.is_empty() {
        return empty(html, "upstreams", "Upstreams", "None is configured.");
    }
    let heads = ["upstream", "endpoint", "zone", "#weight", "state", "#in flight", "last error"];
    table(html, "upstreams", "Upstreams", &shown(&document.upstreams), &heads);
    for upstream in &document.upstreams.shown {
        for Endpoint { address, zone, weight, usable, state, in_flight, last_error } in &upstream.endpoints {
            html.raw("<tr>");
            cell(html, &upstream.name);
            mono(html, address);
            cell(html, or_dash(zone.as_deref()));
            number(html, weight);
            verdict(html, *usable, state);
            number(html, in_flight);
            cell(html, or_dash(last_error.as_deref()));
            html.raw("</tr>\n");
        }
        if upstream.endpoints.is_empty() {
            html.raw("<tr>");
            cell(html, &upstream.name);
            html.raw("<td class=\"bad\" colspan=\"6\">none of its names leads to an address</td></tr>\n");
        }
        if upstream.full > 0 {
            html.raw("<tr>");
            cell(html, &upstream.name);
            html.raw("<td class=\"warn\" colspan=\"6\">").text(upstream.full);
            html.text(" requests were refused since the start because `max_in_flight` were under way")
                .raw("</td></tr>\n");
        }
        if upstream.shed > 0 || !upstream.holdings.is_empty() {
            html.raw("<tr>");
            cell(html, &upstream.name);
            html.raw("<td colspan=\"6\">").text(room(upstream)).raw("</td></tr>\n");
        }
    }
    end(html);
}

/// Who holds how much of an upstream, and what was refused for it.
fn room(upstream: &Upstream) -> String {
    let limit = upstream.limit.map_or("any number of".to_owned(), |limit| limit.to_string());
    let mut text = format!("{} of {limit} requests under way", upstream.in_flight);
    if upstream.shed > 0 {
        text.push_str(&format!("; {} were refused since the start while it answered slowly", upstream.shed));
    }
    for holding in &upstream.holdings {
        let tenant = if holding.tenant.is_empty() { "no tenant" } else { &holding.tenant };
        text.push_str(&format!("; {tenant} {} ({} refused)", holding.held, holding.refused));
    }
    text
}

fn tenants(html: &mut Html, document: &Document) {
    if document.tenants.shown.is_empty() {
        return empty(html, "tenants", "Busiest tenants", "No decision in the last minute.");
    }
    let heads = ["tenant", "#rate /s", "#allowed", "#refused"];
    table(html, "tenants", "Busiest tenants", &shown(&document.tenants), &heads);
    for tenant in &document.tenants.shown {
        html.raw("<tr>");
        cell(html, &tenant.name);
        number(html, figure(tenant.rate));
        number(html, tenant.allowed);
        number(html, tenant.refused);
        html.raw("</tr>\n");
    }
    end(html);
}

fn configuration(html: &mut Html, document: &Document) {
    let process = &document.gateway;
    html.raw("<section id=\"configuration\"><h2>Configuration</h2>\n<p>In force: <code>");
    html.text(process.snapshot.get(..16).unwrap_or(&process.snapshot)).raw("</code>");
    if let Some(since) = &process.in_force_since {
        html.text(" since ").text(since).text(" (").text(ago(&document.at, since)).text(")");
    }
    html.raw("</p>\n");
    if let Some(Reload { at, trigger, outcome, problems, text, loosened, .. }) = &document.reload {
        html.raw("<p>Last read: ")
            .text(at)
            .text(" (")
            .text(ago(&document.at, at))
            .text("), by ")
            .raw("<code>")
            .text(trigger);
        html.raw("</code>: ");
        let good = matches!(outcome.as_str(), "applied" | "unchanged");
        html.raw(if good { "<b class=\"good\">" } else { "<b class=\"bad\">" }).text(outcome).raw("</b>");
        if *problems > 0 {
            html.text(", ").text(plural(usize::try_from(*problems).unwrap_or(usize::MAX), "problem"));
        }
        html.raw("</p>\n");
        if !text.is_empty() {
            html.raw("<pre>").lines(text).raw("</pre>\n");
        }
        if !loosened.is_empty() {
            html.raw("<p>It allows what was not allowed before:</p><ul>");
            for line in loosened {
                html.raw("<li>").text(line).raw("</li>");
            }
            html.raw("</ul>\n");
        }
    }
    html.raw("</section>\n");
}

fn certificates(html: &mut Html, document: &Document) {
    if document.certificates.shown.is_empty() {
        return empty(html, "certificates", "Certificates", "No listener uses TLS.");
    }
    let heads = ["pair", "state", "#days left", "ends", "key", "names"];
    table(html, "certificates", "Certificates", &shown(&document.certificates), &heads);
    for pair in &document.certificates.shown {
        html.raw("<tr><td>").text(&pair.name);
        html.raw(if pair.default { " <small>default</small></td>" } else { "</td>" });
        verdict(html, pair.state == "ok", &pair.state);
        number(html, pair.days_left);
        html.raw("<td class=\"nowrap\">").text(&pair.not_after).raw("</td>");
        cell(html, &pair.key);
        mono(html, pair.names.join(", "));
        html.raw("</tr>\n");
    }
    end(html);
}

fn issuers(html: &mut Html, document: &Document) {
    if document.issuers.is_empty() {
        return empty(html, "issuers", "Key sets", "No issuer is configured.");
    }
    table(html, "issuers", "Key sets", "", &["issuer", "state", "#keys", "#age", "last error", "keys not used"]);
    for issuer in &document.issuers {
        html.raw("<tr>");
        cell(html, &issuer.name);
        let state = match (issuer.usable, &issuer.last_error) {
            (true, None) => "ok",
            (true, Some(_)) => "stale",
            (false, _) => "dark",
        };
        verdict(html, state == "ok", state);
        number(html, issuer.keys);
        number(html, issuer.age_s.map_or_else(|| "-".to_owned(), span));
        cell(html, or_dash(issuer.last_error.as_deref()));
        cell(html, or_dash(Some(issuer.skipped.join("; ").as_str())));
        html.raw("</tr>\n");
    }
    end(html);
}

fn audit(html: &mut Html, document: &Document) {
    let audit = &document.audit;
    let heads = ["state", "#last entry", "last signed head", "#waiting", "#write errors", "#refused for it"];
    table(html, "audit", "Audit log", "", &heads);
    html.raw("<tr>");
    match &audit.failing_since {
        None => verdict(html, true, "writing"),
        Some(since) => verdict(html, false, &format!("failing since {since}")),
    }
    number(html, audit.last_seq);
    cell(html, audit.last_head.as_deref().map_or_else(|| "-".to_owned(), |at| ago(&document.at, at)));
    number(html, audit.backlog);
    number(html, audit.write_errors);
    number(html, audit.refused);
    html.raw("</tr>\n");
    end(html);
}

fn listeners(html: &mut Html, document: &Document) {
    let heads = [
        "listener",
        "address",
        "kind",
        "protocols",
        "#open",
        "#under way",
        "#accepted",
        "rejected",
        "#handshakes",
        "handshakes failed",
    ];
    table(html, "listeners", "Listeners", "since the start", &heads);
    for listener in &document.listeners {
        html.raw("<tr>");
        cell(html, &listener.name);
        mono(html, &listener.address);
        cell(html, &listener.kind);
        cell(html, listener.protocols.join(" "));
        number(html, listener.open);
        number(html, listener.under_way);
        number(html, listener.accepted);
        cell(html, counts(&listener.rejected));
        number(html, listener.handshakes);
        cell(html, counts(&listener.handshakes_failed));
        html.raw("</tr>\n");
    }
    end(html);
}

fn limits(html: &mut Html, document: &Document) {
    if document.limits.is_empty() {
        return empty(html, "limits", "Rate limits", "No route names one.");
    }
    table(html, "limits", "Rate limits", "", &["limit", "#live keys"]);
    for limit in &document.limits {
        html.raw("<tr>");
        cell(html, &limit.name);
        number(html, limit.keys);
        html.raw("</tr>\n");
    }
    end(html);
}

fn store(html: &mut Html, document: &Document) {
    let Some(store) = &document.store else { return };
    let heads = ["address", "state", "#replicas", "#decided without it", "trouble"];
    table(html, "store", "Shared store", "", &heads);
    html.raw("<tr>");
    mono(html, &store.address);
    cell(html, if store.up { "up" } else { "silent" });
    number(html, store.replicas);
    number(html, store.fallbacks);
    cell(html, or_dash(store.trouble.as_deref().filter(|_| !store.up)));
    html.raw("</tr>\n");
    end(html);
}

fn revocations(html: &mut Html, document: &Document) {
    let Some(known) = &document.revocations else { return };
    table(html, "revocations", "Revocations", "", &["state", "#marks", "#at most", "#silence, s"]);
    html.raw("<tr>");
    cell(
        html,
        if !known.ready {
            "unread"
        } else if known.stale {
            "stale"
        } else {
            "heard"
        },
    );
    number(html, known.marks);
    number(html, known.max_marks);
    number(html, known.silence_s);
    html.raw("</tr>\n");
    end(html);
}

fn or_dash(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("-")
}
