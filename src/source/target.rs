//! Which tables the patterns mean, and which of them a publication is to have.

use super::{Facts, SourceOptions, TableSpec};
use crate::postgres::catalog::{Persistence, TableInfo, TableKind};
use crate::postgres::pattern::choose;
use crate::postgres::sql::quote_table;

/// From where on publications know schemas, row filters and column lists.
pub(super) const FILTERS_SINCE: u32 = 150_000;

/// A table to follow, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) table: &'a TableInfo,
    pub(super) spec: &'a TableSpec,
}

/// Why a table that a pattern found is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// Publishing it would make the application's updates and deletes of it fail.
    NoIdentity,
    /// It belongs to another role, so that walhook's cannot publish it.
    NotOwned,
}

impl Target<'_> {
    /// Whether the configuration names the table itself.
    pub(super) fn is_named(&self) -> bool {
        self.spec.pattern.as_exact().is_some()
    }

    pub(super) fn schema_and_name(&self) -> (&str, &str) {
        (&self.table.schema, &self.table.name)
    }
}

/// Schemas, or everything, that the configuration wants to be published as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) all_tables: bool,
    pub(super) schemas: Vec<String>,
}

impl Whole {
    pub(super) fn of(options: &SourceOptions) -> Whole {
        let mut whole = Whole::default();
        for spec in options.tables.iter().filter(|spec| spec.whole) {
            whole.all_tables |= spec.pattern.is_everything();
            if let Some(schema) = spec.pattern.as_whole_schema()
                && !whole.schemas.iter().any(|known| known == schema)
            {
                whole.schemas.push(schema.to_owned());
            }
        }
        whole
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.all_tables && self.schemas.is_empty()
    }

    pub(super) fn covers(&self, schema: &str) -> bool {
        self.all_tables || self.schemas.iter().any(|whole| whole == schema)
    }
}

/// The tables to be published, by schema and name: those named, as far as a publication can have
/// them, and those that patterns find.
pub(super) fn targets<'a>(facts: &'a Facts, options: &'a SourceOptions) -> Vec<Target<'a>> {
    sorted_out(facts, options).filter(|(_, out)| out.is_none()).map(|(target, _)| target).collect()
}

/// The tables that patterns find and that are left out nevertheless.
pub(super) fn left_out<'a>(
    facts: &'a Facts,
    options: &'a SourceOptions,
) -> Vec<(Target<'a>, LeftOut)> {
    sorted_out(facts, options).filter_map(|(target, out)| Some((target, out?))).collect()
}

/// Whether some pattern of several tables means this one.
pub(super) fn matched<'a>(
    facts: &'a Facts,
    options: &'a SourceOptions,
    spec: &'a TableSpec,
) -> impl Iterator<Item = &'a TableInfo> {
    candidates(facts, options)
        .filter(move |target| target.spec.pattern == spec.pattern)
        .map(|target| target.table)
}

fn sorted_out<'a>(
    facts: &'a Facts,
    options: &'a SourceOptions,
) -> impl Iterator<Item = (Target<'a>, Option<LeftOut>)> {
    let whole = Whole::of(options);
    candidates(facts, options).map(move |target| {
        let harmless = target.is_named() || options.outbox.is_some();
        (target, if harmless { None } else { why_left_out(facts, &whole, target.table) })
    })
}

fn candidates<'a>(
    facts: &'a Facts,
    options: &'a SourceOptions,
) -> impl Iterator<Item = Target<'a>> {
    let patterns = &options.tables;
    facts.tables.iter().filter_map(move |table| {
        let logged = match table.persistence {
            Persistence::Permanent => true,
            // triggers do not mind
            Persistence::Unlogged => options.outbox.is_some(),
            Persistence::Temporary => false,
        };
        if !table.kind.is_publishable() || !logged {
            return None;
        }
        let spec = choose(patterns, |spec| &spec.pattern, &table.schema, &table.name)?;
        let target = Target { table, spec };
        (target.is_named() || !comes_with_its_root(facts, options, table)).then_some(target)
    })
}

/// Whether the table is a partition of one that is followed, too: its rows come under that name.
fn comes_with_its_root(facts: &Facts, options: &SourceOptions, table: &TableInfo) -> bool {
    !table.ancestors.is_empty()
        && facts.tables.iter().any(|root| {
            root.kind == TableKind::Partitioned
                && table.ancestors.contains(&quote_table(&root.schema, &root.name))
                && choose(&options.tables, |spec| &spec.pattern, &root.schema, &root.name).is_some()
        })
}

fn why_left_out(facts: &Facts, whole: &Whole, table: &TableInfo) -> Option<LeftOut> {
    let publication = facts.publication.as_ref();
    let published = publication.is_some_and(|publication| {
        publication.names(&table.schema, &table.name)
            || table.published_in.contains(&publication.name)
    });
    if published || whole.covers(&table.schema) {
        return None;
    }
    let harmful = publication.is_none_or(|publication| publication.needs_identity());
    if !facts.takes_updates(table) && harmful {
        return Some(LeftOut::NoIdentity);
    }
    (!table.owned).then_some(LeftOut::NotOwned)
}
