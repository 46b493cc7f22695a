//! What is wrong in a header profile: where, what, and how to mend it.

/// One mistake in `policies/headers.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileProblem {
    /// Dotted key inside the file, e.g. `profiles.base.set.x-frame-options`.
    pub path: String,
    /// What is wrong; lowercase, user input in backticks.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Collects problems, so that all are reported and not just the first.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<ProfileProblem>);

impl Problems {
    /// Notes a problem that has an obvious cure.
    pub(super) fn hinted(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(ProfileProblem { path: path.to_owned(), message: message.into(), hint: Some(hint.into()) });
    }

    /// Notes a problem that says all by itself.
    pub(super) fn plain(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(ProfileProblem { path: path.to_owned(), message: message.into(), hint: None });
    }
}
