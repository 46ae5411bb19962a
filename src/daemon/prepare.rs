//! The database at the start: what `walhook setup` does, where the configuration says so, and a look
//! for tables that would stay silent.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::config::{SourceConfig, TableConfig};
use crate::postgres::connection::connect;
use crate::postgres::error::PgError;
use crate::source::setup::setup;
use crate::source::{Finding, Progress, SourceError, SourceOptions, check, failover};

use super::error::DaemonError;

/// How long an open transaction of somebody else may hold up the creation of the slot before it
/// is said that nothing works yet; then it is tried again.
const WAIT: Duration = Duration::from_secs(60);
/// Between attempts while the server cannot be reached.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// How many attempts that fail alike go by before it is said again.
const SAY_EVERY: u32 = 30;

/// Creates the publication and the slot if they are missing; waits for a server that cannot be
/// reached yet.
pub(super) async fn source(
    source: &SourceConfig,
    tables: &[TableConfig],
) -> Result<(), DaemonError> {
    let options = source.options(tables);
    let mut said = String::new();
    for attempt in 0_u32.. {
        match once(source, &options).await {
            Ok(()) => break,
            Err(error) if error.is_retryable() => {
                let problem = error.to_string();
                if problem != said || attempt % SAY_EVERY == 0 {
                    warn!("publication and slot cannot be set up yet, trying on: {problem}");
                    said = problem;
                }
                tokio::time::sleep(RETRY_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Warns of every table of the configuration whose changes will not come: the stream itself has no
/// word for a name that does not exist, or that the publication leaves out. The daemon goes on, for
/// the sake of the other tables.
pub(super) async fn warn_of_silent_tables(source: SourceConfig, tables: Vec<TableConfig>) {
    let options = source.options(&tables);
    loop {
        match silent_tables(&source, &options).await {
            Ok(findings) => {
                for Finding { subject, sentence, remedy, .. } in findings {
                    warn!(remedy, "{subject} {sentence}");
                }
                return;
            }
            // Capture says itself that it waits.
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY_EVERY).await,
            Err(error) => return debug!("could not look for the tables: {error}"),
        }
    }
}

async fn silent_tables(
    source: &SourceConfig,
    options: &SourceOptions,
) -> Result<Vec<Finding>, PgError> {
    let client = connect(&source.connection).await?;
    check::missing_changes(&client, options).await
}

async fn once(source: &SourceConfig, options: &SourceOptions) -> Result<(), SourceError> {
    let client = connect(&source.connection).await?;
    let watcher = connect(&source.connection).await?;
    let mut report = |progress| match progress {
        Progress::Done(step) => info!(sql = step.sql, "setup {}", step.reason),
        Progress::Present(_) => {}
        Progress::Waiting(whom) => warn!("setup waits: {whom}"),
    };
    setup(&client, &watcher, options, WAIT, &mut report).await?;
    failover::enable(&source.connection, &client, options, &mut report).await
}
