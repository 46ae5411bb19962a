//! `[[table]]`: which tables, and what is told of them.

use super::error::{ConfigError, Located, Place};
use super::name::parse_pattern;
use super::raw::RawTable;
use super::ready::{not_one_of, twice};
use crate::capture::TableFilter;
use crate::event::{Case, Columns, TableRule, is_record};
use crate::postgres::TablePattern;
use crate::source::TableSpec;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// Tables and how they are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Which tables, and how their changes become events.
    pub rule: TableRule,
    /// Which rows, as an SQL expression.
    pub filter: Option<String>,
    /// Whether schemas (or the database) are published as a whole where the pattern means that.
    pub whole: bool,
}

impl TableConfig {
    /// Which rows capture is to yield.
    pub fn row_filter(&self) -> TableFilter {
        TableFilter { pattern: self.rule.pattern.clone(), expression: self.filter.clone() }
    }

    /// What this asks of the database.
    pub fn spec(&self) -> TableSpec {
        let (columns, exclude) = match &self.rule.columns {
            Columns::Only(columns) => (Some(columns.clone()), Vec::new()),
            Columns::Except(columns) => (None, columns.clone()),
            Columns::All => (None, Vec::new()),
        };
        TableSpec {
            pattern: self.rule.pattern.clone(),
            columns,
            exclude,
            filter: self.filter.clone(),
            soft_delete: self.rule.soft_delete.clone(),
            whole: self.whole,
        }
    }
}

/// All tables, no two with the same pattern.
pub(super) fn build_all(raw: Vec<RawTable>) -> Result<Vec<TableConfig>> {
    let mut tables: Vec<(TableConfig, Place)> = Vec::with_capacity(raw.len());
    for table in raw {
        let (table, place) = build(table)?;
        let pattern = &table.rule.pattern;
        if let Some((_, first)) = tables.iter().find(|(table, _)| table.rule.pattern == *pattern) {
            let what = if pattern.as_exact().is_some() { "table" } else { "pattern" };
            return Err(twice(&place, first, &format!("the {what} {pattern}")));
        }
        tables.push((table, place));
    }
    Ok(tables.into_iter().map(|(table, _)| table).collect())
}

/// One of them, and where its name is written.
fn build(raw: RawTable) -> Result<(TableConfig, Place)> {
    let Some(name) = raw.name else {
        let message = "has no `name`: write name = \"schema.table\"";
        return Err(ConfigError::at(&raw.place, message));
    };
    let Located { value: pattern, place } = name.try_map(|name| parse_pattern(&name))?;
    let record = record(raw.record, &pattern, &place)?;
    let columns = columns(raw.columns, raw.exclude)?;
    let rename = renames(raw.rename, &columns)?;
    let soft_delete = raw.soft_delete.map(|column| column.try_map(column_name)).transpose()?;
    let filter = raw.filter.map(|filter| filter.try_map(expression)).transpose()?;
    let case = match &raw.case {
        None => Case::AsIs,
        Some(case) => match case.value.as_str() {
            "camel" => Case::Camel,
            "as-is" => Case::AsIs,
            _ => return Err(not_one_of(case, &["camel", "as-is"])),
        },
    };
    let means_whole = pattern.as_whole_schema().is_some() || pattern.is_everything();
    if let Some(whole) = raw.whole.as_ref().filter(|whole| whole.value && !means_whole) {
        let message = format_args!(
            "has no effect with the name {pattern}: remove it, or name whole schemas, as \"crm.*\" and \"*.*\" do"
        );
        return Err(ConfigError::at(&whole.place, message));
    }
    let rule = TableRule {
        pattern,
        record,
        columns,
        soft_delete: soft_delete.map(|column| column.value),
        rename,
        case,
    };
    let whole = raw.whole.is_some_and(|whole| whole.value);
    Ok((TableConfig { rule, filter: filter.map(|filter| filter.value), whole }, place))
}

/// What the rows are called in events; nothing for a pattern, whose tables have names of their own.
fn record(
    written: Option<Located<String>>,
    pattern: &TablePattern,
    place: &Place,
) -> Result<Option<String>> {
    match (written, pattern.as_exact()) {
        (None, None) => Ok(None),
        (Some(record), None) => Err(ConfigError::at(
            &record.place,
            format_args!(
                "calls the rows of all tables of the pattern {pattern} {:?}, and those are always called after their own table: remove it, or name the table exactly",
                record.value
            ),
        )),
        (Some(record), Some(_)) if is_record(&record.value) => Ok(Some(record.value)),
        (Some(record), Some(_)) => Err(ConfigError::at(
            &record.place,
            format_args!(
                "is {:?}, which cannot begin an event's name: use a word without spaces and asterisks, such as \"person\"",
                record.value
            ),
        )),
        (None, Some((_, name))) if is_record(name) => Ok(Some(name.to_owned())),
        (None, Some((_, name))) => Err(ConfigError::at(
            place,
            format_args!(
                "names the table {name:?}, which cannot begin an event's name: add record = \"…\", a word such as \"person\""
            ),
        )),
    }
}

type Names = Located<Vec<Located<String>>>;

fn columns(only: Option<Names>, except: Option<Names>) -> Result<Columns> {
    match (only, except) {
        (Some(_), Some(except)) => {
            let message = "stands beside `columns`, which leaves out all others by itself: keep one of the two";
            Err(ConfigError::at(&except.place, message))
        }
        (Some(only), None) => column_list(only, "to be told").map(Columns::Only),
        (None, Some(except)) => column_list(except, "to be left out").map(Columns::Except),
        (None, None) => Ok(Columns::All),
    }
}

fn column_list(list: Names, what: &str) -> Result<Vec<String>> {
    let mut columns: Vec<String> = Vec::with_capacity(list.value.len());
    for column in list.value {
        let Located { value: column, place } = column.try_map(column_name)?;
        if columns.contains(&column) {
            let message = format_args!("names the column {column:?} twice: remove one of them");
            return Err(ConfigError::at(&place, message));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        let message = format_args!("is empty: name the columns {what}, or remove it");
        return Err(ConfigError::at(&list.place, message));
    }
    Ok(columns)
}

fn renames(
    written: Vec<(String, Located<String>)>,
    columns: &Columns,
) -> Result<Vec<(String, String)>> {
    let mut renames: Vec<(String, String)> = Vec::with_capacity(written.len());
    let is_renamed: Vec<String> = written.iter().map(|(from, _)| from.clone()).collect();
    for (from, to) in written {
        let Located { value: to, place } = to.try_map(|to| {
            if to.is_empty() { Err("is empty: write the name events shall say") } else { Ok(to) }
        })?;
        if !columns.tells(&from) {
            let message = "renames a column that no event tells: remove it, or let `columns` or `exclude` allow the column";
            return Err(ConfigError::at(&place, message));
        }
        if let Some((other, _)) = renames.iter().find(|(_, name)| *name == to) {
            let message = format_args!("is {to:?}, as {other:?} is: give each a name of its own");
            return Err(ConfigError::at(&place, message));
        }
        let is_kept = |columns: &Vec<String>| columns.contains(&to) && !is_renamed.contains(&to);
        if matches!(columns, Columns::Only(columns) if is_kept(columns)) {
            let message = format_args!(
                "is {to:?}, which is the name of another column of `columns`: choose another one"
            );
            return Err(ConfigError::at(&place, message));
        }
        renames.push((from, to));
    }
    Ok(renames)
}

/// The error is a predicate.
fn column_name(name: String) -> Result<String, String> {
    if name.is_empty() || name.contains('\0') {
        return Err(format!("names {name:?}, which is no name of a column"));
    }
    Ok(name)
}

/// What is put between parentheses in a statement, on lines of its own. Whether it is a condition,
/// and nothing beyond one, is for the server to say. The error is a predicate.
fn expression(text: String) -> Result<String, &'static str> {
    if text.contains('\0') {
        return Err("holds a null character, which no SQL may: take it out");
    }
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty: write a condition such as \"tenant_id = 7\", or remove it");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
