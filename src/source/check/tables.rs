//! Rules about the tables to follow.

use super::patterns::patterns;
use super::rows::rows;
use crate::postgres::catalog::{GeneratedKind, Persistence, TableInfo, TableKind};
use crate::postgres::publication::{TableScope, replace_table_sql};
use crate::postgres::relation::ReplicaIdentity;
use crate::postgres::sql::{quote_ident, quote_table};
use crate::source::advice::{list, nearest, shown, shown_table};
use crate::source::target::{Target, targets};
use crate::source::wish::GENERATED_SINCE;
use crate::source::{Facts, Finding, SourceOptions};

/// How many names a sentence lists before it counts the rest.
pub(in crate::source) const NAMES_SHOWN: usize = 5;

pub(in crate::source) fn tables(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (schema, name) in &options.exact_names() {
        match facts.table(schema, name) {
            None => findings.push(unknown(facts, schema, name)),
            Some(table) => match unpublishable(table) {
                Some(finding) => findings.push(finding),
                None => {
                    findings.push(identity(facts, table));
                    findings.extend(family(facts, options, table));
                    findings.extend(generated(facts, table));
                }
            },
        }
    }
    findings.extend(patterns(facts, options));
    for target in targets(facts, options) {
        findings.extend(rows(facts, options, &target));
    }
    findings
}

/// What gives a table REPLICA IDENTITY FULL. With a column list in the publication the server would
/// refuse its updates and deletes from then on, so that goes in the same transaction.
pub(super) fn full_sql(facts: &Facts, table: &TableInfo) -> String {
    let sql =
        format!("ALTER TABLE {} REPLICA IDENTITY FULL;", quote_table(&table.schema, &table.name));
    let publication = facts.publication.as_ref();
    let Some((publication, entry)) =
        publication.and_then(|p| Some((p, p.table(&table.schema, &table.name)?)))
    else {
        return sql;
    };
    if entry.columns.is_none() {
        return sql;
    }
    let mut scope = TableScope::all(&table.schema, &table.name);
    scope.filter.clone_from(&entry.filter);
    let unlisted = replace_table_sql(&publication.name, &scope);
    match unlisted.strip_suffix("COMMIT") {
        Some(unlisted) => format!("{unlisted}{sql}\nCOMMIT;"),
        None => format!("{unlisted}; {sql}"),
    }
}

/// What setting up should tell of tables that it publishes nevertheless.
pub(in crate::source) fn worth_saying(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let mut findings = patterns(facts, options);
    findings.retain(|finding| finding.severity != crate::source::Severity::Ok);
    let restricted = |target: &Target<'_>| rows(facts, options, target);
    findings.extend(targets(facts, options).iter().flat_map(restricted));
    findings.retain(|finding| !finding.is_error());
    findings
}

pub(in crate::source) fn subject(schema: &str, name: &str) -> String {
    format!("table {}", shown_table(schema, name))
}

pub(in crate::source) fn unknown(facts: &Facts, schema: &str, name: &str) -> Finding {
    let subject = subject(schema, name);
    if matches!(schema, "pg_catalog" | "information_schema" | "pg_toast") {
        return Finding::error(subject, "belongs to the system, which Postgres does not publish")
            .fix("remove it from the configuration");
    }
    let sentence = format!("does not exist in database {}", shown(&facts.server.database));
    let finding = Finding::error(subject, sentence);
    match nearest(&facts.names, schema, name) {
        Some((schema, name)) => finding.fix(format!("did you mean {}?", shown_table(schema, name))),
        None => finding.fix("create it, or correct the name in the configuration"),
    }
}

pub(in crate::source) fn unpublishable(table: &TableInfo) -> Option<Finding> {
    let subject = subject(&table.schema, &table.name);
    let quoted = quote_table(&table.schema, &table.name);
    if !table.kind.is_publishable() {
        let sentence = format!("is a {}, whose changes are not in the log", table.kind.as_str());
        let fix = match table.kind {
            TableKind::Foreign => "follow the table on the server where it lies",
            _ => "name the tables it reads from instead",
        };
        return Some(Finding::error(subject, sentence).fix(fix));
    }
    match table.persistence {
        Persistence::Permanent => None,
        Persistence::Unlogged => Some(
            Finding::error(subject, "is unlogged, so its changes are not in the log")
                .fix(format!("ALTER TABLE {quoted} SET LOGGED;")),
        ),
        Persistence::Temporary => Some(
            Finding::error(subject, "is temporary, so its changes are not in the log")
                .fix("remove it from the configuration"),
        ),
    }
}

/// Whether updates and deletes go on working, and what they tell of the old row.
fn identity(facts: &Facts, table: &TableInfo) -> Finding {
    let quoted = quote_table(&table.schema, &table.name);
    if !table.identity_usable {
        return unusable(facts, table);
    }
    if let Some(finding) = generated_identity(facts, table) {
        return finding;
    }
    let subject = subject(&table.schema, &table.name);
    let full = full_sql(facts, table);
    let key = list(&table.primary_key.iter().map(|c| shown(c)).collect::<Vec<_>>(), NAMES_SHOWN);
    match table.replica_identity {
        // a partitioned table's own setting is not inherited, so it says nothing
        _ if table.kind == TableKind::Partitioned => Finding::ok(
            subject,
            "is partitioned; every partition has a replica identity of its own, and all are usable",
        ),
        ReplicaIdentity::Full if table.primary_key.is_empty() => Finding::note(
            subject,
            "REPLICA IDENTITY FULL without a primary key: updates carry old values, but order is \
             kept only between identical rows",
        )
        .fix(format!("ALTER TABLE {quoted} ADD PRIMARY KEY (…);")),
        ReplicaIdentity::Full => Finding::ok(
            subject,
            format!("primary key {key}, REPLICA IDENTITY FULL: updates carry `previous`"),
        ),
        ReplicaIdentity::Index => Finding::warning(
            subject,
            "REPLICA IDENTITY USING INDEX: an update of the primary key alone arrives without the \
             old key, and deletes carry only the index's columns",
        )
        .fix(if table.primary_key.is_empty() {
            full
        } else {
            format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT; (or FULL, for old values)")
        }),
        ReplicaIdentity::Default | ReplicaIdentity::Nothing => Finding::note(
            subject,
            format!("primary key {key}; updates carry no `previous` and `updatedFields`"),
        )
        .fix(format!("{full} (only if you want them)")),
    }
}

fn unusable(facts: &Facts, table: &TableInfo) -> Finding {
    let subject = subject(&table.schema, &table.name);
    let quoted = quote_table(&table.schema, &table.name);
    let why = why_unusable(table);
    let publication = facts.publication.as_ref();
    if publication.is_some_and(|publication| !publication.needs_identity()) {
        let sentence = format!(
            "{why}; that is no harm as long as the publication leaves out update and delete"
        );
        return Finding::note(subject, sentence);
    }
    let published = publication.is_some_and(|p| table.published_in.contains(&p.name));
    let sentence = if published {
        format!("{why}: it is published, so the application's UPDATE and DELETE on it fail now")
    } else {
        format!("{why}: publishing it would make the application's UPDATE and DELETE on it fail")
    };
    let fix = if table.kind == TableKind::Partitioned {
        format!(
            "ALTER TABLE {quoted} ADD PRIMARY KEY (…); or ALTER TABLE … REPLICA IDENTITY FULL; on \
             each of its partitions (and on the table itself before PostgreSQL 15)"
        )
    } else if table.replica_identity == ReplicaIdentity::Nothing && !table.primary_key.is_empty() {
        format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT;")
    } else {
        format!(
            "ALTER TABLE {quoted} ADD PRIMARY KEY (…); or ALTER TABLE {quoted} REPLICA IDENTITY FULL;"
        )
    };
    Finding::error(subject, sentence).fix(format!(
        "{fix} (if only inserts matter: a publication WITH (publish = 'insert') does no harm)"
    ))
}

/// From 18 on, updates and deletes fail where a generated column is part of the replica identity and
/// is not published.
fn generated_identity(facts: &Facts, table: &TableInfo) -> Option<Finding> {
    let generated = facts.unsent_identity(table)?;
    let publication = facts.publication.as_ref();
    if publication.is_some_and(|publication| !publication.needs_identity()) {
        return None;
    }
    let published = publication.is_some_and(|p| table.published_in.contains(&p.name));
    let sentence = format!(
        "has generated columns in its replica identity, which are not published: the application's \
         UPDATE and DELETE on it {}",
        if published { "fail now" } else { "would fail once it is published" }
    );
    let identity = format!(
        "ALTER TABLE {} REPLICA IDENTITY DEFAULT; with a primary key of other columns",
        quote_table(&table.schema, &table.name)
    );
    let fix = match (generated, publication) {
        (GeneratedKind::Stored, Some(publication)) => format!(
            "ALTER PUBLICATION {} SET (publish_generated_columns = stored); or {identity}",
            quote_ident(&publication.name)
        ),
        _ => identity,
    };
    Some(Finding::error(subject(&table.schema, &table.name), sentence).fix(fix))
}

/// Why updates and deletes of the table could not be published.
pub(super) fn why_unusable(table: &TableInfo) -> &'static str {
    match table.replica_identity {
        _ if table.kind == TableKind::Partitioned => {
            "has a partition without a usable replica identity"
        }
        ReplicaIdentity::Nothing => "has REPLICA IDENTITY NOTHING",
        ReplicaIdentity::Index => {
            "has lost the index of its replica identity (dropped, or invalid)"
        }
        _ if table.primary_key_deferrable => {
            "has a primary key that is DEFERRABLE and so is no replica identity"
        }
        _ if table.identity_usable => {
            "has generated columns in its replica identity that are not published"
        }
        _ => "has no primary key and no other replica identity",
    }
}

/// Partitions and inheritance.
fn family(facts: &Facts, options: &SourceOptions, table: &TableInfo) -> Vec<Finding> {
    let subject = subject(&table.schema, &table.name);
    let mut findings = Vec::new();
    if table.kind == TableKind::Partitioned {
        findings.push(Finding::note(
            subject.clone(),
            "rows of all partitions come under its name; not seen are TRUNCATE of a single \
             partition, rows a partition holds when it is attached, and changes after it is \
             detached",
        ));
    }
    if table.kind == TableKind::Partitioned && facts.server.version_num < 150_000 {
        findings.push(
            Finding::warning(
                subject.clone(),
                "is partitioned on a server older than 15, which goes by what a partition was when \
                 the stream first met it: one that is attached or detached while walhook streams may \
                 stay silent, or go on coming",
            )
            .fix("restart walhook right after ATTACH PARTITION and DETACH PARTITION"),
        );
    }
    if !table.ancestors.is_empty() {
        findings.push(partition(facts, options, table));
    }
    if table.has_children {
        findings.push(
            Finding::note(subject, "has child tables (INHERITS), which are not followed with it")
                .fix("name the child tables in the configuration too"),
        );
    }
    findings
}

/// A partition named by itself.
fn partition(facts: &Facts, options: &SourceOptions, table: &TableInfo) -> Finding {
    let subject = subject(&table.schema, &table.name);
    let root = table.ancestors.last().map_or("", String::as_str);
    let via_root = facts.publication.as_ref().is_none_or(|publication| publication.via_root);
    let is_ancestor =
        |(schema, name): &(String, String)| table.ancestors.contains(&quote_table(schema, name));
    let names_ancestor = |p: &crate::postgres::publication::PublicationInfo| {
        p.tables.iter().any(|t| table.ancestors.contains(&quote_table(&t.schema, &t.name)))
    };
    let root_published = options.exact_names().iter().any(is_ancestor)
        || facts.publication.as_ref().is_some_and(|p| p.all_tables || names_ancestor(p));
    if via_root && root_published {
        let sentence = format!(
            "is a partition of {root}, which is published too: its rows come under that name and \
             never under its own"
        );
        return Finding::error(subject, sentence)
            .fix("remove the partition from the configuration, and follow its root instead");
    }
    Finding::warning(subject, format!("is a partition of {root}: only its own rows become events"))
        .fix(format!("name {root} instead to follow all of them"))
}

fn generated(facts: &Facts, table: &TableInfo) -> Option<Finding> {
    let sent = facts.sends_generated();
    let is_missing = |kind| !(sent && kind == GeneratedKind::Stored);
    let missing = table.columns.iter().filter(|c| c.generated.is_some_and(is_missing));
    let names: Vec<String> = missing.map(|c| shown(&c.name)).collect();
    if names.is_empty() {
        return None;
    }
    let sentence =
        format!("generated columns are not in the stream: {}", list(&names, NAMES_SHOWN));
    let finding = Finding::note(subject(&table.schema, &table.name), sentence);
    let name = facts.publication.as_ref().map(|publication| &publication.name);
    let stored = table.columns.iter().any(|c| c.generated == Some(GeneratedKind::Stored));
    Some(match name.filter(|_| stored && facts.server.version_num >= GENERATED_SINCE) {
        None => finding,
        Some(name) => finding.fix(format!(
            "ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
            quote_ident(name)
        )),
    })
}
