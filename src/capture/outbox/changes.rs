//! Rows of the outbox become changes.

use std::borrow::Cow;

use tracing::warn;

use super::queue::{Batch, Queue};
use super::row::{Entry, Raw, last_written};
use super::{Drainer, Ended};
use crate::capture::change::{
    Change, ChangeSink, OutboxRow, Position, Recorded, RecordedKind, Transaction,
};
use crate::capture::error::{CaptureError, Refusal};
use crate::capture::wait::ask;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;

impl<S: ChangeSink> Drainer<'_, S> {
    /// Yields the rows of a batch.
    pub(super) fn take(&mut self, queue: &Queue, batch: &Batch) -> Result<(), Ended> {
        const DOING: &str = "reading the outbox";
        let failed = CaptureError::while_doing;
        self.tables.learn(&batch.digests).map_err(failed(DOING))?;
        let mut met = Vec::new();
        for row in &batch.rows {
            let relation: Option<u32> =
                row.try_get(7).map_err(PgError::from).map_err(failed(DOING))?;
            met.extend(relation.filter(|relation| met.last() != Some(relation)));
        }
        let unknown = self.tables.unknown(&mut met);
        if !unknown.is_empty() {
            let look_up = self.tables.look_up(&queue.client, &unknown);
            ask(self.runtime, self.progress, "reading the tables from the catalog", look_up)?;
        }
        self.committed = last_written(&batch.rows).map_err(failed(DOING))?;
        for row in &batch.rows {
            if self.sink.is_full() {
                self.hand_over()?;
            }
            let entry = Entry::of(row).map_err(failed(DOING))?;
            if entry.outbox != queue.outbox {
                return Err(CaptureError::not_yet("the outbox was made anew").into());
            }
            self.take_one(&entry)?;
            self.remembered.take(entry.row);
            self.open = true;
            self.sink.took(entry.row);
        }
        Ok(())
    }

    fn take_one(&mut self, entry: &Entry<'_>) -> Result<(), CaptureError> {
        let kind = match entry.op {
            b'I' => RecordedKind::Insert,
            b'U' => RecordedKind::Update,
            b'D' => RecordedKind::Delete,
            b'T' => RecordedKind::Truncate,
            b'M' => {
                let content = self.text(entry, entry.new)?.unwrap_or_default();
                let content = content.as_bytes();
                return self.change(entry, &Change::Message { prefix: b"walhook", content });
            }
            b'L' => return self.dropped(entry),
            b'X' => return self.failed(entry),
            op => return Err(CaptureError::unknown_op(op, entry.row.id)),
        };
        let (old, new) = (self.text(entry, entry.old)?, self.text(entry, entry.new)?);
        let table = self.tables.table(entry.relation, entry.name);
        let (old, new) = (old.as_deref(), new.as_deref());
        self.change(entry, &Change::Recorded(Recorded { kind, table: &table, old, new }))
    }

    fn change(&mut self, entry: &Entry<'_>, change: &Change<'_>) -> Result<(), CaptureError> {
        let OutboxRow { id, xid, written_at_us } = entry.row;
        let transaction = Transaction {
            commit_lsn: self.committed.get(&xid).copied().unwrap_or(entry.lsn),
            committed_at_us: written_at_us,
            // as Transaction has it
            xid: xid as u32,
            row_lsn: entry.lsn,
        };
        let position = Position { commit_lsn: Lsn(id.cast_unsigned()), ordinal: entry.ordinal };
        self.sink.change(&transaction, position, change).map_err(CaptureError::sink)?;
        self.position = Some(position);
        Ok(())
    }

    /// Rows were dropped, since too many waited.
    fn dropped(&mut self, entry: &Entry<'_>) -> Result<(), CaptureError> {
        let said = self.text(entry, entry.new)?.unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let mut dropped = said["dropped"].as_u64();
        // Some of them were read before.
        for run in said["numbers"].as_array().into_iter().flatten() {
            let (Some(first), Some(last)) = (run[0].as_i64(), run[1].as_i64()) else { continue };
            let told = self.remembered.were_dropped(first, last);
            dropped = dropped.map(|dropped| dropped.saturating_sub(told));
        }
        if dropped == Some(0) {
            return Ok(());
        }
        warn!(
            dropped,
            "the oldest rows of the outbox were dropped unread, as more than outbox_max_rows waited"
        );
        let why = "the oldest rows of the outbox were dropped unread, as more than \
                   outbox_max_rows waited";
        self.sink.lost(dropped, why.to_owned());
        Ok(())
    }

    /// A trigger could not record a change.
    fn failed(&mut self, entry: &Entry<'_>) -> Result<(), CaptureError> {
        let said = self.text(entry, entry.new)?.unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let table = self.tables.table(entry.relation, entry.name);
        let why = format!(
            "a change of table {:?}.{:?} could not be recorded: {}",
            table.schema,
            table.name,
            said["error"].as_str().unwrap_or("the trigger did not say why")
        );
        self.failures += 1;
        // Not each one: what fails once fails often.
        if self.failures.is_power_of_two() {
            warn!(failures = self.failures, "{why}");
        }
        self.sink.lost(Some(1), why);
        Ok(())
    }

    fn text<'e>(
        &self,
        entry: &Entry<'e>,
        raw: Option<Raw<'e>>,
    ) -> Result<Option<Cow<'e, str>>, CaptureError> {
        let Some(raw) = raw else { return Ok(None) };
        let text = raw.text(self.options.replace_invalid_utf8);
        text.map(Some).ok_or_else(|| Refusal::UnreadableRow { id: entry.row.id }.into())
    }
}
