//! Lists of deliveries, and one event with all that came of it, for people.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::event::{EventFilter, EventId};

use super::error::JournalError;
use super::in_flight;
use super::model::Seq;
use super::read::find;
use super::status::{ATTEMPT_COLUMNS, AttemptEntry, JournalReader, attempt_entry, count};

const OLDEST: &str = "SELECT id, committed_at_us FROM events ORDER BY seq LIMIT 1";
const EVENT: &str = "SELECT id, name, committed_at_us, body FROM events WHERE seq = ?1";
const STANDINGS: &str = "SELECT e.name, e.cursor, e.in_flight, e.replay_until, d.state, \
    d.attempts, d.sequence, d.due_at_ms, d.died_at_ms, EXISTS (SELECT 1 FROM replay_pending p \
    WHERE p.endpoint = e.endpoint AND p.seq = ?1) FROM endpoints e LEFT JOIN deliveries d ON d.endpoint = e.endpoint AND d.seq = ?1 ORDER BY e.name";

/// The states a delivery on the list can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for its retry.
    Waiting,
    /// It waits behind another one of its record.
    Blocked,
    /// It was given up.
    Dead,
}

/// Which deliveries are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this endpoint; of all where it is `None`.
    pub endpoint: Option<String>,
    /// In this state; in any where it is `None`.
    pub state: Option<DeliveryState>,
    /// Of events with such names.
    pub events: EventFilter,
    /// Of events committed then or later, microseconds since the Unix epoch.
    pub since_us: Option<i64>,
    /// Of events committed then or earlier, microseconds since the Unix epoch.
    pub until_us: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// A delivery on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryEntry {
    /// The endpoint's name.
    pub endpoint: String,
    /// The event's id.
    pub id: EventId,
    /// The event's name.
    pub event: String,
    /// When the change was committed, microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// Where it stands.
    pub row: DeliveryRow,
}

/// What the list says of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its state.
    pub state: DeliveryState,
    /// How often it was tried since it was put on the list, or again by hand.
    pub attempts: u32,
    /// Its webhook-sequence; 0 where it has none.
    pub sequence: u64,
    /// When it is tried again, if it waits for that; milliseconds since the Unix epoch.
    pub due_at_ms: Option<i64>,
    /// When it was given up, if it was; milliseconds since the Unix epoch.
    pub died_at_ms: Option<i64>,
}

/// One event and where it stands.
#[derive(Clone, Debug)]
pub struct EventEntry {
    /// Its id.
    pub id: EventId,
    /// Its number.
    pub seq: Seq,
    /// Its name.
    pub name: String,
    /// When the change was committed, microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// Its JSON envelope.
    pub body: Vec<u8>,
    /// For each endpoint, by name.
    pub endpoints: Vec<(String, Standing)>,
    /// The requests that carried it, in the order they were made.
    pub attempts: Vec<AttemptEntry>,
}

/// Where an event stands for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The endpoint has not come to it yet.
    Ahead,
    /// It is one of those on their way.
    InFlight,
    /// It is on the list.
    Listed(DeliveryRow),
    /// It is done: delivered, or not wanted.
    Done,
}

impl DeliveryState {
    /// Its name, as the journal has it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Waiting => "waiting",
            DeliveryState::Blocked => "blocked",
            DeliveryState::Dead => "dead",
        }
    }
}

impl JournalReader {
    /// The deliveries that the filter lets through, by endpoint and in the order of the events, and
    /// whether there are more.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<(Vec<DeliveryEntry>, bool), JournalError> {
        self.read(|db| deliveries(db, filter))
    }

    /// The event with this id, with where it stands and all its attempts, if it is still there.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn event(&self, id: EventId) -> Result<Option<EventEntry>, JournalError> {
        self.read(|db| {
            let moment = db.unchecked_transaction()?;
            let Some(seq) = find(&moment, id)? else { return Ok(None) };
            let mut query = moment.prepare_cached(EVENT)?;
            let event = query.query_row([seq.0], |row| {
                Ok(EventEntry {
                    id,
                    seq,
                    name: row.get(1)?,
                    committed_at_us: row.get(2)?,
                    body: row.get(3)?,
                    endpoints: standings(&moment, seq)?,
                    attempts: attempts_of(&moment, seq)?,
                })
            });
            event.optional()
        })
    }

    /// Whether the event with this id is still there.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn holds(&self, id: EventId) -> Result<bool, JournalError> {
        self.read(|db| Ok(find(db, id)?.is_some()))
    }

    /// The oldest event that is kept, and when it was committed, microseconds since the Unix epoch.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn oldest(&self) -> Result<Option<(EventId, i64)>, JournalError> {
        self.read(|db| {
            let oldest = db
                .prepare_cached(OLDEST)?
                .query_row((), |row| Ok((EventId::from_bytes(row.get(0)?), row.get(1)?)));
            oldest.optional()
        })
    }
}

fn deliveries(
    db: &Connection,
    filter: &DeliveryFilter,
) -> rusqlite::Result<(Vec<DeliveryEntry>, bool)> {
    // Literally, so that the small indexes serve.
    let state = match filter.state {
        None => "1",
        Some(DeliveryState::Waiting) => "d.due_at_ms IS NOT NULL",
        Some(DeliveryState::Blocked) => "d.state = 'blocked'",
        Some(DeliveryState::Dead) => "d.died_at_ms IS NOT NULL",
    };
    let sql = format!(
        "SELECT d.state, d.attempts, d.sequence, d.due_at_ms, d.died_at_ms, e.name, v.id, v.name, \
         v.committed_at_us FROM endpoints e CROSS JOIN deliveries d ON d.endpoint = e.endpoint \
         CROSS JOIN events v ON v.seq = d.seq WHERE (?1 IS NULL OR e.name = ?1) AND {state} \
         ORDER BY e.name, d.seq"
    );
    let mut query = db.prepare_cached(&sql)?;
    let mut rows = query.query([&filter.endpoint])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let committed_at_us: i64 = row.get(8)?;
        let wanted = filter.since_us.is_none_or(|since| committed_at_us >= since)
            && filter.until_us.is_none_or(|until| committed_at_us <= until)
            && filter.events.matches(row.get_ref(7)?.as_str()?);
        if !wanted {
            continue;
        }
        if entries.len() >= filter.limit {
            return Ok((entries, true));
        }
        let Some(listed) = delivery_row(row, 0)? else { continue };
        entries.push(DeliveryEntry {
            endpoint: row.get(5)?,
            id: EventId::from_bytes(row.get(6)?),
            event: row.get(7)?,
            committed_at_us,
            row: listed,
        });
    }
    Ok((entries, false))
}

/// State, attempts, sequence, due and death from five columns, starting at `first`.
fn delivery_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<DeliveryRow>> {
    let state: Option<String> = row.get(first)?;
    let Some(state) = state else { return Ok(None) };
    Ok(Some(DeliveryRow {
        state: match state.as_str() {
            "waiting" => DeliveryState::Waiting,
            "blocked" => DeliveryState::Blocked,
            _ => DeliveryState::Dead,
        },
        attempts: row.get(first + 1)?,
        sequence: count(row, first + 2)?,
        due_at_ms: row.get(first + 3)?,
        died_at_ms: row.get(first + 4)?,
    }))
}

fn standings(db: &Connection, seq: Seq) -> rusqlite::Result<Vec<(String, Standing)>> {
    let mut query = db.prepare_cached(STANDINGS)?;
    let rows = query.query_map([seq.0], |row| {
        let (cursor, replay_until): (i64, Option<i64>) = (row.get(1)?, row.get(3)?);
        let in_flight = in_flight::read(row.get_ref(2)?.as_str()?).unwrap_or_default();
        let standing = match delivery_row(row, 4)? {
            Some(listed) => Standing::Listed(listed),
            // A replay takes it in its place.
            None if row.get(9)? => Standing::Ahead,
            None if seq.0 > cursor.max(replay_until.unwrap_or(cursor)) => Standing::Ahead,
            None if in_flight.iter().any(|listed| listed.seq == seq) => Standing::InFlight,
            None => Standing::Done,
        };
        Ok((row.get(0)?, standing))
    })?;
    rows.collect()
}

/// There is no index for this: a person can wait for a moment, and every delivery would pay for it.
fn attempts_of(db: &Connection, seq: Seq) -> rusqlite::Result<Vec<AttemptEntry>> {
    let sql = format!(
        "SELECT {ATTEMPT_COLUMNS} FROM attempts a JOIN endpoints e ON e.endpoint = a.endpoint \
         LEFT JOIN events v ON v.seq = a.seq \
         WHERE a.seq = ?1 OR (a.others IS NOT NULL AND instr(a.others, ?2) > 0 \
         AND EXISTS (SELECT 1 FROM json_each(a.others) o WHERE o.value = ?1)) \
         ORDER BY a.attempt_id"
    );
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(rusqlite::params![seq.0, seq.0.to_string()], attempt_entry)?;
    rows.collect()
}
