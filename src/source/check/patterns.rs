//! Rules about what patterns of several tables find.

use super::tables::{NAMES_SHOWN, why_unusable};
use crate::postgres::catalog::{TableInfo, TableKind};
use crate::postgres::publication::add_tables_sql;
use crate::postgres::relation::ReplicaIdentity;
use crate::source::advice::{list, shown_table};
use crate::source::target::{LeftOut, Whole, left_out, matched, targets};
use crate::source::{Facts, Finding, SourceOptions, TableSpec, wish};

pub(super) fn patterns(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let patterns = options.tables.iter().filter(|spec| spec.pattern.as_exact().is_none());
    patterns.flat_map(|spec| pattern(facts, options, spec)).collect()
}

fn names<'a>(tables: impl Iterator<Item = &'a TableInfo>) -> Vec<String> {
    tables.map(|table| shown_table(&table.schema, &table.name)).collect()
}

/// A pattern that finds nothing.
pub(in crate::source) fn none(subject: String) -> Finding {
    let sentence = "mean none that exists in the database; those to come are followed as they are \
                    created";
    Finding::warning(subject, sentence).fix("correct the pattern, if that is unexpected")
}

fn pattern(facts: &Facts, options: &SourceOptions, spec: &TableSpec) -> Vec<Finding> {
    let subject = format!("tables {}", spec.pattern);
    if matched(facts, options, spec).next().is_none() {
        return vec![none(subject)];
    }
    let targets = targets(facts, options);
    let followed: Vec<&TableInfo> = targets
        .iter()
        .filter(|target| target.spec.pattern == spec.pattern)
        .map(|target| target.table)
        .collect();
    let mut findings = Vec::new();
    if !followed.is_empty() {
        let names = names(followed.iter().copied());
        let sentence = format!("are {}: {}", names.len(), list(&names, NAMES_SHOWN));
        findings.push(Finding::ok(subject.clone(), sentence));
    }
    findings.extend(without_identity(facts, options, spec, &subject));
    findings.extend(of_others(facts, options, spec, &subject));
    findings.extend(harmed_already(facts, options, &followed, &subject));
    let plain = |table: &&&TableInfo| {
        table.kind != TableKind::Partitioned
            && facts.takes_updates(table)
            && table.replica_identity != ReplicaIdentity::Full
    };
    let plain = names(followed.iter().filter(plain).copied());
    if !plain.is_empty() {
        let sentence = format!(
            "updates of {} carry no `previous` and `updatedFields`",
            list(&plain, NAMES_SHOWN)
        );
        findings.push(
            Finding::note(subject, sentence)
                .fix(if spec.columns.is_some() {
                    "ALTER TABLE … REPLICA IDENTITY FULL; (only if you want them; where the publication \
                     has a column list, in one transaction with ALTER PUBLICATION … DROP TABLE … and \
                     ADD TABLE … without it: else the application's UPDATE and DELETE fail)"
                } else {
                    "ALTER TABLE … REPLICA IDENTITY FULL; (only if you want them)"
                }),
        );
    }
    findings
}

/// Tables that are left out for the application's sake.
fn without_identity(
    facts: &Facts,
    options: &SourceOptions,
    spec: &TableSpec,
    subject: &str,
) -> Option<Finding> {
    let out = left_out(facts, options);
    let out = out
        .iter()
        .filter(|(target, why)| *why == LeftOut::NoIdentity && target.spec.pattern == spec.pattern);
    let tables: Vec<&TableInfo> = out.map(|(target, _)| target.table).collect();
    let first = tables.first()?;
    let sentence = format!(
        "{} left out, since publishing would make the application's UPDATE and DELETE fail ({} {})",
        are(&names(tables.iter().copied())),
        shown_table(&first.schema, &first.name),
        why_unusable(first)
    );
    Some(Finding::note(subject, sentence).fix(
        "ALTER TABLE … ADD PRIMARY KEY (…); or ALTER TABLE … REPLICA IDENTITY FULL; and they are \
         followed",
    ))
}

/// Tables that walhook's role cannot publish.
fn of_others(
    facts: &Facts,
    options: &SourceOptions,
    spec: &TableSpec,
    subject: &str,
) -> Option<Finding> {
    let out = left_out(facts, options);
    let out: Vec<_> = out
        .iter()
        .filter(|(target, why)| *why == LeftOut::NotOwned && target.spec.pattern == spec.pattern)
        .map(|(target, _)| target)
        .collect();
    let first = out.first()?;
    let scopes: Vec<_> = out.iter().map(|target| wish::wish(facts, options, target)).collect();
    let sentence = format!(
        "{} left out, since only the owner of a table may publish it (of the first, {})",
        are(&names(out.iter().map(|target| target.table))),
        first.table.owner
    );
    Some(Finding::warning(subject, sentence).fix(format!(
        "as their owner or a superuser: {};",
        add_tables_sql(&options.publication, &scopes)
    )))
}

/// Tables that somebody published though they have no identity.
fn harmed_already(
    facts: &Facts,
    options: &SourceOptions,
    followed: &[&TableInfo],
    subject: &str,
) -> Option<Finding> {
    let publication = facts.publication.as_ref()?;
    let whole = Whole::of(options);
    if !publication.needs_identity() {
        return None;
    }
    let harmed = followed.iter().filter(|t| !facts.takes_updates(t) && !whole.covers(&t.schema));
    let names = names(harmed.copied());
    if names.is_empty() {
        return None;
    }
    let sentence = format!(
        "{} published without a usable replica identity: the application's UPDATE and DELETE fail \
         now",
        are(&names)
    );
    Some(Finding::error(subject, sentence).fix(
        "ALTER TABLE … ADD PRIMARY KEY (…); or ALTER TABLE … REPLICA IDENTITY FULL; or ALTER \
         PUBLICATION … DROP TABLE …;",
    ))
}

fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", list(names, NAMES_SHOWN))
}
