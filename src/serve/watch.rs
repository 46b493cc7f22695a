//! Notices that files changed: directory events, and a poll for file systems that send none.
use notify::event::{EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
    names: Arc<Mutex<Names>>,
    changed: Arc<Notify>,
}

/// Whose content matters: a log that grows in a watched folder must not keep the watch from ever being quiet.
#[derive(Default)]
struct Names {
    files: BTreeSet<OsString>,
    whole_folders: BTreeSet<PathBuf>,
}

impl Names {
    fn concerns(&self, event: &notify::Event) -> bool {
        match event.kind {
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => event.paths.iter().any(|path| {
                path.file_name().is_none_or(|name| self.files.contains(name))
                    || path.parent().is_some_and(|folder| self.whole_folders.contains(folder))
            }),
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {
                true
            }
        }
    }
}

impl Watch {
    /// Starts with no folders. Where the system has no events, the poll remains.
    pub fn new() -> Watch {
        let changed = Arc::new(Notify::new());
        let names = Arc::new(Mutex::new(Names::default()));
        let (tell, concerned) = (changed.clone(), names.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| concerned.lock().unwrap_or_else(PoisonError::into_inner).concerns(&event)) {
                tell.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no file events on this system; files are looked at every 30 s");
        }
        Watch { watcher: watcher.ok(), folders: BTreeSet::new(), names, changed }
    }

    /// Watches the folders of these files and of whatever they link to, and no others.
    pub fn follow<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        let mut folders = BTreeSet::new();
        let mut names = Names::default();
        for file in files {
            let real = file.canonicalize().ok();
            if file.is_dir() {
                names.whole_folders.extend([file.to_owned()].into_iter().chain(real.clone()));
            }
            names.files.extend(
                [Some(file), real.as_deref()].into_iter().flatten().filter_map(Path::file_name).map(OsString::from),
            );
            let folder = if file.is_dir() { Some(file) } else { file.parent() };
            let folder = folder.map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
            folders.extend(folder.map(Path::to_owned));
            folders.extend(real.and_then(|real| real.parent().map(Path::to_owned)));
        }
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
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
