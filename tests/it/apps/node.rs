//! A Node server on Express: events, WebSockets, socket.io with long polling, streams in both directions, every method.
use super::compare::{Dressing, differences};
use super::stage::{App, Stage};
use std::process::Command;

const DRESSING: Dressing = Dressing {
    wears: &[
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
        (
            "content-security-policy",
            "base-uri 'none'; default-src 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-request-id", "*"),
        ("ratelimit", "*"),
        ("ratelimit-policy", "*"),
    ],
    hides: &["server", "x-powered-by"],
    cookies: &["Secure", "HttpOnly", "SameSite=Lax"],
    readable: &["theme"],
    // The codec of HTTP/2 sends no interim answers.
    gaps: &["curl --http2 /early"],
};

fn start(stage: &Stage, behind_proxy: bool) -> App {
    let mut node = Command::new("node");
    node.arg(stage.source().join("server.js")).env("NODE_MODULES_AT", stage.packages()).env("NODE_ENV", "production");
    node.env("BEHIND_PROXY", if behind_proxy { "1" } else { "0" });
    App::start(&mut node, "listening on http://127.0.0.1:", None)
}

#[test]
fn a_node_server_with_events_and_sockets_notices_nothing() {
    let stage = Stage::of("node");
    let direct = stage.visit(start(&stage, false).port);
    let app = start(&stage, true);
    let through = stage.visit_through(&stage.gateway(app.port));
    let found = differences(&direct, &through, &DRESSING);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
