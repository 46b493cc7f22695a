//! Spellings of a path: whatever an application may read as a page behind a rule was judged by that rule.
use super::backend::Recorder;
use super::case::{Results, raw};
use super::normalisers::{any_below, readings};
use super::readers::STRICT;
use super::stage::{Doors, answers, bundle, each, entries_by_id};
use crate::harness::Gateway;
use std::collections::HashSet;

/// Between two segments.
const SEPARATORS: [&str; 52] = [
    "/",
    "//",
    "///",
    "/./",
    "/.//",
    "/%2e/",
    "/%2E/",
    "%2f",
    "%2F",
    "/%2f",
    "%2f/",
    "%252f",
    "%252F",
    "%25252f",
    "%25%32%66",
    "%2%66",
    "\\",
    "\\\\",
    "/\\",
    "\\/",
    "%5c",
    "%5C",
    "/%5c",
    "%255c",
    "%c0%af",
    "%C0%AF",
    "%e0%80%af",
    "%f0%80%80%af",
    "%c1%9c",
    "\u{ff0f}",
    "%ef%bc%8f",
    "%e2%88%95",
    "%e2%81%84",
    "%ef%bc%bc",
    "%u002f",
    "%u2215",
    "%uff0f",
    "%U002F",
    "/;/",
    "/;a=b/",
    ";/",
    "/%3b/",
    "/%20/",
    "/%09/",
    "/\t/",
    "/%00/",
    "%00/",
    "/.;/",
    "/%2e;/",
    "/%0a/",
    "/%0d/",
    "/%0d%0a/",
];

/// Upwards.
const UPS: [&str; 50] = [
    "..",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "%25252e%25252e",
    "%25%32%65%25%32%65",
    "..;",
    "..;a=b",
    ";..",
    "..%3b",
    "..%3B",
    "%2e%2e;",
    "%2e%2e%3b",
    "..%00",
    "%00..",
    "..%20",
    "%20..",
    ".. ",
    "..%09",
    "..\\",
    "..%5c",
    "..%255c",
    "..%2f",
    "..%252f",
    "..%c0%af",
    "..%ef%bc%8f",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%f0%80%80%ae%f0%80%80%ae",
    "\u{ff0e}\u{ff0e}",
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a4%e2%80%a4",
    "%e2%80%a5",
    "%ef%b9%92%ef%b9%92",
    "%u002e%u002e",
    "%uff0e%uff0e",
    "..%0a",
    "..%0d",
    "..%0d%0a",
    "...",
    "....",
    "....//",
    ".%00.",
    "..%23",
    "..%3f",
    "..%25",
    "%%32%65%%32%65",
    "%2%65%2%65",
];

/// The page.
const WORDS: [&str; 76] = [
    "admin",
    "Admin",
    "ADMIN",
    "aDmIn",
    "admiN",
    "%61dmin",
    "%41dmin",
    "a%64min",
    "a%44min",
    "admi%6e",
    "admi%6E",
    "%61%64%6d%69%6e",
    "%41%44%4D%49%4E",
    "%2561dmin",
    "%252561dmin",
    "%25%36%31dmin",
    "%%361dmin",
    "%u0061dmin",
    "%u0041dmin",
    "%c1%a1dmin",
    "%e0%81%a1dmin",
    "\u{ff41}dmin",
    "%ef%bd%81dmin",
    "%ef%bc%a1dmin",
    "\u{ff41}\u{ff44}\u{ff4d}\u{ff49}\u{ff4e}",
    "adm%c4%b1n",
    "adm%c4%b0n",
    "admin.",
    "admin..",
    "admin...",
    "admin%2e",
    "admin%2e%2e",
    "admin%20",
    "admin%20%20",
    "admin ",
    "admin.%20",
    "admin%20.",
    "admin%09",
    "admin\t",
    "admin%0a",
    "admin%0d",
    "admin%0d%0a",
    "admin%00",
    "admin%00.html",
    "admin%2500",
    "admin\0",
    "admin%0b",
    "admin%0c",
    "admin%1a",
    "admin%7f",
    "admin%a0",
    "admin%c2%a0",
    "admin%e2%80%8b",
    "admin%ef%bb%bf",
    "%ef%bb%bfadmin",
    "admin%c2%ad",
    "admin;",
    "admin;a=b",
    "admin;/",
    "admin%3b",
    "admin%3ba=b",
    ";admin",
    "admin\\",
    "admin%5c",
    "admin%2f",
    "admin%252f",
    "admin%23",
    "admin#",
    "admin%3f",
    "admin?",
    "admin%25",
    "admin%2",
    "admin%",
    "%20admin",
    "%00admin",
    "+admin",
];

/// All spellings; each may be the page for somebody.
fn spellings() -> Vec<String> {
    let mut all = Vec::new();
    for word in WORDS {
        all.extend([
            format!("/{word}"),
            format!("/{word}/"),
            format!("/{word}/users"),
            format!("/./{word}/users"),
            format!("//{word}/users"),
        ]);
        all.push(format!("http://acme.localhost/{word}/users"));
        all.push(format!("/public/../{word}"));
    }
    for separator in SEPARATORS {
        all.extend([
            format!("{separator}admin"),
            format!("{separator}admin/users"),
            format!("/admin{separator}users"),
            format!("/admin{separator}"),
        ]);
        all.extend([
            format!("/{separator}admin/users"),
            format!("/public{separator}admin"),
            format!("/public{separator}..{separator}admin{separator}users"),
        ]);
        all.push(format!("http://acme.localhost{separator}admin/users"));
        all.push(format!("https://acme.localhost/public{separator}..{separator}admin"));
    }
    for up in UPS {
        for separator in ["/", "//", "\\", "%2f", "%5c", "%252f", ";/", "/./", "%c0%af", "%00/"] {
            all.push(format!("/public/{up}{separator}admin"));
            all.push(format!("/public{separator}{up}{separator}admin/users"));
        }
        all.push(format!("/{up}/admin"));
        all.push(format!("/public/a/{up}/{up}/admin/users"));
        all.push(format!("/admin/x/{up}/users"));
        all.push(format!("http://acme.localhost/public/{up}/admin"));
    }
    for odd in [
        "/public?/../admin",
        "/public#/../admin",
        "/public%3f/../admin",
        "/public%23/../admin",
        "?/admin",
        "admin",
        "admin/users",
        "./admin",
        "../admin",
        "\\admin",
        "\\\\admin",
        ";/admin",
        "/;admin",
        "*admin",
        "/*/../admin",
        "//acme.localhost/admin",
        "///acme.localhost/admin",
        "http:/admin",
        "http:///admin",
        "http:admin",
        "http://acme.localhost",
        "http://acme.localhost\\admin",
        "http://acme.localhost;/admin",
        "http://acme.localhost?/admin",
        "http://acme.localhost@x/admin",
        "/http://acme.localhost/admin",
        "/admin/http://x",
        "/admin/..",
        "/admin/../admin",
        "/admin/.",
        "/admin/./",
        "/.admin/../admin",
        "/x/.../admin",
        "/~/admin",
        "/%7e/../admin",
        "/a/b/c/../../../admin",
        "/a/../b/../admin",
        "/cgi-bin/../admin",
        "/public/%ff/../admin",
        "/public/%80../admin",
        "/\u{a0}admin",
        "/\u{85}admin",
        "/\u{feff}admin",
    ] {
        all.push(odd.to_owned());
    }
    let mut seen = HashSet::new();
    all.retain(|spelling| seen.insert(spelling.clone()));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_gets_past_its_rule() {
    let all = spellings();
    assert!(all.len() >= 1450, "{} spellings", all.len());
    let backend = Recorder::start().await;
    let mut gateway = Gateway::start(bundle(backend.address, backend.address)).await;
    let doors = Doors::of(&gateway);
    // Signed in, and without the permission that `/admin` takes.
    let token = gateway.token("acme", &["viewer"]);
    let played = each(all.clone(), move |_, spelling| {
        let (doors, token) = (doors.clone(), token.clone());
        async move {
            let mut bytes = b"GET ".to_vec();
            bytes.extend(raw(&spelling));
            bytes.extend(
                format!(" HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\nX-Spelt: ").bytes(),
            );
            bytes.extend(spelling.escape_unicode().to_string().bytes().take(4000));
            bytes.extend(b"\r\nConnection: close\r\n\r\n");
            doors.send(false, &[&bytes]).await
        }
    })
    .await;
    assert_eq!(gateway.stop(), Some(0));
    let mut entries = entries_by_id(&gateway);
    let mut results = Results::default();
    for (spelling, came) in all.iter().zip(played) {
        let mut wrong = Vec::new();
        let got = came.as_ref().map_err(|_| "the connection stays open".to_owned()).and_then(|bytes| answers(bytes));
        let (mut served, mut refused) = (false, false);
        match got.as_deref() {
            Ok([answer]) => {
                served = answer.field("x-seen").is_some();
                refused = answer.code().is_some_and(|code| decide::refusal::Code::parse(&code).is_some());
                if served == refused {
                    wrong.push(format!("{answer:?}"));
                }
                let id = answer.field("x-request-id").unwrap_or_default();
                if entries.remove(id).map(|entries| entries.len()) != Some(1) {
                    wrong.push(format!("not one entry for {answer:?}"));
                }
            }
            other => wrong.push(format!("{other:?}")),
        }
        let class = match spelling {
            s if s.starts_with("http") => "absolute-form",
            s if s.contains("%25") => "encoded twice",
            s if s.contains('%') => "encoded",
            s if s.contains("..") => "dot segments",
            _ => "raw",
        };
        results.add(class, served, refused, wrong.into_iter().map(|why| format!("{spelling:?}: {why}")).collect());
    }
    // No rule lets this caller below `/admin`: whatever some application reads so is past a rule.
    let mut past = 0;
    for transcript in backend.transcripts() {
        let (reads, left) = STRICT.all(&transcript);
        results.failures.extend(left);
        for read in reads.iter().filter(|read| any_below(&read.target, "/admin")) {
            past += 1;
            results.failures.push(format!("past the rule: {} reads as {:?}", read.target, readings(&read.target)));
        }
    }
    println!("{} spellings, {past} past the rule", all.len());
    results.judge("spellings");
}
