//! pgAdmin 4, a product of 1,400 routes, in front of a PostgreSQL of its own: queries, a terminal, every route.
use super::compare::{Dressing, differences};
use super::stage::{App, Stage, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DRESSING: Dressing = Dressing {
    wears: &[
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
        (
            "content-security-policy",
            "base-uri 'self'; default-src 'self' data: blob:; form-action 'self'; frame-ancestors 'self'; object-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'",
        ),
        ("x-frame-options", "SAMEORIGIN"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-request-id", "*"),
        ("ratelimit", "*"),
        ("ratelimit-policy", "*"),
    ],
    hides: &["server", "x-xss-protection"],
    cookies: &["Secure", "HttpOnly", "SameSite=Lax"],
    readable: &[],
    gaps: &[],
};

/// Where Debian has the programs of PostgreSQL: the newest version.
fn postgres_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    versions.map(|version| version.unwrap().path().join("bin")).max().unwrap()
}

/// A data base server that listens on a socket in its folder only, and will not run as root.
fn start_postgres(stage: &Stage) -> (App, PathBuf) {
    let folder = stage.shared_folder("cluster");
    run(Command::new("chown").arg("postgres").arg(&folder));
    let password = folder.join("password");
    fs::write(&password, "elephant").unwrap();
    let postgres = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).current_dir("/");
        command.arg(postgres_programs().join(program)).arg("-D").arg(folder.join("data"));
        command
    };
    let options = ["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"];
    run(postgres("initdb").args(options).arg("--pwfile").arg(&password));
    let mut server = postgres("postgres");
    server.arg("-k").arg(&folder).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    (App::start(&mut server, "ready to accept connections", Some(5432)), folder)
}

/// Runs SQL and returns what it prints.
fn sql(socket: &Path, text: &str) -> String {
    let mut psql = Command::new(postgres_programs().join("psql"));
    psql.arg("-h").arg(socket).args(["-U", "postgres", "-qtAX", "-c", text]).env("PGPASSWORD", "elephant");
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Product<'a> {
    stage: &'a Stage,
    /// The package's own folder.
    home: PathBuf,
}

impl Product<'_> {
    fn command(&self, program: &str, data: &Path, behind_proxy: bool) -> Command {
        let mut command = Command::new(self.stage.program(program));
        command.current_dir(&self.home).env("PGADMIN_DATA", data).env("POSTGRES_PROGRAMS", postgres_programs());
        command.env("CONFIG_DISTRO_FILE_PATH", self.stage.source().join("config.py")).env("PYTHONPATH", &self.home);
        command.env("PGADMIN_SETUP_EMAIL", "dba@example.com").env("PGADMIN_SETUP_PASSWORD", "correct-horse");
        command.env("BEHIND_PROXY", if behind_proxy { "1" } else { "0" }).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// A server on a copy of the fresh data.
    fn start(&self, name: &str, fresh: &Path, behind_proxy: bool) -> App {
        let data = self.stage.folder(name);
        run(Command::new("cp").arg("-a").arg(fresh.join(".")).arg(&data));
        let mut gunicorn = self.command("gunicorn", &data, behind_proxy);
        gunicorn.args(["pgAdmin4:app", "--bind", "127.0.0.1:0", "--workers", "1", "--threads", "25"]);
        App::start(gunicorn.arg("--no-control-socket"), "Listening at: http://127.0.0.1:", None)
    }
}

#[test]
fn pgadmin_with_all_its_routes_notices_nothing() {
    let stage = Stage::of("pgadmin");
    let (_postgres, socket) = start_postgres(&stage);
    sql(&socket, "create table animals (id int primary key, name text, legs int)");
    sql(&socket, "insert into animals values (1, 'elephant', 4), (2, 'ostrich', 2)");

    let packages = fs::read_dir(stage.packages().join("lib")).unwrap().next().unwrap().unwrap().path();
    let product = Product { stage: &stage, home: packages.join("site-packages/pgadmin4") };
    let fresh = stage.folder("fresh");
    run(product.command("python", &fresh, false).args(["setup.py", "setup-db"]));
    let server = serde_json::json!({"Servers": {"1": {"Name": "local", "Group": "Servers", "Host": socket, "Port": 5432,
        "MaintenanceDB": "postgres", "Username": "postgres", "SSLMode": "prefer"}}});
    let servers = stage.folder("visit").join("servers.json");
    fs::write(&servers, server.to_string()).unwrap();
    let load = ["setup.py", "load-servers"];
    run(product.command("python", &fresh, false).args(load).arg(&servers).args(["--user", "dba@example.com"]));
    let oid = |what: &str| sql(&socket, &format!("select {what}"));
    run(product
        .command("python", &fresh, false)
        .arg(stage.source().join("routes.py"))
        .args([oid("oid from pg_database where datname = 'postgres'"), oid("'animals'::regclass::oid")])
        .arg(stage.folder("visit").join("routes.json")));

    let direct = stage.visit(product.start("direct", &fresh, false).port);
    sql(&socket, "delete from animals where id = 3");
    let app = product.start("through", &fresh, true);
    let gateway = stage.gateway(app.port);
    let through = stage.visit_through(&gateway);
    let found = differences(&direct, &through, &DRESSING);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let sockets = gateway.log_lines().iter().filter(|line| line.contains(r#""status":101"#)).count();
    assert!(sockets > 0, "psql had no WebSocket");
}
