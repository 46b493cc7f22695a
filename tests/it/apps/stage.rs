//! Installs an application, starts it, and has it visited: by a driver that writes down all that it sees.
use crate::harness::{Bundle, Gateway};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Longest start of an application, and longest visit.
const PATIENCE: Duration = Duration::from_secs(400);

/// Held by each of these tests: two browsers and four servers at once would only measure the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// An application's files, its packages, and a folder for this test.
pub struct Stage {
    name: &'static str,
    work: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for its turn, and installs what is missing.
    pub fn of(name: &'static str) -> Stage {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for part in ["driver", name] {
            install(part);
        }
        Stage { name, work: tempfile::tempdir().unwrap(), _turn: turn }
    }

    /// The application's own files.
    pub fn source(&self) -> PathBuf {
        source(self.name)
    }

    /// A program of its packages.
    pub fn program(&self, name: &str) -> PathBuf {
        installed(self.name).join("bin").join(name)
    }

    /// The Python that has the packages of the driver, gRPC's among them.
    pub fn driver_python(&self) -> PathBuf {
        installed("driver").join("bin/python")
    }

    /// Where its packages are.
    pub fn packages(&self) -> PathBuf {
        installed(self.name)
    }

    /// A folder of this test.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.work.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A folder of this test that other users may enter.
    pub fn shared_folder(&self, name: &str) -> PathBuf {
        let open = fs::Permissions::from_mode(0o711);
        fs::set_permissions(self.work.path(), open).unwrap();
        self.folder(name)
    }

    /// The gateway with the application's own `gateway.yaml`, in front of this port.
    pub fn gateway(&self, port: u16) -> Gateway {
        Gateway::start_blocking(self.bundle(port))
    }

    /// What the gateway starts with.
    pub fn bundle(&self, port: u16) -> Bundle {
        let mut bundle = Bundle::empty();
        for file in ["gateway.yaml", "policies/headers.yaml", "policies/rate-limits.yaml"] {
            bundle.write(file, &fs::read_to_string(self.source().join(file)).unwrap());
        }
        let address = |name: &str, port: u16| (name.to_owned(), format!("127.0.0.1:{port}"));
        let any = ["MOAT_PUBLIC", "MOAT_PLAIN", "MOAT_ADMIN"].map(|name| address(name, 0));
        bundle.environment.extend(any);
        bundle.environment.push(address("MOAT_APP", port));
        bundle
    }

    /// Has the application visited, directly.
    pub fn visit(&self, port: u16) -> Value {
        self.drive("directly", &format!("http://acme.localhost:{port}"), None)
    }

    /// Has it visited through the gateway.
    pub fn visit_through(&self, gateway: &Gateway) -> Value {
        let base = format!("https://acme.localhost:{}", gateway.address("public").port());
        self.drive("through", &base, Some(&gateway.bundle.path("certs/dev/ca.crt")))
    }

    /// Has the driver do its work at the gateway, with these variables in its environment.
    pub fn drive_at(&self, gateway: &Gateway, environment: &[(&str, &str)]) -> Value {
        let base = format!("https://acme.localhost:{}", gateway.address("public").port());
        self.drive_with("through", &base, Some(&gateway.bundle.path("certs/dev/ca.crt")), environment)
    }

    fn drive(&self, name: &str, base: &str, ca: Option<&Path>) -> Value {
        self.drive_with(name, base, ca, &[])
    }

    fn drive_with(&self, name: &str, base: &str, ca: Option<&Path>, environment: &[(&str, &str)]) -> Value {
        let work = self.folder(&format!("visit/{name}"));
        let record = work.join("record.json");
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(installed("driver").join("bin/python"));
        command.arg(self.source().join("driver.py")).args(["--base", base]).arg("--out").arg(&record);
        command.arg("--work").arg(&work).env("PYTHONDONTWRITEBYTECODE", "1").envs(environment.iter().copied());
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Kept for whoever wants to look: the last record, and the page where it ended.
        let kept = installed("visits").join(self.name);
        fs::create_dir_all(&kept).unwrap();
        let _ = fs::copy(&record, kept.join(format!("{name}.json")));
        if !output.status.success() {
            let _ = fs::copy(work.join("failed.png"), kept.join(format!("{name}.png")));
            panic!("the visit {name} failed ({}, picture in {}):\n{said}", output.status, kept.display());
        }
        eprintln!("{} {name}: {said}", self.name);
        serde_json::from_slice(&fs::read(record).unwrap()).unwrap()
    }
}

pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(name)
}

pub fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("apps").join(name)
}

/// Installs the pinned packages of a folder, unless exactly these are there.
pub fn install(name: &str) {
    let (from, to) = (source(name), installed(name));
    for (list, how) in [("requirements.txt", pip as fn(&Path, &Path)), ("package-lock.json", npm)] {
        let Ok(wanted) = fs::read_to_string(from.join(list)) else { continue };
        let stamp = to.join("installed");
        if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
            continue;
        }
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).unwrap();
        how(&from, &to);
        fs::write(stamp, wanted).unwrap();
    }
}

/// A command that asks a registry, whose connections may break.
fn fetching(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/again"));
    command.arg(program);
    command
}

fn pip(from: &Path, to: &Path) {
    run(Command::new("python3").args(["-m", "venv"]).arg(to));
    let pip = to.join("bin/pip");
    let options = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"];
    run(fetching(pip).args(options).arg(from.join("requirements.txt")));
}

fn npm(from: &Path, to: &Path) {
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    run(fetching("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(to));
}

/// Runs a command to its end, and returns what it said on stdout.
pub fn run_to_end(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command to its end; what it said is shown where it fails.
pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said));
}

/// A running application: a process group of its own, ended with the test.
pub struct App {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    /// Where it listens on loopback.
    pub port: u16,
}

impl App {
    /// Starts a program and waits for the line that holds `mark`; the port follows it, or is `port`.
    pub fn start(command: &mut Command, mark: &str, port: Option<u16>) -> App {
        // One pipe for both, as a terminal would show them.
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer).process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        // The command holds the writing end, and the end of the log is when nobody does.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (found, ready) = mpsc::channel();
        let (lines, mark) = (said.clone(), mark.to_owned());
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Some((_, after)) = line.split_once(&mark) {
                    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                    let _ = found.send(digits.parse().ok());
                }
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let mut app = App { child, said, port: 0 };
        let Ok(announced) = ready.recv_timeout(PATIENCE) else { panic!("{command:?} did not start") };
        app.port = port.or(announced).expect("the line holds a port");
        app
    }
}

impl App {
    /// What follows this on a line that was printed before it listened.
    pub fn said(&self, mark: &str) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let found = said.iter().find_map(|line| line.strip_prefix(mark));
        found.unwrap_or_else(|| panic!("`{mark}` is not among {said:#?}")).to_owned()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // The group: servers have workers.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("--- the application\n{}", said.join("\n"));
        }
    }
}
