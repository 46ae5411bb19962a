//! Capture from the outbox, a table that triggers fill: take the lowest rows, wait until the journal
//! has them for good, then delete them.
//!
//! It is a queue and not a log: rows come in the order of their numbers as far as they are committed,
//! and one whose transaction took long comes later, before higher ones. The rows of one record were
//! numbered under its lock, so among those there is no other order. What was taken and is not known
//! to be deleted is remembered, here and in the journal, and deleted first after an interruption.

mod changes;
mod floor;
mod pooler;
mod queue;
mod remembered;
mod row;
mod switch;
mod tables;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::postgres::connection::{self, Client, ConnectionOptions};
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;

use super::change::{ChangeSink, OutboxRow, Position, Source};
use super::error::{CaptureError, Refusal};
use super::position::StartPoint;
use super::progress::Progress;
use super::wait::{
    Delay, LONGEST_DELAY, answer_within, ask, settle, sleep_unless_stopped, unless_stopped,
};

pub use switch::{Switched, drain_switched};

use queue::Queue;
use remembered::Remembered;
use tables::Tables;

/// Between attempts to get the lock that another has.
const LOCK_ASKED_EVERY: Duration = Duration::from_millis(500);
/// A look at the empty outbox may take this part of the time at most. It takes long where somebody's
/// old snapshot (a dump, a report) keeps the server from passing over all that was deleted since.
const LOOK_SHARE: u32 = 4;
/// But it is looked that often at least.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How long a session may be idle, beyond the time between two looks, before the server ends it.
const IDLE: Duration = Duration::from_secs(60);
/// The server counts it in milliseconds, of 31 bits.
const LONGEST_IDLE: Duration = Duration::from_secs(20 * 24 * 3600);
/// How long the server may take to find a batch, and the network to bring it. The server gives up
/// before that, or else it would go on, and keep the lock, while we try again.
const BATCH_WITHIN: Duration = Duration::from_secs(300);
/// How soon an order to stop is noticed while there is no room downstream.
const NOTICE_EVERY: Duration = Duration::from_millis(50);
const DRAINING: &str = "draining the outbox";
/// How long a stop waits for the last rows to become durable.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What to follow.
#[derive(Clone, Debug)]
pub struct OutboxOptions {
    /// Where the database is.
    pub connection: ConnectionOptions,
    /// How often the outbox is looked at while it is empty, whatever notifications say.
    pub poll: Duration,
    /// Whether to listen for the triggers' notifications.
    pub notify: bool,
    /// Whether U+FFFD stands for bytes that are not UTF-8, instead of an error.
    pub replace_invalid_utf8: bool,
}

/// Where an earlier run stopped.
#[derive(Clone, Debug)]
pub struct OutboxStart {
    /// Whose outbox it was, the last row that was taken, and the number of batches.
    pub point: StartPoint,
    /// The rows that were taken and are not known to be deleted.
    pub taken: Vec<OutboxRow>,
}

/// Follows the outbox until told to stop through `progress`, reconnecting as often as it takes.
///
/// Blocks: it wants a thread of its own, outside of the runtime behind `runtime`, which it uses for
/// its connection.
///
/// # Errors
/// A refusal where going on would lose changes, and whatever no second try can change.
pub fn run_outbox<S: ChangeSink>(
    options: &OutboxOptions,
    start: Option<OutboxStart>,
    sink: &mut S,
    progress: &Progress,
    runtime: &Handle,
) -> Result<(), CaptureError> {
    let result = Drainer::new(options, start, sink, progress, runtime).follow_on();
    settle(sink);
    result
}

struct Drainer<'a, S: ChangeSink> {
    options: &'a OutboxOptions,
    sink: &'a mut S,
    progress: &'a Progress,
    runtime: &'a Handle,
    /// The last row taken.
    position: Option<Position>,
    /// How many batches the journal was given, of whichever outbox.
    batch: Lsn,
    /// Whose outbox it was; none before the first connection of a new journal.
    source: Option<Source>,
    /// The rows taken that are not known to be deleted.
    remembered: Remembered,
    /// Whether some of these were not counted as a batch yet.
    open: bool,
    tables: Tables,
    /// What stands for the commit's position of the transactions at hand.
    committed: HashMap<u64, Lsn>,
    /// Whether this is the rest of an outbox that is not filled any more, and where that ended.
    rest: bool,
    switched_lsn: Option<Lsn>,
    /// Changes that could not be recorded.
    failures: u64,
    /// Whether any connection came as far as draining.
    worked: bool,
    /// Whether the last one drained for a while or brought something.
    got_on: bool,
}

/// What ended a step before its end.
enum Ended {
    /// The order to stop.
    Stopped,
    Failed(CaptureError),
}

impl From<CaptureError> for Ended {
    fn from(error: CaptureError) -> Ended {
        Ended::Failed(error)
    }
}

impl<'a, S: ChangeSink> Drainer<'a, S> {
    fn new(
        options: &'a OutboxOptions,
        start: Option<OutboxStart>,
        sink: &'a mut S,
        progress: &'a Progress,
        runtime: &'a Handle,
    ) -> Drainer<'a, S> {
        let (point, taken) =
            start.map_or((None, Vec::new()), |OutboxStart { point, taken }| (Some(point), taken));
        Drainer {
            options,
            sink,
            progress,
            runtime,
            position: point.as_ref().and_then(|point| point.position),
            batch: point.as_ref().map_or(Lsn::ZERO, |point| point.resume_lsn),
            source: point.map(|point| point.source),
            remembered: Remembered::new(taken),
            open: false,
            tables: Tables::default(),
            committed: HashMap::new(),
            rest: false,
            switched_lsn: None,
            failures: 0,
            worked: false,
            got_on: false,
        }
    }
}

impl<S: ChangeSink> Drainer<'_, S> {
    /// One connection after the other, until told to stop.
    fn follow_on(&mut self) -> Result<(), CaptureError> {
        let mut delay = Delay::default();
        while !self.progress.is_stopping() {
            let ended = self.follow();
            self.progress.streaming(false);
            let error = match ended {
                Ok(()) | Err(Ended::Stopped) => return Ok(()),
                Err(Ended::Failed(error)) => error,
            };
            if self.progress.is_stopping() && error.is_connection() {
                break;
            }
            let may_pass = error.is_retryable() || (self.worked && error.is_connection());
            if !may_pass {
                return Err(error);
            }
            if std::mem::take(&mut self.got_on) {
                delay = Delay::default();
            }
            let wait = delay.next();
            let retry_in_ms = wait.as_millis() as u64;
            warn!(retry_in_ms, "waiting for {}: {error}", self.options.connection);
            sleep_unless_stopped(wait, self.progress);
        }
        Ok(())
    }

    /// One connection, from its start to its end.
    fn follow(&mut self) -> Result<(), Ended> {
        let options = self.options;
        let heard = Arc::new(Notify::new());
        let connecting = connection::connect_to_listen(&options.connection, &heard);
        let client = unless_stopped(self.runtime, self.progress, connecting)
            .map_err(CaptureError::while_doing("connecting"))?;
        if self.ask(pooler::gives_others_our_session(&client, &options.connection))? {
            return Err(CaptureError::pooled(self.worked).into());
        }
        let (source, outbox, process) = self.lock(&client)?;
        let idle = IDLE.saturating_add(options.poll).min(LONGEST_IDLE);
        let queue = Queue::open(client, outbox, process, idle, options.notify);
        let mut queue = self.ask(queue)?;
        // What was taken over an earlier connection is deleted before anything is read.
        self.make_durable()?;
        self.delete(&queue)?;
        self.say_timeline(&source);
        let connected = self.sink.connected(&source, self.position, self.batch);
        connected.map_err(CaptureError::sink)?;
        info!("draining the outbox of {}", options.connection);
        self.source = Some(source);
        self.worked = true;
        self.progress.streaming(true);
        let (began, batch) = (Instant::now(), self.batch);
        let result = self.drain(&mut queue, &heard);
        self.got_on = began.elapsed() > LONGEST_DELAY || self.batch != batch;
        result
    }

    /// Waits until the outbox is there and ours; says whose it is, its oid, and the server's process
    /// that has the lock for us.
    fn lock(&mut self, client: &Client) -> Result<(Source, u32, i32), Ended> {
        let mut said = false;
        loop {
            let (source, outbox) = self.look(client)?;
            if let Some(process) = self.ask(queue::lock(client, outbox))? {
                return Ok((source, outbox, process));
            }
            if !said {
                info!(
                    "another walhook drains the outbox of {}: waiting until it leaves",
                    self.options.connection
                );
                said = true;
            }
            sleep_unless_stopped(LOCK_ASKED_EVERY, self.progress);
            if self.progress.is_stopping() {
                return Err(Ended::Stopped);
            }
        }
    }

    /// Whose outbox is it, and is it the one that the journal is about?
    fn look(&mut self, client: &Client) -> Result<(Source, u32), CaptureError> {
        let expected = self.source.as_ref().map(|source| source.system_identifier);
        let found = self.ask(queue::find(client, expected))?;
        if found.in_recovery {
            return Err(CaptureError::not_yet(
                "this is a standby, whose outbox can only be read: going on when it is promoted, or \
                 when the primary is back (with several hosts in source.url, \
                 target_session_attrs=read-write passes standbys over)",
            ));
        }
        if found.read_only {
            return Err(CaptureError::not_yet(
                "the database is read-only (default_transaction_read_only), so nothing could be \
                 deleted from the outbox: going on when it is not any more",
            ));
        }
        if let Some(known) = &self.source {
            if known.system_identifier != found.source.system_identifier {
                return Err(Refusal::ForeignCluster {
                    expected: known.system_identifier,
                    found: found.source.system_identifier,
                }
                .into());
            }
            if known.database_oid != found.source.database_oid {
                return Err(Refusal::ForeignDatabase { expected: known.database.clone() }.into());
            }
        }
        self.switched_lsn = found.switched_lsn;
        match (found.outbox, found.switched_lsn) {
            (Some(_), Some(lsn)) if !self.rest => Err(CaptureError::switched(lsn)),
            (Some(_), None) if self.rest => Err(CaptureError::not_switched()),
            (Some(outbox), _) => Ok((found.source, outbox)),
            (None, _) if self.rest => Err(Refusal::OutboxLeft.into()),
            (None, _) if self.source.is_some() => Err(Refusal::OutboxMissing.into()),
            (None, _) => Err(CaptureError::no_outbox()),
        }
    }

    /// A promoted standby may lack what was taken from its primary last, and the deletions of that: an
    /// outbox cannot tell.
    fn say_timeline(&self, now: &Source) {
        let Some(before) = &self.source else { return };
        let (old, new) = (before.timeline, now.timeline);
        if old != new && old != 0 && new != 0 {
            warn!(
                "the server is on timeline {new}, after {old}: it was restored, or a standby took \
                 over; if it lagged behind, events were sent of changes that it does not have, and \
                 others come again, by the ids they had"
            );
        }
    }

    /// Takes batches until told to stop, or until no more can come. Each round, in this order:
    /// 1. delete what the journal has for good, and read the next batch;
    /// 2. yield it, handing over whenever enough was gathered;
    /// 3. have it made durable;
    /// 4. wait, if there was nothing.
    fn drain(&mut self, queue: &mut Queue, heard: &Notify) -> Result<(), Ended> {
        loop {
            if self.remembered.are_too_many_held() {
                self.wait_for_held(queue)?;
                if self.progress.is_stopping() {
                    return self.finish(queue);
                }
                continue;
            }
            let asked = Instant::now();
            // The rest is known to be all only when all was looked through.
            let (taken, held) = (self.remembered.taken(), self.remembered.held());
            let next = queue.next(taken, held, self.tables.recent(), self.rest);
            let batch = match self.ask_long(next) {
                // What was taken before is deleted by itself, and then it is tried again.
                Err(error)
                    if (error.is_locked() || error.is_untranslatable()) && !taken.is_empty() =>
                {
                    if self.progress.is_stopping() {
                        return self.finish(queue);
                    }
                    self.delete(queue)?;
                    continue;
                }
                Err(error) if error.is_untranslatable() => return Err(self.refuse(queue, error)),
                batch => batch?,
            };
            let took = asked.elapsed();
            if batch.rows.is_empty() {
                self.remembered.all_is_counted();
            }
            if !self.remembered.taken().is_empty() {
                self.remembered.taken_are_gone(&batch.deleted);
                self.say_what_lasts();
            }
            if !batch.is_ours {
                return Err(CaptureError::pooled(true).into());
            }
            let nothing = batch.rows.is_empty();
            let taken = self.take(queue, &batch);
            drop(batch);
            let durable = taken.and_then(|()| self.make_durable());
            if self.progress.is_stopping() {
                return self.finish(queue);
            }
            durable?;
            self.ask(queue.settle(took))?;
            if self.remembered.rest_of_held() == Some(Duration::ZERO) {
                self.delete(queue)?;
            }
            if nothing {
                if self.rest && self.remembered.held().is_empty() {
                    return Ok(());
                }
                let rest = (took * LOOK_SHARE).min(LONGEST_REST);
                self.wait(heard, self.options.poll.max(rest));
            }
            if self.progress.is_stopping() {
                return self.finish(queue);
            }
        }
    }

    /// Which row it is that the server cannot turn into UTF-8. If that is gone, the error may pass.
    fn refuse(&self, queue: &Queue, error: CaptureError) -> Ended {
        match self.ask_long(queue.first_untranslatable(self.remembered.held())) {
            Ok(Some((id, said))) => Ended::Failed(Refusal::UntranslatableRow { id, said }.into()),
            Ok(None) | Err(_) => Ended::Failed(error),
        }
    }

    /// Until something may be there.
    fn wait(&self, heard: &Notify, poll: Duration) {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.progress.stopping() => {}
                () = heard.notified() => {}
                () = tokio::time::sleep(poll) => {}
            }
        });
    }

    /// Passes on what was gathered.
    fn hand_over(&mut self) -> Result<(), Ended> {
        self.hand_over_until(None)
    }

    /// The same until then, order to stop or not.
    fn hand_over_until(&mut self, deadline: Option<Instant>) -> Result<(), Ended> {
        loop {
            let step = Instant::now() + NOTICE_EVERY;
            if self.sink.hand_over(step).map_err(CaptureError::sink)? {
                return Ok(());
            }
            self.may_wait(deadline)?;
        }
    }

    /// Has everything that was taken made durable.
    fn make_durable(&mut self) -> Result<(), Ended> {
        self.make_durable_until(None)
    }

    fn make_durable_until(&mut self, deadline: Option<Instant>) -> Result<(), Ended> {
        if std::mem::take(&mut self.open) {
            self.batch = Lsn(self.batch.0.saturating_add(1));
            self.sink.caught_up_to(self.batch).map_err(CaptureError::sink)?;
        }
        loop {
            self.hand_over_until(deadline)?;
            if self.sink.durable_lsn() >= self.batch {
                return Ok(());
            }
            let step = Instant::now() + NOTICE_EVERY;
            if !self.sink.make_durable(step).map_err(CaptureError::sink)? {
                self.may_wait(deadline)?;
            }
        }
    }

    /// Whether to wait on: as long as nobody says to stop, or else until the deadline.
    fn may_wait(&self, deadline: Option<Instant>) -> Result<(), Ended> {
        let enough = match deadline {
            Some(deadline) => Instant::now() >= deadline,
            None => self.progress.is_stopping(),
        };
        if enough { Err(Ended::Stopped) } else { Ok(()) }
    }

    /// Lets what was taken become durable, and deletes it: whoever drains this outbox next may have
    /// another journal.
    fn finish(&mut self, queue: &Queue) -> Result<(), Ended> {
        self.make_durable_until(Some(Instant::now() + STOP_GRACE))?;
        Ok(self.delete(queue)?)
    }

    /// Deletes what was taken, as far as nobody has locked it.
    fn delete(&mut self, queue: &Queue) -> Result<(), CaptureError> {
        let all = self.remembered.all();
        if all.is_empty() {
            return Ok(());
        }
        let (begun, held_before) = (Instant::now(), self.remembered.held().len());
        let (held, deleted) = self.ask_long(queue.delete(&all))?;
        let rows = held.len();
        self.remembered.all_are_gone_but(held, &deleted, begun.elapsed());
        self.say_what_lasts();
        if rows > 0 && held_before == 0 {
            info!(
                rows,
                "a transaction that goes on has locked rows of the outbox, which are sent already: \
                 they are deleted when it ends"
            );
        }
        Ok(())
    }

    /// Too many rows are locked: nothing more is read until some of them can be deleted.
    fn wait_for_held(&mut self, queue: &Queue) -> Result<(), CaptureError> {
        let rest = self.remembered.rest_of_held().unwrap_or_default();
        sleep_unless_stopped(rest, self.progress);
        if self.progress.is_stopping() { Ok(()) } else { self.delete(queue) }
    }

    /// The journal forgets what was taken, but for those that are held, and those that may have been
    /// dropped: they are remembered until it is said which were.
    fn say_what_lasts(&mut self) {
        self.sink.deleted();
        for row in self.remembered.lasting() {
            self.sink.took(row);
        }
    }

    fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, CaptureError> {
        ask(self.runtime, self.progress, DRAINING, question)
    }

    /// The same for what may take long: rows to be found, brought or deleted.
    fn ask_long<T>(
        &self,
        question: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, CaptureError> {
        let answer = answer_within(BATCH_WITHIN, self.runtime, self.progress, question);
        answer.map_err(CaptureError::while_doing(DRAINING))
    }
}
