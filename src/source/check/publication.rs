//! Rules about the publication.

use super::tables::{NAMES_SHOWN, subject, why_unusable};
use crate::postgres::catalog::{Persistence, TableInfo, TableKind};
use crate::postgres::publication::{
    PublicationInfo, alter_publication_sql, create_publication_sql,
};
use crate::postgres::sql::quote_ident;
use crate::source::advice::{list, shown, shown_table};
use crate::source::{Facts, Finding, SourceOptions};

/// What Postgres keeps of a name; longer ones it cuts off, so that they are not found again.
const MAX_NAME_BYTES: usize = 63;

pub(in crate::source) fn publication(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let title = title(options);
    if let Some(finding) = unusable_name(options) {
        return vec![finding];
    }
    let Some(publication) = &facts.publication else {
        let mut findings = vec![missing(facts, options)];
        findings.extend(creation_privileges(facts, options));
        return findings;
    };
    let mut findings = Vec::new();
    let gaps = gaps(facts, options, publication);
    if !gaps.is_empty() {
        findings.extend(gaps);
        findings.extend(change_privileges(facts, options, publication));
    } else {
        findings.extend(complete(options, publishable(facts, options).len()));
    }
    let missing_actions = publication.missing_actions();
    if !missing_actions.is_empty() {
        let sentence = format!("does not publish {}", missing_actions.join(", "));
        findings.push(Finding::warning(title, sentence).fix(format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
            quote_ident(&publication.name)
        )));
    }
    findings.extend(restrictions(options, publication));
    findings.extend(strangers(facts, options, publication));
    findings
}

/// That the tables are published, of those that can be; about the others there is nothing to praise.
fn complete(options: &SourceOptions, publishable: usize) -> Option<Finding> {
    let sentence = match (publishable, options.tables.len()) {
        (0, _) => return None,
        (1, 1) => "publishes the table".to_owned(),
        (count, all) if count == all => format!("publishes all {count} tables"),
        (count, all) => format!("publishes {count} of {all} tables, the rest cannot be published"),
    };
    Some(Finding::ok(title(options), sentence))
}

fn title(options: &SourceOptions) -> String {
    format!("publication {}", shown(&options.publication))
}

/// A name that Postgres would not keep.
pub(in crate::source) fn unusable_name(options: &SourceOptions) -> Option<Finding> {
    let name = &options.publication;
    let problem = if name.is_empty() {
        "has no name".to_owned()
    } else if name.contains('\0') {
        "has a NUL byte in its name".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("has a name of {} bytes, Postgres keeps {MAX_NAME_BYTES}", name.len())
    } else {
        return None;
    };
    Some(Finding::error(title(options), problem).fix("set another publication in [source]"))
}

fn missing(facts: &Facts, options: &SourceOptions) -> Finding {
    let title = title(options);
    if facts.slot.is_some() {
        return behind_the_slot(options);
    }
    if options.create {
        return Finding::note(title, "does not exist yet; walhook creates it when it starts");
    }
    let sql = create_publication_sql(&options.publication, &publishable(facts, options));
    Finding::error(title, "does not exist").fix(format!("walhook setup, or {sql};"))
}

/// A publication created later than the slot does not serve it: each row is judged by the catalog
/// as it was when the row was written, and there the publication is missing.
pub(in crate::source) fn behind_the_slot(options: &SourceOptions) -> Finding {
    let sentence = format!(
        "does not exist, but the slot {} does: what was written since the slot's position cannot be \
         read, even once the publication is there",
        shown(&options.slot)
    );
    Finding::error(title(options), sentence)
        .fix("walhook teardown, then walhook setup: the slot must be newer than the publication")
}

/// What creating the publication takes.
pub(in crate::source) fn creation_privileges(
    facts: &Facts,
    options: &SourceOptions,
) -> Vec<Finding> {
    let server = &facts.server;
    let mut findings = Vec::new();
    if !server.role_can_create {
        let sentence = format!(
            "may not create a publication: it lacks CREATE on database {}",
            shown(&server.database)
        );
        findings.push(Finding::error(format!("role {}", shown(&server.role)), sentence).fix(
            format!(
                "GRANT CREATE ON DATABASE {} TO {};",
                quote_ident(&server.database),
                quote_ident(&server.role)
            ),
        ));
    }
    let sql = create_publication_sql(&options.publication, &publishable(facts, options));
    findings.extend(ownership(facts, &publishable(facts, options), &sql));
    findings
}

/// What changing the publication takes.
pub(in crate::source) fn change_privileges(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<Finding> {
    let statements = changes(facts, options, publication).join("; ");
    if statements.is_empty() {
        return Vec::new();
    }
    if !publication.owned {
        let sentence = format!(
            "may not change publication {}, which {} owns",
            shown(&publication.name),
            shown(&publication.owner)
        );
        return vec![
            Finding::error(format!("role {}", shown(&facts.server.role)), sentence)
                .fix(format!("as {}: {statements};", shown(&publication.owner))),
        ];
    }
    ownership(facts, &uncovered(facts, options, publication), &statements)
}

/// Publishing a table takes owning it.
fn ownership(facts: &Facts, tables: &[(String, String)], sql: &str) -> Vec<Finding> {
    let role = &facts.server.role;
    let tables = tables.iter().filter_map(|(schema, name)| facts.table(schema, name));
    let foreign = tables.filter(|table| !table.owned);
    foreign
        .map(|table| {
            let sentence = format!(
                "belongs to {}, and only its owner may publish it, which {} is not",
                shown(&table.owner),
                shown(role)
            );
            Finding::error(subject(&table.schema, &table.name), sentence)
                .fix(format!("as its owner or a superuser: {sql};"))
        })
        .collect()
}

/// The statements that make the publication fit.
pub(in crate::source) fn changes(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<String> {
    let tables = uncovered(facts, options, publication);
    alter_publication_sql(publication, &tables, needs_via_root(facts, options))
}

/// The tables whose rows do not come under their own name yet. A partition of a published table
/// does, as long as rows come under their partitions' names.
fn uncovered(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<(String, String)> {
    let published = |table: &TableInfo| table.published_in.contains(&publication.name);
    let mut tables = publishable(facts, options);
    tables.retain(|(schema, name)| {
        !publication.names(schema, name) && !facts.table(schema, name).is_some_and(published)
    });
    tables
}

/// The configured tables that a publication can name.
pub(in crate::source) fn publishable(
    facts: &Facts,
    options: &SourceOptions,
) -> Vec<(String, String)> {
    let can = |(schema, name): &&(String, String)| {
        facts.table(schema, name).is_some_and(|table| {
            table.kind.is_publishable() && table.persistence == Persistence::Permanent
        })
    };
    options.exact_names().iter().filter(can).cloned().collect()
}

fn needs_via_root(facts: &Facts, options: &SourceOptions) -> bool {
    options.exact_names().iter().any(|(schema, name)| {
        facts.table(schema, name).is_some_and(|table| table.kind == TableKind::Partitioned)
    })
}

fn gaps(facts: &Facts, options: &SourceOptions, publication: &PublicationInfo) -> Vec<Finding> {
    let title = title(options);
    let mut findings = Vec::new();
    for table in uncovered(facts, options, publication) {
        let sentence = format!("does not publish {}", shown_table(&table.0, &table.1));
        let sql = alter_publication_sql(publication, &[table], false).join("; ");
        findings
            .push(Finding::error(title.clone(), sentence).fix(format!("walhook setup, or {sql};")));
    }
    if needs_via_root(facts, options) && !publication.via_root {
        let sql = alter_publication_sql(publication, &[], true).join("; ");
        let sentence = "publishes rows of partitioned tables under their partitions' names, which \
                        the configuration does not name";
        findings.push(Finding::error(title, sentence).fix(format!("walhook setup, or {sql};")));
    }
    findings
}

fn restrictions(options: &SourceOptions, publication: &PublicationInfo) -> Vec<Finding> {
    let restricted = |tables: &[(String, String)], what: &str| {
        let wanted = options.exact_names();
        let tables = tables.iter().filter(|table| wanted.contains(table));
        let names: Vec<String> = tables.map(|(s, n)| shown_table(s, n)).collect();
        (!names.is_empty()).then(|| {
            let sentence = format!("has a {what} for {}", list(&names, NAMES_SHOWN));
            Finding::note(title(options), sentence)
        })
    };
    let rows = restricted(&publication.row_filtered, "row filter");
    let columns = restricted(&publication.column_listed, "column list");
    rows.into_iter().chain(columns).collect()
}

/// Tables published for nothing, or to the application's harm.
fn strangers(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let named = |harmed: bool| -> Vec<String> {
        let tables = facts.strangers.iter();
        tables
            .filter(|table| harmed != (table.identity_usable || !publication.needs_identity()))
            .filter(|table| table.kind.is_publishable())
            .map(|table| shown_table(&table.schema, &table.name))
            .collect()
    };
    let harmed = named(true);
    if let Some(first) = facts.strangers.iter().find(|t| !t.identity_usable)
        && !harmed.is_empty()
    {
        let sentence = format!(
            "also publishes {}, where the application's UPDATE and DELETE fail now ({} {})",
            list(&harmed, NAMES_SHOWN),
            shown_table(&first.schema, &first.name),
            why_unusable(first)
        );
        findings.push(Finding::warning(title(options), sentence).fix(if publication.all_tables {
            "use a publication of single tables: FOR ALL TABLES takes in every table to come"
        } else {
            "ALTER PUBLICATION … DROP TABLE …, or give those tables a primary key"
        }));
    }
    let idle = named(false);
    if !idle.is_empty() {
        let sentence = format!(
            "also publishes {}, which no table of the configuration names; the rows are sent and \
             thrown away",
            list(&idle, NAMES_SHOWN)
        );
        findings.push(Finding::note(title(options), sentence));
    }
    findings
}
