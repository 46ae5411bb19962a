//! The steps from the outbox there is to the one there should be, and to none.

use super::check;
use super::facts::{Function, OutboxFacts, Trigger};
use super::switch;
use super::wish::{
    ROW_KIND, TABLES_SQL, TRUNCATE_KIND, WantedFunction, WantedTriggers, common_functions, triggers,
};
use crate::postgres::sql::{quote_ident, quote_table};
use crate::source::advice::{list, shown, shown_table};
use crate::source::target::{Target, targets};
use crate::source::{
    Facts, Finding, OutboxPolicy, OutboxSpec, Plan, Severity, SourceOptions, Step,
};

const NAMES_SHOWN: usize = 5;

/// A table to follow, and its triggers.
#[derive(Clone, Debug)]
pub(in crate::source) struct Followed<'a> {
    pub(in crate::source) target: Target<'a>,
    /// Whether the role may put triggers on it.
    pub(in crate::source) may_trigger: bool,
    pub(super) wanted: WantedTriggers,
}

/// The tables to follow: those named, and those that patterns find and on which the role may put
/// triggers.
pub(in crate::source) fn followed<'a>(
    facts: &'a Facts,
    outbox: &OutboxFacts,
    options: &'a SourceOptions,
) -> Vec<Followed<'a>> {
    let may_trigger = |oid: u32| outbox.tables.get(&oid).is_some_and(|known| known.may_trigger);
    targets(facts, options)
        .into_iter()
        .filter(|target| target.is_named() || may_trigger(target.table.oid))
        .map(|target| Followed {
            target,
            may_trigger: may_trigger(target.table.oid),
            wanted: triggers(facts, outbox, options, &target),
        })
        .collect()
}

/// What `setup` does.
pub(in crate::source) fn setup(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
) -> Plan {
    let mut plan = Plan::default();
    let findings = check::before_setup(facts, outbox, options);
    let worth_saying = findings.into_iter().filter(|finding| finding.severity > Severity::Ok);
    (plan.blocked, plan.notes) = worth_saying.partition(Finding::is_error);
    plan.notes.extend(switch::taken_back(outbox));
    plan.steps = steps(facts, outbox, options, &|_| true);
    if outbox.outbox.is_some() {
        plan.present.push("the outbox walhook.outbox exists".to_owned());
    }
    let tables = followed(facts, outbox, options);
    let fit = |table: &&Followed<'_>| table_sql(outbox, table).is_none();
    let names: Vec<String> =
        tables.iter().filter(fit).map(|table| name_of(&table.target)).collect();
    if !names.is_empty() {
        plan.present.push(format!("the triggers of {} exist", list(&names, NAMES_SHOWN)));
    }
    plan
}

/// What makes the outbox fit, of the tables that `may_change` says.
pub(in crate::source) fn steps(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
    may_change: &dyn Fn(&Followed<'_>) -> bool,
) -> Vec<Step> {
    let Some(spec) = &options.outbox else { return Vec::new() };
    let mut steps = Vec::new();
    if outbox.outbox.is_none() || !outbox.has_state {
        steps.push(Step {
            sql: statement(&format!("{TABLES_SQL}{}", settings_sql(spec))),
            reason: "create the outbox: the schema walhook and its tables".to_owned(),
        });
    } else if outbox.state.as_ref().is_some_and(|state| {
        state.max_rows != most(spec) || state.notify != spec.notify || state.switched_lsn.is_some()
    }) {
        steps.push(Step {
            sql: statement(&settings_sql(spec)),
            reason: "change the outbox's settings".to_owned(),
        });
    }
    let differing: Vec<String> = common_functions()
        .into_iter()
        .filter(|wanted| !is_present(outbox, wanted))
        .map(|wanted| wanted.sql)
        .collect();
    if !differing.is_empty() {
        steps.push(Step {
            sql: differing.join(";\n\n"),
            reason: "create the outbox's functions".to_owned(),
        });
    }
    let tables = followed(facts, outbox, options);
    for table in tables.iter().filter(|table| may_change(table)) {
        let Some((sql, is_new)) = table_sql(outbox, table) else { continue };
        let verb = if is_new { "create" } else { "change" };
        let reason = format!("{verb} the triggers of {}", name_of(&table.target));
        steps.push(Step { sql, reason });
    }
    steps.extend(leavers(outbox, &tables));
    steps
}

fn name_of(target: &Target<'_>) -> String {
    shown_table(&target.table.schema, &target.table.name)
}

/// How many rows may wait before some are dropped.
fn most(spec: &OutboxSpec) -> Option<i64> {
    match spec.policy {
        OutboxPolicy::BlockNever => None,
        OutboxPolicy::DropOldest => Some(i64::try_from(spec.max_rows).unwrap_or(i64::MAX)),
    }
}

fn settings_sql(spec: &OutboxSpec) -> String {
    let max_rows = most(spec).map_or("null".to_owned(), |rows| rows.to_string());
    format!(
        "update walhook.state set max_rows = {max_rows}, notify = {}, switched_lsn = null;\n",
        spec.notify
    )
}

/// Without what comes behind the last statement: whoever prints it, ends it.
fn statement(sql: &str) -> String {
    sql.trim_end().trim_end_matches(';').to_owned()
}

/// Whether the function exists as it should be.
pub(super) fn is_present(outbox: &OutboxFacts, wanted: &WantedFunction) -> bool {
    let same = |f: &Function| f.name == wanted.name && f.body == wanted.body;
    outbox.functions.iter().any(same)
}

/// What gives a table its triggers, and whether it has none yet; none if all is as it should be.
pub(super) fn table_sql(outbox: &OutboxFacts, table: &Followed<'_>) -> Option<(String, bool)> {
    let wanted = &table.wanted;
    let mut statements = Vec::new();
    if let Some(function) = wanted.own_function.as_ref().filter(|f| !is_present(outbox, f)) {
        statements.push(function.sql.clone());
    }
    let theirs: Vec<&Trigger> =
        outbox.triggers.iter().filter(|trigger| trigger.relation == wanted.relation).collect();
    let mut kept: Vec<&str> = Vec::new();
    for (kind, name) in [(ROW_KIND, wanted.row_name()), (TRUNCATE_KIND, wanted.truncate_name())] {
        let mut same = theirs.iter().filter(|trigger| trigger.kind == kind);
        // one from a copy of the database has another number in its name
        let existing = same.clone().find(|trigger| trigger.name == name).or_else(|| same.next());
        match existing {
            Some(existing) => {
                kept.push(&existing.name);
                if !fits(existing, wanted) {
                    statements.push(wanted.sql(kind, &existing.name));
                }
            }
            None => statements.push(wanted.sql(kind, &name)),
        }
    }
    let others = theirs.iter().filter(|trigger| !kept.contains(&&*trigger.name) && trigger.owned);
    statements.extend(others.map(|trigger| drop_sql(trigger)));
    (!statements.is_empty()).then(|| (statements.join(";\n"), theirs.is_empty()))
}

/// Whether a trigger is as it should be.
pub(super) fn fits(trigger: &Trigger, wanted: &WantedTriggers) -> bool {
    let enabled = trigger.enabled == wanted.enabled()
        // what somebody who may has said
        || !wanted.owned && wanted.always && trigger.enabled == "A";
    let without =
        |arguments: &[String]| arguments.iter().map(|it| unpriced(it)).collect::<Vec<_>>();
    enabled
        && trigger.function == wanted.function
        && without(&trigger.arguments) == without(&wanted.arguments)
}

/// A trigger's argument without what lc_monetary was when it was made: roles may differ in that.
fn unpriced(argument: &str) -> serde_json::Value {
    let Ok(mut settings) = serde_json::from_str::<serde_json::Value>(argument) else {
        return argument.into();
    };
    if let Some(money) = settings.get_mut("money") {
        *money = true.into();
    }
    settings
}

/// Whether a table has both its triggers, switched on, and only what they are told is out of date:
/// a key that was changed, a column of another type.
pub(in crate::source) fn is_only_outdated(outbox: &OutboxFacts, table: &Followed<'_>) -> bool {
    let has = |kind: i32| {
        outbox.triggers.iter().any(|trigger| {
            trigger.relation == table.wanted.relation
                && trigger.kind == kind
                && trigger.function == table.wanted.function
                && matches!(&*trigger.enabled, "O" | "A")
        })
    };
    has(ROW_KIND) && has(TRUNCATE_KIND)
}

pub(super) fn drop_sql(trigger: &Trigger) -> String {
    let table = quote_table(&trigger.schema, &trigger.table);
    format!("DROP TRIGGER IF EXISTS {} ON {table}", quote_ident(&trigger.name))
}

/// The end of triggers on tables that are not followed, and of functions that no table needs.
fn leavers(outbox: &OutboxFacts, tables: &[Followed<'_>]) -> Vec<Step> {
    let stays = |relation: u32| tables.iter().any(|table| table.wanted.relation == relation);
    let gone: Vec<&Trigger> = outbox
        .triggers
        .iter()
        .filter(|trigger| !stays(trigger.relation) && trigger.owned)
        .collect();
    let mut steps = drop_steps(&gone, ", which is not followed");
    let needed = |function: &Function| {
        let used = |trigger: &Trigger| {
            trigger.function == function.name && (stays(trigger.relation) || !trigger.owned)
        };
        outbox.triggers.iter().any(used)
            || tables.iter().any(|table| table.wanted.function == function.name)
    };
    let idle = outbox.functions.iter().filter(|f| {
        f.name.starts_with("capture_") && f.arguments.is_empty() && f.owned && !needed(f)
    });
    let statements: Vec<String> = idle.map(drop_function_sql).collect();
    if !statements.is_empty() {
        steps.push(Step {
            sql: statements.join(";\n"),
            reason: "drop trigger functions that no table needs any more".to_owned(),
        });
    }
    steps
}

pub(super) fn drop_function_sql(function: &Function) -> String {
    format!(
        "DROP FUNCTION IF EXISTS walhook.{}({})",
        quote_ident(&function.name),
        function.arguments
    )
}

/// One step for each table.
pub(super) fn drop_steps(triggers: &[&Trigger], why: &str) -> Vec<Step> {
    triggers
        .chunk_by(|a, b| a.relation == b.relation)
        .filter_map(|triggers| {
            let table = shown_table(&triggers.first()?.schema, &triggers.first()?.table);
            let sql: Vec<String> = triggers.iter().map(|trigger| drop_sql(trigger)).collect();
            let reason = format!("drop the triggers of {table}{why}");
            Some(Step { sql: sql.join(";\n"), reason })
        })
        .collect()
}

/// What `teardown` does: the triggers first, so that nothing new comes. Rows that nobody has read
/// keep the outbox alive, unless they are not wanted.
pub(in crate::source) fn teardown(outbox: &OutboxFacts, options: &SourceOptions) -> Plan {
    let mut plan = Plan::default();
    if !outbox.has_schema {
        plan.present.push("there is no outbox".to_owned());
        return plan;
    }
    if let Some(pid) = outbox.drained_by {
        let sentence = format!("is being read by process {pid}");
        plan.blocked.push(
            Finding::error("outbox", sentence)
                .fix(format!("stop that walhook first, or SELECT pg_terminate_backend({pid});")),
        );
    }
    let (ours, others): (Vec<&Trigger>, Vec<&Trigger>) =
        outbox.triggers.iter().partition(|trigger| trigger.owned);
    plan.steps = drop_steps(&ours, "");
    if let Some(first) = others.first() {
        let statements: Vec<String> = others.iter().map(|trigger| drop_sql(trigger)).collect();
        let sentence = format!(
            "stays, since {} has triggers of it and belongs to {}",
            shown_table(&first.schema, &first.table),
            shown(&first.owner)
        );
        let fix = format!("as the tables' owners or a superuser: {};", statements.join("; "));
        plan.notes.push(Finding::warning("outbox", sentence).fix(fix));
        return plan;
    }
    let discard = options.outbox.as_ref().is_some_and(|spec| spec.discard_unread);
    if outbox.waiting > 0 && !discard {
        let sentence = format!(
            "holds {} that nobody has read, so it stays",
            check::rows_waiting(outbox.waiting)
        );
        plan.notes.push(Finding::warning("outbox", sentence).fix(
            "walhook run, until it has read them, then walhook teardown again; or walhook teardown \
             --discard-unread",
        ));
        return plan;
    }
    if !outbox.schema_owned && !outbox.outbox_owned {
        let owner = outbox.owner.as_deref().unwrap_or_default();
        plan.present
            .push(format!("the schema walhook stays, since it belongs to {}", shown(owner)));
        return plan;
    }
    plan.steps.extend(drop_all(outbox));
    plan
}

/// The end of functions, tables and schema, without what somebody else has put there.
pub(super) fn drop_all(outbox: &OutboxFacts) -> Option<Step> {
    let ours = |name: &str| {
        matches!(name, "shaped" | "rendered" | "bound" | "capture" | "emit")
            || name.starts_with("capture_")
    };
    let mut statements: Vec<String> =
        outbox.functions.iter().filter(|f| ours(&f.name)).map(drop_function_sql).collect();
    statements.push("DROP TABLE IF EXISTS walhook.outbox".to_owned());
    statements.push("DROP TABLE IF EXISTS walhook.state".to_owned());
    if outbox.schema_owned && outbox.alone {
        statements.push("DROP SCHEMA IF EXISTS walhook".to_owned());
    }
    outbox.has_schema.then(|| Step {
        sql: statements.join(";\n"),
        reason: "drop the outbox: the schema walhook with its functions and tables".to_owned(),
    })
}
