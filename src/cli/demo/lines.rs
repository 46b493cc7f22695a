//! The lines that the demo prints: each can be pasted into a shell, each says which status to expect.
use crate::cli::token::DEV_ISSUER;
use std::fmt::Write;

/// What the lines depend on.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// How to call this program.
    pub moat: String,
    /// Folder of the certificates.
    pub certs: String,
    /// Folder of the audit log.
    pub audit: String,
    /// Port of the TLS listener.
    pub public: u16,
    /// Port of the plaintext listener.
    pub plain: u16,
    /// Address of the admin listener.
    pub admin: String,
    /// The identity provider's URL.
    pub issuer: String,
}

/// All lines, ready to print.
pub(super) fn text(place: &Place) -> String {
    let mut out = String::new();
    let mut say = |line: &str| {
        let _ = writeln!(out, "{line}");
    };
    say("# Names and tokens; they are good for an hour.");
    for line in setup(place) {
        say(&line);
    }
    for (title, lines) in [
        ("Permitted", permitted(place)),
        ("Refused, each for its own reason", refused(place)),
        ("Rate limited: five a minute", limited()),
    ] {
        say("");
        say(&format!("# {title}"));
        for (what, command, status) in lines {
            say(&format!("# - {what}"));
            say(&format!("{command}  # {status}"));
        }
    }
    say("");
    say("# Every one of these requests has an entry; the chain shows whether any was changed, removed or cut off.");
    say(&format!("{} audit verify {}", place.moat, place.audit));
    say(&format!("{} audit show {}", place.moat, place.audit));
    say(&format!("curl -s http://{}/metrics", place.admin));
    out
}

fn setup(place: &Place) -> Vec<String> {
    let Place { moat, certs, public, issuer, .. } = place;
    // Only what differs from the defaults of `moat token`, so that the lines stay short.
    let mut options = String::new();
    if certs != "certs" {
        let _ = write!(options, " --key {certs}/dev/idp.key");
    }
    if issuer != DEV_ISSUER {
        let _ = write!(options, " --issuer-url {issuer}");
    }
    let token = |name: &str, tenant: &str, rest: &str| {
        format!("{name}=$({moat} token{options} --tenant {tenant} --lifetime 1h {rest})")
    };
    vec![
        format!("CA={certs}/dev/ca.crt"),
        format!("ACME=https://acme.localhost:{public}"),
        token("VIEWER", "acme", "--as viewer"),
        token("CASHIER", "acme", "--as cashier"),
        token("FINANCE", "acme", "--as finance"),
        token("TIRED", "acme", "--as finance --auth-age 1h"),
        format!("{}; sleep 2", token("GONE", "acme", "--as viewer").replace("--lifetime 1h", "--lifetime 1s")),
        token("INITECH", "initech", "--as viewer"),
        token("UMBRELLA", "umbrella", "--as viewer"),
    ]
}

type Line = (&'static str, String, u16);

/// `curl` with headers shown, as somebody.
fn curl(target: &str, who: &str, rest: &str) -> String {
    let bearer = if who.is_empty() { String::new() } else { format!(" -H \"authorization: Bearer ${who}\"") };
    let rest = if rest.is_empty() { String::new() } else { format!(" {rest}") };
    format!("curl -si --cacert $CA {target}{bearer}{rest}")
}

const JSON: &str = "-H 'content-type: application/json'";

fn permitted(place: &Place) -> Vec<Line> {
    let booking = format!("{JSON} -d '{{\"guest\": \"Ada\", \"nights\": 2}}'");
    vec![
        ("a public page", curl("$ACME/", "", ""), 200),
        ("a viewer reads", curl("$ACME/api/bookings", "VIEWER", ""), 200),
        ("a cashier writes", curl("$ACME/api/bookings", "CASHIER", &booking), 201),
        ("finance refunds, having signed in just now", curl("$ACME/api/refunds", "FINANCE", "-d ''"), 201),
        (
            "what the application hears of you; the forged header is not there",
            curl("$ACME/api/echo", "VIEWER", "-H 'x-user-id: root'"),
            200,
        ),
        (
            "a careless application: see that Server is gone and the cookies are hardened",
            curl("$ACME/leaky", "", ""),
            200,
        ),
        ("plaintext is sent to TLS", format!("curl -si http://acme.localhost:{}/", place.plain), 308),
    ]
}

fn refused(place: &Place) -> Vec<Line> {
    let public = place.public;
    let host = |tenant: &str, path: &str| format!("https://{tenant}.localhost:{public}{path}");
    let cookie = format!("-H \"cookie: __Host-nl=$CASHIER\" {JSON} -d '{{}}'");
    vec![
        ("session.missing: no session", curl("$ACME/api/bookings", "", ""), 401),
        ("session.invalid: not a token", curl("$ACME/api/bookings", "", "-H 'authorization: Bearer x.y.z'"), 401),
        ("session.expired: it was valid once", curl("$ACME/api/bookings", "GONE", ""), 401),
        (
            "session.step-up: signed in an hour ago, refunds want 15 minutes",
            curl("$ACME/api/refunds", "TIRED", "-d ''"),
            401,
        ),
        ("tenant.mismatch: the session belongs to acme", curl(&host("globex", "/api/bookings"), "VIEWER", ""), 403),
        ("tenant.suspended", curl(&host("initech", "/api/bookings"), "INITECH", ""), 403),
        ("tenant.unknown", curl(&host("nobody", "/api/bookings"), "VIEWER", ""), 404),
        (
            "network.denied: umbrella allows only its own addresses",
            curl(&host("umbrella", "/api/bookings"), "UMBRELLA", ""),
            403,
        ),
        ("access.denied: a cashier cannot refund", curl("$ACME/api/refunds", "CASHIER", "-d ''"), 403),
        ("csrf.unproven: a cookie without proof of our own site", curl("$ACME/api/bookings", "", &cookie), 403),
        ("request.ambiguous: an encoded slash", curl("$ACME/api%2fbookings", "VIEWER", ""), 400),
        ("request.ambiguous: a dot segment", curl("$ACME/x/../api/bookings", "VIEWER", "--path-as-is"), 400),
        ("route.unknown", curl("$ACME/nothing", "VIEWER", ""), 404),
        ("method.not-allowed", curl("$ACME/api/bookings", "CASHIER", "-X DELETE"), 405),
        ("body.unsupported: not JSON", curl("$ACME/api/bookings", "CASHIER", "-d 'guest=Ada'"), 415),
        (
            "request.too-large: 100 KB where 64 KiB are allowed",
            format!(
                "head -c 100000 /dev/zero | {}",
                curl("$ACME/api/bookings", "CASHIER", &format!("--http1.1 {JSON} --data-binary @-"))
            ),
            413,
        ),
        (
            "request.plaintext: a body would have leaked",
            format!("curl -si http://acme.localhost:{}/api/bookings -d ''", place.plain),
            403,
        ),
    ]
}

fn limited() -> Vec<Line> {
    let once =
        "curl -so /dev/null -w '%{http_code}\\n' --cacert $CA $ACME/api/reports -H \"authorization: Bearer $VIEWER\"";
    vec![("quota.exceeded: the sixth is one too many", format!("for i in 1 2 3 4 5 6; do {once}; done"), 429)]
}

/// A word that a shell reads as it stands.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_survive_a_shell() {
        for word in ["plain/path", "with space", "it's", "", "$HOME"] {
            let echo = format!("printf %s {}", super::quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
