//! Django with its admin behind gunicorn: forms, sessions, CSRF tokens, uploads, downloads, two customers by host.
use super::compare::{Dressing, differences};
use super::stage::{App, Stage, run};
use crate::harness::Gateway;
use std::path::Path;
use std::process::Command;

const DRESSING: Dressing = Dressing {
    wears: &[
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
        (
            "content-security-policy",
            "base-uri 'none'; default-src 'self'; form-action 'self'; frame-ancestors 'none'; img-src 'self' data:; object-src 'none'; style-src 'self' 'sha256-jYJ/qrz4ojqMFEXV4ROer3I8bInDaDsKjQuktj9ESIk='",
        ),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-request-id", "*"),
        ("ratelimit", "*"),
        ("ratelimit-policy", "\"per-address\";q=400;w=4"),
    ],
    hides: &["server"],
    cookies: &["Secure", "HttpOnly", "SameSite=Lax"],
    readable: &[],
    gaps: &[],
};

/// A command with the environment of the project.
fn django(stage: &Stage, program: &Path, data: &Path, behind_proxy: bool) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(stage.source())
        .env("LIBRARY_DATA", data)
        .env("LIBRARY_STATIC", stage.packages().join("static"));
    command.env("LIBRARY_SECRET", "x".repeat(50)).env("DJANGO_SUPERUSER_PASSWORD", "correct horse");
    command.env("BEHIND_PROXY", if behind_proxy { "1" } else { "0" }).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A fresh data base with one user, and the server.
fn start(stage: &Stage, name: &str, behind_proxy: bool) -> App {
    let data = stage.folder(name);
    let manage = |args: &[&str]| {
        run(django(stage, &stage.program("python"), &data, behind_proxy).arg("manage.py").args(args));
    };
    manage(&["migrate", "-v0"]);
    if !stage.packages().join("static").exists() {
        manage(&["collectstatic", "--noinput", "-v0"]);
    }
    manage(&["createsuperuser", "--noinput", "--username", "editor", "--email", "editor@localhost"]);
    let mut gunicorn = django(stage, &stage.program("gunicorn"), &data, behind_proxy);
    gunicorn.args(["library.wsgi", "--bind", "127.0.0.1:0", "--workers", "2", "--threads", "4", "--no-control-socket"]);
    App::start(&mut gunicorn, "Listening at: http://127.0.0.1:", None)
}

#[test]
fn django_and_its_admin_notice_nothing() {
    let stage = Stage::of("django");
    let direct = stage.visit(start(&stage, "direct", false).port);
    let app = start(&stage, "through", true);
    let through = stage.visit_through(&stage.gateway(app.port));
    let found = differences(&direct, &through, &DRESSING);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The guard of the sign-in form against the real one: an account is counted by the hash of the field that Django reads
/// together with the address, by what Django answers, however its name is spelt.
#[test]
fn guessed_passwords_are_counted_before_django_checks_them() {
    const LIMIT: &str = "sign-in: {key: [client.ip_prefix], rate: 20/m, burst: 10}";
    let stage = Stage::of("django");
    let app = start(&stage, "guessed", true);
    let bundle = stage.bundle(app.port);
    let limits = bundle.read("policies/rate-limits.yaml");
    assert!(limits.contains(LIMIT), "{limits}");
    // Django shows the form again (200) where the password is wrong, and leads on (302) where it is right.
    let guard = "sign-in: {key: [form.username_hash, client.ip_prefix], rate: 3/h, burst: 3, count: [200]}";
    bundle.write("policies/rate-limits.yaml", &limits.replace(LIMIT, guard));
    let gateway = Gateway::start_blocking(bundle);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = "https://acme.localhost/admin/login/?next=/admin/";
        let page = gateway.get(url).send().await;
        let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let text = page.text();
        let token = text.split_once("name=\"csrfmiddlewaretoken\" value=\"").unwrap().1.split('"').next().unwrap();
        let sign_in = async |name: &str, password: &str| {
            let form = format!("csrfmiddlewaretoken={token}&username={name}&password={password}&next=%2Fadmin%2F");
            let call = gateway.call("POST", url).header("cookie", &cookie).header("origin", "https://acme.localhost");
            call.header("content-type", "application/x-www-form-urlencoded").body(form).send().await.verdict()
        };
        assert_eq!(sign_in("editor", "correct+horse").await, "302", "the right one costs nothing");
        for spelling in ["editor", "EDITOR", "%EF%BD%85ditor+"] {
            assert_eq!(sign_in(spelling, "guessed").await, "200", "{spelling}");
        }
        assert_eq!(sign_in("editor", "guessed").await, "429 quota.exceeded");
        assert_eq!(sign_in("editor", "correct+horse").await, "429 quota.exceeded", "nor does a lucky guess come in");
        assert_eq!(sign_in("somebody", "guessed").await, "200", "another account is counted by itself");
    });
}
