//! `policies/roles.yaml` and `sessions.step_up` → `Policy`.
use super::{Compiler, Noun};
use crate::config::options::{RolesFile, StepUpOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use decide::policy::{Policy, PolicyProblem, RoleSource};
use decide::rules::StepUp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Roles and permissions, and where each permission is defined.
#[derive(Default)]
pub(super) struct Roles {
    pub(super) policy: Policy,
    /// Full names, with the place of the last part.
    pub(super) permissions: Vec<Spanned<String>>,
}

impl Compiler<'_> {
    /// Reads and compiles the roles.
    pub(super) fn roles(&self) -> Roles {
        for (name, options) in self.options.sessions.step_up.iter() {
            let nothing = options.max_age.is_none() && options.acr.is_empty() && options.amr.is_none();
            if nothing && !self.report.is_tainted(name.at) {
                let message = format!("step-up `{}` asks for nothing", name.value);
                self.report.hinted(name.at, message, Some("give it `max_age`, `acr` or `amr`"));
            }
            if let Some(methods) = &options.amr {
                self.methods(methods);
            }
        }
        let Some(name) = &self.options.policies.roles else { return Roles::default() };
        let before = self.report.len();
        let Some(file) = self.files.load::<RolesFile>(name, name.at) else { return Roles::default() };
        let permissions = self.permissions(&file);
        let roles: BTreeMap<String, RoleSource> = file
            .roles
            .iter()
            .map(|(name, role)| {
                let texts = |list: &[Spanned<String>]| list.iter().map(|item| item.value.clone()).collect();
                let source = RoleSource {
                    extends: texts(&role.extends),
                    grants: texts(&role.grants),
                    except: texts(&role.except),
                };
                (name.value.clone(), source)
            })
            .collect();
        let exclusive: Vec<(String, String)> = file
            .exclusive_roles
            .iter()
            .filter_map(|pair| match pair.as_slice() {
                [a, b] if a.value != b.value => Some((a.value.clone(), b.value.clone())),
                _ => {
                    self.report.problem(pair.at, "exclusive roles come in pairs of two different ones");
                    None
                }
            })
            .collect();
        let step_up: Vec<(StepUp, Vec<String>)> = file
            .step_up
            .iter()
            .map(|(name, permissions)| {
                self.refer(Noun::StepUp, name, self.names_of_step_ups().into_iter());
                let rule = self.step_up(&name.value).unwrap_or(StepUp {
                    name: Arc::from(name.as_str()),
                    max_age_s: None,
                    acr: Vec::new(),
                    amr: Vec::new(),
                });
                (rule, permissions.iter().map(|p| p.value.clone()).collect())
            })
            .collect();
        let names: Vec<String> = permissions.iter().map(|p| p.value.clone()).collect();
        let policy = match Policy::compile(&names, &roles, &exclusive, &step_up) {
            Ok(policy) => policy,
            // A name that could not be read looks unknown here: what was reported before comes first.
            Err(_) if self.report.len() > before => Policy::default(),
            Err(problems) => {
                for problem in problems {
                    let at = place(&file, &problem).unwrap_or(name.at);
                    self.report.hinted(at, problem.message, problem.hint);
                }
                Policy::default()
            }
        };
        Roles { policy, permissions }
    }

    fn permissions(&self, file: &RolesFile) -> Vec<Spanned<String>> {
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let mut seen: HashMap<String, At> = HashMap::new();
        let mut all = Vec::new();
        for (area, names) in file.permissions.iter() {
            for name in names {
                let full = format!("{}.{}", area.value, name.value);
                if !word(area) || !word(name) {
                    let hint = "letters, digits, `_` and `-`";
                    self.report.hinted(name.at, format!("`{full}` cannot be the name of a permission"), Some(hint));
                } else if let Some(first) = seen.insert(full.clone(), name.at) {
                    let hint = format!("it stands in {} already", self.files.place(first));
                    self.report.hinted(name.at, format!("permission `{full}` is defined twice"), Some(hint));
                } else {
                    all.push(Spanned { value: full, at: name.at });
                }
            }
        }
        if all.len() > usize::from(u16::MAX) {
            self.report.problem(At::file(0), "there are more than 65,535 permissions");
            all.clear();
        }
        all
    }

    /// One of `sessions.step_up`.
    pub(super) fn step_up(&self, name: &str) -> Option<StepUp> {
        let options: &StepUpOptions = self.options.sessions.step_up.find(name)?;
        Some(StepUp {
            name: Arc::from(name),
            max_age_s: options.max_age.map(|age| age.seconds()),
            acr: options.acr.clone(),
            amr: options.amr.iter().flat_map(|methods| methods.iter().map(|method| method.value.clone())).collect(),
        })
    }

    /// Reports a list of methods that asks for nothing, or for what no authentication can have used.
    fn methods(&self, methods: &Spanned<Vec<Spanned<String>>>) {
        if methods.is_empty() {
            self.report.hinted(methods.at, "`amr` is empty", Some("name a method such as `otp`, or remove it"));
        }
        for (i, method) in methods.iter().enumerate() {
            if method.is_empty() || method.contains(char::is_whitespace) {
                let hint = "RFC 8176 has `otp`, `hwk`, `pwd` and others; write each as an item of its own";
                self.report.hinted(method.at, format!("`{}` cannot be a method", method.value), Some(hint));
            } else if methods.iter().take(i).any(|other| other.value == method.value) {
                self.report.hinted(method.at, format!("`{}` stands twice", method.value), Some("remove one of them"));
            }
        }
    }

    /// The names of `sessions.step_up`, of those that could not be read too.
    pub(super) fn names_of_step_ups(&self) -> Vec<&str> {
        let node = self.tree.get("sessions").and_then(|sessions| sessions.get("step_up"));
        node.into_iter().flat_map(|node| node.keys().map(|key| key.text.as_str())).collect()
    }
}

fn place(file: &RolesFile, problem: &PolicyProblem) -> Option<At> {
    let list = match problem.field {
        "extends" => &file.roles.find(&problem.subject)?.extends,
        "grants" => &file.roles.find(&problem.subject)?.grants,
        "except" => &file.roles.find(&problem.subject)?.except,
        "exclusive_roles" => {
            let pair = file.exclusive_roles.get(problem.index)?;
            let named = pair.iter().find(|role| problem.message.contains(&format!("`{}`", role.value)));
            return Some(named.map_or(pair.at, |role| role.at));
        }
        _ => file.step_up.find(&problem.subject)?,
    };
    list.get(problem.index).map(|item| item.at)
}
