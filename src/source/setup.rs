//! `setup`: the publication, then the slot.
//!
//! The publication comes first, since the slot reads each row with the catalog of the row's own
//! time. Doing it twice, or from two places at once, is no error.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::check::{self, publication, server, slot, tables};
use super::facts::{Facts, gather};
use super::failover;
use super::outbox;
use super::plan::Progress;
use super::run::Runner;
use super::{Finding, Plan, SourceError, SourceOptions, Step};
use crate::postgres::error::PgError;
use crate::postgres::publication::{PublicationInfo, create_marked_publication_sql};
use crate::postgres::slot::create_slot_sql;
use crate::source::advice::{list, shown, shown_table};
use crate::source::wish::{self, scope};

/// How often a plan is made again because another session was quicker.
const ROUNDS: u32 = 8;

/// How often it is looked whether another session has created the slot meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What there is to do.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn plan(client: &Client, options: &SourceOptions) -> Result<Plan, PgError> {
    if let Some(finding) = check::too_old(client).await? {
        return Ok(Plan { blocked: vec![finding], ..Plan::default() });
    }
    let (facts, mut plan) = look(client, options).await?;
    if options.outbox.is_none() {
        plan.steps.extend(failover::step(&facts, options));
    }
    Ok(plan)
}

/// Does what there is to do, but for what takes a replication connection
/// ([`failover`](super::failover)), and reports it step by step. `watcher` is a second session of the same
/// role, which sees whom the first one waits for; `wait` is how long that may last altogether.
///
/// # Errors
/// Refuses, having done nothing, where something stands in the way
/// ([`findings`](SourceError::findings)); fails when the wait was too long
/// ([`is_timed_out`](SourceError::is_timed_out)) or the server refused a statement. What was done
/// before stays, and another setup goes on from there.
pub async fn setup(
    client: &Client,
    watcher: &Client,
    options: &SourceOptions,
    wait: Duration,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), SourceError> {
    let runner = Runner::new(client, watcher, wait);
    let mut rounds = 0;
    'plan: loop {
        if let Some(finding) = check::too_old(client).await? {
            return Err(SourceError::refused(vec![finding]));
        }
        let (_, plan) = match look(client, options).await {
            Err(error) if rounds < ROUNDS && error.is_gone_meanwhile() => {
                rounds += 1;
                tokio::time::sleep(LOOK_EVERY).await;
                continue 'plan;
            }
            result => result?,
        };
        if !plan.blocked.is_empty() {
            return Err(SourceError::refused(plan.blocked));
        }
        for step in plan.steps {
            match runner.run(&step, report).await {
                Ok(()) => report(Progress::Done(step)),
                Err(error) if rounds < ROUNDS && error.is_lost_race() => {
                    rounds += 1;
                    continue 'plan;
                }
                Err(error) => return Err(error),
            }
        }
        match plan.pending {
            None => {
                plan.present.into_iter().for_each(|present| report(Progress::Present(present)));
                plan.notes.into_iter().for_each(|note| report(Progress::Note(note)));
                return Ok(());
            }
            Some(pending) if Instant::now() >= runner.deadline => {
                return Err(SourceError::waited("setup", Some(pending), wait));
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn look(client: &Client, options: &SourceOptions) -> Result<(Facts, Plan), PgError> {
    let facts = gather(client, options).await?;
    let outbox = outbox::gather(client, &facts).await?;
    if options.outbox.is_some() {
        let plan = outbox::setup(&facts, &outbox, options);
        return Ok((facts, plan));
    }
    let mut plan = plan_from(&facts, options);
    outbox::switch::plan(&facts, &outbox, &mut plan);
    Ok((facts, plan))
}

fn plan_from(facts: &Facts, options: &SourceOptions) -> Plan {
    let mut plan = Plan::default();
    plan.blocked.extend(tables::tables(facts, options));
    plan.blocked.extend(publication::unusable_name(options));
    plan.blocked.extend(slot::unusable_name(options));
    match &facts.publication {
        None => new_publication(facts, options, &mut plan),
        Some(existing) => existing_publication(facts, options, existing, &mut plan),
    }
    match &facts.slot {
        None => {
            plan.blocked.extend(server::creation_blockers(facts, options));
            plan.steps.push(Step {
                sql: create_slot_sql(&options.slot, options.failover),
                reason: format!("create the replication slot {}", shown(&options.slot)),
            });
        }
        Some(existing) => {
            plan.blocked.extend(
                slot::not_ours(facts, options, existing).or_else(|| slot::lost(options, existing)),
            );
            plan.blocked.extend(server::failover(facts, options));
            if existing.is_being_created() {
                let holder = slot::holder(existing);
                plan.pending = Some(format!("{holder}, which is creating the same slot"));
            } else {
                let confirmed_lsn = existing.confirmed_flush_lsn.unwrap_or_default();
                plan.present.push(format!(
                    "the replication slot {} exists, at {confirmed_lsn}",
                    shown(&options.slot)
                ));
            }
        }
    }
    plan.notes = tables::worth_saying(facts, options);
    plan.notes.extend(publication::whole(facts, options).into_iter().filter(|f| !f.is_error()));
    plan.blocked.retain(Finding::is_error);
    plan
}

fn new_publication(facts: &Facts, options: &SourceOptions, plan: &mut Plan) {
    let name = shown(&options.publication);
    if facts.slot.is_some() {
        plan.blocked.push(publication::behind_the_slot(options));
    }
    let scope = scope(facts, options);
    let mut names: Vec<String> =
        scope.schemas.iter().map(|s| format!("all of {}", shown(s))).collect();
    names.extend(scope.tables.iter().map(|t| shown_table(&t.schema, &t.name)));
    if scope.all_tables {
        names = vec!["all tables".to_owned()];
    } else if names.is_empty() {
        names = vec!["no table yet".to_owned()];
    }
    let sql = create_marked_publication_sql(&options.publication, &scope);
    plan.blocked.extend(publication::whole(facts, options));
    plan.blocked.extend(on_a_standby(facts, options, &sql));
    plan.blocked.extend(publication::creation_privileges(facts, options));
    let reason = format!("create the publication {name} of {}", list(&names, 5));
    plan.steps.push(Step { sql, reason });
}

fn existing_publication(
    facts: &Facts,
    options: &SourceOptions,
    existing: &PublicationInfo,
    plan: &mut Plan,
) {
    let name = shown(&options.publication);
    plan.blocked.extend(publication::whole(facts, options));
    let mut steps = wish::steps(facts, options, existing, &|_| true);
    steps.extend(wish::via_root_step(facts, options, existing));
    if steps.is_empty() {
        plan.present.push(format!("the publication {name} exists and has the tables"));
        return;
    }
    let statements: Vec<&str> = steps.iter().map(|step| &*step.sql).collect();
    plan.blocked.extend(on_a_standby(facts, options, &statements.join("; ")));
    plan.blocked.extend(publication::change_privileges(facts, options, existing));
    plan.steps.extend(steps);
}

/// A standby is read-only, and takes its publications from the primary.
fn on_a_standby(facts: &Facts, options: &SourceOptions, sql: &str) -> Option<Finding> {
    facts.server.in_recovery.then(|| {
        let subject = format!("publication {}", shown(&options.publication));
        Finding::error(subject, "cannot be created or changed on a standby")
            .fix(format!("on the primary: {sql};"))
    })
}
