//! Problems of reading, all at once and at their places.
use super::*;
use crate::config::problem::Source;
use crate::config::yaml;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "shown by Debug only")]
struct Top {
    port: u16,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    items: Entries<Item>,
    #[serde(default)]
    list: Vec<Spanned<Kindly>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "shown by Debug only")]
struct Item {
    size: u8,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "shown by Debug only")]
enum Kindly {
    Nobody,
    User(String),
    Thing(Item),
}

fn problems(text: &str) -> (Option<Top>, Vec<String>) {
    let report = Report::default();
    let tree = yaml::parse(0, text, &|_| None, &report, &mut 0).unwrap();
    let top = read::<Top>(&tree, &report);
    let found = report.finish(&[Source { name: "f".into(), text: text.into() }]);
    let line = |p: &crate::config::problem::Problem| {
        let hint = p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        format!("{}:{} {}{hint}", p.line, p.column, p.message)
    };
    (top, found.0.iter().map(line).collect())
}

#[test]
fn every_problem_is_found_at_once() {
    let (top, found) = problems(
        "port: 1\non: yes\nitms: 1\nitems:\n  a: {size: 300}\n  b: {nme: x}\n  c: {size: 3, name: [1]}\n  d: 4\n  e: {size: 5}\n  f:\n  retry: {size: 1, cors: 2}\n\
         list: [nobody, nobdy, {user: x}, {user: []}, user, {nobody: 1}, {thing: {}}, {thing: {size: x}}, {a: 1, b: 2}]\n",
    );
    assert_eq!(
        found,
        [
            "2:5 expected `true` or `false`, found `yes`",
            "3:1 unknown key `itms` (did you mean `items`?)",
            "5:13 expected a whole number, found `300`",
            "6:3 missing `size`",
            "6:7 unknown key `nme` (did you mean `name`?)",
            "7:22 expected a text, found a list",
            "8:6 expected a map, found `4`",
            "10:3 expected a map, found nothing",
            "11:20 `cors` is not supported by this version (it is part of the grammar, but the gateway would not act on it; remove it)",
            "12:16 unknown value `nobdy` (did you mean `nobody`?)",
            "12:41 expected a text, found a list",
            "12:46 `user` needs a value: write `user: …`",
            "12:53 `nobody` takes no value",
            "12:66 missing `size`",
            "12:93 expected a whole number, found `x`",
            "12:98 expected a map with one key, found 2 keys",
        ]
    );
    let top = top.unwrap();
    assert_eq!(top.items.names().collect::<Vec<_>>(), ["c", "e", "retry"]);
    assert_eq!(top.list.len(), 2);
    assert_eq!((top.list[1].at.line, top.list[1].at.column), (12, 23));
}

#[test]
fn a_required_key_that_cannot_be_read_is_reported_once() {
    let (top, found) = problems("port: x\non: 1\n");
    assert_eq!(found, ["1:7 expected a whole number, found `x`", "2:5 expected `true` or `false`, found `1`"]);
    assert!(top.is_none());
}
