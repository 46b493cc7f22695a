//! A documentation tree of 3,000 pages behind nginx: mirrored by its links, with conditions, ranges and a big file.
use super::compare::{Dressing, differences};
use super::stage::{App, Stage, run};
use crate::harness::Gateway;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const DRESSING: Dressing = Dressing {
    wears: &[
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
        (
            "content-security-policy",
            "base-uri 'none'; default-src 'self'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-request-id", "*"),
        ("ratelimit", "*"),
        ("ratelimit-policy", "*"),
    ],
    hides: &["server"],
    cookies: &[],
    readable: &[],
    gaps: &[],
};

fn start(stage: &Stage, site: &Path) -> App {
    // nginx cannot tell which port the system chose; it fails where somebody else was faster.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = stage.folder("nginx");
    let text = fs::read_to_string(stage.source().join("nginx.conf")).unwrap();
    let text = text.replace("FOLDER", &folder.display().to_string()).replace("SITE", &site.display().to_string());
    let file = folder.join("nginx.conf");
    fs::write(&file, text.replace("PORT", &port.to_string())).unwrap();
    App::start(Command::new("nginx").arg("-c").arg(file).arg("-p").arg(folder), "start worker process ", Some(port))
}

/// The most memory that the gateway ever held, in MiB.
fn most_memory(gateway: &Gateway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
}

#[test]
fn readers_and_mirrors_of_a_large_site_notice_nothing() {
    let stage = Stage::of("static");
    // Its worker runs as somebody else, who must be able to read the pages.
    let site = stage.shared_folder("site").join("pages");
    run(Command::new("python3").arg(stage.source().join("make.py")).arg(&site));
    let app = start(&stage, &site);
    let direct = stage.visit(app.port);
    let gateway = stage.gateway(app.port);
    let through = stage.visit_through(&gateway);
    let found = differences(&direct, &through, &DRESSING);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let most = most_memory(&gateway);
    assert!(most < 150, "{most} MiB for files of 300 MiB");
}
