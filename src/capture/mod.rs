//! Capture follows a database and yields its committed changes in commit order, and is told what
//! is durable. It knows neither events nor endpoints: who listens implements [`ChangeSink`].

pub mod change;
pub mod error;
pub mod filter;
mod gather;
pub mod outbox;
pub mod position;
pub mod progress;
mod relations;
pub mod replication;
mod session;
mod timeline;
mod wait;

pub use change::{
    CaptureKind, Change, ChangeSink, OutboxRow, Position, Recorded, RecordedKind, RecordedTable,
    Source, Transaction,
};
pub(crate) use error::REPLACE;
pub use error::{CaptureError, LeaveOut};
pub use filter::{RowFilters, TableFilter};
pub use outbox::{OutboxOptions, OutboxStart, Switched, drain_switched, run_outbox};
pub use position::StartPoint;
pub use progress::Progress;
pub use replication::{Origin, ReplicationOptions, run_replication};
