//! Replication slots (<https://www.postgresql.org/docs/current/view-pg-replication-slots.html>).

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::PgError;
use super::lsn::Lsn;
use super::sql::quote_literal;

/// The output plugin walhook decodes.
pub const PLUGIN: &str = "pgoutput";

/// What the server keeps of the log for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// More than `max_wal_size`, still kept.
    Extended,
    /// No longer kept for certain: the next checkpoint may remove what the slot needs.
    Unreserved,
    /// Removed: the slot is of no use any more.
    Lost,
}

impl WalStatus {
    /// The server's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WalStatus::Reserved => "reserved",
            WalStatus::Extended => "extended",
            WalStatus::Unreserved => "unreserved",
            WalStatus::Lost => "lost",
        }
    }

    fn parse(text: &str) -> Option<WalStatus> {
        [WalStatus::Reserved, WalStatus::Extended, WalStatus::Unreserved, WalStatus::Lost]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A replication slot and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its name.
    pub name: String,
    /// Its output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// `logical` or `physical`.
    pub slot_type: String,
    /// The database it decodes; none for a physical slot.
    pub database: Option<String>,
    /// Whether it goes away with the session that made it.
    pub temporary: bool,
    /// Whether a session uses it now.
    pub active: bool,
    /// The backend that uses it.
    pub active_pid: Option<i32>,
    /// Who that is: application name and address, as far as the role may see them.
    pub active_client: Option<String>,
    /// From where on the server keeps log for it.
    pub restart_lsn: Option<Lsn>,
    /// Up to where the consumer said it needs nothing again; none while the slot is being created.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// What the server keeps of the log for it.
    pub wal_status: Option<WalStatus>,
    /// How many bytes may still be written before the slot is in danger of being lost; none without
    /// a limit (`max_slot_wal_keep_size = -1`).
    pub safe_wal_size: Option<i64>,
    /// Where the server writes now (on a standby: where it replays), read in the same statement.
    pub current_wal_lsn: Lsn,
    /// Whether two-phase decoding is on.
    pub two_phase: bool,
    /// Whether it is synchronized to standbys (17 and newer).
    pub failover: bool,
    /// Whether it is a standby's copy of the primary's (17 and newer).
    pub synced: bool,
    /// Why the server gave it up (17 and newer; on 16 only `conflicting`).
    pub invalidation_reason: Option<String>,
    /// Since when nobody uses it, as the server writes it (17 and newer).
    pub inactive_since: Option<String>,
}

impl SlotInfo {
    /// Bytes of log the server keeps because of this slot.
    pub fn retained_bytes(&self) -> u64 {
        self.restart_lsn.map_or(0, |restart_lsn| self.current_wal_lsn.bytes_since(restart_lsn))
    }

    /// Bytes of log written after what the consumer confirmed.
    pub fn lag_bytes(&self) -> u64 {
        let confirmed_lsn = self.confirmed_flush_lsn.or(self.restart_lsn);
        confirmed_lsn.map_or(0, |confirmed_lsn| self.current_wal_lsn.bytes_since(confirmed_lsn))
    }

    /// Whether the log it needs is gone, so that it can never stream again.
    pub fn is_lost(&self) -> bool {
        self.wal_status == Some(WalStatus::Lost) || self.invalidation_reason.is_some()
    }

    /// Whether another session is still creating it, waiting for older transactions to end.
    pub fn is_being_created(&self) -> bool {
        self.slot_type == "logical" && self.confirmed_flush_lsn.is_none() && !self.is_lost()
    }
}

/// The slot called `name`, if there is one; it may be of any kind and of any database.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn slot(client: &Client, name: &str) -> Result<Option<SlotInfo>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_slot.sql");
    let row = client
        .query_typed_opt(SQL, &[(&name, Type::TEXT)])
        .await
        .map_err(|error| PgError::query(format!("could not look up the slot {name:?}"), error))?;
    let Some(row) = row else { return Ok(None) };
    let wal_status: Option<&str> = row.try_get("wal_status")?;
    Ok(Some(SlotInfo {
        name: row.try_get("name")?,
        plugin: row.try_get("plugin")?,
        slot_type: row.try_get("slot_type")?,
        database: row.try_get("database")?,
        temporary: row.try_get("temporary")?,
        active: row.try_get("active")?,
        active_pid: row.try_get("active_pid")?,
        active_client: row
            .try_get::<_, Option<String>>("active_client")?
            .filter(|client| !client.is_empty()),
        restart_lsn: lsn(row.try_get("restart_lsn")?),
        confirmed_flush_lsn: lsn(row.try_get("confirmed_flush_lsn")?),
        wal_status: wal_status.and_then(WalStatus::parse),
        safe_wal_size: row.try_get("safe_wal_size")?,
        current_wal_lsn: lsn(row.try_get("current_wal_lsn")?).unwrap_or(Lsn::ZERO),
        two_phase: row.try_get("two_phase")?,
        failover: row.try_get("failover")?,
        synced: row.try_get("synced")?,
        invalidation_reason: row.try_get("invalidation_reason")?,
        inactive_since: row.try_get("inactive_since")?,
    }))
}

fn lsn(text: Option<&str>) -> Option<Lsn> {
    text.and_then(|text| text.parse().ok())
}

/// The statement that creates a logical slot for pgoutput. `failover` needs 17 or newer, where
/// standbys may keep a copy of it.
pub fn create_slot_sql(name: &str, failover: bool) -> String {
    let name = quote_literal(name);
    let failover = if failover { ", failover => true" } else { "" };
    format!("SELECT pg_create_logical_replication_slot({name}, '{PLUGIN}'{failover})")
}

/// The statement that drops a slot.
pub fn drop_slot_sql(name: &str) -> String {
    format!("SELECT pg_drop_replication_slot({})", quote_literal(name))
}

/// Drops the slot called `name`.
///
/// # Errors
/// [`PgError::is_undefined_object`] when there is none, [`PgError::is_slot_in_use`] while a session
/// uses it.
pub async fn drop_slot(client: &Client, name: &str) -> Result<(), PgError> {
    client
        .batch_execute(&drop_slot_sql(name))
        .await
        .map_err(|error| PgError::query(format!("could not drop the slot {name:?}"), error))
}

/// A transaction that another session's statement waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocker {
    /// Its backend; 0 for a prepared transaction.
    pub pid: i32,
    /// Whose session it is, as far as the role may see it.
    pub role: Option<String>,
    /// What the session calls itself.
    pub application: Option<String>,
    /// What it does, e.g. `idle in transaction`.
    pub state: Option<String>,
    /// For how long the transaction has been open.
    pub open_for: Option<Duration>,
    /// The name of the prepared transaction.
    pub prepared: Option<String>,
}

/// What the backend `pid` waits for: none when it is not blocked by a lock.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn blockers(client: &Client, pid: i32) -> Result<Vec<Blocker>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_waiting.sql");
    let rows = client
        .query_typed(SQL, &[(&pid, Type::INT4)])
        .await
        .map_err(|error| PgError::query("could not see what the server waits for", error))?;
    let blocker = |row: &tokio_postgres::Row| {
        let age_s: Option<f64> = row.try_get("age_s")?;
        Ok(Blocker {
            pid: row.try_get("pid")?,
            role: row.try_get("role")?,
            application: row.try_get("application")?,
            state: row.try_get("state")?,
            open_for: age_s.and_then(|age_s| Duration::try_from_secs_f64(age_s).ok()),
            prepared: row.try_get("prepared")?,
        })
    };
    rows.iter().map(blocker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_quote_the_name() {
        assert_eq!(
            create_slot_sql("it's", true),
            "SELECT pg_create_logical_replication_slot('it''s', 'pgoutput', failover => true)"
        );
        assert_eq!(drop_slot_sql("a"), "SELECT pg_drop_replication_slot('a')");
    }

    #[test]
    fn wal_status_words_round_trip() {
        for word in ["reserved", "extended", "unreserved", "lost"] {
            assert_eq!(WalStatus::parse(word).map(WalStatus::as_str), Some(word));
        }
        assert_eq!(WalStatus::parse("new word"), None);
    }
}
