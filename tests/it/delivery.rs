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

/// Where each command of docs/install.md is run: the script, and what stands there.
const TRIED: [(&str, &str, &str); 13] = [
    ("sha256sum --check SHA256SUMS", "scripts/package.d/common.sh", "sha256sum --quiet --check SHA256SUMS"),
    ("dpkg -i moat_", "scripts/package.d/try-deb", "inside dpkg -i /moat.deb"),
    ("moat check --config /etc/moat/gateway.yaml", "scripts/package.d/try-deb", "inside moat check --config"),
    ("systemctl enable --now moat.socket moat.service", "scripts/package.d/unit.sh", "systemd-analyze verify"),
    ("tar -xf moat-", "scripts/package.d/static.sh", "tar -C \"$empty\" -xf"),
    ("./moat demo", "scripts/package.d/static.sh", "/moat demo"),
    ("docker build -t moat .", "scripts/package.d/image.sh", "hadolint"),
    ("docker run -p 443:8443", "scripts/package.d/try-image", "inside /moat run"),
    ("kubectl create secret tls moat-tls", "contrib/kubernetes/moat.yaml", "kubectl create secret tls moat-tls"),
    ("helm install moat moat-", "scripts/package.d/chart.sh", "\"$helm\" template moat"),
    ("kubectl apply -f moat-kubernetes.yaml", "scripts/package.d/chart.sh", "lint-manifests $plain"),
    ("moat completions bash", "scripts/package.d/man.sh", "completions bash"),
    ("moat completions ", "scripts/package.d/man.sh", "completions fish"),
];

#[test]
fn every_command_of_the_install_page_is_run_by_a_script() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let page = read("docs/install.md");
    let blocks = page.split("```sh\n").skip(1).flat_map(|rest| rest.split("```").next().unwrap().lines());
    let commands: Vec<&str> = blocks.collect();
    for command in &commands {
        let known = TRIED.iter().find(|(start, _, _)| command.starts_with(start));
        let (_, script, there) = known.unwrap_or_else(|| panic!("`{command}` is run by nothing"));
        assert!(read(script).contains(there), "{script} does not run `{there}`");
    }
    for (start, _, _) in TRIED {
        assert!(commands.iter().any(|command| command.starts_with(start)), "`{start}` is not in the page");
    }
    // The figures of the page are those that the script holds the units to.
    let unit = read("scripts/package.d/unit.sh");
    for (figure, held) in [("1.4 of 10", "moat.service\" 1.4"), ("and 1.1 with", "moat.service\" 1.1")] {
        assert!(page.contains(figure) && unit.contains(held), "{figure}");
    }
    // Nothing that is delivered may be of another version.
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("contrib/helm/moat/Chart.yaml", format!("appVersion: {version}")),
        ("Dockerfile", format!("image.version=\"{version}\"")),
        ("docs/install.md", format!("moat-{version}.tgz")),
    ] {
        assert!(read(file).contains(&line), "{file}: {line}");
    }
}
