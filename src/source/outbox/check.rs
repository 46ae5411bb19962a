//! Rules about the outbox, its triggers, and the tables they stand on.

use super::facts::OutboxFacts;
use super::orders::{Followed, fits, followed, is_present, table_sql};
use super::wish::common_functions;
use crate::postgres::catalog::{Persistence, TableInfo, TableKind};
use crate::postgres::sql::{quote_ident, quote_table};
use crate::source::advice::{list, shown, shown_table};
use crate::source::check::tables::{NAMES_SHOWN, subject, unknown, unpublishable};
use crate::source::check::{patterns, rows, server};
use crate::source::target::{matched, targets};
use crate::source::{Facts, Finding, Severity, SourceOptions};

const OUTBOX: &str = "outbox";

/// A number of rows in words: of very many, only that it is as many.
pub(super) fn rows_waiting(count: i64) -> String {
    match count {
        1 => "1 row".to_owned(),
        100_000.. => format!("{count} rows or more"),
        _ => format!("{count} rows"),
    }
}

/// Everything `check` says.
pub(in crate::source) fn check(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
) -> Vec<Finding> {
    let server = &facts.server;
    let mut findings = vec![Finding::ok(
        "server",
        format!("PostgreSQL {}; capture by triggers takes no wal_level", server.version),
    )];
    findings.extend(server::encoding(facts));
    findings.extend(before_setup(facts, outbox, options));
    findings.extend(what_is_there(facts, outbox, options));
    findings
}

/// What is wrong while walhook runs.
pub(in crate::source) fn findings(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
) -> Vec<Finding> {
    let mut findings = before_setup(facts, outbox, options);
    findings.extend(what_is_there(facts, outbox, options));
    findings.retain(|finding| finding.severity >= Severity::Warning);
    findings
}

/// What matters before anything is set up: tables and privileges.
pub(super) fn before_setup(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.server.in_recovery {
        findings.push(Finding::error("server", "this is a standby, where no trigger fires").fix(
            "connect to the primary: with several hosts in source.url, add \
                 target_session_attrs=read-write",
        ));
    }
    findings.extend(privileges(facts, outbox, options));
    findings.extend(tables(facts, outbox, options));
    findings
}

fn privileges(facts: &Facts, outbox: &OutboxFacts, options: &SourceOptions) -> Vec<Finding> {
    let server = &facts.server;
    let role = quote_ident(&server.role);
    let subject = format!("role {}", shown(&server.role));
    let mut findings = Vec::new();
    let mut lacks = |sentence: String, fix: String| {
        findings.push(Finding::error(subject.clone(), sentence).fix(fix));
    };
    let database = shown(&server.database);
    if !outbox.has_schema && !outbox.may_create_schema {
        lacks(
            format!("may not create the schema walhook: it lacks CREATE on database {database}"),
            format!("GRANT CREATE ON DATABASE {} TO {role};", quote_ident(&server.database)),
        );
    }
    let missing: Vec<_> =
        common_functions().into_iter().filter(|wanted| !is_present(outbox, wanted)).collect();
    let theirs = outbox.functions.iter().filter(|function| !function.owned);
    let locked = theirs.filter(|f| missing.iter().any(|wanted| wanted.name == f.name)).count() > 0;
    let incomplete = outbox.outbox.is_none() || !outbox.has_state || !missing.is_empty();
    if outbox.has_schema && incomplete && (!outbox.may_create || locked) {
        let owner = outbox.owner.as_deref().unwrap_or_default();
        lacks(
            format!("may not change the schema walhook, which belongs to {}", shown(owner)),
            "walhook setup --dry-run as this role, and its statements as that one".to_owned(),
        );
    }
    if outbox.outbox.is_some() && !(outbox.may_drain && outbox.may_use && outbox.state.is_some()) {
        lacks(
            "may not read the outbox".to_owned(),
            format!(
                "GRANT USAGE ON SCHEMA walhook TO {role}; GRANT SELECT, DELETE ON walhook.outbox \
                 TO {role}; GRANT SELECT ON walhook.state TO {role};"
            ),
        );
    }
    if !outbox.may_record {
        let owner = outbox.recorder.as_deref().unwrap_or_default();
        lacks(
            format!(
                "cannot rely on the triggers: {}, who owns walhook.capture, may not write to the \
                 outbox, so changes are lost",
                shown(owner)
            ),
            format!(
                "GRANT USAGE ON SCHEMA walhook TO {owner}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA \
                 walhook TO {owner}; GRANT SELECT, INSERT, UPDATE, DELETE ON walhook.outbox TO \
                 {owner}; GRANT SELECT ON walhook.state TO {owner};",
                owner = quote_ident(owner)
            ),
        );
    }
    let capture = outbox.functions.iter().find(|function| function.name == "capture");
    let locked = capture.is_some_and(|function| !function.owned && !function.may_execute);
    let wanting = |table: &Followed<'_>| table_sql(outbox, table).is_some();
    if locked && followed(facts, outbox, options).iter().any(wanting) {
        lacks(
            "may not create triggers that call walhook.capture".to_owned(),
            format!("GRANT EXECUTE ON FUNCTION walhook.capture() TO {role};"),
        );
    }
    for table in followed(facts, outbox, options) {
        if !table.may_trigger && table_sql(outbox, &table).is_some() {
            lacks(
                format!("may not put triggers on {}", name_of(&table)),
                format!("GRANT TRIGGER ON {} TO {role};", quoted(table.target.table)),
            );
        }
    }
    if findings.is_empty() {
        let sentence = "may set up the outbox and read it (no REPLICATION is needed)";
        findings.push(Finding::ok(subject, sentence));
    }
    findings
}

fn name_of(table: &Followed<'_>) -> String {
    shown_table(&table.target.table.schema, &table.target.table.name)
}

fn quoted(table: &TableInfo) -> String {
    quote_table(&table.schema, &table.name)
}

fn tables(facts: &Facts, outbox: &OutboxFacts, options: &SourceOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (schema, name) in &options.exact_names() {
        match facts.table(schema, name) {
            None => findings.push(unknown(facts, schema, name)),
            Some(table) => {
                match unpublishable(table).filter(|_| table.persistence != Persistence::Unlogged) {
                    Some(finding) => findings.push(finding),
                    None => findings.extend(table_of(facts, options, table)),
                }
            }
        }
    }
    let followed = followed(facts, outbox, options);
    findings.extend(of_patterns(facts, outbox, options, &followed));
    findings.extend(powers(outbox, &followed));
    if outbox.may_prepare && options.outbox.as_ref().is_some_and(|spec| spec.notify) {
        let sentence = "notifies (outbox_notify), and PostgreSQL refuses to PREPARE a transaction \
                        that did";
        let fix = "outbox_notify = false, where the application uses PREPARE TRANSACTION";
        findings.push(Finding::note(OUTBOX, sentence).fix(fix));
    }
    for table in &followed {
        findings.extend(rows::without_identity(facts, &table.target));
        findings.extend(not_always(table));
    }
    findings
}

/// A trigger renders rows with the rights of its function's owner, and a type's cast to json, which
/// the owner of a table may bring, is run for that.
fn powers(outbox: &OutboxFacts, followed: &[Followed<'_>]) -> Option<Finding> {
    let is_plain = |table: &&Followed<'_>| {
        let known = outbox.tables.get(&table.wanted.relation);
        known.is_some_and(|known| !known.owner_is_superuser)
    };
    let names: Vec<String> = followed.iter().filter(is_plain).map(name_of).collect();
    if !outbox.recorder_is_superuser || names.is_empty() {
        return None;
    }
    let sentence = format!(
        "belongs to a superuser, with whose rights the triggers of {} run: the owners of these \
         tables could use them, by a cast from a type of theirs to json",
        list(&names, NAMES_SHOWN)
    );
    Some(Finding::warning(OUTBOX, sentence).fix(
        "walhook setup as the tables' owner; or ALTER SCHEMA walhook, its tables and functions \
         OWNER TO a role without other rights",
    ))
}

fn table_of(facts: &Facts, options: &SourceOptions, table: &TableInfo) -> Vec<Finding> {
    let subject = subject(&table.schema, &table.name);
    let key: Vec<String> = table.primary_key.iter().map(|column| shown(column)).collect();
    let mut findings = vec![if key.is_empty() {
        Finding::note(
            subject.clone(),
            "has no primary key: order is kept only between identical rows",
        )
        .fix(format!("ALTER TABLE {} ADD PRIMARY KEY (…);", quoted(table)))
    } else {
        Finding::ok(subject.clone(), format!("primary key {}", list(&key, NAMES_SHOWN)))
    }];
    if table.kind == TableKind::Partitioned {
        findings.push(Finding::note(
            subject.clone(),
            "rows of all partitions come under its name; not seen are TRUNCATE of a single \
             partition, rows a partition holds when it is attached, and changes after it is \
             detached",
        ));
    }
    if let Some(root) = table.ancestors.last() {
        let is_root = |root: &&TableInfo| table.ancestors.contains(&quoted(root));
        let rooted = targets(facts, options).iter().any(|target| is_root(&target.table));
        findings.push(if rooted {
            let sentence = format!(
                "is a partition of {root}, which is followed too: its rows come under that name and \
                 never under its own"
            );
            Finding::error(subject.clone(), sentence)
                .fix("remove the partition from the configuration, and follow its root instead")
        } else {
            let sentence = format!("is a partition of {root}: only its own rows become events");
            Finding::warning(subject.clone(), sentence)
                .fix(format!("name {root} instead to follow all of them"))
        });
    }
    if table.has_children {
        findings.push(
            Finding::note(subject, "has child tables (INHERITS), which are not followed with it")
                .fix("name the child tables in the configuration too"),
        );
    }
    findings
}

/// What patterns of several tables find.
fn of_patterns(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
    followed: &[Followed<'_>],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for spec in options.tables.iter().filter(|spec| spec.pattern.as_exact().is_none()) {
        let subject = format!("tables {}", spec.pattern);
        if matched(facts, options, spec).next().is_none() {
            findings.push(patterns::none(subject));
            continue;
        }
        let found = targets(facts, options);
        let found = found.iter().filter(|target| target.spec.pattern == spec.pattern);
        let (names, out): (Vec<&TableInfo>, Vec<&TableInfo>) = found
            .map(|target| target.table)
            .partition(|table| followed.iter().any(|f| f.target.table.oid == table.oid));
        let shown = |tables: &[&TableInfo]| {
            let names: Vec<_> = tables.iter().map(|t| shown_table(&t.schema, &t.name)).collect();
            list(&names, NAMES_SHOWN)
        };
        if !names.is_empty() {
            let sentence = format!("are {}: {}", names.len(), shown(&names));
            findings.push(Finding::ok(subject.clone(), sentence));
        }
        if let Some(first) = out.first() {
            let sentence = format!("leave out {}: triggers there take TRIGGER", shown(&out));
            findings.push(Finding::warning(subject, sentence).fix(format!(
                "GRANT TRIGGER ON {} TO {}; and the like",
                quoted(first),
                quote_ident(&facts.server.role)
            )));
        }
    }
    let _ = outbox;
    findings
}

/// Only the owner of a table may say that a trigger fires for changes from elsewhere.
fn not_always(table: &Followed<'_>) -> Option<Finding> {
    let wanted = &table.wanted;
    if wanted.owned || !wanted.always || !table.may_trigger {
        return None;
    }
    let info = table.target.table;
    let sentence = "belongs to another role, so its triggers do not fire for changes that logical \
                    replication brings (session_replication_role = replica)";
    Some(Finding::note(subject(&info.schema, &info.name), sentence).fix(format!(
        "as its owner, where there are such: ALTER TABLE {} ENABLE ALWAYS TRIGGER {};",
        quoted(info),
        quote_ident(&wanted.row_name())
    )))
}

/// The outbox and its triggers, as far as they are not as they should be.
fn what_is_there(facts: &Facts, outbox: &OutboxFacts, options: &SourceOptions) -> Vec<Finding> {
    let absent = |sentence: &str| {
        if options.create {
            Finding::note(OUTBOX, format!("{sentence}; walhook creates it when it starts"))
        } else {
            Finding::error(OUTBOX, sentence).fix("walhook setup")
        }
    };
    if outbox.outbox.is_none() || !outbox.has_state {
        return vec![absent("does not exist yet")];
    }
    let mut findings = Vec::new();
    if common_functions().iter().any(|wanted| !is_present(outbox, wanted)) {
        findings.push(
            Finding::error(OUTBOX, "has functions that are missing, or of another version")
                .fix("walhook setup"),
        );
    }
    let tables = followed(facts, outbox, options);
    findings.extend(tables.iter().filter_map(|table| of_triggers(outbox, table)));
    findings.extend(strangers(outbox, &tables));
    if findings.is_empty() {
        let names = list(&tables.iter().map(name_of).collect::<Vec<_>>(), NAMES_SHOWN);
        let sentence = match outbox.may_drain && outbox.may_use {
            true => {
                format!("has triggers on {names}, and {} to be read", rows_waiting(outbox.waiting))
            }
            false => format!("has triggers on {names}"),
        };
        findings.push(Finding::ok(OUTBOX, sentence));
    }
    findings
}

/// What is wrong with a table's triggers.
fn of_triggers(outbox: &OutboxFacts, table: &Followed<'_>) -> Option<Finding> {
    let subject = subject(&table.target.table.schema, &table.target.table.name);
    let of = outbox.triggers.iter().filter(|t| t.relation == table.wanted.relation);
    let triggers: Vec<_> = of.collect();
    let names = |names: &mut dyn Iterator<Item = &String>| {
        list(&names.map(|name| shown(name)).collect::<Vec<_>>(), NAMES_SHOWN)
    };
    if triggers.is_empty() {
        let finding = Finding::error(subject, "has no triggers, so its changes are lost");
        return Some(finding.fix("walhook setup"));
    }
    let off = triggers.iter().filter(|trigger| matches!(&*trigger.enabled, "D" | "R"));
    let off = names(&mut off.map(|trigger| &trigger.name));
    if !off.is_empty() {
        let sentence =
            format!("has triggers that somebody switched off, so changes are lost: {off}");
        return Some(Finding::error(subject, sentence).fix("walhook setup"));
    }
    let odd = triggers.iter().flat_map(|trigger| &trigger.odd_partitions);
    let odd = names(&mut odd.into_iter());
    if !odd.is_empty() {
        let sentence =
            format!("has partitions whose copies of the triggers are switched otherwise: {odd}");
        return Some(
            Finding::error(subject, sentence)
                .fix("ALTER TABLE … ENABLE ALWAYS TRIGGER …; on these partitions"),
        );
    }
    table_sql(outbox, table)?;
    let sentence = if triggers.len() < 2 {
        "lacks a trigger, so that some changes are lost"
    } else if triggers.iter().all(|trigger| fits(trigger, &table.wanted)) {
        "has a trigger function of another row filter"
    } else {
        "has triggers with other arguments than the configuration and the table ask for"
    };
    Some(Finding::error(subject, sentence).fix("walhook setup"))
}

/// Triggers on tables that nobody follows.
fn strangers(outbox: &OutboxFacts, tables: &[Followed<'_>]) -> Option<Finding> {
    let is_followed = |oid: u32| tables.iter().any(|table| table.wanted.relation == oid);
    let gone = outbox.triggers.iter().filter(|trigger| !is_followed(trigger.relation));
    let mut names: Vec<String> = gone.map(|t| shown_table(&t.schema, &t.table)).collect();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    let sentence =
        format!("records {}, which the configuration does not name", list(&names, NAMES_SHOWN));
    Some(Finding::warning(OUTBOX, sentence).fix("walhook setup"))
}
