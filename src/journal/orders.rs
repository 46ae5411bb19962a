//! What a person asks of the journal: dead letters once more, a replay, an endpoint on or off.
//!
//! Any process may [give](give) an order while a daemon writes to the file; whoever holds the
//! journal's lock carries it out: the daemon, or the command itself where none runs. It is done in
//! steps of one transaction each, so that a million dead letters hold up nobody, and each of them
//! can be repeated: an order that a crash interrupted is carried out again from its beginning.

pub(super) mod pending;
mod replay;
mod step;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::event::{EventFilter, EventId};

use super::error::JournalError;
use super::file;

pub(super) use replay::{replay_of, resolve_start};
pub(super) use step::carry_out;

const INSERT: &str = "INSERT INTO orders (given_at_ms, wish) VALUES (?1, ?2)";
const GIVEN: &str = "SELECT order_id, wish FROM orders WHERE done_at_ms IS NULL ORDER BY order_id";
const RESULT: &str = "SELECT result, failed FROM orders WHERE order_id = ?1";
const FINISH: &str =
    "UPDATE orders SET done_at_ms = ?2, result = ?3, failed = ?4 WHERE order_id = ?1";
const FORGET_OLD: &str = "DELETE FROM orders WHERE done_at_ms < ?1";
const WITH_DEAD: &str = "SELECT name FROM endpoints e WHERE EXISTS \
    (SELECT 1 FROM deliveries d WHERE d.endpoint = e.endpoint AND d.died_at_ms IS NOT NULL) \
    ORDER BY name";

/// How long what came of an order can be read.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Wish {
    /// Dead deliveries are tried again, now, in the order of their records, and with a retry
    /// schedule that starts anew.
    Retry {
        /// Of which endpoint; of all where it is `None`.
        endpoint: Option<String>,
        /// Which of them.
        chosen: Chosen,
    },
    /// Dead deliveries are forgotten.
    Discard {
        /// Of which endpoint; of all where it is `None`.
        endpoint: Option<String>,
        /// Which of them.
        chosen: Chosen,
    },
    /// An endpoint gets events of the journal once more, before anything new; with them, in its place,
    /// all that is still to be delivered from there on.
    Replay {
        /// Its name.
        endpoint: String,
        /// The first.
        since: Point,
        /// The last, that one included; up to where the endpoint is, where it is `None`.
        until: Option<Point>,
        /// Patterns for their names; all where it is empty.
        events: Vec<String>,
    },
    /// A replay under way ends here; what it would have brought along waits again.
    StopReplay {
        /// The endpoint's name.
        endpoint: String,
    },
    /// The endpoint gets events again, first what it missed; what waits for a retry is due at once.
    Enable {
        /// Its name.
        endpoint: String,
    },
    /// The endpoint gets nothing until it is enabled; its events wait in the journal.
    Disable {
        /// Its name.
        endpoint: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// The journal forgets an endpoint that is not in the configuration any more.
    Forget {
        /// Its name.
        endpoint: String,
    },
}

/// Which dead deliveries are meant: those that fit all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Of these events; of all where it is empty.
    pub ids: Vec<EventId>,
    /// Of events whose name matches one of these patterns; of all where it is empty.
    pub events: Vec<String>,
    /// Of events committed then or later, microseconds since the Unix epoch.
    pub since_us: Option<i64>,
    /// Of events committed then or earlier, microseconds since the Unix epoch.
    pub until_us: Option<i64>,
}

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The oldest event that is kept.
    Earliest,
    /// This event.
    Event(EventId),
    /// By commit time, microseconds since the Unix epoch.
    Time(i64),
}

/// An order that was given and is not carried out yet.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its number.
    pub id: i64,
    /// What is wanted; the error where it cannot be read.
    pub wish: Result<Wish, String>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderResult {
    /// In a sentence.
    pub sentence: String,
    /// Whether it could not be carried out.
    pub failed: bool,
}

/// One transaction's worth of an order, for one endpoint.
#[derive(Clone, Debug)]
pub struct OrderStep {
    /// The order's number.
    pub order: i64,
    /// What is wanted.
    pub wish: Wish,
    /// The endpoint whose turn it is.
    pub endpoint: String,
    /// Whether it is the order's last endpoint.
    pub last: bool,
    /// What the step before came to.
    pub progress: OrderProgress,
}

/// How far an order is carried out.
#[derive(Clone, Debug, Default)]
pub struct OrderProgress {
    /// Nothing is left to do for this endpoint.
    pub done: bool,
    /// The order cannot be carried out.
    pub failed: bool,
    /// How far the current endpoint's list was gone through.
    pub(super) after: i64,
    /// Which list that is.
    pub(super) phase: u8,
    /// How much was done for it.
    pub(super) count: u64,
    /// Of how many in all, where that is not the same.
    pub(super) number: u64,
    /// The sentences so far.
    pub(super) said: Vec<String>,
}

impl OrderProgress {
    /// What came of it so far, in a sentence.
    pub fn said(&self) -> String {
        self.said.join("; ")
    }

    /// For the next endpoint of the same order.
    pub fn next_endpoint(self) -> OrderProgress {
        OrderProgress { said: self.said, ..OrderProgress::default() }
    }
}

impl Wish {
    /// Whether the endpoint's dispatcher has to stand still meanwhile, and start anew.
    pub fn concerns_dispatcher(&self) -> bool {
        !matches!(self, Wish::Discard { .. } | Wish::Forget { .. })
    }

    /// The endpoint it is about; `None` where it is about all.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Wish::Retry { endpoint, .. } | Wish::Discard { endpoint, .. } => endpoint.as_deref(),
            Wish::Replay { endpoint, .. }
            | Wish::StopReplay { endpoint }
            | Wish::Enable { endpoint }
            | Wish::Disable { endpoint, .. }
            | Wish::Forget { endpoint } => Some(endpoint),
        }
    }
}

impl Chosen {
    /// The patterns, checked when the order was given.
    fn filter(&self) -> Result<EventFilter, String> {
        filter_of(&self.events)
    }
}

/// No pattern stands for every event.
fn filter_of(patterns: &[String]) -> Result<EventFilter, String> {
    match patterns {
        [] => Ok(EventFilter::default()),
        _ => EventFilter::new(patterns).map_err(|error| error.to_string()),
    }
}

/// Writes an order into the journal at `path`, and returns its number.
///
/// # Errors
/// There is no such journal, it is one of another version, or it cannot be written.
pub fn give(path: &Path, wish: &Wish) -> Result<i64, JournalError> {
    let path = file::real_path(path)?;
    let mut db = file::open_for_orders(&path)?;
    let failed = |error| JournalError::sqlite(&path, "write an order to", error);
    let text = serde_json::to_string(wish)
        .map_err(|error| JournalError::damaged(&path, error.to_string()))?;
    let transaction =
        db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    transaction.execute(INSERT, params![now_ms(), text]).map_err(failed)?;
    let id = transaction.last_insert_rowid();
    transaction.commit().map_err(failed)?;
    Ok(id)
}

/// The orders that wait to be carried out.
pub(super) fn given(db: &Connection) -> rusqlite::Result<Vec<Order>> {
    let mut query = db.prepare_cached(GIVEN)?;
    let rows = query.query_map((), |row| {
        let wish = serde_json::from_str(row.get_ref(1)?.as_str()?);
        let wish = wish.map_err(|error| format!("this walhook cannot read the order: {error}"));
        Ok(Order { id: row.get(0)?, wish })
    })?;
    rows.collect()
}

/// What came of an order, once it is done.
pub(super) fn result(db: &Connection, id: i64) -> rusqlite::Result<Option<OrderResult>> {
    let found = db.prepare_cached(RESULT)?.query_row([id], |row| {
        let sentence: Option<String> = row.get(0)?;
        let failed: Option<bool> = row.get(1)?;
        Ok(sentence.map(|sentence| OrderResult { sentence, failed: failed.unwrap_or(false) }))
    });
    found.optional().map(Option::flatten)
}

/// The endpoints an order is to be carried out for.
pub(super) fn endpoints_of(db: &Connection, wish: &Wish) -> rusqlite::Result<Vec<String>> {
    match wish.endpoint() {
        Some(endpoint) => Ok(vec![endpoint.to_owned()]),
        None => db.prepare_cached(WITH_DEAD)?.query_map((), |row| row.get(0))?.collect(),
    }
}

/// Notes inside the open transaction what came of an order, and forgets old ones.
pub(super) fn finish(
    db: &Connection,
    id: i64,
    sentence: &str,
    failed: bool,
    now_ms: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(FINISH)?.execute(params![id, now_ms, sentence, failed])?;
    let kept_ms = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    db.prepare_cached(FORGET_OLD)?.execute([now_ms.saturating_sub(kept_ms)]).map(drop)
}
