//! What a bundle consists of, named as in its files, so that two of them can be told apart piece by piece.
use crate::config::problem::Source;
use crate::config::yaml::{Kind, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

/// Hashes of all pieces: `routes.home`, `server.drain_timeout`, `policies/roles.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline(BTreeMap<String, u64>);

impl Outline {
    /// Of the tree of `gateway.yaml` and its includes, of the other files that were parsed, and of those (by path and
    /// digest) that others read.
    pub fn new(tree: &Node, parsed: &[Source], others: &[(PathBuf, String)]) -> Outline {
        let mut pieces = BTreeMap::new();
        if let Kind::Map(sections) = &tree.kind {
            for (section, node) in sections {
                match &node.kind {
                    Kind::Map(entries) => {
                        for (entry, node) in entries {
                            pieces.insert(format!("{}.{}", section.text, entry.text), hash(|state| mix(node, state)));
                        }
                    }
                    Kind::Null | Kind::Broken | Kind::Scalar { .. } | Kind::List(_) => {
                        pieces.insert(section.text.clone(), hash(|state| mix(node, state)));
                    }
                }
            }
        }
        for source in parsed {
            pieces.insert(source.name.clone(), hash(|state| source.text.hash(state)));
        }
        for (path, digest) in others {
            pieces.insert(path.display().to_string(), hash(|state| digest.hash(state)));
        }
        Outline(pieces)
    }

    /// What `next` has that this has not, the other way round, and what is in both and not the same.
    pub fn changes(&self, next: &Outline) -> Changes {
        let mut changes = Changes::default();
        for (piece, hash) in &next.0 {
            match self.0.get(piece) {
                None => changes.added.push(piece.clone()),
                Some(before) if before != hash => changes.changed.push(piece.clone()),
                Some(_) => {}
            }
        }
        changes.removed.extend(self.0.keys().filter(|piece| !next.0.contains_key(*piece)).cloned());
        changes
    }
}

/// What two bundles differ in, by the names of their pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Pieces that are new.
    pub added: Vec<String>,
    /// Pieces that are gone.
    pub removed: Vec<String>,
    /// Pieces that are not what they were.
    pub changed: Vec<String>,
}

fn hash(mix: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut state = DefaultHasher::new();
    mix(&mut state);
    state.finish()
}

/// The content of a node, whatever its place.
fn mix(node: &Node, state: &mut DefaultHasher) {
    match &node.kind {
        Kind::Null => 0_u8.hash(state),
        Kind::Broken => 1_u8.hash(state),
        Kind::Scalar { text, variables: _ } => (2_u8, text).hash(state),
        Kind::List(items) => {
            (3_u8, items.len()).hash(state);
            items.iter().for_each(|item| mix(item, state));
        }
        Kind::Map(entries) => {
            (4_u8, entries.len()).hash(state);
            for (key, value) in entries {
                key.text.hash(state);
                mix(value, state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Report;
    use crate::config::yaml::parse;

    fn outline(text: &str, roles: &str) -> Outline {
        let tree = parse(0, text, &|_| None, &Report::default(), &mut 0).unwrap();
        let roles = Source { name: "policies/roles.yaml".to_owned(), text: roles.to_owned() };
        Outline::new(&tree, &[roles], &[("jwks.json".into(), "ab".to_owned())])
    }

    #[test]
    fn pieces_are_told_apart_by_content_and_not_by_place() {
        let old = outline("version: 1\nroutes:\n  a: {x: 1}\n  b: {x: 2}\nserver: {state_dir: s}\n", "r");
        let moved = outline("# moved\nserver: {state_dir: s}\nversion: 1\nroutes: {b: {x: 2}, a: {x: 1}}\n", "r");
        assert_eq!(old.changes(&moved), Changes::default());
        let new = outline("version: 1\nroutes:\n  a: {x: 3}\n  c: {x: 2}\nserver: {state_dir: s}\n", "q");
        let changes = old.changes(&new);
        assert_eq!(changes.added, ["routes.c"]);
        assert_eq!(changes.removed, ["routes.b"]);
        assert_eq!(changes.changed, ["policies/roles.yaml", "routes.a"]);
    }
}
