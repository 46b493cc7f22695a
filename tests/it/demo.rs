//! The demo as a newcomer meets it: started, its lines pasted into a shell, its page opened in a browser, ended.
use crate::harness::{PATIENCE, moat};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Demo {
    child: Child,
    said: Vec<String>,
    ready_after: Duration,
}

impl Demo {
    /// Starts it in a folder, on ports of the system's choice, and reads what it prints.
    fn start(folder: &Path) -> Demo {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_moat"))
            .arg("demo")
            .current_dir(folder)
            .envs(["MOAT_PUBLIC", "MOAT_PLAIN", "MOAT_ADMIN"].map(|name| (name, "127.0.0.1:0")))
            .env("MOAT_IDP", "localhost:0")
            .env_remove("MOAT_STATE_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let last = line.ends_with("/metrics") && line.starts_with("curl");
            said.push(line);
            if last {
                return Demo { child, said, ready_after: began.elapsed() };
            }
        }
        panic!("the demo ended: {:?}, {}", child.wait(), said.join("\n"));
    }

    /// Presses Ctrl-C; returns the exit code.
    fn interrupt(mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the demo does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The repository's own files, as a clone has them.
fn clone() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["policies/tests", "certs"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let mut names = vec!["gateway.yaml".to_owned()];
    for part in ["policies", "policies/tests"] {
        for entry in fs::read_dir(source.join(part)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                names.push(format!("{part}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    for name in names {
        fs::copy(source.join(&name), folder.path().join(&name)).unwrap();
    }
    folder
}

/// The last status in an output of curl.
fn status(output: &str) -> Option<u16> {
    let of = |line: &str| match line.strip_prefix("HTTP/") {
        Some(rest) => rest.split(' ').nth(1)?.trim().parse().ok(),
        None if line.len() == 3 => line.parse().ok(),
        None => None,
    };
    output.lines().filter_map(of).next_back()
}

#[test]
fn every_printed_line_does_what_its_comment_says_and_nothing_but_the_log_stays() {
    let folder = clone();
    let demo = Demo::start(folder.path());
    assert!(demo.ready_after < Duration::from_secs(5), "ready after {:?}", demo.ready_after);
    let (mut script, mut expected) = (String::new(), Vec::new());
    for line in demo.said.iter().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.rsplit_once("  # ").and_then(|(_, status)| status.parse::<u16>().ok()) {
            Some(status) => {
                expected.push((line.as_str(), status));
                script.push_str(&format!("echo; echo @@@@; {line}\n"));
            }
            None if line.contains(" audit ") || line.starts_with("curl -s http") => {}
            None => script.push_str(&format!("{line}\n")),
        }
    }
    assert!(expected.len() > 20, "{:#?}", demo.said);
    let run = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    let found: Vec<&str> = output.split("@@@@").skip(1).collect();
    assert_eq!(found.len(), expected.len(), "{output}\n{}", String::from_utf8_lossy(&run.stderr));
    let wrong: Vec<String> = expected
        .iter()
        .zip(&found)
        .filter(|((_, expected), output)| status(output) != Some(*expected))
        .map(|((line, _), output)| format!("{line}\n{output}"))
        .collect();
    assert!(wrong.is_empty(), "{}\nstderr: {}", wrong.join("\n"), String::from_utf8_lossy(&run.stderr));

    let metrics = demo.said.last().unwrap();
    let run = Command::new("sh").args(["-c", metrics]).output().unwrap();
    assert!(String::from_utf8_lossy(&run.stdout).contains("moat_build_info"), "{metrics}");
    let commands: Vec<String> = demo.said.iter().filter(|line| line.contains(" audit ")).cloned().collect();
    assert_eq!(demo.interrupt(), Some(0));
    for command in commands {
        let run = Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "{command}: {run:?}");
    }
    let mut left: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["certs", "gateway.yaml", "policies", "state"]);
}

#[test]
fn without_a_configuration_of_its_own_the_folder_keeps_nothing_but_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path());
    assert_eq!(demo.interrupt(), Some(0));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["state"]);
}

/// A newcomer edits what runs and sees it: files of their own, and those that come with the program.
#[test]
fn what_is_changed_in_its_files_is_in_force() {
    for folder in [clone(), tempfile::tempdir().unwrap()] {
        let demo = Demo::start(folder.path());
        let said = |before: &str| demo.said.iter().find_map(|line| line.strip_prefix(before)).unwrap();
        let config = folder.path().join(said("# configuration ").split(", ").next().unwrap());
        let admin = said("curl -s http://").strip_suffix("/metrics").unwrap();
        let reload = || moat(folder.path(), &["reload", "--admin", admin, "--timeout", "10"]);
        let curl = format!("curl -s -o page -w '%{{http_code}}' --cacert {} {}/leaky", said("CA="), said("ACME="));
        let page = || {
            let run = Command::new("sh").args(["-c", &curl]).current_dir(folder.path()).output().unwrap();
            String::from_utf8(run.stdout).unwrap()
        };
        let first = reload();
        assert_eq!((first.code, first.stdout.as_str()), (Some(0), "nothing has changed\n"), "{first:?}");
        assert_eq!(page(), "200");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replacen("\nversion: 1", "\nversio: 1", 1)).unwrap();
        let broken = reload();
        assert!(broken.code == Some(78) && broken.stdout.contains("did you mean `version`?"), "{broken:?}");
        assert_eq!(page(), "200");
        fs::write(&config, text.replacen("paths: [/, /login, /leaky]", "paths: [/, /login]", 1)).unwrap();
        // The watch may be faster than the command.
        let done = reload();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(page(), "404", "{done:?}");
        assert_eq!(demo.interrupt(), Some(0));
    }
}

#[test]
fn a_browser_runs_the_pages_own_script_and_blocks_the_injected_one() {
    let folder = clone();
    let demo = Demo::start(folder.path());
    let url = demo.said.iter().find_map(|line| line.strip_prefix("ACME=")).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let run = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
        .args(["--host-resolver-rules=MAP *.localhost 127.0.0.1", "--ignore-certificate-errors", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("{url}/"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&run.stdout);
    assert!(page.contains("<b id=\"ours\">ran</b>"), "{page}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(page.contains("<b id=\"injected\">blocked</b>"), "{page}");
    assert!(page.contains("<td id=\"tenant\">acme"), "{page}");
}
