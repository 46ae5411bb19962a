//! Events once more: the endpoint's cursor goes back, and remembers where it was.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::utc;
use crate::event::EventId;

use super::super::append::Written;
use super::super::deliveries::{Deliveries, lanes_of};
use super::super::model::{Replay, Seq};
use super::super::read::find;
use super::super::settle::listed_of;
use super::step::{Refused, Target};
use super::{Point, filter_of};

const STATE: &str = "SELECT cursor, in_flight, replay_until FROM endpoints WHERE endpoint = ?1";
const BEGIN: &str = "UPDATE endpoints SET cursor = ?2, in_flight = '[]', replay_until = ?3, \
    replay_last = ?4, replay_events = ?5 WHERE endpoint = ?1";
const STOP: &str = "UPDATE endpoints SET cursor = replay_until, replay_until = NULL, \
    replay_last = NULL, replay_events = NULL WHERE endpoint = ?1";
const COMMITTED_AT: &str = "SELECT committed_at_us FROM events WHERE seq = ?1";
const FIRST_SINCE: &str = "SELECT seq FROM events WHERE seq >= ?1 AND committed_at_us >= ?2 \
    ORDER BY seq LIMIT 1";
const LAST_UNTIL: &str = "SELECT seq FROM events WHERE seq <= ?1 AND committed_at_us <= ?2 \
    ORDER BY seq DESC LIMIT 1";
const LANES: &str = "SELECT lane_1, lane_2 FROM events WHERE seq = ?1";
const HEADING: &str = "SELECT id, committed_at_us FROM events WHERE seq = ?1";
const REPLAY: &str =
    "SELECT replay_until, replay_last, replay_events FROM endpoints WHERE endpoint = ?1";
const PARKED: &str = "SELECT seq FROM deliveries \
    WHERE endpoint = ?1 AND seq > ?2 AND seq <= ?3 AND died_at_ms IS NULL ORDER BY seq";

/// Commit times ascend with the numbers, but for transactions that ended side by side and a clock
/// that was corrected, by this much at most.
const DISORDER_US: i64 = 10_000_000;

/// Turns the endpoint back. What was on its way is parked first, since the list of such events
/// reaches to the cursor only.
pub(super) fn begin(
    target: &mut Target<'_>,
    since: Point,
    until: Option<Point>,
    events: &[String],
) -> Result<String, Refused> {
    let said = |text: String| Err(Refused::Said(text));
    filter_of(events).map_err(Refused::Said)?;
    let (db, name, written) = (target.db, target.name, *target.written);
    let (cursor, in_flight, replaying) = state(target)?;
    if replaying {
        return said(format!(
            "a replay to endpoint {name} is under way: wait for its end, or end it with `walhook \
             deliveries replay --endpoint {name} --stop`"
        ));
    }
    if written.first_seq > written.last_seq {
        return said("the journal keeps no event: nothing can be replayed".to_owned());
    }
    let (first, note) = first_of(db, &written, since)?;
    let last = match until {
        None => cursor,
        Some(until) => last_of(db, &written, until)?.min(cursor),
    };
    if first > last {
        return said(match first > cursor {
            true => format!(
                "endpoint {name} has not been given any event of that time yet: nothing can be \
                 replayed"
            ),
            false => "no event lies between --since and --until".to_owned(),
        });
    }
    let Some(in_flight) = listed_of(&in_flight) else {
        return said(format!("endpoint {name} has no readable list of events in flight"));
    };
    let mut deliveries = Deliveries::new(db, target.counts, target.endpoint);
    for listed in in_flight {
        let mut lanes = db.prepare_cached(LANES)?;
        let lanes = lanes.query_row([listed.seq.0], |row| lanes_of(row, 0)).optional()?;
        if let Some(lanes) = lanes {
            deliveries.park(listed, 0, lanes)?;
        }
    }
    deliveries.promote(target.now_ms)?;
    let patterns = serde_json::to_string(events).unwrap_or_else(|_| "[]".to_owned());
    let change = params![target.endpoint, first - 1, cursor, last, patterns];
    db.prepare_cached(BEGIN)?.execute(change)?;
    let which = match events {
        [] => String::new(),
        some => format!(" whose names match {}", some.join(", ")),
    };
    let count = last - first + 1;
    let events = if count == 1 { "event" } else { "events" };
    let disabled = match target.disabled {
        Some(_) => ", once it is enabled",
        None => "",
    };
    Ok(format!(
        "endpoint {name} gets what it wants of {count} {events}{which} once more, from {} \
         on{disabled}{note}",
        heading(db, first)?
    ))
}

/// Ends a replay where it is.
pub(super) fn stop(target: &mut Target<'_>) -> Result<String, Refused> {
    let (_, _, replaying) = state(target)?;
    if !replaying {
        let name = target.name;
        return Err(Refused::Said(format!("no replay to endpoint {name} is under way")));
    }
    target.db.prepare_cached(STOP)?.execute([target.endpoint])?;
    Ok(format!("the replay to endpoint {} has ended", target.name))
}

/// The cursor, the list of what is on its way, and whether a replay is under way.
fn state(target: &Target<'_>) -> rusqlite::Result<(i64, String, bool)> {
    target.db.prepare_cached(STATE)?.query_row([target.endpoint], |row| {
        let cursor: i64 = row.get(0)?;
        let until: Option<i64> = row.get(2)?;
        Ok((cursor, row.get(1)?, until.is_some_and(|until| until > cursor)))
    })
}

/// The first event from a place on, and what to say about it.
fn first_of(db: &Connection, written: &Written, since: Point) -> Result<(i64, String), Refused> {
    let (oldest, newest) = (written.first_seq, written.last_seq);
    let (first, lost) = match since {
        Point::Earliest => (oldest, false),
        Point::Event(id) => (number_of(db, written, id)?, false),
        Point::Time(at_us) => {
            let begin = partition(db, oldest, newest, at_us.saturating_sub(DISORDER_US))?;
            let found = db
                .prepare_cached(FIRST_SINCE)?
                .query_row([begin, at_us], |row| row.get(0))
                .optional()?;
            let first: i64 = found.unwrap_or(newest + 1);
            // Whether there were older ones that are gone: numbers start at 1.
            (first, first == oldest && oldest > 1)
        }
    };
    let note = match lost {
        true => " (older ones are not kept any more)".to_owned(),
        false => String::new(),
    };
    Ok((first, note))
}

/// The last event up to a place.
fn last_of(db: &Connection, written: &Written, until: Point) -> Result<i64, Refused> {
    let (oldest, newest) = (written.first_seq, written.last_seq);
    match until {
        Point::Earliest => Ok(oldest),
        Point::Event(id) => number_of(db, written, id),
        Point::Time(at_us) => {
            let end = partition(db, oldest, newest, at_us.saturating_add(DISORDER_US))?;
            let found = db
                .prepare_cached(LAST_UNTIL)?
                .query_row([end, at_us], |row| row.get(0))
                .optional()?;
            Ok(found.unwrap_or(oldest - 1))
        }
    }
}

fn number_of(db: &Connection, written: &Written, id: EventId) -> Result<i64, Refused> {
    match find(db, id)? {
        Some(Seq(seq)) => Ok(seq),
        None => Err(Refused::Said(format!(
            "the journal does not hold the event {id}: the oldest still kept is {}",
            heading(db, written.first_seq)?
        ))),
    }
}

/// The first number in `first..=last` whose event was committed at `at_us` or later, if commit
/// times ascended; `last` plus one where there is none.
fn partition(db: &Connection, first: i64, last: i64, at_us: i64) -> rusqlite::Result<i64> {
    let mut committed_at = db.prepare_cached(COMMITTED_AT)?;
    let (mut low, mut high) = (first, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let at: Option<i64> = committed_at.query_row([middle], |row| row.get(0)).optional()?;
        match at {
            Some(at) if at >= at_us => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(low)
}

/// An event for people: its id and its time.
fn heading(db: &Connection, seq: i64) -> rusqlite::Result<String> {
    let found = db.prepare_cached(HEADING)?.query_row([seq], |row| {
        let committed_at_us: i64 = row.get(1)?;
        Ok(format!("{} of {}", EventId::from_bytes(row.get(0)?), utc(committed_at_us / 1_000)))
    });
    Ok(found.optional()?.unwrap_or_else(|| "none".to_owned()))
}

/// The number of the event an endpoint is to start behind; the error names the oldest one kept.
pub(in crate::journal) fn resolve_start(
    db: &Connection,
    written: &Written,
    id: EventId,
) -> rusqlite::Result<Result<Seq, String>> {
    Ok(match find(db, id)? {
        Some(seq) => Ok(seq),
        None => Err(heading(db, written.first_seq)?),
    })
}

/// What the endpoint gets once more, if a replay is under way.
pub(in crate::journal) fn replay_of(
    db: &Connection,
    endpoint: i64,
    cursor: i64,
) -> rusqlite::Result<Option<Replay>> {
    let (until, last, events) = db.prepare_cached(REPLAY)?.query_row([endpoint], |row| {
        let events: Option<String> = row.get(2)?;
        Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?, events))
    })?;
    let Some(until) = until.filter(|&until| until > cursor) else { return Ok(None) };
    let mut parked = db.prepare_cached(PARKED)?;
    let parked = parked.query_map([endpoint, cursor, until], |row| row.get(0).map(Seq))?;
    Ok(Some(Replay {
        until: Seq(until),
        last: Seq(last.unwrap_or(until)),
        events: events.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        parked: parked.collect::<rusqlite::Result<_>>()?,
    }))
}
