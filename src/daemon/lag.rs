//! Watches how much log the server keeps for the slot, and says so before it is a trouble there.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::config::SourceConfig;
use crate::event::Report;
use crate::journal::Journal;
use crate::postgres::Client;
use crate::postgres::error::PgError;
use crate::postgres::slot::{SlotInfo, slot};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// It is well again below this part of the limit, in percent: a lag around the limit is not said
/// again and again.
const WELL_PERCENT: u64 = 80;

/// The limit is this part at most of what the server keeps before it gives the slot up, in percent.
const LOSS_PERCENT: u64 = 80;

/// Looks now and then, over a connection that is somebody else's.
pub(super) struct LagWatch {
    slot: String,
    /// None where nothing is to be said.
    limit_bytes: Option<u64>,
    journal: Journal,
    lagging: bool,
    look_at: Instant,
}

/// What a look found to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    retained_bytes: u64,
    limit_bytes: u64,
    recovered: bool,
}

impl LagWatch {
    pub(super) fn new(source: &SourceConfig, journal: Journal) -> LagWatch {
        LagWatch {
            slot: source.slot.clone(),
            limit_bytes: source.lag_warning_bytes,
            journal,
            lagging: false,
            look_at: Instant::now(),
        }
    }

    /// Looks every few seconds until the server cannot be asked.
    pub(super) async fn follow(&mut self, client: &Client) -> PgError {
        if self.limit_bytes.is_none() {
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
        let Some(limit_bytes) = self.limit_bytes.filter(|_| Instant::now() >= self.look_at) else {
            return Ok(());
        };
        let found = slot(client, &self.slot).await;
        // Only now: a look that was cut short is made up for at once.
        self.look_at = Instant::now() + LOOK_EVERY;
        // What became of a slot that is missing is capture's to say.
        let Some(slot) = found? else { return Ok(()) };
        let limit_bytes = limit_bytes.min(danger_bytes(&slot).unwrap_or(u64::MAX));
        if let Some(turn) = turn(self.lagging, slot.retained_bytes(), limit_bytes) {
            self.lagging = !turn.recovered;
            self.say(turn, &slot);
        }
        Ok(())
    }

    fn say(&self, turn: Turn, slot: &SlotInfo) {
        let Turn { retained_bytes, limit_bytes, recovered } = turn;
        let name = &self.slot;
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
}

/// How much retained log is close to what the server keeps at most, where it has a limit.
fn danger_bytes(slot: &SlotInfo) -> Option<u64> {
    let safe = slot.safe_wal_size?;
    let most = slot.retained_bytes().saturating_add_signed(safe);
    Some((most / 100).saturating_mul(LOSS_PERCENT))
}

/// Whether that is to be said: an episode begins or ends.
fn turn(lagging: bool, retained_bytes: u64, limit_bytes: u64) -> Option<Turn> {
    let well =
        u128::from(retained_bytes) * 100 < u128::from(limit_bytes) * u128::from(WELL_PERCENT);
    let turned = if lagging { well } else { retained_bytes > limit_bytes };
    turned.then_some(Turn { retained_bytes, limit_bytes, recovered: lagging })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_said_twice() {
        let mut lagging = false;
        let mut said = Vec::new();
        for retained_bytes in [0, 1_000, 1_001, 5_000, 900, 1_100, 800, 799, 0, 900, 1_001] {
            if let Some(turn) = turn(lagging, retained_bytes, 1_000) {
                lagging = !turn.recovered;
                said.push((retained_bytes, turn.recovered));
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
