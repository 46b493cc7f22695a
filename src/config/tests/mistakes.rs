//! Mistakes of a bundle, one change each: with their messages and places.

const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "version: 1\nserver",
        "version: 2\nserver",
        "gateway.yaml:1:10 expected `1`, the only version there is, found `2`",
    ),
    ("version: 1\nserver", "server", "gateway.yaml:1:1 missing `version`"),
    ("state_dir: state", "stat_dir: state", "gateway.yaml:2:10 unknown key `stat_dir` (did you mean `state_dir`?)"),
    (
        "{state_dir: state}",
        "{worker_threads: many}",
        "gateway.yaml:2:26 expected `auto` or a number from 1 to 1024, found `many`",
    ),
    (
        "{state_dir: state}",
        "{drain_timeout: 30}",
        "gateway.yaml:2:25 expected a duration such as `250ms`, `10s`, `15m`, `12h`, `30d` or `1y`, found `30`",
    ),
    (
        "{state_dir: state}",
        "{max_connections: 0}",
        "gateway.yaml:2:27 expected at least `1`, found `0` (anything from `1` to `10000000` will do)",
    ),
    (
        "server: {state_dir: state}",
        "metrics: {tenant_label: {top: 1001}}",
        "gateway.yaml:2:31 expected at most `1000`, found `1001` (anything from `0` to `1000` will do)",
    ),
    (
        "{address: \"127.0.0.1:8443\"}",
        "{address: \"127.0.0.1:8443\", limits: {request_headers: {bytes: 2MiB, count: 257}, request_line: 65KiB, connections_per_ip: 0, h2: {concurrent_streams: 0}}}",
        "gateway.yaml:4:73 expected at most `1MiB`, found `2MiB` (anything from `1B` to `1MiB` will do)\n\
         gateway.yaml:4:86 expected at most `256`, found `257` (anything from `1` to `256` will do)\n\
         gateway.yaml:4:106 expected at most `64KiB`, found `65KiB` (anything from `1B` to `64KiB` will do)\n\
         gateway.yaml:4:133 expected at least `1`, found `0` (anything from `1` to `10000000` will do)\n\
         gateway.yaml:4:161 expected at least `1`, found `0` (anything from `1` to `10000` will do)",
    ),
    (
        "{address: \"127.0.0.1:8443\"}",
        "{address: \"127.0.0.1:8443\", limits: {h2: {control_frames_per_second: 9, window_updates_per_second: 1000001, stall_timeout: 0s}}}",
        "gateway.yaml:4:80 expected at least `10`, found `9` (anything from `10` to `1000000` will do)\n\
         gateway.yaml:4:110 expected at most `1000000`, found `1000001` (anything from `10` to `1000000` will do)\n\
         gateway.yaml:4:134 expected at least `1s`, found `0ms` (anything from `1s` to `1h` will do)",
    ),
    (
        "algorithms: [ES256]}",
        "algorithms: [ES256], token_types: []}",
        "gateway.yaml:7:3 issuer `login` has no `token_types`",
    ),
    (
        "algorithms: [ES256]}",
        "algorithms: [ES256], clock_skew: 6m, jwks: {refresh: 10m, min_interval: 0s, max_stale: 15m}}",
        "gateway.yaml:7:94 expected at most `5m`, found `6m` (anything from `0ms` to `5m` will do)\n\
         gateway.yaml:7:114 keys are refreshed every `10m`, and would be too old after `15m` (`max_stale` is at least twice `refresh`)\n\
         gateway.yaml:7:133 expected at least `1s`, found `0ms` (anything from `1s` to `100y` will do)",
    ),
    (
        "rate: {gold: 10/s}, burst: 2x",
        "rate: {gold: 1/h}, burst: 8761",
        "limits.yaml:3:37 a burst of `8761` at `1/h` takes longer than a year to fill up again (allow a smaller burst, or a higher rate)",
    ),
    (
        "rate: {gold: 10/s}, burst: 2x",
        "rate: {gold: 1000000/s}, burst: 5000x",
        "limits.yaml:3:37 a burst of `5000x` at `1000000/s` is more than 4294967295 requests",
    ),
    (
        "server: {state_dir: state}",
        "admin: {address: 10.0.0.1:9901}",
        "gateway.yaml:2:18 the admin listener must be on loopback (metrics and health say a lot about your tenants; forward a port from loopback instead)",
    ),
    (
        "server: {state_dir: state}",
        "admin: {address: 127.0.0.1:8443}",
        "gateway.yaml:4:21 `127.0.0.1:8443` is the address of `admin` already",
    ),
    (
        "server: {state_dir: state}",
        "audit: {chain: {checkpoint: {key: hunter2}}}",
        "gateway.yaml:2:35 a secret is never a literal (write `{file: …}`, `{env: …}` or `{credential: …}`, and change this secret: it has been in a file)",
    ),
    (
        "server: {state_dir: state}",
        "audit: {chain: {checkpoint: {key: {file: nowhere.pem}}}}",
        "gateway.yaml:2:35 `nowhere.pem` does not exist",
    ),
    ("server: {state_dir: state}", "include: [more/*.yaml]", "gateway.yaml:2:11 `more` does not exist"),
    (
        "server: {state_dir: state}",
        "tenancy: {}",
        "gateway.yaml:8:1 duplicate key `tenancy` (it stands in line 2 already)",
    ),
    (
        "address: \"127.0.0.1:8443\"",
        "address: localhost",
        "gateway.yaml:4:21 expected an address with port such as `127.0.0.1:8443` or `[::1]:8443`, found `localhost`",
    ),
    (
        "{address: \"127.0.0.1:8443\"}",
        "{address: \"127.0.0.1:8443\", tls: modren}",
        "gateway.yaml:4:44 unknown TLS profile `modren` (did you mean `modern`?)",
    ),
    (
        "{address: \"127.0.0.1:8443\"}",
        "{address: \"127.0.0.1:8443\", plaintext: \"\", tls: modern}",
        "gateway.yaml:4:3 listener `public` is more than one of `tls`, `redirect` and `plaintext`\ngateway.yaml:4:50 plaintext needs a reason",
    ),
    (
        "{address: \"127.0.0.1:8443\"}",
        "{address: \"127.0.0.1:8443\", client_ip: {proxy_protocol: required}}",
        "gateway.yaml:4:67 `proxy_protocol: required` without `trusted`: nobody could connect (list the addresses of the balancers, e.g. `trusted: [10.0.0.0/8]`)",
    ),
    ("{address: \"127.0.0.1:8443\"}", "{tls: modern}", "gateway.yaml:4:3 missing `address`"),
    (
        "tls: {certificates: certs}\n",
        "",
        "gateway.yaml:4:3 listener `public` needs certificates, and there is no `tls` (write `tls: {certificates: certs/}`, or `redirect: https` for a plaintext listener)",
    ),
    (
        "certificates: certs",
        "certificates: nowhere",
        "gateway.yaml:5:21 `nowhere` does not exist (`moat certs dev` makes certificates for trials)",
    ),
    (
        "certificates: certs",
        "certificates: certs, profiles: {old: {min_version: \"1.2\", groups: [x25519]}}",
        "gateway.yaml:5:39 TLS profile `old` is not used by any listener (remove it)",
    ),
    (
        "{address: \"127.0.0.1:8443\"}\ntls: {certificates: certs}",
        "{address: \"127.0.0.1:8443\", tls: old}\ntls: {certificates: certs, profiles: {old: {ciphers: [AES_256_GCM, TLS_AES_256_GCM_SHA348]}}}",
        "gateway.yaml:5:55 unknown cipher suite `AES_256_GCM` (there are TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256)\ngateway.yaml:5:68 unknown cipher suite `TLS_AES_256_GCM_SHA348` (did you mean `TLS_AES_256_GCM_SHA384`?)",
    ),
    (
        "{address: \"127.0.0.1:8443\"}\ntls: {certificates: certs}",
        "{address: \"127.0.0.1:8443\", tls: old}\ntls: {certificates: certs, profiles: {old: {ciphers: []}}}",
        "gateway.yaml:4:44 TLS profile `old` has no cipher suites",
    ),
    (
        "algorithms: [ES256]",
        "algorithms: [none]",
        "gateway.yaml:7:74 `none` is not an allowed algorithm (only signatures with public keys are accepted: `RS256`, `PS256`, `ES256`, `ES384`, `EdDSA`)",
    ),
    (
        "algorithms: [ES256]",
        "algorithms: [ES255]",
        "gateway.yaml:7:74 `ES255` is not an allowed algorithm (did you mean `ES256`?)",
    ),
    ("audiences: [a], ", "", "gateway.yaml:7:3 issuer `login` has no `audiences`"),
    (
        "https://login.example/",
        "http://login.example/",
        "gateway.yaml:7:19 keys are fetched over https only, and `http://login.example/` is no https URL",
    ),
    (
        "algorithms: [ES256]",
        "algorithms: [ES256], jwks: {file: nowhere.json}",
        "gateway.yaml:7:95 `nowhere.json` does not exist",
    ),
    (
        "{issuer: \"https://login.example/\", audiences: [a], algorithms: [ES256]}",
        "{firebase: {project: shop}, audiences: [a]}",
        "gateway.yaml:7:3 `firebase` sets `audiences` by itself (remove `audiences`)",
    ),
    ("{tenant}.example", "tenant.example", "gateway.yaml:9:20 expected `{tenant}.DOMAIN`, found `tenant.example`"),
    ("[{host: \"{tenant}.example\"}]", "[{hosts: x}]", "gateway.yaml:9:14 unknown key `hosts` (did you mean `host`?)"),
    ("acme: {class: gold}", "acme: {class: glod}", "gateway.yaml:11:17 unknown class `glod` (did you mean `gold`?)"),
    (
        "acme: {class: gold}",
        "Acme: {class: gold}",
        "gateway.yaml:11:3 `Acme` cannot be the id of a tenant (lower-case letters, digits, `-` and `_`, at most 63)",
    ),
    ("acme: {class: gold}", "acme: {class: gold, residency: eu}", "gateway.yaml:11:34 no upstream is in region `eu`"),
    (
        "acme: {class: gold}",
        "acme: {class: gold, issuers: [logn]}",
        "gateway.yaml:11:33 unknown issuer `logn` (did you mean `login`?)",
    ),
    (
        "acme: {class: gold}",
        "acme: {class: gold, ip_allow: [10.0.0.0/40]}",
        "gateway.yaml:11:34 expected an address or a network such as `10.0.0.0/8`, found `10.0.0.0/40`",
    ),
    ("endpoints: [\"127.0.0.1:9000\"]", "endpoints: []", "gateway.yaml:13:3 upstream `app` has no endpoints"),
    (
        "endpoints: [\"127.0.0.1:9000\"]",
        "endpoints: [\"http://app:9000\"]",
        "gateway.yaml:13:21 expected `host:port`, found `http://app:9000` (a URL is not an address)",
    ),
    (
        "endpoints: [\"127.0.0.1:9000\"]",
        "endpoints: [\"127.0.0.1:9000\"], retry: {attempts: 0}",
        "gateway.yaml:13:58 expected at least `1`, found `0` (anything from `1` to `10` will do)",
    ),
    (
        "fresh: {max_age: 15m}",
        "fresh: {}",
        "gateway.yaml:14:22 step-up `fresh` asks for nothing (give it `max_age`, `acr` or `amr`)",
    ),
    (
        "fresh: {max_age: 15m}",
        "fresh: {max_age: 15m, amr: []}",
        "gateway.yaml:14:49 `amr` is empty (name a method such as `otp`, or remove it)",
    ),
    (
        "fresh: {max_age: 15m}",
        "fresh: {amr: [otp, pwd, otp, \"hwk swk\"]}",
        "gateway.yaml:14:46 `otp` stands twice (remove one of them)\n\
         gateway.yaml:14:51 `hwk swk` cannot be a method (RFC 8176 has `otp`, `hwk`, `pwd` and others; write each as an item of its own)",
    ),
    ("roles: roles.yaml", "roles: rolls.yaml", "gateway.yaml:15:19 `rolls.yaml` does not exist"),
    (
        "    public: \"the front page\"\n",
        "",
        "gateway.yaml:17:3 route `home` does not say who may use it (write `require: {permission: …}`, `require: {session: any}`, or `public: \"<reason>\"`)",
    ),
    ("public: \"the front page\"", "public: \"\"", "gateway.yaml:20:13 an open route needs a reason"),
    (
        "public: \"the front page\"",
        "require: {session: any}",
        "gateway.yaml:17:3 route `home` does not say which `auth` it accepts (write `auth: {bearer: ISSUER}`)",
    ),
    (
        "    auth: {bearer: login}\n",
        "    public: why not\n",
        "gateway.yaml:25:13 a route is `public` or has `require`, not both (remove one of them)\ngateway.yaml:27:19 limit `calm` counts by user, and a public route knows none",
    ),
    (
        "auth: {bearer: login}",
        "auth: {bearer: logon}",
        "gateway.yaml:25:20 unknown issuer `logon` (did you mean `login`?)",
    ),
    (
        "auth: {bearer: login}",
        "auth: {webhook_signature: {}}",
        "gateway.yaml:25:12 `webhook_signature` is not supported by this version (it is part of the grammar, but the gateway would not act on it; remove it)",
    ),
    (
        "permission: orders.read,",
        "permission: orders.raed,",
        "gateway.yaml:26:27 unknown permission `orders.raed` (did you mean `orders.read`?)",
    ),
    (
        "permission: orders.read,",
        "permission: orders.read, session: any,",
        "gateway.yaml:26:14 `require` has exactly one of `permission` and `session: any`",
    ),
    (
        "step_up: fresh}\n    rate",
        "step_up: frsh}\n    rate",
        "gateway.yaml:26:49 unknown step-up `frsh` (did you mean `fresh`?)",
    ),
    (
        "step_up: fresh}\n    rate",
        "step_up: fresh, when: 'session.acr = 1'}\n    rate",
        "gateway.yaml:26:62 the condition does not compile at its character 13: token recognition error at: '= ' (conditions are CEL: compare with `==`, join with `&&` and `||`, quote texts)",
    ),
    (
        "  resolve: [",
        "\tresolve: [",
        "gateway.yaml:9:2 the yaml is not well formed: tabs disallowed within this context (block indentation): indent with spaces",
    ),
    (
        "step_up: fresh}\n    rate",
        "step_up: fresh, when: 'tenant.clas == \"x\"'}\n    rate",
        "gateway.yaml:26:62 the condition does not compile: `tenant` has no `clas`; it has id, class, status",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: [clam]",
        "gateway.yaml:27:19 unknown rate limit `clam` (did you mean `calm`?)",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: []",
        "limits.yaml:3:3 rate limit `calm` is not used by any route (remove it, or list it in `rate_limits` of a route or of `sessions`)",
    ),
    ("headers: page\n", "headers: pages\n", "gateway.yaml:21:14 unknown header profile `pages` (did you mean `page`?)"),
    (
        "paths: [\"/\"], methods: [GET]",
        "paths: [\"/orders/{x}\"], methods: [GET]",
        "gateway.yaml:23:43 routes `home` and `orders` match GET *.example/orders/{id} equally well (`home` stands in gateway.yaml:17)",
    ),
    (
        "paths: [\"/\"], methods: [GET]",
        "paths: [\"/a//b\"], methods: [GTE]",
        "gateway.yaml:18:43 no request can have this path: empty segment\ngateway.yaml:18:63 unknown method `GTE` (did you mean `GET`?)",
    ),
    (
        "hosts: [\"*.example\"], paths: [\"/\"]",
        "hosts: [\"www.other\", \"EXAMPLE\"], paths: [\"/\"]",
        "gateway.yaml:18:21 `tenancy.resolve` finds no tenant for `www.other`, so this route would answer nothing (write `tenant: none` for a route that belongs to no tenant)\ngateway.yaml:18:34 `EXAMPLE` is not a host pattern (write `app.example.com`, `*.example.com` or `*`, in lower case and without port)",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: [calm]\n    tenant: {from: path_param, param: idd}",
        "gateway.yaml:28:39 `/orders/{id}` has no parameter `idd` (did you mean `id`?)",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: [calm]\n    shadow: [quota]",
        "gateway.yaml:28:14 unknown guard `quota` (there are `network`, `quota.address`, `standing`, `isolation`, `session`, `tenant`, `csrf`, `quota.caller`, `access`, `body`, `quota.body`)",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: [calm]\n    idempotency: {header: x}",
        "gateway.yaml:28:5 `idempotency` is not supported by this version (it is part of the grammar, but the gateway would not act on it; remove it)",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: [calm]\n    body: {max: 1MB, content_types: [json]}",
        "gateway.yaml:28:17 expected a size such as `512B`, `64KiB`, `1MiB` or `2GiB`, found `1MB`\ngateway.yaml:28:38 `json` is not a media type (write `application/json`, without parameters or stars)",
    ),
    (
        "orders: [read]",
        "orders: [read, write]",
        "roles.yaml:2:30 permission `orders.write` is not used by any route (a permission that no route requires protects nothing; remove it or require it)",
    ),
    (
        "grants: [orders.read]",
        "grants: [orders.write]",
        "roles.yaml:4:20 `orders.write` names no permission (did you mean `orders.read`?)",
    ),
    ("extends: [clerk]", "extends: [clrk]", "roles.yaml:5:20 unknown role `clrk` (did you mean `clerk`?)"),
    (
        "exclusive_roles: [[clerk, boss]]",
        "exclusive_roles: [[clerk]]",
        "roles.yaml:6:19 exclusive roles come in pairs of two different ones",
    ),
    (
        "step_up: {fresh: [orders.read]}",
        "step_up: {fresh: [orders.red]}",
        "roles.yaml:7:19 unknown permission `orders.red` (did you mean `orders.read`?)",
    ),
    (
        "step_up: {fresh: [orders.read]}",
        "service_accounts: {}",
        "roles.yaml:7:1 `service_accounts` is not supported by this version (it is part of the grammar, but the gateway would not act on it; remove it)",
    ),
    ("rate: {gold: 10/s}", "rate: {silver: 10/s}", "gateway.yaml:11:17 unknown class `gold` (rate limits know silver)"),
    (
        "rate: {gold: 10/s}",
        "rate: 10",
        "limits.yaml:3:37 expected a rate such as `20/s`, `600/m` or `5000/h`, found `10`",
    ),
    (
        "x-content-type-options: nosniff",
        "x-content-type-options: sniff",
        "headers.yaml:4:35 `sniff` is not a value of `x-content-type-options` (write `nosniff`)",
    ),
    (
        "expect: {permit: app}",
        "expect: {refuse: access.denied}",
        "tests.yaml:5:13 policy test failed: a clerk reads: the request was permitted to `app` (by route `orders` (gateway.yaml:22))",
    ),
    (
        "expect: {permit: app}",
        "expect: {refuse: access.refused}",
        "tests.yaml:5:22 expected a refusal code such as `access.denied`, found `access.refused`",
    ),
    ("role: clerk, tenant", "role: clark, tenant", "tests.yaml:4:77 unknown role `clark` (did you mean `clerk`?)"),
    (
        "auth_age: 1m",
        "auth_age: 1h",
        "tests.yaml:5:13 policy test failed: a clerk reads: the request was refused with `session.step-up` (route `orders` (gateway.yaml:22): step-up `fresh`: the authentication is too old)",
    ),
];

#[test]
fn every_mistake_has_its_message_and_place() {
    super::told(MISTAKES);
}
