//! From the outbox to logical replication: the triggers go in one transaction, which says where the
//! log stood then.

use super::facts::OutboxFacts;
use super::orders::{drop_all, drop_function_sql, drop_sql};
use crate::postgres::sql::quote_table;
use crate::source::advice::list;
use crate::source::{Facts, Finding, Plan, Step};

/// How long the locks together may take. Whoever waits for one of them meanwhile, perhaps holding
/// another, must not be taken for part of a deadlock (after `deadlock_timeout`, a second).
const LOCKS_MS: u32 = 400;

/// What `setup` has to do with an outbox where logical replication is configured: nothing where
/// there is none, or where it is none of ours to change.
pub(in crate::source) fn plan(facts: &Facts, outbox: &OutboxFacts, plan: &mut Plan) {
    if outbox.outbox.is_none() {
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
    let switched = outbox.state.as_ref().and_then(|state| state.switched_lsn);
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
