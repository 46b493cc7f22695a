//! The few values of a configuration that other commands need to find a running gateway, read even where the rest of
//! the configuration has problems: then, of all times, somebody looks.
use crate::config::files::{Files, folder_of};
use crate::config::options::AdminOptions;
use crate::config::problem::Report;
use crate::config::yaml::Node;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a running gateway is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// `admin.address`.
    pub admin: SocketAddr,
    /// `audit.directory`.
    pub audit: PathBuf,
}

/// Reads `gateway.yaml` and the files that it includes, and nothing else. Refuses only what cannot be read at all, and
/// an address that is none.
pub fn glance(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Glance, String> {
    let report = Report::default();
    let files = Files::new(folder_of(path), env, &report);
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let unreadable = || format!("`{}` cannot be read as YAML; `moat check` says more", path.display());
    let mut tree = files.open(&name, None).ok_or_else(unreadable)?;
    files.include(&mut tree);
    let text = |section: &str, key: &str| tree.get(section).and_then(|s| s.get(key)).and_then(Node::text);
    let admin = match text("admin", "address") {
        None => AdminOptions::default().address.value,
        Some(text) => text.parse().map_err(|_| format!("`admin.address`: `{text}` is no address with a port"))?,
    };
    let audit = match (text("audit", "directory"), text("server", "state_dir")) {
        (Some(directory), _) => files.folder.join(directory),
        (None, Some(state_dir)) => files.folder.join(state_dir).join("audit"),
        (None, None) => files.folder.join(crate::config::options::ServerOptions::default().state_dir).join("audit"),
    };
    Ok(Glance { admin, audit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_broken_configuration_still_says_where_the_gateway_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.yaml");
        let of = |text: &str| {
            fs::write(&file, text).unwrap();
            glance(&file, &|name| (name == "PORT").then(|| "9".to_owned()))
        };
        let root = folder.path();
        let all = of("version: 1\nnonsense: {a: b}\nadmin:\n  address: 127.0.0.1:${PORT}\naudit: {directory: log}\n");
        assert_eq!(all, Ok(Glance { admin: "127.0.0.1:9".parse().unwrap(), audit: root.join("log") }));
        let default = of("version: 1\nserver: {state_dir: var}\n").unwrap();
        assert_eq!((default.admin.port(), default.audit), (9901, root.join("var/audit")));
        assert!(of("admin: {address: here}\n").unwrap_err().contains("`here`"));
        assert!(glance(&root.join("none.yaml"), &|_| None).unwrap_err().contains("moat check"));
    }
}
