//! `moat explain`: the production engine on a made-up request, with the place of every rule.
use crate::harness::{Bundle, moat};

fn explain(bundle: &Bundle, line: &str) -> (Option<i32>, String) {
    let mut args = vec!["explain"];
    args.extend(line.split(' '));
    let output = moat(bundle.root(), &args);
    assert!(!output.stdout.is_empty(), "{output:?}");
    (output.code, output.stdout)
}

/// The place of a line in a file of the bundle, as `file:line`.
fn place(bundle: &Bundle, file: &str, line: &str) -> String {
    let at = bundle.read(file).lines().position(|l| l.trim_start().starts_with(line)).expect(line);
    format!("({file}:{})", at + 1)
}

#[test]
fn it_names_the_rules_and_where_they_stand() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    let (code, text) =
        explain(&bundle, "POST https://acme.localhost/api/refunds --role finance --tenant acme --auth-age 20m");
    assert_eq!(code, Some(1), "{text}");
    for (what, file, line) in [
        ("route          refunds", "gateway.yaml", "refunds:"),
        ("tenant         acme by host", "gateway.yaml", "acme:"),
        ("granted by role `finance`", "policies/roles.yaml", "finance:"),
        ("step-up        recent-mfa", "gateway.yaml", "recent-mfa:"),
        ("headers        api-json", "policies/headers.yaml", "api-json:"),
    ] {
        let place = place(&bundle, file, line);
        let found = text.lines().any(|l| l.contains(what) && l.ends_with(&place));
        assert!(found, "`{what}` with {place} in\n{text}");
    }
    assert!(text.ends_with("=> 401 session.step-up: step-up `recent-mfa`: the authentication is too old\n"), "{text}");
}

#[test]
fn it_says_which_method_is_missing() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    bundle.replace("recent-mfa: {max_age: 15m}", "recent-mfa: {max_age: 15m, amr: [pwd, otp]}");
    let line = "POST https://acme.localhost/api/refunds --role finance --tenant acme --auth-age 1m";
    for (methods, end) in [
        ("", "=> permit, to upstream `app`\n"),
        (" --amr pwd --amr otp", "=> permit, to upstream `app`\n"),
        (
            " --amr pwd --amr mfa",
            "=> 401 session.step-up: step-up `recent-mfa`: the authentication did not use `otp`\n",
        ),
    ] {
        let (_, text) = explain(&bundle, &format!("{line}{methods}"));
        assert!(text.ends_with(end), "{methods}: {text}");
    }
}

#[test]
fn it_tells_a_role_that_is_missing_from_a_scope() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    let line = "GET https://acme.localhost/api/bookings --tenant acme";
    for (who, code, end) in [
        ("--role viewer --scope bookings.read,bookings.write", 0, "=> permit, to upstream `app`\n"),
        (
            "--role viewer --scope bookings.write",
            1,
            "=> 403 access.denied: role `viewer` grants `bookings.read`, and no scope of the key names it\n",
        ),
        ("--scope bookings.read", 1, "=> 403 access.denied: no role of the caller grants `bookings.read`\n"),
    ] {
        let (came, text) = explain(&bundle, &format!("{line} {who}"));
        assert_eq!((came, text.ends_with(end)), (Some(code), true), "{who}\n{text}");
    }
}

#[test]
fn it_ends_with_the_decision_and_its_exit_code() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    for (line, code, end) in [
        ("GET https://acme.localhost/", 0, "=> permit, to upstream `app`\n"),
        ("GET https://acme.localhost/api/bookings --role viewer --tenant acme", 0, "=> permit, to upstream `app`\n"),
        ("GET https://acme.localhost/api/bookings", 1, "=> 401 session.missing: no credential\n"),
        (
            "GET https://globex.localhost/api/bookings --role viewer --tenant acme",
            1,
            "=> 403 tenant.mismatch: the session belongs to another tenant\n",
        ),
        ("GET https://initech.localhost/", 1, "=> 403 tenant.suspended: the tenant is suspended\n"),
        ("GET https://nobody.localhost/", 1, "=> 404 tenant.unknown: this tenant is not listed\n"),
        ("PATCH https://acme.localhost/api/refunds", 1, "=> 405 method.not-allowed: no route for this method\n"),
        (
            "POST https://acme.localhost/api/bookings --role cashier --tenant acme --by cookie --cross-site",
            1,
            "=> 403 csrf.unproven: the request comes from another site\n",
        ),
        (
            "POST https://acme.localhost/api/bookings --role cashier --tenant acme --content-type text/plain",
            1,
            "=> 415 body.unsupported: the content type is not on the route's list\n",
        ),
        (
            "GET https://umbrella.localhost/ --from 198.51.100.7",
            1,
            "=> 403 network.denied: the client address is not in the tenant's ip_allow\n",
        ),
    ] {
        let (came, text) = explain(&bundle, line);
        assert_eq!((came, text.ends_with(end)), (Some(code), true), "{line}\n{text}");
    }
}

#[test]
fn a_bundle_with_problems_is_not_explained() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    bundle.replace("upstream: app\n    public", "upstream: ap\n    public");
    let output = moat(bundle.root(), &["explain", "GET", "https://acme.localhost/"]);
    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains("did you mean `app`?"), "{}", output.stderr);
}

/// Paths that the gateway answers by itself have no route, and it says so.
#[test]
fn it_knows_the_gateways_own_resources() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    bundle.replace("sessions:\n", "sessions:\n  tokens: {exchange: [workforce], issue_at: [/oauth/token]}\n");
    for (line, code, says) in [
        ("POST https://acme.localhost/oauth/token", 0, "resource       /.moat/token of the gateway itself"),
        ("POST https://acme.localhost/oauth/token", 0, "tenant         acme by host"),
        ("POST https://acme.localhost/oauth/token", 0, "limit          moat-own"),
        ("POST https://acme.localhost/.moat/token", 0, "=> answered by the gateway, by what the request carries"),
        ("GET https://acme.localhost/oauth/token", 1, "=> 405 method.not-allowed"),
        ("POST https://initech.localhost/oauth/token", 1, "=> 403 tenant.suspended"),
        ("POST https://nobody.localhost/oauth/token", 1, "=> 404 tenant.unknown"),
        ("POST https://acme.localhost/.moat/sessions --cross-site", 1, "=> 403 csrf.unproven"),
        ("GET https://acme.localhost/.moat/nothing", 1, "=> 404 route.unknown"),
        ("GET https://acme.localhost/.moat/jwks.json", 0, "=> answered by the gateway"),
    ] {
        let (exit, text) = explain(&bundle, line);
        assert!(exit == Some(code) && text.contains(says), "{line}: `{says}` in\n{text}");
    }
    let place = place(&bundle, "gateway.yaml", "tokens:");
    let (_, text) = explain(&bundle, "POST https://acme.localhost/oauth/token");
    assert!(text.lines().any(|line| line.contains("resource") && line.ends_with(&place)), "{place} in\n{text}");
    // A policy test about one would test nothing.
    bundle.replace("  roles: policies/roles.yaml\n", "  roles: policies/roles.yaml\n  tests: policies/tests/*.yaml\n");
    bundle.write(
        "policies/tests/own.yaml",
        "version: 1\ncases:\n  - name: tokens\n    request: {method: POST, url: \"https://acme.localhost/oauth/token\"}\n    expect: {permit: true}\n",
    );
    let check = format!("{:?}", moat(bundle.root(), &["check"]));
    assert!(check.contains("is the gateway's own: no route decides about it"), "{check}");
}
