//! `moat::config::yaml`: any text is a tree whose parts have places, or a problem that has one.
use moat::config::problem::{Report, Source};
use moat::config::yaml::{Kind, Node, parse};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let report = Report::default();
    let mut ids = 0;
    // Carriage returns end lines too.
    let lines = text.split(['\n', '\r']).count() + 1;
    let env = |name: &str| (name != "UNSET").then(|| "value".to_owned());
    if let Some(tree) = parse(0, text, &env, &report, &mut ids) {
        walk(&tree, lines, 0);
    } else if report.is_empty() {
        let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with(['#', '-', '.', '%']);
        assert!(text.split(['\n', '\r']).all(blank), "neither a tree nor a problem");
    }
    let problems = report.finish(&[Source { name: "gateway.yaml".to_owned(), text: text.to_owned() }]);
    for problem in &problems.0 {
        assert!(problem.line as usize <= lines && !problem.message.is_empty());
    }
    assert!(problems.text().len() >= problems.0.len());
}

fn walk(node: &Node, lines: usize, depth: usize) {
    assert!(node.at.line as usize <= lines && depth <= 64, "no place, or too deep");
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| walk(item, lines, depth + 1)),
        Kind::Map(entries) => {
            for (i, (key, value)) in entries.iter().enumerate() {
                assert!(entries[..i].iter().all(|(other, _)| other.text != key.text), "`{}` twice", key.text);
                walk(value, lines, depth + 1);
            }
        }
        Kind::Null | Kind::Broken | Kind::Scalar { .. } => {}
    }
}
