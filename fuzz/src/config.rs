//! `moat::config`: a whole bundle from any bytes compiles alike each time, or every problem has its place.
use moat::config::last_good::Bundle;
use moat::config::problem::Problems;
use moat::config::settings::{Snapshot, Tls};
use moat::config::show::show;
use moat::config::{Complaint, Purpose, World};
use std::path::Path;

/// Begins a file: `=== policies/roles.yaml`.
const MARK: &str = "=== ";

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("/nonexistent/moat/gateway.yaml");
    let bundle = Bundle { config: path.to_owned(), files: files(text), ..Bundle::default() };
    let env = |_: &str| None;
    let certificates = |_: &Tls| -> Result<(), Vec<Complaint>> { Ok(()) };
    let world = World { env: &env, certificates: &certificates, purpose: Purpose::Check };
    let load = || Snapshot::load_kept(path, &bundle, &world);
    match load() {
        Ok(loaded) => {
            let again = load().expect("what compiles compiles again");
            assert_eq!(again.snapshot.digest, loaded.snapshot.digest);
            assert_eq!(show(&again, true), show(&loaded, true));
        }
        Err(problems) => have_places(&problems, &bundle),
    }
}

fn files(text: &str) -> Vec<(String, String)> {
    let mut files = vec![("gateway.yaml".to_owned(), String::new())];
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix(MARK) {
            files.push((name.trim().to_owned(), String::new()));
        } else if let Some((_, text)) = files.last_mut() {
            text.push_str(line);
        }
    }
    files
}

fn have_places(problems: &Problems, bundle: &Bundle) {
    assert!(!problems.0.is_empty());
    for problem in &problems.0 {
        let (_, text) = bundle.files.iter().find(|(name, _)| *name == problem.file).expect("a file of the bundle");
        assert!(problem.line as usize <= text.split(['\n', '\r']).count() + 1, "{problem:?}");
        assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{problem:?}");
        assert!(problem.line == 0 || problem.column > 0, "{problem:?}");
    }
    assert!(problems.text().contains("problem") && problems.json().starts_with('['));
}
