//! A configuration in a folder of its own: gateway.yaml, policies, certificates, key set.
use super::tokens::TokenKey;
use moat::cli::certs;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub struct Bundle {
    folder: tempfile::TempDir,
    /// The issuer's key; its public half is in `jwks.json`.
    pub key: TokenKey,
    /// Listeners to wait for at the start.
    pub listeners: Vec<String>,
    /// Variables of the gateway's environment.
    pub environment: Vec<(String, String)>,
}

impl Bundle {
    /// Certificates and a key set, but no configuration yet.
    pub fn empty() -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        certs::ensure(&folder.path().join("certs"), &[], certs::Existing::Keep).unwrap();
        let listeners = ["admin", "public", "plain"].map(str::to_owned).to_vec();
        let bundle = Bundle { folder, key: TokenKey::new("k1"), listeners, environment: Vec::new() };
        bundle.write("jwks.json", &TokenKey::set(&[&bundle.key]));
        bundle
    }

    /// Three tenants and a route for each kind of rule, in front of one application.
    pub fn standard(upstream: SocketAddr) -> Bundle {
        let bundle = Bundle::empty();
        bundle.write("gateway.yaml", &GATEWAY.replace("UPSTREAM", &upstream.to_string()));
        bundle.write("policies/roles.yaml", ROLES);
        bundle.write("policies/headers.yaml", HEADERS);
        bundle.write("policies/rate-limits.yaml", LIMITS);
        bundle
    }

    /// A place-holder for a bundle that has moved on.
    pub(super) fn nowhere() -> Bundle {
        let (folder, key) = (tempfile::tempdir().unwrap(), TokenKey::new("none"));
        Bundle { folder, key, listeners: Vec::new(), environment: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file the way deployment tools do: beside, then renamed over.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("tmp");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &path).unwrap();
    }

    /// Replaces a piece of `gateway.yaml` that must be there once.
    pub fn replace(&self, old: &str, new: &str) {
        let text = self.read("gateway.yaml");
        assert_eq!(text.matches(old).count(), 1, "`{old}` in gateway.yaml");
        self.write("gateway.yaml", &text.replace(old, new));
    }

    /// Keeps `kinds` of state in a Redis, where replicas with the same keys find them.
    pub fn share(&self, redis: SocketAddr, kinds: &str) {
        self.write("hash-key", "a secret that all replicas have in common\n");
        self.write("session-keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        let redis = format!("redis: {{url: \"redis://{redis}\", hash_key: {{file: hash-key}}, use_for: [{kinds}]}}");
        self.replace("routes:\n  home:", &format!("storage:\n  {redis}\nroutes:\n  home:"));
        self.replace("sessions:\n", "sessions:\n  keys: {file: session-keys}\n");
    }

    /// Adds a route to `gateway.yaml`, which ends with them; `yaml` is indented by two.
    pub fn route(&self, yaml: &str) {
        self.write("gateway.yaml", &format!("{}{yaml}\n", self.read("gateway.yaml")));
    }
}

const GATEWAY: &str = r#"version: 1
server: {state_dir: state, worker_threads: 2, drain_timeout: 5s, instance: test-1}
admin: {address: 127.0.0.1:0}
listeners:
  public:
    address: 127.0.0.1:0
    tls: modern
    limits: {request_headers: {bytes: 16KiB, count: 64}, header_timeout: 1s, idle_timeout: 5s, handshake_timeout: 1s}
  plain: {address: 127.0.0.1:0, redirect: https}
tls: {certificates: certs/, default_certificate: localhost}
issuers:
  workforce:
    issuer: https://login.test/
    audiences: [northlane-api]
    algorithms: [ES256]
    token_types: [at+jwt]
    claims: {tenant: org_id, roles: roles, session: sid, auth_time: auth_time, acr: acr, amr: amr}
    jwks: {file: jwks.json}
    max_lifetime: 1h
tenancy:
  resolve:
    - host: "{tenant}.localhost"
  forward_as: x-tenant-id
  defaults: {class: standard}
tenants:
  acme: {class: standard}
  globex: {class: standard}
  initech: {class: standard, status: suspended}
  umbrella: {class: standard, ip_allow: [203.0.113.0/24]}
upstreams:
  app:
    endpoints: [UPSTREAM]
    http: {connect_timeout: 1s, first_byte_timeout: 1s, total_timeout: 30s}
sessions:
  step_up:
    recent-mfa: {max_age: 15m}
policies:
  roles: policies/roles.yaml
  headers: policies/headers.yaml
  rate_limits: policies/rate-limits.yaml
logs: {format: json, level: info}
audit: {directory: state/audit}
routes:
  home:
    match: {hosts: ["*.localhost"], paths: ["/**"], methods: [GET, HEAD]}
    upstream: app
    public: "the pages that anybody may see"
    headers: app-strict
  bookings-read:
    match: {hosts: ["*.localhost"], paths: ["/api/bookings", "/api/bookings/{id}"], methods: [GET, HEAD]}
    upstream: app
    auth: {any_of: [{bearer: workforce}, {cookie: {name: __Host-nl, issuer: workforce}}]}
    require: {permission: bookings.read}
    headers: api-json
  bookings-write:
    match: {hosts: ["*.localhost"], paths: ["/api/bookings", "/api/bookings/{id}"], methods: [POST, PUT, PATCH, DELETE]}
    upstream: app
    auth: {any_of: [{bearer: workforce}, {cookie: {name: __Host-nl, issuer: workforce}}]}
    require: {permission: bookings.write}
    csrf: strict
    body: {max: 64KiB, content_types: [application/json]}
    audit: {action: booking.write}
    headers: api-json
  refunds:
    match: {hosts: ["*.localhost"], paths: [/api/refunds], methods: [POST]}
    upstream: app
    auth: {bearer: workforce}
    require: {permission: accounts.refund, step_up: recent-mfa}
    headers: api-json
  limited:
    match: {hosts: ["*.localhost"], paths: [/api/limited], methods: [GET]}
    upstream: app
    auth: {bearer: workforce}
    require: {session: any}
    rate_limits: [few-per-user]
    headers: api-json
"#;

const ROLES: &str = "version: 1
permissions:
  bookings: [read, write]
  accounts: [refund]
roles:
  viewer: {grants: [bookings.read]}
  cashier: {extends: [viewer], grants: [bookings.write]}
  finance: {extends: [viewer], grants: [accounts.refund]}
";

const HEADERS: &str = r#"version: 1
profiles:
  base:
    set:
      strict-transport-security: {max_age: 1y, include_subdomains: true}
      x-content-type-options: nosniff
      referrer-policy: strict-origin-when-cross-origin
      permissions-policy: {deny: [camera, microphone, geolocation]}
    remove: [server, x-powered-by, via]
  app-strict:
    extends: base
    set:
      content-security-policy:
        nonce: true
        directives:
          default-src: ["'self'"]
          script-src: ["'nonce'", "'strict-dynamic'"]
          object-src: ["'none'"]
          base-uri: ["'none'"]
          frame-ancestors: ["'none'"]
      x-frame-options: DENY
      cross-origin-opener-policy: same-origin
      cross-origin-resource-policy: same-origin
    cookies: {secure: true, http_only: true, same_site: lax}
  api-json:
    extends: base
    set:
      content-security-policy: {directives: {default-src: ["'none'"], frame-ancestors: ["'none'"]}}
      cross-origin-resource-policy: same-origin
      cache-control: no-store
"#;

const LIMITS: &str = "version: 1
limits:
  few-per-user: {key: [tenant, user], rate: 3/m, burst: 3}
";
