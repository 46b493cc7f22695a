//! `policies/headers.yaml` → header profiles.
use super::{Compiler, Noun};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::yaml::{Kind, Node};
use decide::headers::Profile;
use decide::headers::options::{HeadersFile, ProfileOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Header profiles; the first one is built in.
#[derive(Default)]
pub(super) struct Profiles {
    /// As compiled.
    pub(super) list: Vec<Arc<Profile>>,
    /// Names in the file, of profiles that could not be read too.
    pub(super) written: Vec<Spanned<String>>,
}

/// `default`, of responses and routes that name none: nothing may be loaded, framed, sniffed, kept or referred. `page`: forms
/// may be sent, to us.
const BUILT_IN: &str = "version: 1
profiles:
  default:
    set:
      strict-transport-security: {max_age: 1y}
      x-content-type-options: nosniff
      x-frame-options: DENY
      referrer-policy: no-referrer
      permissions-policy: {deny: [camera, microphone, geolocation, payment, usb]}
      cross-origin-opener-policy: same-origin
      cross-origin-resource-policy: same-origin
      content-security-policy:
        directives: {default-src: [\"'none'\"], base-uri: [\"'none'\"], object-src: [\"'none'\"], form-action: [\"'none'\"], frame-ancestors: [\"'none'\"]}
    remove: [server, x-powered-by]
    cookies: {}
    cache: {authenticated: no-store}
  page:
    extends: default
    set:
      content-security-policy:
        directives: {default-src: [\"'none'\"], base-uri: [\"'none'\"], object-src: [\"'none'\"], form-action: [\"'self'\"], frame-ancestors: [\"'none'\"]}
";

impl Compiler<'_> {
    /// Reads and compiles the profiles.
    pub(super) fn profiles(&self) -> Profiles {
        let mut profiles = Profiles { list: built_in("default").into_iter().collect(), written: Vec::new() };
        let Some(name) = &self.options.policies.headers else { return profiles };
        let Some(node) = self.files.open(name, Some(name.at)) else { return profiles };
        let keys = node.get("profiles").into_iter().flat_map(Node::keys);
        profiles.written = keys.map(|key| Spanned { value: key.text.clone(), at: key.at }).collect();
        let before = self.report.len();
        let Some(file) = crate::config::read::read::<HeadersFile>(&node, self.report) else { return profiles };
        self.mark_parents(&file.profiles);
        match Profile::compile_all(&file) {
            Ok(compiled) => profiles.list.extend(compiled.into_values()),
            // A profile that could not be read looks absent to those that extend it.
            Err(_) if self.report.len() > before => {}
            Err(problems) => {
                for problem in problems {
                    self.report.hinted(locate(&node, &problem.path), problem.message, problem.hint);
                }
            }
        }
        profiles
    }

    fn mark_parents(&self, profiles: &BTreeMap<String, ProfileOptions>) {
        let parents = profiles.values().filter_map(|profile| profile.extends.clone());
        self.used.borrow_mut().extend(parents.map(|parent| (Noun::Profile, parent)));
    }
}

/// The profile of pages of our own that have a form.
pub(super) fn page() -> Option<Arc<Profile>> {
    built_in("page")
}

fn built_in(name: &str) -> Option<Arc<Profile>> {
    let report = crate::config::problem::Report::default();
    let node = crate::config::yaml::parse(0, BUILT_IN, &|_| None, &report, &mut 0)?;
    let file: HeadersFile = crate::config::read::read(&node, &report)?;
    Profile::compile(name, &file.profiles).ok().map(Arc::new)
}

impl Profiles {
    /// The index of a profile; the built-in one where none is named.
    pub(super) fn index(&self, name: Option<&str>) -> Option<usize> {
        match name {
            None => Some(0),
            Some(name) => self.list.iter().skip(1).position(|profile| &**profile.name() == name).map(|i| i + 1),
        }
    }
}

/// The place of a dotted path such as `profiles.base.remove[2]`; as near as the tree knows.
fn locate(root: &Node, path: &str) -> At {
    let mut node = root;
    let mut at = At { line: 0, ..root.at };
    for part in path.split('.') {
        let (key, index) = match part.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Kind::Map(entries) = &node.kind else { return at };
        let Some((found, value)) = entries.iter().find(|(k, _)| k.text.eq_ignore_ascii_case(key)) else { return at };
        at = found.at;
        node = value;
        if let (Some(index), Kind::List(items)) = (index, &node.kind)
            && let Some(item) = items.get(index)
        {
            at = item.at;
            node = item;
        }
    }
    match node.kind {
        Kind::Scalar { .. } => node.at,
        Kind::Null | Kind::Broken | Kind::List(_) | Kind::Map(_) => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_compiles() {
        assert_eq!(&**built_in("default").unwrap().name(), "default");
        assert_eq!(&**page().unwrap().name(), "page");
    }
}
