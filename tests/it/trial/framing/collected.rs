//! Requests collected by hand, from the standards and from published attacks: `tests/corpus/http1/requests.txt`.
use crate::trial::case::Wants::{self, Refused, Safe, Served};
use crate::trial::case::{Case, unescape};

const CLASS: &str = "collected";

pub fn cases() -> Vec<Case> {
    let text = include_str!("../../../corpus/http1/requests.txt");
    let blocks = text.split("\n\n").map(|block| block.lines().filter(|line| !line.starts_with('#')));
    blocks.filter_map(|lines| read(lines.collect())).collect()
}

fn read(lines: Vec<&str>) -> Option<Case> {
    let all = |key: &str| -> Vec<&str> {
        lines.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
    };
    let name = *all("name").first()?;
    assert_eq!(all("source").len(), 1, "{name}");
    let bytes = all("bytes").into_iter().flat_map(unescape).collect();
    Some(Case { class: CLASS, name: name.to_owned(), bytes, wants: wants(all("wants")[0]) })
}

fn wants(text: &str) -> Wants {
    match text.split_once(' ') {
        Some(("served", count)) => Served(count.parse().unwrap()),
        Some(("refused", count)) => Refused(count.parse().unwrap()),
        None if text == "safe" => Safe,
        _ => panic!("`{text}` is no outcome"),
    }
}
