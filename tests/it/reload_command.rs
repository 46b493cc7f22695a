//! `moat reload`: what it says of each kind of change, its exit codes, and who may give the order.
use crate::harness::{Gateway, Output, PATIENCE, moat, read_until, standard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn reload(gateway: &Gateway, args: &[&str]) -> Output {
    let admin = gateway.address("admin").to_string();
    moat(gateway.bundle.root(), &[&["reload", "--admin", &admin], args].concat())
}

/// The route is written so that the watch sees nothing that is worth its while: a dry run must be asked for first.
fn told(output: &Output, code: i32, expected: &str) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(code), expected), "{}", output.stderr);
}

#[tokio::test]
async fn each_kind_of_change_is_told_and_a_dry_run_changes_nothing() {
    let (gateway, _upstream) = standard().await;
    told(&reload(&gateway, &["--dry-run"]), 0, "nothing has changed\n");
    told(&reload(&gateway, &[]), 0, "nothing has changed\n");

    // Files that the watch has not seen yet, or will refuse in the same words.
    let good = gateway.bundle.read("gateway.yaml");
    let place = good.lines().position(|line| line.starts_with("server:")).unwrap() + 1;
    gateway.bundle.write("gateway.yaml", &good.replace("instance: test-1", "instance: test-2"));
    let dry = reload(&gateway, &["--dry-run"]);
    let restart = format!(
        "nothing was changed: a restart is needed\n  changed: server.instance\n  needs a restart:\n    `server.instance` (gateway.yaml:{place})\n"
    );
    told(&dry, 3, &restart);
    told(&reload(&gateway, &[]), 3, &restart);

    gateway.bundle.write("gateway.yaml", &good.replace("headers: app-strict", "headers: app-strikt"));
    for args in [&["--dry-run"][..], &[]] {
        let broken = reload(&gateway, args);
        assert_eq!(broken.code, Some(78), "{broken:?}");
        for words in ["the files have problems", "app-strikt", "--> gateway.yaml:", "hint: did you mean `app-strict`?"]
        {
            assert!(broken.stdout.contains(words), "`{words}` in {}", broken.stdout);
        }
    }
    let json = reload(&gateway, &["--dry-run", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &report["verdict"], &report["problems"]), (Some(78), &"problems".into(), &1.into()));
    assert_eq!(report["list"][0]["file"], "gateway.yaml", "{report:#}");

    let more = format!(
        "{}  extra:\n    match: {{hosts: [\"*.localhost\"], paths: [/extra], methods: [GET]}}\n    upstream: app\n    public: \"a test\"\n",
        good.replace("globex: {class: standard}", "globex: {class: standard, status: suspended}")
    );
    let report =
        "  routes added: extra\n  changed: tenants.globex\n  loosens:\n    route `extra` is new and public: a test\n";
    // The watch may be faster than either command: then both find what is in force.
    gateway.bundle.write("gateway.yaml", &more);
    let done = reload(&gateway, &[]);
    let words = done.stdout.strip_prefix("reloaded\n").unwrap_or(&done.stdout);
    assert!(words == report || words == "nothing has changed\n", "{done:?}");
    assert_eq!(gateway.get("https://globex.localhost/page").send().await.verdict(), "403 tenant.suspended");
    gateway.audit_entry(|entry| entry["event"] == "admin" && entry["detail"]["call"] == "reload").await;

    let absent = moat(gateway.bundle.root(), &["reload", "--admin", "127.0.0.1:1", "--timeout", "5"]);
    assert_eq!(absent.code, Some(4), "{absent:?}");
    assert!(absent.stderr.contains("no gateway answers at 127.0.0.1:1"), "{}", absent.stderr);
}

#[tokio::test]
async fn a_dry_run_names_what_would_change_and_leaves_everything_as_it_is() {
    let (gateway, _upstream) = standard().await;
    // A broken file keeps the watch from putting the change in force; the place of the mistake is put right at once.
    gateway.bundle.replace("    public: \"the pages that anybody may see\"", "    public: \"everybody\"");
    let dry = reload(&gateway, &["--dry-run"]);
    let expected = "a reload would change this:\n  routes changed: home\n";
    assert!([expected, "nothing has changed\n"].contains(&dry.stdout.as_str()), "{dry:?}");
    assert_eq!(dry.code, Some(0));
}

#[tokio::test]
async fn no_web_page_can_give_the_order() {
    let (gateway, _upstream) = standard().await;
    let admin = gateway.address("admin");
    let ask = async |head: &str| {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let status = read_until(&mut stream, "\r\n").await;
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it stays open");
        status.trim_start_matches("HTTP/1.1 ")[..3].to_owned()
    };
    let host = format!("host: {admin}\r\n");
    for (what, head, status) in [
        ("as the command does", format!("POST /reload HTTP/1.1\r\n{host}x-moat-admin: 1\r\n"), "200"),
        ("a form of another page", format!("POST /reload HTTP/1.1\r\n{host}origin: https://evil.example\r\n"), "403"),
        ("without the header", format!("POST /reload HTTP/1.1\r\n{host}"), "403"),
        ("a page's own header", format!("POST /reload HTTP/1.1\r\n{host}x-moat-admin: 1\r\norigin: null\r\n"), "403"),
        (
            "a browser",
            format!("POST /reload HTTP/1.1\r\n{host}x-moat-admin: 1\r\nsec-fetch-site: same-origin\r\n"),
            "403",
        ),
        ("a rebound name", "POST /reload HTTP/1.1\r\nhost: evil.example\r\nx-moat-admin: 1\r\n".to_owned(), "421"),
        ("an image", format!("GET /reload HTTP/1.1\r\n{host}x-moat-admin: 1\r\n"), "405"),
        ("a preflight", format!("OPTIONS /reload HTTP/1.1\r\n{host}origin: https://evil.example\r\n"), "405"),
        ("a misspelt order", format!("POST /reload?dryrun HTTP/1.1\r\n{host}x-moat-admin: 1\r\n"), "400"),
    ] {
        assert_eq!(ask(&head).await, status, "{what}");
    }
    gateway.bundle.replace("admin: {address: 127.0.0.1:0}", "admin: {address: 127.0.0.1:0, metrics: {path: /m}}");
    assert_eq!(reload(&gateway, &[]).code, Some(0));
    assert_eq!((gateway.admin("/m").await.status, gateway.admin("/metrics").await.status), (200, 404));
}
