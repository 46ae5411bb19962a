//! From a change that a trigger recorded to its event: the one that the log would have made of it
//! under REPLICA IDENTITY FULL, but for `source.capture`.
//!
//! Values are compared as the trigger wrote them, and so differ where their texts do. Not told apart
//! are a jsonb `null` and no value, and arrays that differ only in where their indexes begin.

mod shape;

use super::row::enclose;
use super::{EventRules, Row, RuleError};
use crate::capture::change::{Position, Recorded, RecordedKind, Transaction};
use crate::event::batch::{EventBatch, Lanes};
use crate::event::object::Object;
use crate::event::plan::Verb;
use crate::event::render::recorded as render;
use crate::postgres::pattern::choose;
pub(super) use shape::Shapes;

/// A row's values as JSON, by its table's columns; nothing for a column that it does not have.
type Values<'a> = Vec<Option<&'a str>>;

impl EventRules {
    /// Appends the event of a recorded change, if its table is followed.
    pub(super) fn recorded(
        &mut self,
        transaction: &Transaction,
        position: Position,
        recorded: &Recorded<'_>,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        let table = recorded.table;
        let (old, new) = match rows(recorded) {
            Ok(rows) => rows,
            Err(error) => {
                let rule = choose(&self.tables, |rule| &rule.pattern, &table.schema, &table.name);
                return if rule.is_some() { Err(error) } else { Ok(()) };
            }
        };
        let shape = self.shapes.of(table, new.as_ref().or(old.as_ref()));
        let old = old.map(|row| shape.values(&row));
        let new = new.map(|row| shape.values(&row));
        let relation = shape.relation().clone();
        let Some(event) = self.row(&relation, transaction, position) else { return Ok(()) };
        let bytes = recorded.new.or(recorded.old).map_or(0, str::len);
        match (recorded.kind, old, new) {
            (RecordedKind::Insert, _, Some(new)) => event.inserted(&new, bytes, batch),
            (RecordedKind::Update, old, Some(new)) => event.changed(old, &new, bytes, batch),
            (RecordedKind::Delete, Some(old), _) => event.removed(&old, bytes, batch),
            // Of the others, only a truncation got through `rows`.
            _ => event.truncated(batch),
        }
    }
}

/// The rows that the kind of change is about.
fn rows<'a>(
    recorded: &Recorded<'a>,
) -> Result<(Option<Object<'a>>, Option<Object<'a>>), RuleError> {
    let read = |name: &'static str, row: Option<&'a str>, is_needed: bool| match row {
        Some(row) => match Object::parse(row) {
            Ok(row) => Ok(Some(row)),
            Err(error) => Err(RuleError::no_object(recorded.table, name, error.column())),
        },
        None if is_needed => Err(RuleError::no_row(recorded.table, name)),
        None => Ok(None),
    };
    Ok(match recorded.kind {
        RecordedKind::Insert => (None, read("new", recorded.new, true)?),
        // Who records no old rows gets events without old values.
        RecordedKind::Update => {
            (read("old", recorded.old, false)?, read("new", recorded.new, true)?)
        }
        RecordedKind::Delete => (read("old", recorded.old, true)?, None),
        RecordedKind::Truncate => (None, None),
    })
}

impl Row<'_> {
    fn inserted(
        &self,
        new: &[Option<&str>],
        bytes: usize,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        let lanes = self.plan.lane_of_json(new).map_or(Lanes::NONE, Lanes::one);
        self.push(batch, Verb::Created, lanes, bytes, |out| {
            self.json_row(out, present(new));
            Ok(())
        })
    }

    fn changed(
        &self,
        old: Option<Values<'_>>,
        new: &[Option<&str>],
        bytes: usize,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        let old = old.as_deref();
        let old_lane = old.and_then(|old| self.plan.lane_of_json(old));
        let lanes = match (old_lane, self.plan.lane_of_json(new)) {
            (Some(old), Some(new)) => Lanes::two(old, new),
            (None, Some(new)) => Lanes::one(new),
            _ => Lanes::NONE,
        };
        self.push(batch, self.plan.verb_of_json(old, new), lanes, bytes, |out| {
            self.json_row(out, present(new));
            let Some(old) = old else { return Ok(()) };
            // A column that only one of the rows has was not changed by this update.
            let changed = present(old).filter(|(column, old)| {
                let new = new.get(*column).copied().flatten();
                new.is_some_and(|new| new != *old) && self.plan.key(*column).is_some()
            });
            out.extend_from_slice(b",\"previous\":");
            self.json_row(out, changed.clone());
            out.extend_from_slice(b",\"updatedFields\":");
            self.names(out, changed.map(|(column, _)| column));
            Ok(())
        })
    }

    fn removed(
        &self,
        old: &[Option<&str>],
        bytes: usize,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        let lanes = self.plan.lane_of_json(old).map_or(Lanes::NONE, Lanes::one);
        self.push(batch, Verb::Deleted, lanes, bytes, |out| {
            self.json_row(out, present(old));
            Ok(())
        })
    }

    /// Appends columns as an object, without those that are not told.
    fn json_row<'v>(&self, out: &mut Vec<u8>, values: impl Iterator<Item = (usize, &'v str)>) {
        let start = out.len();
        let columns = &self.plan.relation.columns;
        for (column, json) in values {
            let (Some(key), Some(described)) = (self.plan.key(column), columns.get(column)) else {
                continue;
            };
            out.push(b',');
            out.extend_from_slice(key);
            render::json(out, &described.kind, json, self.options);
        }
        enclose(out, start, b'{', b'}');
    }
}

/// The values that a row has, with their columns.
fn present<'s, 'v>(
    values: &'s [Option<&'v str>],
) -> impl Iterator<Item = (usize, &'v str)> + Clone + use<'s, 'v> {
    values.iter().enumerate().filter_map(|(column, value)| Some((column, (*value)?)))
}
