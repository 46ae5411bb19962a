//! What waits for the writer thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::disk::Done;
use super::emit::{Emission, QUEUED_REPORTS};
use super::error::JournalError;
use super::model::{Append, EndpointId, EndpointState, Settled, Settlement, SourceIdentity, Start};
use super::orders::{OrderProgress, OrderStep};

/// Bytes of events that may wait for the writer.
const QUEUED_BYTES: usize = 8 << 20;

/// Where an answer goes.
pub(super) type Reply<T> = flume::Sender<Result<T, JournalError>>;

/// What the writer is asked for besides appending. Each caller has few of these open at a time (a
/// dispatcher one settlement), which bounds them.
pub(super) enum Command {
    Settle(Arc<Settlement>, Reply<Settled>),
    Register(String, Start, Reply<EndpointState>),
    SetDisabled(EndpointId, Option<String>, Reply<()>),
    SetIdentity(SourceIdentity, Reply<()>),
    /// A part of what a person asked for.
    Order(Box<OrderStep>, Reply<OrderProgress>),
    /// What came of an order in a sentence, and whether it failed.
    FinishOrder(i64, String, bool, Reply<()>),
    /// Answered when all appends up to this number are durable.
    MakeDurable(u64, Reply<()>),
    /// Any statement, to provoke failures.
    #[cfg(test)]
    Execute(String, Reply<()>),
}

/// Appends, bounded by bytes, and commands.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct Inner {
    appends: VecDeque<Append>,
    append_bytes: usize,
    /// How many appends were ever taken in.
    appended: u64,
    commands: VecDeque<Command>,
    reports: VecDeque<Emission>,
    /// How many found no room since the writer last looked.
    reports_lost: u64,
    /// Jobs of the disk's thread that are over.
    done: Vec<Done>,
    stopping: bool,
    closed: Option<JournalError>,
}

/// What the writer gets to do.
pub(super) struct Work {
    pub(super) appends: Vec<Append>,
    pub(super) commands: Vec<Command>,
    pub(super) reports: VecDeque<Emission>,
    /// How many reports found no room.
    pub(super) reports_lost: u64,
    /// What the disk's thread has done.
    pub(super) done: Vec<Done>,
    /// To stop when nothing is left.
    pub(super) stopping: bool,
    /// Nothing to be written is left in the queue.
    pub(super) last: bool,
}

impl Queue {
    /// Takes an append in, waiting for room until `deadline`; gives it back if none came.
    pub(super) fn append(
        &self,
        append: Append,
        deadline: Instant,
    ) -> Result<Result<(), Append>, JournalError> {
        let bytes = cost(&append);
        let mut inner = self.inner();
        loop {
            if let Some(error) = &inner.closed {
                return Err(error.clone());
            }
            // One larger than the bound passes when it is alone.
            if inner.appends.is_empty() || inner.append_bytes + bytes <= QUEUED_BYTES {
                inner.append_bytes += bytes;
                inner.appends.push_back(append);
                inner.appended += 1;
                drop(inner);
                self.work.notify_one();
                return Ok(Ok(()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Err(append));
            }
            inner = self.room.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Adds a command; `make` gets the number of appends taken in so far.
    pub(super) fn command(&self, make: impl FnOnce(u64) -> Command) -> Result<(), JournalError> {
        let mut inner = self.inner();
        if let Some(error) = &inner.closed {
            return Err(error.clone());
        }
        let command = make(inner.appended);
        inner.commands.push_back(command);
        drop(inner);
        self.work.notify_one();
        Ok(())
    }

    /// Takes a report in, if there is room. Never waits, and is silent where nobody works any more.
    pub(super) fn report(&self, emission: Emission) {
        let mut inner = self.inner();
        if inner.closed.is_some() {
            return;
        }
        if inner.reports.len() >= QUEUED_REPORTS {
            inner.reports_lost += 1;
            return;
        }
        inner.reports.push_back(emission);
        drop(inner);
        self.work.notify_one();
    }

    /// The disk's thread has done a job.
    pub(super) fn done(&self, done: Done) {
        self.inner().done.push(done);
        self.work.notify_one();
    }

    /// Waits for work until `deadline`; with `want_events` appends and reports are such, too.
    pub(super) fn wait(&self, deadline: Instant, want_events: bool) {
        let mut inner = self.inner();
        loop {
            let ready = !(inner.commands.is_empty() && inner.done.is_empty())
                || (want_events && !(inner.appends.is_empty() && inner.reports.is_empty()))
                || inner.stopping;
            let left = deadline.saturating_duration_since(Instant::now());
            if ready || left.is_zero() {
                return;
            }
            inner = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many events and outcomes wait to be written, about; no end of them when it is time to
    /// stop.
    pub(super) fn records(&self) -> usize {
        let inner = self.inner();
        if inner.stopping {
            return usize::MAX;
        }
        let appends: usize = inner.appends.iter().map(|append| append.events.len().max(1)).sum();
        let commands: usize = inner.commands.iter().map(records).sum();
        appends + commands
    }

    /// Takes all commands and, if wanted, all reports and appends of up to `max_events` events (one
    /// append at least).
    pub(super) fn take(&self, want_events: bool, max_events: usize) -> Work {
        let mut inner = self.inner();
        let mut appends = Vec::new();
        let mut events = 0;
        while want_events
            && let Some(next) = inner.appends.front()
            && (appends.is_empty() || events + next.events.len() <= max_events)
            && let Some(append) = inner.appends.pop_front()
        {
            events += append.events.len();
            inner.append_bytes -= cost(&append);
            appends.push(append);
        }
        let commands = inner.commands.drain(..).collect();
        let done = std::mem::take(&mut inner.done);
        let (mut reports, mut reports_lost) = (VecDeque::new(), 0);
        if want_events {
            reports = std::mem::take(&mut inner.reports);
            reports_lost = std::mem::take(&mut inner.reports_lost);
        }
        let last = inner.appends.is_empty() && inner.reports.is_empty();
        let stopping = inner.stopping;
        drop(inner);
        if !appends.is_empty() {
            self.room.notify_all();
        }
        Work { appends, commands, reports, reports_lost, done, stopping, last }
    }

    /// Asks the writer to stop when it has done what is queued.
    pub(super) fn stop(&self) {
        self.inner().stopping = true;
        self.work.notify_one();
    }

    /// Refuses everything from now on, and what is queued too, unless it is closed already.
    pub(super) fn close(&self, why: JournalError) {
        let mut inner = self.inner();
        inner.closed.get_or_insert(why);
        inner.appends.clear();
        inner.append_bytes = 0;
        inner.reports.clear();
        // Dropping a command drops its reply, which its caller sees as the journal being closed.
        inner.commands.clear();
        drop(inner);
        self.room.notify_all();
    }

    /// Why everything is refused, if it is.
    pub(super) fn closed(&self) -> Option<JournalError> {
        self.inner().closed.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway, so a poisoned queue is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much a command has to be written down, about.
fn records(command: &Command) -> usize {
    match command {
        Command::Settle(settlement, _) => settlement.outcomes.len().max(1),
        _ => 1,
    }
}

/// What an append takes in memory, about.
fn cost(append: &Append) -> usize {
    append.events.bytes()
        + append.events.len() * size_of::<crate::event::Event>()
        + append.taken.len() * size_of::<crate::capture::OutboxRow>()
}
