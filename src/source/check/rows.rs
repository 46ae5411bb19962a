//! Rules about which rows and columns of a table are wanted.

use super::tables::{NAMES_SHOWN, full_sql, subject};
use crate::source::advice::{list, shown};
use crate::source::filter::{FilterFacts, Form};
use crate::source::target::Target;
use crate::source::wish::bounded;
use crate::source::{Facts, Finding, SourceOptions};

pub(super) fn rows(facts: &Facts, options: &SourceOptions, target: &Target<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(filter(facts, options, target));
    findings.extend(soft_delete(facts, target));
    findings.extend(unknown_columns(target));
    findings
}

/// The same where the old row is always known.
pub(in crate::source) fn without_identity(facts: &Facts, target: &Target<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let known = facts.filters.get(&target.table.oid);
    findings.extend(known.and_then(|filter| invalid(filter, target)));
    findings.extend(no_soft_delete(target));
    findings.extend(unknown_columns(target));
    findings
}

/// A row filter that is none.
fn invalid(filter: &FilterFacts, target: &Target<'_>) -> Option<Finding> {
    let said = filter.invalid.as_ref()?;
    let shown = bounded(&filter.expression);
    let sentence = format!("the row filter {shown} cannot be used: {said}");
    let fix = "correct `where` in the configuration: a condition on the table's own columns";
    Some(Finding::error(subject(&target.table.schema, &target.table.name), sentence).fix(fix))
}

/// A column that marks deleted rows, and does not exist.
fn no_soft_delete(target: &Target<'_>) -> Option<Finding> {
    let (table, column) = (target.table, target.spec.soft_delete.as_ref()?);
    if table.columns.iter().any(|known| known.name == *column) {
        return None;
    }
    let sentence = format!("has no column {} (soft_delete)", shown(column));
    let finding = Finding::warning(subject(&table.schema, &table.name), sentence);
    Some(finding.fix("correct `soft_delete` in the configuration"))
}

fn filter(facts: &Facts, options: &SourceOptions, target: &Target<'_>) -> Vec<Finding> {
    let table = target.table;
    let Some(filter) = facts.filters.get(&table.oid) else { return Vec::new() };
    let subject = subject(&table.schema, &table.name);
    let shown = bounded(&filter.expression);
    if let Some(finding) = invalid(filter, target) {
        return vec![finding];
    }
    let mut findings = Vec::new();
    if !filter.covered {
        let sentence = format!(
            "the row filter {shown} reads columns that old rows do not contain: a row that leaves \
             the filter goes without a `deleted`, and deletes of all rows are told"
        );
        findings.push(
            Finding::warning(subject.clone(), sentence).fix(format!(
                "{} (or an identity index with these columns)",
                full_sql(facts, table)
            )),
        );
    }
    if let Form::Refused(said) = &filter.form
        && facts.can_restrict(options)
    {
        let sentence = format!(
            "the row filter {shown} is applied by walhook itself, since a publication does not \
             take it: {said}"
        );
        findings.push(Finding::note(subject, sentence));
    }
    findings
}

/// Whether the old value of the column that marks deleted rows is known.
fn soft_delete(facts: &Facts, target: &Target<'_>) -> Option<Finding> {
    let (table, column) = (target.table, target.spec.soft_delete.as_ref()?);
    let subject = subject(&table.schema, &table.name);
    if let Some(finding) = no_soft_delete(target) {
        return Some(finding);
    }
    if table.identity_columns.contains(column) {
        return None;
    }
    let sentence = format!(
        "old rows do not contain {} (soft_delete): a deletion is told again with every later \
         update of the row, and `restored` is never told",
        shown(column)
    );
    Some(Finding::warning(subject, sentence).fix(full_sql(facts, table)))
}

/// Columns the configuration lists and the table does not have. A pattern's list is for several
/// tables, which need not all have all of them.
fn unknown_columns(target: &Target<'_>) -> Option<Finding> {
    let columns = target.spec.columns.as_ref().filter(|_| target.is_named())?;
    let table = target.table;
    let unknown = columns.iter().filter(|name| !table.columns.iter().any(|c| c.name == **name));
    let unknown: Vec<String> = unknown.map(|name| shown(name)).collect();
    if unknown.is_empty() {
        return None;
    }
    let sentence = format!("has no column {} (columns)", list(&unknown, NAMES_SHOWN));
    let finding = Finding::warning(subject(&table.schema, &table.name), sentence);
    Some(finding.fix("correct `columns` in the configuration"))
}
