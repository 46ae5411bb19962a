//! The outbox as a queue, in the server's words: whose it is, its lock, a batch, deleting.

use futures_util::future::try_join4;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Statement};

use crate::capture::change::{OutboxRow, Source};
use crate::postgres::catalog;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;

/// Rows of one batch, at most.
pub(super) const BATCH_ROWS: i64 = 2_000;
/// Bytes of one batch, about.
const BATCH_BYTES: i64 = 8 << 20;

/// The second half of the lock's key; the first is the outbox's oid.
const LOCK: i32 = 0x7768_6B31;

/// Of our session:
/// - a commit is on disk when it is answered, though the server may see that otherwise;
/// - rows locked by somebody are not waited for for ever, while the lock on the outbox is held;
/// - nor does that lock outlive us by long when the network parts us from the server;
/// - the outbox is read and deleted from by its key: what the planner believes of a table that is
///   nearly always empty is wrong whenever it matters;
/// - a database that does not know the encoding of its text sends it as it is, where it would
///   otherwise refuse what is not UTF-8.
const SESSION: &str = "\
    select set_config('synchronous_commit', 'local', false) \
        where current_setting('synchronous_commit') = 'off'; \
    select set_config('client_encoding', 'SQL_ASCII', false) \
        where current_setting('server_encoding') = 'SQL_ASCII'; \
    set lock_timeout = '10s'; \
    set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; \
    set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; \
    set plan_cache_mode = force_generic_plan";

/// Whose outbox it is.
pub(super) struct Found {
    /// The server is a standby: it tells nothing more.
    pub(super) in_recovery: bool,
    /// Its sessions are read-only at the moment.
    pub(super) read_only: bool,
    pub(super) source: Source,
    /// The outbox's oid, if there is one.
    pub(super) outbox: Option<u32>,
    /// Where the triggers gave way to logical replication.
    pub(super) switched_lsn: Option<Lsn>,
}

/// Asks whose outbox this is. `expected` is who it was, if that is known: it decides between the two
/// identifiers a cluster may go by.
pub(super) async fn find(client: &Client, expected: Option<u64>) -> Result<Found, PgError> {
    const SQL: &str = include_str!("../../../sql/drain_source.sql");
    const STATE: &str = "select system_identifier, switched_lsn::text from walhook.state";
    let failed = |error| PgError::query("could not ask whose outbox this is", error);
    let row = client.query_typed_one(SQL, &[]).await.map_err(failed)?;
    let outbox: Option<u32> = row.try_get("outbox")?;
    let mut state = None;
    if outbox.is_some() && row.try_get::<_, Option<u32>>("state")?.is_some() {
        state = client.query_typed_opt(STATE, &[]).await.map_err(failed)?;
    }
    let mut switched_lsn = None;
    let mut stored = None;
    if let Some(state) = state {
        stored = Some(state.try_get::<_, i64>(0)?.cast_unsigned());
        let switched: Option<&str> = state.try_get(1)?;
        switched_lsn = switched.and_then(|lsn| lsn.parse().ok());
    }
    let real = catalog::system_identifier(client).await?;
    Ok(Found {
        in_recovery: row.try_get("in_recovery")?,
        read_only: row.try_get("read_only")?,
        source: Source {
            system_identifier: identifier(real, stored, expected),
            timeline: row.try_get::<_, Option<i32>>("timeline")?.unwrap_or(0).cast_unsigned(),
            database: row.try_get("database")?,
            database_oid: row.try_get("database_oid")?,
        },
        outbox,
        switched_lsn,
    })
}

/// A cluster goes by its own identifier where that may be read, or else by the one stored beside the
/// outbox, which is below zero (as a signed number) where it was made up. One that was made up goes
/// on to be good when the right to read the other is given later.
fn identifier(real: Option<u64>, stored: Option<u64>, expected: Option<u64>) -> u64 {
    let made_up = stored.filter(|stored| stored.cast_signed() < 0);
    match (real, made_up) {
        (Some(_), Some(made_up)) if expected == Some(made_up) => made_up,
        (Some(real), _) => real,
        (None, _) => stored.unwrap_or(0),
    }
}

/// Takes the lock, if nobody has it. It is ours until the connection ends.
pub(super) async fn lock(client: &Client, outbox: u32) -> Result<bool, PgError> {
    let row = client
        .query_typed_one(
            "select pg_try_advisory_lock($1, $2)",
            &[(&outbox.cast_signed(), Type::INT4), (&LOCK, Type::INT4)],
        )
        .await
        .map_err(|error| PgError::query("could not lock the outbox", error))?;
    Ok(row.try_get(0)?)
}

/// The outbox over a connection that has its lock.
pub(super) struct Queue {
    pub(super) client: Client,
    /// The outbox's oid.
    pub(super) outbox: u32,
    read: Statement,
    delete: Statement,
    digests: Statement,
}

/// What one transaction brought.
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// What the catalog says of the tables asked about.
    pub(super) digests: Vec<Row>,
    /// How many of the rows that were to be deleted were still there.
    pub(super) deleted: u64,
}

impl Queue {
    pub(super) async fn open(client: Client, outbox: u32, listen: bool) -> Result<Queue, PgError> {
        const READ: &str = include_str!("../../../sql/drain_read.sql");
        const DELETE: &str = include_str!("../../../sql/drain_delete.sql");
        const DIGESTS: &str = include_str!("../../../sql/drain_digests.sql");
        let failed = |error| PgError::query("could not get ready to read the outbox", error);
        client.batch_execute(SESSION).await.map_err(failed)?;
        if listen {
            client.batch_execute("listen walhook").await.map_err(failed)?;
        }
        let read = client.prepare_typed(READ, &[Type::INT8, Type::INT8]).await.map_err(failed)?;
        let delete = client.prepare_typed(DELETE, &[Type::INT8_ARRAY]).await.map_err(failed)?;
        let digests = client.prepare_typed(DIGESTS, &[Type::OID_ARRAY]).await.map_err(failed)?;
        Ok(Queue { client, outbox, read, delete, digests })
    }

    /// Deletes rows that an earlier connection took, whatever became of them; says how many there
    /// were.
    pub(super) async fn forget(&self, rows: &[OutboxRow]) -> Result<u64, PgError> {
        const SQL: &str = include_str!("../../../sql/drain_forget.sql");
        let mut deleted = 0;
        for rows in rows.chunks(10_000) {
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let xids: Vec<i64> = rows.iter().map(|row| row.xid.cast_signed()).collect();
            let times: Vec<i64> = rows.iter().map(|row| row.written_at_us).collect();
            let all = Type::INT8_ARRAY;
            deleted += self
                .client
                .execute_typed(SQL, &[(&ids, all.clone()), (&xids, all.clone()), (&times, all)])
                .await
                .map_err(|error| PgError::query("could not delete rows of the outbox", error))?;
        }
        Ok(deleted)
    }

    /// Deletes the rows with the numbers `done` and reads the next batch, in one transaction and one
    /// round trip.
    ///
    /// Its commit makes sure that what was read is on disk: the server shows a transaction that was
    /// committed with `synchronous_commit = off` before it is. Where nothing was deleted, which
    /// leaves the commit without a record, something is written to the log for that.
    pub(super) async fn next(&self, done: &[i64], tables: &[u32]) -> Result<Batch, PgError> {
        const FLUSH: &str = "select pg_logical_emit_message(true, 'walhook.outbox', '')";
        let failed = |error| PgError::query("could not read the outbox", error);
        let Queue { client, read, delete, digests, .. } = self;
        // Polled in this order, and so sent in it.
        let (_, deleted, (rows, digests), _) = try_join4(
            client.batch_execute("begin"),
            async {
                match done.is_empty() {
                    true => Ok(0),
                    false => client.execute(delete, &[&done]).await,
                }
            },
            async {
                futures_util::future::try_join(
                    client.query(read, &[&BATCH_ROWS, &BATCH_BYTES]),
                    async {
                        match tables.is_empty() {
                            true => Ok(Vec::new()),
                            false => client.query(digests, &[&tables]).await,
                        }
                    },
                )
                .await
            },
            client.batch_execute("commit"),
        )
        .await
        .map_err(failed)?;
        if deleted == 0 && !rows.is_empty() {
            client.batch_execute(FLUSH).await.map_err(failed)?;
        }
        Ok(Batch { rows, digests, deleted })
    }

    /// Deletes the rows with the numbers `done`, and says how many were still there.
    pub(super) async fn delete(&self, done: &[i64]) -> Result<u64, PgError> {
        let deleted = self.client.execute(&self.delete, &[&done]).await;
        deleted.map_err(|error| PgError::query("could not delete from the outbox", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_its_name() {
        let (real, other, made_up) = (Some(7), Some(8), Some(u64::MAX - 3));
        assert_eq!(identifier(real, None, None), 7);
        assert_eq!(identifier(real, real, real), 7);
        // A dump of another cluster's.
        assert_eq!(identifier(real, other, other), 7);
        assert_eq!(identifier(real, made_up, None), 7);
        assert_eq!(identifier(None, made_up, made_up), u64::MAX - 3);
        // The right to read it came later.
        assert_eq!(identifier(real, made_up, made_up), u64::MAX - 3);
    }
}
