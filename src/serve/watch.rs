//! Notices that files changed: directory events, and a poll for file systems that send none.
use notify::{RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long the files must be quiet before a change counts: editors and symlink swaps come in several events.
const QUIET: Duration = Duration::from_millis(100);
/// How often to look without having been told.
const POLL: Duration = Duration::from_secs(30);

/// Watches the folders of some files. Folders, not files: a Kubernetes ConfigMap swaps a symlink beside them.
pub struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl Watch {
    /// Starts with no folders. Where the system has no events, the poll remains.
    pub fn new() -> Watch {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                tell.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no file events on this system; files are looked at every 30 s");
        }
        Watch { watcher: watcher.ok(), folders: BTreeSet::new(), changed }
    }

    /// Watches the folders of these files and of whatever they link to, and no others.
    pub fn follow<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        let mut folders = BTreeSet::new();
        for file in files {
            let folder = if file.is_dir() { Some(file) } else { file.parent() };
            let folder = folder.map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
            folders.extend(folder.map(Path::to_owned));
            folders.extend(file.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned)));
        }
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&folders) {
            let _ = watcher.unwatch(gone);
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "cannot watch; the poll remains");
            }
        }
        self.folders = folders;
    }

    /// Completes when something may have changed.
    pub async fn changed(&self) {
        let event = async {
            self.changed.notified().await;
            while tokio::time::timeout(QUIET, self.changed.notified()).await.is_ok() {}
        };
        let _ = tokio::time::timeout(POLL, event).await;
    }
}

impl Default for Watch {
    fn default() -> Self {
        Watch::new()
    }
}
