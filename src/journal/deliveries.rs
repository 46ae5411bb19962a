//! Deliveries that are waiting, blocked or dead, and the rule that orders them.
//!
//! A waiting or blocked delivery has one row per lane. A blocked one may go, and so becomes
//! waiting and due, as soon as it has the smallest number on every one of its lanes. After each
//! transaction no blocked delivery is left that may go.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::event::Lanes;

use super::model::{Listed, Seq};

const FIND: &str = "SELECT state, lane_1, lane_2 FROM deliveries WHERE endpoint = ?1 AND seq = ?2";
const PUT: &str = "INSERT INTO deliveries \
    (endpoint, seq, state, attempts, due_at_ms, died_at_ms, lane_1, lane_2, sequence) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
    ON CONFLICT (endpoint, seq) DO UPDATE SET state = excluded.state, \
    attempts = excluded.attempts, due_at_ms = excluded.due_at_ms, \
    died_at_ms = excluded.died_at_ms, sequence = max(sequence, excluded.sequence)";
const ANY: &str = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE endpoint = ?1)";
const REMOVE: &str = "DELETE FROM deliveries WHERE endpoint = ?1 AND seq = ?2";
const PROMOTE: &str = "UPDATE deliveries SET state = 'waiting', due_at_ms = ?3 \
    WHERE endpoint = ?1 AND seq = ?2";
const BLOCK: &str = "UPDATE deliveries SET state = 'blocked', due_at_ms = NULL \
    WHERE endpoint = ?1 AND seq = ?2";
const LANE_STATES: &str = "SELECT l.seq, d.due_at_ms NOTNULL FROM delivery_lanes l \
    JOIN deliveries d ON d.endpoint = l.endpoint AND d.seq = l.seq \
    WHERE l.endpoint = ?1 AND l.lane = ?2 ORDER BY l.seq";
const ADD_LANE: &str = "INSERT INTO delivery_lanes (endpoint, lane, seq) VALUES (?1, ?2, ?3)";
const REMOVE_LANE: &str =
    "DELETE FROM delivery_lanes WHERE endpoint = ?1 AND lane = ?2 AND seq = ?3";
const FIRST_OF_LANE: &str = "SELECT seq FROM delivery_lanes WHERE endpoint = ?1 AND lane = ?2 \
    ORDER BY seq LIMIT 1";
const COUNT_LANE: &str = "SELECT count(*) FROM delivery_lanes WHERE endpoint = ?1 AND lane = ?2";
const NEXT_DUE: &str = "SELECT due_at_ms FROM deliveries \
    WHERE endpoint = ?1 AND due_at_ms IS NOT NULL ORDER BY due_at_ms LIMIT 1";

/// Lanes whose length is kept in memory; beyond, all are counted anew.
const COUNTED_LANES: usize = 65_536;

/// How many parked deliveries each lane has, of the lanes asked for lately. Counting a lane anew
/// each time would make the settling of one that is a hundred thousand long quadratic.
#[derive(Debug, Default)]
pub(super) struct LaneCounts {
    counts: HashMap<(i64, i64), u32>,
}

impl LaneCounts {
    /// Forgets all, when what was counted was rolled back.
    pub(super) fn clear(&mut self) {
        self.counts.clear();
    }

    fn change(&mut self, endpoint: i64, lane: i64, by: i32) {
        if let Some(count) = self.counts.get_mut(&(endpoint, lane)) {
            *count = count.saturating_add_signed(by);
        }
    }

    fn get(&mut self, db: &Connection, endpoint: i64, lane: i64) -> rusqlite::Result<u32> {
        if let Some(&count) = self.counts.get(&(endpoint, lane)) {
            return Ok(count);
        }
        let mut query = db.prepare_cached(COUNT_LANE)?;
        let count: u32 = query.query_row(params![endpoint, lane], |row| row.get(0))?;
        if self.counts.len() >= COUNTED_LANES {
            self.counts.clear();
        }
        self.counts.insert((endpoint, lane), count);
        Ok(count)
    }
}

/// The states a delivery row can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting { due_at_ms: i64 },
    Blocked,
    Dead { died_at_ms: i64 },
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Waiting { .. } => "waiting",
            State::Blocked => "blocked",
            State::Dead { .. } => "dead",
        }
    }

    fn holds_lanes(self) -> bool {
        !matches!(self, State::Dead { .. })
    }

    fn due_at_ms(self) -> Option<i64> {
        match self {
            State::Waiting { due_at_ms } => Some(due_at_ms),
            State::Blocked | State::Dead { .. } => None,
        }
    }

    fn died_at_ms(self) -> Option<i64> {
        match self {
            State::Dead { died_at_ms } => Some(died_at_ms),
            State::Waiting { .. } | State::Blocked => None,
        }
    }
}

/// The lanes two columns, starting at `first`, stand for.
pub(super) fn lanes_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Lanes> {
    Ok(match (row.get(first)?, row.get(first + 1)?) {
        (None, _) => Lanes::NONE,
        (Some(lane), None) => Lanes::one(lane),
        (Some(one), Some(other)) => Lanes::two(one, other),
    })
}

/// Changes the deliveries of one endpoint inside the open transaction.
pub(super) struct Deliveries<'a> {
    db: &'a Connection,
    counts: &'a mut LaneCounts,
    endpoint: i64,
    /// Lanes something was added to or taken from.
    touched: Vec<i64>,
    /// Blocked deliveries without any lane: nothing holds them.
    free: Vec<i64>,
    /// Whether there is any delivery on the list, once that was looked up.
    any: Option<bool>,
}

impl<'a> Deliveries<'a> {
    pub(super) fn new(db: &'a Connection, counts: &'a mut LaneCounts, endpoint: i64) -> Self {
        Deliveries { db, counts, endpoint, touched: Vec::new(), free: Vec::new(), any: None }
    }

    /// Gives a delivery this state, whatever it was before.
    pub(super) fn put(
        &mut self,
        Listed { seq: Seq(seq), sequence }: Listed,
        state: State,
        attempts: u32,
        lanes: Lanes,
    ) -> rusqlite::Result<()> {
        let before = self.find(seq)?;
        self.any = Some(true);
        // What is parked keeps the lanes it holds.
        let lanes = before.map_or(lanes, |(_, lanes)| lanes);
        let held = before.is_some_and(|(holds, _)| holds);
        self.db.prepare_cached(PUT)?.execute(params![
            self.endpoint,
            seq,
            state.name(),
            attempts,
            state.due_at_ms(),
            state.died_at_ms(),
            lanes.as_slice().first(),
            lanes.as_slice().get(1),
            sequence.cast_signed(),
        ])?;
        match (held, state.holds_lanes()) {
            (false, true) => self.hold(seq, lanes)?,
            (true, false) => self.release(seq, lanes)?,
            _ => {}
        }
        if state == State::Blocked {
            // Whether it may go is to be found out even if nothing else changes on its lanes.
            self.touched.extend(lanes.as_slice());
            if lanes.as_slice().is_empty() {
                self.free.push(seq);
            }
        }
        Ok(())
    }

    /// Parks a delivery behind others. One that is parked already stays as it is, unless it was
    /// tried once more meanwhile.
    pub(super) fn park(
        &mut self,
        listed: Listed,
        attempts: u32,
        lanes: Lanes,
    ) -> rusqlite::Result<()> {
        match self.find(listed.seq.0)? {
            Some((true, _)) if attempts == 0 => Ok(()),
            _ => self.put(listed, State::Blocked, attempts, lanes),
        }
    }

    /// Makes those that wait behind one of `blocked`, which were put on the list by hand, blocked
    /// too. No lane has more than one that waits, and that was the first one there before.
    pub(super) fn hold_back(&mut self, blocked: &HashSet<i64>) -> rusqlite::Result<()> {
        self.touched.sort_unstable();
        self.touched.dedup();
        let mut lane_states = self.db.prepare_cached(LANE_STATES)?;
        let mut block = self.db.prepare_cached(BLOCK)?;
        for &lane in &self.touched {
            let mut behind = None;
            let mut rows = lane_states.query(params![self.endpoint, lane])?;
            let mut first = true;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                if row.get(1)? && !first {
                    behind = Some(seq);
                }
                if !blocked.contains(&seq) {
                    break;
                }
                first = false;
            }
            drop(rows);
            if let Some(seq) = behind {
                block.execute(params![self.endpoint, seq])?;
            }
        }
        Ok(())
    }

    /// Takes a delivery off the list; most were never on it, and most lists are empty.
    pub(super) fn remove(&mut self, seq: i64) -> rusqlite::Result<()> {
        if !self.any()? {
            return Ok(());
        }
        let Some((held, lanes)) = self.find(seq)? else { return Ok(()) };
        self.db.prepare_cached(REMOVE)?.execute(params![self.endpoint, seq])?;
        if held {
            self.release(seq, lanes)?;
        }
        Ok(())
    }

    /// Makes every blocked delivery that may go by now waiting and due, and tells which. To be
    /// called last.
    pub(super) fn promote(&mut self, now_ms: i64) -> rusqlite::Result<Vec<i64>> {
        self.touched.sort_unstable();
        self.touched.dedup();
        let mut candidates = std::mem::take(&mut self.free);
        for &lane in &self.touched {
            candidates.extend(self.first_of(lane)?);
        }
        candidates.sort_unstable();
        candidates.dedup();
        let mut promoted = Vec::new();
        for seq in candidates {
            if self.may_go(seq)? {
                self.db.prepare_cached(PROMOTE)?.execute(params![self.endpoint, seq, now_ms])?;
                promoted.push(seq);
            }
        }
        Ok(promoted)
    }

    /// The lanes touched, and how many parked deliveries each has.
    pub(super) fn touched_lanes(&mut self) -> rusqlite::Result<Vec<(i64, u32)>> {
        let mut lanes = Vec::with_capacity(self.touched.len());
        for &lane in &self.touched {
            lanes.push((lane, self.counts.get(self.db, self.endpoint, lane)?));
        }
        Ok(lanes)
    }

    /// When the first waiting delivery is due.
    pub(super) fn next_due_ms(&self) -> rusqlite::Result<Option<i64>> {
        self.db.prepare_cached(NEXT_DUE)?.query_row([self.endpoint], |row| row.get(0)).optional()
    }

    fn any(&mut self) -> rusqlite::Result<bool> {
        if let Some(known) = self.any {
            return Ok(known);
        }
        let any = self.db.prepare_cached(ANY)?.query_row([self.endpoint], |row| row.get(0))?;
        self.any = Some(any);
        Ok(any)
    }

    /// Whether it holds its lanes, and which they are; `None` if it is not on the list.
    fn find(&self, seq: i64) -> rusqlite::Result<Option<(bool, Lanes)>> {
        let mut find = self.db.prepare_cached(FIND)?;
        find.query_row(params![self.endpoint, seq], |row| {
            Ok((row.get_ref(0)?.as_str()? != "dead", lanes_of(row, 1)?))
        })
        .optional()
    }

    fn may_go(&self, seq: i64) -> rusqlite::Result<bool> {
        let mut find = self.db.prepare_cached(FIND)?;
        let blocked = find
            .query_row(params![self.endpoint, seq], |row| {
                Ok((row.get_ref(0)?.as_str()? == "blocked", lanes_of(row, 1)?))
            })
            .optional()?;
        let Some((true, lanes)) = blocked else { return Ok(false) };
        for &lane in lanes.as_slice() {
            if self.first_of(lane)? != Some(seq) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn first_of(&self, lane: i64) -> rusqlite::Result<Option<i64>> {
        let mut first = self.db.prepare_cached(FIRST_OF_LANE)?;
        first.query_row(params![self.endpoint, lane], |row| row.get(0)).optional()
    }

    fn hold(&mut self, seq: i64, lanes: Lanes) -> rusqlite::Result<()> {
        let mut add = self.db.prepare_cached(ADD_LANE)?;
        for &lane in lanes.as_slice() {
            add.execute(params![self.endpoint, lane, seq])?;
            self.counts.change(self.endpoint, lane, 1);
            self.touched.push(lane);
        }
        Ok(())
    }

    fn release(&mut self, seq: i64, lanes: Lanes) -> rusqlite::Result<()> {
        let mut remove = self.db.prepare_cached(REMOVE_LANE)?;
        for &lane in lanes.as_slice() {
            remove.execute(params![self.endpoint, lane, seq])?;
            self.counts.change(self.endpoint, lane, -1);
            self.touched.push(lane);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::super::file;
    use super::*;

    #[test]
    fn binding_other_values_does_not_prepare_statements_anew() {
        let directory = tempfile::TempDir::new().unwrap();
        let db = file::open_writer(&directory.path().join("walhook.db")).unwrap();
        db.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
        for sql in [
            PUT,
            FIND,
            ANY,
            REMOVE,
            PROMOTE,
            BLOCK,
            LANE_STATES,
            FIRST_OF_LANE,
            COUNT_LANE,
            NEXT_DUE,
        ] {
            let mut statement = db.prepare(sql).unwrap();
            for value in 1..4 {
                for parameter in 1..=statement.parameter_count() {
                    statement.raw_bind_parameter(parameter, value).unwrap();
                }
                let mut rows = statement.raw_query();
                while rows.next().unwrap().is_some() {}
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }
}
