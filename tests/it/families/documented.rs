//! The commands of docs/refresh-tokens.md, run as they stand there.
use super::*;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_do_what_it_says() {
    let page = include_str!("../../../docs/refresh-tokens.md");
    let commands: Vec<&str> =
        page.split("<!-- runs -->\n```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(commands.len(), 3);
    let (gateway, _upstream) = start("").await;
    let port = gateway.address("public").port().to_string();
    let (mut token, mut answers) = (String::new(), Vec::new());
    for command in commands {
        let mut shell = Command::new("bash");
        shell.args(["-euc", &command.replace("8443", &port)]).current_dir(gateway.bundle.root());
        shell.env("TOKEN", Token::of("acme", &["viewer"]).signed(&gateway.bundle.key)).env("REFRESH", &token);
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        if let Some(next) = answer["refresh_token"].as_str() {
            token = next.to_owned();
            assert_eq!(held(&gateway, answer["access_token"].as_str().unwrap()).await, "200", "{answer}");
        }
        answers.push(answer);
    }
    for answer in &answers[..2] {
        let access = answer["access_token"].as_str().unwrap();
        assert_eq!(held(&gateway, access).await, "401 session.revoked", "with the family ends what it gave");
    }
    assert_eq!(said(&refresh(&gateway, &token).await), "400 invalid_grant session.revoked");
}

/// The configuration of both pages is one that the gateway takes.
#[test]
fn what_the_pages_configure_is_known() {
    for (page, keys) in [
        (
            include_str!("../../../docs/refresh-tokens.md"),
            &["exchange", "issue_at", "access_ttl", "reuse_leeway", "on_reuse"][..],
        ),
        (include_str!("../../../docs/dpop.md"), &["max_age", "clock_skew", "algorithms", "dpop"][..]),
    ] {
        let reference = include_str!("../../../docs/reference/gateway.md");
        for key in keys {
            assert!(page.contains(&format!("{key}:")) && reference.contains(&format!(".{key}`")), "{key}");
        }
    }
}
