//! The house rules that a compiler does not hold: which way dependence runs, what the core may not name, how files begin.
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                found.push((entry.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{below} holds no sources");
    found
}

/// Lines of code, without comments and without the file's tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // Tests in a file of their own are declared at the top: what follows is code.
    before_tests(text).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn forbid(below: &str, words: &[&str], except: &[&str], why: &str) {
    let mut found = Vec::new();
    for (path, text) in sources(below) {
        let of_tests = path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
        if of_tests || except.iter().any(|e| path.starts_with(e)) {
            continue;
        }
        for (number, line) in code(&text) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: `{word}`", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{why}\n{}", found.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let words = [
        "tokio",
        "pingora",
        "hyper",
        "std::fs",
        "std::process",
        // Addresses are in `core::net`; what is only here opens something.
        "std::net",
        "SystemTime",
        "Instant",
        "std::env",
        "async fn",
        "static mut",
        "OnceLock",
        "LazyLock",
    ];
    let vectors = ["decide/src/token/vectors.rs"];
    forbid("decide/src", &words, &vectors, "decide/ decides and never acts: no clock, file, socket, async or global");
}

#[test]
fn only_serve_names_pingora_and_hyper() {
    forbid("src", &["pingora"], &["src/serve"], "only serve/ names pingora");
    forbid(
        "src",
        &["hyper::", "hyper_util", "hyper_rustls"],
        &["src/serve", "src/cli/demo"],
        "only serve/ (and the demo's programs) name hyper",
    );
}

#[test]
fn dependence_runs_one_way() {
    forbid("src/serve", &["crate::cli"], &[], "serve does not know cli");
    forbid("src/config", &["crate::cli", "crate::serve", "crate::store"], &[], "config knows decide only");
    forbid("src/store", &["crate::cli", "crate::serve", "crate::config"], &[], "store knows decide only");
}

#[test]
fn every_file_opens_with_its_purpose() {
    for folder in ["src", "decide/src", "tests", "benches"] {
        for (path, text) in sources(folder) {
            let first = text.lines().next().unwrap_or_default();
            assert!(
                first.starts_with("//! ") && first.len() > 20,
                "{} does not open with one sentence",
                path.display()
            );
        }
    }
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let sleep = concat!("sleep", "(");
    let ignore = concat!("#[", "ignore");
    for (path, text) in sources("tests") {
        for (number, line) in text.lines().enumerate() {
            assert!(!line.contains(sleep) && !line.contains(ignore), "{}:{}", path.display(), number + 1);
        }
    }
}

/// A file without the tests inside it.
fn before_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn no_file_holds_two_subjects() {
    for folder in ["src", "decide/src", "tests"] {
        for (path, text) in sources(folder) {
            let is_test = path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
            let (counted, most) = if is_test { (&*text, 800) } else { (before_tests(&text), 500) };
            let lines = counted.lines().count();
            assert!(lines <= most, "{} has {lines} lines, and {most} are enough for one subject", path.display());
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for folder in ["src", "decide/src"] {
        for (path, text) in sources(folder) {
            for word in [
                concat!("to", "do!("),
                concat!("unimple", "mented!("),
                concat!("FIX", "ME"),
                concat!("allow", "(clippy"),
            ] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn every_test_that_the_threats_name_exists() {
    let page = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let all: String = ["decide/src", "src", "tests"].iter().flat_map(|f| sources(f)).map(|(_, text)| text).collect();
    let (mut rows, mut before, mut named) = (0, "", false);
    for line in page.lines() {
        let begins = line.starts_with("| ") && !before.starts_with('|');
        before = line;
        if begins {
            // Tables of figures have no column of tests.
            named = line.ends_with("| test |");
        }
        if begins || !named || !line.starts_with("| ") || line.starts_with("| --- ") {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        rows += 1;
        for file in cells[2].split('`').skip(1).step_by(2).filter(|word| word.contains('/')) {
            assert!(root().join(file).exists(), "no `{file}`: {line}");
        }
        let names: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {line}");
        for name in names {
            assert!(all.contains(&format!("fn {name}(")), "no test `{name}`: {line}");
        }
    }
    assert!(rows >= 60, "{rows} rows");
}

/// Pages below a folder of the repository, with their places.
fn pages(below: &str, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(root().join(below)).unwrap().map(|e| e.unwrap()) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && below != "." {
            pages(path.strip_prefix(root()).unwrap().to_str().unwrap(), found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push((path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What stands outside of blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The anchors of a page's headings, as they are made where pages are shown.
fn anchors(page: &str) -> Vec<String> {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |heading: &str| heading.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>();
    let headings = prose(page).lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    headings.iter().map(|line| anchor(line.trim_start_matches('#').trim()).replace(' ', "-")).collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut all = Vec::new();
    for folder in [".", "docs", "certs", "tests/corpus"] {
        pages(folder, &mut all);
    }
    let mut links = 0;
    for (path, page) in &all {
        for link in
            prose(page).split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link.to_owned()))
        {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { root().join(path) } else { root().join(path).parent().unwrap().join(file) };
            assert!(target.exists(), "{}: `{link}`", path.display());
            let known =
                |target: &Path| anchors(&fs::read_to_string(target).unwrap()).iter().any(|known| known == anchor);
            assert!(anchor.is_empty() || known(&target), "{}: `{link}` has no such heading", path.display());
            links += 1;
        }
    }
    assert!(links > 80, "{links} links");
}
