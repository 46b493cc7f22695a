//! Services that say who somebody is, as compiled.
use http::{HeaderName, Uri};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One of `ext_auth:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtAuth {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is asked.
    pub url: Uri,
    /// PEM file with the only certificate authorities to trust; the system's where absent.
    pub ca: Option<PathBuf>,
    /// Headers of a request that go along.
    pub send: Vec<HeaderName>,
    /// Header of an answer that names the user.
    pub subject: HeaderName,
    /// Header that names the tenant.
    pub tenant: Option<HeaderName>,
    /// Header that lists roles.
    pub roles: Option<HeaderName>,
    /// Time for an answer.
    pub timeout: Duration,
    /// How long what a request opened may go on, in seconds.
    pub max_age_s: u64,
    /// Questions under way at once.
    pub max_in_flight: usize,
}
