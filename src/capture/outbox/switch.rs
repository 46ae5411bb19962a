//! From the outbox to logical replication, without a change lost or told twice.
//!
//! `walhook setup` creates the slot and then, with all writers locked out, drops the triggers and
//! notes where the log stands. So what was committed before that place is in the outbox and perhaps
//! in the slot, and what was committed later is in the slot alone.

use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::capture::change::{ChangeSink, Position, Source};
use crate::capture::error::{CaptureError, Refusal};
use crate::capture::position::StartPoint;
use crate::capture::progress::Progress;
use crate::capture::wait::{Delay, settle, sleep_unless_stopped};
use crate::postgres::lsn::Lsn;
use crate::postgres::replication::{ReplicationClient, SystemIdentity};

use super::{Drainer, OutboxOptions, OutboxStart};

/// How to go on once the outbox is empty.
#[derive(Clone, Debug)]
pub enum Switched {
    /// From there on the slot has everything.
    At(StartPoint),
    /// Wherever the slot stands: changes are lost, and that was accepted.
    Anywhere,
    /// Told to stop before.
    Stopped,
}

/// Takes what is left in the outbox that an earlier run followed, and says where to go on from there
/// by replication. As [`run_outbox`](super::run_outbox) otherwise.
///
/// # Errors
/// Those of [`run_outbox`](super::run_outbox); and one where triggers still fill the outbox.
pub fn drain_switched<S: ChangeSink>(
    options: &OutboxOptions,
    start: OutboxStart,
    accept_gap: bool,
    sink: &mut S,
    progress: &Progress,
    runtime: &Handle,
) -> Result<Switched, CaptureError> {
    let mut drainer = Drainer::new(options, Some(start), sink, progress, runtime);
    drainer.rest = true;
    let result = drainer.follow_on();
    let (source, switched_lsn) = (drainer.source.take(), drainer.switched_lsn);
    settle(sink);
    match result {
        Err(error) if accept_gap && error.is_outbox_left() => {
            sink.gap_accepted(&Refusal::OutboxLeft.loss());
            return Ok(Switched::Anywhere);
        }
        result => result?,
    }
    let (Some(source), Some(switched_lsn)) = (source, switched_lsn) else {
        return Ok(Switched::Stopped);
    };
    if progress.is_stopping() {
        return Ok(Switched::Stopped);
    }
    info!(
        switched_lsn = %switched_lsn,
        "the outbox is empty, and what was committed since {switched_lsn} comes from the slot"
    );
    let Some(source) = as_replicated(options, source, progress)? else {
        return Ok(Switched::Stopped);
    };
    // Whatever was committed before that place is passed over, and the place is behind all of it.
    let position =
        Position { commit_lsn: Lsn(switched_lsn.0.saturating_sub(1)), ordinal: i64::MAX as u64 };
    Ok(Switched::At(StartPoint { source, position: Some(position), resume_lsn: switched_lsn }))
}

/// The same source, as every replication connection is told who it is; none if told to stop.
fn as_replicated(
    options: &OutboxOptions,
    source: Source,
    progress: &Progress,
) -> Result<Option<Source>, CaptureError> {
    let mut delay = Delay::default();
    while !progress.is_stopping() {
        match identify(options) {
            Ok(SystemIdentity { system_identifier, timeline, .. }) => {
                return Ok(Some(Source { system_identifier, timeline, ..source }));
            }
            Err(error) if error.is_retryable() => {
                let wait = delay.next();
                warn!(retry_in_ms = wait.as_millis() as u64, "trying again: {error}");
                sleep_unless_stopped(wait, progress);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn identify(options: &OutboxOptions) -> Result<SystemIdentity, CaptureError> {
    let mut client = ReplicationClient::connect(&options.connection)
        .map_err(CaptureError::while_doing("connecting for replication"))?;
    client.identify_system().map_err(CaptureError::while_doing("asking the server who it is"))
}
