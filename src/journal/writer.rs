//! The one thread that writes: it takes whatever is queued, commits it together, and answers.

mod commit;
mod passing;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tracing::warn;

use crate::event::{EventFilter, Report};
use crate::postgres::lsn::Lsn;

use super::append::Written;
use super::deliveries::LaneCounts;
use super::disk::Disk;
use super::emit::Emission;
use super::error::JournalError;
use super::file::Lock;
use super::losses::{Losses, Lost};
use super::model::{
    Append, Checkpoint, EndpointId, EndpointState, JournalOptions, Settled, SourceIdentity,
};
use super::orders::{self, OrderProgress};
use super::pace::Pace;
use super::queue::{Command, Queue, Reply};
use super::settle::{self, Unregistered};
use super::tail::Tail;

const SET_IDENTITY: &str = "UPDATE journal SET system_identifier = ?1, database_oid = ?2, \
    database = ?3, timeline = ?4, slot = ?5, capture = ?6";

/// Events in one transaction, about: enough to share a commit, few enough that settlements are
/// answered quickly.
const CYCLE_EVENTS: usize = 512;

/// Between attempts to write what could not be written.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// What the writer shares with everyone who holds the journal.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) queue: Queue,
    pub(super) tail: Tail,
    pub(super) durable_lsn: AtomicU64,
    pub(super) reports_wanted: AtomicBool,
    pub(super) filters: Mutex<HashMap<String, EventFilter>>,
    pub(super) known: Mutex<Known>,
}

/// What was last committed, and what went wrong since.
#[derive(Default)]
pub(super) struct Known {
    pub(super) identity: Option<SourceIdentity>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) trouble: Option<JournalError>,
}

impl Shared {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in here can panic halfway, so what a poisoned lock guards is as good as any.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn filters(&self) -> MutexGuard<'_, HashMap<String, EventFilter>> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Journal::report`](super::Journal::report).
    pub(super) fn report(&self, report: Report) {
        if self.reports_wanted.load(Ordering::Relaxed) && !report.is_about_a_report() {
            self.queue.report(Emission::now(report));
        }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    /// Above `db`, whose closing is to be the last.
    disk: Option<Disk>,
    db: Connection,
    options: JournalOptions,
    shared: Arc<Shared>,
    written: Written,
    counts: LaneCounts,
    /// Taken from the queue, not committed yet. More than one cycle's worth never gathers.
    pending: VecDeque<Append>,
    /// The same of reports.
    reports: VecDeque<Emission>,
    /// How many appends were committed since the start.
    appended: u64,
    /// Callers to be answered when that many appends are durable.
    flushes_wanted: Vec<(u64, Reply<()>)>,
    /// Since when something is committed that is not durable, nor being made so.
    dirty_since: Option<Instant>,
    syncing: Option<Syncing>,
    copying: Copying,
    retry: Option<Retry>,
    prune_at: Instant,
    /// Whether cursors of endpoints that rest are behind, and when they were last moved on.
    pass_wanted: bool,
    passed_at: Instant,
    pace: Pace,
    losses: Losses,
    _lock: Lock,
}

/// What is being made durable.
struct Syncing {
    resume_lsn: Lsn,
    /// Who waits for it.
    replies: Vec<Reply<()>>,
}

/// How the WAL gets into the file.
struct Copying {
    /// Whether the disk's thread is at it.
    running: bool,
    /// Whether anything was committed since the WAL was last looked at.
    grown: bool,
    look_at: Instant,
    /// Since when it has been long enough to be begun anew, but for what is not copied yet.
    ending_since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    delay: Duration,
}

/// The answer to a command, to be given once it is committed.
enum Answer {
    /// And what it lost to retention.
    Settled(Settled, Option<Lost>),
    Registered(EndpointState),
    Ordered(OrderProgress),
    Done,
    /// To be given once this many appends are durable.
    Durable(u64),
}

impl Writer {
    pub(super) fn new(
        db: Connection,
        lock: Lock,
        options: JournalOptions,
        shared: Arc<Shared>,
        written: Written,
    ) -> Writer {
        let copying =
            Copying { running: false, grown: true, look_at: Instant::now(), ending_since: None };
        Writer {
            disk: None,
            db,
            options,
            shared,
            written,
            counts: LaneCounts::default(),
            pending: VecDeque::new(),
            reports: VecDeque::new(),
            appended: 0,
            flushes_wanted: Vec::new(),
            dirty_since: None,
            syncing: None,
            copying,
            retry: None,
            prune_at: Instant::now(),
            pass_wanted: false,
            passed_at: Instant::now(),
            pace: Pace::new(Instant::now()),
            losses: Losses::default(),
            _lock: lock,
        }
    }

    /// Works until it is told to stop and nothing is left, or nothing can be written any more.
    pub(super) fn run(mut self) -> Result<(), JournalError> {
        let closing = CloseOnDrop(Arc::clone(&self.shared));
        let result = self.work();
        if let Err(error) = &result {
            warn!(%error, "the journal stops");
            self.shared.queue.close(error.clone());
        }
        drop(closing);
        result
    }

    fn work(&mut self) -> Result<(), JournalError> {
        self.disk = Some(Disk::start(&self.shared)?);
        let mut said_all = false;
        loop {
            let want_events = !self.has_pending();
            self.shared.queue.wait(self.wake_at(), want_events);
            self.pace.gather(&self.shared.queue);
            let work = self.shared.queue.take(want_events, CYCLE_EVENTS);
            self.pending.extend(work.appends);
            self.reports.extend(work.reports);
            if work.reports_lost > 0 {
                let lost = work.reports_lost;
                warn!(lost, "too many walhook.* events at once: some are not sent");
            }
            for done in work.done {
                self.disk_done(done)?;
            }
            self.commit(work.commands)?;
            self.pass_if_due()?;
            self.flush_if_wanted(work.stopping && work.last)?;
            self.copy_wal_if_long()?;
            self.prune_if_due()?;
            self.pace.cycle_ended(Instant::now());
            if work.stopping && work.last && !self.has_pending() {
                if !std::mem::replace(&mut said_all, true) {
                    self.losses.say_all(&self.shared);
                    continue;
                }
                return Ok(());
            }
            if work.stopping
                && let Some(trouble) = self.shared.known().trouble.clone()
            {
                return Err(trouble);
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let mut at = self.pass_at().map_or(self.prune_at, |pass_at| pass_at.min(self.prune_at));
        if let Some(since) = self.dirty_since
            && self.syncing.is_none()
        {
            at = at.min(since + self.options.durable_every);
        }
        if let Some(retry) = self.retry {
            // Until then nothing but commands is tried.
            at = if self.has_pending() { retry.at } else { at.max(retry.at) };
        }
        at
    }

    /// Whether anything was taken from the queue and could not be written yet.
    fn has_pending(&self) -> bool {
        !(self.pending.is_empty() && self.reports.is_empty())
    }

    /// Runs `change` inside a transaction; after a failure neither file nor memory show any of it.
    fn atomically<T>(
        &mut self,
        doing: &'static str,
        change: impl FnOnce(&mut Writer) -> Result<T, Failure>,
    ) -> Result<T, JournalError> {
        let before = self.written;
        self.copying.grown = true;
        let result = self
            .execute("BEGIN IMMEDIATE")
            .map_err(Failure::Sqlite)
            .and_then(|()| change(self))
            .and_then(|value| self.execute("COMMIT").map(|()| value).map_err(Failure::Sqlite));
        result.map_err(|failure| {
            self.written = before;
            self.counts.clear();
            // SQLite has rolled back by itself after some errors.
            if !self.db.is_autocommit()
                && let Err(error) = self.execute("ROLLBACK")
            {
                warn!(%error, "the journal could not roll back");
            }
            match failure {
                Failure::Sqlite(error) => JournalError::sqlite(&self.options.path, doing, error),
                Failure::Journal(error) => error,
            }
        })
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute(()).map(drop)
    }

    fn apply(&mut self, command: &Command, now_ms: i64) -> Result<Answer, Failure> {
        let unknown =
            |endpoint: EndpointId| Failure::Journal(JournalError::unknown_endpoint(endpoint.0));
        match command {
            Command::Settle(settlement, _) => {
                let Writer { db, counts, written, .. } = self;
                let endpoint = settlement.endpoint;
                let (settled, dropped) = settle::settle(db, counts, written, settlement, now_ms)?
                    .ok_or_else(|| unknown(endpoint))?;
                let lost = settle::lost(db, endpoint, dropped)?;
                Ok(Answer::Settled(settled, lost))
            }
            Command::Register(name, start, _) => {
                let Writer { db, counts, written, .. } = self;
                let state = settle::register(db, counts, written, name, *start, now_ms)?;
                state.map(Answer::Registered).map_err(|why| {
                    Failure::Journal(match why {
                        Unregistered::Damaged(what) => {
                            JournalError::damaged(&self.options.path, what)
                        }
                        Unregistered::UnknownStart { id, oldest } => {
                            JournalError::unknown_start(id, oldest)
                        }
                    })
                })
            }
            Command::SetDisabled(endpoint, reason, _) => {
                let found = settle::set_disabled(&self.db, *endpoint, reason.as_deref())?;
                if found { Ok(Answer::Done) } else { Err(unknown(*endpoint)) }
            }
            Command::Order(step, _) => {
                let Writer { db, counts, written, .. } = self;
                Ok(Answer::Ordered(orders::carry_out(db, counts, written, step, now_ms)?))
            }
            Command::FinishOrder(order, sentence, failed, _) => {
                orders::finish(&self.db, *order, sentence, *failed, now_ms)?;
                Ok(Answer::Done)
            }
            Command::SetIdentity(identity, _) => {
                self.db.prepare_cached(SET_IDENTITY)?.execute(rusqlite::params![
                    identity.system_identifier as i64,
                    identity.database_oid,
                    identity.database,
                    identity.timeline,
                    identity.slot,
                    identity.capture.as_str(),
                ])?;
                Ok(Answer::Durable(0))
            }
            Command::MakeDurable(appends, _) => Ok(Answer::Durable(*appends)),
            #[cfg(test)]
            Command::Execute(sql, _) => {
                self.db.execute_batch(sql)?;
                Ok(Answer::Done)
            }
        }
    }

    fn answer(&mut self, command: Command, answer: Result<Answer, JournalError>) {
        // A caller that no longer waits does not want the answer.
        match (command, answer) {
            (Command::Settle(_, reply), answer) => {
                let _ = reply.send(answer.map(|answer| match answer {
                    Answer::Settled(settled, lost) => {
                        lost.into_iter().for_each(|lost| self.losses.add(lost));
                        settled
                    }
                    _ => Settled::default(),
                }));
            }
            (Command::Register(_, _, reply), Ok(Answer::Registered(state))) => {
                let _ = reply.send(Ok(state));
            }
            (Command::Register(_, _, reply), answer) => {
                let _ = reply.send(Err(answer.err().unwrap_or_else(JournalError::closed)));
            }
            (Command::Order(_, reply), Ok(Answer::Ordered(progress))) => {
                let _ = reply.send(Ok(progress));
            }
            (Command::Order(_, reply), answer) => {
                let _ = reply.send(Err(answer.err().unwrap_or_else(JournalError::closed)));
            }
            (Command::SetIdentity(identity, reply), Ok(Answer::Durable(after))) => {
                self.shared.known().identity = Some(identity);
                self.flushes_wanted.push((after, reply));
            }
            (Command::MakeDurable(_, reply), Ok(Answer::Durable(after))) => {
                self.flushes_wanted.push((after, reply));
            }
            (
                Command::SetDisabled(_, _, reply)
                | Command::FinishOrder(_, _, _, reply)
                | Command::SetIdentity(_, reply)
                | Command::MakeDurable(_, reply),
                answer,
            ) => {
                let _ = reply.send(answer.map(drop));
            }
            #[cfg(test)]
            (Command::Execute(_, reply), answer) => {
                let _ = reply.send(answer.map(drop));
            }
        }
    }

    /// Remembers that writing failed, to try again later, or gives up.
    fn failed(&mut self, error: JournalError) -> Result<(), JournalError> {
        // Who waits for what could not be written learns why.
        for (_, reply) in self.flushes_wanted.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
        if !error.is_retryable() {
            return Err(error);
        }
        let delay = self.retry.map_or(RETRY_FIRST, |retry| (retry.delay * 2).min(RETRY_MOST));
        self.retry = Some(Retry { at: Instant::now() + delay, delay });
        let first = self.shared.known().trouble.replace(error.clone()).is_none();
        if first {
            warn!(%error, "the journal cannot be written; trying again until it can");
        }
        Ok(())
    }
}

/// Refuses further work when the thread ends, whatever ends it.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.queue.close(JournalError::closed());
    }
}

/// Why a transaction was not committed.
enum Failure {
    Sqlite(rusqlite::Error),
    Journal(JournalError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Sqlite(error)
    }
}
