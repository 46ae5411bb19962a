//! Cursors of endpoints that rest, moved on together.

use std::time::{Duration, Instant};

use crate::journal::error::JournalError;
use crate::journal::routing::Pass;

use super::Writer;

/// Events at or below the new cursor are none of theirs, so nothing else changes.
const MOVE_ON: &str = "UPDATE endpoints SET cursor = ?2 WHERE endpoint = ?1 AND cursor < ?2";

/// Between two times; what lies between is looked at again after a crash.
const EVERY: Duration = Duration::from_secs(1);

impl Writer {
    /// Events were committed which most endpoints may not want.
    pub(super) fn pass_soon(&mut self) {
        self.pass_wanted = true;
    }

    /// When the cursors of those that rest are to be moved on.
    pub(super) fn pass_at(&self) -> Option<Instant> {
        self.pass_wanted.then_some(self.passed_at + EVERY)
    }

    /// Moves the cursors of all endpoints that rest, in one transaction, when it is time for that.
    /// They are asked for here, on the thread that writes: what an endpoint learns or is ordered
    /// once it rests no more, is written after this.
    pub(super) fn pass_if_due(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        let waits = self.retry.is_some_and(|retry| now < retry.at);
        if self.pass_at().is_none_or(|at| now < at) || waits {
            return Ok(());
        }
        self.passed_at = now;
        let Pass { to, endpoints, all } = self.shared.tail.routing().pass();
        self.pass_wanted = !all;
        if endpoints.is_empty() {
            return Ok(());
        }
        let moved = self.atomically("write to", |writer| {
            let mut pass = writer.db.prepare_cached(MOVE_ON)?;
            for endpoint in &endpoints {
                pass.execute([endpoint.0, to.0])?;
            }
            Ok(())
        });
        match moved {
            Ok(()) => {
                self.dirty_since.get_or_insert(now);
                self.shared.tail.routing().passed(to);
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                self.pass_wanted = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
