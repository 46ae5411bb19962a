//! Whether a database is ready to be followed, and making it so: the logic behind `check`, `setup`,
//! `teardown` and the database's half of `status`. This room knows Postgres and nothing else: no
//! file of configuration, no endpoint, no journal.
//!
//! What is wrong is returned as [`Finding`]s, what would be done as a [`Plan`]; printing either is
//! the caller's.

mod advice;
pub mod check;
mod error;
mod facts;
pub mod failover;
mod filter;
mod finding;
mod outbox;
mod plan;
mod run;
pub mod setup;
pub mod status;
mod target;
pub mod teardown;
pub mod watch;
mod wish;

pub(crate) use advice::bytes;
pub use error::SourceError;
pub use facts::{Facts, gather};
pub use filter::{FilterFacts, Form};
pub use finding::{Finding, Severity};
pub use outbox::switch::gave_way;
pub use plan::{Plan, Progress, Step};

use crate::postgres::TablePattern;

/// What walhook needs in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// The replication slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// The tables to follow. For a table that several mean, see
    /// [`choose`](crate::postgres::pattern::choose).
    pub tables: Vec<TableSpec>,
    /// Whether standbys shall keep a copy of the slot (17 and newer).
    pub failover: bool,
    /// Whether the daemon may create what is missing, so that `check` need not call it an error.
    pub create: bool,
    /// Follow by triggers that fill an outbox, not by publication and slot.
    pub outbox: Option<OutboxSpec>,
}

/// How triggers fill the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSpec {
    /// Whether they notify, so that a change is seen before the next look.
    pub notify: bool,
    /// How many rows may wait.
    pub max_rows: u64,
    /// What happens when more than that wait.
    pub policy: OutboxPolicy,
    /// Whether changes that logical replication brings into this database are left out.
    pub local_only: bool,
    /// Whether teardown drops rows that nobody has read.
    pub discard_unread: bool,
}

/// What happens when too many rows wait in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboxPolicy {
    /// It grows on, and that is said.
    #[default]
    BlockNever,
    /// The oldest are dropped; that is counted and said.
    DropOldest,
}

impl SourceOptions {
    /// The tables that are named exactly, as schema and name.
    pub fn exact_names(&self) -> Vec<(String, String)> {
        let exact = self.tables.iter().filter_map(|table| table.pattern.as_exact());
        exact.map(|(schema, name)| (schema.to_owned(), name.to_owned())).collect()
    }
}

/// Tables to follow, and what is wanted of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Which tables.
    pub pattern: TablePattern,
    /// The columns whose values are wanted; none means all, those to come as well.
    pub columns: Option<Vec<String>>,
    /// The columns that are to be left out. A publication cannot say that, triggers can.
    pub exclude: Vec<String>,
    /// Which rows are wanted, as an SQL expression over the table's columns.
    pub filter: Option<String>,
    /// The column that marks a row as deleted. Its old value tells whether that is news.
    pub soft_delete: Option<String>,
    /// Publish schemas (or the database) as a whole where the pattern means whole ones: a table
    /// created later is published from its first row on, be its updates harmed by that or not.
    pub whole: bool,
}

impl TableSpec {
    /// All of one table.
    pub fn exact(schema: impl Into<String>, name: impl Into<String>) -> TableSpec {
        TableSpec {
            pattern: TablePattern::exact(schema, name),
            columns: None,
            exclude: Vec::new(),
            filter: None,
            soft_delete: None,
            whole: false,
        }
    }
}
