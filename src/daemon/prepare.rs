//! The database at the first start: what `walhook setup` does, where the configuration says so.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::config::{SourceConfig, TableConfig};
use crate::postgres::connection::connect;
use crate::postgres::slot::slot;
use crate::source::setup::setup;
use crate::source::{
    Finding, Progress, Severity, SourceError, SourceOptions, Step, failover, gave_way,
};

use super::error::DaemonError;

/// How long an open transaction of somebody else may hold up the creation of the slot before it
/// is said that nothing works yet; then it is tried again.
const WAIT: Duration = Duration::from_secs(60);
/// Between attempts while the server cannot be reached.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// What is longer is not shown in the log.
const LONGEST_SQL: usize = 1_000;
/// How many attempts that fail alike go by before it is said again.
const SAY_EVERY: u32 = 30;

/// Creates the publication and the slot, or the outbox and its triggers, if they are missing; waits for a server that cannot be
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
                    warn!("the source cannot be set up yet, trying on: {problem}");
                    said = problem;
                }
                tokio::time::sleep(RETRY_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A step's SQL for the log, where it is not a text of pages (a function's): `walhook setup --dry-run`
/// shows such.
pub(super) fn shown(step: &Step) -> Option<&str> {
    Some(&*step.sql).filter(|sql| sql.len() <= LONGEST_SQL)
}

async fn once(source: &SourceConfig, options: &SourceOptions) -> Result<(), SourceError> {
    let client = connect(&source.connection).await?;
    if options.outbox.is_none() {
        // Then the publication is another daemon's, until that one leaves.
        let slot = slot(&client, &options.slot).await?;
        if slot.is_some_and(|slot| slot.active_pid.is_some() && !slot.is_being_created()) {
            return Ok(());
        }
    }
    if options.outbox.is_some() && gave_way(&client).await? {
        // Capture says so.
        return Ok(());
    }
    let watcher = connect(&source.connection).await?;
    let mut report = |progress| match progress {
        Progress::Done(step) => {
            info!(sql = shown(&step), "setup has done: {}", step.reason);
            debug!(sql = step.sql, "setup has done: {}", step.reason);
        }
        Progress::Present(_) => {}
        Progress::Note(Finding { severity, subject, sentence, remedy }) => {
            let remedy = remedy.as_deref();
            match severity >= Severity::Warning {
                true => warn!(remedy, "{subject} {sentence}"),
                false => info!(remedy, "{subject} {sentence}"),
            }
        }
        Progress::Waiting(whom) => warn!("setup waits: {whom}"),
    };
    setup(&client, &watcher, options, WAIT, &mut report).await?;
    if options.outbox.is_some() {
        return Ok(());
    }
    failover::enable(&source.connection, &client, options, &mut report).await
}
