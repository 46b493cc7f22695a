//! Django with its admin behind gunicorn: forms, sessions, CSRF tokens, uploads, downloads, two customers by host.
use super::compare::{Dressing, differences};
use super::stage::{App, Stage, run};
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
