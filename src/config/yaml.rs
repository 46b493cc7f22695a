//! YAML text → a tree of nodes that know where they stand. The only module that names the YAML engine.
use crate::config::env;
use crate::config::problem::{At, Report};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span, options};
use std::collections::{HashMap, HashSet};

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique within the bundle; copies made by an alias share it.
    pub id: u32,
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An empty value, `~` or `null`.
    Null,
    /// Cannot be read; the report says why.
    Broken,
    /// Text; all scalars are text until somebody asks for a number.
    Scalar {
        /// After variables were replaced.
        text: String,
        /// Names of the variables that stood in it.
        variables: Vec<String>,
    },
    /// `[a, b]`
    List(Vec<Node>),
    /// `{a: b}`, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key and its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Where it stands.
    pub at: At,
}

/// Greatest nesting.
const MAX_DEPTH: usize = 64;
/// Greatest number of nodes in a file, copies made by aliases included.
const MAX_NODES: usize = 4_000_000;
/// Greatest number of nodes that aliases may copy in a file.
const MAX_COPIES: usize = 10_000;

/// Parses one document. Problems go to the report; what is left is a tree, or nothing where the grammar itself is broken.
pub fn parse(
    file: u32,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    report: &Report,
    ids: &mut u32,
) -> Option<Node> {
    let options = options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, disallow_directives: true };
    let mut tree = Tree {
        file,
        parser: Parser::new_from_str_with_options(text, options),
        env,
        report,
        ids,
        anchors: HashMap::new(),
        nodes: 0,
        copies: 0,
    };
    match tree.document() {
        Ok(node) => node,
        Err(Stop { at, message }) => {
            let line = text.lines().nth((at.line as usize).saturating_sub(1)).unwrap_or_default();
            let hint = "inside `[…]` and `{…}` YAML does not allow `${`: write the list or map over several lines";
            report.hinted(at, message, line.contains("${").then_some(hint));
            None
        }
    }
}

struct Tree<'t, 'r> {
    file: u32,
    parser: Parser<'t, serde_yaml::granit_parser::StrInput<'t>>,
    env: &'r dyn Fn(&str) -> Option<String>,
    report: &'r Report,
    ids: &'r mut u32,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    copies: usize,
}

/// The document cannot be read on.
struct Stop {
    at: At,
    message: String,
}

impl<'t> Tree<'t, '_> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentEnd | Event::StreamStart | Event::StreamEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(self.stop(span, "a second document; a file holds one"));
                }
                Event::DocumentStart(..) => {
                    let (event, span) = self.need(span)?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => return Err(self.stop(span, "this is not expected here")),
            }
        }
        Ok(root)
    }

    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Stop> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(pair)) => return Ok(Some(pair)),
                Some(Err(error)) => {
                    let mark = error.marker();
                    let at = At { file: self.file, line: short(mark.line()), column: short(mark.col() + 1), len: 1 };
                    let kind = error.kind().to_string();
                    let message = kind.trim_end_matches('.').trim_start_matches("while parsing ").to_lowercase();
                    let hint = if message.contains("tabs") { ": indent with spaces" } else { "" };
                    return Err(Stop { at, message: format!("the yaml is not well formed: {message}{hint}") });
                }
            }
        }
    }

    fn need(&mut self, span: Span) -> Result<(Event<'t>, Span), Stop> {
        self.next()?.ok_or_else(|| self.stop(span, "the file ends too early"))
    }

    fn stop(&self, span: Span, message: &str) -> Stop {
        Stop { at: self.at(span), message: message.to_owned() }
    }

    fn at(&self, span: Span) -> At {
        let len = if span.start.line() == span.end.line() { span.len() } else { 1 };
        At {
            file: self.file,
            line: short(span.start.line()),
            column: short(span.start.col() + 1),
            len: short(len.max(1)),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            return Err(self.stop(span, "nested too deeply"));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.stop(span, "too many values in one file"));
        }
        let at = self.at(span);
        let before = self.nodes;
        *self.ids = self.ids.saturating_add(1);
        let id = *self.ids;
        let tagged =
            |tag: &Option<_>| if tag.is_some() { Err(self.stop(span, "tags are not supported")) } else { Ok(()) };
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                tagged(&tag)?;
                (self.scalar(at, &text, style), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                tagged(&tag)?;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.need(span)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                (Kind::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                tagged(&tag)?;
                (self.map(span, depth)?, anchor)
            }
            Event::Alias(anchor) => return self.copy(span, anchor),
            _ => return Err(self.stop(span, "this is not expected here")),
        };
        let node = Node { id, at, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn map(&mut self, span: Span, depth: usize) -> Result<Kind, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.need(span)?;
            let key = match event {
                Event::MappingEnd => return Ok(Kind::Map(entries)),
                Event::Scalar(text, ..) => Key { text: text.into_owned(), at: self.at(span) },
                _ => return Err(self.stop(span, "a key is a single word")),
            };
            let (event, value_span) = self.need(span)?;
            let value = self.node(event, value_span, depth + 1)?;
            if key.text == "<<" {
                self.report.problem(key.at, "merge keys are not supported");
            } else if seen.insert(key.text.clone()) {
                entries.push((key, value));
            } else {
                let first = entries.iter().find(|(k, _)| k.text == key.text).map_or(0, |(k, _)| k.at.line);
                self.report.hinted(
                    key.at,
                    format!("duplicate key `{}`", key.text),
                    Some(format!("it stands in line {first} already")),
                );
            }
        }
    }

    fn copy(&mut self, span: Span, anchor: usize) -> Result<Node, Stop> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(self.stop(span, "an alias inside its own anchor"));
        };
        self.copies += size;
        self.nodes += size;
        if self.copies > MAX_COPIES {
            return Err(self.stop(span, "aliases repeat too much of this file"));
        }
        Ok(node.clone())
    }

    fn scalar(&self, at: At, text: &str, style: ScalarStyle) -> Kind {
        if !matches!(style, ScalarStyle::Plain) {
            return Kind::Scalar { text: text.to_owned(), variables: Vec::new() };
        }
        if matches!(text, "" | "~" | "null") {
            return Kind::Null;
        }
        match env::expand(text, self.env) {
            Ok(None) => Kind::Scalar { text: text.to_owned(), variables: Vec::new() },
            Ok(Some(expanded)) => Kind::Scalar { text: expanded.text, variables: expanded.names },
            Err(problem) => {
                self.report.hinted(at, problem.message, Some(problem.hint));
                Kind::Broken
            }
        }
    }
}

/// Prints a value in block style.
pub fn print<T: serde::Serialize>(value: &T) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

fn short(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Node {
    /// The value of a key, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, value)| value),
            Kind::Null | Kind::Broken | Kind::Scalar { .. } | Kind::List(_) => None,
        }
    }

    /// The keys, where this is a map.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let entries: &[(Key, Node)] = match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Null | Kind::Broken | Kind::Scalar { .. } | Kind::List(_) => &[],
        };
        entries.iter().map(|(key, _)| key)
    }

    /// The text, where this is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Null | Kind::Broken | Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Source;

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "null".to_owned(),
            Kind::Broken => "broken".to_owned(),
            Kind::Scalar { text, .. } => format!("{text:?}"),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Kind::Map(entries) => {
                let all: Vec<String> = entries.iter().map(|(k, v)| format!("{}: {}", k.text, show(v))).collect();
                format!("{{{}}}", all.join(", "))
            }
        }
    }

    fn check(text: &str, expected: &str) {
        let report = Report::default();
        let env = |name: &str| (name == "EVIL").then(|| "x\nevil: [1, 2]\n#".to_owned());
        let tree = parse(0, text, &env, &report, &mut 0);
        let problems = report.finish(&[Source { name: "f".into(), text: text.into() }]);
        let mut found = tree.map(|t| show(&t)).unwrap_or_default();
        for problem in problems.0 {
            found = format!("{found}\n{}:{} {}", problem.line, problem.column, problem.message);
        }
        assert_eq!(found.trim(), expected, "{text}");
    }

    #[test]
    fn scalars_stay_text_and_know_their_place() {
        check("a: no\nb: 0x10\nc: [1, \"2\", ~]\nd:\n", r#"{a: "no", b: "0x10", c: ["1", "2", null], d: null}"#);
        check("", "");
        check("# only a comment\n", "");
    }

    #[test]
    fn duplicates_tags_merges_and_second_documents_are_problems() {
        check(
            "a: 1\nb: {c: 1, c: 2}\na: 2",
            "{a: \"1\", b: {c: \"1\"}}\n2:11 duplicate key `c`\n3:1 duplicate key `a`",
        );
        check("a: !!str x", "1:10 tags are not supported");
        check("a: &x {b: 1}\nc: {<<: *x}", "{a: {b: \"1\"}, c: {}}\n2:5 merge keys are not supported");
        check("a: 1\n---\nb: 1", "2:1 a second document; a file holds one");
        check("{a: 1}: b", "1:1 a key is a single word");
    }

    #[test]
    fn a_variable_cannot_add_keys() {
        check("a: ${EVIL}\nb: '${EVIL}'", r##"{a: "x\nevil: [1, 2]\n#", b: "${EVIL}"}"##);
        check("a: ${NOPE}", "{a: broken}\n1:4 `NOPE` is not set");
    }

    #[test]
    fn aliases_copy_within_a_budget() {
        check("a: &x [1]\nb: *x", r#"{a: ["1"], b: ["1"]}"#);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        let report = Report::default();
        assert!(parse(0, &bomb, &|_| None, &report, &mut 0).is_none());
        assert_eq!(report.finish(&[]).0[0].message, "aliases repeat too much of this file");
    }

    #[test]
    fn deep_nesting_stops() {
        let report = Report::default();
        assert!(parse(0, &"[".repeat(100_000), &|_| None, &report, &mut 0).is_none());
        assert_eq!(report.len(), 1);
    }
}
