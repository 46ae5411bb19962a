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
mod finding;
mod plan;
mod run;
pub mod setup;
pub mod status;
pub mod teardown;

pub(crate) use advice::bytes;
pub use error::SourceError;
pub use facts::{Facts, gather};
pub use finding::{Finding, Severity};
pub use plan::{Plan, Progress, Step};

/// What walhook needs in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// The replication slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// The tables to follow, as schema and name.
    pub tables: Vec<(String, String)>,
    /// Whether standbys shall keep a copy of the slot (17 and newer).
    pub failover: bool,
    /// Whether the daemon may create what is missing, so that `check` need not call it an error.
    pub create: bool,
}
