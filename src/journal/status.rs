//! Looking at a journal from outside, also while a daemon writes to it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};

use crate::capture::{CaptureKind, Position};
use crate::event::EventId;
use crate::postgres::lsn::Lsn;

use super::error::JournalError;
use super::file;
use super::model::{Checkpoint, Seq, SourceIdentity};
use super::orders::{self, OrderResult};

const HEAD: &str = "SELECT last_seq, system_identifier, database_oid, database, timeline, slot, \
    commit_lsn, ordinal, resume_lsn, durable_lsn, capture, outbox_lost FROM journal";
const OLDEST_EVENT: &str = "SELECT committed_at_us FROM events ORDER BY seq LIMIT 1";
const SIZE: &str = "SELECT (page_count - freelist_count) * page_size \
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
const ENDPOINTS: &str = "SELECT endpoint, name, cursor, \
    (SELECT coalesce(sum(coalesce(value ->> 2, 1)), 0) FROM json_each(in_flight)), disabled, \
    succeeded, failed, dropped, last_success_at_ms, last_failure_at_ms, last_error, \
    (SELECT count(*) FROM deliveries d WHERE d.endpoint = e.endpoint AND due_at_ms NOTNULL), \
    (SELECT count(*) FROM deliveries d WHERE d.endpoint = e.endpoint AND died_at_ms NOTNULL), \
    (SELECT count(*) FROM deliveries d WHERE d.endpoint = e.endpoint), \
    (SELECT min(due_at_ms) FROM deliveries d WHERE d.endpoint = e.endpoint AND due_at_ms NOTNULL), \
    sequence, iif(replay_until > cursor, replay_last, NULL), failing_since_ms, \
    max(cursor, coalesce(replay_until, cursor)), (SELECT count(*) FROM replay_pending p \
    WHERE p.endpoint = e.endpoint AND p.seq > max(cursor, coalesce(replay_last, cursor))) \
    FROM endpoints e ORDER BY name";
/// What [`attempt_entry`] reads, of attempts `a`, their endpoints `e` and events `v`.
pub(super) const ATTEMPT_COLUMNS: &str = "e.name, a.seq, v.id, v.name, a.attempt, \
    a.started_at_ms, a.duration_us, a.status, a.error, a.response, a.head, a.others, \
    a.failed_events";
const DEAD: &str = "SELECT e.name, d.seq, v.id, v.name, d.attempts, v.committed_at_us, d.died_at_ms \
    FROM endpoints e JOIN deliveries d ON d.endpoint = e.endpoint AND d.died_at_ms NOTNULL \
    JOIN events v ON v.seq = d.seq \
    WHERE (?1 IS NULL OR e.name = ?1) AND d.seq > ?2 ORDER BY d.seq, e.name LIMIT ?3";

/// A journal opened for looking only.
pub struct JournalReader {
    path: PathBuf,
    db: Connection,
}

/// All of a journal at one moment.
#[derive(Clone, Debug)]
pub struct JournalStatus {
    /// The database it belongs to, if it was said.
    pub identity: Option<SourceIdentity>,
    /// How far the stream is journaled.
    pub checkpoint: Option<Checkpoint>,
    /// How far the replication slot may have been told.
    pub durable_lsn: Lsn,
    /// How many changes an outbox lost, ever: rows that were dropped unread, and those a trigger
    /// could not record.
    pub outbox_lost: u64,
    /// What is kept.
    pub events: EventsStatus,
    /// Bytes of content, without what is free for reuse.
    pub size_bytes: u64,
    /// By name.
    pub endpoints: Vec<EndpointStatus>,
}

/// The events a journal keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventsStatus {
    /// How many.
    pub count: u64,
    /// The oldest one's number, if there is one.
    pub first_seq: Option<Seq>,
    /// The number of the newest event there ever was; 0 before the first.
    pub last_seq: Seq,
    /// When the oldest was committed, microseconds since the Unix epoch.
    pub oldest_committed_at_us: Option<i64>,
}

/// One endpoint, as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// The last event taken from the stream.
    pub cursor: Seq,
    /// Events still to be delivered, as far as the journal can tell: those beyond the cursor
    /// (wanted or not, since filters are the dispatcher's; of a replay, those up to its last and
    /// what was still to be delivered behind it), in flight, waiting and blocked.
    pub backlog: u64,
    /// Taken and neither done nor parked.
    pub in_flight: u64,
    /// Waiting for their retry.
    pub waiting: u64,
    /// Blocked behind those.
    pub blocked: u64,
    /// Given up.
    pub dead: u64,
    /// Events that retention took before they were delivered.
    pub dropped: u64,
    /// When the next retry is due, milliseconds since the Unix epoch.
    pub next_due_ms: Option<i64>,
    /// Why it is disabled, if it is.
    pub disabled: Option<String>,
    /// How many events at or before the cursor it wanted: the last webhook-sequence.
    pub sequence: u64,
    /// The last event of a replay, while one is under way.
    pub replaying: Option<Seq>,
    /// When the first failure ended since the last success, milliseconds since the Unix epoch.
    pub failing_since_ms: Option<i64>,
    /// Attempts that succeeded, ever.
    pub succeeded: u64,
    /// Attempts that failed, ever.
    pub failed: u64,
    /// When the last success ended, milliseconds since the Unix epoch.
    pub last_success_at_ms: Option<i64>,
    /// When the last failure ended, milliseconds since the Unix epoch.
    pub last_failure_at_ms: Option<i64>,
    /// What the last failure was.
    pub last_error: Option<String>,
}

/// One attempt of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEntry {
    /// The endpoint's name.
    pub endpoint: String,
    /// The event's number.
    pub seq: Seq,
    /// The event's id, while the event is still there.
    pub id: Option<EventId>,
    /// The event's name, while the event is still there.
    pub event: Option<String>,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// How long it took, microseconds.
    pub duration_us: u32,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// Why it failed; `None` for a success.
    pub error: Option<String>,
    /// The beginning of the answer's body, of failures only.
    pub response: Option<Vec<u8>>,
    /// The answer's status line and headers, of failures only.
    pub head: Option<String>,
    /// The further events of a request with several.
    pub others: Vec<Seq>,
    /// How many of all its events it did not deliver.
    pub failed_events: u32,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadDelivery {
    /// The endpoint's name.
    pub endpoint: String,
    /// The event's number.
    pub seq: Seq,
    /// The event's id.
    pub id: EventId,
    /// The event's name.
    pub event: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When the change was committed, microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// When it was given up, milliseconds since the Unix epoch.
    pub died_at_ms: i64,
}

/// The single row that heads the file.
pub(super) struct Head {
    pub(super) last_seq: i64,
    pub(super) identity: Option<SourceIdentity>,
    pub(super) checkpoint: Option<Checkpoint>,
    durable_lsn: Lsn,
    outbox_lost: u64,
}

impl JournalReader {
    pub(super) fn open(path: &Path) -> Result<JournalReader, JournalError> {
        let path = file::real_path(path)?;
        let db = file::open_reader(&path)?;
        Ok(JournalReader { path, db })
    }

    /// Everything at a glance, of one moment.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn status(&self) -> Result<JournalStatus, JournalError> {
        self.read(|db| {
            let moment = db.unchecked_transaction()?;
            let head = head(&moment)?;
            let events = events_status(&moment, head.last_seq)?;
            let size: i64 = moment.query_row(SIZE, (), |row| row.get(0))?;
            let mut query = moment.prepare_cached(ENDPOINTS)?;
            let endpoints = query
                .query_map((), |row| endpoint_status(row, head.last_seq))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(JournalStatus {
                identity: head.identity,
                checkpoint: head.checkpoint,
                durable_lsn: head.durable_lsn,
                outbox_lost: head.outbox_lost,
                events,
                size_bytes: size.unsigned_abs(),
                endpoints,
            })
        })
    }

    /// The endpoints it knows, by name; without counting what waits for them.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn endpoint_names(&self) -> Result<Vec<String>, JournalError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT name FROM endpoints ORDER BY name")?;
            query.query_map((), |row| row.get(0))?.collect()
        })
    }

    /// What came of an order, once it is done.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn order(&self, id: i64) -> Result<Option<OrderResult>, JournalError> {
        self.read(|db| orders::result(db, id))
    }

    /// The newest attempts, newest first, at most `limit`.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn attempts(&self, limit: usize) -> Result<Vec<AttemptEntry>, JournalError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {ATTEMPT_COLUMNS} FROM attempts a \
                 JOIN endpoints e ON e.endpoint = a.endpoint LEFT JOIN events v ON v.seq = a.seq \
                 ORDER BY a.attempt_id DESC LIMIT ?1"
            );
            let mut query = db.prepare_cached(&sql)?;
            query.query_map([limit_of(limit)], attempt_entry)?.collect()
        })
    }

    /// Dead deliveries of one endpoint or of all, of events after `after`, at most `limit`, in the
    /// order of the events.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead(
        &self,
        endpoint: Option<&str>,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<DeadDelivery>, JournalError> {
        self.read(|db| {
            let mut query = db.prepare_cached(DEAD)?;
            query.query_map(params![endpoint, after.0, limit_of(limit)], dead_delivery)?.collect()
        })
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        read(&self.db).map_err(|error| JournalError::sqlite(&self.path, "read", error))
    }
}

impl std::fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalReader").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads the row that heads the file.
pub(super) fn head(db: &Connection) -> rusqlite::Result<Head> {
    db.query_row(HEAD, (), |row| {
        let identity = match row.get::<_, Option<i64>>(1)? {
            None => None,
            Some(system_identifier) => Some(SourceIdentity {
                system_identifier: system_identifier as u64,
                database_oid: row.get(2)?,
                database: row.get(3)?,
                timeline: row.get(4)?,
                // Whatever this version writes has a name it knows.
                capture: CaptureKind::named(&row.get::<_, String>(10)?).unwrap_or_default(),
                slot: row.get(5)?,
            }),
        };
        let checkpoint = match row.get::<_, Option<i64>>(6)? {
            None => None,
            Some(commit_lsn) => Some(Checkpoint {
                position: Position {
                    commit_lsn: Lsn(commit_lsn as u64),
                    ordinal: row.get::<_, i64>(7)? as u64,
                },
                resume_lsn: Lsn(row.get::<_, i64>(8)? as u64),
            }),
        };
        let durable_lsn = Lsn(row.get::<_, i64>(9)? as u64);
        let outbox_lost = count(row, 11)?;
        Ok(Head { last_seq: row.get(0)?, identity, checkpoint, durable_lsn, outbox_lost })
    })
}

fn events_status(db: &Connection, last_seq: i64) -> rusqlite::Result<EventsStatus> {
    let first: Option<i64> = db.query_row("SELECT min(seq) FROM events", (), |row| row.get(0))?;
    let Some(first) = first else {
        return Ok(EventsStatus { last_seq: Seq(last_seq), ..EventsStatus::default() });
    };
    Ok(EventsStatus {
        count: (last_seq - first + 1).unsigned_abs(),
        first_seq: Some(Seq(first)),
        last_seq: Seq(last_seq),
        oldest_committed_at_us: Some(db.query_row(OLDEST_EVENT, (), |row| row.get(0))?),
    })
}

fn endpoint_status(row: &Row<'_>, last_seq: i64) -> rusqlite::Result<EndpointStatus> {
    let cursor: i64 = row.get(2)?;
    let in_flight = count(row, 3)?;
    let (waiting, dead, all) = (count(row, 11)?, count(row, 12)?, count(row, 13)?);
    let parked = all.saturating_sub(dead);
    let replaying: Option<i64> = row.get(16)?;
    let new = (last_seq - row.get::<_, i64>(18)?).max(0).unsigned_abs();
    let again = replaying.map_or(0, |last| (last - cursor).max(0).unsigned_abs());
    Ok(EndpointStatus {
        name: row.get(1)?,
        cursor: Seq(cursor),
        backlog: new + again + count(row, 19)? + in_flight + parked,
        in_flight,
        waiting,
        blocked: parked.saturating_sub(waiting),
        dead,
        dropped: count(row, 7)?,
        next_due_ms: row.get(14)?,
        disabled: row.get(4)?,
        sequence: count(row, 15)?,
        replaying: replaying.map(Seq),
        failing_since_ms: row.get(17)?,
        succeeded: count(row, 5)?,
        failed: count(row, 6)?,
        last_success_at_ms: row.get(8)?,
        last_failure_at_ms: row.get(9)?,
        last_error: row.get(10)?,
    })
}

pub(super) fn attempt_entry(row: &Row<'_>) -> rusqlite::Result<AttemptEntry> {
    Ok(AttemptEntry {
        endpoint: row.get(0)?,
        seq: Seq(row.get(1)?),
        id: row.get::<_, Option<[u8; 20]>>(2)?.map(EventId::from_bytes),
        event: row.get(3)?,
        attempt: row.get(4)?,
        started_at_ms: row.get(5)?,
        duration_us: row.get(6)?,
        status: row.get(7)?,
        error: row.get(8)?,
        response: row.get(9)?,
        head: row.get(10)?,
        others: match row.get_ref(11)?.as_str_or_null()? {
            Some(text) => numbers(text),
            None => Vec::new(),
        },
        failed_events: row.get(12)?,
    })
}

/// A JSON array of numbers.
fn numbers(text: &str) -> Vec<Seq> {
    let numbers: Vec<i64> = serde_json::from_str(text).unwrap_or_default();
    numbers.into_iter().map(Seq).collect()
}

fn dead_delivery(row: &Row<'_>) -> rusqlite::Result<DeadDelivery> {
    Ok(DeadDelivery {
        endpoint: row.get(0)?,
        seq: Seq(row.get(1)?),
        id: EventId::from_bytes(row.get(2)?),
        event: row.get(3)?,
        attempts: row.get(4)?,
        committed_at_us: row.get(5)?,
        died_at_ms: row.get(6)?,
    })
}

/// A column that is never negative.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
