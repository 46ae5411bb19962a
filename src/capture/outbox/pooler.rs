//! Whether a pooler stands between us and the server that hands sessions around: with pgbouncer's
//! `pool_mode = transaction`, whatever is asked next may be asked in another session, and others are
//! given the one we had, with our lock on the outbox and without our settings. Two daemons would then
//! not keep apart, a lock would outlive the daemon, and no notification would come.

use tracing::debug;

use crate::postgres::connection::{self, Client, ConnectionOptions};
use crate::postgres::error::PgError;

/// A pooler may have several sessions at hand, and give them out in turn.
const TRIES: usize = 4;

/// Whether another connection is given the session that this one was in just now, or this one is in
/// another when that is taken. A pooler that keeps a session for a connection does neither.
pub(super) async fn gives_others_our_session(
    client: &Client,
    options: &ConnectionOptions,
) -> Result<bool, PgError> {
    let failed = |error| PgError::query("could not look for a pooler", error);
    let ours = session(client).await?;
    let other = match connection::connect(options).await {
        Ok(other) => other,
        Err(error) => {
            debug!("no second connection to look for a pooler with: {error}");
            return Ok(false);
        }
    };
    for _ in 0..TRIES {
        other.batch_execute("begin").await.map_err(failed)?;
        let theirs = session(&other).await?;
        // In this order: where there is but one session, it is not to be had now.
        let is_shared = theirs == ours || session(client).await? != ours;
        other.batch_execute("rollback").await.map_err(failed)?;
        if is_shared {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A process of one server and no other.
async fn session(client: &Client) -> Result<String, PgError> {
    const SQL: &str = "select concat_ws(' ', pg_backend_pid(), inet_server_addr(), \
                       inet_server_port(), pg_postmaster_start_time())";
    let row = client
        .query_typed_one(SQL, &[])
        .await
        .map_err(|error| PgError::query("could not look for a pooler", error))?;
    Ok(row.try_get(0)?)
}
