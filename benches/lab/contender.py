"""Moat in the gateway laboratory. MOAT_BIN names the binary (default: target/release/moat of the working directory)."""
import os, shutil, signal, subprocess
from pathlib import Path

FEATURES = {"tls", "headers", "jwt", "jwtcache", "ratelimit", "rbac", "log"}
PROTOCOLS = {"h1", "h2"}
NOTE = "hash-chained audit log and metrics are always on, from the first rung"
OUT_IS_LOG = True   # access log lines go to standard output


def binary():
    found = os.environ.get("MOAT_BIN") or shutil.which("moat") or str(Path("target/release/moat").absolute())
    return found if os.access(found, os.X_OK) else None


def available():
    b = binary()
    return subprocess.run([b, "--version"], capture_output=True, text=True).stdout.strip().split()[-1] if b else None


def put(path, text):
    """Beside, then renamed: a reload never reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    os.replace(beside, path)


def home(c):
    """Apart from the access log, which the laboratory writes into its own folder: this one is watched for changes."""
    return c.dir / "moat"


def certificates(c):
    folder = home(c) / "certs"
    folder.mkdir(parents=True, exist_ok=True)
    for end, source in (("key", c.key), ("crt", c.cert)):
        shutil.copyfile(source, folder / f"lab.{end}")
        (folder / f"lab.{end}").chmod(0o600)


def headers(c):
    lines = ["version: 1", "profiles:", "  lab:"]
    if c.on("headers"):
        lines += [
            "    set:",
            "      strict-transport-security: {max_age: 730d, include_subdomains: true}",
            "      content-security-policy:",
            "        directives: {default-src: [\"'self'\"], frame-ancestors: [\"'none'\"]}",
            "        unsafe_because: \"the laboratory's policy, word for word\"",
            "      x-content-type-options: nosniff",
            "      x-frame-options: DENY",
            "      referrer-policy: no-referrer",
            "      permissions-policy: {deny: [geolocation, camera]}",
        ]
    elif c.marker:
        lines += ["    set:"]
    if c.marker:
        lines += [f"      x-lab-gen: \"{c.marker}\""]
    if c.on("headers"):
        lines += ["    remove: [server]"]
    if lines[-1] == "  lab:":
        lines[-1] = "  lab: {}"
    return "\n".join(lines) + "\n"


def route(c, name, paths, permission):
    hosts = '"*.lab.test"' if c.on("tls") or c.on("rbac") else '"*"'
    lines = [f"  {name}:",
             f"    match: {{hosts: [{hosts}], paths: [{paths}], methods: [GET, HEAD, POST]}}",
             "    upstream: backend", "    headers: lab", "    csrf: off", "    body: {max: none}"]
    if c.on("jwt"):
        lines += ["    auth: {bearer: lab}"]
        lines += [f"    require: {{permission: {permission}}}" if c.on("rbac") else "    require: {session: any}"]
    else:
        lines += ['    public: "a rung without sessions"']
    if not c.on("rbac"):
        lines += ["    tenant: none"]
    if c.on("ratelimit"):
        lines += ["    rate_limits: [per-user]"]
    return lines


def write(c):
    if c.on("tls"):
        certificates(c)
    put(home(c) / "policies/headers.yaml", headers(c))
    o = ["version: 1",
         f"server: {{worker_threads: {c.workers}, state_dir: {c.dir}/state, drain_timeout: 2s, max_connections: 60000}}",
         f"admin: {{address: 127.0.0.1:{c.admin_port}}}",
         "listeners:", "  lab:", f"    address: 127.0.0.1:{c.port}",
         "    tls: modern" if c.on("tls") else '    plaintext: "the rung without TLS"',
         "    limits: {connections_per_ip: 60000, handshakes_per_second: 100000, idle_timeout: 120s}"]
    if c.on("tls"):
        o += ["tls: {certificates: certs/, default_certificate: lab}"]
    if c.on("jwt"):
        shutil.copyfile(c.pki / "jwks.json", home(c) / "jwks.json")
        o += ["issuers:", "  lab:", f"    issuer: {c.issuer}", f"    audiences: [{c.audience}]", "    algorithms: [RS256, ES256]",
              "    token_types: [jwt]", "    claims: {tenant: tenant, roles: roles}", "    jwks: {file: jwks.json}",
              "    max_lifetime: 31d"]
        o += [f"sessions: {{token_cache: {20000 if c.on('jwtcache') else 0}, revocation: {{keep: 31d}}}}"]
    o += ["identity: {subject: x-user}"]
    if c.on("rbac"):
        put(home(c) / "policies/custom-domains.yaml",
            "version: 1\nmap:\n" + "".join(f"  {host}: {tenant}\n" for host, tenant in c.hosts))
        put(home(c) / "policies/tenants.yaml",
            "version: 1\ntenants:\n" + "".join(f"  {tenant}: {{}}\n" for _, tenant in c.hosts))
        put(home(c) / "policies/roles.yaml",
            "version: 1\npermissions: {items: [use], admin: [use]}\n"
            "roles:\n  user: {grants: [items.use]}\n  admin: {extends: [user], grants: [admin.use]}\n")
        o += ["tenancy:", "  resolve: [{custom_domain: {map: policies/custom-domains.yaml}}]", "  file: policies/tenants.yaml",
              "  forward_as: x-tenant"]
    if c.on("ratelimit"):
        put(home(c) / "policies/rate-limits.yaml",
            f"version: 1\nlimits:\n  per-user: {{key: [user], rate: {c.rate}/s, burst: {c.burst}}}\n")
    o += ["upstreams:", f"  backend: {{endpoints: [\"{c.backend}\"]}}", "policies:", "  headers: policies/headers.yaml"]
    if c.on("ratelimit"):
        o += ["  rate_limits: policies/rate-limits.yaml"]
    if c.on("rbac"):
        o += ["  roles: policies/roles.yaml"]
    o += ["audit: {durability: os}", f"logs: {{level: warn, access: {{sample: {100 if c.on('log') else 0}%}}}}", "routes:"]
    o += route(c, "items", '"/**"', "items.use")
    if c.on("rbac"):
        o += route(c, "admin", '"/admin/**"', "admin.use")
    put(home(c) / "gateway.yaml", "\n".join(o) + "\n")


def argv(c):
    return [binary(), "run", "--config", home(c) / "gateway.yaml"]


def reload(c, proc):
    write(c)
    # The lab starts contenders through taskset, which becomes them: the process is ours itself.
    os.kill(proc.pid, signal.SIGHUP)
