#!/usr/bin/env python3
"""Writes the two Grafana dashboards beside this file. With --check it only says whether they are up to date.

A panel is one call below, so that a change of a query is a change of one line here and of one line in the JSON.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
RED, AMBER, GREEN, BLUE = "red", "orange", "green", "blue"

# What every query of the instance variable is limited to.
I = 'instance=~"$instance"'
# The window of rates, chosen by Grafana to hold at least four scrapes.
RATE = "$__rate_interval"
# `process_*` have the same names everywhere; these are of processes that are a gateway.
OURS = "and on (instance, job) moat_build_info"


class Board:
    """Panels placed from left to right, row by row."""

    def __init__(self, uid, title, description, tags, variables, links):
        self.panels, self.x, self.y, self.height = [], 0, 0, 0
        self.json = {
            "uid": uid,
            "title": title,
            "description": description,
            "tags": tags,
            "editable": True,
            "graphTooltip": 1,
            "liveNow": False,
            "refresh": "30s",
            "schemaVersion": 39,
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "weekStart": "",
            "version": 1,
            "fiscalYearStartMonth": 0,
            "annotations": {"list": [reloads()]},
            "links": links,
            "templating": {"list": [datasource()] + variables},
            "panels": self.panels,
        }

    def row(self, title):
        self.wrap()
        self.panels.append(
            {
                "id": len(self.panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": self.y},
                "panels": [],
            }
        )
        self.y += 1

    def wrap(self):
        self.x, self.y, self.height = 0, self.y + self.height, 0

    def place(self, width, height):
        if self.x + width > WIDTH:
            self.wrap()
        at = {"h": height, "w": width, "x": self.x, "y": self.y}
        self.x, self.height = self.x + width, max(self.height, height)
        return at

    def add(self, kind, title, description, queries, unit, width, height, custom, options, **defaults):
        targets = [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expr,
                "legendFormat": legend,
                "instant": kind in ("table", "bargauge"),
                "range": kind not in ("table", "bargauge"),
                **({"format": "table"} if kind == "table" else {}),
            }
            for index, (expr, legend) in enumerate(queries)
        ]
        field = {"unit": unit, "custom": custom, **defaults}
        if not custom:
            del field["custom"]
        self.panels.append(
            {
                "id": len(self.panels) + 1,
                "type": kind,
                "title": title,
                "description": description,
                "datasource": SOURCE,
                "gridPos": self.place(width, height),
                "fieldConfig": {"defaults": field, "overrides": []},
                "options": options,
                "targets": targets,
            }
        )

    def lines(self, title, description, queries, unit="reqps", width=8, height=8, stack=False, limit=None, floor=0):
        custom = {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 25 if stack else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        }
        options = {
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        more = {} if floor is None else {"min": floor}
        if limit is not None:
            custom["thresholdsStyle"] = {"mode": "line"}
            more["thresholds"] = steps((None, GREEN), (limit, RED))
        self.add("timeseries", title, description, queries, unit, width, height, custom, options, **more)

    def stat(self, title, description, query, unit="short", width=4, levels=((None, BLUE),), mappings=None, decimals=None):
        options = {
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
        more = {"thresholds": steps(*levels)}
        if mappings:
            more["mappings"] = [{"type": "value", "options": mappings}]
        if decimals is not None:
            more["decimals"] = decimals
        self.add("stat", title, description, [(query, "")], unit, width, 4, {}, options, **more)

    def bars(self, title, description, query, legend, unit="short", width=8, height=8, levels=((None, BLUE),)):
        options = {
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "valueMode": "color",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
        self.add("bargauge", title, description, [(query, legend)], unit, width, height, {}, options, min=0, thresholds=steps(*levels))


def steps(*levels):
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in levels]}


def datasource():
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "refresh": 1, "options": [], "current": {}}


def variable(name, label, metric, of):
    query = f"label_values({metric}, {of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "Variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "regex": "",
    }


def reloads():
    return {
        "name": "Reloads",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": BLUE,
        "expr": f"changes(moat_config_last_reload_timestamp_seconds{{{I}}}[1m]) > 0",
        "titleFormat": "Configuration loaded or refused",
        "textFormat": "{{instance}}",
        "step": "60s",
    }


def quantile(q, metric, labels, by=""):
    by = f", {by}" if by else ""
    return f"histogram_quantile({q}, sum by (le{by}) (rate({metric}_bucket{{{labels}}}[{RATE}])))"


def link(title, uid):
    return {"title": title, "type": "link", "icon": "dashboard", "url": f"/d/{uid}", "keepTime": True, "includeVars": True, "asDropdown": False, "targetBlank": False, "tags": [], "tooltip": ""}


UP = ((None, RED), (1, GREEN))
NONE_IS_GOOD = ((None, GREEN), (1, RED))
INSTANCE = variable("instance", "Instance", "moat_build_info", "instance")
ROUTE = variable("route", "Route", "http_server_request_duration_seconds_count", "http_route")


def overview():
    upstream = variable("upstream", "Upstream", "http_client_request_duration_seconds_count", "upstream")
    b = Board(
        "moat-overview",
        "Moat: overview",
        "Is the gate up, is it fast, and whose fault is it if not. docs/runbook.md has a section for every alert.",
        ["moat", "gateway"],
        [INSTANCE, ROUTE, upstream],
        [link("Tenants and security", "moat-security")],
    )
    R = f'{I}, http_route=~"$route"'
    U = f'{I}, upstream=~"$upstream"'

    b.row("At a glance")
    b.stat("Instances", "Instances that answer Prometheus. Fewer than you run: see `MoatDown` in the runbook.", f"count(moat_build_info{{{I}}})", levels=UP)
    b.stat("Requests", "Requests answered per second.", f"sum(rate(moat_http_requests_total{{{I}}}[{RATE}]))", "reqps")
    b.stat(
        "Errors of the gateway",
        "Share of all requests that the gateway itself answered with 5xx. Its budget is 0.1 %. Above it: split by code below.",
        f'(sum(rate(moat_http_requests_total{{{I}, status_class="5xx", origin="gateway"}}[{RATE}])) or vector(0)) / sum(rate(moat_http_requests_total{{{I}}}[{RATE}]))',
        "percentunit",
        levels=((None, GREEN), (0.001, AMBER), (0.01, RED)),
    )
    b.stat(
        "Added latency, p99",
        "Time that the gateway adds, without waiting for applications. Milliseconds instead of microseconds: the machine is out of CPU, or the audit log waits for its disk.",
        quantile(0.99, "moat_added_latency_seconds", I),
        "s",
        levels=((None, GREEN), (0.005, AMBER), (0.025, RED)),
    )
    b.stat(
        "First certificate ends in",
        "The certificate that ends first. Put the renewed pair into the folder of certificates; it is taken up by itself.",
        f"min(moat_tls_certificate_not_after_seconds{{{I}}}) - time()",
        "s",
        levels=((None, RED), (14 * 86400, AMBER), (21 * 86400, GREEN)),
    )
    b.stat(
        "Last reload",
        "0: a configuration was refused, and the one before it serves. Run `moat check` on the new one.",
        f"min(moat_config_last_reload_successful{{{I}}})",
        "none",
        levels=UP,
        mappings={"0": {"text": "refused", "index": 0}, "1": {"text": "in force", "index": 1}},
    )

    b.row("Requests")
    b.lines("Requests by route", "Rate of each route. One route alone rising is a client; all of them together is a campaign or a flood.", [(f"sum by (http_route) (rate(http_server_request_duration_seconds_count{{{R}}}[{RATE}]))", "{{http_route}}")], stack=True)
    b.lines("Answers by class and maker", "`upstream` made by the application, `gateway` by the gate: refusals, redirects, failures of upstreams.", [(f"sum by (status_class, origin) (rate(moat_http_requests_total{{{I}}}[{RATE}]))", "{{status_class}} {{origin}}")], stack=True)
    b.lines("Share of 5xx by maker", "Which side fails. `gateway`: look at refusals by code. `upstream`: the application's own log.", [(f'sum by (origin) (rate(http_server_request_duration_seconds_count{{{R}, status_class="5xx"}}[{RATE}])) / ignoring (origin) group_left sum(rate(http_server_request_duration_seconds_count{{{R}}}[{RATE}]))', "{{origin}}")], "percentunit")
    b.lines(
        "Time of requests",
        "From the request head to the end of the answer; streams count with their whole life.",
        [(quantile(q, "http_server_request_duration_seconds", R), f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)],
        "s",
    )
    b.lines("p99 by route", "The slow route. If its upstream is as slow (next row), it is the application.", [(quantile(0.99, "http_server_request_duration_seconds", R, "http_route"), "{{http_route}}")], "s")
    b.lines("Requests by method", "Methods that cannot be routed are `other`.", [(f"sum by (http_request_method) (rate(http_server_request_duration_seconds_count{{{R}}}[{RATE}]))", "{{http_request_method}}")], stack=True)

    b.row("What the gate adds")
    b.lines(
        "Added latency",
        "Time spent in the gateway, without waiting for the application. Tens to hundreds of microseconds are usual.",
        [(quantile(q, "moat_added_latency_seconds", I), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
        "s",
        limit=0.025,
    )
    b.lines("Added latency, mean by instance", "One instance above the others: its machine, not the load.", [(f"sum by (instance) (rate(moat_added_latency_seconds_sum{{{I}}}[{RATE}])) / sum by (instance) (rate(moat_added_latency_seconds_count{{{I}}}[{RATE}]))", "{{instance}}")], "s")
    b.lines("Requests under way", "A steady climb: the application answers more slowly than requests arrive.", [(f"sum by (listener) (http_server_active_requests{{{I}}})", "{{listener}}")], "short")

    b.row("Upstreams")
    b.lines("Calls by upstream", "Requests that an application answered.", [(f"sum by (upstream) (rate(http_client_request_duration_seconds_count{{{U}}}[{RATE}]))", "{{upstream}}")], stack=True)
    b.lines("Time to the head of the answer, p99", "How long applications take to begin an answer.", [(quantile(0.99, "http_client_request_duration_seconds", U, "upstream"), "{{upstream}}")], "s")
    b.lines("Share of 5xx by upstream", "What applications answered with 5xx. Their own logs say why.", [(f'sum by (upstream) (rate(http_client_request_duration_seconds_count{{{U}, status_class="5xx"}}[{RATE}])) / sum by (upstream) (rate(http_client_request_duration_seconds_count{{{U}}}[{RATE}]))', "{{upstream}}")], "percentunit")
    b.lines("Failures of forwarding", "Applications that could not be reached, were too slow, or were refused by their limits. Endpoints: `moat status`, and the access log's `upstream`.", [(f'sum by (code, route) (rate(moat_refusals_total{{{I}, code=~"upstream[.].+|gateway[.].+"}}[{RATE}]))', "{{code}} {{route}}")])
    b.lines("Fit endpoints", "Endpoints that pass their checks and are not ejected. 0: everything is down, or the checks are; then all are tried.", [(f"sum by (upstream) (clamp_min(moat_upstream_endpoint_healthy{{{U}}} - moat_upstream_endpoint_ejected{{{U}}}, 0))", "{{upstream}}")], "short")
    b.lines("Requests under way by endpoint", "One far above the others answers slowly.", [(f"sum by (upstream, endpoint) (moat_upstream_endpoint_in_flight{{{U}}})", "{{upstream}} {{endpoint}}")], "short")
    b.lines("Ejections", "`connect`: the endpoint could not be reached. `answers`: too many failures in a row.", [(f"sum by (upstream, reason) (rate(moat_upstream_ejections_total{{{U}}}[{RATE}]))", "{{upstream}} {{reason}}")], "ops")
    b.lines("Health checks", "Of upstreams with `health`.", [(f"sum by (upstream, result) (rate(moat_upstream_health_checks_total{{{U}}}[{RATE}]))", "{{upstream}} {{result}}")], "ops")
    b.lines("Sent again, or not", "`budget`: the application fails for more than single requests. `unsafe`: a second try could have an effect twice.", [(f"sum by (upstream, reason, result) (rate(moat_upstream_retries_total{{{U}}}[{RATE}]))", "{{upstream}} {{reason}} {{result}}")], "ops")
    b.lines(
        "Beyond what an upstream takes",
        "Requests refused because of `max_in_flight`, requests sent while no endpoint was fit, and names that led nowhere.",
        [
            (f"sum by (upstream) (rate(moat_upstream_circuit_open_total{{{U}}}[{RATE}]))", "{{upstream}} full"),
            (f"sum by (upstream) (rate(moat_upstream_panic_total{{{U}}}[{RATE}]))", "{{upstream}} none fit"),
            (f"sum by (upstream) (rate(moat_upstream_dns_failures_total{{{U}}}[{RATE}]))", "{{upstream}} unresolved"),
        ],
        "ops",
    )
    b.lines("Room of an upstream", "What may be under way, and what is. A limit that falls: the application takes longer than it does without load.", [(f"max by (upstream) (moat_upstream_limit{{{U}}})", "{{upstream}} limit"), (f"sum by (upstream) (moat_upstream_endpoint_in_flight{{{U}}})", "{{upstream}} under way")], "short", width=12)
    b.lines("Shed, and refused beyond a share", "`latency` and `anonymous`: the limit was lowered. A tenant: it holds its share, and the others are served.", [(f"sum by (upstream, reason) (rate(moat_upstream_shed_total{{{U}}}[{RATE}]))", "{{upstream}} {{reason}}"), (f"sum by (upstream, tenant) (rate(moat_upstream_share_refused_total{{{U}}}[{RATE}]))", "{{upstream}} {{tenant}}")], "ops", width=12)

    b.row("Connections")
    b.lines("Open connections", "Far more of them than requests under way are idle clients, or a flood that only connects.", [(f"sum by (listener, state) (moat_connections{{{I}}})", "{{listener}} {{state}}")], "short")
    b.lines("Connections taken", "Close to the rate of requests: clients, or a proxy in front, do not keep connections.", [(f"sum by (listener) (rate(moat_connections_accepted_total{{{I}}}[{RATE}]))", "{{listener}}")], "cps")
    b.lines("Connections rejected", "`per_address`: one client too greedy, or a proxy that belongs into `client_ip.trusted`. `total`: a flood, or `max_connections` too low.", [(f"sum by (listener, reason) (rate(moat_connections_rejected_total{{{I}}}[{RATE}]))", "{{listener}} {{reason}}")], "cps")
    b.lines("Streams closed", "WebSockets and answers under way that the gateway ended, by the code they would meet now. A burst after a reload is that reload.", [(f"sum by (reason) (rate(moat_streams_closed_total{{{I}}}[{RATE}]))", "{{reason}}")], "ops", width=12)
    b.lines("TLS handshakes", "`failed` after a deployment: a certificate that clients do not trust. `unknown_name`: a name points here that no certificate covers.", [(f"sum by (result) (rate(moat_tls_handshakes_total{{{I}}}[{RATE}]))", "{{result}}")], "ops", width=12, stack=True)

    b.row("What runs out")
    b.lines("CPU", "Cores in use by each instance.", [(f"rate(process_cpu_seconds_total{{{I}}}[{RATE}]) {OURS}", "{{instance}}")], "short", width=6)
    b.lines("Memory", "Resident, and address space, which may be large at no cost.", [(f"process_resident_memory_bytes{{{I}}} {OURS}", "{{instance}} resident"), (f"process_virtual_memory_bytes{{{I}}} {OURS}", "{{instance}} virtual")], "bytes", width=6)
    b.lines("Open files", "Share of what the process may open; most are connections. Near 100 %: raise `LimitNOFILE`.", [(f"process_open_fds{{{I}}} / process_max_fds{{{I}}} {OURS}", "{{instance}}")], "percentunit", width=6, limit=0.8)
    b.lines("Threads", "Steady after the start.", [(f"process_threads{{{I}}} {OURS}", "{{instance}}")], "short", width=6)
    b.lines("Audit entries waiting", "A standing backlog is a disk that cannot keep up; requests begin to wait for it.", [(f"moat_audit_backlog{{{I}}}", "{{instance}}")], "short", width=6)
    b.lines("Log lines dropped", "The reader of the standard streams is too slow. The audit log never drops.", [(f"sum by (instance, stream) (rate(moat_log_lines_dropped_total{{{I}}}[{RATE}]))", "{{instance}} {{stream}}")], "ops", width=6)
    b.lines("Spans", "`dropped` or `failed`: the collector is slow or gone; the log says why. Requests are not affected.", [(f"sum by (result) (rate(moat_trace_spans_total{{{I}}}[{RATE}]))", "{{result}}")], "ops", width=6, stack=True)
    b.lines("Panics", "Each is a bug; the log has its place.", [(f"increase(moat_panics_total{{{I}}}[{RATE}])", "{{instance}}")], "short", width=6)

    b.row("Configuration and keys")
    b.bars("Certificates end in", "Time left of each certificate.", f"sort(min by (name) (moat_tls_certificate_not_after_seconds{{{I}}} - time()))", "{{name}}", "s", levels=((None, RED), (14 * 86400, AMBER), (21 * 86400, GREEN)))
    b.bars("Revocation lists end in", "Time left of the first list of each entry of client_certificates; then none of its certificates is accepted.", f"sort(min by (name) (moat_tls_revocation_list_next_update_seconds{{{I}}} - time()))", "{{name}}", "s", levels=((None, RED), (86400, AMBER), (3 * 86400, GREEN)))
    b.lines("Age of key sets", "Since keys of issuers were last obtained. The last good copy serves until `jwks.max_stale`.", [(f"time() - max by (issuer) (moat_jwks_last_success_timestamp_seconds{{{I}}})", "{{issuer}}")], "s")
    b.lines("Since the last reload", "Replicas that differ have not all got the same rollout.", [(f"time() - moat_config_last_reload_timestamp_seconds{{{I}}}", "{{instance}}")], "s")
    b.lines("Configurations in force", "Instances by configuration. More than one line for long: a rollout that is not complete.", [(f"count by (hash) (moat_config_info{{{I}}})", "{{hash}}")], "short")
    b.lines("Versions", "Instances by version of the program.", [(f"count by (version) (moat_build_info{{{I}}})", "{{version}}")], "short")
    b.lines("Running since, and clock", "Restarts show as drops to zero. The clock's distance from Prometheus must stay within seconds, or tokens expire at the wrong time.", [(f"time() - process_start_time_seconds{{{I}}} {OURS}", "{{instance}} up for"), (f"moat_clock_timestamp_seconds{{{I}}} - timestamp(moat_clock_timestamp_seconds{{{I}}})", "{{instance}} clock ahead by")], "s", floor=None)
    b.lines("Last good configuration in use", "1: the files were refused at the start, and the last good copy of them serves. Run `moat check`.", [(f"moat_config_last_good_in_use{{{I}}}", "{{instance}}")], "short", limit=1)
    return b.json


def security():
    tenant = variable("tenant", "Tenant", "moat_authz_decisions_total", "tenant")
    b = Board(
        "moat-security",
        "Moat: tenants and security",
        "Who is refused, where and why; what tenants use; whether every decision is on record.",
        ["moat", "gateway", "security"],
        [INSTANCE, ROUTE, tenant],
        [link("Overview", "moat-overview")],
    )
    R = f'{I}, route=~"$route"'
    T = f'{I}, tenant=~"$tenant"'
    D = f'{R}, tenant=~"$tenant"'

    b.row("At a glance")
    b.stat("Refused", "Share of requests that were refused.", f"(sum(rate(moat_refusals_total{{{I}}}[{RATE}])) or vector(0)) / sum(rate(moat_http_requests_total{{{I}}}[{RATE}]))", "percentunit")
    b.stat("Across tenants", "Sessions of one tenant tried on another, in the last hour. The audit log names the subject.", f'sum(increase(moat_authz_decisions_total{{{I}, decision="deny", reason="tenant.mismatch", mode="enforce"}}[1h])) or vector(0)', levels=((None, GREEN), (1, AMBER), (100, RED)), decimals=0)
    b.stat("Would be refused", "Verdicts of guards in shadow, in the last hour. Zero for days: the guard may be enforced.", f'sum(increase(moat_authz_decisions_total{{{I}, mode="shadow"}}[1h])) or vector(0)', decimals=0)
    b.stat("Age of the signed head", "Time since the audit log was last signed. Older than a few times `checkpoint.every`: the writer stands still.", f"time() - min(moat_audit_last_checkpoint_timestamp_seconds{{{I}}})", "s", levels=((None, GREEN), (180, AMBER), (300, RED)))
    b.stat("Audit writes failed", "In the last hour. While it rises, requests that must be recorded are refused: look at the disk.", f"sum(increase(moat_audit_write_errors_total{{{I}}}[1h]))", levels=NONE_IS_GOOD, decimals=0)
    b.stat("Keys of issuers, least", "0: no session of an issuer can be verified, and all of them are refused with `gateway.unavailable`.", f"min(moat_jwks_keys{{{I}}})", levels=UP, decimals=0)

    b.row("Refusals")
    b.lines("Refusals by code", "docs/reference/codes.md says what each means; `moat audit show --code` lists the entries with their causes.", [(f"sum by (code) (rate(moat_refusals_total{{{R}}}[{RATE}]))", "{{code}}")], stack=True, width=12)
    b.lines("Refusals by route", "`none`: requests that found no route, mostly scanners.", [(f"sum by (route) (rate(moat_refusals_total{{{R}}}[{RATE}]))", "{{route}}")], stack=True, width=12)
    b.bars("Refused tenants, last hour", "Tenants with the most refusals, and why. One tenant with one reason is usually one client with one mistake.", f'topk(15, sum by (tenant, reason) (increase(moat_authz_decisions_total{{{D}, decision="deny", mode="enforce"}}[1h])))', "{{tenant}} {{reason}}", width=12)
    b.bars("Refusals by route and code, last hour", "Where to look first.", f"topk(15, sum by (route, code) (increase(moat_refusals_total{{{R}}}[1h])))", "{{route}} {{code}}", width=12)

    b.row("Sessions and access")
    b.lines("Credentials checked", "`unavailable`: no key set can be had. `invalid` on all routes at once: the issuer changed keys or audience.", [(f"sum by (result) (rate(moat_authn_total{{{R}}}[{RATE}]))", "{{result}}")], stack=True)
    b.lines("Why sessions were not taken", "By code and by the way the credential came.", [(f'sum by (method, reason) (rate(moat_authn_total{{{R}, result!="ok"}}[{RATE}]))', "{{method}} {{reason}}")])
    b.lines("Sessions in use", "Sessions of browsers that were used within the last minute.", [(f"sum(moat_session_active{{{I}}})", "sessions")], "short")
    b.lines("What became of sessions", "`reused`: somebody had a copy of a cookie, and the session is over.", [(f"sum by (event) (rate(moat_session_events_total{{{I}}}[{RATE}]))", "{{event}}")], "ops")
    b.lines("API keys from memory", "Served by what was read before: the store is silent.", [(f"sum(rate(moat_api_key_stale_total{{{I}}}[{RATE}]))", "requests")], "ops")
    b.lines("Second factors", "Codes of authenticator apps: `wrong` and `too_many` together is guessing.", [(f"sum by (result) (rate(moat_second_factor_total{{{I}}}[{RATE}]))", "{{result}}")], "ops")
    b.lines("Step-ups", "Authentications anew in sessions of browsers. Only `unmet`: the provider does not do what `sessions.step_up` asks.", [(f"sum by (result) (rate(moat_step_up_total{{{I}}}[{RATE}]))", "{{result}}")], "ops")
    b.lines("Copied sessions, by tenant", "Replaced handles that came back after their time; the entry names both addresses.", [(f"sum by (tenant) (increase(moat_session_reuse_total{{{T}}}[1h]))", "{{tenant}}")], "short")
    b.lines("Decisions", "Over requests that found a route.", [(f'sum by (decision) (rate(moat_authz_decisions_total{{{D}, mode="enforce"}}[{RATE}]))', "{{decision}}")], stack=True)
    b.lines("Decisions by tenant", "Busiest tenants; those without a label of their own are `other`, requests without a tenant `none`.", [(f'topk(10, sum by (tenant) (rate(moat_authz_decisions_total{{{D}, mode="enforce"}}[{RATE}])))', "{{tenant}}")])
    b.lines("Denied, by reason", "`access.denied` rising after a change of roles is that change.", [(f'sum by (reason) (rate(moat_authz_decisions_total{{{D}, decision="deny", mode="enforce"}}[{RATE}]))', "{{reason}}")])
    b.lines("Across tenants", "Somebody trying another tenant's doors, or a client that mixes up hosts.", [(f'sum by (tenant) (rate(moat_authz_decisions_total{{{T}, decision="deny", reason="tenant.mismatch", mode="enforce"}}[{RATE}]))', "{{tenant}}")])
    b.lines("Verdicts in shadow", "What guards that only observe would have refused.", [(f'sum by (route, reason) (rate(moat_authz_decisions_total{{{D}, mode="shadow"}}[{RATE}]))', "{{route}} {{reason}}")])
    b.lines("Without evidence of our own origin", "Changes without evidence, reads that isolation keeps back, preflights not granted; shadow verdicts included. `same_site` after a release: a subdomain posts to this one.", [(f"sum by (reason) (rate(moat_csrf_denied_total{{{I}}}[{RATE}]))", "{{reason}}")])
    b.lines("Headers stripped", "`cors`: the application says who may read, and the route decides. `alt-svc`: it leads browsers elsewhere.", [(f"sum by (kind) (rate(moat_response_headers_stripped_total{{{I}}}[{RATE}]))", "{{kind}}")], "ops")
    b.lines("Cookies hardened", "Cookies of applications that left with attributes they did not come with.", [(f"rate(moat_cookies_hardened_total{{{I}}}[{RATE}])", "{{instance}}")], "ops")

    b.row("Limits")
    b.lines("Over the limit, by limit", "Requests refused with 429, and those that a limit in shadow would have refused.", [(f'sum by (limit, mode) (rate(moat_ratelimit_decisions_total{{{T}, decision="deny"}}[{RATE}]))', "{{limit}} {{mode}}")])
    b.lines("Over the limit, by tenant", "One tenant is one customer's loop. `none`: the address is in the access log.", [(f'topk(10, sum by (tenant) (rate(moat_ratelimit_decisions_total{{{T}, decision="deny", mode="enforce"}}[{RATE}])))', "{{tenant}}")])
    b.lines("Keys held by limits", "At most 1,000,000 each. At the top somebody floods with fresh keys.", [(f"sum by (limit) (moat_ratelimit_keys{{{I}}})", "{{limit}}")], "short")
    b.lines("Held by caps", "Requests under way that count against `concurrent` of a limit.", [(f"sum by (limit) (moat_ratelimit_held{{{I}}})", "{{limit}}")], "short")
    b.lines("Slowed down", "Requests that wait for their turn, and those that had to: somebody guesses passwords.", [(f"sum(moat_ratelimit_waiting{{{I}}})", "waiting"), (f'sum by (limit) (rate(moat_ratelimit_decisions_total{{{T}, decision="delay"}}[{RATE}]))', "{{limit}} /s")], "short")
    b.lines("Time waited for a turn", "What limits with `on_exceed: {delay: …}` cost those who are slowed down.", [(f"histogram_quantile(0.95, sum by (le) (rate(moat_ratelimit_delay_seconds_bucket{{{I}}}[{RATE}])))", "95%")], "s")

    b.row("Tokens of the gateway")
    b.lines("Refreshes by result", "`unavailable`: the store is silent, and clients come back. `reused`: see the next panel.", [(f"sum by (result) (rate(moat_session_refresh_total{{{I}}}[{RATE}]))", "{{result}}"), (f"sum(rate(moat_session_families_opened_total{{{I}}}[{RATE}]))", "opened")])
    b.lines("Reuse by tenant", "Each ended a family: a thief, or a client that does not keep what it gets.", [(f"sum by (tenant) (increase(moat_session_refresh_reuse_total{{{I}}}[{RATE}]))", "{{tenant}}")], "short")
    b.lines("Proofs of possession", "`unshared`: the store was silent, and each process decided alone whether a proof was new.", [(f"sum by (result) (rate(moat_dpop_proofs_total{{{I}}}[{RATE}]))", "{{result}}")])

    b.lines("Tokens asked about", "`unavailable`: the issuer's endpoint does not answer, or does not know the gateway. `refused`: somebody guesses, or a client keeps ended tokens.", [(f"sum by (issuer, result) (rate(moat_introspections_total{{{I}}}[{RATE}]))", "{{issuer}} {{result}}")])
    b.lines("Sessions of applications", "Look-ups. `refused`: not there, or of visitors; many more than usual are guesses.", [(f"sum by (store, result) (rate(moat_app_session_lookups_total{{{I}}}[{RATE}]))", "{{store}} {{result}}")])
    b.lines("Stores of sessions", "0: its users are refused with 503.", [(f"min by (instance, store) (moat_app_session_store_up{{{I}}})", "{{instance}} {{store}}")], "short")

    b.row("Shared store")
    b.lines("Whether it is of use", "0: limits go by their `on_store_loss`.", [(f"min by (instance) (moat_store_up{{{I}}})", "{{instance}}")], "short")
    b.lines("Replicas that use it", "As each instance knows.", [(f"max by (instance) (moat_store_replicas{{{I}}})", "{{instance}}")], "short")
    b.lines("Calls by result", "Anything but `ok` is a server, a network or a password to look after.", [(f"sum by (op, result) (rate(moat_store_operations_total{{{I}}}[{RATE}]))", "{{op}} {{result}}")])
    b.lines("Time of calls, p99", "`take` is added to every request under a `strict` limit.", [(f"histogram_quantile(0.99, sum by (le, op) (rate(moat_store_operation_duration_seconds_bucket{{{I}}}[{RATE}])))", "{{op}}")], "s")
    b.lines("Decided without the store", "By the limit's word for it.", [(f"sum by (limit, on_store_loss) (rate(moat_ratelimit_fallback_total{{{I}}}[{RATE}]))", "{{limit}} {{on_store_loss}}")])
    b.lines("Busy keys of synced limits", "At most 10,000 for each instance.", [(f"sum by (limit) (moat_ratelimit_busy_keys{{{I}}})", "{{limit}}")], "short")

    b.row("Revocations")
    b.lines("Marks", "What was ended before its time and is remembered.", [(f"sum by (kind) (moat_revocations{{{I}}})", "{{kind}}")], "short")
    b.lines("Orders", "Anything but `ok` was not done, or not everywhere yet.", [(f"sum by (kind, via, result) (rate(moat_revocation_orders_total{{{I}}}[{RATE}]))", "{{kind}} {{via}} {{result}}")])
    b.lines("Propagation", "From the order until it is in force on a replica.", [(f"histogram_quantile({q}, sum by (le) (rate(moat_revocation_propagation_seconds_bucket{{{I}}}[{RATE}])))", n) for q, n in ((0.5, "50%"), (0.99, "99%"))], "s")
    b.lines("Staleness", "Past `max_staleness`, sensitive routes answer 503.", [(f"max by (instance) (moat_revocation_staleness_seconds{{{I}}})", "{{instance}}")], "s")
    b.lines("Served while stale", "Requests with a session that came while others could not be heard.", [(f"sum by (action) (rate(moat_revocation_stale_requests_total{{{I}}}[{RATE}]))", "{{action}}")])
    b.lines("Signals of issuers", "CAEP and RISC events.", [(f"sum by (issuer, event, result) (rate(moat_signals_total{{{I}}}[{RATE}]))", "{{issuer}} {{event}} {{result}}")])

    b.row("State")
    b.lines("Whether it is of use", "0: what needs it is refused with 503.", [(f"min by (instance, engine) (moat_state_up{{{I}}})", "{{instance}} {{engine}}")], "short")
    b.lines("What is done with it", "`conflict`: somebody else was first. Anything but that and `ok` is a disk, a server or a right.", [(f"sum by (engine, kind, op, result) (rate(moat_state_operations_total{{{I}}}[{RATE}]))", "{{engine}} {{kind}} {{op}} {{result}}")])
    b.lines("Time of reads and writes, p99", "A slow `put` in a file is the disk.", [(f'histogram_quantile(0.99, sum by (le, engine, op) (rate(moat_state_operation_duration_seconds_bucket{{{I}, op=~"get|put|remove"}}[{RATE}])))', "{{engine}} {{op}}")], "s")

    b.row("TLS")
    b.lines("Handshakes by version", "TLS 1.2 only where a listener's profile tolerates it.", [(f'sum by (version) (rate(moat_tls_handshakes_total{{{I}, result=~"ok|resumed"}}[{RATE}]))', "{{version}}")], "ops", stack=True)
    b.lines("Handshakes by group", "`X25519MLKEM768` is safe against recorded traffic and future quantum computers.", [(f'sum by (group) (rate(moat_tls_handshakes_total{{{I}, result=~"ok|resumed"}}[{RATE}]))', "{{group}}")], "ops", stack=True)
    b.lines("Handshakes that failed", "By listener and reason.", [(f'sum by (listener, result) (rate(moat_tls_handshakes_total{{{I}, result!~"ok|resumed"}}[{RATE}]))', "{{listener}} {{result}}")], "ops")

    b.row("Record")
    b.lines("Audit entries", "By class: outcomes of requests, intents written before an effect, events of the system, signed heads.", [(f"sum by (class) (rate(moat_audit_entries_total{{{I}}}[{RATE}]))", "{{class}}")], "ops", stack=True)
    b.lines("Requests that share an entry", "A flood of refusals: requests beyond the allowance of their kind have one entry a second together.", [(f"rate(moat_audit_folded_requests_total{{{I}}}[{RATE}])", "{{instance}}")], "ops")
    b.lines("Entries of requests against requests", "Must be 1: every request is in one entry.", [(f'(sum(increase(moat_audit_entries_total{{{I}, class="request"}}[5m])) + sum(increase(moat_audit_folded_requests_total{{{I}}}[5m]))) / sum(increase(moat_http_requests_total{{{I}}}[5m]))', "entries for each request")], "short")
    b.lines("Age of the signed head", "Of each instance.", [(f"time() - moat_audit_last_checkpoint_timestamp_seconds{{{I}}}", "{{instance}}")], "s", limit=300)
    b.lines("Audit writes failed", "Look at the disk of `audit.directory`: full, read-only, or gone.", [(f"rate(moat_audit_write_errors_total{{{I}}}[{RATE}])", "{{instance}}")], "ops", width=12)
    b.lines("Connections that said nothing", "Closed after `idle_timeout`. A steep rise is a flood of silent connections.", [(f"sum by (listener) (rate(moat_connections_idle_closed_total{{{I}}}[{RATE}]))", "{{listener}}")], "cps")
    b.lines("Answers that nobody takes", "They wait for their clients; near `server.unread_answers` the slowest are cut.", [(f"moat_unread_answers{{{I}}}", "{{instance}}")], "short")
    b.lines("Connections rejected", "Closed before their first byte was read.", [(f"sum by (listener, reason) (rate(moat_connections_rejected_total{{{I}}}[{RATE}]))", "{{listener}} {{reason}}")], "cps", width=12)
    return b.json


def main():
    stale = []
    for name, board in (("moat-overview", overview()), ("moat-security", security())):
        path, text = HERE / f"{name}.json", json.dumps(board, indent=2) + "\n"
        if "--check" in sys.argv:
            stale += [] if path.exists() and path.read_text() == text else [path.name]
        else:
            path.write_text(text)
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run contrib/grafana/dashboards.py")


if __name__ == "__main__":
    main()
