//! Where the demo's configuration is: in the working folder, or in a temporary one made from what the program carries.
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The repository's own configuration.
const CARRIED: [(&str, &str); 6] = [
    ("gateway.yaml", include_str!("../../../gateway.yaml")),
    ("policies/roles.yaml", include_str!("../../../policies/roles.yaml")),
    ("policies/headers.yaml", include_str!("../../../policies/headers.yaml")),
    ("policies/rate-limits.yaml", include_str!("../../../policies/rate-limits.yaml")),
    ("policies/tests/refunds.yaml", include_str!("../../../policies/tests/refunds.yaml")),
    ("policies/tests/tenants.yaml", include_str!("../../../policies/tests/tenants.yaml")),
];

/// A configuration to run.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Its `gateway.yaml`.
    pub config: PathBuf,
    /// Removed with this value.
    temporary: Option<PathBuf>,
}

impl Bundle {
    /// The one that was asked for, else the working folder's, else a copy of what the program carries.
    pub(super) fn find(asked: Option<PathBuf>) -> Result<Bundle> {
        if let Some(config) = asked {
            return Ok(Bundle { config, temporary: None });
        }
        let here = PathBuf::from("gateway.yaml");
        if here.is_file() {
            return Ok(Bundle { config: here, temporary: None });
        }
        let folder = std::env::temp_dir().join(format!("moat-demo-{}", std::process::id()));
        // Made by us and for us alone, or not at all: the folder of temporary files is everybody's.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))?;
        let bundle = Bundle { config: folder.join("gateway.yaml"), temporary: Some(folder.clone()) };
        for (name, text) in CARRIED {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(bundle)
    }

    /// The folder that its paths are relative to.
    pub(super) fn folder(&self) -> &Path {
        match self.config.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        }
    }

    /// Whether it goes away with the demo, so that the log must be elsewhere.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
