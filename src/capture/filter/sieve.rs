//! Applies row filters to the changes of a stream.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::{info, warn};

use super::verdict::{Judged, Verdict, single, update};
use super::{RowFilter, RowFilters};
use crate::capture::change::Change;
use crate::capture::error::CaptureError;
use crate::capture::progress::Progress;
use crate::capture::wait::{ANSWER_WITHIN, answer, unless_stopped};
use crate::postgres::connection::{self, Client, ConnectionOptions};
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::pgoutput::{OldTuple, TupleData, TupleValue};
use crate::postgres::predicate::RowPredicate;
use crate::postgres::relation::{Relation, RelationId};

const DOING: &str = "evaluating a row filter";

/// Tables may come and go for years; forgetting what is known of one only costs asking again.
const MOST_TABLES: usize = 1_000;

/// Applies the filters that the publication does not.
pub(in crate::capture) struct Sieve<'a> {
    filters: &'a RowFilters,
    server: FilterServer<'a>,
    /// Of which generation of the filters the rest is.
    generation: u64,
    /// Whether there is any filter at all.
    any: bool,
    tables: HashMap<RelationId, Table>,
    /// A row with the values it was sent without.
    completed: Vec<u8>,
}

/// What is known of a table.
struct Table {
    relation: Arc<Relation>,
    /// How many looks at the publication had begun when the server had described the table: what
    /// they found may be out of date.
    looks_before: u64,
    filter: Option<RowFilter>,
    /// The filter, prepared when the first row needs it.
    prepared: Option<Prepared>,
    /// How many rows could not be evaluated.
    failures: u64,
}

struct Prepared {
    predicate: RowPredicate,
    /// On which connection.
    connection: u64,
}

impl<'a> Sieve<'a> {
    pub(in crate::capture) fn new(filters: &'a RowFilters, server: FilterServer<'a>) -> Sieve<'a> {
        Sieve {
            generation: filters.generation(),
            any: !filters.is_empty(),
            filters,
            server,
            tables: HashMap::new(),
            completed: Vec::new(),
        }
    }

    /// How many rows the server was asked about.
    pub(in crate::capture) fn questions(&self) -> u64 {
        self.server.questions
    }

    /// What is left of a change whose record begins at `row_lsn`; nothing if it is not wanted.
    pub(in crate::capture) fn sift<'c>(
        &'c mut self,
        row_lsn: Lsn,
        change: Change<'c>,
    ) -> Result<Option<Change<'c>>, CaptureError> {
        let told = self.filters.told();
        let generation = self.filters.generation();
        if generation != self.generation {
            self.generation = generation;
            self.any = !self.filters.is_empty();
            for table in self.tables.values_mut() {
                let Relation { id, schema, name, .. } = &*table.relation;
                table.filter = self.filters.of(*id, schema, name);
                table.prepared = None;
                table.failures = 0;
            }
        }
        if !self.any {
            return Ok(Some(change));
        }
        let relation = match &change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => *relation,
            Change::Truncate { .. } | Change::Recorded(_) | Change::Message { .. } => {
                return Ok(Some(change));
            }
        };
        let Sieve { filters, server, tables, completed, .. } = self;
        let table = known(tables, filters, relation);
        let Some(filter) = &table.filter else { return Ok(Some(change)) };
        let up_to_date = told > table.looks_before;
        if up_to_date && filter.applied_from.is_some_and(|applied_from| row_lsn >= applied_from) {
            return Ok(Some(change));
        }
        match change {
            Change::Insert { new, .. } => {
                let judged = server.judge(table, row_lsn, &Row::new(new, None))?;
                Ok((single(judged) == Verdict::AsItIs).then_some(change))
            }
            Change::Delete { old, .. } => {
                let judged = server.judge(table, row_lsn, &Row::old(old))?;
                Ok((single(judged) == Verdict::AsItIs).then_some(change))
            }
            Change::Update { relation, old, new } => {
                let judged_new = server.judge(table, row_lsn, &Row::new(new, old))?;
                let judged_old = match old {
                    None => Judged::Unknown,
                    Some(old) => server.judge(table, row_lsn, &Row::old(old))?,
                };
                Ok(match (update(judged_old, judged_new), old) {
                    (Verdict::Nothing, _) => None,
                    (Verdict::Insert, Some(OldTuple::Full(old))) => {
                        Some(Change::Insert { relation, new: new.completed(old, completed) })
                    }
                    (Verdict::Insert, _) => Some(Change::Insert { relation, new }),
                    (Verdict::Delete, Some(old)) => Some(Change::Delete { relation, old }),
                    (Verdict::AsItIs | Verdict::Delete, _) => Some(change),
                })
            }
            Change::Truncate { .. } | Change::Recorded(_) | Change::Message { .. } => {
                Ok(Some(change))
            }
        }
    }
}

/// What is known of the table, anew when it changed.
fn known<'t>(
    tables: &'t mut HashMap<RelationId, Table>,
    filters: &RowFilters,
    relation: &Arc<Relation>,
) -> &'t mut Table {
    let same = |table: &Table| Arc::ptr_eq(&table.relation, relation);
    if !tables.get(&relation.id).is_some_and(same) {
        if tables.len() >= MOST_TABLES {
            tables.clear();
        }
        tables.remove(&relation.id);
    }
    tables.entry(relation.id).or_insert_with(|| Table {
        looks_before: filters.looks(),
        filter: filters.of(relation.id, &relation.schema, &relation.name),
        relation: Arc::clone(relation),
        prepared: None,
        failures: 0,
    })
}

/// A row of which not every value may be known.
struct Row<'a> {
    tuple: TupleData<'a>,
    /// Only the columns of the replica identity are values.
    key_only: bool,
    /// Where values are that were not sent.
    old: Option<OldTuple<'a>>,
}

impl<'a> Row<'a> {
    fn new(tuple: TupleData<'a>, old: Option<OldTuple<'a>>) -> Row<'a> {
        Row { tuple, key_only: false, old }
    }

    fn old(old: OldTuple<'a>) -> Row<'a> {
        let key_only = matches!(old, OldTuple::Key(_));
        Row { tuple: old.tuple(), key_only, old: None }
    }

    /// The values of these columns, if all are known.
    fn values(&self, relation: &Relation, columns: &[usize]) -> Option<Vec<Option<&'a [u8]>>> {
        let mut wanted = columns.iter().copied().peekable();
        let mut values = Vec::with_capacity(columns.len());
        let mut old = self.old.map(|old| Row::old(old).tuple.iter());
        for (place, value) in self.tuple.iter().enumerate() {
            let before = old.as_mut().and_then(Iterator::next);
            if wanted.next_if_eq(&place).is_none() {
                continue;
            }
            let in_identity =
                relation.columns.get(place).is_some_and(|column| column.in_replica_identity);
            let value = match (value, self.old, before) {
                _ if self.key_only && !in_identity => return None,
                (TupleValue::UnchangedToast, Some(OldTuple::Key(_)), _) if !in_identity => {
                    return None;
                }
                (TupleValue::UnchangedToast, _, Some(before)) => before,
                (value, ..) => value,
            };
            values.push(match value {
                TupleValue::Null => None,
                TupleValue::Text(text) => Some(text),
                TupleValue::UnchangedToast => return None,
            });
        }
        // A row that is too short is refused elsewhere.
        wanted.next().is_none().then_some(values)
    }
}

/// The server as one that evaluates filters, over a connection of its own, which is made when the
/// first row needs it and again whenever it was lost.
pub(in crate::capture) struct FilterServer<'a> {
    runtime: &'a Handle,
    progress: &'a Progress,
    options: &'a ConnectionOptions,
    raw: bool,
    client: Option<Client>,
    /// How many connections there were: what was prepared on another is of no use.
    connections: u64,
    /// How many rows it was asked about.
    questions: u64,
}

impl<'a> FilterServer<'a> {
    /// `raw`: values are given in whatever bytes the database holds (SQL_ASCII), not in UTF-8.
    pub(in crate::capture) fn new(
        runtime: &'a Handle,
        progress: &'a Progress,
        options: &'a ConnectionOptions,
        raw: bool,
    ) -> FilterServer<'a> {
        FilterServer { runtime, progress, options, raw, client: None, connections: 0, questions: 0 }
    }

    /// What the table's filter says of a row. A connection that was lost meanwhile is made again.
    fn judge(
        &mut self,
        table: &mut Table,
        row_lsn: Lsn,
        row: &Row<'_>,
    ) -> Result<Judged, CaptureError> {
        self.questions += 1;
        let had_one = self.client.is_some();
        let judged = self.try_judge(table, row_lsn, row);
        let lost = judged.is_err() && self.client.as_ref().is_some_and(Client::is_closed);
        if lost && had_one { self.try_judge(table, row_lsn, row) } else { judged }
    }

    fn try_judge(
        &mut self,
        table: &mut Table,
        row_lsn: Lsn,
        row: &Row<'_>,
    ) -> Result<Judged, CaptureError> {
        let Some(filter) = &table.filter else { return Ok(Judged::Wanted) };
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let client =
                unless_stopped(self.runtime, self.progress, connect(self.options, self.raw));
            self.client = Some(client.map_err(CaptureError::while_doing(DOING))?);
            self.connections += 1;
        }
        let (Some(client), connection) = (&self.client, self.connections) else {
            return Ok(Judged::Unknown);
        };
        let stale = |prepared: &Prepared| prepared.connection != connection;
        if table.prepared.as_ref().is_none_or(stale) {
            let prepare = RowPredicate::prepare(client, &table.relation, &filter.expression);
            match answer(self.runtime, self.progress, prepare) {
                Ok(predicate) => table.prepared = Some(Prepared { predicate, connection }),
                Err(error) => return Err(self.failed(table, error)),
            }
        }
        let Some(Prepared { predicate, .. }) = &table.prepared else { return Ok(Judged::Unknown) };
        let Some(values) = row.values(&table.relation, predicate.columns()) else {
            return Ok(Judged::Unknown);
        };
        let test = predicate.test(client, values.into_iter());
        match answer(self.runtime, self.progress, test) {
            Ok(true) => Ok(Judged::Wanted),
            Ok(false) => Ok(Judged::Unwanted),
            Err(error) if is_of_the_row(&error) => {
                table.say_failed(row_lsn, &error);
                Ok(Judged::Unwanted)
            }
            Err(error) => Err(self.failed(table, error)),
        }
    }

    /// A filter that is none for its table, or a server that does not answer; what it may still be
    /// busy with must not hold up the next question.
    fn failed(&mut self, table: &Table, error: PgError) -> CaptureError {
        if error.sqlstate().is_some() && !error.is_retryable() {
            let Relation { schema, name, .. } = &*table.relation;
            return CaptureError::filter(format!("{schema}.{name}"), error);
        }
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            self.client = None;
        }
        CaptureError::while_doing(DOING)(error)
    }
}

impl Table {
    /// Not each time: a filter that fails for one row often does for many.
    fn say_failed(&mut self, row_lsn: Lsn, error: &PgError) {
        self.failures += 1;
        if self.failures.is_power_of_two() {
            let Relation { schema, name, .. } = &*self.relation;
            warn!(
                position = %row_lsn,
                rows = self.failures,
                "a row of table {schema}.{name} is left out, as its filter cannot be evaluated for \
                 it: {error}; correct `where` of this table if such rows are wanted"
            );
        }
    }
}

async fn connect(options: &ConnectionOptions, raw: bool) -> Result<Client, PgError> {
    let client = connection::connect(options).await?;
    // Or else one that waits for a lock there would stay behind with every new attempt.
    let limit = format!("set statement_timeout to {}", ANSWER_WITHIN.as_millis() * 9 / 10);
    let limited = client.batch_execute(&limit).await;
    limited.map_err(|error| PgError::query("could not set a time limit", error))?;
    if raw {
        let raw = client.batch_execute("set client_encoding to 'SQL_ASCII'").await;
        raw.map_err(|error| PgError::query("could not set the encoding", error))?;
    }
    info!("evaluating row filters that the publication does not apply");
    Ok(client)
}

/// Whether the row itself is what the expression could not be evaluated for: data it cannot take,
/// or an error that a function raised.
fn is_of_the_row(error: &PgError) -> bool {
    const CLASSES: &[&str] = &["21", "22", "23", "2F", "38", "39", "44", "P0"];
    error.sqlstate().is_some_and(|code| CLASSES.iter().any(|class| code.starts_with(class)))
}
