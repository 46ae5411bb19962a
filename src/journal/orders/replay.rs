//! Events once more: the endpoint's cursor goes back, and remembers where it was.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::utc;
use crate::event::EventId;

use super::super::append::Written;
use super::super::deliveries::{Deliveries, LaneCounts, lanes_of};
use super::super::in_flight;
use super::super::model::{Listed, Replay, Seq};
use super::super::read::find;
use super::step::{ROWS, Refused, Target, done};
use super::{OrderProgress, Point, filter_of, pending};

const STATE: &str = "SELECT cursor, in_flight, replay_until, replay_last, replay_order \
    FROM endpoints WHERE endpoint = ?1";
const BEGIN: &str = "UPDATE endpoints SET cursor = ?2, in_flight = ?3, replay_until = ?4, \
    replay_last = ?5, replay_events = ?6, replay_order = ?7 WHERE endpoint = ?1";
const GATHERED: &str = "UPDATE endpoints SET replay_order = NULL WHERE endpoint = ?1";
const PARKED: &str = "UPDATE endpoints SET in_flight = ?2 WHERE endpoint = ?1";
const STOP: &str = "UPDATE endpoints SET cursor = replay_until, replay_until = NULL, \
    replay_last = NULL, replay_events = NULL, replay_order = NULL WHERE endpoint = ?1";
const COMMITTED_AT: &str = "SELECT committed_at_us FROM events WHERE seq = ?1";
const FIRST_SINCE: &str = "SELECT seq FROM events WHERE seq >= ?1 AND committed_at_us >= ?2 \
    ORDER BY seq LIMIT 1";
const LAST_UNTIL: &str = "SELECT seq FROM events WHERE seq <= ?1 AND committed_at_us <= ?2 \
    ORDER BY seq DESC LIMIT 1";
const LANES: &str = "SELECT lane_1, lane_2 FROM events WHERE seq = ?1";
const HEADING: &str = "SELECT id, committed_at_us FROM events WHERE seq = ?1";
const REPLAY: &str =
    "SELECT replay_until, replay_last, replay_events FROM endpoints WHERE endpoint = ?1";
/// Commit times ascend with the numbers, but for transactions that ended side by side and a clock
/// that was corrected, by this much at most.
const DISORDER_US: i64 = 10_000_000;

/// Where the endpoint is.
struct State {
    cursor: i64,
    in_flight: Vec<Listed>,
    /// While a replay is under way: where the cursor was, and the last event sent once more.
    replay: Option<(i64, i64)>,
    /// The order that began it, unless that is done.
    order: Option<i64>,
}

/// Turns the endpoint back, and then, in further steps, takes everything that is still to be
/// delivered from there on off its place: it is sent in the order of the stream, too.
pub(super) fn begin(
    target: &mut Target<'_>,
    since: Point,
    until: Option<Point>,
    events: &[String],
    progress: &mut OrderProgress,
) -> Result<(), Refused> {
    if progress.phase == 0 {
        let state = state(target)?;
        let sentence = match state.replay {
            None => turn_back(target, state, since, until, events)?,
            // This very order, which a crash interrupted.
            Some((_, last)) if state.order == Some(target.order) => {
                described(target, state.cursor + 1, last, events, "")?
            }
            Some(_) => {
                let name = target.name;
                return Err(Refused::Said(format!(
                    "a replay to endpoint {name} is under way: wait for its end, or end it with \
                     `walhook deliveries replay --endpoint {name} --stop`"
                )));
            }
        };
        progress.said.push(sentence);
        progress.phase = 1;
    }
    let State { cursor, replay, .. } = state(target)?;
    let range = (progress.after.max(cursor), replay.map_or(cursor, |(until, _)| until));
    if let Some(after) = pending::gather(target.db, target.counts, target.endpoint, range, ROWS)? {
        progress.after = after;
        return Ok(());
    }
    target.db.prepare_cached(GATHERED)?.execute([target.endpoint])?;
    let sentence = progress.said.last_mut();
    match (pending::number(target.db, target.endpoint)?, sentence) {
        (0, _) | (_, None) => {}
        (1, Some(said)) => said.push_str("; 1 that was still to be delivered comes in its place"),
        (number, Some(said)) => {
            said.push_str(&format!(
                "; {number} that were still to be delivered come in their places"
            ));
        }
    }
    progress.done = true;
    Ok(())
}

fn turn_back(
    target: &Target<'_>,
    state: State,
    since: Point,
    until: Option<Point>,
    events: &[String],
) -> Result<String, Refused> {
    let said = |text: String| Err(Refused::Said(text));
    filter_of(events).map_err(Refused::Said)?;
    let (db, name, written) = (target.db, target.name, target.written);
    let State { cursor, in_flight, .. } = state;
    if written.first_seq > written.last_seq {
        return said("the journal keeps no event: nothing can be replayed".to_owned());
    }
    let (first, note) = first_of(db, written, since)?;
    let last = match until {
        None => cursor,
        Some(until) => last_of(db, written, until)?.min(cursor),
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
    let (again, kept) = in_flight.into_iter().partition::<Vec<_>, _>(|one| one.seq.0 >= first);
    for listed in again {
        pending::keep(db, target.endpoint, listed)?;
    }
    let patterns = serde_json::to_string(events).unwrap_or_else(|_| "[]".to_owned());
    db.prepare_cached(BEGIN)?.execute(params![
        target.endpoint,
        first - 1,
        in_flight::write(&kept),
        cursor,
        last,
        patterns,
        target.order
    ])?;
    described(target, first, last, events, &note)
}

/// What the endpoint gets, for people.
fn described(
    target: &Target<'_>,
    first: i64,
    last: i64,
    events: &[String],
    note: &str,
) -> Result<String, Refused> {
    let which = match events {
        [] => String::new(),
        some => format!(" whose names match {}", some.join(", ")),
    };
    let count = (last - first + 1).max(0);
    let events = if count == 1 { "event" } else { "events" };
    let disabled = match target.disabled {
        Some(_) => ", once it is enabled",
        None => "",
    };
    Ok(format!(
        "endpoint {} gets what it wants of {count} {events}{which} once more, from {} \
         on{disabled}{note}",
        target.name,
        heading(target.db, first)?
    ))
}

/// Ends a replay where it is. What was still to be delivered when it began, and it has not come to,
/// gets its place back, step by step, before the cursor does. What is on its way is parked first, so
/// that it stays before that.
pub(super) fn stop(target: &mut Target<'_>, progress: &mut OrderProgress) -> Result<(), Refused> {
    if progress.phase == 0 {
        let state = state(target)?;
        if state.replay.is_none() {
            let name = target.name;
            return Err(Refused::Said(format!("no replay to endpoint {name} is under way")));
        }
        park(target, state.in_flight)?;
        progress.phase = 1;
    }
    let Target { db, counts, endpoint, now_ms, name, .. } = target;
    let (given, more) = pending::give_back(db, counts, *endpoint, ROWS, *now_ms)?;
    progress.count += given;
    if more {
        return Ok(());
    }
    db.prepare_cached(STOP)?.execute([*endpoint])?;
    let rest = match progress.count {
        0 => String::new(),
        1 => "; 1 delivery that was waiting before goes on".to_owned(),
        number => format!("; {number} deliveries that were waiting before go on"),
    };
    done(progress, format!("the replay to endpoint {name} has ended{rest}"));
    Ok(())
}

fn park(target: &mut Target<'_>, in_flight: Vec<Listed>) -> rusqlite::Result<()> {
    let db = target.db;
    let mut deliveries = Deliveries::new(db, target.counts, target.endpoint);
    let mut lanes = db.prepare_cached(LANES)?;
    let mut gone = Vec::new();
    for listed in in_flight {
        match lanes.query_row([listed.seq.0], |row| lanes_of(row, 0)).optional()? {
            Some(lanes) => deliveries.park(listed, 0, lanes)?,
            // Who starts the endpoint next counts it as lost.
            None => gone.push(listed),
        }
    }
    deliveries.promote(target.now_ms)?;
    db.prepare_cached(PARKED)?.execute(params![target.endpoint, in_flight::write(&gone)]).map(drop)
}

fn state(target: &Target<'_>) -> Result<State, Refused> {
    let mut query = target.db.prepare_cached(STATE)?;
    let (state, readable) = query.query_row([target.endpoint], |row| {
        let cursor: i64 = row.get(0)?;
        let in_flight = in_flight::read(row.get_ref(1)?.as_str()?);
        let until = row.get::<_, Option<i64>>(2)?.filter(|&until| until > cursor);
        let last: Option<i64> = row.get(3)?;
        let replay = until.map(|until| (until, last.unwrap_or(until)));
        let readable = in_flight.is_some();
        let in_flight = in_flight.unwrap_or_default();
        Ok((State { cursor, in_flight, replay, order: row.get(4)? }, readable))
    })?;
    match readable {
        true => Ok(state),
        false => Err(Refused::Said(format!(
            "endpoint {} has no readable list of events in flight",
            target.name
        ))),
    }
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

/// What the endpoint gets once more, if a replay is under way. What waits in its range by now, since
/// an order was interrupted or dead ones were put back by hand, is taken off its place, too.
pub(in crate::journal) fn replay_of(
    db: &Connection,
    counts: &mut LaneCounts,
    endpoint: i64,
    cursor: i64,
) -> rusqlite::Result<Option<Replay>> {
    let (until, last, events) = db.prepare_cached(REPLAY)?.query_row([endpoint], |row| {
        let events: Option<String> = row.get(2)?;
        Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?, events))
    })?;
    let Some(until) = until.filter(|&until| until > cursor) else { return Ok(None) };
    let mut after = Some(cursor);
    while let Some(from) = after {
        after = pending::gather(db, counts, endpoint, (from, until), ROWS)?;
    }
    Ok(Some(Replay {
        until: Seq(until),
        last: Seq(last.unwrap_or(until)),
        events: events.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        pending: pending::list(db, endpoint, cursor)?,
    }))
}
