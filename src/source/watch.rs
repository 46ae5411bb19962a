//! Looking at the publication again and again: what has changed, what may be added, and which row
//! filters it applies from where on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::check::{publication, tables, too_old};
use super::facts::gather_again;
use super::filter::{Memo, moment};
use super::outbox;
use super::plan::Progress;
use super::run::Runner;
use super::target::targets;
use super::wish;
use super::{Facts, Finding, Severity, SourceError, SourceOptions, Step};
use crate::postgres::catalog::{TableInfo, TableKind};
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::relation::RelationId;

/// Schema and name.
pub type TableName = (String, String);

/// What the looks so far have found.
#[derive(Debug, Default)]
pub struct Watch {
    memo: Memo,
    /// Tables that were published at some look: who is missing later was taken out by somebody.
    published: HashSet<u32>,
    /// The tables of the last look, by oid.
    names: HashMap<u32, TableName>,
    /// Filters of the publication that are exactly ours, by the oid of their entry.
    applied: HashMap<u32, Applied>,
}

/// Since when a filter is known to be in the publication.
#[derive(Clone, Copy, Debug)]
enum Applied {
    /// Transactions with smaller numbers may still write rows the publication's old entry judges.
    Pending(i64),
    /// From this position on, all rows have passed it.
    From(Lsn),
}

/// What one look found.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What is wrong: errors and warnings.
    pub findings: Vec<Finding>,
    /// What may be done about it without asking anybody.
    pub steps: Vec<Step>,
    /// Tables that a pattern found and the publication does not have yet.
    pub new: Vec<TableName>,
    /// Tables that are gone, and what they are called now if they still exist.
    pub gone: Vec<(TableName, Option<TableName>)>,
    /// The tables whose filter the publication applies, with their oids, and from which position on.
    pub applied: HashMap<TableName, (RelationId, Lsn)>,
}

impl Watch {
    /// Looks. With `align`, the steps are all that make the publication fit; else only those for
    /// tables that it never had, and for row filters and column lists that stop the application's
    /// updates since a replica identity was changed.
    ///
    /// # Errors
    /// Fails when the server cannot be asked.
    pub async fn look(
        &mut self,
        client: &Client,
        options: &SourceOptions,
        align: bool,
    ) -> Result<Look, PgError> {
        if let Some(finding) = too_old(client).await? {
            return Ok(Look { findings: vec![finding], ..Look::default() });
        }
        let facts = gather_again(client, options, &mut self.memo).await?;
        if options.outbox.is_some() {
            return self.look_at_outbox(client, &facts, options, align).await;
        }
        let mut look = Look { findings: findings(&facts, options), ..Look::default() };
        self.steps(&facts, options, align, &mut look);
        self.gone(client, &facts, options, &mut look).await?;
        self.applied(client, &facts, options, &mut look).await?;
        Ok(look)
    }

    /// The same where triggers fill an outbox: those that somebody dropped or switched off are said,
    /// and put back only with `align`; new tables get theirs, and those whose key has changed, or
    /// whose columns need other words now, have them put right.
    async fn look_at_outbox(
        &mut self,
        client: &Client,
        facts: &Facts,
        options: &SourceOptions,
        align: bool,
    ) -> Result<Look, PgError> {
        let outbox = outbox::gather(client, facts).await?;
        if let Some(finding) = outbox::switch::said(&outbox) {
            // Whoever put triggers back would take from the slot what it alone has.
            return Ok(Look { findings: vec![finding], ..Look::default() });
        }
        let mut look =
            Look { findings: outbox::findings(facts, &outbox, options), ..Look::default() };
        let known = &self.published;
        let may_change = |table: &outbox::Followed<'_>| {
            table.may_trigger
                && (align
                    || !known.contains(&table.target.table.oid)
                    || outbox::is_only_outdated(&outbox, table))
        };
        if !facts.server.in_recovery && outbox.outbox.is_some() {
            let steps = outbox::steps(facts, &outbox, options, &may_change);
            look.steps =
                steps.into_iter().filter(|step| align || step.is_about_triggers()).collect();
        }
        for table in outbox::followed(facts, &outbox, options) {
            let oid = table.target.table.oid;
            if outbox.triggers.iter().any(|trigger| trigger.relation == oid) {
                self.published.insert(oid);
            } else if !align && table.may_trigger && !self.published.contains(&oid) {
                look.new.push(name_of(table.target.table));
            }
        }
        self.gone(client, facts, options, &mut look).await?;
        Ok(look)
    }

    fn steps(&mut self, facts: &Facts, options: &SourceOptions, align: bool, look: &mut Look) {
        let Some(existing) = &facts.publication else {
            // a new one is a new beginning
            self.published.clear();
            return;
        };
        let uncovered = wish::uncovered(facts, options, existing);
        let missing: HashSet<u32> = uncovered.iter().map(|target| target.table.oid).collect();
        let covered = targets(facts, options).into_iter().map(|target| target.table.oid);
        let never: HashSet<u32> =
            missing.iter().filter(|oid| !self.published.contains(oid)).copied().collect();
        self.published.extend(covered.filter(|oid| !missing.contains(oid)));
        if facts.server.in_recovery || !existing.owned {
            return;
        }
        let harmless = |table: &TableInfo| facts.takes_updates(table) || !existing.needs_identity();
        let may_add = |table: &TableInfo| {
            table.owned && harmless(table) && (align || never.contains(&table.oid))
        };
        let mut steps = wish::steps(facts, options, existing, &may_add);
        if !align {
            let added = |target: &&super::target::Target<'_>| may_add(target.table);
            look.new = uncovered.iter().filter(added).map(|t| name_of(t.table)).collect();
            steps.retain(|step| !look.new.is_empty() && step.sql.contains(" ADD TABLE "));
            steps.retain(|step| !step.sql.starts_with("BEGIN"));
            // what somebody decided stays, but not what stops the application
            let mendable = wish::differences(facts, options, existing)
                .into_iter()
                .filter(|d| d.stops_updates && d.table.owned && harmless(d.table));
            steps.extend(mendable.map(|difference| difference.step));
        }
        if !facts.server.role_superuser {
            steps.retain(|step| !step.sql.contains(" ADD TABLES IN SCHEMA "));
        }
        look.steps = steps;
    }

    /// Which tables of the last look are gone.
    async fn gone(
        &mut self,
        client: &Client,
        facts: &Facts,
        options: &SourceOptions,
        look: &mut Look,
    ) -> Result<(), PgError> {
        const SQL: &str = "select c.oid, n.nspname::text as schema, c.relname::text as name \
                           from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                           where c.oid = any ($1)";
        let now: HashMap<u32, TableName> = targets(facts, options)
            .iter()
            .map(|target| (target.table.oid, name_of(target.table)))
            .collect();
        let changed = |(oid, name): &(&u32, &TableName)| now.get(oid) != Some(name);
        let gone: Vec<u32> = self.names.iter().filter(changed).map(|(oid, _)| *oid).collect();
        if !gone.is_empty() {
            let failed = |error| PgError::query("could not look for renamed tables", error);
            let rows =
                client.query_typed(SQL, &[(&gone, Type::OID_ARRAY)]).await.map_err(failed)?;
            let mut renamed = HashMap::new();
            for row in rows {
                let name: TableName = (row.try_get("schema")?, row.try_get("name")?);
                renamed.insert(row.try_get::<_, u32>("oid")?, name);
            }
            for oid in gone {
                let Some(before) = self.names.get(&oid) else { continue };
                let after = renamed.remove(&oid);
                if after.as_ref() != Some(before) {
                    look.gone.push((before.clone(), after));
                }
            }
        }
        self.names = now;
        Ok(())
    }

    /// The filters the publication applies. One is counted only when every transaction has ended
    /// that ran when it was first seen: such a one may have begun before the publication was
    /// altered, and older servers judge the rest of its rows by what was there then.
    async fn applied(
        &mut self,
        client: &Client,
        facts: &Facts,
        options: &SourceOptions,
        look: &mut Look,
    ) -> Result<(), PgError> {
        let entries = ours(facts, options);
        self.applied.retain(|oid, _| entries.iter().any(|(entry, ..)| entry == oid));
        if entries.is_empty() {
            return Ok(());
        }
        let moment = moment(client).await?;
        let now: Option<Lsn> = moment.lsn.parse().ok();
        for (entry, table, name) in entries {
            let applied = self.applied.entry(entry).or_insert(Applied::Pending(moment.next));
            match (*applied, now) {
                (Applied::Pending(next), Some(now)) if moment.oldest_running >= next => {
                    *applied = Applied::From(now);
                }
                _ => {}
            }
            if let Applied::From(lsn) = applied {
                look.applied.insert(name, (table, *lsn));
            }
        }
        Ok(())
    }
}

/// Whether the server may go on judging rows by an entry that the publication no longer has: a
/// transaction that ran while the publication was altered could bring what was known before back
/// into the walsender's cache, for all transactions after it too. Mended by 15.13, 16.9 and
/// 17.5 (PostgreSQL's commit 4909b38af0).
fn keeps_old_entries(version_num: u32) -> bool {
    let mended = match version_num / 10_000 {
        15 => 150_013,
        16 => 160_009,
        17 => 170_005,
        _ => return false,
    };
    version_num < mended
}

/// The entries of the publication whose row filter is the configured one, and nothing beside it
/// sends the table's other rows; with their tables.
fn ours(facts: &Facts, options: &SourceOptions) -> Vec<(u32, RelationId, TableName)> {
    if keeps_old_entries(facts.server.version_num) {
        return Vec::new();
    }
    let Some(existing) = facts.publication.as_ref().filter(|p| p.names_tables_only()) else {
        return Vec::new();
    };
    let entry = |table: &TableInfo| {
        let published = existing.table(&table.schema, &table.name)?;
        let filter = facts.filters.get(&table.oid)?;
        let exactly = filter.is(published.filter.as_deref()?) == Some(true);
        // else the rows are judged, and named, as their partitions'
        let as_named = table.kind != TableKind::Partitioned || existing.via_root;
        (exactly && as_named && table.ancestors.is_empty())
            .then(|| (published.oid, RelationId(table.oid), name_of(table)))
    };
    targets(facts, options).iter().filter_map(|target| entry(target.table)).collect()
}

fn name_of(table: &TableInfo) -> TableName {
    (table.schema.clone(), table.name.clone())
}

/// What is wrong with tables and publication.
fn findings(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let mut findings = tables::tables(facts, options);
    findings.extend(publication::publication(facts, options));
    findings.retain(|finding| finding.severity >= Severity::Warning);
    findings
}

/// Carries out steps; `watcher` and `wait` are as for [`setup`](super::setup::setup), `wait` for
/// each step. One that waited too long does not keep the others from being done.
///
/// # Errors
/// See [`SourceError`]; what was done stays.
pub async fn carry_out(
    client: &Client,
    watcher: &Client,
    steps: Vec<Step>,
    wait: Duration,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), SourceError> {
    let mut first = Ok(());
    for step in steps {
        match Runner::new(client, watcher, wait).run(&step, report).await {
            Ok(()) => report(Progress::Done(step)),
            Err(error) if error.is_timed_out() => first = first.and(Err(error)),
            Err(error) => return Err(error),
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::keeps_old_entries;

    #[test]
    fn which_servers_keep_old_entries() {
        for old in [150_000, 150_012, 160_008, 170_004] {
            assert!(keeps_old_entries(old), "{old}");
        }
        for mended in [150_013, 160_009, 170_005, 180_000] {
            assert!(!keeps_old_entries(mended), "{mended}");
        }
    }
}
