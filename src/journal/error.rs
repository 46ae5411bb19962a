//! What can go wrong with the journal.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::event::EventId;

/// The journal could not do what was asked of it. Cheap to clone: one failed commit is reported to
/// everyone who took part in it.
#[derive(Clone)]
pub struct JournalError {
    kind: Arc<Kind>,
}

enum Kind {
    Locked { path: PathBuf, pid: Option<u32> },
    Missing { path: PathBuf },
    NotAJournal { path: PathBuf },
    Foreign { path: PathBuf },
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    OlderSchema { path: PathBuf, found: i64, known: i64 },
    File { path: PathBuf, doing: &'static str, source: io::Error },
    Unsynced { path: PathBuf, source: io::Error },
    Sqlite { path: PathBuf, doing: &'static str, source: rusqlite::Error },
    Damaged { path: PathBuf, what: String },
    UnknownEndpoint(i64),
    UnknownStart { id: EventId, oldest: String },
    Closed,
}

impl JournalError {
    fn new(kind: Kind) -> JournalError {
        JournalError { kind: Arc::new(kind) }
    }

    pub(super) fn locked(path: &Path, pid: Option<u32>) -> JournalError {
        JournalError::new(Kind::Locked { path: path.to_owned(), pid })
    }

    pub(super) fn missing(path: &Path) -> JournalError {
        JournalError::new(Kind::Missing { path: path.to_owned() })
    }

    pub(super) fn foreign(path: &Path) -> JournalError {
        JournalError::new(Kind::Foreign { path: path.to_owned() })
    }

    pub(super) fn schema(path: &Path, found: i64, known: i64) -> JournalError {
        let path = path.to_owned();
        JournalError::new(if found > known {
            Kind::NewerSchema { path, found, known }
        } else {
            Kind::OlderSchema { path, found, known }
        })
    }

    pub(super) fn file(path: &Path, doing: &'static str, source: io::Error) -> JournalError {
        JournalError::new(Kind::File { path: path.to_owned(), doing, source })
    }

    /// An fsync of the WAL failed.
    pub(super) fn unsynced(path: &Path, source: io::Error) -> JournalError {
        JournalError::new(Kind::Unsynced { path: path.to_owned(), source })
    }

    pub(super) fn sqlite(
        path: &Path,
        doing: &'static str,
        source: rusqlite::Error,
    ) -> JournalError {
        let path = path.to_owned();
        if source.sqlite_error_code() == Some(ErrorCode::NotADatabase) {
            return JournalError::new(Kind::NotAJournal { path });
        }
        JournalError::new(Kind::Sqlite { path, doing, source })
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> JournalError {
        JournalError::new(Kind::Damaged { path: path.to_owned(), what: what.into() })
    }

    pub(super) fn unknown_endpoint(endpoint: i64) -> JournalError {
        JournalError::new(Kind::UnknownEndpoint(endpoint))
    }

    pub(super) fn unknown_start(id: EventId, oldest: String) -> JournalError {
        JournalError::new(Kind::UnknownStart { id, oldest })
    }

    pub(super) fn closed() -> JournalError {
        JournalError::new(Kind::Closed)
    }

    /// Another process, or another part of this one, has the file open for writing.
    pub fn is_locked(&self) -> bool {
        matches!(*self.kind, Kind::Locked { .. })
    }

    /// There is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(*self.kind, Kind::Missing { .. })
    }

    /// The file is something else than a journal of walhook.
    pub fn is_not_a_journal(&self) -> bool {
        matches!(*self.kind, Kind::NotAJournal { .. } | Kind::Foreign { .. })
    }

    /// A newer version of walhook wrote the file.
    pub fn is_newer_schema(&self) -> bool {
        matches!(*self.kind, Kind::NewerSchema { .. })
    }

    /// There is no room: neither on the volume nor below a limit of the file.
    pub fn is_disk_full(&self) -> bool {
        match &*self.kind {
            Kind::Sqlite { source, .. } => source.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Kind::File { source, .. } | Kind::Unsynced { source, .. } => {
                source.kind() == io::ErrorKind::StorageFull
            }
            _ => false,
        }
    }

    /// Trying again later can help: no room, an I/O error, another program holding the file. Not
    /// after a failed fsync: what was lost then is not known, and a later success proves nothing.
    pub fn is_retryable(&self) -> bool {
        let source = match &*self.kind {
            Kind::Sqlite { source, .. } => source,
            Kind::Unsynced { .. } => return false,
            _ => return self.is_disk_full(),
        };
        let extended = source.sqlite_error().map(|error| error.extended_code);
        if matches!(extended, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
            return false;
        }
        matches!(
            source.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::CannotOpen
                    | ErrorCode::OutOfMemory
            )
        )
    }

    /// An endpoint is to start behind an event that the journal does not hold.
    pub fn is_unknown_start(&self) -> bool {
        matches!(*self.kind, Kind::UnknownStart { .. })
    }

    /// The journal was closed: walhook is stopping.
    pub fn is_closed(&self) -> bool {
        matches!(*self.kind, Kind::Closed)
    }
}

/// What to do about an error of SQLite.
fn remedy(source: &rusqlite::Error) -> &'static str {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free space on its volume, or lower journal.max_size",
        Some(ErrorCode::SystemIoFailure) => "check the volume it lies on",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "make the file and its directory writable for this user"
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            "move it away and start anew, or restore it with sqlite3's .recover"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "close other programs that have it open"
        }
        _ => "see the cause",
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Locked { path, pid } => {
                write!(f, "journal {} is in use by another walhook", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str(": stop that one, or give this one another journal.path")
            }
            Kind::Missing { path } => write!(
                f,
                "there is no journal {}: `walhook run` makes one; check journal.path",
                path.display()
            ),
            Kind::NotAJournal { path } => write!(
                f,
                "{} is not a journal of walhook: move the file away, or choose another journal.path",
                path.display()
            ),
            Kind::Foreign { path } => write!(
                f,
                "{} is a SQLite database of another program, not a journal of walhook: choose \
                 another journal.path",
                path.display()
            ),
            Kind::NewerSchema { path, found, known } => write!(
                f,
                "journal {} was written by a newer walhook (schema {found}, this one knows \
                 {known}): run that version or a later one",
                path.display()
            ),
            Kind::OlderSchema { path, found, known } => write!(
                f,
                "journal {} has an older schema ({found}, this walhook needs {known}): start \
                 `walhook run` once to bring it up to date",
                path.display()
            ),
            Kind::File { path, doing, source } => write!(
                f,
                "cannot {doing} {}: {source}: check journal.path and the permissions of its \
                 directory",
                path.display()
            ),
            Kind::Unsynced { path, source } => write!(
                f,
                "cannot sync the WAL of journal {}: {source}: check the volume it lies on, and start \
                 walhook again",
                path.display()
            ),
            Kind::Sqlite { path, doing, source } => {
                write!(f, "cannot {doing} journal {}: {source}: ", path.display())?;
                f.write_str(remedy(source))
            }
            Kind::Damaged { path, what } => write!(
                f,
                "journal {} is damaged ({what}): restore it from a backup, or move it away and \
                 start anew",
                path.display()
            ),
            Kind::UnknownEndpoint(endpoint) => {
                write!(f, "the journal knows no endpoint {endpoint}: register it first")
            }
            Kind::UnknownStart { id, oldest } => write!(
                f,
                "`start` names {id}, which the journal does not hold (the oldest event it keeps: \
                 {oldest}): name one it keeps, or write start = \"earliest\""
            ),
            Kind::Closed => f.write_str("the journal is closed, because walhook is stopping"),
        }
    }
}

impl fmt::Debug for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JournalError({self})")
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message already contains the cause.
        None
    }
}
