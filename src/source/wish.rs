//! What the publication is to say of each table, how that differs from what it says, and the steps
//! from one to the other.
//!
//! Row filters and column lists are pushed into the publication only where that can do no harm: a
//! row that must not be told has left the server anyway when walhook sees it, but an UPDATE that
//! the server refuses is the application's loss.

use super::advice::{list, shown, shown_table};
use super::filter::Form;
use super::target::{Target, Whole, targets};
use super::{Facts, Severity, SourceOptions, Step};
use crate::postgres::catalog::{GeneratedKind, TableInfo, TableKind};
use crate::postgres::publication::{
    PublicationInfo, PublishedTable, Scope, TableScope, add_schemas_sql, add_tables_sql,
    replace_table_sql, via_root_sql,
};

/// From where on generated columns can be published.
pub(super) const GENERATED_SINCE: u32 = 180_000;

const NAMES_SHOWN: usize = 5;

/// What the publication is to say of a table.
pub(super) fn wish(facts: &Facts, options: &SourceOptions, target: &Target<'_>) -> TableScope {
    let mut scope = TableScope::all(&target.table.schema, &target.table.name);
    // a partitioned table takes neither where rows come under its partitions' names
    let by_leaf = target.table.kind == TableKind::Partitioned
        && facts.publication.as_ref().is_some_and(|publication| !publication.via_root);
    if facts.can_restrict(options) && !by_leaf {
        scope.filter = pushed_filter(facts, target.table);
        scope.columns = pushed_columns(facts, target, scope.filter.is_some());
    }
    scope
}

fn pushed_filter(facts: &Facts, table: &TableInfo) -> Option<String> {
    let filter = facts.filters.get(&table.oid)?;
    let taken = matches!(filter.form, Form::Canonical(_));
    (taken && harmless(facts, filter.covered)).then(|| filter.expression.clone())
}

/// Whether a filter does not stop updates: it reads the identity's columns only, or updates and
/// deletes are not published.
fn harmless(facts: &Facts, covered: bool) -> bool {
    covered || facts.publication.as_ref().is_some_and(|p| !p.needs_identity())
}

fn pushed_columns(
    facts: &Facts,
    target: &Target<'_>,
    filter_is_pushed: bool,
) -> Option<Vec<String>> {
    let (table, spec) = (target.table, target.spec);
    let wanted = spec.columns.as_ref()?;
    // with FULL, any list that lacks a column stops updates
    if table.identity_full {
        return None;
    }
    let used: &[String] = match facts.filters.get(&table.oid) {
        Some(filter) if !filter_is_pushed && filter.used.is_empty() => return None,
        Some(filter) if !filter_is_pushed => &filter.used,
        _ => &[],
    };
    let needed = |name: &String| {
        wanted.contains(name)
            || table.primary_key.contains(name)
            || table.identity_keys.contains(name)
            || spec.soft_delete.as_ref() == Some(name)
            || used.contains(name)
    };
    let possible = |generated: Option<GeneratedKind>| match generated {
        None => true,
        Some(GeneratedKind::Stored) => facts.server.version_num >= GENERATED_SINCE,
        Some(GeneratedKind::Virtual) => false,
    };
    let can = table.columns.iter().filter(|c| possible(c.generated));
    let columns: Vec<String> = can.map(|c| &c.name).filter(|n| needed(n)).cloned().collect();
    let all =
        table.columns.iter().filter(|c| c.generated.is_none()).all(|c| columns.contains(&c.name));
    (!columns.is_empty() && !all).then_some(columns)
}

/// The publication as it would be created.
pub(super) fn scope(facts: &Facts, options: &SourceOptions) -> Scope {
    let whole = Whole::of(options);
    let tables = targets(facts, options);
    let single = tables.iter().filter(|target| !whole.covers(&target.table.schema));
    Scope {
        all_tables: whole.all_tables,
        tables: single.map(|target| wish(facts, options, target)).collect(),
        schemas: if whole.all_tables { Vec::new() } else { whole.schemas },
        generated: facts.server.version_num >= GENERATED_SINCE,
    }
}

/// What a publication says of a table, and what it should.
pub(super) struct Difference<'a> {
    pub(super) table: &'a TableInfo,
    /// How bad it is as long as nobody mends it.
    pub(super) severity: Severity,
    /// Whether the application's updates and deletes fail as long as nobody mends it.
    pub(super) stops_updates: bool,
    /// What is the matter, with the publication as subject.
    pub(super) sentence: String,
    /// What mends it.
    pub(super) step: Step,
}

/// One row filter or column list that differs.
struct Change {
    severity: Severity,
    stops_updates: bool,
    sentence: String,
    reason: String,
}

/// How what the publication says of tables it names differs from what it should say.
pub(super) fn differences<'a>(
    facts: &'a Facts,
    options: &'a SourceOptions,
    publication: &PublicationInfo,
) -> Vec<Difference<'a>> {
    if !facts.can_restrict(options) {
        return Vec::new();
    }
    let differs = |target: Target<'a>| {
        let (schema, name) = target.schema_and_name();
        difference(facts, options, publication.table(schema, name)?, target)
    };
    targets(facts, options).into_iter().filter_map(differs).collect()
}

fn difference<'a>(
    facts: &Facts,
    options: &SourceOptions,
    published: &PublishedTable,
    target: Target<'a>,
) -> Option<Difference<'a>> {
    let mut wanted = wish(facts, options, &target);
    let filter = filter_change(facts, published, &target, &wanted);
    if filter.is_none() {
        wanted.filter.clone_from(&published.filter);
    }
    let columns = columns_change(facts, published, &target, &wanted);
    if columns.is_none() {
        wanted.columns.clone_from(&published.columns);
    }
    let changes: Vec<Change> = filter.into_iter().chain(columns).collect();
    let severity = changes.iter().map(|change| change.severity).max()?;
    let join =
        |text: fn(&Change) -> &str| changes.iter().map(text).collect::<Vec<_>>().join(", and ");
    let name = &options.publication;
    let table = shown_table(&target.table.schema, &target.table.name);
    let reason = join(|change| &change.reason);
    Some(Difference {
        table: target.table,
        severity,
        stops_updates: changes.iter().any(|change| change.stops_updates),
        sentence: format!("{} for {table}", join(|change| &change.sentence)),
        step: Step {
            sql: replace_table_sql(name, &wanted),
            reason: format!("change {reason} of {table} in the publication {}", shown(name)),
        },
    })
}

fn filter_change(
    facts: &Facts,
    published: &PublishedTable,
    target: &Target<'_>,
    wanted: &TableScope,
) -> Option<Change> {
    let change = |severity, sentence: String, from: &str, to: &str| {
        let reason = format!("the row filter (from {from} to {to})");
        Some(Change { severity, stops_updates: false, sentence, reason })
    };
    if target.spec.filter.is_none() {
        let theirs = bounded(published.filter.as_ref().filter(|_| is_ours(facts))?);
        let sentence = format!("has the row filter {theirs}, which the configuration lacks");
        return change(Severity::Error, sentence, &theirs, "none");
    }
    let filter = facts.filters.get(&target.table.oid)?;
    if filter.invalid.is_some() {
        return None;
    }
    let ours = bounded(&filter.expression);
    match (&published.filter, &wanted.filter) {
        (None, None) => None,
        (None, Some(_)) => {
            let sentence = "does not apply the configured row filter itself, walhook does";
            change(Severity::Note, sentence.to_owned(), "none", &ours)
        }
        (Some(theirs), wanted) => {
            let theirs_shown = bounded(theirs);
            let to = if wanted.is_some() { &*ours } else { "none" };
            match filter.is(theirs) {
                None => None,
                Some(true) if harmless(facts, filter.covered) => None,
                Some(true) => {
                    let sentence = format!(
                        "has the row filter {theirs_shown}, whose columns are not all in the \
                         replica identity, so the application's UPDATE and DELETE fail"
                    );
                    change(Severity::Error, sentence, &theirs_shown, to)
                        .map(|change| Change { stops_updates: true, ..change })
                }
                Some(false) => {
                    let sentence = format!("has the row filter {theirs_shown} instead of {ours}");
                    change(Severity::Error, sentence, &theirs_shown, to)
                }
            }
        }
    }
}

fn columns_change(
    facts: &Facts,
    published: &PublishedTable,
    target: &Target<'_>,
    wanted: &TableScope,
) -> Option<Change> {
    if target.spec.columns.is_none() && !is_ours(facts) {
        return None;
    }
    let stops_updates =
        published.columns.as_ref().is_some_and(|list| list_stops_updates(facts, target, list));
    let change = |severity, sentence: &str| {
        let (from, to) = (columns(&published.columns), columns(&wanted.columns));
        let harm = if stops_updates {
            ", which does not cover the replica identity, so the application's UPDATE and DELETE fail"
        } else {
            ""
        };
        let sentence = format!("{sentence} ({from}, not {to}){harm}");
        let reason = format!("the columns (from {from} to {to})");
        Some(Change { severity, stops_updates, sentence, reason })
    };
    match (&published.columns, &wanted.columns) {
        (None, None) => None,
        (None, Some(_)) => change(Severity::Note, "sends more columns than needed"),
        (Some(_), None) => change(Severity::Error, "has a column list"),
        (Some(has), Some(needs)) if needs.iter().any(|column| !has.contains(column)) => {
            change(Severity::Error, "lacks columns")
        }
        (Some(has), Some(needs)) if has.len() > needs.len() => {
            change(Severity::Note, "sends more columns than needed")
        }
        (Some(_), Some(_)) => None,
    }
}

/// Whether walhook has made the publication, so that nobody else meant anything by what is in it.
fn is_ours(facts: &Facts) -> bool {
    facts.publication.as_ref().is_some_and(|publication| publication.made_by_walhook)
}

/// Whether the server refuses updates and deletes of a table published with this column list:
/// with FULL it takes none, else the list has to contain the replica identity.
fn list_stops_updates(facts: &Facts, target: &Target<'_>, list: &[String]) -> bool {
    let table = target.table;
    let lacks = |name: &String| !list.contains(name);
    facts.publication.as_ref().is_some_and(PublicationInfo::needs_identity)
        && (table.identity_full || table.identity_keys.iter().any(lacks))
}

fn columns(columns: &Option<Vec<String>>) -> String {
    match columns {
        None => "all".to_owned(),
        Some(columns) => {
            list(&columns.iter().map(|column| shown(column)).collect::<Vec<_>>(), NAMES_SHOWN)
        }
    }
}

/// An expression inside a sentence: on one line and not endless.
pub(super) fn bounded(expression: &str) -> String {
    const MOST: usize = 200;
    let line: String = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The steps that make the publication fit, of the tables that `may_change` says.
pub(super) fn steps(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
    may_change: &dyn Fn(&TableInfo) -> bool,
) -> Vec<Step> {
    let name = shown(&options.publication);
    let mut steps = Vec::new();
    let schemas = missing_schemas(options, publication);
    let mut missing = uncovered(facts, options, publication);
    if !schemas.is_empty() {
        missing.retain(|target| !schemas.contains(&target.table.schema));
        let shown: Vec<String> = schemas.iter().map(|schema| shown(schema)).collect();
        steps.push(Step {
            sql: add_schemas_sql(&publication.name, &schemas),
            reason: format!("add all of {} to the publication {name}", list(&shown, NAMES_SHOWN)),
        });
    }
    let differences = differences(facts, options, publication);
    let mendable = differences.into_iter().filter(|difference| may_change(difference.table));
    steps.extend(mendable.map(|difference| difference.step));
    missing.retain(|target| may_change(target.table));
    if !missing.is_empty() {
        let names: Vec<String> =
            missing.iter().map(|t| shown_table(&t.table.schema, &t.table.name)).collect();
        let scopes: Vec<_> = missing.iter().map(|t| wish(facts, options, t)).collect();
        steps.push(Step {
            sql: add_tables_sql(&publication.name, &scopes),
            reason: format!("add {} to the publication {name}", list(&names, NAMES_SHOWN)),
        });
    }
    steps
}

/// The step that lets rows of partitions come under their root's name, where that is needed. It
/// changes what everybody who reads the publication gets, so only setup takes it.
pub(super) fn via_root_step(
    facts: &Facts,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Option<Step> {
    (needs_via_root(facts, options) && !publication.via_root).then(|| Step {
        sql: via_root_sql(&publication.name),
        reason: format!(
            "let the publication {} send partitions' rows under their root's name",
            shown(&options.publication)
        ),
    })
}

/// The schemas the publication is to have as a whole, and lacks.
pub(super) fn missing_schemas(
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Vec<String> {
    let whole = Whole::of(options);
    if publication.all_tables || whole.all_tables {
        return Vec::new();
    }
    let lacks = |schema: &String| !publication.schemas.contains(schema);
    whole.schemas.into_iter().filter(lacks).collect()
}

/// The tables whose rows do not come under their own name yet. A partition of a published table
/// does, as long as rows come under their partitions' names.
pub(super) fn uncovered<'a>(
    facts: &'a Facts,
    options: &'a SourceOptions,
    publication: &PublicationInfo,
) -> Vec<Target<'a>> {
    let mut tables = targets(facts, options);
    tables.retain(|target| {
        let (schema, name) = target.schema_and_name();
        !publication.names(schema, name) && !target.table.published_in.contains(&publication.name)
    });
    tables
}

pub(super) fn needs_via_root(facts: &Facts, options: &SourceOptions) -> bool {
    targets(facts, options).iter().any(|target| target.table.kind == TableKind::Partitioned)
}
