//! One stretch of streaming, from START_REPLICATION to its end.

use std::thread;
use std::time::{Duration, Instant};

use crate::postgres::catalog::OwnedRelation;
use crate::postgres::lsn::Lsn;
use crate::postgres::pgoutput::{self, LogicalMessage};
use crate::postgres::replication::{ReplicationMessage, ReplicationStream, StatusUpdate};

use super::change::{Change, ChangeSink, Position, Transaction};
use super::error::CaptureError;
use super::filter::Sieve;
use super::gather::Gather;
use super::progress::Progress;
use super::relations::{Relations, Resolve};
use super::replication::Origin;
use super::timeline::TimelineWatch;

/// How often the server hears from us though nothing happens. The server gives up after
/// `wal_sender_timeout`, 60 s by default, and few set it below several seconds.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How soon the server is told that more has become durable, and how soon a stop is noticed.
const NOTICE_EVERY: Duration = Duration::from_millis(100);
/// How often an idle server is asked where it is, so that the slot follows log that other
/// databases of the cluster write.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How long the stream is kept while nothing becomes durable. A server that is told to shut down
/// waits for its readers to confirm everything, however long that takes, but lets go of one that
/// has left.
const LONGEST_STALL: Duration = Duration::from_secs(15);
/// How many rows the server is asked about, one after the other, before it is told again that
/// somebody reads: a busy machine may take milliseconds for each.
const MOST_QUESTIONS: u64 = 64;
/// How long a stop waits for the last changes to become durable.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What is known of the stream, kept over reconnections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The last change yielded.
    pub(super) position: Option<Position>,
    /// Where a new stream has to start.
    pub(super) resume_lsn: Lsn,
}

/// A transaction whose messages are coming.
#[derive(Clone, Copy, Debug)]
struct Open {
    transaction: Transaction,
    /// The number of its changes so far.
    changes: u64,
    /// Whether it was made on this server.
    ours: bool,
}

pub(super) struct Session<'a, S: ChangeSink> {
    pub(super) stream: ReplicationStream,
    pub(super) sink: &'a mut S,
    pub(super) place: &'a mut Place,
    pub(super) resolve: &'a mut Resolve<'a>,
    sieve: Sieve<'a>,
    origin: Origin,
    pub(super) progress: &'a Progress,
    /// Of a standby.
    pub(super) watch: Option<&'a TimelineWatch>,
    relations: Relations,
    open: Option<Open>,
    received_lsn: Lsn,
    reported_lsn: Lsn,
    status_due: Instant,
    ask_due: Instant,
    /// Whether there was no room downstream when it was last looked for.
    full: bool,
    /// When something became durable last, or nothing had to.
    flowing_at: Instant,
}

impl<'a, S: ChangeSink> Session<'a, S> {
    pub(super) fn new(
        stream: ReplicationStream,
        sink: &'a mut S,
        place: &'a mut Place,
        resolve: &'a mut Resolve<'a>,
        (sieve, origin): (Sieve<'a>, Origin),
        progress: &'a Progress,
    ) -> Session<'a, S> {
        let now = Instant::now();
        let received_lsn = place.resume_lsn;
        Session {
            stream,
            sink,
            place,
            resolve,
            sieve,
            origin,
            progress,
            watch: None,
            relations: Relations::default(),
            open: None,
            received_lsn,
            reported_lsn: Lsn::ZERO,
            status_due: now,
            ask_due: now + ASK_EVERY,
            full: false,
            flowing_at: now,
        }
    }

    /// Streams until told to stop. Each round, in this order:
    /// 1. a status update, if one is due: it never waits for data or for room downstream;
    /// 2. an end, if the server went on to another timeline, which the stored position has to name;
    /// 3. hand over what was gathered, if it is enough or no more is at hand;
    /// 4. stop, if told to;
    /// 5. read on, a moment later while the server is busy.
    pub(super) fn run(mut self) -> Result<(), CaptureError> {
        let mut gather = Gather::default();
        loop {
            self.report_if_due()?;
            if self.watch.is_some_and(TimelineWatch::has_moved) {
                self.finish()?;
                return Err(CaptureError::not_yet(
                    "the server is on another timeline now, as a standby that was promoted; \
                     connecting again",
                ));
            }
            let idle = !self.stream.has_buffered();
            if idle || self.sink.is_full() {
                let deadline = Instant::now() + NOTICE_EVERY;
                self.full = !self.sink.hand_over(deadline).map_err(CaptureError::sink)?;
                if self.full {
                    if self.progress.is_stopping() {
                        break;
                    }
                    continue;
                }
            }
            if idle {
                if self.progress.is_stopping() {
                    break;
                }
                if !gather.nap().is_zero() {
                    thread::sleep(gather.nap());
                }
                let waited_since = Instant::now();
                let got = self.read_one(waited_since + NOTICE_EVERY)?;
                let bytes = if got { self.stream.last_read_bytes() } else { 0 };
                gather.read(waited_since.elapsed(), bytes);
            } else {
                // At most a buffer full, without a look at the clock for each message; of those
                // that the server is asked about, only as many as take no time to speak of.
                let now = Instant::now();
                let asked_before = self.sieve.questions();
                while self.stream.has_buffered()
                    && !self.sink.is_full()
                    && self.sieve.questions() - asked_before < MOST_QUESTIONS
                {
                    self.read_one(now)?;
                }
            }
        }
        self.finish()
    }

    /// Takes one message; `false` when none came before `deadline`.
    fn read_one(&mut self, deadline: Instant) -> Result<bool, CaptureError> {
        let inside = self.open.map(|open| open.transaction.commit_lsn);
        let next = self.stream.next(deadline);
        let next = next.map_err(|error| CaptureError::streaming(error, inside))?;
        let mut taker = Taker {
            sink: self.sink,
            place: self.place,
            resolve: self.resolve,
            sieve: &mut self.sieve,
            origin: self.origin,
            relations: &mut self.relations,
            open: &mut self.open,
        };
        match next {
            None => return Ok(false),
            Some(ReplicationMessage::XLogData { wal_start, wal_end, sent_at_us, data }) => {
                self.received_lsn = self.received_lsn.max(wal_start).max(wal_end);
                taker.take(wal_start, sent_at_us, data)?;
            }
            Some(ReplicationMessage::Keepalive { wal_end, reply_requested, .. }) => {
                self.received_lsn = self.received_lsn.max(wal_end);
                taker.keepalive(wal_end)?;
                if reply_requested {
                    self.status_due = Instant::now();
                }
            }
        }
        self.progress.received(self.received_lsn);
        Ok(true)
    }

    /// What may be reported as flushed: durable, and received in this very stream. A position kept
    /// from another time must never reach the server, which would believe it.
    fn flushed_lsn(&self) -> Lsn {
        self.sink.durable_lsn().min(self.place.resume_lsn)
    }

    fn report_if_due(&mut self) -> Result<(), CaptureError> {
        let now = Instant::now();
        let moved = self.flushed_lsn() != self.reported_lsn;
        let due =
            if moved { self.status_due - (STATUS_EVERY - NOTICE_EVERY) } else { self.status_due };
        if now < due {
            return Ok(());
        }
        let ask = now >= self.ask_due;
        if ask {
            self.ask_due = now + ASK_EVERY;
        }
        self.report(ask)
    }

    fn report(&mut self, reply_requested: bool) -> Result<(), CaptureError> {
        let flushed_lsn = self.flushed_lsn();
        let status = StatusUpdate {
            received_lsn: self.received_lsn,
            flushed_lsn,
            applied_lsn: flushed_lsn,
            reply_requested,
        };
        self.stream.send_status(status).map_err(CaptureError::while_doing(STREAMING))?;
        let now = Instant::now();
        let moved = flushed_lsn != self.reported_lsn;
        if !self.full && (moved || flushed_lsn >= self.place.resume_lsn) {
            self.flowing_at = now;
        }
        self.status_due = now + STATUS_EVERY;
        self.reported_lsn = flushed_lsn;
        self.progress.confirmed(flushed_lsn);
        match now.duration_since(self.flowing_at) {
            stalled if stalled > LONGEST_STALL => Err(CaptureError::stalled(stalled)),
            _ => Ok(()),
        }
    }

    /// Lets what was handed over become durable, tells the server, and says goodbye.
    fn finish(mut self) -> Result<(), CaptureError> {
        let deadline = Instant::now() + STOP_GRACE;
        while Instant::now() < deadline {
            let step = deadline.min(Instant::now() + NOTICE_EVERY);
            let handed_over = self.sink.hand_over(step).map_err(CaptureError::sink)?;
            if handed_over && self.sink.durable_lsn() >= self.place.resume_lsn {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.report(false)?;
        self.stream.finish().map_err(CaptureError::while_doing("ending the replication stream"))
    }
}

const STREAMING: &str = "streaming changes";

/// The parts of a session that a message changes, apart from the stream it is borrowed from.
struct Taker<'s, 'r, S: ChangeSink> {
    sink: &'s mut S,
    place: &'s mut Place,
    resolve: &'s mut Resolve<'r>,
    sieve: &'s mut Sieve<'r>,
    origin: Origin,
    relations: &'s mut Relations,
    open: &'s mut Option<Open>,
}

impl<S: ChangeSink> Taker<'_, '_, S> {
    /// One pgoutput message, found at `wal_start`.
    fn take(&mut self, wal_start: Lsn, sent_at_us: i64, data: &[u8]) -> Result<(), CaptureError> {
        let message = match pgoutput::decode(data) {
            Ok(message) => message,
            Err(error) if error.is_invalid_utf8() => return self.take_misnamed(data),
            Err(error) => return Err(CaptureError::protocol(error.to_string())),
        };
        match message {
            LogicalMessage::Begin { final_lsn, committed_at_us, xid } => {
                if self.open.is_some() {
                    return Err(CaptureError::protocol("a transaction begins inside another"));
                }
                let transaction =
                    Transaction { commit_lsn: final_lsn, committed_at_us, xid, row_lsn: wal_start };
                *self.open = Some(Open { transaction, changes: 0, ours: true });
                Ok(())
            }
            LogicalMessage::Commit { end_lsn, .. } => {
                if self.open.take().is_none() {
                    return Err(CaptureError::protocol("a commit without a transaction"));
                }
                self.caught_up_to(end_lsn)
            }
            LogicalMessage::Relation(relation) => {
                self.relations.announced(OwnedRelation::from(&relation));
                Ok(())
            }
            LogicalMessage::Insert { relation, new } => {
                let relation = self.relations.of(relation, wal_start, self.resolve)?;
                self.change(wal_start, Change::Insert { relation: &relation, new })
            }
            LogicalMessage::Update { relation, old, new } => {
                let relation = self.relations.of(relation, wal_start, self.resolve)?;
                self.change(wal_start, Change::Update { relation: &relation, old, new })
            }
            LogicalMessage::Delete { relation, old } => {
                let relation = self.relations.of(relation, wal_start, self.resolve)?;
                self.change(wal_start, Change::Delete { relation: &relation, old })
            }
            LogicalMessage::Truncate { relations, .. } => {
                for id in relations.iter() {
                    let relation = self.relations.of(id, wal_start, self.resolve)?;
                    self.change(wal_start, Change::Truncate { relation: &relation })?;
                }
                Ok(())
            }
            LogicalMessage::Message { transactional: true, prefix, content, .. } => {
                self.change(wal_start, Change::Message { prefix, content })
            }
            LogicalMessage::Message { transactional: false, lsn, prefix, content } => {
                let transaction = Transaction {
                    commit_lsn: lsn,
                    committed_at_us: sent_at_us,
                    xid: 0,
                    row_lsn: lsn,
                };
                let position = Position { commit_lsn: lsn, ordinal: 0 };
                self.yield_new(&transaction, position, Change::Message { prefix, content })
            }
            LogicalMessage::Origin { .. } => {
                if let Some(open) = self.open.as_mut() {
                    open.ours = false;
                }
                Ok(())
            }
            LogicalMessage::Type { .. } => Ok(()),
        }
    }

    /// A message with names that are not UTF-8, in which U+FFFD takes the place of what is none. The
    /// name of a type is of no interest.
    fn take_misnamed(&mut self, data: &[u8]) -> Result<(), CaptureError> {
        let Some(data) = pgoutput::with_valid_names(data) else { return Ok(()) };
        match pgoutput::decode(&data) {
            Ok(LogicalMessage::Relation(relation)) => {
                self.relations.announced(OwnedRelation::from(&relation));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(CaptureError::protocol(error.to_string())),
        }
    }

    fn change(&mut self, row_lsn: Lsn, change: Change<'_>) -> Result<(), CaptureError> {
        let Some(open) = self.open.as_mut() else {
            return Err(CaptureError::protocol("a change outside of any transaction"));
        };
        open.transaction.row_lsn = row_lsn;
        let position = Position { commit_lsn: open.transaction.commit_lsn, ordinal: open.changes };
        open.changes += 1;
        if self.origin == Origin::None && !open.ours {
            return Ok(());
        }
        let transaction = open.transaction;
        self.yield_new(&transaction, position, change)
    }

    /// Yields a change unless it was yielded before the stream was interrupted, or is of a row that
    /// is not wanted.
    fn yield_new(
        &mut self,
        transaction: &Transaction,
        position: Position,
        change: Change<'_>,
    ) -> Result<(), CaptureError> {
        if self.place.position.is_some_and(|taken| position <= taken) {
            return Ok(());
        }
        let Some(change) = self.sieve.sift(transaction.row_lsn, change)? else { return Ok(()) };
        self.sink.change(transaction, position, &change).map_err(CaptureError::sink)?;
        self.place.position = Some(position);
        Ok(())
    }

    /// The server has sent everything of interest before `wal_end`. Inside a transaction that says
    /// nothing yet: its rows still come.
    fn keepalive(&mut self, wal_end: Lsn) -> Result<(), CaptureError> {
        if self.open.is_none() { self.caught_up_to(wal_end) } else { Ok(()) }
    }

    fn caught_up_to(&mut self, lsn: Lsn) -> Result<(), CaptureError> {
        if lsn > self.place.resume_lsn {
            self.place.resume_lsn = lsn;
            self.sink.caught_up_to(lsn).map_err(CaptureError::sink)?;
        }
        Ok(())
    }
}
