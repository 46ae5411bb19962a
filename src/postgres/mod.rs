//! Everything that speaks Postgres: log positions, connections, the replication protocol,
//! pgoutput, the catalog, slots and publications. This room never names an event, a webhook or
//! the journal.

pub mod catalog;
pub mod connection;
pub mod error;
pub mod lsn;
pub mod pattern;
pub mod pgoutput;
pub mod predicate;
pub mod publication;
pub mod relation;
pub mod replication;
pub mod slot;
pub mod sql;
mod tls;

pub use connection::{Client, ConnectionOptions, connect};
pub use error::PgError;
pub use pattern::TablePattern;
