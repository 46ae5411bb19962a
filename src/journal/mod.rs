//! The journal: events, checkpoint, endpoint cursors, deliveries and attempts in one SQLite file.
//!
//! It is the only thing that must be durable: what it holds, Postgres may forget. One thread
//! writes; it commits whatever has gathered in one transaction without waiting for the disk, which
//! survives the death of the process at any moment. A few times a second another thread syncs what
//! was committed, which makes it survive a power cut; only then does
//! [`durable_lsn`](Journal::durable_lsn) move. That thread also copies SQLite's WAL into the file, so
//! that neither holds up who writes. The newest events stay in memory, in the [`Tail`];
//! who is further behind reads [pages](Journal::page). Which of the events concern whom is known by
//! their names, so that nobody looks at those of others: see [`Follower`].
//!
//! An endpoint is a cursor over the events. Only exceptions have a row of their own: deliveries that
//! wait for their retry, are blocked behind such a one of the same lane, or are dead.
//!
//! Another engine may stand behind the same operations one day: SQL and row ids stay inside.

mod append;
mod deliveries;
mod disk;
mod emit;
mod error;
mod file;
mod in_flight;
mod listing;
mod losses;
mod model;
mod orders;
mod pace;
mod prune;
mod queue;
mod read;
mod routing;
mod settle;
mod status;
mod stored;
mod tail;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::Connection;

use crate::capture::OutboxRow;
use crate::event::{EventFilter, EventId, Report};
use crate::postgres::lsn::Lsn;

pub use error::JournalError;
pub use listing::{
    DeliveryEntry, DeliveryFilter, DeliveryRow, DeliveryState, EventEntry, Standing,
};
pub use model::{
    Append, AttemptRecord, Checkpoint, Due, DueDelivery, EndpointId, EndpointState, JournalOptions,
    Listed, Outcome, OutcomeKind, Park, Replay, Seq, Settled, Settlement, SourceIdentity, Start,
};
pub use orders::{
    Chosen, Order, OrderProgress, OrderResult, OrderStep, Point, Wish, give as give_order,
};
pub use read::Picked;
pub use routing::{Course, Follower, Run};
pub use status::{
    AttemptEntry, DeadDelivery, EndpointStatus, EventsStatus, JournalReader, JournalStatus,
};
pub use stored::{StoredBatch, StoredEvent};
pub use tail::{Tail, TailWatcher};

use append::Written;
use queue::{Command, Queue, Reply};
use read::ReadPool;
use writer::{Known, Shared, Writer};

/// The open journal. Cheap to clone; every clone is the same journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    reads: Arc<ReadPool>,
}

/// The wish that everything queued when it was made becomes durable.
#[derive(Debug)]
pub struct DurableSoon {
    answer: flume::Receiver<Result<(), JournalError>>,
    journal: Journal,
}

/// The thread that writes. Stops, with everything queued written and durable, when it is dropped.
#[derive(Debug)]
pub struct JournalWriter {
    stop: StopWriter,
    thread: Option<JoinHandle<Result<(), JournalError>>>,
}

struct StopWriter(Arc<Shared>);

impl Journal {
    /// Opens the journal, making it if it is not there, and starts its writer. Keeps every other
    /// walhook out until the writer has ended.
    ///
    /// # Errors
    /// The file is in use ([`is_locked`](JournalError::is_locked)), is no journal, is one of a newer
    /// version, or cannot be read or written.
    pub fn open(mut options: JournalOptions) -> Result<(Journal, JournalWriter), JournalError> {
        options.path = file::real_path(&options.path)?;
        let path = options.path.clone();
        let lock = file::lock(&path)?;
        let db = file::open_writer(&path)?;
        let (written, known) = recover(&db, &path)?;
        let shared = Arc::new(Shared {
            path: path.clone(),
            queue: Queue::default(),
            tail: Tail::new(Seq(written.last_seq)),
            durable_lsn: AtomicU64::new(0),
            reports_wanted: AtomicBool::new(false),
            filters: Mutex::default(),
            known: known.into(),
        });
        let mut writer = Writer::new(db, lock, options, Arc::clone(&shared), written);
        // What a killed process committed may still lie in the system's memory only.
        writer.flush()?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| JournalError::file(&path, "start a thread for", error))?;
        let reads = Arc::new(ReadPool::new(&path));
        let stop = StopWriter(Arc::clone(&shared));
        Ok((Journal { shared, reads }, JournalWriter { stop, thread: Some(thread) }))
    }

    /// Opens the journal for looking only, also while a daemon writes to it.
    ///
    /// # Errors
    /// There is no such file, it is no journal, or one of another version.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<JournalReader, JournalError> {
        JournalReader::open(path.as_ref())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The database this journal belongs to, if it was said.
    pub fn identity(&self) -> Option<SourceIdentity> {
        self.shared.known().identity.clone()
    }

    /// Says which database this journal belongs to. Blocks until that is durable.
    ///
    /// # Errors
    /// It could not be written, or the journal is closed.
    pub fn set_identity(&self, identity: SourceIdentity) -> Result<(), JournalError> {
        self.ask_blocking(|_, reply| Command::SetIdentity(identity, reply))
    }

    /// How far the stream is journaled (committed, not necessarily durable).
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared.known().checkpoint
    }

    /// Queues events and the checkpoint they lead to, waiting for room until `deadline` at most; if
    /// there is none, the append is given back. An append is written whole, in one transaction:
    /// keep them below a few thousand events. Blocking.
    ///
    /// Queued is not written: [`checkpoint`](Self::checkpoint) and
    /// [`durable_lsn`](Self::durable_lsn) tell how far that got. While the disk is full, appends
    /// stay queued until there is room again.
    ///
    /// # Errors
    /// Nothing can be written any more, or the journal is closed.
    pub fn append(
        &self,
        append: Append,
        deadline: Instant,
    ) -> Result<Result<(), Append>, JournalError> {
        self.shared.queue.append(append, deadline)
    }

    /// The [`resume_lsn`](Checkpoint::resume_lsn) of the newest checkpoint that survives a power
    /// cut: what the replication slot may be told. Zero while there is none.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.shared.durable_lsn.load(Ordering::Acquire))
    }

    /// Makes everything queued so far durable, and waits for it. Blocking.
    ///
    /// # Errors
    /// It could not be written, or the journal is closed.
    pub fn make_durable(&self) -> Result<(), JournalError> {
        self.ask_blocking(Command::MakeDurable)
    }

    /// The same without waiting: the answer tells when it is so.
    ///
    /// # Errors
    /// The journal is closed.
    pub fn durable_soon(&self) -> Result<DurableSoon, JournalError> {
        let (reply, answer) = flume::bounded(1);
        self.shared.queue.command(|appended| Command::MakeDurable(appended, reply))?;
        Ok(DurableSoon { answer, journal: self.clone() })
    }

    /// The rows of an outbox whose changes are journaled and that are not known to be deleted
    /// there, by number. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn outbox_taken(&self) -> Result<Vec<OutboxRow>, JournalError> {
        self.reads.run(|db| db.outbox_taken()).await
    }

    /// Why events cannot be written at the moment, if they cannot: the disk is full, say. It passes
    /// by itself when the cause does; an error that cannot pass closes the journal.
    pub fn trouble(&self) -> Option<JournalError> {
        self.shared.queue.closed().or_else(|| self.shared.known().trouble.clone())
    }

    /// What is known of the endpoint of this name, which starts at `start` if it is new.
    ///
    /// # Errors
    /// It could not be read or written, or the journal is closed.
    pub async fn register_endpoint(
        &self,
        name: &str,
        start: Start,
    ) -> Result<EndpointState, JournalError> {
        self.ask(|reply| Command::Register(name.to_owned(), start, reply)).await
    }

    /// Disables an endpoint and says why, or enables it again with `None`.
    ///
    /// # Errors
    /// There is no such endpoint, it could not be written, or the journal is closed.
    pub async fn set_disabled(
        &self,
        endpoint: EndpointId,
        reason: Option<&str>,
    ) -> Result<(), JournalError> {
        self.ask(|reply| Command::SetDisabled(endpoint, reason.map(str::to_owned), reply)).await
    }

    /// Stores what a dispatcher has learnt; comes back when it is committed. When it fails, nothing
    /// of it was stored, and the same settlement can be tried again if the error
    /// [is retryable](JournalError::is_retryable).
    ///
    /// # Errors
    /// There is no such endpoint, it could not be written, or the journal is closed.
    pub async fn settle(
        &self,
        settlement: impl Into<Arc<Settlement>>,
    ) -> Result<Settled, JournalError> {
        let settlement = settlement.into();
        self.ask(|reply| Command::Settle(settlement, reply)).await
    }

    /// Says which endpoints there are and what they want: by that it is known which events are lost
    /// to them when retention takes any. Of an endpoint that is not named, everything counts.
    pub fn set_filters(&self, filters: HashMap<String, EventFilter>) {
        *self.shared.filters() = filters;
    }

    /// Says whether anybody wants events about walhook itself. Nobody does at first.
    pub fn want_reports(&self, wanted: bool) {
        self.shared.reports_wanted.store(wanted, Ordering::Relaxed);
    }

    /// Journals an event about walhook itself, if anybody wants such, and if there is room for one
    /// more. Neither waits nor fails. The death of such an event is not reported in turn.
    pub fn report(&self, report: Report) {
        self.shared.report(report);
    }

    /// The newest events, in memory.
    pub fn tail(&self) -> &Tail {
        &self.shared.tail
    }

    /// Events after `after`, in order and without a gap: up to `max_events` of them and `max_bytes`
    /// of bodies, but at least one if there is one. The first has a higher number than `after + 1`
    /// where events were pruned. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn page(
        &self,
        after: Seq,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Arc<StoredBatch>, JournalError> {
        self.reads.run(move |db| db.page(after, max_events, max_bytes).map(Arc::new)).await
    }

    /// Like [`page`](Self::page), for those who all read the stream from about the same place: the
    /// page may have been read for another one, may begin before `after`, and may hold events that
    /// were pruned since.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn shared_page(
        &self,
        after: Seq,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Arc<StoredBatch>, JournalError> {
        self.reads.shared_page(after, max_events, max_bytes).await
    }

    /// The events of these runs, which ascend, as far as they are there still: up to `max_events` of
    /// them and `max_bytes` of bodies, but at least one if there is one. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn pick(
        &self,
        runs: Vec<Run>,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Picked, JournalError> {
        self.reads.run(move |db| db.pick(&runs, max_events, max_bytes)).await
    }

    /// Like [`pick`](Self::pick), but perhaps of what was picked for others a moment ago: then
    /// perhaps of fewer runs, and with events beside them.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn shared_pick(
        &self,
        runs: Vec<Run>,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Picked, JournalError> {
        self.reads.shared_pick(runs, max_events, max_bytes).await
    }

    /// The events of these numbers, in the same order; those that were pruned are left out. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn load(&self, seqs: &[Seq]) -> Result<Vec<StoredEvent>, JournalError> {
        let seqs = seqs.to_vec();
        self.reads
            .run(move |db| seqs.iter().filter_map(|&seq| db.load(seq).transpose()).collect())
            .await
    }

    /// Deliveries of an endpoint that are due for their retry, by due time and number, at most
    /// `limit`. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn due(
        &self,
        endpoint: EndpointId,
        now_ms: i64,
        limit: usize,
    ) -> Result<Due, JournalError> {
        self.due_except(endpoint, now_ms, limit, &[]).await
    }

    /// Like [`due`](Self::due), as if those of `except` did not wait: those that are being tried
    /// already, whose rows still wait for their outcome to be settled.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn due_except(
        &self,
        endpoint: EndpointId,
        now_ms: i64,
        limit: usize,
        except: &[Seq],
    ) -> Result<Due, JournalError> {
        let except = except.to_vec();
        self.reads.run(move |db| db.due(endpoint, now_ms, limit, &except)).await
    }

    /// Like [`due`](Self::due) for an endpoint that gets everything in the stream's order: what
    /// waits or is blocked, by number, up to the first that is not due yet. Nothing is due while the
    /// very first is not. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn due_in_order(
        &self,
        endpoint: EndpointId,
        now_ms: i64,
        limit: usize,
    ) -> Result<Due, JournalError> {
        self.reads.run(move |db| db.due_in_order(endpoint, now_ms, limit)).await
    }

    /// The number of the event with this id, if it is still there. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn find_event(&self, id: EventId) -> Result<Option<Seq>, JournalError> {
        self.reads.run(move |db| db.find(id)).await
    }

    /// The orders that wait to be carried out, in the order they were given. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn orders(&self) -> Result<Vec<Order>, JournalError> {
        self.reads.run(|db| db.orders()).await
    }

    /// The endpoints an order is to be carried out for, by name: the one it names, or all that have
    /// dead deliveries. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn order_endpoints(&self, wish: &Wish) -> Result<Vec<String>, JournalError> {
        let wish = wish.clone();
        self.reads.run(move |db| db.order_endpoints(&wish)).await
    }

    /// Carries out a part of an order; to be called again with what it returns until that is
    /// [done](OrderProgress::done). Meanwhile no dispatcher may be at work for the endpoint, if the
    /// order [concerns it](Wish::concerns_dispatcher).
    ///
    /// # Errors
    /// It could not be written, or the journal is closed.
    pub async fn carry_out(&self, step: OrderStep) -> Result<OrderProgress, JournalError> {
        self.ask(|reply| Command::Order(Box::new(step), reply)).await
    }

    /// Notes what came of an order, other than by carrying it out.
    ///
    /// # Errors
    /// It could not be written, or the journal is closed.
    pub async fn finish_order(
        &self,
        order: i64,
        sentence: &str,
        failed: bool,
    ) -> Result<(), JournalError> {
        let sentence = sentence.to_owned();
        self.ask(|reply| Command::FinishOrder(order, sentence, failed, reply)).await
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, JournalError> {
        let (reply, answer) = flume::bounded(1);
        self.shared.queue.command(|_| make(reply))?;
        answer.recv_async().await.unwrap_or_else(|_| Err(self.ended()))
    }

    fn ask_blocking<T>(
        &self,
        make: impl FnOnce(u64, Reply<T>) -> Command,
    ) -> Result<T, JournalError> {
        let (reply, answer) = flume::bounded(1);
        self.shared.queue.command(|appended| make(appended, reply))?;
        answer.recv().unwrap_or_else(|_| Err(self.ended()))
    }

    /// Why the writer went without an answer.
    fn ended(&self) -> JournalError {
        self.shared.queue.closed().unwrap_or_else(JournalError::closed)
    }
}

impl DurableSoon {
    /// Waits until `deadline` at most; `true` when it is durable.
    ///
    /// # Errors
    /// It could not be written, or the journal is closed.
    pub fn wait(&self, deadline: Instant) -> Result<bool, JournalError> {
        match self.answer.recv_deadline(deadline) {
            Ok(answer) => answer.map(|()| true),
            Err(flume::RecvTimeoutError::Timeout) => Ok(false),
            Err(flume::RecvTimeoutError::Disconnected) => Err(self.journal.ended()),
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl JournalWriter {
    /// Writes what is queued, makes it durable, and ends the thread. Everything asked of the journal
    /// from then on fails. Blocking.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn stop(mut self) -> Result<(), JournalError> {
        self.join()
    }

    /// Whether the thread has ended by itself, which it does only when nothing can be written any
    /// more. [`stop`](JournalWriter::stop) tells why.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> Result<(), JournalError> {
        self.stop.0.queue.stop();
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|_| Err(JournalError::closed())),
            None => Ok(()),
        }
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        // The writer has logged what went wrong.
        let _ = self.join();
    }
}

impl fmt::Debug for StopWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopWriter")
    }
}

/// Reads how far the file is written.
fn recover(db: &Connection, path: &Path) -> Result<(Written, Known), JournalError> {
    let failed = |error| JournalError::sqlite(path, "read", error);
    let now_ms = crate::clock::now_ms();
    let head = status::head(db).map_err(failed)?;
    let first: Option<i64> =
        db.query_row("SELECT min(seq) FROM events", (), |row| row.get(0)).map_err(failed)?;
    let last: Option<i64> =
        db.query_row("SELECT max(seq) FROM events", (), |row| row.get(0)).map_err(failed)?;
    if last.is_some_and(|last| last != head.last_seq) {
        return Err(JournalError::damaged(path, "its newest event is not the one it counts"));
    }
    let written = Written {
        last_seq: head.last_seq,
        first_seq: first.unwrap_or(head.last_seq + 1),
        checkpoint: head.checkpoint,
        segment: append::recover_segment(db, now_ms).map_err(failed)?,
    };
    let known = Known { identity: head.identity, checkpoint: head.checkpoint, ..Known::default() };
    Ok((written, known))
}

#[cfg(test)]
mod tests;
