//! Why a change makes no event though it should.

use std::fmt;

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
}

impl RuleError {
    pub(super) fn invalid_utf8(relation: &Relation, column: usize) -> RuleError {
        let column = relation.columns.get(column).map_or_else(String::new, |it| it.name.clone());
        RuleError::new(relation, Kind::InvalidUtf8 { column })
    }

    pub(super) fn column_count(relation: &Relation, found: usize) -> RuleError {
        RuleError::new(relation, Kind::ColumnCount { expected: relation.columns.len(), found })
    }

    fn new(relation: &Relation, kind: Kind) -> RuleError {
        RuleError { schema: relation.schema.clone(), table: relation.name.clone(), kind }
    }

    /// Whether a value is not UTF-8, and so not fit for JSON.
    pub fn is_invalid_utf8(&self) -> bool {
        matches!(self.kind, Kind::InvalidUtf8 { .. })
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
        }
    }
}

impl std::error::Error for RuleError {}
