//! Reading events, beside the writer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;

use crate::capture::OutboxRow;
use crate::event::{EventBatch, EventId};

use super::append;
use super::deliveries::lanes_of;
use super::error::JournalError;
use super::file;
use super::model::{Due, DueDelivery, EndpointId, Seq};
use super::orders::{self, Order, Wish};
use super::routing::Run;
use super::status::count;
use super::stored::{StoredBatch, StoredEvent};

const PAGE: &str = "SELECT seq, id, name, committed_at_us, lane_1, lane_2, body FROM events \
    WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const RUN: &str = "SELECT seq, id, name, committed_at_us, lane_1, lane_2, body FROM events \
    WHERE seq >= ?1 AND seq <= ?2 ORDER BY seq";
const LOAD: &str = "SELECT seq, id, name, committed_at_us, lane_1, lane_2, body FROM events \
    WHERE seq = ?1";
const WAITING: &str = "SELECT seq, due_at_ms, attempts, sequence FROM deliveries \
    WHERE endpoint = ?1 AND due_at_ms IS NOT NULL ORDER BY due_at_ms, seq";
/// What waits and what is blocked, whenever it is due.
const PARKED: &str = "SELECT seq, due_at_ms, attempts, sequence FROM deliveries \
    WHERE endpoint = ?1 AND state <> 'dead' ORDER BY seq";
const SEGMENTS_OF_ID: &str = "SELECT first_seq, last_seq FROM segments \
    WHERE min_id <= ?1 AND max_id >= ?1 ORDER BY first_seq DESC";
const LAST_SUMMARISED: &str = "SELECT coalesce(max(last_seq), 0) FROM segments";
const FIND_ID: &str = "SELECT seq FROM events WHERE seq >= ?1 AND seq <= ?2 AND id = ?3";

/// Reads at a time; more would only fight for the cores.
const CONNECTIONS: usize = 4;

/// Event names kept for reuse; a stream of ever new ones starts over.
const NAMES: usize = 1024;

/// Pages kept for those who read the same ones a moment later, unless they are larger than that.
const PAGES: usize = 4;
const PAGE_BYTES: usize = 2 << 20;

/// Bytes of bodies kept of what was picked, for those who pick the same a moment later.
const PICKED_BYTES: usize = 4 << 20;
const PICKS: usize = 64;

/// Bytes of bodies one call of `due` returns, about.
const DUE_BYTES: usize = 4 << 20;

/// See [`Journal::pick`](super::Journal::pick).
#[derive(Clone, Debug, Default)]
pub struct Picked {
    /// Ascending, none of them empty.
    pub batches: VecDeque<Arc<StoredBatch>>,
    /// The runs were read up to there; what is not in the batches is not in the journal any more.
    pub through: Seq,
}

/// A few read connections, used on tokio's blocking threads.
pub(super) struct ReadPool {
    path: PathBuf,
    idle: Mutex<Vec<ReadConnection>>,
    pages: Mutex<VecDeque<Arc<StoredBatch>>>,
    picks: Mutex<VecDeque<Pick>>,
    permits: Arc<Semaphore>,
}

/// What was picked, and of which runs.
struct Pick {
    /// As far as they were read.
    runs: Vec<Run>,
    batches: Vec<Arc<StoredBatch>>,
}

/// One connection, and the event names it has seen.
pub(super) struct ReadConnection {
    db: Connection,
    names: HashMap<Box<str>, Arc<str>>,
    /// Where batches are gathered until their size is known.
    scratch: EventBatch,
}

impl ReadPool {
    pub(super) fn new(path: &Path) -> ReadPool {
        ReadPool {
            path: path.to_owned(),
            idle: Mutex::default(),
            pages: Mutex::default(),
            picks: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Runs a read on a blocking thread. When the caller goes away, the read still ends by itself.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<ReadPool>,
        read: impl FnOnce(&mut ReadConnection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| JournalError::closed())?;
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut connection = pool.take()?;
            let result = read(&mut connection)
                .map_err(|error| JournalError::sqlite(&pool.path, "read", error))?;
            // One that failed is not put back: the next read starts with a fresh one.
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(result)
        });
        // Only a runtime that is shutting down, or a panic in the read, ends the task otherwise.
        task.await.unwrap_or_else(|_| Err(JournalError::closed()))
    }

    /// Like [`page`](ReadConnection::page), of which it may be a part, or one that was read for
    /// somebody else: after a restart many endpoints read the same events.
    pub(super) async fn shared_page(
        self: &Arc<ReadPool>,
        after: Seq,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Arc<StoredBatch>, JournalError> {
        if let Some(page) = self.known_page(after) {
            return Ok(page);
        }
        let pool = Arc::clone(self);
        self.run(move |db| {
            // Others may have waited for this read, too.
            if let Some(page) = pool.known_page(after) {
                return Ok(page);
            }
            let page = Arc::new(db.page(after, max_events, max_bytes)?);
            if !page.is_empty() && page.bytes() <= PAGE_BYTES {
                let mut pages = pool.pages.lock().unwrap_or_else(PoisonError::into_inner);
                pages.truncate(PAGES - 1);
                pages.push_front(Arc::clone(&page));
            }
            Ok(page)
        })
        .await
    }

    fn known_page(&self, after: Seq) -> Option<Arc<StoredBatch>> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |page: &&Arc<StoredBatch>| {
            page.first_seq() <= Seq(after.0 + 1) && after < page.last_seq()
        };
        pages.iter().find(holds).cloned()
    }

    /// Like [`pick`](ReadConnection::pick), or what was picked for somebody else of the first of
    /// these runs: endpoints with equal filters that are behind read the same events.
    pub(super) async fn shared_pick(
        self: &Arc<ReadPool>,
        runs: Vec<Run>,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Picked, JournalError> {
        if let Some(picked) = self.known_pick(&runs) {
            return Ok(picked);
        }
        let pool = Arc::clone(self);
        self.run(move |db| {
            // Others may have waited for this read, too.
            if let Some(picked) = pool.known_pick(&runs) {
                return Ok(picked);
            }
            let picked = db.pick(&runs, max_events, max_bytes)?;
            pool.keep_pick(&runs, &picked);
            Ok(picked)
        })
        .await
    }

    fn known_pick(&self, runs: &[Run]) -> Option<Picked> {
        let first = runs.first()?.first;
        let picks = self.picks.lock().unwrap_or_else(PoisonError::into_inner);
        picks.iter().find(|pick| pick.run_of(first).is_some()).map(|pick| pick.part(runs))
    }

    fn keep_pick(&self, runs: &[Run], picked: &Picked) {
        let read = runs.iter().take_while(|run| run.first <= picked.through);
        let runs = read.map(|run| Run { last: run.last.min(picked.through), ..*run }).collect();
        let pick = Pick { runs, batches: picked.batches.iter().cloned().collect() };
        let mut picks = self.picks.lock().unwrap_or_else(PoisonError::into_inner);
        picks.push_front(pick);
        let mut bytes = 0;
        let fit = picks.iter().take_while(|pick| {
            bytes += pick.batches.iter().map(|batch| batch.bytes()).sum::<usize>();
            bytes <= PICKED_BYTES
        });
        let fit = fit.count().min(PICKS);
        picks.truncate(fit);
    }

    fn take(&self) -> Result<ReadConnection, JournalError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => {
                let db = file::open_reader(&self.path)?;
                Ok(ReadConnection { db, names: HashMap::new(), scratch: EventBatch::default() })
            }
        }
    }
}

impl Pick {
    /// The run that holds this number.
    fn run_of(&self, seq: Seq) -> Option<Run> {
        let at = self.runs.partition_point(|run| run.last < seq);
        self.runs.get(at).copied().filter(|run| run.first <= seq)
    }

    /// What there is of these runs, up to the first event that was not looked for.
    fn part(&self, runs: &[Run]) -> Picked {
        let mut picked = Picked::default();
        for run in runs {
            let Some(read) = self.run_of(run.first) else { break };
            let through = read.last.min(run.last);
            let skip = self.batches.partition_point(|batch| batch.last_seq() < run.first);
            let there =
                self.batches[skip..].iter().take_while(|batch| batch.first_seq() <= through);
            for batch in there {
                // Two runs may lie in one that was a single one.
                if picked.batches.back().is_none_or(|last| last.first_seq() < batch.first_seq()) {
                    picked.batches.push_back(Arc::clone(batch));
                }
            }
            picked.through = through;
            if through < run.last {
                break;
            }
        }
        picked
    }
}

impl ReadConnection {
    pub(super) fn outbox_taken(&self) -> rusqlite::Result<Vec<OutboxRow>> {
        append::outbox_taken(&self.db)
    }

    /// Events after `after`, in order and without a gap; at least one, if there is one.
    pub(super) fn page(
        &mut self,
        after: Seq,
        max_events: usize,
        max_bytes: usize,
    ) -> rusqlite::Result<StoredBatch> {
        let limit = i64::try_from(max_events).unwrap_or(i64::MAX).max(1);
        let mut query = self.db.prepare_cached(PAGE)?;
        let mut rows = query.query([after.0, limit])?;
        let mut first_seq = after.0.saturating_add(1);
        let events = &mut self.scratch;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            let body = row.get_ref(6)?.as_blob()?;
            if events.is_empty() {
                first_seq = seq;
            } else if seq != first_seq + events.len() as i64
                || events.bytes() + body.len() > max_bytes
            {
                break;
            }
            let name = intern(&mut self.names, row.get_ref(2)?.as_str()?);
            let id = EventId::from_bytes(row.get(1)?);
            events.push(id, name, lanes_of(row, 4)?, row.get(3)?, |buffer| {
                buffer.extend_from_slice(body);
                Ok::<_, rusqlite::Error>(())
            })?;
        }
        Ok(StoredBatch::new(Seq(first_seq), events.take()))
    }

    /// See [`Journal::pick`](super::Journal::pick).
    pub(super) fn pick(
        &mut self,
        runs: &[Run],
        max_events: usize,
        max_bytes: usize,
    ) -> rusqlite::Result<Picked> {
        let mut picked = Picked::default();
        let (mut count, mut bytes) = (0, 0);
        let mut query = self.db.prepare_cached(RUN)?;
        for run in runs {
            let mut rows = query.query([run.first.0, run.last.0])?;
            let (mut first_seq, events) = (run.first.0, &mut self.scratch);
            let mut full = false;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                let body = row.get_ref(6)?.as_blob()?;
                full = count > 0 && (count >= max_events || bytes + body.len() > max_bytes);
                if full {
                    break;
                }
                if events.is_empty() {
                    first_seq = seq;
                }
                count += 1;
                bytes += body.len();
                picked.through = Seq(seq);
                let name = intern(&mut self.names, row.get_ref(2)?.as_str()?);
                let id = EventId::from_bytes(row.get(1)?);
                events.push(id, name, lanes_of(row, 4)?, row.get(3)?, |buffer| {
                    buffer.extend_from_slice(body);
                    Ok::<_, rusqlite::Error>(())
                })?;
            }
            if !events.is_empty() {
                let batch = StoredBatch::new(Seq(first_seq), events.take());
                picked.batches.push_back(Arc::new(batch));
            }
            if full {
                break;
            }
            picked.through = run.last;
        }
        Ok(picked)
    }

    /// The event of this number, if it is still there.
    pub(super) fn load(&mut self, seq: Seq) -> rusqlite::Result<Option<StoredEvent>> {
        let mut query = self.db.prepare_cached(LOAD)?;
        query.query_row([seq.0], |row| stored_event(&mut self.names, row)).optional()
    }

    /// See [`Journal::due`](super::Journal::due).
    pub(super) fn due(
        &mut self,
        endpoint: EndpointId,
        now_ms: i64,
        limit: usize,
        except: &[Seq],
    ) -> rusqlite::Result<Due> {
        let except: HashSet<Seq> = except.iter().copied().collect();
        let mut due = Due::default();
        let mut bytes = 0;
        let mut waiting = self.db.prepare_cached(WAITING)?;
        let mut load = self.db.prepare_cached(LOAD)?;
        let mut rows = waiting.query([endpoint.0])?;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get(0)?);
            if except.contains(&seq) {
                continue;
            }
            let due_at_ms = row.get(1)?;
            if due_at_ms > now_ms || due.deliveries.len() >= limit || bytes >= DUE_BYTES {
                due.next_due_ms = Some(due_at_ms);
                break;
            }
            let event = load.query_row([seq.0], |row| stored_event(&mut self.names, row));
            // One that retention takes just now is gone from the list in a moment, too.
            if let Some(event) = event.optional()? {
                bytes += event.body.len();
                let (attempts, sequence) = (row.get(2)?, count(row, 3)?);
                due.deliveries.push(DueDelivery { seq, sequence, attempts, event });
            }
        }
        Ok(due)
    }

    /// See [`Journal::due_in_order`](super::Journal::due_in_order).
    pub(super) fn due_in_order(
        &mut self,
        endpoint: EndpointId,
        now_ms: i64,
        limit: usize,
    ) -> rusqlite::Result<Due> {
        let mut due = Due::default();
        let mut bytes = 0;
        let mut parked = self.db.prepare_cached(PARKED)?;
        let mut load = self.db.prepare_cached(LOAD)?;
        let mut rows = parked.query([endpoint.0])?;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get(0)?);
            // What is blocked follows what blocks it.
            let due_at_ms = row.get::<_, Option<i64>>(1)?.unwrap_or(now_ms);
            if due_at_ms > now_ms || due.deliveries.len() >= limit || bytes >= DUE_BYTES {
                due.next_due_ms = Some(due_at_ms);
                break;
            }
            let event = load.query_row([seq.0], |row| stored_event(&mut self.names, row));
            if let Some(event) = event.optional()? {
                bytes += event.body.len();
                let (attempts, sequence) = (row.get(2)?, count(row, 3)?);
                due.deliveries.push(DueDelivery { seq, sequence, attempts, event });
            }
        }
        Ok(due)
    }

    /// See [`find`].
    pub(super) fn find(&mut self, id: EventId) -> rusqlite::Result<Option<Seq>> {
        find(&self.db, id)
    }

    /// The orders that wait to be carried out.
    pub(super) fn orders(&mut self) -> rusqlite::Result<Vec<Order>> {
        orders::given(&self.db)
    }

    /// See [`Journal::order_endpoints`](super::Journal::order_endpoints).
    pub(super) fn order_endpoints(&mut self, wish: &Wish) -> rusqlite::Result<Vec<String>> {
        orders::endpoints_of(&self.db, wish)
    }
}

/// The number of the event with this id, by way of the segments that may hold it.
pub(super) fn find(db: &Connection, id: EventId) -> rusqlite::Result<Option<Seq>> {
    let id = &id.as_bytes()[..];
    let mut ranges = vec![];
    let last: i64 = db.prepare_cached(LAST_SUMMARISED)?.query_row((), |row| row.get(0))?;
    ranges.push((last + 1, i64::MAX));
    let mut segments = db.prepare_cached(SEGMENTS_OF_ID)?;
    for range in segments.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))? {
        ranges.push(range?);
    }
    let mut find = db.prepare_cached(FIND_ID)?;
    for (first, last) in ranges {
        let found = find.query_row(rusqlite::params![first, last, id], |row| row.get(0));
        if let Some(seq) = found.optional()? {
            return Ok(Some(Seq(seq)));
        }
    }
    Ok(None)
}

fn stored_event(
    names: &mut HashMap<Box<str>, Arc<str>>,
    row: &Row<'_>,
) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        seq: Seq(row.get(0)?),
        id: EventId::from_bytes(row.get(1)?),
        name: intern(names, row.get_ref(2)?.as_str()?),
        lanes: lanes_of(row, 4)?,
        committed_at_us: row.get(3)?,
        body: Bytes::copy_from_slice(row.get_ref(6)?.as_blob()?),
    })
}

fn intern(names: &mut HashMap<Box<str>, Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    if names.len() >= NAMES {
        names.clear();
    }
    let shared: Arc<str> = name.into();
    names.insert(name.into(), Arc::clone(&shared));
    shared
}
