//! Files → `Snapshot`, or all problems.
use crate::config::cases;
use crate::config::compile;
use crate::config::files::{Files, folder_of};
use crate::config::last_good::Bundle;
use crate::config::options::{Gateway, TestsFile};
use crate::config::problem::{At, Problems, Report, Source};
use crate::config::read;
use crate::config::settings::{Snapshot, Tls};
use crate::config::yaml::Node;
use std::collections::BTreeMap;
use std::path::Path;

/// What loading needs of the world around the files.
pub struct World<'a> {
    /// Reads an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Tries the certificates out.
    pub certificates: &'a dyn Fn(&Tls) -> Result<(), Vec<Complaint>>,
    /// What the snapshot is for.
    pub purpose: Purpose,
}

/// What is wrong with something that the configuration names and others read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hint: String,
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be looked at: nothing is written, no name is looked up in the network.
    Check,
    /// To be run.
    Run,
}

/// A snapshot and what else is known of the files that it was made from.
#[derive(Debug)]
pub struct Loaded {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The options with all defaults filled in.
    pub options: Gateway,
    /// The tree of `gateway.yaml` with its includes.
    pub tree: Node,
    /// Names of the files, by `At::file`.
    pub names: Vec<String>,
    /// Number of policy tests that passed.
    pub tests: usize,
    /// Where each key of the files stands, by its dotted path: `roles.cashier` → `policies/roles.yaml:12`.
    pub places: BTreeMap<String, String>,
    /// All of it, to be kept.
    pub bundle: Bundle,
}

/// Reads an environment variable of this process.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Snapshot {
    /// Reads `gateway.yaml` and everything it names, compiles it whole, and runs the policy tests.
    ///
    /// Refuses with every problem that there is; no part of a bundle with a problem is ever in force.
    pub fn load(path: &Path, world: &World<'_>) -> Result<Loaded, Problems> {
        let report = Report::default();
        let loaded = Snapshot::load_from(path, Files::new(folder_of(path), world.env, &report), world);
        loaded.map_err(|sources| report.finish(&sources))
    }

    /// The same from a bundle that was kept, as it was then, but for what it names and others read.
    pub fn load_kept(path: &Path, bundle: &Bundle, world: &World<'_>) -> Result<Loaded, Problems> {
        let report = Report::default();
        let files = Files::new(folder_of(path), world.env, &report).kept(bundle);
        Snapshot::load_from(path, files, world).map_err(|sources| report.finish(&sources))
    }

    /// Where there are problems, the texts that they stand in.
    fn load_from(path: &Path, files: Files<'_>, world: &World<'_>) -> Result<Loaded, Vec<Source>> {
        let report = files.report;
        let loaded = load(path, &files, world);
        let variables = files.variables();
        let (sources, watched) = files.into_parts();
        match loaded {
            Some(mut loaded) if report.is_empty() => {
                loaded.snapshot.files = watched;
                loaded.names = sources.iter().map(|source| source.name.clone()).collect();
                loaded.bundle = Bundle::new(path, &loaded.snapshot.digest, sources, variables);
                Ok(loaded)
            }
            _ => {
                if report.is_empty() {
                    report.problem(At::file(0), "the configuration cannot be read");
                }
                Err(sources)
            }
        }
    }
}

fn load(path: &Path, files: &Files<'_>, world: &World<'_>) -> Option<Loaded> {
    let name = path.file_name()?.to_string_lossy();
    let mut tree = files.open(&name, None)?;
    files.include(&mut tree);
    let merged = files.parsed();
    let options: Gateway = read::read(&tree, files.report)?;
    let snapshot = compile::compile(files, &tree, &options, world);
    let tests = tests(&options, files);
    let mut snapshot = snapshot?;
    let mut passed = 0;
    // With other problems around, a failing test says nothing new.
    if files.report.is_empty() {
        for file in &tests {
            for failure in cases::run(&snapshot, &file.cases) {
                files.report.hinted(failure.at, failure.message, failure.hint);
            }
            passed += file.cases.len();
        }
    }
    snapshot.digest = files.digest();
    snapshot.outline = files.outline(&tree, merged);
    let places = files.places();
    Some(Loaded { snapshot, options, tree, names: Vec::new(), tests: passed, places, bundle: Bundle::default() })
}

fn tests(options: &Gateway, files: &Files<'_>) -> Vec<TestsFile> {
    let Some(pattern) = &options.policies.tests else { return Vec::new() };
    let names = files.matching(pattern, pattern.at);
    if names.is_empty() {
        files.report.problem(pattern.at, format!("no file matches `{}`", pattern.value));
    }
    names.iter().filter_map(|name| files.load::<TestsFile>(name, pattern.at)).map(|(_, file)| file).collect()
}
