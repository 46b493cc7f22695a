//! What packages and supervisors rely on: health by command, manual pages, completions, a start without authorities.
use crate::harness::{Bundle, Gateway, moat};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

#[tokio::test]
async fn health_is_the_answer_of_the_admin_listener_as_an_exit_code() {
    let gateway = Gateway::start(Bundle::standard("127.0.0.1:9".parse().unwrap())).await;
    let admin = gateway.address("admin").to_string();
    let folder = tempfile::tempdir().unwrap();
    for args in [&["health", "--admin", &admin][..], &["health", "--ready", "--admin", &admin]] {
        let asked = moat(folder.path(), args);
        assert_eq!((asked.code, asked.stdout.as_str()), (Some(0), "ok\n"), "{asked:?}");
    }
    let nowhere = moat(folder.path(), &["health", "--admin", &admin, "--path", "/nowhere"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    assert!(nowhere.stderr.contains("answered 404"), "{nowhere:?}");
    let odd = moat(folder.path(), &["health", "--admin", &admin, "--path", "/x y"]);
    assert_eq!(odd.code, Some(2), "{odd:?}");
}

#[test]
fn health_neither_waits_for_ever_nor_believes_a_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let asked = moat(folder.path(), &["health", "--admin", &address, "--timeout", "1"]);
    assert_eq!(asked.code, Some(1), "{asked:?}");
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let speaks = std::thread::spawn(move || {
        let (mut connection, _) = stranger.accept().unwrap();
        connection.write_all(b"SSH-2.0-other\r\n").unwrap();
    });
    let asked = moat(folder.path(), &["health", "--admin", &address]);
    speaks.join().unwrap();
    assert_eq!(asked.code, Some(1), "{asked:?}");
    drop(silent);
    let gone = moat(folder.path(), &["health", "--admin", &address]);
    assert!(gone.code == Some(1) && gone.stderr.contains(&address), "{gone:?}");
}

#[test]
fn every_command_has_a_manual_page_and_every_shell_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    let made = moat(folder.path(), &["man", "pages"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let page = |name: &str| fs::read_to_string(folder.path().join("pages").join(name)).unwrap();
    let listed = page("moat.1");
    for file in fs::read_dir(folder.path().join("pages")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = file.into_string().unwrap();
        let text = page(&name);
        assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{name}");
        // The pages that a page names exist.
        for named in text.split("moat\\-").skip(1).filter_map(|rest| rest.split_once("(1)")).map(|(name, _)| name) {
            let named = named.replace("\\-", "-").replace("\\fR", "");
            if named.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
                assert!(folder.path().join(format!("pages/moat-{named}.1")).exists(), "{name} names moat-{named}(1)");
            }
        }
    }
    assert!(listed.contains("moat\\-health(1)"), "{listed}");
    assert!(page("moat-gateway.yaml.5").contains("routes.*.require"), "the keys of gateway.yaml");
    for shell in ["bash", "zsh", "fish"] {
        let script = moat(folder.path(), &["completions", shell]);
        assert!(script.code == Some(0) && script.stdout.contains("explain"), "{shell}: {script:?}");
    }
}

#[test]
fn authorities_that_cannot_be_read_do_not_keep_the_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(moat(folder.path(), &["init", "gate"]).code, Some(0));
    let gate = folder.path().join("gate");
    assert_eq!(moat(&gate, &["certs", "dev"]).code, Some(0));
    fs::write(gate.join("broken.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for authorities in ["broken.pem", "no-such-file.pem"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_moat"))
            .arg("run")
            .current_dir(&gate)
            .envs(["MOAT_PUBLIC", "MOAT_PLAIN", "MOAT_ADMIN"].map(|name| (name, "127.0.0.1:0")))
            .env("SSL_CERT_FILE", gate.join(authorities))
            .env_remove("SSL_CERT_DIR")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let warned = lines.any(|line| line.contains("certificate authorities cannot be read"));
        let ready = lines.any(|line| line.contains("\"ready\""));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(warned && ready, "{authorities}: warned {warned}, ready {ready}");
    }
}
