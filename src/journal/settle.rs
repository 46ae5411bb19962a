//! Endpoints, and what their dispatchers learn.

use rusqlite::{Connection, OptionalExtension, params};

use crate::event::EventId;

use super::append::Written;
use super::deliveries::{Deliveries, LaneCounts, State};
use super::in_flight;
use super::losses::Lost;
use super::model::{
    AttemptRecord, EndpointId, EndpointState, Listed, OutcomeKind, Seq, Settled, Settlement, Start,
};
use super::orders::{self, pending};
use super::status::count;

const FIND_ENDPOINT: &str = "SELECT endpoint, cursor, in_flight, disabled, sequence, \
    failing_since_ms, failing_told AND failing_since_ms NOTNULL FROM endpoints WHERE name = ?1";
const INSERT_ENDPOINT: &str =
    "INSERT INTO endpoints (name, created_at_ms, cursor) VALUES (?1, ?2, ?3)";
const LOSE_IN_FLIGHT: &str =
    "UPDATE endpoints SET in_flight = ?2, dropped = dropped + ?3 WHERE endpoint = ?1";
const SETTLE_ENDPOINT: &str = "UPDATE endpoints SET cursor = max(cursor, ?2), in_flight = ?3, \
    succeeded = succeeded + ?4, failed = failed + ?5, dropped = dropped + ?6, \
    last_success_at_ms = coalesce(max(last_success_at_ms, ?7), ?7, last_success_at_ms), \
    last_failure_at_ms = coalesce(max(last_failure_at_ms, ?8), ?8, last_failure_at_ms), \
    last_error = coalesce(?9, last_error), \
    sequence = CASE WHEN ?2 >= cursor THEN ?10 ELSE sequence END, \
    failing_since_ms = CASE WHEN ?8 IS NULL THEN iif(?7 IS NULL, failing_since_ms, NULL) \
        WHEN ?7 IS NULL OR ?7 < ?8 THEN coalesce(iif(?7 IS NULL, failing_since_ms, NULL), ?8) \
        ELSE NULL END, \
    failing_told = ?11, \
    replay_last = iif(replay_until <= max(cursor, ?2), NULL, replay_last), \
    replay_events = iif(replay_until <= max(cursor, ?2), NULL, replay_events), \
    replay_until = iif(replay_until <= max(cursor, ?2), NULL, replay_until) \
    WHERE endpoint = ?1";
const ENDPOINT_NAME: &str = "SELECT name FROM endpoints WHERE endpoint = ?1";
/// One that is enabled again gets as much time as a new one.
const DISABLE_ENDPOINT: &str = "UPDATE endpoints SET disabled = ?2, \
    failing_since_ms = iif(?2 IS NULL, NULL, failing_since_ms) WHERE endpoint = ?1";
const INSERT_ATTEMPT: &str = "INSERT INTO attempts \
    (endpoint, seq, attempt, started_at_ms, duration_us, status, error, response, others, \
    failed_events, head) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const COUNT_STATES: &str =
    "SELECT state, count(*) FROM deliveries WHERE endpoint = ?1 GROUP BY state";
const COUNT_LANES: &str =
    "SELECT lane, count(*) FROM delivery_lanes WHERE endpoint = ?1 GROUP BY lane";

/// Applies a settlement inside the open transaction; also tells how many of its events retention had
/// taken meanwhile. `None` for an endpoint that is not there.
pub(super) fn settle(
    db: &Connection,
    counts: &mut LaneCounts,
    written: &Written,
    settlement: &Settlement,
    now_ms: i64,
) -> rusqlite::Result<Option<(Settled, i64)>> {
    let endpoint = settlement.endpoint.0;
    let mut dropped = 0;
    // An event that retention took meanwhile can never be sent again.
    let mut gone = |seq: Seq| {
        let gone = seq.0 < written.first_seq;
        dropped += i64::from(gone);
        gone
    };
    let mut deliveries = Deliveries::new(db, counts, endpoint);
    for outcome in &settlement.outcomes {
        let listed = Listed { seq: outcome.seq, sequence: outcome.sequence };
        match outcome.kind {
            OutcomeKind::Succeeded => deliveries.remove(listed.seq.0)?,
            _ if gone(outcome.seq) => deliveries.remove(listed.seq.0)?,
            OutcomeKind::Waiting { due_at_ms, attempts, lanes } => {
                deliveries.put(listed, State::Waiting { due_at_ms }, attempts, lanes)?;
            }
            OutcomeKind::Dead { attempts, lanes } => {
                let state = State::Dead { died_at_ms: now_ms };
                deliveries.put(listed, state, attempts, lanes)?;
            }
        }
    }
    for park in &settlement.parks {
        if !gone(park.seq) {
            let listed = Listed { seq: park.seq, sequence: park.sequence };
            deliveries.park(listed, park.attempts, park.lanes)?;
        }
    }
    let promoted = deliveries.promote(now_ms)?.into_iter().map(Seq).collect();
    let freed_lanes = deliveries.touched_lanes()?;
    let next_due_ms = deliveries.next_due_ms()?;
    log_attempts(db, endpoint, &settlement.attempts)?;
    if !update_endpoint(db, settlement, dropped)? {
        return Ok(None);
    }
    pending::passed(db, endpoint, settlement.cursor)?;
    Ok(Some((Settled { promoted, freed_lanes, next_due_ms }, dropped)))
}

/// What an endpoint lost that way, if anything. Which events they were is not known any more.
pub(super) fn lost(
    db: &Connection,
    endpoint: EndpointId,
    events: i64,
) -> rusqlite::Result<Option<Lost>> {
    if events == 0 {
        return Ok(None);
    }
    let name = db.prepare_cached(ENDPOINT_NAME)?.query_row([endpoint.0], |row| row.get(0))?;
    Ok(Some(Lost { endpoint: endpoint.0, name, events, reports: 0 }))
}

fn log_attempts(
    db: &Connection,
    endpoint: i64,
    attempts: &[AttemptRecord],
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(INSERT_ATTEMPT)?;
    for attempt in attempts {
        insert.execute(params![
            endpoint,
            attempt.seq.0,
            attempt.attempt,
            attempt.started_at_ms,
            attempt.duration_us,
            attempt.status,
            attempt.error,
            attempt.response,
            (!attempt.others.is_empty()).then(|| numbers(&attempt.others)),
            attempt.failed_events,
            attempt.head,
        ])?;
    }
    Ok(())
}

fn update_endpoint(
    db: &Connection,
    settlement: &Settlement,
    dropped: i64,
) -> rusqlite::Result<bool> {
    let attempts = &settlement.attempts;
    let ended_at_ms = |a: &AttemptRecord| a.started_at_ms + i64::from(a.duration_us) / 1000;
    let (mut succeeded, mut failed) = (0, 0);
    for attempt in attempts {
        failed += i64::from(attempt.failed_events);
        succeeded += 1 + attempt.others.len() as i64 - i64::from(attempt.failed_events);
    }
    let delivers = |a: &&AttemptRecord| (a.failed_events as usize) <= a.others.len();
    let last_success = attempts.iter().filter(delivers).map(ended_at_ms).max();
    let last_failure = attempts.iter().filter(|a| !a.succeeded()).max_by_key(|a| ended_at_ms(a));
    let updated = db.prepare_cached(SETTLE_ENDPOINT)?.execute(params![
        settlement.endpoint.0,
        settlement.cursor.0,
        in_flight::write(&settlement.in_flight),
        succeeded,
        failed,
        dropped,
        last_success,
        last_failure.map(ended_at_ms),
        last_failure.and_then(|a| a.error.as_deref()),
        settlement.sequence.cast_signed(),
        settlement.failing_told,
    ])?;
    Ok(updated == 1)
}

/// A JSON array of numbers.
fn numbers(seqs: &[Seq]) -> String {
    let mut text = String::with_capacity(2 + seqs.len() * 10);
    push_array(&mut text, seqs.iter().map(|seq| seq.0));
    text
}

pub(super) fn push_array(text: &mut String, numbers: impl IntoIterator<Item = impl itoa::Integer>) {
    let mut buffer = itoa::Buffer::new();
    text.push('[');
    for (at, number) in numbers.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(buffer.format(number));
    }
    text.push(']');
}

/// Why an endpoint has no state.
pub(super) enum Unregistered {
    /// Its row makes no sense, in this way.
    Damaged(String),
    /// It is to start behind an event that the journal does not hold.
    UnknownStart {
        id: EventId,
        /// The oldest event it does hold.
        oldest: String,
    },
}

/// The state of the endpoint of this name, which is made if there is none. The outer error is
/// SQLite's; the inner one says what is wrong with the row.
pub(super) fn register(
    db: &Connection,
    counts: &mut LaneCounts,
    written: &Written,
    name: &str,
    start: Start,
    now_ms: i64,
) -> rusqlite::Result<Result<EndpointState, Unregistered>> {
    let found = db
        .prepare_cached(FIND_ENDPOINT)?
        .query_row([name], |row| {
            let sequence = count(row, 4)?;
            let in_flight: String = row.get(2)?;
            let failing = (row.get(5)?, row.get(6)?);
            Ok((row.get(0)?, row.get(1)?, in_flight, row.get(3)?, sequence, failing))
        })
        .optional()?;
    let (endpoint, cursor, in_flight, disabled, sequence, failing) = match found {
        Some(found) => found,
        None => {
            let cursor = match start {
                Start::Now => written.last_seq,
                Start::Earliest => written.first_seq - 1,
                Start::After(seq) => seq.0.clamp(written.first_seq - 1, written.last_seq),
                Start::AfterId(id) => match orders::resolve_start(db, written, id)? {
                    Ok(seq) => seq.0,
                    Err(oldest) => return Ok(Err(Unregistered::UnknownStart { id, oldest })),
                },
            };
            db.prepare_cached(INSERT_ENDPOINT)?.execute(params![name, now_ms, cursor])?;
            (db.last_insert_rowid(), cursor, "[]".to_owned(), None, 0, (None, false))
        }
    };
    let Some(mut in_flight) = in_flight::read(&in_flight) else {
        return Ok(Err(Unregistered::Damaged(format!(
            "endpoint {name} has no readable list of events in flight"
        ))));
    };
    let listed = in_flight.len();
    in_flight.retain(|listed| listed.seq.0 >= written.first_seq);
    in_flight.sort_unstable();
    let lost = listed - in_flight.len();
    if lost > 0 {
        // Retention took them while no dispatcher was there to notice.
        db.prepare_cached(LOSE_IN_FLIGHT)?.execute(params![
            endpoint,
            in_flight::write(&in_flight),
            i64::try_from(lost).unwrap_or(i64::MAX)
        ])?;
        tracing::warn!(
            endpoint = name,
            dropped = lost,
            "events that were on their way when the endpoint was last served were dropped \
             undelivered: they were older than journal.retain, or the journal larger than \
             journal.max_size"
        );
    }
    let replay = orders::replay_of(db, counts, endpoint, cursor)?;
    let (mut waiting, mut blocked, mut dead) = (0, 0, 0);
    let mut states = db.prepare_cached(COUNT_STATES)?;
    let mut rows = states.query([endpoint])?;
    while let Some(row) = rows.next()? {
        let count = count(row, 1)?;
        match row.get_ref(0)?.as_str()? {
            "waiting" => waiting = count,
            "blocked" => blocked = count,
            _ => dead = count,
        }
    }
    let mut lanes = db.prepare_cached(COUNT_LANES)?;
    let parked = lanes.query_map([endpoint], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let parked = parked.collect::<rusqlite::Result<_>>()?;
    let next_due_ms = Deliveries::new(db, counts, endpoint).next_due_ms()?;
    Ok(Ok(EndpointState {
        endpoint: EndpointId(endpoint),
        cursor: Seq(cursor),
        sequence,
        in_flight,
        parked,
        waiting,
        blocked,
        dead,
        next_due_ms,
        disabled,
        failing_since_ms: failing.0,
        failing_told: failing.1,
        replay,
    }))
}

/// Disables an endpoint for a reason, or enables it again. Whether there is such an endpoint.
pub(super) fn set_disabled(
    db: &Connection,
    endpoint: EndpointId,
    reason: Option<&str>,
) -> rusqlite::Result<bool> {
    Ok(db.prepare_cached(DISABLE_ENDPOINT)?.execute(params![endpoint.0, reason])? == 1)
}
