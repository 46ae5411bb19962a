//! The outbox's part of `status`.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::facts::gather;
use super::orders::{followed, table_sql};
use crate::postgres::error::PgError;
use crate::source::facts::gather as gather_facts;
use crate::source::status::OutboxStatus;
use crate::source::{OutboxSpec, SourceOptions};

/// More rows than that are estimated.
const MOST_COUNTED: i64 = 100_000;

/// Asks. None where there is no outbox.
pub(in crate::source) async fn status(
    client: &Client,
    options: &SourceOptions,
    spec: &OutboxSpec,
) -> Result<Option<OutboxStatus>, PgError> {
    const SQL: &str = "select o.counted, o.dropped, \
                       pg_stat_get_live_tuples('walhook.outbox'::regclass) as estimated, \
                       extract(epoch from clock_timestamp() - (select o.written_at \
                           from walhook.outbox o order by o.id limit 1))::float8 as oldest_s, \
                       pg_total_relation_size('walhook.outbox') as bytes \
                       from (select count(*) as counted, \
                                 coalesce(sum(case when r.op = 'L' \
                                                       and r.new ->> 'dropped' ~ '^[0-9]{1,18}$' \
                                     then (r.new ->> 'dropped')::int8 end), 0)::float8 as dropped \
                             from (select q.op, q.new from walhook.outbox q limit $1::int8) r) o";
    let facts = gather_facts(client, options).await?;
    let outbox = gather(client, &facts).await?;
    if outbox.outbox.is_none() {
        return Ok(None);
    }
    let row =
        client.query_typed_one(SQL, &[(&MOST_COUNTED, Type::INT8)]).await.map_err(|error| {
            let error = PgError::query("could not look at the outbox", error);
            match error.sqlstate() {
                Some("42501") => error.or_remedy("`walhook check` says which rights are missing"),
                _ => error,
            }
        })?;
    let counted: i64 = row.try_get("counted")?;
    let estimated: i64 = row.try_get("estimated")?;
    let exact = counted < MOST_COUNTED;
    let rows = if exact { counted } else { counted.max(estimated) };
    let oldest_s: Option<f64> = row.try_get("oldest_s")?;
    let tables = followed(&facts, &outbox, options);
    let unfit = tables.iter().filter(|table| table_sql(&outbox, table).is_some());
    let name = |oid: &super::Followed<'_>| {
        let table = oid.target.table;
        (table.schema.clone(), table.name.clone())
    };
    Ok(Some(OutboxStatus {
        rows: rows.max(0).cast_unsigned(),
        exact,
        oldest: oldest_s.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
        dropped: row.try_get::<_, f64>("dropped")? as u64,
        bytes: row.try_get::<_, i64>("bytes")?.max(0).cast_unsigned(),
        max_rows: spec.max_rows,
        policy: spec.policy,
        drained_by: outbox.drained_by,
        tables: tables.len(),
        unfit: unfit.map(name).collect(),
    }))
}
