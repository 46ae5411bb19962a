//! From capture to the journal: applies the event rules and hands batches over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capture::{CaptureKind, Change, ChangeSink, Position, Source, Transaction};
use crate::event::{EventBatch, EventRules, Report, RulesOptions};
use crate::journal::{Append, Checkpoint, Journal, SourceIdentity};
use crate::postgres::lsn::Lsn;

use super::error::DaemonError;
use super::tables::Tables;

/// Enough for one journal transaction: more would make outcomes of deliveries wait behind it.
const FULL_EVENTS: usize = 256;
/// The same in bytes.
const FULL_BYTES: usize = 256 * 1024;
/// How often a position that moves without events is written down.
const QUIET_CHECKPOINT_EVERY: Duration = Duration::from_millis(50);

/// How long one wait for room takes while nothing else is to be done.
const ROOM_STEP: Duration = Duration::from_secs(1);

/// What the rules need besides the source's identity, which only the connection tells.
pub(super) struct RulesParts {
    pub(super) tables: Arc<Tables>,
    pub(super) capture: CaptureKind,
    pub(super) int8_as_string: bool,
    pub(super) replace_invalid_utf8: bool,
}

pub(super) struct JournalSink {
    journal: Journal,
    slot: String,
    parts: RulesParts,
    rules: Option<EventRules>,
    source: Option<Source>,
    /// Of the tables that `rules` are made of.
    generation: u64,
    batch: EventBatch,
    /// What was given to the journal and didn't find room yet.
    waiting: Option<Append>,
    position: Position,
    resume_lsn: Lsn,
    /// Whether the position moved since the journal was told.
    moved: bool,
    quiet_checkpoint_due: Instant,
}

impl JournalSink {
    pub(super) fn new(journal: Journal, slot: String, parts: RulesParts) -> JournalSink {
        let checkpoint = journal.checkpoint();
        JournalSink {
            journal,
            slot,
            parts,
            rules: None,
            source: None,
            generation: 0,
            batch: EventBatch::default(),
            waiting: None,
            position: checkpoint.as_ref().map(|stored| stored.position).unwrap_or_default(),
            resume_lsn: checkpoint.as_ref().map(|stored| stored.resume_lsn).unwrap_or_default(),
            moved: false,
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

    fn make_rules(&mut self) {
        let Some(source) = &self.source else { return };
        self.generation = self.parts.tables.generation();
        self.rules = Some(EventRules::new(RulesOptions {
            system_identifier: source.system_identifier,
            database_oid: source.database_oid,
            database: source.database.clone(),
            capture: self.parts.capture.as_str(),
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
        if self.journal.checkpoint().is_some_and(is_ahead) {
            self.start_afresh()?;
        }
        self.source = Some(source.clone());
        self.make_rules();
        let identity = SourceIdentity {
            system_identifier: source.system_identifier,
            database_oid: source.database_oid,
            database: source.database.clone(),
            timeline: source.timeline,
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
        rules
            .apply(transaction, position, change, &mut self.batch)
            .map_err(|error| DaemonError::rule(error, transaction, &self.slot))?;
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
                None if self.batch.is_empty() && Instant::now() < self.quiet_checkpoint_due => {
                    return Ok(true);
                }
                None => {
                    self.moved = false;
                    self.quiet_checkpoint_due = Instant::now() + QUIET_CHECKPOINT_EVERY;
                    Append { events: self.batch.take(), checkpoint: self.place() }
                }
            };
            if let Err(append) = self.journal.append(append, deadline)? {
                self.waiting = Some(append);
                return Ok(false);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= FULL_EVENTS || self.batch.bytes() >= FULL_BYTES
    }

    fn durable_lsn(&self) -> Lsn {
        self.journal.durable_lsn()
    }
}

#[cfg(test)]
mod tests {
    use crate::journal::JournalOptions;

    use super::*;

    fn source(timeline: u32) -> Source {
        Source { system_identifier: 7, timeline, database: "crm".to_owned(), database_oid: 5 }
    }

    fn sink(journal: &Journal) -> JournalSink {
        let tables = Arc::new(Tables::new(Vec::new()));
        let parts = RulesParts {
            tables,
            capture: CaptureKind::Replication,
            int8_as_string: false,
            replace_invalid_utf8: false,
        };
        JournalSink::new(journal.clone(), "walhook".to_owned(), parts)
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
