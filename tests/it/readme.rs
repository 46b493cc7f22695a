//! Every command of the README runs. A new one in the README that no case here knows is a failure.
use crate::harness::{Bundle, Gateway, moat};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Commands of the `sh` blocks, without comments.
fn blocks(readme: &str) -> Vec<&str> {
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap().trim()).filter(|l| !l.is_empty()).collect()
}

/// Commands of the table, which stand in backticks.
fn table(readme: &str) -> Vec<&str> {
    let rows = readme.lines().filter(|line| line.starts_with("| "));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_commands_of_the_blocks_run_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("my-gateway");
    for command in blocks(&readme()) {
        let ran = match command {
            // The demo has tests of its own (demo.rs); this very run is that of scripts/test.
            "cargo run --release -- demo" | "scripts/test" => continue,
            // Builds the binary that these tests run.
            "cargo install --locked --profile dist --path ." => continue,
            "cd my-gateway" => {
                assert!(project.is_dir());
                continue;
            }
            "moat init my-gateway" => moat(folder.path(), &["init", "my-gateway"]),
            "moat certs dev" => moat(&project, &["certs", "dev"]),
            "moat check" => moat(&project, &["check"]),
            "moat run" => {
                assert_eq!(run_until_ready(&project), Some(0), "moat run, ended by SIGTERM");
                continue;
            }
            other => panic!("`{other}` of the README has no case here"),
        };
        assert_eq!(ran.code, Some(0), "{command}: {ran:?}");
    }
}

/// `moat run`, ended by SIGTERM once it says that it is ready; its exit code.
fn run_until_ready(project: &Path) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_moat"))
        .arg("run")
        .current_dir(project)
        .envs(["MOAT_PUBLIC", "MOAT_PLAIN", "MOAT_ADMIN"].map(|name| (name, "127.0.0.1:0")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let ready = lines.any(|line| line.contains("\"ready\"") || line.contains(" ready"));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    lines.for_each(drop);
    let code = child.wait().unwrap().code();
    code.filter(|_| ready)
}

#[tokio::test]
async fn the_commands_of_the_table_answer() {
    let gateway = Gateway::start(Bundle::standard("127.0.0.1:9".parse().unwrap())).await;
    gateway.get("https://acme.localhost/api/bookings").send().await;
    for command in table(&readme()) {
        let code = match command {
            "kill -HUP" => {
                gateway.signal("HUP");
                gateway.wait_for_log("reloaded", |line| line.to_string().contains("reloaded"));
                continue;
            }
            "curl 127.0.0.1:9901/metrics" => {
                assert_eq!(gateway.admin("/metrics").await.status, 200);
                continue;
            }
            "curl '127.0.0.1:9901/readyz?verbose'" => {
                assert_eq!(gateway.admin("/readyz?verbose").await.status, 200);
                continue;
            }
            "curl 127.0.0.1:9901/status" => {
                assert_eq!(gateway.admin("/status").await.status, 200);
                continue;
            }
            "moat upgrade" => {
                assert_eq!(gateway.upgrade().code, Some(0));
                continue;
            }
            command if command.starts_with("moat explain ") => 1,
            command if command.starts_with("moat ") => 0,
            other => panic!("`{other}` of the README has no case here"),
        };
        let address = gateway.address("admin").to_string();
        let mut args: Vec<&str> = command.split(' ').skip(1).collect();
        match args.first() {
            Some(&"tail") => args.push("--no-follow"),
            Some(&"status" | &"reload") => args.extend(["--admin", &address]),
            _ => {}
        }
        let ran = moat(gateway.bundle.root(), &args);
        assert_eq!(ran.code, Some(code), "{command}: {ran:?}");
        assert!(!ran.stdout.is_empty(), "{command}: {ran:?}");
    }
}

#[tokio::test]
async fn the_answer_shown_is_the_answer_given() {
    let gateway = Gateway::start(Bundle::standard("127.0.0.1:9".parse().unwrap())).await;
    let reply = gateway.get("https://acme.localhost/api/bookings").h2().send().await;
    let text = readme();
    let shown = text.split_once("```console\n").unwrap().1.split_once("```").unwrap().0;
    let mut lines = shown.lines().skip(1);
    assert_eq!(lines.next(), Some(format!("HTTP/2 {}", reply.status).as_str()));
    for line in lines.by_ref().take_while(|line| *line != "…") {
        let (name, value) = line.split_once(": ").unwrap();
        let given = reply.header(name).unwrap_or_else(|| panic!("no `{name}` in {reply:?}"));
        assert!(given == value || name == "x-request-id", "{name}: {given}, not {value}");
    }
    let body: serde_json::Value = serde_json::from_str(&lines.next().unwrap().replace(", …}", "}")).unwrap();
    for (name, value) in body.as_object().unwrap().iter().filter(|(name, _)| *name != "instance") {
        assert_eq!(&reply.json()[name], value, "{name}");
    }
}
