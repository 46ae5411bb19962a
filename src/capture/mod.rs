//! Capture follows a database and yields its committed changes in commit order, and is told what
//! is durable. It knows neither events nor endpoints: who listens implements [`ChangeSink`].

pub mod change;
pub mod error;
pub mod position;
pub mod progress;
mod relations;
pub mod replication;
mod session;

pub use change::{Change, ChangeSink, Position, Source, Transaction};
pub use error::CaptureError;
pub use position::StartPoint;
pub use progress::Progress;
pub use replication::{ReplicationOptions, run_replication};
