//! What `walhook setup` does, done at the start where the configuration says so.

use std::time::Duration;

use tracing::{info, warn};

use crate::config::{SourceConfig, TableConfig};
use crate::postgres::connection::connect;
use crate::source::setup::setup;
use crate::source::{Progress, SourceError, SourceOptions};

use super::error::DaemonError;

/// How long an open transaction of somebody else may hold up the creation of the slot before it
/// is said that nothing works yet; then it is tried again.
const WAIT: Duration = Duration::from_secs(60);
/// Between attempts while the server cannot be reached.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Creates the publication and the slot if they are missing; waits for a server that cannot be
/// reached yet.
pub(super) async fn source(
    source: &SourceConfig,
    tables: &[TableConfig],
) -> Result<(), DaemonError> {
    let options = source.options(tables);
    loop {
        match once(source, &options).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() => {
                warn!("waiting for {} to be set up: {error}", source.connection);
                tokio::time::sleep(RETRY_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn once(source: &SourceConfig, options: &SourceOptions) -> Result<(), SourceError> {
    let client = connect(&source.connection).await?;
    let watcher = connect(&source.connection).await?;
    let mut report = |progress| match progress {
        Progress::Done(step) => info!(sql = step.sql, "setup {}", step.reason),
        Progress::Present(_) => {}
        Progress::Waiting(whom) => warn!("setup waits: {whom}"),
    };
    setup(&client, &watcher, options, WAIT, &mut report).await
}
