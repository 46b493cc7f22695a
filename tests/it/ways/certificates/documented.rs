//! docs/client-certificates.md as it is written: its configuration, and its commands in their order.
use crate::harness::{Bundle, Gateway, Upstream};
use std::process::{Command, Output};

fn blocks<'d>(page: &'d str, kind: &str) -> Vec<&'d str> {
    page.split(&format!("```{kind}\n")).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_does_what_it_says() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client-certificates.md")).unwrap();
    let (yaml, commands) = (blocks(&page, "yaml"), blocks(&page, "sh"));
    let [make, issue, ask, revoke] = commands[..] else { panic!("{} blocks of commands", commands.len()) };
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_moat")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let run = |folder: &std::path::Path, script: &str| -> Output {
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(folder)
            .env("PATH", &path)
            .output()
            .unwrap()
    };
    let fine = |output: Output| assert!(output.status.success(), "{output:?}");
    fine(run(bundle.root(), make));
    bundle.replace("tenancy:\n", &format!("{}tenancy:\n", yaml[0]));
    let line = |start: &str| {
        let line = yaml[1].lines().find(|line| line.trim_start().starts_with(start)).unwrap();
        format!("{line}\n")
    };
    bundle.replace("    tls: modern\n", &format!("    tls: modern\n{}", line("client_certificates:")));
    bundle.route(yaml[1].split_once("routes:\n").unwrap().1.trim_end());
    let gateway = Gateway::start(bundle).await;
    fine(run(gateway.bundle.root(), issue));
    let port = gateway.address("public").port().to_string();
    // The system chooses the port, and no name service knows `acme.localhost` everywhere.
    let here = |script: &str| {
        let script = script.replace(":8443", &format!(":{port}"));
        script.replace("curl ", &format!("curl --resolve acme.localhost:{port}:127.0.0.1 "))
    };
    let asked = run(gateway.bundle.root(), &here(ask));
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(asked.status.success(), "{asked:?}");
    for expected in ["session.missing", "acme.partner.example of tenant acme", "=> permit, to upstream `app`"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(upstream.last().header("x-user-id").as_deref(), Some("acme.partner.example"));
    fine(run(gateway.bundle.root(), &format!("export NAMES=DNS:nobody.invalid\n{revoke}")));
    let first = here(ask.lines().next().unwrap());
    gateway
        .until("curl is refused", async |gateway: &Gateway| !run(gateway.bundle.root(), &first).status.success())
        .await;
}
