//! Capture follows a database and yields its committed changes in commit order, and is told what
//! is durable. It knows neither events nor endpoints: who listens implements [`ChangeSink`].

pub mod change;

pub use change::{Change, ChangeSink, Position, Transaction};
