//! What was still to be delivered when a replay turned the endpoint back to before it.
//!
//! It is taken off its place and sent when the stream comes to it, so that all the events of a record
//! come in order, the repeated ones and these. Until a settlement says that the stream has passed it
//! (it is done then, or parked or in flight like any other), it stays written here.

use rusqlite::{Connection, params};

use super::super::deliveries::{Deliveries, LaneCounts, State, lanes_of};
use super::super::model::{Listed, Seq};
use super::super::status::count;

const PARKED: &str = "SELECT seq, sequence FROM deliveries \
    WHERE endpoint = ?1 AND seq > ?2 AND seq <= ?3 AND died_at_ms IS NULL ORDER BY seq LIMIT ?4";
const KEEP: &str = "INSERT INTO replay_pending (endpoint, seq, sequence) VALUES (?1, ?2, ?3) \
    ON CONFLICT (endpoint, seq) DO UPDATE SET sequence = max(sequence, excluded.sequence)";
const LIST: &str = "SELECT seq, sequence FROM replay_pending \
    WHERE endpoint = ?1 AND seq > ?2 ORDER BY seq";
const COUNT: &str = "SELECT count(*) FROM replay_pending WHERE endpoint = ?1";
const FIRST: &str = "SELECT p.seq, p.sequence, v.lane_1, v.lane_2 FROM replay_pending p \
    CROSS JOIN events v ON v.seq = p.seq WHERE p.endpoint = ?1 ORDER BY p.seq LIMIT ?2";
const UP_TO: &str = "SELECT seq FROM replay_pending WHERE endpoint = ?1 AND seq <= ?2 ORDER BY seq";
const PASS: &str = "DELETE FROM replay_pending WHERE endpoint = ?1 AND seq <= ?2";
const FORGET: &str = "DELETE FROM replay_pending WHERE endpoint = ?1 AND seq <= \
    (SELECT max(seq) FROM (SELECT seq FROM replay_pending WHERE endpoint = ?1 \
    ORDER BY seq LIMIT ?2))";

/// Remembers one that is taken from the list of those in flight.
pub(super) fn keep(db: &Connection, endpoint: i64, listed: Listed) -> rusqlite::Result<()> {
    let change = params![endpoint, listed.seq.0, listed.sequence.cast_signed()];
    db.prepare_cached(KEEP)?.execute(change).map(drop)
}

/// Takes up to `limit` of the waiting and blocked deliveries after `after` and up to `until` off
/// their lanes. Tells how far it came where there may be more. What is left waits for none of them:
/// it is older.
pub(super) fn gather(
    db: &Connection,
    counts: &mut LaneCounts,
    endpoint: i64,
    (after, until): (i64, i64),
    limit: i64,
) -> rusqlite::Result<Option<i64>> {
    let mut parked = db.prepare_cached(PARKED)?;
    let parked = parked.query_map([endpoint, after, until, limit], listed)?;
    let parked = parked.collect::<rusqlite::Result<Vec<Listed>>>()?;
    let mut deliveries = Deliveries::new(db, counts, endpoint);
    for &listed in &parked {
        keep(db, endpoint, listed)?;
        deliveries.remove(listed.seq.0)?;
    }
    let full = i64::try_from(parked.len()).is_ok_and(|found| found >= limit);
    Ok(parked.last().filter(|_| full).map(|listed| listed.seq.0))
}

/// Gives up to `limit` back their place behind those that wait on their lanes, the oldest first.
/// Returns how many, and whether there may be more.
pub(super) fn give_back(
    db: &Connection,
    counts: &mut LaneCounts,
    endpoint: i64,
    limit: i64,
    now_ms: i64,
) -> rusqlite::Result<(u64, bool)> {
    let mut first = db.prepare_cached(FIRST)?;
    let first = first.query_map([endpoint, limit], |row| Ok((listed(row)?, lanes_of(row, 2)?)))?;
    let first = first.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut deliveries = Deliveries::new(db, counts, endpoint);
    for &(listed, lanes) in &first {
        deliveries.put(listed, State::Blocked, 0, lanes)?;
    }
    deliveries.promote(now_ms)?;
    if let Some(&(last, _)) = first.last() {
        passed(db, endpoint, last.seq)?;
    }
    let full = i64::try_from(first.len()).is_ok_and(|found| found >= limit);
    Ok((first.len() as u64, full))
}

/// Those beyond the cursor, ascending.
pub(super) fn list(db: &Connection, endpoint: i64, cursor: i64) -> rusqlite::Result<Vec<Listed>> {
    db.prepare_cached(LIST)?.query_map([endpoint, cursor], listed)?.collect()
}

/// How many there are.
pub(super) fn number(db: &Connection, endpoint: i64) -> rusqlite::Result<u64> {
    db.prepare_cached(COUNT)?.query_row([endpoint], |row| count(row, 0))
}

/// Everything up to the cursor is settled, parked, or in the list of those in flight.
pub(in crate::journal) fn passed(
    db: &Connection,
    endpoint: i64,
    cursor: Seq,
) -> rusqlite::Result<()> {
    db.prepare_cached(PASS)?.execute([endpoint, cursor.0]).map(drop)
}

/// Takes away those up to `last`, since retention takes their events, and tells which they were.
pub(in crate::journal) fn take_up_to(
    db: &Connection,
    endpoint: i64,
    last: i64,
) -> rusqlite::Result<Vec<i64>> {
    let mut query = db.prepare_cached(UP_TO)?;
    let seqs = query.query_map([endpoint, last], |row| row.get(0))?;
    let seqs = seqs.collect::<rusqlite::Result<Vec<i64>>>()?;
    if !seqs.is_empty() {
        passed(db, endpoint, Seq(last))?;
    }
    Ok(seqs)
}

/// Forgets up to `limit` of an endpoint that is forgotten, and tells how many.
pub(super) fn forget(db: &Connection, endpoint: i64, limit: i64) -> rusqlite::Result<usize> {
    db.prepare_cached(FORGET)?.execute([endpoint, limit])
}

fn listed(row: &rusqlite::Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed { seq: Seq(row.get(0)?), sequence: count(row, 1)? })
}
