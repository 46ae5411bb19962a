//! Retention: the oldest events go, and with them all that hangs on them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::event::{EventFilter, is_report};

use super::append::Written;
use super::deliveries::{Deliveries, LaneCounts, lanes_of};
use super::losses::Lost;
use super::model::JournalOptions;
use super::orders::pending;

const OLDEST_SEGMENT: &str =
    "SELECT last_seq, journaled_at_ms FROM segments ORDER BY first_seq LIMIT 1";
const USED_BYTES: &str = "SELECT (page_count - freelist_count) * page_size \
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
const DELETE_EVENTS: &str = "DELETE FROM events WHERE seq >= ?1 AND seq <= ?2";
const DELETE_SEGMENTS: &str = "DELETE FROM segments WHERE first_seq < ?1 AND last_seq < ?1";
// What a replay sends once more was delivered before: it is not lost when it goes, unless it was
// still to be delivered.
//
// Only those are of interest that have not passed what goes, or have it among their deliveries.
const ENDPOINTS: &str = "SELECT endpoint, max(cursor, coalesce(replay_until, cursor)), name \
    FROM endpoints e WHERE max(cursor, coalesce(replay_until, cursor)) < ?1 \
    OR EXISTS (SELECT 1 FROM deliveries d WHERE d.endpoint = e.endpoint AND d.seq <= ?1) \
    OR EXISTS (SELECT 1 FROM replay_pending p WHERE p.endpoint = e.endpoint AND p.seq <= ?1)";
const COUNT_ENDPOINTS: &str = "SELECT count(*) FROM endpoints";
const NAMES: &str = "SELECT name FROM events WHERE seq >= ?1 AND seq <= ?2 ORDER BY seq";
const PARKED: &str = "SELECT seq, state, lane_1, lane_2 FROM deliveries \
    WHERE endpoint = ?1 AND seq <= ?2 ORDER BY seq";
const ADD_DROPPED: &str = "UPDATE endpoints SET dropped = dropped + ?2 WHERE endpoint = ?1";
const DELETE_ATTEMPTS: &str = "DELETE FROM attempts WHERE seq < ?1 AND attempt_id IN \
    (SELECT attempt_id FROM attempts ORDER BY attempt_id LIMIT 256)";

/// A step takes about this long, so that nobody waits for it noticeably.
const STEP: Duration = Duration::from_millis(3);

/// Events deleted before the clock is looked at again.
const CHUNK_EVENTS: i64 = 32;

/// The same for many endpoints, which are all looked at for each chunk.
const LARGE_CHUNK_EVENTS: i64 = 256;
const MANY_ENDPOINTS: i64 = 100;

/// Events deleted because of the file's size before that is looked at again.
const MOST_AT_ONCE: i64 = 2048;

/// What one step did.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// Events deleted.
    pub(super) events: i64,
    /// What each endpoint lost to it.
    pub(super) dropped: Vec<Lost>,
    /// Whether there may be more to do at once.
    pub(super) more: bool,
}

/// Up to which number events should go now, if any should.
pub(super) fn wanted(
    db: &Connection,
    written: &Written,
    options: &JournalOptions,
    now_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    if written.first_seq > written.last_seq {
        return Ok(None);
    }
    let mut segments = db.prepare_cached(OLDEST_SEGMENT)?;
    let mut rows = segments.query(())?;
    if let Some(row) = rows.next()? {
        let (last_seq, journaled_at_ms): (i64, i64) = (row.get(0)?, row.get(1)?);
        let retain_ms = i64::try_from(options.retain.as_millis()).unwrap_or(i64::MAX);
        if journaled_at_ms < now_ms.saturating_sub(retain_ms) && last_seq >= written.first_seq {
            return Ok(Some(last_seq));
        }
    }
    let used: i64 = db.prepare_cached(USED_BYTES)?.query_row((), |row| row.get(0))?;
    let over = used.saturating_sub(i64::try_from(options.max_size_bytes).unwrap_or(i64::MAX));
    if over <= 0 {
        return Ok(None);
    }
    // As many as take up that much on average, so that an append is outpaced but little is lost
    // needlessly where sizes differ.
    let kept = written.last_seq - written.first_seq + 1;
    let events = i128::from(over) * i128::from(kept) / i128::from(used);
    let events = i64::try_from(events).unwrap_or(i64::MAX).clamp(1, MOST_AT_ONCE);
    Ok(Some(written.last_seq.min(written.first_seq + events - 1)))
}

/// Deletes events up to `target` for about [`STEP`] inside the open transaction, and attempts of
/// events that are gone.
pub(super) fn step(
    db: &Connection,
    counts: &mut LaneCounts,
    written: &mut Written,
    filters: &HashMap<String, EventFilter>,
    target: Option<i64>,
    now_ms: i64,
) -> rusqlite::Result<Pruned> {
    let started = Instant::now();
    let mut pruned = Pruned::default();
    if let Some(target) = target {
        let first = written.first_seq;
        let endpoints: i64 = db.prepare_cached(COUNT_ENDPOINTS)?.query_row((), |row| row.get(0))?;
        let chunk = if endpoints > MANY_ENDPOINTS { LARGE_CHUNK_EVENTS } else { CHUNK_EVENTS };
        while written.first_seq <= target && started.elapsed() < STEP {
            let last = target.min(written.first_seq + chunk - 1);
            let going = Going::new(written.first_seq, last);
            drop_deliveries(db, counts, filters, going, now_ms, &mut pruned)?;
            db.prepare_cached(DELETE_EVENTS)?.execute([written.first_seq, last])?;
            written.first_seq = last + 1;
        }
        pruned.events = written.first_seq - first;
        pruned.more = true;
        db.prepare_cached(DELETE_SEGMENTS)?.execute([written.first_seq])?;
        for lost in &pruned.dropped {
            db.prepare_cached(ADD_DROPPED)?.execute([lost.endpoint, lost.events])?;
        }
    }
    // Attempts lie in the order they were made, which is nearly that of their events: the oldest
    // few are looked at, and one that must stay holds up those behind it only until it may go.
    while db.prepare_cached(DELETE_ATTEMPTS)?.execute([written.first_seq])? > 0 {
        if started.elapsed() >= STEP {
            pruned.more = true;
            break;
        }
    }
    Ok(pruned)
}

/// Events about to be deleted.
struct Going {
    first: i64,
    last: i64,
    /// Their names, read when somebody loses one of them.
    names: Option<Vec<String>>,
}

impl Going {
    fn new(first: i64, last: i64) -> Going {
        Going { first, last, names: None }
    }

    /// The name of one of them.
    fn name(&mut self, db: &Connection, seq: i64) -> rusqlite::Result<Option<&str>> {
        if self.names.is_none() {
            let mut names = db.prepare_cached(NAMES)?;
            let names = names.query_map([self.first, self.last], |row| row.get(0))?;
            self.names = Some(names.collect::<rusqlite::Result<_>>()?);
        }
        let at = usize::try_from(seq - self.first).ok();
        let name = self.names.as_ref().zip(at).and_then(|(names, at)| names.get(at));
        Ok(name.map(String::as_str))
    }
}

/// Takes events from every endpoint, and counts what was still to be delivered.
fn drop_deliveries(
    db: &Connection,
    counts: &mut LaneCounts,
    filters: &HashMap<String, EventFilter>,
    mut going: Going,
    now_ms: i64,
    pruned: &mut Pruned,
) -> rusqlite::Result<()> {
    let mut endpoints = db.prepare_cached(ENDPOINTS)?;
    let mut rows = endpoints.query([going.last])?;
    while let Some(row) = rows.next()? {
        let (endpoint, cursor): (i64, i64) = (row.get(0)?, row.get(1)?);
        let name = row.get_ref(2)?.as_str()?;
        let mut lost = Lost { endpoint, name: name.to_owned(), events: 0, reports: 0 };
        for seq in cursor.saturating_add(1).max(going.first)..=going.last {
            let event = going.name(db, seq)?.unwrap_or_default();
            let report = is_report(event);
            // What an endpoint wants that is not served now nobody knows; hardly reports.
            let wanted = filters.get(name).map_or(!report, |filter| filter.matches(event));
            lost.events += i64::from(wanted);
            lost.reports += i64::from(wanted && report);
        }
        let mut parked = db.prepare_cached(PARKED)?;
        let parked = parked
            .query_map(params![endpoint, going.last], |row| {
                Ok((row.get::<_, i64>(0)?, row.get_ref(1)?.as_str()? == "dead", lanes_of(row, 2)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let mut deliveries = Deliveries::new(db, counts, endpoint);
        for (seq, dead, _) in parked {
            deliveries.remove(seq)?;
            // A dead one was given up before; one beyond the cursor is counted already.
            if !dead && seq <= cursor {
                lost.events += 1;
                lost.reports += i64::from(going.name(db, seq)?.is_some_and(is_report));
            }
        }
        deliveries.promote(now_ms)?;
        for seq in pending::take_up_to(db, endpoint, going.last)? {
            lost.events += 1;
            lost.reports += i64::from(going.name(db, seq)?.is_some_and(is_report));
        }
        if lost.events == 0 {
            continue;
        }
        match pruned.dropped.iter_mut().find(|of| of.endpoint == endpoint) {
            Some(of) => {
                of.events += lost.events;
                of.reports += lost.reports;
            }
            None => pruned.dropped.push(lost),
        }
    }
    Ok(())
}
