//! Rules about the publication.

use super::tables::{NAMES_SHOWN, subject, why_unusable};
use crate::postgres::catalog::TableInfo;
use crate::postgres::publication::{
    PublicationInfo, add_schemas_sql, add_tables_sql, create_publication_sql, via_root_sql,
};
use crate::postgres::sql::quote_ident;
use crate::source::advice::{list, shown, shown_table};
use crate::source::target::{FILTERS_SINCE, Target, Whole, targets};
use crate::source::wish::{self, scope, uncovered};
use crate::source::{Facts, Finding, Severity, SourceOptions};

/// What Postgres keeps of a name; longer ones it cuts off, so that they are not found again.
const MAX_NAME_BYTES: usize = 63;

pub(in crate::source) fn publication(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let title = title(options);
    if let Some(finding) = unusable_name(options) {
        return vec![finding];
    }
    let Some(publication) = &facts.publication else {
        let mut findings = vec![missing(facts, options)];
        findings.extend(whole(facts, options));
        findings.extend(creation_privileges(facts, options));
        return findings;
    };
    let mut findings = whole(facts, options);
    let gaps = gaps(facts, options, publication);
    if gaps.iter().any(Finding::is_error) {
        findings.extend(change_privileges(facts, options, publication));
    } else {
        findings.extend(complete(facts, options));
    }
    findings.extend(gaps);
    let missing_actions = publication.missing_actions();
    if !missing_actions.is_empty() {
        let sentence = format!("does not publish {}", missing_actions.join(", "));
        findings.push(Finding::warning(title, sentence).fix(format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
            quote_ident(&publication.name)
        )));
    }
    findings.extend(restrictions(facts, options, publication));
    findings.extend(strangers(facts, options, publication));
    findings
}

/// That the tables are published, of those that can be; about the others there is nothing to praise.
fn complete(facts: &Facts, options: &SourceOptions) -> Option<Finding> {
    let targets = targets(facts, options);
    let named = targets.iter().filter(|target| target.is_named()).count();
    let all = options.exact_names().len() + targets.len() - named;
    let sentence = match (targets.len(), all) {
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
    let sql = create_publication_sql(&options.publication, &scope(facts, options));
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
    let sql = create_publication_sql(&options.publication, &scope(facts, options));
    let whole = Whole::of(options);
    let tables = targets(facts, options);
    let single = tables.iter().map(|target| target.table).filter(|t| !whole.covers(&t.schema));
    findings.extend(ownership(facts, single, &sql));
    findings
}

/// Publishing schemas or everything as a whole: what keeps it from working, and whom it harms.
pub(in crate::source) fn whole(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let whole = Whole::of(options);
    let server = &facts.server;
    let mut findings = Vec::new();
    for spec in options.tables.iter().filter(|spec| spec.whole) {
        let subject = format!("tables {}", spec.pattern);
        if !spec.pattern.is_everything() && spec.pattern.as_whole_schema().is_none() {
            let sentence = "are no whole schema, so they cannot be published as one";
            findings.push(Finding::error(subject, sentence).fix(
                "leave `whole` out, or name a schema as in \"crm.*\", or everything: \"*.*\"",
            ));
        } else if !spec.pattern.is_everything() && server.version_num < FILTERS_SINCE {
            let sentence = format!(
                "cannot be published as a whole schema by PostgreSQL {} (15 can)",
                server.version_num / 10_000
            );
            findings.push(Finding::error(subject, sentence).fix(
                "leave `whole` out, so that tables are added one by one, or name everything: \"*.*\"",
            ));
        }
    }
    if whole.is_empty() {
        return findings;
    }
    let name = &options.publication;
    let (complete, sql) = match &facts.publication {
        None => (false, create_publication_sql(name, &scope(facts, options))),
        Some(publication) if publication.all_tables => (true, String::new()),
        Some(_) if whole.all_tables => {
            findings.push(
                Finding::error(
                    title(options),
                    "is not FOR ALL TABLES, which the configuration asks for (whole = true) and no \
                     ALTER PUBLICATION can make it",
                )
                .fix("leave `whole` out, or walhook teardown, then walhook setup"),
            );
            (true, String::new())
        }
        Some(publication) => {
            let missing = wish::missing_schemas(options, publication);
            (missing.is_empty(), add_schemas_sql(name, &missing))
        }
    };
    if !complete && !server.role_superuser {
        let what = if whole.all_tables { "all tables" } else { "whole schemas" };
        let sentence = format!("may not publish {what}: only a superuser may");
        findings.push(
            Finding::error(format!("role {}", shown(&server.role)), sentence)
                .fix(format!("leave `whole` out, or as a superuser: {sql};")),
        );
    }
    findings.extend(harmed(facts, options, &whole));
    findings
}

/// Tables whose updates fail, because they are published whatever their replica identity.
fn harmed(facts: &Facts, options: &SourceOptions, whole: &Whole) -> Option<Finding> {
    let publication = facts.publication.as_ref();
    if publication.is_some_and(|publication| !publication.needs_identity()) {
        return None;
    }
    let targets = targets(facts, options);
    let mut harmed = targets.iter().map(|target| target.table);
    let names: Vec<String> = harmed
        .by_ref()
        .filter(|table| !facts.takes_updates(table) && whole.covers(&table.schema))
        .map(|table| shown_table(&table.schema, &table.name))
        .collect();
    if names.is_empty() {
        return None;
    }
    let sentence = format!(
        "publishes tables as a whole (whole = true), of which {} cannot be updated any more: the \
         application's UPDATE and DELETE on it fail",
        list(&names, NAMES_SHOWN)
    );
    Some(
        Finding::warning(title(options), sentence)
            .fix("give these tables a primary key or REPLICA IDENTITY FULL, or leave `whole` out"),
    )
}

/// What changing the publication takes.
pub(in crate::source) fn change_privileges(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<Finding> {
    let steps = wish::steps(facts, options, publication, &|_| true);
    if steps.is_empty() {
        return Vec::new();
    }
    let statements: Vec<String> = steps.into_iter().map(|step| step.sql).collect();
    let statements = statements.join("; ");
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
    let missing = uncovered(facts, options, publication);
    let missing = missing.iter().map(|target| target.table);
    let different = wish::differences(facts, options, publication);
    let different = different.iter().map(|difference| difference.table);
    ownership(facts, missing.chain(different), &statements)
}

/// Publishing a table takes owning it.
fn ownership<'a>(
    facts: &Facts,
    tables: impl Iterator<Item = &'a TableInfo>,
    sql: &str,
) -> Vec<Finding> {
    let role = &facts.server.role;
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

fn gaps(facts: &Facts, options: &SourceOptions, publication: &PublicationInfo) -> Vec<Finding> {
    let title = title(options);
    let mut findings = Vec::new();
    let setup = |sql: String| format!("walhook setup, or {sql};");
    let schemas = wish::missing_schemas(options, publication);
    if !schemas.is_empty() {
        let names: Vec<String> = schemas.iter().map(|schema| shown(schema)).collect();
        let sentence = format!("does not publish all of {}", list(&names, NAMES_SHOWN));
        let sql = add_schemas_sql(&publication.name, &schemas);
        findings.push(Finding::error(title.clone(), sentence).fix(setup(sql)));
    }
    for target in uncovered(facts, options, publication) {
        let (schema, name) = target.schema_and_name();
        if schemas.iter().any(|whole| whole == schema) {
            continue;
        }
        let sentence = format!("does not publish {}", shown_table(schema, name));
        let sql = add_tables_sql(&publication.name, &[wish::wish(facts, options, &target)]);
        findings.push(Finding::error(title.clone(), sentence).fix(setup(sql)));
    }
    if wish::needs_via_root(facts, options) && !publication.via_root {
        let sentence = "publishes rows of partitioned tables under their partitions' names, which \
                        the configuration does not name";
        let sql = via_root_sql(&publication.name);
        findings.push(Finding::error(title.clone(), sentence).fix(setup(sql)));
    }
    for difference in wish::differences(facts, options, publication) {
        let fix = setup(difference.step.sql);
        findings.push(match difference.severity {
            Severity::Error => Finding::error(title.clone(), difference.sentence).fix(fix),
            _ => Finding::note(title.clone(), difference.sentence).fix(fix),
        });
    }
    findings
}

/// Row filters and column lists of the publication: those nobody asked for, and what walhook's own
/// mean for whoever changes the tables.
fn restrictions(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<Finding> {
    let targets = targets(facts, options);
    let named = |restricted: &dyn Fn(&Target<'_>) -> bool| -> Option<String> {
        let tables = targets.iter().filter(|target| restricted(target));
        let names: Vec<String> =
            tables.map(|t| shown_table(&t.table.schema, &t.table.name)).collect();
        (!names.is_empty()).then(|| list(&names, NAMES_SHOWN))
    };
    let published = |target: &Target<'_>| {
        let (schema, name) = target.schema_and_name();
        publication.table(schema, name)
    };
    let filtered = |target: &Target<'_>| published(target).is_some_and(|t| t.filter.is_some());
    let listed = |target: &Target<'_>| published(target).is_some_and(|t| t.columns.is_some());
    let undecided = |target: &Target<'_>| {
        let theirs = published(target).and_then(|published| published.filter.as_deref());
        let ours = facts.filters.get(&target.table.oid);
        theirs.zip(ours).is_some_and(|(theirs, ours)| ours.is(theirs).is_none())
    };
    let mut findings = Vec::new();
    // in a publication of walhook's own that is a difference, and mended
    let unasked = |what: &str, names: String, lost: &str| {
        let sentence = format!(
            "has a {what} for {names}, which the configuration does not ask for: the {lost} it \
             leaves out are in no event"
        );
        Finding::warning(title(options), sentence).fix(format!(
            "if nobody else wants it: ALTER PUBLICATION {} DROP TABLE …; walhook adds it again \
             without",
            quote_ident(&publication.name)
        ))
    };
    if !publication.made_by_walhook {
        let filter = named(&|target| filtered(target) && target.spec.filter.is_none());
        findings.extend(filter.map(|names| unasked("row filter", names, "rows")));
        let columns = named(&|target| listed(target) && target.spec.columns.is_none());
        findings.extend(columns.map(|names| unasked("column list", names, "columns")));
    }
    if let Some(names) = named(&undecided) {
        let sentence = format!(
            "has a row filter for {names} that could not be compared with the configured one (that \
             takes owning the tables, CREATE on the database and no lock in the way): both apply"
        );
        findings.push(Finding::note(title(options), sentence));
    }
    if let Some(names) = named(&|target| listed(target) && target.spec.columns.is_some()) {
        let sentence = format!(
            "has a column list for {names}: a column in it cannot be dropped before the \
             publication is altered"
        );
        findings.push(Finding::note(title(options), sentence));
    }
    findings
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
            .filter(|table| harmed != (facts.takes_updates(table) || !publication.needs_identity()))
            .filter(|table| table.kind.is_publishable())
            .map(|table| shown_table(&table.schema, &table.name))
            .collect()
    };
    let harmed = named(true);
    if let Some(first) = facts.strangers.iter().find(|t| !facts.takes_updates(t))
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
