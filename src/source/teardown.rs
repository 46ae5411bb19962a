//! `teardown`: the slot, then the publication.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::advice::shown;
use super::check::{self, slot};
use super::facts::gather;
use super::outbox;
use super::plan::Progress;
use super::run::Runner;
use super::{Finding, Plan, SourceError, SourceOptions, Step};
use crate::postgres::error::PgError;
use crate::postgres::publication::drop_publication_sql;
use crate::postgres::slot::drop_slot_sql;

/// How long another teardown may get in the way: it uses the slot while it drops it, and drops the
/// publication while its tables are looked up.
const DROPPED_BY_ANOTHER: Duration = Duration::from_secs(2);
/// Between attempts meanwhile.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// What there is to do.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn plan(client: &Client, options: &SourceOptions) -> Result<Plan, PgError> {
    if let Some(finding) = check::too_old(client).await? {
        return Ok(Plan { blocked: vec![finding], ..Plan::default() });
    }
    // tables say nothing about what is to be dropped
    let options = SourceOptions { tables: Vec::new(), ..options.clone() };
    let facts = gather(client, &options).await?;
    let outbox = outbox::gather(client, &facts).await?;
    if options.outbox.is_some() {
        return Ok(outbox::teardown(&outbox, &options));
    }
    let mut plan = Plan::default();
    let (slot_name, publication_name) = (shown(&options.slot), shown(&options.publication));
    match &facts.slot {
        None => plan.present.push(format!("there is no replication slot {slot_name}")),
        Some(existing) => {
            plan.blocked.extend(slot::not_ours(&facts, &options, existing));
            if existing.active {
                let sentence = format!("is in use by {}", slot::holder(existing));
                let pid = existing.active_pid.unwrap_or(0);
                plan.blocked.push(Finding::error(slot::title(&options), sentence).fix(format!(
                    "stop that walhook first, or SELECT pg_terminate_backend({pid});"
                )));
            }
            plan.steps.push(Step {
                sql: drop_slot_sql(&options.slot),
                reason: format!("drop the replication slot {slot_name}"),
            });
        }
    }
    match &facts.publication {
        None => plan.present.push(format!("there is no publication {publication_name}")),
        // It costs nothing to leave it, unlike the slot, which must not stay on its account.
        Some(existing) if !existing.owned => plan.present.push(format!(
            "the publication {publication_name} stays, since it belongs to {} (as its owner or a \
             superuser: {};)",
            shown(&existing.owner),
            drop_publication_sql(&options.publication)
        )),
        Some(_) => plan.steps.push(Step {
            sql: drop_publication_sql(&options.publication),
            reason: format!("drop the publication {publication_name}"),
        }),
    }
    plan.steps.extend(outbox::switch::rest(&outbox));
    Ok(plan)
}

/// Drops what there is, and reports it step by step; `watcher` and `wait` are as for
/// [`setup`](super::setup::setup). A publication of another role stays.
///
/// # Errors
/// Refuses, having done nothing, while the slot is in use, and where it is not walhook's to drop
/// ([`findings`](SourceError::findings)).
pub async fn teardown(
    client: &Client,
    watcher: &Client,
    options: &SourceOptions,
    wait: Duration,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), SourceError> {
    let until = Instant::now() + DROPPED_BY_ANOTHER;
    let plan = loop {
        match plan(client, options).await {
            Err(error) if error.is_gone_meanwhile() && Instant::now() < until => {
                tokio::time::sleep(RETRY_EVERY).await;
            }
            result => break result?,
        }
    };
    if !plan.blocked.is_empty() {
        return Err(SourceError::refused(plan.blocked));
    }
    plan.present.into_iter().for_each(|present| report(Progress::Present(present)));
    let runner = Runner::new(client, watcher, wait);
    for note in plan.notes {
        report(Progress::Note(note));
    }
    for step in plan.steps {
        let result = loop {
            match runner.run(&step, report).await {
                Err(error) if error.is_slot_in_use() && Instant::now() < until => {
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                result => break result,
            }
        };
        match result {
            Ok(()) => report(Progress::Done(step)),
            // another teardown was quicker
            Err(error) if error.is_undefined_object() || error.is_outbox_gone() => {
                report(Progress::Present(format!("{}: already gone", step.what())));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
