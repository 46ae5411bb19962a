//! The outbox as a queue, in the server's words: whose it is, its lock, a batch, deleting.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{try_join, try_join4};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use super::floor::Floor;
use super::row::Written;
use crate::capture::change::{OutboxRow, Source};
use crate::postgres::catalog;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;

/// Rows of one batch, at most.
const BATCH_ROWS: i64 = 2_000;
/// Bytes of one batch, about.
const BATCH_BYTES: i64 = 8 << 20;
/// Rows that are deleted together, where some are locked.
const PART: usize = 100;

/// The second half of the lock's key; the first is the outbox's oid.
const LOCK: i32 = 0x7768_6B31;

/// Of our session:
/// - a commit is on disk when it is answered, though the server may see that otherwise;
/// - rows that somebody has locked are not waited for for long;
/// - nor does that lock outlive us by long when the network parts us from the server, or when we
///   gave up waiting for an answer;
/// - the outbox is read and deleted from by its key: what the planner believes of a table that is
///   nearly always empty is wrong whenever it matters;
/// - a database that does not know the encoding of its text sends it as it is, where it would
///   otherwise refuse what is not UTF-8.
const SESSION: &str = "\
    select set_config('synchronous_commit', 'local', false) \
        where current_setting('synchronous_commit') = 'off'; \
    select set_config('client_encoding', 'SQL_ASCII', false) \
        where current_setting('server_encoding') = 'SQL_ASCII'; \
    set lock_timeout = '2s'; set statement_timeout = '4min'; \
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
    let failed = |error| {
        let error = PgError::query("could not ask whose outbox this is", error);
        match error.sqlstate() {
            Some("42501") => error.or_remedy("`walhook check` says which rights are missing"),
            _ => error,
        }
    };
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

/// Takes the lock, if nobody has it, and says which of the server's processes we have. It is ours
/// until the connection ends.
pub(super) async fn lock(client: &Client, outbox: u32) -> Result<Option<i32>, PgError> {
    const SQL: &str = "select pg_try_advisory_lock($1, $2), pg_backend_pid()";
    let row = client
        .query_typed_one(SQL, &[(&outbox.cast_signed(), Type::INT4), (&LOCK, Type::INT4)])
        .await
        .map_err(|error| PgError::query("could not lock the outbox", error))?;
    Ok(row.try_get::<_, bool>(0)?.then_some(row.try_get(1)?))
}

/// The outbox over a connection that has its lock.
pub(super) struct Queue {
    pub(super) client: Client,
    /// The outbox's oid.
    pub(super) outbox: u32,
    /// The process that has the lock.
    process: i32,
    read: Statement,
    delete: Statement,
    digests: Statement,
    floor: Floor,
}

/// What one transaction brought.
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// What the catalog says of the tables asked about.
    pub(super) digests: Vec<Row>,
    /// Which of the rows that were to be deleted were still there.
    pub(super) deleted: Vec<i64>,
    /// Whether it was read by the process that has the lock. A pooler may give every transaction
    /// another one.
    pub(super) is_ours: bool,
}

impl Queue {
    /// `process` is who has the lock; the server ends the session, and with it the lock, when nothing
    /// is asked for as long as `idle`.
    pub(super) async fn open(
        client: Client,
        outbox: u32,
        process: i32,
        idle: Duration,
        listen: bool,
    ) -> Result<Queue, PgError> {
        const READ: &str = include_str!("../../../sql/drain_read.sql");
        const DELETE: &str = include_str!("../../../sql/drain_delete.sql");
        const DIGESTS: &str = include_str!("../../../sql/drain_digests.sql");
        let failed = |error| PgError::query("could not get ready to read the outbox", error);
        client.batch_execute(SESSION).await.map_err(failed)?;
        // One that is frozen, or cannot write its journal, makes room for another.
        let leave = format!("set idle_session_timeout = {}", idle.as_millis());
        client.batch_execute(&leave).await.map_err(failed)?;
        if listen {
            client.batch_execute("listen walhook").await.map_err(failed)?;
        }
        let numbers = [Type::INT8, Type::INT8, Type::INT8, Type::INT8_ARRAY];
        let read = client.prepare_typed(READ, &numbers).await.map_err(failed)?;
        let arrays = [Type::INT8_ARRAY, Type::XID8_ARRAY, Type::TIMESTAMPTZ_ARRAY, Type::OID];
        let delete = client.prepare_typed(DELETE, &arrays).await.map_err(failed)?;
        let digests = client.prepare_typed(DIGESTS, &[Type::OID_ARRAY]).await.map_err(failed)?;
        Ok(Queue { client, outbox, process, read, delete, digests, floor: Floor::default() })
    }

    /// Deletes the rows `done` and reads the next batch but for the rows `held`, in one transaction
    /// and one round trip. With `whole`, the whole outbox is looked through for it.
    ///
    /// Its commit makes sure that what was read is on disk: the server shows a transaction that was
    /// committed with `synchronous_commit = off` before it is. Where nothing was deleted, which
    /// leaves the commit without a record, something is written to the log for that.
    pub(super) async fn next(
        &mut self,
        done: &[OutboxRow],
        held: &[OutboxRow],
        tables: &[u32],
        whole: bool,
    ) -> Result<Batch, PgError> {
        const BEGIN: &str = "begin isolation level read committed";
        const FLUSH: &str = "select pg_logical_emit_message(true, 'walhook.outbox', '')";
        let failed = |error| PgError::query("could not read the outbox", error);
        let look = self.floor.look(whole);
        let above = look.above();
        let held: Vec<i64> = held.iter().map(|row| row.id).collect();
        let Queue { client, read, digests, .. } = &*self;
        // Polled in this order, and so sent in it.
        let (_, deleted, (rows, digests), _) = try_join4(
            client.batch_execute(BEGIN),
            self.delete_from(done),
            async {
                try_join(client.query(read, &[&BATCH_ROWS, &BATCH_BYTES, &above, &held]), async {
                    match tables.is_empty() {
                        true => Ok(Vec::new()),
                        false => client.query(digests, &[&tables]).await,
                    }
                })
                .await
            },
            client.batch_execute("commit"),
        )
        .await
        .map_err(failed)?;
        if deleted.is_empty() && !rows.is_empty() {
            client.batch_execute(FLUSH).await.map_err(failed)?;
        }
        let (first, last) = (id_of(rows.first())?, id_of(rows.last())?);
        self.floor.looked(look, first, last);
        let process: Option<i32> = rows.first().map(|row| row.try_get(13)).transpose()?;
        let is_ours = process.is_none_or(|process| process == self.process);
        Ok(Batch { rows, digests, deleted, is_ours })
    }

    /// Of the rows that [`next`](Queue::next) reads, the first one that the server cannot turn into
    /// UTF-8, and what it says of that. None if there is none any more.
    pub(super) async fn first_untranslatable(
        &self,
        held: &[OutboxRow],
    ) -> Result<Option<(i64, String)>, PgError> {
        const BEHIND: &str = "select id from walhook.outbox
                              where id > $1 and id <> all ($2) order by id limit 1";
        let failed = |error| PgError::query("could not read the outbox", error);
        let held: Vec<i64> = held.iter().map(|row| row.id).collect();
        // Those before it come whole.
        let mut before = i64::MIN;
        let values: [&(dyn ToSql + Sync); 4] = [&BATCH_ROWS, &BATCH_BYTES, &before, &held];
        let rows = self.client.query_raw(&self.read, values).await.map_err(failed)?;
        let mut rows = std::pin::pin!(rows);
        let error = loop {
            match rows.next().await {
                Some(Ok(row)) => before = row.try_get(0)?,
                Some(Err(error)) => break failed(error),
                None => return Ok(None),
            }
        };
        if !error.is_untranslatable() {
            return Err(error);
        }
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&before, Type::INT8), (&held, Type::INT8_ARRAY)];
        let behind = self.client.query_typed(BEHIND, &values).await.map_err(failed)?;
        let Some(id) = id_of(behind.first())? else { return Ok(None) };
        // Another may have come in between.
        let values: [&(dyn ToSql + Sync); 4] = [&1_i64, &BATCH_BYTES, &before, &held];
        let Err(error) = self.client.query(&self.read, &values).await else { return Ok(None) };
        let said = error.as_db_error().map(|error| error.message().to_owned());
        let error = failed(error);
        match said {
            Some(said) if error.is_untranslatable() => Ok(Some((id, said))),
            _ => Err(error),
        }
    }

    /// Asks who may still bring low numbers, where looking for these took long.
    pub(super) async fn settle(&mut self, took: Duration) -> Result<(), PgError> {
        const SQL: &str = include_str!("../../../sql/drain_writers.sql");
        if !self.floor.is_worth_asking(took) {
            return Ok(());
        }
        let asked = self.client.query_typed(SQL, &[(&self.outbox, Type::OID)]).await;
        let rows = asked
            .map_err(|error| PgError::query("could not ask who writes to the outbox", error))?;
        let writers: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        self.floor.heard(writers?);
        Ok(())
    }

    /// Deletes the rows `done`, whatever became of them: others that have their numbers now stay.
    /// Does not wait for those that somebody has locked, and says which they may be, and which of
    /// the others were still there.
    pub(super) async fn delete(
        &self,
        done: &[OutboxRow],
    ) -> Result<(Vec<OutboxRow>, Vec<i64>), PgError> {
        const HURRY: &str = "set lock_timeout = '50ms'";
        const PATIENCE: &str = "set lock_timeout = '2s'";
        let failed = |error| PgError::query("could not delete from the outbox", error);
        let (mut held, mut deleted) = (Vec::new(), Vec::new());
        self.client.batch_execute(HURRY).await.map_err(failed)?;
        for part in done.chunks(PART) {
            match self.delete_from(part).await {
                Ok(ids) => deleted.extend(ids),
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    held.extend_from_slice(part);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.client.batch_execute(PATIENCE).await.map_err(failed)?;
        Ok((held, deleted))
    }

    async fn delete_from(&self, done: &[OutboxRow]) -> Result<Vec<i64>, tokio_postgres::Error> {
        if done.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = done.iter().map(|row| row.id).collect();
        let xids: Vec<Written> = done.iter().map(|row| Written::by(row.xid)).collect();
        let times: Vec<Written> = done.iter().map(|row| Written::at(row.written_at_us)).collect();
        let rows = self.client.query(&self.delete, &[&ids, &xids, &times, &self.outbox]).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }
}

fn id_of(row: Option<&Row>) -> Result<Option<i64>, PgError> {
    Ok(row.map(|row| row.try_get(0)).transpose()?)
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
