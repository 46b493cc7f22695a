//! Files → `Snapshot`, or all problems.
use crate::config::cases;
use crate::config::compile;
use crate::config::files::{Files, folder_of};
use crate::config::last_good::Bundle;
use crate::config::options::{Gateway, TestsFile};
use crate::config::parsed::Parsed;
use crate::config::problem::{At, Problems, Report, Source};
use crate::config::read;
use crate::config::settings::{Snapshot, Tls};
use crate::config::yaml::{self, Kind, Node};
use std::path::Path;
use std::sync::{Arc, OnceLock};

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
    /// All of it, to be kept.
    pub bundle: Bundle,
    /// How many of the files `tree` is made of.
    merged: usize,
    /// The rest of them, once somebody has asked for a place in them.
    others: OnceLock<Vec<Node>>,
}

impl Loaded {
    /// Where a key stands, by its dotted path: `roles.cashier` → `policies/roles.yaml:12`. `None` where it is a default.
    pub fn place(&self, key: &str) -> Option<String> {
        let others = || self.others.get_or_init(|| self.parse_others()).iter();
        let at = find(&self.tree, key).or_else(|| others().find_map(|node| find(node, key)))?;
        Some(format!("{}:{}", self.names.get(usize::try_from(at.file).ok()?)?, at.line))
    }

    /// The same of a key of `gateway.yaml`, or of the next thing above it that stands there.
    pub fn place_or_above(&self, key: &str) -> Option<String> {
        let above = std::iter::successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
        let found = above.filter_map(|key| find(&self.tree, key)).next();
        found.and_then(|at| Some(format!("{}:{}", self.names.get(usize::try_from(at.file).ok()?)?, at.line)))
    }

    /// The files that are not part of `gateway.yaml`. Only those who explain ask for what is in them.
    fn parse_others(&self) -> Vec<Node> {
        let parse = |(file, (_, text)): (u32, &(String, String))| {
            yaml::parse(file, text, &|_| None, &Report::default(), &mut 0)
        };
        (0..).zip(&self.bundle.files).skip(self.merged).filter_map(parse).collect()
    }
}

/// Where a dotted key stands in a tree.
fn find(node: &Node, key: &str) -> Option<At> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Kind::Map(entries) = &node.kind else { return None };
    let (key, below) = entries.iter().find(|(key, _)| key.text == first)?;
    rest.map_or(Some(key.at), |rest| find(below, rest))
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

    /// The same as often as files change: a file that is what it was the last time is not parsed again.
    pub fn load_again(path: &Path, world: &World<'_>, parsed: &Parsed) -> Result<Loaded, Problems> {
        let report = Report::default();
        let files = Files::new(folder_of(path), world.env, &report).again(parsed);
        Snapshot::load_from(path, files, world).map_err(|sources| report.finish(&sources))
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
    let (names, bundle) = (Vec::new(), Bundle::default());
    Some(Loaded { snapshot, options, tree, names, tests: passed, bundle, merged, others: OnceLock::new() })
}

fn tests(options: &Gateway, files: &Files<'_>) -> Vec<Arc<TestsFile>> {
    let Some(pattern) = &options.policies.tests else { return Vec::new() };
    let names = files.matching(pattern, pattern.at);
    if names.is_empty() {
        files.report.problem(pattern.at, format!("no file matches `{}`", pattern.value));
    }
    names.iter().filter_map(|name| files.load(name, pattern.at)).collect()
}
