//! What is wrong with upstreams, and with routes that lead to them.
use super::{changed, told};

const ENDPOINTS: &str = "endpoints: [\"127.0.0.1:9000\"]";

#[test]
fn every_mistake_in_an_upstream_has_its_message_and_place() {
    told(MISTAKES);
}

#[test]
fn every_word_of_the_grammar_is_read() {
    let words = "labels: {region: eu}, endpoints: [\"a.internal:1\", {address: \"b.internal:1\", weight: 3, zone: z, \
        max_in_flight: 5}], load_balance: {hash: tenant}, http: {version: h2, connect_timeout: 2s, first_byte_timeout: \
        15s, total_timeout: 60s}, health: {path: /healthz, every: 5s, unhealthy_after: 3, healthy_after: 2, expect: [200]}, \
        outlier: {consecutive_5xx: 5, eject_for: 30s, max_ejected: 50%}, retry: {on: [connect_failure, refused_stream], \
        attempts: 2, budget: 20%}, max_in_flight: 200, dns: {refresh: 10s}";
    assert_eq!(changed(&[(ENDPOINTS, words), ("acme: {class: gold}", "acme: {class: gold, residency: eu}")]), "ok");
}

const MISTAKES: &[(&str, &str, &str)] = &[
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\", \"127.0.0.1:9000\"]",
        "gateway.yaml:13:39 endpoint `127.0.0.1:9000` stands twice",
    ),
    (ENDPOINTS, "endpoints: [\"127.0.0.1:9000\"], tls: {}", "gateway.yaml:13:40 missing `server_name`"),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], tls: {server_name: \"a b\"}",
        "gateway.yaml:13:59 `a b` is no host name and no address (it is what the application's certificate must hold, without scheme and port)",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], tls: {server_name: app, ca: nowhere.pem}",
        "gateway.yaml:13:68 `nowhere.pem` does not exist",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], tls: {server_name: app, ca: roles.yaml}",
        "gateway.yaml:13:68 `roles.yaml` holds no certificates (expected is a PEM file with CERTIFICATE blocks)",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], tls: {server_name: app, verify: false}",
        "gateway.yaml:13:64 unknown key `verify` (there are `ca`, `client_certificate`, `server_name`)",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"https://app:443\"]",
        "gateway.yaml:13:21 expected `host:port`, found `https://app:443` (write `host:port`, and `tls: {server_name: …}` beside `endpoints`)",
    ),
    (
        ENDPOINTS,
        "endpoints: [{address: \"127.0.0.1:9000\", weight: 0}]",
        "gateway.yaml:13:57 expected at least `1`, found `0` (anything from `1` to `100` will do)",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], load_balance: random",
        "gateway.yaml:13:54 expected `least_requests`, `round_robin`, `{hash: tenant}` or `{hash: {header: NAME}}`, found `random`",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], load_balance: {hash: {header: \"a b\"}}",
        "gateway.yaml:13:70 `a b` cannot be the name of a header",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], http: {connect_timeout: 0s}",
        "gateway.yaml:13:64 expected at least `1ms`, found `0ms` (anything from `1ms` to `1d` will do)",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], health: {path: healthz}",
        "gateway.yaml:13:55 expected a path such as `/healthz`, found `healthz`",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], health: {path: /, every: 1s, timeout: 2s}",
        "gateway.yaml:13:78 a check may take `2s`, and the next one begins after `1s` (`timeout` is at most `every`)",
    ),
    (
        ENDPOINTS,
        "endpoints: [\"127.0.0.1:9000\"], max_in_flight: 0",
        "gateway.yaml:13:55 expected at least `1`, found `0` (anything from `1` to `10000000` will do)",
    ),
    (
        "    upstream: app\n    public",
        "    upstream: {eu: app}\n    public",
        "gateway.yaml:19:20 upstream `app` is not labelled `region: eu` (what stands under a region must be there)",
    ),
    (
        "    headers: page\n",
        "    headers: page\n    timeouts: {total: 0s}\n",
        "gateway.yaml:22:23 expected at least `1ms`, found `0ms` (anything from `1ms` to `1d` will do)",
    ),
    (
        "acme: {class: gold}\nupstreams:\n  app: {",
        "acme: {class: gold, residency: us}\nupstreams:\n  other: {labels: {region: us}, endpoints: [\"127.0.0.1:1\"]}\n  app: {",
        "gateway.yaml:13:3 upstream `other` is not used by any route (remove it)\n\
         gateway.yaml:20:15 the data of tenant `acme` stays in `us`, and route `home` leads to upstream `app` (label the upstream `region: us`, or write `upstream: {us: NAME, default: app}`)\n\
         gateway.yaml:25:15 the data of tenant `acme` stays in `us`, and route `orders` leads to upstream `app` (label the upstream `region: us`, or write `upstream: {us: NAME, default: app}`)",
    ),
];
