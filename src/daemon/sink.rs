//! From capture to the journal: applies the event rules and hands batches over.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::capture::{CaptureKind, Change, ChangeSink, OutboxRow, Position, Source, Transaction};
use crate::event::{EventBatch, EventRules, Report, RulesOptions};
use crate::journal::{Append, Checkpoint, DurableSoon, Journal, SourceIdentity};
use crate::postgres::lsn::Lsn;

use super::error::DaemonError;
use super::tables::Tables;

/// Enough for one journal transaction: more would make outcomes of deliveries wait behind it.
const FULL_EVENTS: usize = 256;
/// The same in bytes.
const FULL_BYTES: usize = 256 * 1024;
/// The same in rows of an outbox, most of which may make no event.
const FULL_ROWS: usize = 2_048;
/// Between attempts to make something durable while that fails.
const FLUSH_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How often a position that moves without events is written down.
const QUIET_CHECKPOINT_EVERY: Duration = Duration::from_millis(50);

/// How long one wait for room takes while nothing else is to be done.
const ROOM_STEP: Duration = Duration::from_secs(1);

/// What the rules need besides the source's identity, which only the connection tells.
#[derive(Clone)]
pub(super) struct RulesParts {
    pub(super) tables: Arc<Tables>,
    pub(super) int8_as_string: bool,
    pub(super) replace_invalid_utf8: bool,
}

pub(super) struct JournalSink {
    journal: Journal,
    capture: CaptureKind,
    slot: String,
    parts: RulesParts,
    rules: Option<EventRules>,
    source: Option<Source>,
    /// Of the tables that `rules` are made of.
    generation: u64,
    batch: EventBatch,
    /// The rows of the outbox that the batch is about, whether they made events or not.
    taken: Vec<OutboxRow>,
    /// How many changes those rows say are lost.
    lost: u64,
    /// Whether those before are deleted, and the journal was not told.
    deleted: bool,
    /// What is to become durable.
    flush: Option<DurableSoon>,
    /// What was given to the journal and didn't find room yet.
    waiting: Option<Append>,
    position: Position,
    resume_lsn: Lsn,
    /// Whether the position moved since the journal was told.
    moved: bool,
    /// Changes that could not be told.
    left_out: u64,
    quiet_checkpoint_due: Instant,
}

impl JournalSink {
    /// `slot` is empty where the capture has none.
    pub(super) fn new(
        journal: Journal,
        capture: CaptureKind,
        slot: String,
        parts: RulesParts,
    ) -> JournalSink {
        let checkpoint = journal.checkpoint();
        JournalSink {
            journal,
            capture,
            slot,
            parts,
            rules: None,
            source: None,
            generation: 0,
            batch: EventBatch::default(),
            taken: Vec::new(),
            lost: 0,
            deleted: false,
            flush: None,
            waiting: None,
            position: checkpoint.as_ref().map(|stored| stored.position).unwrap_or_default(),
            resume_lsn: checkpoint.as_ref().map(|stored| stored.resume_lsn).unwrap_or_default(),
            moved: false,
            left_out: 0,
            quiet_checkpoint_due: Instant::now(),
        }
    }

    fn place(&self) -> Checkpoint {
        Checkpoint { position: self.position, resume_lsn: self.resume_lsn }
    }

    /// Takes the tables that are in force now. A transaction is told by one set of rules, whatever
    /// happens to the configuration meanwhile.
    fn take_tables(&mut self) {
        self.generation = self.parts.tables.generation();
        if let Some(rules) = &mut self.rules {
            rules.set_tables(self.parts.tables.rules());
        }
    }

    /// Goes on without a change that can never be an event: stopping at it would hold up all others
    /// until somebody comes who can only delete it.
    fn leave_out(&mut self, position: Position, error: &crate::event::RuleError) {
        self.left_out += 1;
        // Not each one: what is wrong with one row is likely to be wrong with many.
        if self.left_out.is_power_of_two() {
            let reason = format!(
                "change {} of the outbox makes no event, the {}. since walhook started: {error}",
                position.commit_lsn.0, self.left_out
            );
            tracing::error!("{reason}");
            self.journal.report(Report::Gap { endpoint: None, events: Some(1), reason });
        }
    }

    fn make_rules(&mut self) {
        let Some(source) = &self.source else { return };
        self.generation = self.parts.tables.generation();
        self.rules = Some(EventRules::new(RulesOptions {
            system_identifier: source.system_identifier,
            database_oid: source.database_oid,
            database: source.database.clone(),
            capture: self.capture.as_str(),
            tables: self.parts.tables.rules(),
            int8_as_string: self.parts.int8_as_string,
            replace_invalid_utf8: self.parts.replace_invalid_utf8,
            message_prefix: "walhook".to_owned(),
        }));
    }

    /// Replaces a stored position, which may be ahead of the stream. Until that is durable, the
    /// server must not be told anything, and the journal not be said to belong to this source: a
    /// position that was refused there would pass after the next restart.
    fn start_afresh(&mut self) -> Result<(), DaemonError> {
        self.moved = true;
        self.quiet_checkpoint_due = Instant::now();
        while !self.hand_over(Instant::now() + ROOM_STEP)? {}
        Ok(self.journal.make_durable()?)
    }
}

impl ChangeSink for JournalSink {
    type Error = DaemonError;

    fn connected(
        &mut self,
        source: &Source,
        position: Option<Position>,
        resume_lsn: Lsn,
    ) -> Result<(), DaemonError> {
        // Usually what it is already. A stream that starts afresh may be behind it, and its changes
        // must not be taken for known ones after the next restart.
        self.position = position.unwrap_or_default();
        self.moved |= resume_lsn != self.resume_lsn;
        self.resume_lsn = resume_lsn;
        let is_ahead = |stored: Checkpoint| {
            position.is_none() && stored.position != Position::default()
                || stored.resume_lsn > resume_lsn
        };
        // Of another way of capture, it is no position of this one.
        let other = self.journal.identity().is_some_and(|id| id.capture != self.capture);
        if other || self.journal.checkpoint().is_some_and(is_ahead) {
            self.start_afresh()?;
        }
        self.source = Some(source.clone());
        self.make_rules();
        let identity = SourceIdentity {
            system_identifier: source.system_identifier,
            database_oid: source.database_oid,
            database: source.database.clone(),
            timeline: source.timeline,
            capture: self.capture,
            slot: self.slot.clone(),
        };
        if self.journal.identity().as_ref() != Some(&identity) {
            self.journal.set_identity(identity)?;
        }
        Ok(())
    }

    fn gap_accepted(&mut self, why: &str) {
        let reason = format!("changes were lost, and that was accepted: {why}");
        self.journal.report(Report::Gap { endpoint: None, events: None, reason });
    }

    fn change(
        &mut self,
        transaction: &Transaction,
        position: Position,
        change: &Change<'_>,
    ) -> Result<(), DaemonError> {
        let begins = position.commit_lsn != self.position.commit_lsn;
        if begins && self.generation != self.parts.tables.generation() {
            self.take_tables();
        }
        let Some(rules) = self.rules.as_mut() else {
            return Err(DaemonError::internal("a change came before its source was known"));
        };
        match rules.apply(transaction, position, change, &mut self.batch) {
            Ok(()) => {}
            Err(error) if error.is_of_one_change() => self.leave_out(position, &error),
            Err(error) => return Err(DaemonError::rule(error, transaction, &self.slot)),
        }
        self.position = position;
        self.moved = true;
        Ok(())
    }

    fn caught_up_to(&mut self, resume_lsn: Lsn) -> Result<(), DaemonError> {
        self.moved |= resume_lsn != self.resume_lsn;
        self.resume_lsn = resume_lsn;
        Ok(())
    }

    fn hand_over(&mut self, deadline: Instant) -> Result<bool, DaemonError> {
        loop {
            let append = match self.waiting.take() {
                Some(append) => append,
                None if !self.moved => return Ok(true),
                None if self.batch.is_empty()
                    && self.taken.is_empty()
                    && Instant::now() < self.quiet_checkpoint_due =>
                {
                    return Ok(true);
                }
                None => {
                    self.moved = false;
                    self.quiet_checkpoint_due = Instant::now() + QUIET_CHECKPOINT_EVERY;
                    Append {
                        events: self.batch.take(),
                        checkpoint: self.place(),
                        deleted: std::mem::take(&mut self.deleted),
                        taken: std::mem::take(&mut self.taken),
                        lost: std::mem::take(&mut self.lost),
                    }
                }
            };
            // What was asked for before does not concern this.
            self.flush = None;
            if let Err(append) = self.journal.append(append, deadline)? {
                self.waiting = Some(append);
                return Ok(false);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= FULL_EVENTS
            || self.batch.bytes() >= FULL_BYTES
            || self.taken.len() >= FULL_ROWS
    }

    fn durable_lsn(&self) -> Lsn {
        self.journal.durable_lsn()
    }

    fn took(&mut self, row: OutboxRow) {
        self.taken.push(row);
        self.moved = true;
    }

    fn deleted(&mut self) {
        self.deleted = true;
    }

    fn lost(&mut self, changes: Option<u64>, why: String) {
        self.lost = self.lost.saturating_add(changes.unwrap_or(1));
        self.journal.report(Report::Gap { endpoint: None, events: changes, reason: why });
    }

    fn make_durable(&mut self, deadline: Instant) -> Result<bool, DaemonError> {
        let flush = match self.flush.take() {
            Some(flush) => flush,
            None => self.journal.durable_soon()?,
        };
        match flush.wait(deadline) {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.flush = Some(flush);
                Ok(false)
            }
            // The journal says itself what its trouble is, and tries on.
            Err(error) if error.is_retryable() => {
                thread::sleep(
                    FLUSH_AGAIN_AFTER.min(deadline.saturating_duration_since(Instant::now())),
                );
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::{Recorded, RecordedKind, RecordedTable};
    use crate::journal::JournalOptions;

    use super::*;

    fn source(timeline: u32) -> Source {
        Source { system_identifier: 7, timeline, database: "crm".to_owned(), database_oid: 5 }
    }

    fn sink(journal: &Journal) -> JournalSink {
        let tables = Arc::new(Tables::new(Vec::new()));
        let parts = RulesParts { tables, int8_as_string: false, replace_invalid_utf8: false };
        let slot = "walhook".to_owned();
        JournalSink::new(journal.clone(), CaptureKind::Replication, slot, parts)
    }

    #[test]
    fn a_change_that_was_recorded_badly_holds_up_no_other() {
        let directory = tempfile::TempDir::new().unwrap();
        let options = JournalOptions::new(directory.path().join("walhook.db"));
        let (journal, writer) = Journal::open(options).unwrap();
        let mut sink = sink(&journal);
        let pattern = crate::postgres::TablePattern::exact("public", "people");
        let rule = crate::event::TableRule::new(pattern, None);
        let table = crate::config::TableConfig { rule, filter: None, whole: false };
        sink.parts.tables = Arc::new(Tables::new(vec![table]));
        sink.capture = CaptureKind::Outbox;
        sink.connected(&source(1), None, Lsn(10)).unwrap();
        let table = Arc::new(RecordedTable {
            id: crate::postgres::relation::RelationId(1),
            schema: "public".to_owned(),
            name: "people".to_owned(),
            key: Vec::new(),
            columns: Vec::new(),
            unseen: Vec::new(),
        });
        let transaction =
            Transaction { commit_lsn: Lsn(1), committed_at_us: 0, xid: 1, row_lsn: Lsn(1) };
        for (number, new) in [(1, "[]"), (2, r#"{"id":1}"#), (3, "{"), (4, r#"{"id":2}"#)] {
            let kind = RecordedKind::Insert;
            let recorded = Recorded { kind, table: &table, old: None, new: Some(new) };
            let position = Position { commit_lsn: Lsn(number), ordinal: 0 };
            sink.change(&transaction, position, &Change::Recorded(recorded)).unwrap();
            assert_eq!(sink.position, position);
        }
        assert_eq!((sink.batch.len(), sink.left_out), (2, 2));
        writer.stop().unwrap();
    }

    #[test]
    fn a_stream_that_starts_further_back_is_not_durable_ahead_of_itself() {
        let directory = tempfile::TempDir::new().unwrap();
        let options = JournalOptions::new(directory.path().join("walhook.db"));
        let (journal, writer) = Journal::open(options).unwrap();
        let mut sink = sink(&journal);
        let position = Position { commit_lsn: Lsn(900), ordinal: 3 };
        sink.connected(&source(1), None, Lsn(10)).unwrap();
        sink.position = position;
        sink.caught_up_to(Lsn(1000)).unwrap();
        sink.quiet_checkpoint_due = Instant::now();
        assert!(sink.hand_over(Instant::now()).unwrap());
        journal.make_durable().unwrap();
        assert_eq!(sink.durable_lsn(), Lsn(1000));

        // On it goes after an interruption: nothing changes.
        sink.connected(&source(1), Some(position), Lsn(1000)).unwrap();
        assert_eq!(sink.durable_lsn(), Lsn(1000));

        // A standby that took over never had the quiet end of the log.
        sink.connected(&source(2), Some(position), Lsn(950)).unwrap();
        assert_eq!(sink.durable_lsn(), Lsn(950));
        assert_eq!(journal.checkpoint(), Some(Checkpoint { position, resume_lsn: Lsn(950) }));

        // The server was restored, and the loss accepted.
        sink.connected(&source(2), None, Lsn(500)).unwrap();
        assert_eq!(sink.durable_lsn(), Lsn(500));
        let checkpoint = Checkpoint { position: Position::default(), resume_lsn: Lsn(500) };
        assert_eq!(journal.checkpoint(), Some(checkpoint));
        assert_eq!(journal.identity().unwrap().timeline, 2);
        writer.stop().unwrap();
    }
}
