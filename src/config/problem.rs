//! Problems: what is wrong in the operator's files, where, and what may help. All of them are reported at once.
use serde::Serialize;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Write;

/// A place in one of the files: 1-based line and column in characters; line 0 stands for the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    /// Index into the sources.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Length in characters, at least 1.
    pub len: u32,
}

impl At {
    /// The file as a whole.
    pub fn file(file: u32) -> At {
        At { file, ..At::default() }
    }
}

/// A file of the bundle, as read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name for people: relative to the folder of `gateway.yaml`.
    pub name: String,
    /// Its text; empty where it could not be read.
    pub text: String,
}

/// One problem, ready to print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, relative to the folder of `gateway.yaml`.
    pub file: String,
    /// Line from 1; 0 for the file as a whole.
    pub line: u32,
    /// Column from 1, in characters.
    pub column: u32,
    /// Length in characters.
    pub length: u32,
    /// What is wrong: lowercase, no full stop, user input in backticks, never a secret.
    pub message: String,
    /// What may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line itself; empty for the file as a whole.
    pub snippet: String,
}

/// Everything that is wrong, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{} in the configuration", count(.0.len()))]
pub struct Problems(pub Vec<Problem>);

fn count(n: usize) -> String {
    if n == 1 { "1 problem".to_owned() } else { format!("{n} problems") }
}

/// More problems than this are counted, not printed.
const MAX_PRINTED: usize = 100;

impl Problems {
    /// As text for a terminal: message, place, the line with a caret, hint.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for problem in self.0.iter().take(MAX_PRINTED) {
            problem.render(&mut out);
            out.push('\n');
        }
        if let Some(more) = self.0.len().checked_sub(MAX_PRINTED).filter(|n| *n > 0) {
            let _ = writeln!(out, "and {more} more\n");
        }
        let _ = writeln!(out, "{}", count(self.0.len()));
        out
    }

    /// As a JSON list.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_default()
    }
}

impl Problem {
    fn render(&self, out: &mut String) {
        let _ = writeln!(out, "error: {}", self.message);
        if self.line == 0 {
            let _ = writeln!(out, " --> {}", self.file);
        } else {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let _ = writeln!(out, "{margin}--> {}:{}:{}", self.file, self.line, self.column);
            let _ = writeln!(out, "{margin} |");
            let _ = writeln!(out, "{number} | {}", self.snippet);
            let before: String =
                self.snippet.chars().take(as_usize(self.column) - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            let room = self.snippet.chars().count().saturating_sub(before.chars().count()).max(1);
            let carets = "^".repeat(as_usize(self.length).clamp(1, room));
            let _ = writeln!(out, "{margin} | {before}{carets}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
}

fn as_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX).max(1)
}

/// Collects problems while the files are read and compiled.
#[derive(Debug, Default)]
pub struct Report {
    list: RefCell<Vec<(At, String, Option<String>)>>,
    /// Literal secrets: blanked in every snippet.
    masks: RefCell<Vec<At>>,
    /// Keys in whose value something is wrong: nothing is concluded from what such a value lacks.
    tainted: RefCell<HashSet<At>>,
}

impl Report {
    /// Adds a problem.
    pub fn problem(&self, at: At, message: impl Into<String>) {
        self.list.borrow_mut().push((at, message.into(), None));
    }

    /// Adds a problem with a hint.
    pub fn hinted(&self, at: At, message: impl Into<String>, hint: Option<impl Into<String>>) {
        self.list.borrow_mut().push((at, message.into(), hint.map(Into::into)));
    }

    /// Blanks this place in every snippet.
    pub fn mask(&self, at: At) {
        self.masks.borrow_mut().push(at);
    }

    /// Marks keys whose value has a problem.
    pub fn taint(&self, keys: &[At]) {
        self.tainted.borrow_mut().extend(keys);
    }

    /// Whether something is wrong in the value of this key.
    pub fn is_tainted(&self, key: At) -> bool {
        self.tainted.borrow().contains(&key)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// How many were found so far.
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// All problems, sorted by place, each once.
    pub fn finish(self, sources: &[Source]) -> Problems {
        let mut list = self.list.into_inner();
        list.sort();
        list.dedup();
        let masks = self.masks.into_inner();
        let line_of = |at: At| -> String {
            let source = sources.get(as_index(at.file));
            let line = source.and_then(|s| lines(&s.text).nth(as_index(at.line.saturating_sub(1)))).unwrap_or_default();
            let mut chars: Vec<char> = line.chars().collect();
            for mask in masks.iter().filter(|m| m.file == at.file && m.line == at.line) {
                let from = as_index(mask.column.saturating_sub(1));
                chars.iter_mut().skip(from).take(as_index(mask.len)).for_each(|c| *c = '*');
            }
            chars.into_iter().collect()
        };
        let problems = list.into_iter().map(|(at, message, hint)| Problem {
            file: sources.get(as_index(at.file)).map(|s| s.name.clone()).unwrap_or_default(),
            line: at.line,
            column: at.column,
            length: at.len,
            message,
            hint,
            snippet: if at.line == 0 { String::new() } else { line_of(at) },
        });
        Problems(problems.collect())
    }
}

/// Lines as YAML counts them: a carriage return ends one too (YAML 1.2.2, 5.4).
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn as_index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_the_line_and_points_at_the_word() {
        let sources = [Source { name: "gateway.yaml".into(), text: "version: 1\n  hstss: ünï\n".into() }];
        let report = Report::default();
        report.hinted(At { file: 0, line: 2, column: 3, len: 5 }, "unknown key `hstss`", Some("did you mean `hsts`?"));
        report.problem(At { file: 0, line: 2, column: 3, len: 5 }, "another");
        report.problem(At { file: 0, line: 2, column: 3, len: 5 }, "another");
        report.problem(At::file(0), "no routes");
        assert_eq!(
            report.finish(&sources).text(),
            "error: no routes\n --> gateway.yaml\n\nerror: another\n --> gateway.yaml:2:3\n  |\n2 |   hstss: ünï\n  |   ^^^^^\n\n\
             error: unknown key `hstss`\n --> gateway.yaml:2:3\n  |\n2 |   hstss: ünï\n  |   ^^^^^\n  hint: did you mean `hsts`?\n\n3 problems\n"
        );
    }

    /// Found by fuzzing: the line that was shown was another one.
    #[test]
    fn a_carriage_return_ends_a_line() {
        let sources = [Source { name: "g".into(), text: "a: 1\r\n\rb: 2\rc: 3\n".into() }];
        let report = Report::default();
        report.problem(At { file: 0, line: 4, column: 1, len: 1 }, "bad");
        assert_eq!(report.finish(&sources).0[0].snippet, "c: 3");
    }

    #[test]
    fn masked_places_are_never_quoted() {
        let sources = [Source { name: "g".into(), text: "a: hunter2, b: x".into() }];
        let report = Report::default();
        report.mask(At { file: 0, line: 1, column: 4, len: 7 });
        report.problem(At { file: 0, line: 1, column: 16, len: 1 }, "bad");
        assert!(report.finish(&sources).text().contains("1 | a: *******, b: x"));
    }
}
