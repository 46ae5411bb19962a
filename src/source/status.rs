//! The database's half of `status`.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{OutboxPolicy, SourceOptions, outbox};
use crate::postgres::catalog::{ServerInfo, server_info};
use crate::postgres::error::PgError;
use crate::postgres::publication::{PublicationInfo, publication};
use crate::postgres::slot::{SlotInfo, slot};

/// What the database says about walhook's stream.
#[derive(Clone, Debug)]
pub struct DatabaseStatus {
    /// The server, the database and the role.
    pub server: ServerInfo,
    /// The publication, if it exists.
    pub publication: Option<PublicationInfo>,
    /// The slot, if it exists, with its positions.
    pub slot: Option<SlotInfo>,
    /// For how long the newest unconfirmed commit has waited, as the server measures it; none while
    /// nobody streams or nothing is outstanding.
    pub flush_lag: Option<Duration>,
    /// The outbox, where that is what is followed, if it exists.
    pub outbox: Option<OutboxStatus>,
}

/// What the outbox holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxStatus {
    /// How many rows wait to be read.
    pub rows: u64,
    /// Whether they were counted; very many are estimated.
    pub exact: bool,
    /// How long ago the oldest was written.
    pub oldest: Option<Duration>,
    /// How many were dropped unread, as far as nobody has read that.
    pub dropped: u64,
    /// What it takes on the disk with its index, dead rows included.
    pub bytes: u64,
    /// How many may wait.
    pub max_rows: u64,
    /// What happens when more do.
    pub policy: OutboxPolicy,
    /// The server's process that reads it for walhook.
    pub drained_by: Option<i32>,
    /// How many tables are followed.
    pub tables: usize,
    /// Those whose triggers are missing or not as they should be, by schema and name.
    pub unfit: Vec<(String, String)>,
}

/// Asks the database.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn status(client: &Client, options: &SourceOptions) -> Result<DatabaseStatus, PgError> {
    let server = server_info(client).await?;
    let publication = publication(client, &options.publication).await?;
    let slot = slot(client, &options.slot).await?;
    let flush_lag = match slot.as_ref().and_then(|slot| slot.active_pid) {
        Some(pid) => flush_lag(client, pid).await?,
        None => None,
    };
    let outbox = match &options.outbox {
        Some(spec) => outbox::status::status(client, options, spec).await?,
        None => None,
    };
    Ok(DatabaseStatus { server, publication, slot, flush_lag, outbox })
}

async fn flush_lag(client: &Client, pid: i32) -> Result<Option<Duration>, PgError> {
    const SQL: &str = "select extract(epoch from flush_lag)::float8 as lag_s \
                       from pg_stat_replication where pid = $1";
    let row = client
        .query_typed_opt(SQL, &[(&pid, Type::INT4)])
        .await
        .map_err(|error| PgError::query("could not read the stream's lag", error))?;
    let Some(row) = row else { return Ok(None) };
    let lag_s: Option<f64> = row.try_get("lag_s")?;
    Ok(lag_s.and_then(|lag_s| Duration::try_from_secs_f64(lag_s).ok()))
}
