//! The configuration in force, as YAML: defaults filled in, and where each value comes from. Secrets are not in it:
//! options hold their places only.
use crate::config::Loaded;
use crate::config::problem::Report;
use crate::config::yaml::{self, Kind, Node};
use std::collections::BTreeMap;

/// Prints the options with all defaults; with `origin`, each value is followed by its place.
pub fn show(loaded: &Loaded, origin: bool) -> Result<String, String> {
    let text = yaml::print(&loaded.options)?;
    if !origin {
        return Ok(text);
    }
    // The printed text is parsed again, so that each of its lines can be matched with the file's.
    let tree = yaml::parse(0, &text, &|_| None, &Report::default(), &mut 0).ok_or("the output is not YAML")?;
    let mut notes = BTreeMap::new();
    annotate(&tree, Some(&loaded.tree), loaded, &mut notes);
    let mut out = String::with_capacity(text.len() * 2);
    for (number, line) in (1..).zip(text.lines()) {
        match notes.get(&number) {
            Some(note) => out.push_str(&format!("{line:<60}  # {note}")),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

fn annotate(printed: &Node, written: Option<&Node>, loaded: &Loaded, notes: &mut BTreeMap<u32, String>) {
    match &printed.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                annotate(value, written.and_then(|node| node.get(&key.text)), loaded, notes);
            }
        }
        Kind::List(items) if !items.is_empty() => {
            let written = match written.map(|node| &node.kind) {
                Some(Kind::List(written)) => written.as_slice(),
                _ => &[],
            };
            for (index, item) in items.iter().enumerate() {
                annotate(item, written.get(index), loaded, notes);
            }
        }
        Kind::Map(_) | Kind::List(_) | Kind::Scalar { .. } | Kind::Null | Kind::Broken => {
            notes.entry(printed.at.line).or_insert_with(|| place(written, loaded));
        }
    }
}

fn place(written: Option<&Node>, loaded: &Loaded) -> String {
    let Some(node) = written else { return "default".to_owned() };
    let file = usize::try_from(node.at.file).ok().and_then(|file| loaded.names.get(file));
    let place = format!("{}:{}", file.map_or("", String::as_str), node.at.line);
    match &node.kind {
        Kind::Scalar { variables, .. } if !variables.is_empty() => format!("{place} ${{{}}}", variables.join("}, ${")),
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{example, load};

    #[test]
    fn every_value_has_an_origin_and_the_output_is_a_configuration() {
        let dir = example();
        let loaded = load(dir.path()).unwrap();
        let text = show(&loaded, true).unwrap();
        let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned();
        let address = line("address: 127.0.0.1:8443");
        assert!(address.contains("# gateway.yaml:") && address.ends_with("${MOAT_PUBLIC}"), "{address}");
        assert!(line("max_connections: 50000").ends_with("# default"), "{text}");
        std::fs::write(dir.path().join("gateway.yaml"), show(&loaded, false).unwrap()).unwrap();
        let again = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
        assert_eq!(again.snapshot.rules.routes.len(), loaded.snapshot.rules.routes.len());
        assert_eq!(show(&again, false), show(&loaded, false));
    }
}
