//! From the outbox to logical replication: the triggers go in one transaction, which says where the
//! log stood then.

use tokio_postgres::Client;

use super::facts::OutboxFacts;
use super::orders::{drop_all, drop_function_sql, drop_sql, is_present};
use super::wish::common_functions;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::sql::quote_table;
use crate::source::advice::list;
use crate::source::{Facts, Finding, Plan, Step};

/// How long the locks together may take. Whoever waits for one of them meanwhile, perhaps holding
/// another, must not be taken for part of a deadlock (after `deadlock_timeout`, a second).
const LOCKS_MS: u32 = 400;

/// Where the triggers gave way, if they did.
fn switched(outbox: &OutboxFacts) -> Option<Lsn> {
    outbox.state.as_ref()?.switched_lsn
}

/// What to say of that where triggers are still configured.
pub(in crate::source) fn said(outbox: &OutboxFacts) -> Option<Finding> {
    let lsn = switched(outbox)?;
    let sentence = format!(
        "gave way to logical replication at {lsn}: what was changed since then comes from the slot \
         alone"
    );
    Some(Finding::warning("outbox", sentence).fix(
        "restart walhook with source.capture = \"replication\" and the same journal; it sends what is \
         left in the outbox, too",
    ))
}

/// What `setup` says when it gives the tables triggers again after that.
pub(super) fn taken_back(outbox: &OutboxFacts) -> Option<Finding> {
    let lsn = switched(outbox)?;
    let sentence = format!(
        "had given way to logical replication, so what was changed between {lsn} and now is in no \
         outbox"
    );
    Some(Finding::warning("outbox", sentence).fix(
        "let a walhook with source.capture = \"replication\" read the slot up to now, and then \
         walhook teardown with that; the outbox takes a journal of its own (journal.path)",
    ))
}

/// Whether the outbox gave way to logical replication, as far as the role may know. It takes a person
/// to have triggers again.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn gave_way(client: &Client) -> Result<bool, PgError> {
    const THERE: &str = "select coalesce(has_table_privilege(to_regclass('walhook.state')::oid, \
                         'select'), false)";
    const SWITCHED: &str = "select switched_lsn is not null from walhook.state";
    let failed = |error| PgError::query("could not look at the outbox's state", error);
    let there = client.query_typed_one(THERE, &[]).await.map_err(failed)?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    let row = client.query_typed_opt(SWITCHED, &[]).await.map_err(failed)?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

/// What `setup` has to do with an outbox where logical replication is configured: nothing where
/// there is none, or where it is none of ours to change.
pub(in crate::source) fn plan(facts: &Facts, outbox: &OutboxFacts, plan: &mut Plan) {
    if outbox.outbox.is_none() {
        emit(facts, outbox, plan);
        return;
    }
    if outbox.functions.iter().any(|function| function.name == "capture") {
        let (theirs, _): (Vec<_>, Vec<_>) = outbox.triggers.iter().partition(|t| !t.owned);
        if let Some(first) = theirs.first() {
            let sentence = format!(
                "has triggers on {}, which only {} or a superuser may drop",
                quote_table(&first.schema, &first.table),
                first.owner
            );
            let fix = "walhook setup as that role, or teardown with capture = \"outbox\" first";
            plan.blocked.push(Finding::error("outbox", sentence).fix(fix));
        }
        plan.steps.push(switch(outbox));
        return;
    }
    // The daemon needs what is said there until its slot has passed it.
    let switched = switched(outbox);
    let confirmed = facts.slot.as_ref().and_then(|slot| slot.confirmed_flush_lsn);
    let passed = switched.is_none() || confirmed >= switched;
    if passed && outbox.waiting == 0 && outbox.outbox_owned {
        let mut step = drop_all(outbox);
        if let Some(step) = &mut step {
            // walhook.emit stays: with logical replication, too, it is there
            let keep = |line: &&str| !line.contains("walhook.\"emit\"") && !line.contains("SCHEMA");
            let kept: Vec<&str> = step.sql.split(";\n").filter(keep).collect();
            step.sql = kept.join(";\n");
            step.reason = "drop the rest of the outbox, which is read".to_owned();
        }
        plan.steps.extend(step);
    } else {
        plan.notes.push(Finding::note(
            "outbox",
            "is still to be read by walhook before it reads the slot; another walhook setup drops \
             it then",
        ));
    }
}

/// Makes `walhook.emit`, so that the application's call is the same whatever captures it.
fn emit(facts: &Facts, outbox: &OutboxFacts, plan: &mut Plan) {
    let wanted = common_functions().into_iter().find(|function| function.name == "emit");
    let Some(wanted) = wanted.filter(|wanted| !is_present(outbox, wanted)) else { return };
    let may = match outbox.has_schema {
        true => outbox.schema_owned,
        false => outbox.may_create_schema,
    };
    // A standby has what its primary has.
    if facts.server.in_recovery {
        return;
    }
    if !may {
        let sentence = "is not made, since the role may not create the schema walhook";
        let fix = "nothing, where the application sends no events of its own, or does so by \
                   pg_logical_emit_message";
        plan.notes.push(Finding::note("walhook.emit", sentence).fix(fix));
        return;
    }
    // Of several setups at once, one makes the schema, and the others look again.
    let schema = match outbox.has_schema {
        true => "",
        false => "create schema walhook;\ngrant usage on schema walhook to public;\n",
    };
    let sql = format!("{schema}{}", wanted.sql);
    let reason = "create walhook.emit, for the application's own events".to_owned();
    plan.steps.push(Step { sql, reason });
}

/// What `teardown` drops of the schema walhook where logical replication is configured: nothing
/// while triggers or rows that nobody has read are there.
pub(in crate::source) fn rest(outbox: &OutboxFacts) -> Option<Step> {
    let is_used = outbox.functions.iter().any(|function| function.name == "capture");
    let owned = outbox.schema_owned && outbox.functions.iter().all(|function| function.owned);
    if is_used || outbox.waiting > 0 || !owned {
        return None;
    }
    let mut step = drop_all(outbox)?;
    step.reason = "drop what is left in the schema walhook".to_owned();
    Some(step)
}

fn switch(outbox: &OutboxFacts) -> Step {
    let mut tables: Vec<String> =
        outbox.triggers.iter().map(|t| quote_table(&t.schema, &t.table)).collect();
    tables.dedup();
    let mut sql = format!("BEGIN;\nSET LOCAL statement_timeout = {LOCKS_MS};\n");
    if !tables.is_empty() {
        sql.push_str(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE;\n", tables.join(", ")));
    }
    sql.push_str("LOCK TABLE walhook.outbox IN SHARE ROW EXCLUSIVE MODE;\n");
    sql.push_str("SET LOCAL statement_timeout = 0;\n");
    for trigger in &outbox.triggers {
        sql.push_str(&format!("{};\n", drop_sql(trigger)));
    }
    for function in outbox.functions.iter().filter(|f| f.name.starts_with("capture")) {
        sql.push_str(&format!("{};\n", drop_function_sql(function)));
    }
    sql.push_str("UPDATE walhook.state SET switched_lsn = pg_current_wal_insert_lsn();\nCOMMIT");
    let reason = format!(
        "drop the triggers of {}, in favour of logical replication",
        if tables.is_empty() { "no table".to_owned() } else { list(&tables, 5) }
    );
    Step { sql, reason }
}
