//! The thread that waits for the disk, so that the writer need not.
//!
//! The writer's commits reach the system's memory only, which takes microseconds. This thread makes
//! them durable (what it syncs is the WAL, as SQLite itself would after a commit), and copies the WAL
//! into the file. Either may take long on a busy disk, and all the while the writer goes on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::error::JournalError;
use super::file;
use super::writer::Shared;

/// What the thread can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// To make durable whatever is committed.
    Sync,
    /// To copy the WAL into the file, as far as nobody reads what is there.
    Checkpoint,
}

/// A job that is over, and what came of it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) result: Result<(), JournalError>,
}

/// The thread; it ends, its last job done, when this is dropped.
#[derive(Debug)]
pub(super) struct Disk {
    jobs: Option<flume::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread. What comes of its jobs goes to the writer's queue. The files are opened
    /// now: what is made durable must be what the writer has open, whatever happens to their names.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Disk, JournalError> {
        let (jobs, asked) = flume::unbounded();
        let own = Arc::clone(shared);
        let files = Files::open(&shared.path)?;
        let thread = std::thread::Builder::new()
            .name("journal-disk".to_owned())
            .spawn(move || work(&own, &files, &asked))
            .map_err(|error| JournalError::file(&shared.path, "start a thread for", error))?;
        Ok(Disk { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Asks for a job. The writer has one of each kind open at most.
    pub(super) fn ask(&self, job: Job) {
        // The thread ends with this only.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn work(shared: &Shared, files: &Files, asked: &flume::Receiver<Job>) {
    for job in asked.iter() {
        let result = match job {
            Job::Sync => files.sync(),
            Job::Checkpoint => files.checkpoint(),
        };
        shared.queue.done(Done { job, result });
    }
}

/// The journal's files, while the writer has them open, too.
struct Files {
    path: PathBuf,
    /// The one SQLite writes for as long as anybody has it open.
    wal: File,
    db: Connection,
}

impl Files {
    fn open(path: &Path) -> Result<Files, JournalError> {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        let wal = PathBuf::from(name);
        let wal = File::open(&wal).map_err(|error| JournalError::file(&wal, "open", error))?;
        Ok(Files { path: path.to_owned(), wal, db: file::open_for_orders(path)? })
    }

    /// Whatever was written into the WAL before is durable afterwards. What a checkpoint has taken
    /// from there meanwhile is in the file, and was made durable before the WAL is used anew. SQLite
    /// holds no lock on the WAL, which closing it would let go of.
    fn sync(&self) -> Result<(), JournalError> {
        let synced = self.wal.sync_data();
        synced.map_err(|error| JournalError::unsynced(&self.path, error))
    }

    fn checkpoint(&self) -> Result<(), JournalError> {
        let copied = copy_wal(&self.db);
        copied.map_err(|error| JournalError::sqlite(&self.path, "copy the WAL into", error))
    }
}

/// Copies the WAL into the file as far as it can be done without waiting for anybody.
pub(super) fn copy_wal(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row((), |_| Ok(()))
}

/// The pages in the WAL, and how many of them are in the file, too.
pub(super) fn wal_pages(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    let mut look = db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    look.query_row((), |row| Ok((row.get(1)?, row.get(2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_synced_is_never_synced_again() {
        for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
            let error = std::io::Error::from(kind);
            let error = JournalError::unsynced(Path::new("walhook.db"), error);
            assert!(!error.is_retryable(), "{error}");
        }
    }

    #[test]
    fn the_wal_is_copied_beside_its_writer_and_used_anew() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("walhook.db");
        let writer = file::open_writer(&path).unwrap();
        writer.execute_batch("CREATE TABLE filler (bytes BLOB)").unwrap();
        let fill = || {
            writer.execute_batch("INSERT INTO filler VALUES (zeroblob(100000))").unwrap();
            wal_pages(&writer).unwrap()
        };
        let (before, copied) = fill();
        assert!(before > 10 && copied == 0, "{before} {copied}");
        let files = Files::open(&path).unwrap();
        files.sync().unwrap();
        files.checkpoint().unwrap();
        assert_eq!(wal_pages(&writer).unwrap(), (before, before));
        // Begun anew, since nothing in it was needed any more.
        let (after, copied) = fill();
        assert!(after < before && copied == 0, "{after} {copied}");
        let rows = writer.query_row("SELECT count(*) FROM filler", (), |row| row.get::<_, i64>(0));
        assert_eq!(rows.unwrap(), 2);
    }
}
