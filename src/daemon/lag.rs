//! Watches how much waits for walhook at the server, log kept for the slot or rows of the outbox, and
//! says so before it is a trouble there.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tracing::warn;

use crate::capture::CaptureKind;
use crate::config::SourceConfig;
use crate::event::Report;
use crate::journal::Journal;
use crate::postgres::Client;
use crate::postgres::error::PgError;
use crate::postgres::slot::{SlotInfo, slot};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A look may take this part of the time at most: rows have to be counted.
const SHARE: u32 = 50;

/// It is well again below this part of the limit, in percent: a lag around the limit is not said
/// again and again.
const WELL_PERCENT: u64 = 80;

/// The limit is this part at most of what the server keeps before it gives the slot up, in percent.
const LOSS_PERCENT: u64 = 80;

/// Looks now and then, over a connection that is somebody else's.
pub(super) struct LagWatch {
    limit: Limit,
    journal: Journal,
    lagging: bool,
    look_at: Instant,
}

/// What may wait at the server.
enum Limit {
    Log {
        slot: String,
        bytes: u64,
    },
    Rows(u64),
    /// Nothing is to be said.
    None,
}

/// What a look found to be said, in bytes or rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    waiting: u64,
    limit: u64,
    recovered: bool,
}

impl LagWatch {
    pub(super) fn new(source: &SourceConfig, journal: Journal) -> LagWatch {
        let limit = match (source.capture, source.lag_warning_bytes) {
            (CaptureKind::Outbox, _) => Limit::Rows(source.outbox.spec.max_rows),
            (CaptureKind::Replication, Some(bytes)) => {
                Limit::Log { slot: source.slot.clone(), bytes }
            }
            (CaptureKind::Replication, None) => Limit::None,
        };
        LagWatch { limit, journal, lagging: false, look_at: Instant::now() }
    }

    /// Looks every few seconds until the server cannot be asked.
    pub(super) async fn follow(&mut self, client: &Client) -> PgError {
        if matches!(self.limit, Limit::None) {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep_until(self.look_at.into()).await;
            if let Err(error) = self.look_if_due(client).await {
                return error;
            }
        }
    }

    /// Looks, unless it did just now.
    pub(super) async fn look_if_due(&mut self, client: &Client) -> Result<(), PgError> {
        let begun = Instant::now();
        if begun < self.look_at {
            return Ok(());
        }
        let found = match &self.limit {
            Limit::Log { slot: name, bytes } => slot(client, name).await.map(|slot| {
                // What became of a slot that is missing is capture's to say.
                let slot = slot?;
                let limit = (*bytes).min(danger_bytes(&slot).unwrap_or(u64::MAX));
                Some((slot.retained_bytes(), limit, Some(slot)))
            }),
            Limit::Rows(limit) => {
                let rows = waiting_rows(client, *limit).await;
                rows.map(|rows| Some((rows, *limit, None)))
            }
            Limit::None => return Ok(()),
        };
        // Only now: a look that was cut short is made up for at once.
        self.look_at = Instant::now() + LOOK_EVERY.max(begun.elapsed() * SHARE);
        let Some((waiting, limit, slot)) = found? else { return Ok(()) };
        if let Some(turn) = turn(self.lagging, waiting, limit) {
            self.lagging = !turn.recovered;
            match slot {
                Some(slot) => self.say_log(turn, &slot),
                None => self.say_rows(turn),
            }
        }
        Ok(())
    }

    fn say_log(&self, turn: Turn, slot: &SlotInfo) {
        let Turn { waiting: retained_bytes, limit: limit_bytes, recovered } = turn;
        let name = &slot.name;
        if recovered {
            warn!(slot = name, retained_bytes, "the server keeps little log for the slot again");
        } else {
            warn!(
                slot = name,
                retained_bytes,
                limit_bytes,
                unconfirmed_bytes = slot.lag_bytes(),
                safe_bytes = slot.safe_wal_size,
                "the server keeps much log for the slot: walhook is behind, or a transaction there \
                 has been open for long"
            );
        }
        self.journal.report(Report::SlotLag {
            slot: name.clone(),
            retained_bytes,
            limit_bytes,
            recovered,
        });
    }

    fn say_rows(&self, turn: Turn) {
        let Turn { waiting: rows, limit: limit_rows, recovered } = turn;
        if recovered {
            warn!(rows, "few rows wait in the outbox again");
        } else {
            warn!(rows, limit_rows, "many rows wait in the outbox: walhook is behind");
        }
        self.journal.report(Report::OutboxLag { rows, limit_rows, recovered });
    }
}

/// How many rows wait in the outbox; not counted on beyond the limit. The numbers at both ends tell
/// without counting that there cannot be too many.
async fn waiting_rows(client: &Client, limit: u64) -> Result<u64, PgError> {
    const SPAN: &str = "select (select max(id) from walhook.outbox) \
                        - (select min(id) from walhook.outbox) + 1";
    const COUNT: &str = "select count(*) from (select from walhook.outbox limit $1) o";
    let failed = |error| PgError::query("could not count the rows of the outbox", error);
    // Until capture says that there is none.
    let there = client.query_typed_one("select to_regclass('walhook.outbox') is not null", &[]);
    if !there.await.map_err(failed)?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let span: Option<i64> = client.query_typed_one(SPAN, &[]).await.map_err(failed)?.try_get(0)?;
    let span = span.unwrap_or(0).max(0).unsigned_abs();
    if u128::from(span) * 100 < u128::from(limit) * u128::from(WELL_PERCENT) {
        return Ok(span);
    }
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let row = client.query_typed_one(COUNT, &[(&most, Type::INT8)]).await.map_err(failed)?;
    Ok(row.try_get::<_, i64>(0)?.max(0).unsigned_abs())
}

/// How much retained log is close to what the server keeps at most, where it has a limit.
fn danger_bytes(slot: &SlotInfo) -> Option<u64> {
    let safe = slot.safe_wal_size?;
    let most = slot.retained_bytes().saturating_add_signed(safe);
    Some((most / 100).saturating_mul(LOSS_PERCENT))
}

/// Whether that is to be said: an episode begins or ends.
fn turn(lagging: bool, waiting: u64, limit: u64) -> Option<Turn> {
    let well = u128::from(waiting) * 100 < u128::from(limit) * u128::from(WELL_PERCENT);
    let turned = if lagging { well } else { waiting > limit };
    turned.then_some(Turn { waiting, limit, recovered: lagging })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_said_twice() {
        let mut lagging = false;
        let mut said = Vec::new();
        for waiting in [0, 1_000, 1_001, 5_000, 900, 1_100, 800, 799, 0, 900, 1_001] {
            if let Some(turn) = turn(lagging, waiting, 1_000) {
                lagging = !turn.recovered;
                said.push((waiting, turn.recovered));
            }
        }
        assert_eq!(said, [(1_001, false), (799, true), (1_001, false)]);
    }

    #[test]
    fn any_size_can_be_compared() {
        assert_eq!(turn(false, u64::MAX, u64::MAX), None);
        assert!(turn(true, 0, u64::MAX).is_some());
        // Below nothing there is nothing: a limit of one byte is well at none.
        assert!(turn(true, 0, 1).is_some());
        assert_eq!(turn(true, 0, 0), None);
    }
}
