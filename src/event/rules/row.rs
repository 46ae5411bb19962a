//! A row's part of the envelope: `data`, `previous`, `updatedFields`, `unchanged`.

use super::{FRAME_BYTES, Row, RuleError};
use crate::event::batch::{EventBatch, Lanes};
use crate::event::plan::Verb;
use crate::event::render;
use crate::postgres::pgoutput::{OldTuple, TupleData, TupleValue};

impl Row<'_> {
    /// A row must have its table's columns.
    pub(super) fn check(&self, tuple: TupleData<'_>) -> Result<(), RuleError> {
        let relation = &self.plan.relation;
        if tuple.len() == relation.columns.len() {
            Ok(())
        } else {
            Err(RuleError::column_count(relation, tuple.len()))
        }
    }

    /// Appends an event whose `data` (and what follows up to `source`) `write` appends.
    pub(super) fn push(
        &self,
        batch: &mut EventBatch,
        verb: Verb,
        lanes: Lanes,
        row_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), RuleError>,
    ) -> Result<(), RuleError> {
        let id = self.parts.id(self.position);
        let name = self.plan.name(verb).clone();
        batch.push(id, name, lanes, self.transaction.committed_at_us, |out| {
            out.reserve(FRAME_BYTES + self.plan.source.len() + self.plan.keys_bytes + row_bytes);
            self.parts.write_head(out, id, self.plan.naming(verb));
            out.extend_from_slice(b",\"data\":");
            write(out)?;
            out.push(b',');
            let lsn = self.transaction.row_lsn;
            self.source.write(out, &self.plan.source, lsn, self.parts, self.position);
            Ok(())
        })
    }

    /// Appends columns as an object, without those that were not sent and those that are not told.
    pub(super) fn row<'v>(
        &self,
        out: &mut Vec<u8>,
        values: impl Iterator<Item = (usize, TupleValue<'v>)>,
    ) -> Result<(), RuleError> {
        let start = out.len();
        for (column, value) in values {
            let Some(key) = self.plan.key(column) else { continue };
            match value {
                TupleValue::UnchangedToast => {}
                TupleValue::Null => {
                    out.push(b',');
                    out.extend_from_slice(key);
                    out.extend_from_slice(b"null");
                }
                TupleValue::Text(text) => {
                    out.push(b',');
                    out.extend_from_slice(key);
                    let kind = &self.plan.relation.columns[column].kind;
                    render::value(out, kind, text, self.options)
                        .map_err(|_| RuleError::invalid_utf8(&self.plan.relation, column))?;
                }
            }
        }
        enclose(out, start, b'{', b'}');
        Ok(())
    }

    /// Appends columns' names as an array, without those that are not told.
    pub(super) fn names(&self, out: &mut Vec<u8>, columns: impl Iterator<Item = usize>) {
        let start = out.len();
        for column in columns {
            if let Some(name) = self.plan.quoted_name(column) {
                out.push(b',');
                out.extend_from_slice(name);
            }
        }
        enclose(out, start, b'[', b']');
    }

    /// Appends `unchanged`, if a value was not sent.
    pub(super) fn unchanged<'v>(
        &self,
        out: &mut Vec<u8>,
        values: impl Iterator<Item = TupleValue<'v>> + Clone,
    ) -> Result<(), RuleError> {
        let missing = |value: TupleValue<'_>| value == TupleValue::UnchangedToast;
        if !values.clone().any(missing) {
            return Ok(());
        }
        let columns = values.enumerate().filter(|(_, value)| missing(*value));
        let columns = columns.map(|(column, _)| column);
        let mut columns = columns.filter(|&column| self.plan.key(column).is_some()).peekable();
        if columns.peek().is_some() {
            out.extend_from_slice(b",\"unchanged\":");
            self.names(out, columns);
        }
        Ok(())
    }

    /// What is known of an old row, column by column: a key tells nothing of the others.
    pub(super) fn known<'v>(
        &self,
        old: OldTuple<'v>,
    ) -> impl Iterator<Item = Option<TupleValue<'v>>> + Clone {
        let full = matches!(old, OldTuple::Full(_));
        let columns = self.plan.relation.columns.iter();
        old.tuple().iter().zip(columns).map(move |(value, column)| {
            let known = full || column.in_replica_identity;
            (known && value != TupleValue::UnchangedToast).then_some(value)
        })
    }

    /// Appends the new row, and what differed in the old one.
    pub(super) fn both_rows(
        &self,
        out: &mut Vec<u8>,
        old: OldTuple<'_>,
        new: TupleData<'_>,
    ) -> Result<(), RuleError> {
        let both = new.iter().zip(self.known(old));
        let whole = both.clone().map(|(new, old)| match (new, old) {
            (TupleValue::UnchangedToast, Some(old)) => old,
            (new, _) => new,
        });
        let changed = both.enumerate().filter_map(|(column, (new, old))| {
            let old = old?;
            let changed = new != TupleValue::UnchangedToast && new != old;
            (changed && self.plan.key(column).is_some()).then_some((column, old))
        });
        self.row(out, whole.clone().enumerate())?;
        let full = matches!(old, OldTuple::Full(_));
        if full || changed.clone().next().is_some() {
            out.extend_from_slice(b",\"previous\":");
            self.row(out, changed.clone())?;
        }
        if full {
            out.extend_from_slice(b",\"updatedFields\":");
            self.names(out, changed.map(|(column, _)| column));
        }
        self.unchanged(out, whole)
    }
}

/// Turns `,a,b` after `start` into `{a,b}`.
pub(super) fn enclose(out: &mut Vec<u8>, start: usize, open: u8, close: u8) {
    match out.get_mut(start) {
        Some(comma) => *comma = open,
        None => out.push(open),
    }
    out.push(close);
}
