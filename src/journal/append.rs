//! Writing events, and the segments that summarise them.

use rusqlite::{Connection, params};

use crate::capture::OutboxRow;
use crate::event::{EventBatch, EventId};

use super::model::{Append, Checkpoint};

const INSERT_EVENT: &str = "INSERT INTO events \
    (seq, id, name, committed_at_us, lane_1, lane_2, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const UPDATE_CHECKPOINT: &str = "UPDATE journal \
    SET last_seq = ?1, commit_lsn = ?2, ordinal = ?3, resume_lsn = ?4";
const INSERT_SEGMENT: &str = "INSERT INTO segments \
    (first_seq, last_seq, min_id, max_id, journaled_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
/// A number that is there already is of a row that is long gone.
const INSERT_TAKEN: &str =
    "INSERT OR REPLACE INTO outbox_taken (id, xid, written_at_us) VALUES (?1, ?2, ?3)";
const FORGET_TAKEN: &str = "DELETE FROM outbox_taken";
const ADD_LOST: &str = "UPDATE journal SET outbox_lost = outbox_lost + ?1";
const TAKEN: &str = "SELECT id, xid, written_at_us FROM outbox_taken ORDER BY id";
const UNSUMMARISED: &str = "SELECT min(seq), max(seq), min(id), max(id) FROM events \
    WHERE seq > coalesce((SELECT max(last_seq) FROM segments), 0)";

/// A segment is complete with this many events.
const SEGMENT_EVENTS: i64 = 1024;

/// The newest events, not yet summarised in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenSegment {
    first_seq: i64,
    last_seq: i64,
    min_id: EventId,
    max_id: EventId,
    started_at_ms: i64,
    last_at_ms: i64,
}

/// How far the file is written: what the writer keeps of it in memory, and forgets on a rollback.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// The number of the newest event ever.
    pub(super) last_seq: i64,
    /// The smallest number still there; one more than `last_seq` when all are gone.
    pub(super) first_seq: i64,
    /// How far the stream is journaled.
    pub(super) checkpoint: Option<Checkpoint>,
    /// The segment that grows.
    pub(super) segment: Option<OpenSegment>,
}

/// Writes one append into the open transaction.
pub(super) fn append(
    connection: &Connection,
    written: &mut Written,
    append: &Append,
    now_ms: i64,
) -> rusqlite::Result<()> {
    append_events(connection, written, &append.events, now_ms)?;
    if append.deleted {
        connection.prepare_cached(FORGET_TAKEN)?.execute(())?;
    }
    if !append.taken.is_empty() {
        let mut insert = connection.prepare_cached(INSERT_TAKEN)?;
        for row in &append.taken {
            insert.execute((row.id, row.xid.cast_signed(), row.written_at_us))?;
        }
    }
    if append.lost > 0 {
        let lost = i64::try_from(append.lost).unwrap_or(i64::MAX);
        connection.prepare_cached(ADD_LOST)?.execute([lost])?;
    }
    written.checkpoint = Some(append.checkpoint);
    Ok(())
}

/// The rows of the outbox that are taken and not known to be deleted there, by number.
pub(super) fn outbox_taken(connection: &Connection) -> rusqlite::Result<Vec<OutboxRow>> {
    let mut query = connection.prepare_cached(TAKEN)?;
    let rows = query.query_map((), |row| {
        let xid: i64 = row.get(1)?;
        Ok(OutboxRow { id: row.get(0)?, xid: xid.cast_unsigned(), written_at_us: row.get(2)? })
    })?;
    rows.collect()
}

/// Writes events into the open transaction, which belong to no position of the stream or whose
/// position is written apart.
pub(super) fn append_events(
    connection: &Connection,
    written: &mut Written,
    events: &EventBatch,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(INSERT_EVENT)?;
    for event in events.events() {
        let seq = written.last_seq + 1;
        let lanes = event.lanes.as_slice();
        insert.execute(params![
            seq,
            &event.id.as_bytes()[..],
            &*event.name,
            event.committed_at_us,
            lanes.first(),
            lanes.get(1),
            events.body(event),
        ])?;
        written.last_seq = seq;
        grow(&mut written.segment, seq, event.id, now_ms);
        if written.segment.is_some_and(|open| seq - open.first_seq + 1 >= SEGMENT_EVENTS) {
            close_segment(connection, written)?;
        }
    }
    Ok(())
}

/// Stores the checkpoint and the newest number: once per transaction, after its appends.
pub(super) fn store_checkpoint(connection: &Connection, written: &Written) -> rusqlite::Result<()> {
    let Some(checkpoint) = written.checkpoint else { return Ok(()) };
    connection.prepare_cached(UPDATE_CHECKPOINT)?.execute(params![
        written.last_seq,
        checkpoint.position.commit_lsn.0 as i64,
        checkpoint.position.ordinal as i64,
        checkpoint.resume_lsn.0 as i64,
    ])?;
    Ok(())
}

fn grow(segment: &mut Option<OpenSegment>, seq: i64, id: EventId, now_ms: i64) {
    match segment {
        Some(open) => {
            open.last_seq = seq;
            open.min_id = open.min_id.min(id);
            open.max_id = open.max_id.max(id);
            open.last_at_ms = now_ms;
        }
        None => {
            *segment = Some(OpenSegment {
                first_seq: seq,
                last_seq: seq,
                min_id: id,
                max_id: id,
                started_at_ms: now_ms,
                last_at_ms: now_ms,
            });
        }
    }
}

/// Whether the open segment was started before `since_ms`.
pub(super) fn segment_is_old(written: &Written, since_ms: i64) -> bool {
    written.segment.is_some_and(|open| open.started_at_ms < since_ms)
}

/// Writes the open segment into the open transaction.
pub(super) fn close_segment(
    connection: &Connection,
    written: &mut Written,
) -> rusqlite::Result<()> {
    let Some(open) = written.segment.take() else { return Ok(()) };
    connection.prepare_cached(INSERT_SEGMENT)?.execute(params![
        open.first_seq,
        open.last_seq,
        &open.min_id.as_bytes()[..],
        &open.max_id.as_bytes()[..],
        open.last_at_ms,
    ])?;
    Ok(())
}

/// The segment that was open when the file was last written, found again from its events. They
/// count as journaled now: kept rather too long than too short.
pub(super) fn recover_segment(
    connection: &Connection,
    now_ms: i64,
) -> rusqlite::Result<Option<OpenSegment>> {
    connection.query_row(UNSUMMARISED, (), |row| {
        let (Some(first_seq), Some(last_seq)) = (row.get(0)?, row.get(1)?) else {
            return Ok(None);
        };
        Ok(Some(OpenSegment {
            first_seq,
            last_seq,
            min_id: EventId::from_bytes(row.get(2)?),
            max_id: EventId::from_bytes(row.get(3)?),
            started_at_ms: now_ms,
            last_at_ms: now_ms,
        }))
    })
}
