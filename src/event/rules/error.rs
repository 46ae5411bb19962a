//! Why a change makes no event though it should.

use std::fmt;

use crate::capture::change::RecordedTable;
use crate::postgres::relation::Relation;

/// A change that cannot be told as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    schema: String,
    table: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    InvalidUtf8 { column: String },
    ColumnCount { expected: usize, found: usize },
    NoRow { row: &'static str },
    NoObject { row: &'static str, byte: usize },
}

impl RuleError {
    pub(super) fn invalid_utf8(relation: &Relation, column: usize) -> RuleError {
        let column = relation.columns.get(column).map_or_else(String::new, |it| it.name.clone());
        RuleError::new(relation, Kind::InvalidUtf8 { column })
    }

    pub(super) fn column_count(relation: &Relation, found: usize) -> RuleError {
        RuleError::new(relation, Kind::ColumnCount { expected: relation.columns.len(), found })
    }

    /// A change was recorded without the row that it is about.
    pub(super) fn no_row(table: &RecordedTable, row: &'static str) -> RuleError {
        RuleError::recorded(table, Kind::NoRow { row })
    }

    /// A recorded row is not what it should be, from about this byte on. The parser's own words may
    /// quote the row, so only the place is told.
    pub(super) fn no_object(table: &RecordedTable, row: &'static str, byte: usize) -> RuleError {
        RuleError::recorded(table, Kind::NoObject { row, byte })
    }

    fn recorded(table: &RecordedTable, kind: Kind) -> RuleError {
        RuleError { schema: table.schema.clone(), table: table.name.clone(), kind }
    }

    fn new(relation: &Relation, kind: Kind) -> RuleError {
        RuleError { schema: relation.schema.clone(), table: relation.name.clone(), kind }
    }

    /// Whether a value is not UTF-8, and so not fit for JSON.
    pub fn is_invalid_utf8(&self) -> bool {
        matches!(self.kind, Kind::InvalidUtf8 { .. })
    }

    /// Whether only the change at hand is spoilt: what was recorded is not what a trigger of walhook
    /// writes, and no restart or setting makes it an event. Those behind it need not wait for it.
    pub fn is_of_one_change(&self) -> bool {
        matches!(self.kind, Kind::NoRow { .. } | Kind::NoObject { .. })
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleError { schema, table, kind } = self;
        match kind {
            Kind::InvalidUtf8 { column } => write!(
                f,
                "a value of column {column:?} of table {schema:?}.{table:?} is not UTF-8, so it \
                 cannot be sent as JSON"
            ),
            Kind::ColumnCount { expected, found } => write!(
                f,
                "the server sent a row of {found} columns for table {schema:?}.{table:?}, which it \
                 had announced with {expected}: restart walhook, which reads the table's \
                 description anew"
            ),
            Kind::NoRow { row } => write!(
                f,
                "a change of table {schema:?}.{table:?} was recorded without its {row} row: see \
                 who else than walhook's triggers writes to walhook.outbox"
            ),
            Kind::NoObject { row, byte } => write!(
                f,
                "the {row} row of a recorded change of table {schema:?}.{table:?} is not one JSON \
                 object, as its byte {byte} shows: see who else than walhook's triggers writes to \
                 walhook.outbox"
            ),
        }
    }
}

impl std::error::Error for RuleError {}
