//! What can go wrong with the log itself.
use decide::record::Flaw;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log cannot be opened or closed: the operator has to look.
#[derive(Debug, thiserror::Error)]
pub enum AuditFault {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process holds the folder's lock.
    #[error("{}: another process writes this log", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A whole line of the newest segment is not what was written.
    #[error("{}:{line}: {flaw}; the log was changed or the disk is damaged: keep the folder as evidence and name another", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        flaw: Flaw,
    },
    /// Segments, or segments and head, do not fit together.
    #[error("{}: {reason}; keep the folder as evidence and name another", path.display())]
    Inconsistent {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The signing key cannot be used.
    #[error("{}: {reason}", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The writer's thread could not be started.
    #[error("the audit writer cannot be started: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// The writer's thread ended by itself.
    #[error("the audit writer died")]
    WriterDied,
}

impl AuditFault {
    /// For `map_err` on file operations.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> AuditFault + use<> {
        let path = path.to_owned();
        move |source| AuditFault::Io { path, source }
    }
}

/// Why a request cannot be recorded now; it must be refused with `gateway.unavailable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditUnavailable {
    /// The disk refuses.
    #[error("the audit log cannot be written")]
    Failing,
    /// The writer did not keep up.
    #[error("the audit log has no room")]
    Full,
    /// The process is about to end.
    #[error("the audit log is closed")]
    Closed,
}
