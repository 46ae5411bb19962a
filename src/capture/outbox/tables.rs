//! The tables that the outbox's rows name, completed from the catalog.
//!
//! A row tells its columns by name, so the catalog may be ahead of it without harm: it is asked for
//! their types only. Whether they are still the same is asked with every batch, in the transaction
//! that reads it, for the tables that were met last.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::row::{Raw, TableName};
use crate::capture::change::RecordedTable;
use crate::postgres::catalog::TypeCache;
use crate::postgres::error::PgError;
use crate::postgres::relation::{RelationId, TypeKind};

/// Tables that are asked about with every batch.
const RECENT: usize = 64;
/// Tables that are remembered; an application that makes ever new ones starts over.
const MOST_KNOWN: usize = 10_000;
/// Names of one table that are remembered.
const MOST_NAMES: usize = 64;

#[derive(Default)]
pub(super) struct Tables {
    types: TypeCache,
    known: HashMap<u32, Known>,
    /// The tables met last, latest first.
    recent: Vec<u32>,
}

#[derive(Default)]
struct Known {
    columns: Vec<(String, TypeKind)>,
    unseen: Vec<String>,
    digest: i64,
    /// Whether the catalog was asked in the transaction that read the batch at hand.
    fresh: bool,
    named: Vec<Named>,
}

/// What the catalog says of a table: its columns with the oids of their types.
#[derive(Default)]
struct Found {
    columns: Vec<(String, u32)>,
    unseen: Vec<String>,
    digest: i64,
}

/// A table by one of its names and keys.
struct Named {
    schema: Box<[u8]>,
    table: Box<[u8]>,
    key: Option<Box<[u8]>>,
    recorded: Arc<RecordedTable>,
}

impl Tables {
    /// The tables to be asked about with the next batch.
    pub(super) fn recent(&self) -> &[u32] {
        &self.recent
    }

    /// Takes the answer to [`recent`](Tables::recent), of `drain_digests.sql`.
    pub(super) fn learn(&mut self, digests: &[Row]) -> Result<(), PgError> {
        for known in self.known.values_mut() {
            known.fresh = false;
        }
        for row in digests {
            let (relation, digest): (u32, i64) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(known) = self.known.get_mut(&relation) {
                known.fresh = known.digest == digest;
            }
        }
        Ok(())
    }

    /// Those of the batch's tables that the catalog has to be asked for; `met` are all of them.
    pub(super) fn unknown(&mut self, met: &mut Vec<u32>) -> Vec<u32> {
        met.sort_unstable();
        met.dedup();
        let unknown: Vec<u32> = met
            .iter()
            .copied()
            .filter(|relation| self.known.get(relation).is_none_or(|known| !known.fresh))
            .collect();
        self.recent.retain(|relation| !met.contains(relation));
        self.recent.splice(0..0, met.iter().copied());
        self.recent.truncate(RECENT);
        unknown
    }

    /// Asks the catalog for these. Of one that is gone by now, what was known stays known.
    pub(super) async fn look_up(&mut self, client: &Client, oids: &[u32]) -> Result<(), PgError> {
        const SQL: &str = include_str!("../../../sql/drain_columns.sql");
        let rows = client
            .query_typed(SQL, &[(&oids, Type::OID_ARRAY)])
            .await
            .map_err(|error| PgError::query("could not look up the tables", error))?;
        let mut found: HashMap<u32, Found> = HashMap::new();
        for row in &rows {
            let (relation, Raw(name)): (u32, _) = (row.try_get(0)?, row.try_get(1)?);
            let name = String::from_utf8_lossy(name).into_owned();
            let table = found.entry(relation).or_default();
            table.digest = row.try_get(3)?;
            if row.try_get(4)? {
                table.unseen.push(name.clone());
            }
            table.columns.push((name, row.try_get(2)?));
        }
        let types = found.values().flat_map(|table| table.columns.iter().map(|column| column.1));
        let kinds = self.types.kinds_now(client, types.collect()).await?;
        if self.known.len() + oids.len() > MOST_KNOWN {
            self.known.clear();
        }
        for relation in oids {
            let known = self.known.entry(*relation).or_default();
            known.fresh = true;
            let Some(Found { columns, unseen, digest }) = found.remove(relation) else { continue };
            let kind = |oid: u32| kinds.get(&oid).cloned().unwrap_or(TypeKind::Text);
            (known.digest, known.unseen) = (digest, unseen);
            known.columns = columns.into_iter().map(|(name, oid)| (name, kind(oid))).collect();
            known.named.clear();
        }
        Ok(())
    }

    /// The table of a row.
    pub(super) fn table(&mut self, relation: u32, name: TableName<'_>) -> Arc<RecordedTable> {
        let bytes = |raw: Option<Raw<'_>>| raw.map_or(&[][..], |raw| raw.0).to_owned();
        let known = self.known.entry(relation).or_default();
        if let Some(named) = known.named.iter().find(|named| named.is(name)) {
            return Arc::clone(&named.recorded);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (schema, table) = (bytes(name.schema), bytes(name.table));
        let recorded = Arc::new(RecordedTable {
            id: RelationId(relation),
            schema: text(&schema),
            name: text(&table),
            key: name.key.map_or(Vec::new(), |key| key.texts()),
            columns: known.columns.clone(),
            unseen: known.unseen.clone(),
        });
        if known.named.len() >= MOST_NAMES {
            known.named.clear();
        }
        known.named.push(Named {
            schema: schema.into(),
            table: table.into(),
            key: name.key.map(|key| key.0.into()),
            recorded: Arc::clone(&recorded),
        });
        recorded
    }
}

impl Named {
    fn is(&self, name: TableName<'_>) -> bool {
        name.schema.is_some_and(|schema| *schema.0 == *self.schema)
            && name.table.is_some_and(|table| *table.0 == *self.table)
            && name.key.map(|key| key.0) == self.key.as_deref()
    }
}
