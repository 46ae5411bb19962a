//! Endpoints, and what their dispatchers learn.

use rusqlite::{Connection, OptionalExtension, params};

use super::append::Written;
use super::deliveries::{Deliveries, LaneCounts, State};
use super::model::{
    AttemptRecord, EndpointId, EndpointState, OutcomeKind, Seq, Settled, Settlement, Start,
};
use super::status::count;

const FIND_ENDPOINT: &str =
    "SELECT endpoint, cursor, in_flight, disabled FROM endpoints WHERE name = ?1";
const INSERT_ENDPOINT: &str =
    "INSERT INTO endpoints (name, created_at_ms, cursor) VALUES (?1, ?2, ?3)";
const SETTLE_ENDPOINT: &str = "UPDATE endpoints SET cursor = max(cursor, ?2), in_flight = ?3, \
    succeeded = succeeded + ?4, failed = failed + ?5, dropped = dropped + ?6, \
    last_success_at_ms = coalesce(max(last_success_at_ms, ?7), ?7, last_success_at_ms), \
    last_failure_at_ms = coalesce(max(last_failure_at_ms, ?8), ?8, last_failure_at_ms), \
    last_error = coalesce(?9, last_error) WHERE endpoint = ?1";
const DISABLE_ENDPOINT: &str = "UPDATE endpoints SET disabled = ?2 WHERE endpoint = ?1";
const INSERT_ATTEMPT: &str = "INSERT INTO attempts \
    (endpoint, seq, attempt, started_at_ms, duration_us, status, error, response) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const COUNT_STATES: &str =
    "SELECT state, count(*) FROM deliveries WHERE endpoint = ?1 GROUP BY state";
const COUNT_LANES: &str =
    "SELECT lane, count(*) FROM delivery_lanes WHERE endpoint = ?1 GROUP BY lane";

/// Applies a settlement inside the open transaction. `None` for an endpoint that is not there.
pub(super) fn settle(
    db: &Connection,
    counts: &mut LaneCounts,
    written: &Written,
    settlement: &Settlement,
    now_ms: i64,
) -> rusqlite::Result<Option<Settled>> {
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
        let seq = outcome.seq.0;
        match outcome.kind {
            OutcomeKind::Succeeded => deliveries.remove(seq)?,
            _ if gone(outcome.seq) => deliveries.remove(seq)?,
            OutcomeKind::Waiting { due_at_ms, attempts, lanes } => {
                deliveries.put(seq, State::Waiting { due_at_ms }, attempts, lanes)?;
            }
            OutcomeKind::Dead { attempts, lanes } => {
                let state = State::Dead { died_at_ms: now_ms };
                deliveries.put(seq, state, attempts, lanes)?;
            }
        }
    }
    for park in &settlement.parks {
        if !gone(park.seq) {
            deliveries.park(park.seq.0, park.lanes)?;
        }
    }
    let promoted = deliveries.promote(now_ms)?.into_iter().map(Seq).collect();
    let freed_lanes = deliveries.touched_lanes()?;
    let next_due_ms = deliveries.next_due_ms()?;
    log_attempts(db, endpoint, &settlement.attempts)?;
    if !update_endpoint(db, settlement, dropped)? {
        return Ok(None);
    }
    Ok(Some(Settled { promoted, freed_lanes, next_due_ms }))
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
    let succeeded = attempts.iter().filter(|a| a.succeeded()).count() as i64;
    let last_success = attempts.iter().filter(|a| a.succeeded()).map(ended_at_ms).max();
    let last_failure = attempts.iter().filter(|a| !a.succeeded()).max_by_key(|a| ended_at_ms(a));
    let updated = db.prepare_cached(SETTLE_ENDPOINT)?.execute(params![
        settlement.endpoint.0,
        settlement.cursor.0,
        json_array(&settlement.in_flight),
        succeeded,
        attempts.len() as i64 - succeeded,
        dropped,
        last_success,
        last_failure.map(ended_at_ms),
        last_failure.and_then(|a| a.error.as_deref()),
    ])?;
    Ok(updated == 1)
}

fn json_array(seqs: &[Seq]) -> String {
    let mut text = String::with_capacity(2 + seqs.len() * 10);
    text.push('[');
    let mut number = itoa::Buffer::new();
    for (at, seq) in seqs.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(number.format(seq.0));
    }
    text.push(']');
    text
}

/// The state of the endpoint of this name, which is made if there is none. The outer error is
/// SQLite's; the inner one says what is wrong with the row.
pub(super) fn register(
    db: &Connection,
    written: &Written,
    name: &str,
    start: Start,
    now_ms: i64,
) -> rusqlite::Result<Result<EndpointState, String>> {
    let found = db
        .prepare_cached(FIND_ENDPOINT)?
        .query_row([name], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?))
        })
        .optional()?;
    let (endpoint, cursor, in_flight, disabled) = match found {
        Some(found) => found,
        None => {
            let cursor = match start {
                Start::Now => written.last_seq,
                Start::Earliest => written.first_seq - 1,
                Start::After(seq) => seq.0.clamp(written.first_seq - 1, written.last_seq),
            };
            db.prepare_cached(INSERT_ENDPOINT)?.execute(params![name, now_ms, cursor])?;
            (db.last_insert_rowid(), cursor, "[]".to_owned(), None)
        }
    };
    let Ok(mut in_flight) = serde_json::from_str::<Vec<i64>>(&in_flight) else {
        return Ok(Err(format!("endpoint {name} has no readable list of events in flight")));
    };
    in_flight.retain(|&seq| seq >= written.first_seq);
    in_flight.sort_unstable();
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
    let next_due_ms = Deliveries::new(db, &mut LaneCounts::default(), endpoint).next_due_ms()?;
    Ok(Ok(EndpointState {
        endpoint: EndpointId(endpoint),
        cursor: Seq(cursor),
        in_flight: in_flight.into_iter().map(Seq).collect(),
        parked,
        waiting,
        blocked,
        dead,
        next_due_ms,
        disabled,
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
