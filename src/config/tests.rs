//! Bundles on disk: the repository's own example, and tables of what is wrong with others.
use crate::config::problem::Problems;
use crate::config::settings::Snapshot;
use crate::config::{Loaded, Purpose, World};
use std::fs;
use std::path::Path;

pub(crate) fn load(dir: &Path) -> Result<Loaded, Problems> {
    load_with(dir, &|_| None)
}

fn load_with(dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let world = World { env, certificates: &|_| Ok(()), purpose: Purpose::Check };
    Snapshot::load(&dir.join("gateway.yaml"), &world)
}

pub(crate) fn bundle(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// The repository's own bundle, with the certificates that `moat certs dev` would make left empty.
pub(crate) fn example() -> tempfile::TempDir {
    let dir = bundle(&[("certs/dev/ca.crt", "")]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("policies"), &dir.path().join("policies"));
    fs::copy(root.join("gateway.yaml"), dir.path().join("gateway.yaml")).unwrap();
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_example_of_the_repository_holds() {
    let dir = example();
    let loaded = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
    let snapshot = &loaded.snapshot;
    assert_eq!((snapshot.rules.routes.len(), snapshot.rules.tenants.len(), loaded.tests), (9, 4, 12));
    assert_eq!(snapshot.digest.len(), 64);
}
