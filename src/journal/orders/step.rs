//! Carrying out an order, one transaction at a time.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::event::{EventFilter, EventId, Lanes};

use super::super::append::Written;
use super::super::deliveries::{Deliveries, LaneCounts, State, lanes_of};
use super::super::model::{Listed, Seq};
use super::super::status::count;
use super::{Chosen, OrderProgress, OrderStep, Wish, finish, pending, replay};

const ENDPOINT: &str = "SELECT endpoint, disabled FROM endpoints WHERE name = ?1";
const DEAD: &str = "SELECT d.seq, d.sequence, d.lane_1, d.lane_2, v.name, v.committed_at_us, v.id \
    FROM deliveries d JOIN events v ON v.seq = d.seq \
    WHERE d.endpoint = ?1 AND d.died_at_ms IS NOT NULL AND d.seq > ?2 ORDER BY d.seq LIMIT ?3";
const SET_DISABLED: &str = "UPDATE endpoints SET disabled = ?2 WHERE endpoint = ?1";
const ENABLE: &str =
    "UPDATE endpoints SET disabled = NULL, failing_since_ms = NULL WHERE endpoint = ?1";
const DUE_NOW: &str = "UPDATE deliveries SET due_at_ms = ?2 WHERE endpoint = ?1 AND seq IN \
    (SELECT seq FROM deliveries WHERE endpoint = ?1 AND due_at_ms > ?2 LIMIT ?3)";
const FORGET_LANES: &str = "DELETE FROM delivery_lanes WHERE endpoint = ?1 AND lane <= \
    (SELECT max(lane) FROM (SELECT lane FROM delivery_lanes WHERE endpoint = ?1 \
    ORDER BY lane LIMIT ?2))";
const FORGET_DELIVERIES: &str = "DELETE FROM deliveries WHERE endpoint = ?1 AND seq <= \
    (SELECT max(seq) FROM (SELECT seq FROM deliveries WHERE endpoint = ?1 \
    ORDER BY seq LIMIT ?2))";
const LAST_ATTEMPT: &str = "SELECT coalesce(max(attempt_id), 0) FROM attempts";
const FORGET_ATTEMPTS: &str = "DELETE FROM attempts \
    WHERE attempt_id > ?2 AND attempt_id <= ?2 + ?3 AND endpoint = ?1";
const FORGET_ENDPOINT: &str = "DELETE FROM endpoints WHERE endpoint = ?1";

/// Rows one step changes.
pub(super) const ROWS: i64 = 2_000;

/// The endpoint of an order.
pub(super) struct Target<'a> {
    pub(super) order: i64,
    pub(super) db: &'a Connection,
    pub(super) counts: &'a mut LaneCounts,
    pub(super) written: &'a Written,
    pub(super) endpoint: i64,
    pub(super) name: &'a str,
    pub(super) disabled: Option<String>,
    pub(super) now_ms: i64,
}

/// Why an order cannot be carried out: SQLite's error, or a sentence for the person who gave it.
pub(super) enum Refused {
    Sqlite(rusqlite::Error),
    Said(String),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Refused {
        Refused::Sqlite(error)
    }
}

/// Does one step inside the open transaction; notes what came of the order where it is the last.
pub(in crate::journal) fn carry_out(
    db: &Connection,
    counts: &mut LaneCounts,
    written: &Written,
    step: &OrderStep,
    now_ms: i64,
) -> rusqlite::Result<OrderProgress> {
    let mut progress = step.progress.clone();
    let found = db
        .prepare_cached(ENDPOINT)?
        .query_row([&step.endpoint], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let name = step.endpoint.as_str();
    let result = match found {
        None => Err(Refused::Said(format!("the journal knows no endpoint {name}"))),
        Some((endpoint, disabled)) => {
            let order = step.order;
            let mut target =
                Target { order, db, counts, written, endpoint, name, disabled, now_ms };
            target.carry_out(&step.wish, &mut progress)
        }
    };
    match result {
        Ok(()) if progress.done && step.last => {
            finish(db, step.order, &progress.said.join("; "), false, now_ms)?;
        }
        Ok(()) => {}
        // What refuses does so before it has changed anything.
        Err(Refused::Said(sentence)) => {
            finish(db, step.order, &sentence, true, now_ms)?;
            done(&mut progress, sentence);
            progress.failed = true;
        }
        Err(Refused::Sqlite(error)) => return Err(error),
    }
    Ok(progress)
}

impl Target<'_> {
    fn carry_out(&mut self, wish: &Wish, progress: &mut OrderProgress) -> Result<(), Refused> {
        match wish {
            Wish::Retry { chosen, .. } => self.retry(chosen, progress),
            Wish::Discard { chosen, .. } => self.discard(chosen, progress),
            Wish::Replay { since, until, events, .. } => {
                replay::begin(self, *since, *until, events, progress)
            }
            Wish::StopReplay { .. } => replay::stop(self, progress),
            Wish::Enable { .. } => self.enable(progress),
            Wish::Disable { reason, .. } => {
                self.db.prepare_cached(SET_DISABLED)?.execute(params![self.endpoint, reason])?;
                let sentence = format!(
                    "endpoint {} is disabled: its events wait in the journal, as long as that \
                     keeps them",
                    self.name
                );
                done(progress, sentence);
                Ok(())
            }
            Wish::Forget { .. } => self.forget(progress),
        }
    }

    fn retry(&mut self, chosen: &Chosen, progress: &mut OrderProgress) -> Result<(), Refused> {
        let chosen = self.chosen(chosen, progress)?;
        let mut deliveries = Deliveries::new(self.db, self.counts, self.endpoint);
        let blocked: HashSet<i64> = chosen.iter().map(|(listed, _)| listed.seq.0).collect();
        for (listed, lanes) in chosen {
            deliveries.put(listed, State::Blocked, 0, lanes)?;
        }
        deliveries.hold_back(&blocked)?;
        deliveries.promote(self.now_ms)?;
        if progress.done {
            let what = match progress.count {
                0 => "no dead delivery of endpoint {} is among those meant".to_owned(),
                1 => "1 dead delivery of endpoint {} is sent again".to_owned(),
                n => format!("{n} dead deliveries of endpoint {{}} are sent again"),
            };
            let mut sentence = what.replace("{}", self.name);
            if progress.count > 0 && self.disabled.is_some() {
                sentence.push_str(", once it is enabled");
            }
            progress.said.push(sentence);
        }
        Ok(())
    }

    fn discard(&mut self, chosen: &Chosen, progress: &mut OrderProgress) -> Result<(), Refused> {
        let chosen = self.chosen(chosen, progress)?;
        let mut deliveries = Deliveries::new(self.db, self.counts, self.endpoint);
        for (listed, _) in chosen {
            deliveries.remove(listed.seq.0)?;
        }
        if progress.done {
            progress.said.push(match progress.count {
                0 => format!("no dead delivery of endpoint {} is among those meant", self.name),
                1 => format!("1 dead delivery of endpoint {} is forgotten", self.name),
                n => format!("{n} dead deliveries of endpoint {} are forgotten", self.name),
            });
        }
        Ok(())
    }

    /// The next of the dead deliveries that are meant, in the order of the events.
    fn chosen(
        &self,
        chosen: &Chosen,
        progress: &mut OrderProgress,
    ) -> Result<Vec<(Listed, Lanes)>, Refused> {
        let filter = chosen.filter().map_err(Refused::Said)?;
        let mut query = self.db.prepare_cached(DEAD)?;
        let mut rows = query.query([self.endpoint, progress.after, ROWS])?;
        let (mut found, mut seen) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            seen += 1;
            let listed = Listed { seq: Seq(row.get(0)?), sequence: count(row, 1)? };
            progress.after = listed.seq.0;
            let id = EventId::from_bytes(row.get(6)?);
            if is_meant(chosen, &filter, row.get_ref(4)?.as_str().unwrap_or(""), row.get(5)?, id) {
                found.push((listed, lanes_of(row, 2)?));
            }
        }
        progress.count += found.len() as u64;
        progress.done = seen < ROWS;
        Ok(found)
    }

    /// First the endpoint, then those that wait: after a crash the second half is done again.
    fn enable(&mut self, progress: &mut OrderProgress) -> Result<(), Refused> {
        if progress.phase == 0 {
            progress.phase = 1;
            progress.after = self.now_ms;
            // Until the order is done, the step is begun anew only after a crash.
            progress.number = u64::from(self.disabled.is_some());
            self.db.prepare_cached(ENABLE)?.execute([self.endpoint])?;
        }
        let mut update = self.db.prepare_cached(DUE_NOW)?;
        let due = update.execute(params![self.endpoint, progress.after, ROWS])?;
        progress.count += due as u64;
        if due as i64 == ROWS {
            return Ok(());
        }
        let mut sentence = match progress.number {
            0 => format!("endpoint {} was enabled already", self.name),
            _ => format!("endpoint {} is enabled again and gets what it missed", self.name),
        };
        if progress.count > 0 {
            sentence.push_str(&match progress.count {
                1 => "; 1 delivery that waits for a retry goes now".to_owned(),
                count => format!("; {count} deliveries that wait for a retry go now"),
            });
        }
        done(progress, sentence);
        Ok(())
    }

    fn forget(&mut self, progress: &mut OrderProgress) -> Result<(), Refused> {
        let rows = params![self.endpoint, ROWS];
        match progress.phase {
            0 if self.db.prepare_cached(FORGET_LANES)?.execute(rows)? == 0 => progress.phase = 1,
            1 => {
                let mut deleted = self.db.prepare_cached(FORGET_DELIVERIES)?.execute(rows)?;
                if deleted == 0 {
                    deleted = pending::forget(self.db, self.endpoint, ROWS)?;
                }
                progress.count += deleted as u64;
                if deleted == 0 {
                    progress.phase = 2;
                }
            }
            2 => {
                let last: i64 =
                    self.db.prepare_cached(LAST_ATTEMPT)?.query_row((), |row| row.get(0))?;
                let mut delete = self.db.prepare_cached(FORGET_ATTEMPTS)?;
                delete.execute(params![self.endpoint, progress.after, ROWS])?;
                progress.after += ROWS;
                if progress.after < last {
                    return Ok(());
                }
                self.db.prepare_cached(FORGET_ENDPOINT)?.execute([self.endpoint])?;
                self.counts.clear();
                let rows = progress.count;
                done(
                    progress,
                    match rows {
                        0 => format!("endpoint {} is forgotten", self.name),
                        _ => format!(
                            "endpoint {} is forgotten, and {rows} deliveries with it",
                            self.name
                        ),
                    },
                );
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn done(progress: &mut OrderProgress, sentence: String) {
    progress.said.push(sentence);
    progress.done = true;
}

fn is_meant(
    chosen: &Chosen,
    filter: &EventFilter,
    name: &str,
    committed_at_us: i64,
    id: EventId,
) -> bool {
    (chosen.ids.is_empty() || chosen.ids.contains(&id))
        && chosen.since_us.is_none_or(|since| committed_at_us >= since)
        && chosen.until_us.is_none_or(|until| committed_at_us <= until)
        && filter.matches(name)
}
