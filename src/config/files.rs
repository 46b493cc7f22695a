//! The files of a bundle: reads them, keeps their text for messages, and merges included ones.
use crate::config::last_good::Bundle;
use crate::config::outline::Outline;
use crate::config::parsed::Parsed;
use crate::config::problem::{At, Report, Source};
use crate::config::read;
use crate::config::yaml::{self, Key, Kind, Node};
use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Greatest size of one file.
const MAX_FILE: u64 = 64 << 20;

/// The files read so far.
pub struct Files<'a> {
    /// The folder of `gateway.yaml`, to which all paths are relative.
    pub folder: PathBuf,
    /// All problems so far.
    pub report: &'a Report,
    env: &'a dyn Fn(&str) -> Option<String>,
    used: RefCell<BTreeMap<String, Option<String>>>,
    /// Stands for the files on the disk, where it is given.
    kept: Option<&'a Bundle>,
    sources: RefCell<Vec<Source>>,
    watched: RefCell<Vec<PathBuf>>,
    /// Digests of the files that are not ours to parse.
    others: RefCell<Vec<(PathBuf, String)>>,
    ids: Cell<u32>,
    /// What the load before this one has parsed.
    parsed: Option<&'a Parsed>,
}

impl<'a> Files<'a> {
    /// Starts with no files.
    pub fn new(folder: PathBuf, env: &'a dyn Fn(&str) -> Option<String>, report: &'a Report) -> Files<'a> {
        Files {
            folder,
            report,
            env,
            used: RefCell::default(),
            kept: None,
            sources: RefCell::default(),
            watched: RefCell::default(),
            others: RefCell::default(),
            ids: Cell::new(0),
            parsed: None,
        }
    }

    /// The same, but files and variables come from a bundle that was kept; what it does not hold (certificates, keys)
    /// is still looked for in its place.
    pub fn kept(self, bundle: &'a Bundle) -> Files<'a> {
        Files { kept: Some(bundle), ..self }
    }

    /// The same, but a file that is what it was when `parsed` saw it is not parsed again.
    pub fn again(self, parsed: &'a Parsed) -> Files<'a> {
        Files { parsed: Some(parsed), ..self }
    }

    /// Whether the texts come from a bundle that was kept.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Looks a variable up and remembers that it was used.
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = match self.kept {
            Some(kept) => kept.variables.get(name).cloned().flatten(),
            None => (self.env)(name),
        };
        self.used.borrow_mut().insert(name.to_owned(), value.clone());
        value
    }

    /// Reads and parses a file; `asked` is where its name stands.
    pub fn open(&self, name: &str, asked: Option<At>) -> Option<Node> {
        let (file, text) = self.read_text(name, asked)?;
        self.parse(file, &text)
    }

    fn parse(&self, file: u32, text: &str) -> Option<Node> {
        let mut ids = self.ids.get();
        let node = yaml::parse(file, text, &|name| self.variable(name), self.report, &mut ids);
        self.ids.set(ids);
        let node = node.filter(|node| !matches!(node.kind, Kind::Null));
        if node.is_none() && text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
            self.report.problem(At::file(file), "the file is empty");
        }
        node
    }

    /// Reads a file of the bundle that is no YAML; with its index among the sources, so that problems can name a line.
    pub fn read_text(&self, name: &str, asked: Option<At>) -> Option<(u32, String)> {
        let path = self.folder.join(name);
        let file = u32::try_from(self.sources.borrow().len()).unwrap_or(u32::MAX);
        let read = || -> Result<String, String> {
            if let Some(kept) = self.kept {
                return kept.text(name).map(str::to_owned).ok_or_else(|| "is not in the last good bundle".to_owned());
            }
            let mut text = String::new();
            let mut reader = fs::File::open(&path).map_err(|e| reason(&e))?.take(MAX_FILE + 1);
            reader.read_to_string(&mut text).map_err(|e| reason(&e))?;
            if text.len() as u64 > MAX_FILE { Err("is larger than 64 MiB".to_owned()) } else { Ok(text) }
        };
        self.watched.borrow_mut().push(path.clone());
        let text = read();
        let (text, error) = match text {
            Ok(text) => (text, None),
            Err(error) => (String::new(), Some(error)),
        };
        self.sources.borrow_mut().push(Source { name: name.to_owned(), text: text.clone() });
        if let Some(error) = error {
            self.report.problem(asked.unwrap_or(At::file(file)), format!("`{name}` {error}"));
            return None;
        }
        Some((file, text))
    }

    /// Reads a whole file as `T`.
    pub fn load<T>(&self, name: &str, asked: At) -> Option<Arc<T>>
    where
        T: for<'de> Deserialize<'de> + Send + Sync + 'static,
    {
        let (file, text) = self.read_text(name, Some(asked))?;
        let read = || -> Option<Arc<T>> { Some(Arc::new(read::read(&self.parse(file, &text)?, self.report)?)) };
        // What variables stand for may be another thing the next time.
        let Some(parsed) = self.parsed.filter(|_| !text.contains("${")) else { return read() };
        let bytes = digest(&SHA256, text.as_bytes());
        if let Some(known) = parsed.find(name, file, bytes.as_ref()) {
            return Some(known);
        }
        let problems = self.report.len();
        let value = read()?;
        if self.report.len() == problems {
            parsed.keep(name, file, bytes.as_ref(), value.clone());
        }
        Some(value)
    }

    /// Files that match a path whose last part may hold `*`, sorted.
    pub fn matching(&self, pattern: &str, at: At) -> Vec<String> {
        let (folder, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        if folder.contains('*') {
            self.report.problem(at, "`*` may stand in the last part of a path only");
            return Vec::new();
        }
        if !last.contains('*') {
            return vec![pattern.to_owned()];
        }
        let directory = self.folder.join(directory_name(folder));
        self.watched.borrow_mut().push(directory.clone());
        if let Some(kept) = self.kept {
            let matches = |name: &str| {
                let (within, last_part) = name.rsplit_once('/').unwrap_or(("", name));
                within == folder && !last_part.starts_with('.') && glob(last, last_part)
            };
            let mut names: Vec<_> = kept.files.iter().map(|(name, _)| name.clone()).filter(|n| matches(n)).collect();
            names.sort();
            return names;
        }
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.report.problem(at, format!("`{}` {}", directory_name(folder), reason(&error)));
                return Vec::new();
            }
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.') && glob(last, name)).collect();
        names.sort();
        names.into_iter().map(|name| format!("{prefix}{name}")).collect()
    }

    /// Merges the files that `include` names: sections by key, entries by name, and no name twice.
    pub fn include(&self, root: &mut Node) {
        let Some(patterns) = root.get("include").cloned() else { return };
        let Kind::List(patterns) = patterns.kind else { return };
        for pattern in &patterns {
            let Some(text) = pattern.text() else { continue };
            for name in self.matching(text, pattern.at) {
                let Some(part) = self.open(&name, Some(pattern.at)) else { continue };
                let Kind::Map(entries) = part.kind else {
                    self.report.problem(part.at, "expected a map");
                    continue;
                };
                for (key, value) in entries {
                    match key.text.as_str() {
                        "version" if value.text() == Some("1") => {}
                        "include" => self.report.problem(key.at, "an included file includes no others"),
                        _ => self.merge(root, key, value, true),
                    }
                }
            }
        }
    }

    fn merge(&self, into: &mut Node, key: Key, value: Node, deeper: bool) {
        let Kind::Map(entries) = &mut into.kind else { return };
        let Some((first, there)) = entries.iter_mut().find(|(k, _)| k.text == key.text) else {
            entries.push((key, value));
            return;
        };
        match value.kind {
            Kind::Map(parts) if deeper && matches!(there.kind, Kind::Map(_)) => {
                for (key, value) in parts {
                    self.merge(there, key, value, false);
                }
            }
            Kind::Map(_) | Kind::Null | Kind::Broken | Kind::Scalar { .. } | Kind::List(_) => {
                let hint = format!("it stands in {} already", self.place(first.at));
                self.report.hinted(key.at, format!("`{}` is defined twice", key.text), Some(hint));
            }
        }
    }

    /// `gateway.yaml:12`
    pub fn place(&self, at: At) -> String {
        let name = self.sources.borrow().get(at.file as usize).map(|s| s.name.clone()).unwrap_or_default();
        if at.line == 0 { name } else { format!("{name}:{}", at.line) }
    }

    /// Watches a file that somebody else reads, and counts what is in it to the bundle.
    pub fn watch(&self, path: PathBuf) {
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(&path) {
            // What cannot be read is reported by those who read it.
            let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
        }
        self.others.borrow_mut().push((path.clone(), hex(digest(&SHA256, &bytes).as_ref())));
        self.watched.borrow_mut().push(path);
    }

    /// SHA-256 over names and contents of all files, and over the variables that they use.
    pub fn digest(&self) -> String {
        let mut all = Context::new(&SHA256);
        let mut field = |text: &str| {
            all.update(&(text.len() as u64).to_be_bytes());
            all.update(text.as_bytes());
        };
        for source in self.sources.borrow().iter() {
            field(&source.name);
            field(&source.text);
        }
        for (name, value) in self.used.borrow().iter() {
            field(name);
            field(value.as_deref().unwrap_or_default());
        }
        self.others.borrow().iter().for_each(|(_, other)| all.update(other.as_bytes()));
        hex(all.finish().as_ref())
    }

    /// How many files were parsed so far.
    pub fn parsed(&self) -> usize {
        self.sources.borrow().len()
    }

    /// What the bundle consists of; `tree` is made of the first `merged` files.
    pub fn outline(&self, tree: &Node, merged: usize) -> Outline {
        Outline::new(tree, self.sources.borrow().get(merged..).unwrap_or_default(), &self.others.borrow())
    }

    /// The variables that were used, and their values.
    pub fn variables(&self) -> BTreeMap<String, Option<String>> {
        self.used.borrow().clone()
    }

    /// The texts, for messages, and the paths, for the watcher.
    pub fn into_parts(self) -> (Vec<Source>, Vec<PathBuf>) {
        let mut watched = self.watched.into_inner();
        watched.sort();
        watched.dedup();
        let sources = self.sources.into_inner();
        if let Some(parsed) = self.parsed {
            parsed.forget_all_but(|name| sources.iter().any(|source| source.name == name));
        }
        (sources, watched)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn directory_name(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}

/// An error of the operating system in words that follow a name.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        std::io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        _ => format!("cannot be read: {error}").to_lowercase(),
    }
}

/// Whether a name matches a pattern with `*`.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(last)
}

/// The folder that a path's relative names refer to; empty for the current one.
pub fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_within_a_name() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a", "a", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
