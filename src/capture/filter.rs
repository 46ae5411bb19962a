//! Which rows of a table are wanted, and who sees to it: the publication, or capture itself.

mod sieve;
mod verdict;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use sieve::{FilterServer, Sieve};

use crate::postgres::lsn::Lsn;
use crate::postgres::pattern::{TablePattern, choose};
use crate::postgres::relation::RelationId;

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
///
/// Where the publication does not apply a filter, capture does, with the semantics of publications
/// (<https://www.postgresql.org/docs/current/logical-replication-row-filter.html>): a row is wanted
/// when the expression is true, and unwanted when it is false or null. The server evaluates it,
/// over the row as it was in the log.
///
/// | change | old row | new row | becomes |
/// |---|---|---|---|
/// | insert | | wanted | insert |
/// | insert | | unwanted | nothing |
/// | update | wanted | wanted | update |
/// | update | unwanted | wanted | insert |
/// | update | wanted | unwanted | delete |
/// | update | unwanted | unwanted | nothing |
/// | update | not known | wanted | update |
/// | update | not known | unwanted | nothing |
/// | delete | wanted | | delete |
/// | delete | unwanted | | nothing |
///
/// - *Not known* is what the filter cannot judge: it uses a column that the change does not tell (a
///   key-only old row, a large value that did not change). A delete or update of which this is all
///   that is known passes: one too many does less harm than one that is missing.
/// - A row that *cannot be evaluated* (a division by zero, text that is no number) is unwanted, as
///   if the expression were null: a filter may be what keeps one customer's rows from another, and
///   what was sent cannot be taken back. The log says so, with the row's position and the server's
///   words, the 1st, 2nd, 4th, 8th … time for each table. It neither stops nor holds up the stream.
/// - A filter that *cannot be prepared* for its table (a column renamed, a function dropped) holds
///   the stream: capture tries again and again, and says why. Nothing is lost or sent meanwhile,
///   and a corrected filter lets it go on.
/// - TRUNCATE passes, and messages do.
#[derive(Debug, Default)]
pub struct RowFilters {
    state: Mutex<State>,
    /// Grows with every change of `state`.
    generation: AtomicU64,
    /// How many looks at the publication have begun.
    looks: AtomicU64,
    /// The number of the last look that told what the publication applies.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    filters: Vec<TableFilter>,
    applied: Applied,
}

/// By schema and table: from where on the publication applies the filter, and to which table, as
/// another may have taken its name.
pub type Applied = HashMap<(String, String), (RelationId, Lsn)>;

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
        RowFilters { state: Mutex::new(state), ..RowFilters::default() }
    }

    /// Puts these in the place of all others; what the publication applies has to be said again.
    pub fn replace(&self, filters: Vec<TableFilter>) {
        let mut state = self.state();
        *state = State { filters, ..State::default() };
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A look at the publication begins: the number by which [`applied`](Self::applied) is told.
    ///
    /// The server describes a table anew after every change of a publication. From then on what
    /// earlier looks found does not count for that table: somebody may have taken the filter out.
    pub fn look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Says what a look found: from where on the publication applies the filters of these tables,
    /// and that it applies none of the others'.
    pub fn applied(&self, look: u64, applied: Applied) {
        let mut state = self.state();
        if state.applied != applied {
            state.applied = applied;
            self.generation.fetch_add(1, Ordering::Release);
        }
        // last: who sees the number sees the rest, too
        self.told.store(look, Ordering::Release);
    }

    /// How many looks have begun.
    fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    /// The last look that told something. To be asked before the generation.
    fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// The filter of a table.
    pub fn of(&self, id: RelationId, schema: &str, name: &str) -> Option<RowFilter> {
        let state = self.state();
        let chosen = choose(&state.filters, |filter| &filter.pattern, schema, name)?;
        let expression = chosen.expression.clone()?;
        let table = (schema.to_owned(), name.to_owned());
        let applied = state.applied.get(&table).filter(|(to, _)| *to == id);
        Some(RowFilter { expression, applied_from: applied.map(|(_, from)| *from) })
    }

    /// Grows with every change, so that what was found out before is known to be old.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether no table has a filter.
    pub fn is_empty(&self) -> bool {
        self.state().filters.iter().all(|filter| filter.expression.is_none())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the lock is let go, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
