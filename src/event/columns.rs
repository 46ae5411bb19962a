//! Which columns of a table its events tell, under which names, and which one marks deleted rows.

use std::collections::HashSet;

use super::names::camel;
use super::plan::Verb;
use super::rules::{Case, Columns, TableRule};
use crate::postgres::pgoutput::{OldTuple, TupleData, TupleValue};
use crate::postgres::relation::{Relation, ReplicaIdentity, TypeKind};

/// How many of a table's columns a sentence lists.
const COLUMNS_SHOWN: usize = 20;

/// What a rule makes of a table's columns.
#[derive(Debug)]
pub(super) struct Told {
    /// What events call each column; none for those they don't tell. No two are the same.
    pub(super) names: Vec<Option<String>>,
    /// The column that marks deleted rows.
    pub(super) soft_delete: Option<SoftDelete>,
    /// Where the rule does not fit the table.
    pub(super) notices: Vec<Notice>,
}

/// Something about a table and its rule that somebody should know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) sentence: String,
    /// Whether it is in the nature of the rule: one for many tables names columns that only some
    /// of them have.
    pub(super) is_expected: bool,
}

/// Where a [`Relation`]'s columns come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The stream, which may lack some that the table has.
    Published,
    /// The catalog, and the rows that triggers recorded.
    Recorded,
}

impl Told {
    pub(super) fn new(rule: &TableRule, relation: &Relation, shown: Shown) -> Told {
        let mut notices = missing(rule, relation, shown);
        let names = names(rule, relation, &mut notices);
        let position = |name: &String| relation.columns.iter().position(|it| it.name == *name);
        let soft_delete = rule.soft_delete.as_ref().and_then(position);
        let soft_delete = soft_delete.map(|column| SoftDelete::new(relation, column));
        Told { names, soft_delete, notices }
    }
}

/// What events call each column. What the configuration names has the first choice, then columns
/// whose name stays, then the others; one that comes too late keeps its own name, with a number
/// behind it if even that is taken.
fn names(rule: &TableRule, relation: &Relation, notices: &mut Vec<Notice>) -> Vec<Option<String>> {
    let wanted = |column: &str| match rule.case {
        Case::AsIs => column.to_owned(),
        Case::Camel => camel(column),
    };
    let renamed = |column: &str| rule.rename.iter().find(|(from, _)| from == column);
    let told = relation.columns.iter().map(|column| &*column.name).enumerate();
    let told: Vec<_> = told.filter(|(_, column)| rule.columns.tells(column)).collect();
    let mut names: Vec<Option<String>> = vec![None; relation.columns.len()];
    let mut taken: HashSet<String> = HashSet::with_capacity(told.len());
    let (first, others): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|(_, column)| renamed(column).is_some());
    let (second, third): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(_, column)| wanted(column) == *column);
    let mut take = |index: usize, name: String| {
        let is_free = taken.insert(name.clone());
        if let Some(slot) = names.get_mut(index).filter(|_| is_free) {
            *slot = Some(name);
        }
        is_free
    };
    let mut late = Vec::new();
    for (index, column) in [first, second, third].concat() {
        let wanted = renamed(column).map_or_else(|| wanted(column), |(_, to)| to.clone());
        if !take(index, wanted.clone()) {
            late.push((index, column, wanted));
        }
    }
    for (index, column, wanted) in late {
        let numbered = (2_u32..).map(|number| format!("{column}_{number}"));
        let mut choices = [column.to_owned()].into_iter().chain(numbered);
        let Some(name) = choices.find(|name| take(index, name.clone())) else { continue };
        notices.push(Notice {
            sentence: format!(
                "two columns of table {:?}.{:?} would be called {wanted:?} in events, so \
                 {column:?} is called {name:?} there: give it another name with `rename`",
                relation.schema, relation.name
            ),
            is_expected: false,
        });
    }
    names
}

/// The columns a rule names that the table, or its stream, has not.
fn missing(rule: &TableRule, relation: &Relation, shown: Shown) -> Vec<Notice> {
    let listed = match &rule.columns {
        Columns::All => ("columns", &[][..]),
        Columns::Only(columns) => ("columns", &columns[..]),
        Columns::Except(columns) => ("exclude", &columns[..]),
    };
    let listed = listed.1.iter().map(|column| (listed.0, column));
    let soft_delete = rule.soft_delete.iter().map(|column| ("soft_delete", column));
    let renamed = rule.rename.iter().map(|(column, _)| ("rename", column));
    let named = listed.chain(soft_delete).chain(renamed);
    let absent = named.filter(|(_, name)| relation.columns.iter().all(|it| it.name != **name));
    absent.map(|(key, name)| notice_of_missing(rule, relation, shown, key, name)).collect()
}

fn notice_of_missing(
    rule: &TableRule,
    relation: &Relation,
    shown: Shown,
    key: &str,
    name: &str,
) -> Notice {
    let nearest = nearest(name, relation);
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => {
            let columns = relation.columns.iter().take(COLUMNS_SHOWN);
            let columns: Vec<_> = columns.map(|column| format!("{:?}", column.name)).collect();
            let more = if relation.columns.len() > COLUMNS_SHOWN { ", …" } else { "" };
            format!("it has {}{more}", columns.join(", "))
        }
    };
    let table = format!("table {:?}.{:?}", relation.schema, relation.name);
    Notice {
        sentence: match shown {
            Shown::Published => format!(
                "the stream of {table} has no column {name:?}, which `{key}` names, as the table \
                 has none or the publication leaves it out: {hint}"
            ),
            Shown::Recorded => {
                format!("{table} has no column {name:?}, which `{key}` names: {hint}")
            }
        },
        is_expected: rule.pattern.as_exact().is_none() && nearest.is_none(),
    }
}

/// The column that was most likely meant, if one is near enough.
fn nearest<'a>(name: &str, relation: &'a Relation) -> Option<&'a str> {
    let written = name.to_lowercase();
    let columns = relation.columns.iter().map(|column| &*column.name);
    columns
        .map(|column| (strsim::damerau_levenshtein(&written, &column.to_lowercase()), column))
        .filter(|(distance, column)| *distance <= (column.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, column)| column)
}

/// A column that marks rows as deleted.
#[derive(Debug)]
pub(super) struct SoftDelete {
    column: usize,
    /// False is like null.
    is_boolean: bool,
    /// Old values come only with updates that change them, and then always.
    is_key: bool,
}

impl SoftDelete {
    fn new(relation: &Relation, column: usize) -> SoftDelete {
        let described = relation.columns.get(column);
        let identity = relation.replica_identity;
        SoftDelete {
            column,
            is_boolean: described.is_some_and(|column| column.kind == TypeKind::Bool),
            is_key: matches!(identity, ReplicaIdentity::Default | ReplicaIdentity::Index)
                && described.is_some_and(|column| column.in_replica_identity),
        }
    }

    /// What an update means to the row. Where the old value is not known, a row that is marked now
    /// counts as marked by this update.
    pub(super) fn verb(&self, old: Option<OldTuple<'_>>, new: TupleData<'_>) -> Verb {
        let Some(marked) = self.marks(new) else { return Verb::Updated };
        let was_marked = match old {
            Some(OldTuple::Full(old)) => self.marks(old),
            Some(OldTuple::Key(old)) if self.is_key => self.marks(old),
            None if self.is_key => Some(marked),
            Some(OldTuple::Key(_)) | None => None,
        };
        meaning(was_marked, marked)
    }

    /// The same of rows whose values are JSON; nothing for a column that a row does not have.
    pub(super) fn verb_of_json(&self, old: Option<&[Option<&str>]>, new: &[Option<&str>]) -> Verb {
        let Some(marked) = self.marks_json(new) else { return Verb::Updated };
        meaning(old.and_then(|old| self.marks_json(old)), marked)
    }

    fn marks_json(&self, row: &[Option<&str>]) -> Option<bool> {
        let json = (*row.get(self.column)?)?;
        Some(json != "null" && !(self.is_boolean && json == "false"))
    }

    /// Whether the row is marked, if its value was sent.
    fn marks(&self, row: TupleData<'_>) -> Option<bool> {
        match row.iter().nth(self.column)? {
            TupleValue::UnchangedToast => None,
            TupleValue::Null => Some(false),
            TupleValue::Text(text) => Some(!(self.is_boolean && text == b"f")),
        }
    }
}

/// What it means that a row was marked, or not, or that nobody knows, and now is or is not.
fn meaning(was_marked: Option<bool>, marked: bool) -> Verb {
    match (was_marked, marked) {
        (Some(false) | None, true) => Verb::Deleted,
        (Some(true), false) => Verb::Restored,
        (Some(true), true) | (Some(false) | None, false) => Verb::Updated,
    }
}

#[cfg(test)]
mod tests;
