//! Which rows of a table are wanted, and who sees to it: the publication, or capture itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::postgres::lsn::Lsn;
use crate::postgres::pattern::{TablePattern, choose};

/// Tables and which of their rows are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFilter {
    /// The tables. Those without a filter are listed too, since a table's exact name comes before
    /// any pattern.
    pub pattern: TablePattern,
    /// An SQL expression over the table's columns; none means all rows.
    pub expression: Option<String>,
}

/// All row filters. Shared between capture, which asks with every table's description, and whoever
/// looks after the publication, which may come to apply a filter itself while the stream runs.
#[derive(Debug, Default)]
pub struct RowFilters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    filters: Vec<TableFilter>,
    /// By schema and table: from where on the publication applies the filter.
    applied_from: HashMap<(String, String), Lsn>,
    generation: u64,
}

/// A table's row filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFilter {
    /// The SQL expression.
    pub expression: String,
    /// Rows whose record begins here or later have passed the same filter in the publication; none
    /// where it has no such filter.
    pub applied_from: Option<Lsn>,
}

impl RowFilters {
    /// These filters, none of which the publication is known to apply.
    pub fn new(filters: Vec<TableFilter>) -> RowFilters {
        let state = State { filters, ..State::default() };
        RowFilters { state: Mutex::new(state) }
    }

    /// Puts these in the place of all others; what the publication applies has to be said again.
    pub fn replace(&self, filters: Vec<TableFilter>) {
        let mut state = self.state();
        *state = State { filters, applied_from: HashMap::new(), generation: state.generation + 1 };
    }

    /// Says from where on the publication applies the filters of these tables, and that it applies
    /// none of the others'.
    pub fn applied(&self, applied_from: HashMap<(String, String), Lsn>) {
        let mut state = self.state();
        if state.applied_from != applied_from {
            state.applied_from = applied_from;
            state.generation += 1;
        }
    }

    /// The filter of a table.
    pub fn of(&self, schema: &str, name: &str) -> Option<RowFilter> {
        let state = self.state();
        let chosen = choose(&state.filters, |filter| &filter.pattern, schema, name)?;
        let expression = chosen.expression.clone()?;
        let table = (schema.to_owned(), name.to_owned());
        Some(RowFilter { expression, applied_from: state.applied_from.get(&table).copied() })
    }

    /// Grows with every change, so that what was found out before is known to be old.
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the lock is let go, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
