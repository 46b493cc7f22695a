//! Roles and permissions: which role grants what, compiled to bit sets.
use crate::rules::StepUp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The index of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermissionId(pub u16);

/// A set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Adds one.
    pub fn insert(&mut self, id: PermissionId) {
        let word = usize::from(id.0) / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(slot) = self.0.get_mut(word) {
            *slot |= 1 << (id.0 % 64);
        }
    }

    /// Whether it holds one.
    pub fn contains(&self, id: PermissionId) -> bool {
        self.0.get(usize::from(id.0) / 64).is_some_and(|word| word & (1 << (id.0 % 64)) != 0)
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Bits) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

/// Roles and permissions as compiled.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    permissions: Vec<Arc<str>>,
    roles: BTreeMap<Arc<str>, Bits>,
    exclusive: Vec<(Arc<str>, Arc<str>)>,
    step_up: HashMap<PermissionId, StepUp>,
}

/// A role as written in `roles.yaml`.
#[derive(Clone, Debug, Default)]
pub struct RoleSource {
    /// Roles whose permissions it includes.
    pub extends: Vec<String>,
    /// Permissions, `area.name`, `area.*`, `*.name` or `*`.
    pub grants: Vec<String>,
    /// What the role's own `grants` leave out.
    pub except: Vec<String>,
}

/// What is wrong with the roles: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The role (or, for exclusive pairs and step-ups, the entry).
    pub subject: String,
    /// `extends`, `grants`, `except`, `exclusive_roles` or `step_up`.
    pub field: &'static str,
    /// Index within the field.
    pub index: usize,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
}

impl Policy {
    /// Compiles roles. `permissions` are full names, `area.name`, unique, at most 65,535.
    pub fn compile(
        permissions: &[String],
        roles: &BTreeMap<String, RoleSource>,
        exclusive: &[(String, String)],
        step_up: &[(StepUp, Vec<String>)],
    ) -> Result<Policy, Vec<PolicyProblem>> {
        let mut compiler = Compiler { permissions, roles, done: BTreeMap::new(), problems: Vec::new() };
        for name in roles.keys() {
            compiler.role(name, &mut Vec::new());
        }
        let mut policy = Policy {
            permissions: permissions.iter().map(|p| Arc::from(p.as_str())).collect(),
            roles: compiler.done.iter().map(|(name, bits)| (Arc::from(name.as_str()), bits.clone())).collect(),
            ..Policy::default()
        };
        for (index, (a, b)) in exclusive.iter().enumerate() {
            for name in [a, b] {
                if !roles.contains_key(name) {
                    compiler.problem(
                        "exclusive_roles",
                        "exclusive_roles",
                        index,
                        format!("unknown role `{name}`"),
                        nearest(name, roles.keys()),
                    );
                }
            }
            policy.exclusive.push((Arc::from(a.as_str()), Arc::from(b.as_str())));
        }
        for (rule, names) in step_up {
            for (index, name) in names.iter().enumerate() {
                match policy.permission(name) {
                    Some(id) => {
                        policy.step_up.insert(id, rule.clone());
                    }
                    None => {
                        let hint = nearest(name, permissions.iter());
                        compiler.problem(&rule.name, "step_up", index, format!("unknown permission `{name}`"), hint);
                    }
                }
            }
        }
        if compiler.problems.is_empty() { Ok(policy) } else { Err(compiler.problems) }
    }

    /// Finds a permission by its full name.
    pub fn permission(&self, name: &str) -> Option<PermissionId> {
        self.permissions.iter().position(|p| &**p == name).and_then(|i| u16::try_from(i).ok()).map(PermissionId)
    }

    /// All permissions, by id.
    pub fn permissions(&self) -> &[Arc<str>] {
        &self.permissions
    }

    /// All roles by name, with what they grant.
    pub fn roles(&self) -> impl Iterator<Item = (&Arc<str>, &Bits)> {
        self.roles.iter()
    }

    /// Whether the role exists.
    pub fn knows(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }

    /// The first of the roles that grants the permission. Roles that are not listed grant nothing.
    pub fn grantor<'a>(&self, roles: &'a [Arc<str>], permission: PermissionId) -> Option<&'a Arc<str>> {
        roles.iter().find(|role| self.roles.get(&***role).is_some_and(|bits| bits.contains(permission)))
    }

    /// All pairs of roles that nobody may hold together.
    pub fn exclusive(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.exclusive
    }

    /// A pair of roles that nobody may hold together, held together.
    pub fn conflict(&self, roles: &[Arc<str>]) -> Option<&(Arc<str>, Arc<str>)> {
        self.exclusive.iter().find(|(a, b)| roles.contains(a) && roles.contains(b))
    }

    /// The step-up that a permission needs wherever it is used.
    pub fn step_up(&self, permission: PermissionId) -> Option<&StepUp> {
        self.step_up.get(&permission)
    }
}

struct Compiler<'a> {
    permissions: &'a [String],
    roles: &'a BTreeMap<String, RoleSource>,
    done: BTreeMap<String, Bits>,
    problems: Vec<PolicyProblem>,
}

impl Compiler<'_> {
    fn problem(&mut self, subject: &str, field: &'static str, index: usize, message: String, hint: Option<String>) {
        self.problems.push(PolicyProblem { subject: subject.to_owned(), field, index, message, hint });
    }

    fn role(&mut self, name: &str, path: &mut Vec<String>) -> Bits {
        if let Some(bits) = self.done.get(name) {
            return bits.clone();
        }
        let Some(source) = self.roles.get(name) else { return Bits::default() };
        path.push(name.to_owned());
        let mut inherited = Bits::default();
        for (index, parent) in source.extends.iter().enumerate() {
            if path.contains(parent) {
                self.problem(name, "extends", index, format!("role `{name}` extends itself through `{parent}`"), None);
            } else if self.roles.contains_key(parent) {
                inherited.extend(&self.role(parent, path));
            } else {
                let hint = nearest(parent, self.roles.keys());
                self.problem(name, "extends", index, format!("unknown role `{parent}`"), hint);
            }
        }
        path.pop();
        let granted = self.expand(name, "grants", &source.grants);
        let except = self.expand(name, "except", &source.except);
        for (index, pattern) in source.except.iter().enumerate() {
            let ids = matching(self.permissions, pattern);
            if !ids.is_empty() && ids.iter().all(|id| !granted.contains(id)) {
                let message = format!("`{pattern}` takes nothing away from the role's own `grants`");
                let hint = "`except` narrows the grants of the same role, not those it extends".to_owned();
                self.problem(name, "except", index, message, Some(hint));
            }
        }
        let mut bits = inherited;
        for id in granted.difference(&except) {
            bits.insert(*id);
        }
        self.done.insert(name.to_owned(), bits.clone());
        bits
    }

    fn expand(&mut self, role: &str, field: &'static str, patterns: &[String]) -> BTreeSet<PermissionId> {
        let mut ids = BTreeSet::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let found = matching(self.permissions, pattern);
            if found.is_empty() {
                let hint = nearest(pattern, self.permissions.iter());
                self.problem(role, field, index, format!("`{pattern}` names no permission"), hint);
            }
            ids.extend(found);
        }
        ids
    }
}

fn matching(permissions: &[String], pattern: &str) -> Vec<PermissionId> {
    let hit = |full: &str| match (pattern, pattern.split_once('.'), full.split_once('.')) {
        ("*", _, _) => true,
        (_, Some(("*", name)), Some((_, n))) => name == n,
        (_, Some((area, "*")), Some((a, _))) => area == a,
        _ => pattern == full,
    };
    let ids = permissions.iter().enumerate().filter(|(_, full)| hit(full));
    ids.filter_map(|(i, _)| u16::try_from(i).ok()).map(PermissionId).collect()
}

/// `did you mean …` for the nearest known name within an edit distance of a third of its length.
pub fn nearest<'a, S: AsRef<str> + 'a + ?Sized>(name: &str, known: impl Iterator<Item = &'a S>) -> Option<String> {
    let best = known.map(|k| (distance(name, k.as_ref()), k.as_ref())).min()?;
    (best.0 <= 1 + name.len() / 3).then(|| format!("did you mean `{}`?", best.1))
}

/// Levenshtein distance over characters, for names of at most a few dozen characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(x != *y)).min(*slot + 1).min(left + 1);
            diagonal = std::mem::replace(slot, cost);
            left = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(extends: &[&str], grants: &[&str], except: &[&str]) -> RoleSource {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        RoleSource { extends: own(extends), grants: own(grants), except: own(except) }
    }

    fn compile(roles: &[(&str, RoleSource)]) -> Result<Policy, Vec<PolicyProblem>> {
        let permissions: Vec<String> =
            ["quotes.read", "quotes.write", "accounts.read", "accounts.refund"].map(String::from).into();
        let roles = roles.iter().map(|(n, r)| (n.to_string(), r.clone())).collect();
        Policy::compile(&permissions, &roles, &[("clerk".into(), "boss".into())], &[])
    }

    fn granted(policy: &Policy, role: &str) -> String {
        let bits = policy.roles().find(|(name, _)| &***name == role).map(|(_, bits)| bits.clone()).unwrap();
        let names = policy.permissions().iter().enumerate();
        names.filter(|(i, _)| bits.contains(PermissionId(*i as u16))).map(|(_, n)| &**n).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn wildcards_inheritance_and_exceptions() {
        let policy = compile(&[
            ("viewer", role(&[], &["*.read"], &["accounts.read"])),
            ("clerk", role(&["viewer"], &["quotes.*"], &[])),
            ("boss", role(&["clerk"], &["*"], &["accounts.refund"])),
        ])
        .unwrap();
        assert_eq!(granted(&policy, "viewer"), "quotes.read");
        assert_eq!(granted(&policy, "clerk"), "quotes.read quotes.write");
        assert_eq!(granted(&policy, "boss"), "quotes.read quotes.write accounts.read");
        let both = [Arc::from("boss"), Arc::from("clerk")];
        assert!(policy.conflict(&both).is_some());
        assert!(policy.grantor(&[Arc::from("nobody")], PermissionId(0)).is_none(), "an unlisted role grants nothing");
    }

    #[test]
    fn every_mistake_is_reported() {
        let problems = compile(&[
            ("boss", role(&["clrek"], &["quotes.raed"], &[])),
            ("clerk", role(&["clerk"], &["quotes.read"], &["accounts.read"])),
        ])
        .unwrap_err();
        let text: Vec<String> = problems
            .iter()
            .map(|p| {
                format!("{}.{}[{}]: {} {}", p.subject, p.field, p.index, p.message, p.hint.clone().unwrap_or_default())
            })
            .collect();
        assert_eq!(
            text,
            [
                "boss.extends[0]: unknown role `clrek` did you mean `clerk`?",
                "boss.grants[0]: `quotes.raed` names no permission did you mean `quotes.read`?",
                "clerk.extends[0]: role `clerk` extends itself through `clerk` ",
                "clerk.except[0]: `accounts.read` takes nothing away from the role's own `grants` `except` narrows the grants of the same role, not those it extends",
            ]
        );
    }

    #[test]
    fn bits_beyond_one_word() {
        let mut bits = Bits::default();
        bits.insert(PermissionId(130));
        assert!(
            bits.contains(PermissionId(130)) && !bits.contains(PermissionId(129)) && !bits.contains(PermissionId(9999))
        );
    }
}
