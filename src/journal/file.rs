//! The file itself: its lock, its schema, its connections.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::JournalError;

/// Marks a SQLite file as ours (`PRAGMA application_id`): "whk1".
const APPLICATION_ID: i64 = 0x7768_6B31;

/// One step each; `PRAGMA user_version` counts those applied. Steps are never edited once released.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../sql/journal.sql"),
    include_str!("../../sql/journal_2.sql"),
    include_str!("../../sql/journal_3.sql"),
    include_str!("../../sql/journal_4.sql"),
];

/// The schema this version knows.
pub(super) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// How long a statement waits for another program's lock, such as that of a `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An 8 KiB page holds a dozen ordinary events, and takes fewer and larger writes than 4 KiB.
const PAGE_BYTES: i64 = 8192;

/// The WAL is copied into the file by the writer itself, each time it commits, when it is longer than
/// that: only if nobody else could do it meanwhile.
const CHECKPOINT_PAGES: i64 = 16_000;

/// A WAL that had to grow beyond this is cut back to it.
const WAL_BYTES_KEPT: i64 = 64 << 20;

/// The writer's page cache.
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// Keeps every other process out for as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    // The kernel drops the lock with the last descriptor of the open file, however the process ends.
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that is just being started has a copy of the descriptor until it runs its own
        // program: closing ours would not be enough. If this fails, closing is all there is.
        let _ = self.file.unlock();
    }
}

/// The one name of a file: the lock must lie beside the real one, whatever link leads there.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, JournalError> {
    match path.canonicalize() {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Also keeps SQLite from reading a meaning into names such as `:memory:`.
            std::path::absolute(path)
                .map_err(|error| JournalError::file(path, "find the journal", error))
        }
        Err(error) => Err(JournalError::file(path, "find the journal", error)),
    }
}

/// Takes the lock of the journal at `path`, or says who holds it.
pub(super) fn lock(path: &Path) -> Result<Lock, JournalError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |error| JournalError::file(&lock_path, "open the lock file", error);
    let mut file = private(OpenOptions::new().read(true).write(true).create(true))
        .truncate(false)
        .open(&lock_path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The holder writes its id just after locking; without it the message is still good.
            let _ = (&mut file).take(20).read_to_string(&mut text);
            return Err(JournalError::locked(path, text.trim().parse().ok()));
        }
        Err(TryLockError::Error(error)) => {
            return Err(JournalError::file(&lock_path, "lock", error));
        }
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| JournalError::file(&lock_path, "write the lock file", error))?;
    Ok(Lock { file })
}

/// Opens the file for writing, makes it if it is not there, and brings its schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, JournalError> {
    // The journal holds customers' data: only this user may read it. SQLite gives its -wal and -shm
    // the same permissions.
    match private(OpenOptions::new().write(true).create_new(true)).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(JournalError::file(path, "create the journal", error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| JournalError::sqlite(path, "open", error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let version = schema_version(&connection, path)?;
    if version > SCHEMA_VERSION {
        return Err(JournalError::schema(path, version, SCHEMA_VERSION));
    }
    prepare(&connection, version).map_err(failed)?;
    let mode = connection
        .pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
        .map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(JournalError::file(
            path,
            "use SQLite's WAL mode for the journal",
            std::io::Error::other("its file system does not support shared memory"),
        ));
    }
    migrate(&mut connection, version)
        .map_err(|error| JournalError::sqlite(path, "migrate", error))?;
    Ok(connection)
}

/// Opens an existing file of the current schema for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, JournalError> {
    if !path.exists() {
        return Err(JournalError::missing(path));
    }
    let failed = |error| JournalError::sqlite(path, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    tune(&connection).map_err(failed)?;
    let version = schema_version(&connection, path)?;
    if version != SCHEMA_VERSION {
        return Err(JournalError::schema(path, version, SCHEMA_VERSION));
    }
    Ok(connection)
}

/// Opens an existing file of the current schema to write an order into it, beside the daemon.
pub(super) fn open_for_orders(path: &Path) -> Result<Connection, JournalError> {
    if !path.exists() {
        return Err(JournalError::missing(path));
    }
    let failed = |error| JournalError::sqlite(path, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let version = schema_version(&connection, path)?;
    if version != SCHEMA_VERSION {
        return Err(JournalError::schema(path, version, SCHEMA_VERSION));
    }
    // Copying the WAL into the file is the daemon's.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
    Ok(connection)
}

/// How many migrations were applied; 0 for an empty file. Refuses what is not a journal, before
/// anything was written to it.
fn schema_version(connection: &Connection, path: &Path) -> Result<i64, JournalError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, (), |row| row.get::<_, i64>(0))
            .map_err(|error| JournalError::sqlite(path, "read", error))
    };
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match application {
        APPLICATION_ID => Ok(version),
        0 if version == 0 && tables == 0 => Ok(0),
        _ => Err(JournalError::foreign(path)),
    }
}

/// Statements are prepared once. Without the stability guarantee, SQLite plans some queries anew each
/// time other values are bound, in case they have become rare or frequent ones.
fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn prepare(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    tune(connection)?;
    if version == 0 {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let applied = usize::try_from(version).unwrap_or(0).min(MIGRATIONS.len());
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &MIGRATIONS[applied..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Only this user may read and write the file.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("walhook.db");
        let first = lock(&path).unwrap();
        assert!(lock(&path).unwrap_err().is_locked());
        let copy = first.file.try_clone().unwrap();
        drop(first);
        lock(&path).unwrap();
        drop(copy);
    }
}
