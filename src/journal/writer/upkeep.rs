//! What the writer does besides answering: making durable and pruning.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::journal::append;
use crate::journal::error::JournalError;
use crate::journal::prune;
use crate::postgres::lsn::Lsn;

use super::Writer;
use crate::clock::now_ms;

const MARK_DURABLE: &str = "UPDATE journal SET durable_lsn = ?1, flushes = flushes + 1";

/// Between looks at what retention wants.
const STEP_LEAST: Duration = Duration::from_millis(20);
const STEP_MOST: Duration = Duration::from_secs(1);

impl Writer {
    /// Makes durable what is committed, when that is due, was asked for, or is the last thing to do.
    pub(super) fn flush_if_wanted(&mut self, stopping: bool) -> Result<(), JournalError> {
        let asked = self.flushes_wanted.iter().any(|(after, _)| *after <= self.appended);
        let due = self.dirty_since.is_some_and(|since| {
            since.elapsed() >= self.options.durable_every
                && self.retry.is_none_or(|retry| retry.at <= Instant::now())
        });
        let last = stopping && !self.has_pending() && self.dirty_since.is_some();
        if !(asked || due || last) {
            return Ok(());
        }
        match self.flush() {
            Ok(()) => {
                let appended = self.appended;
                for (_, reply) in
                    self.flushes_wanted.extract_if(.., |(after, _)| *after <= appended)
                {
                    let _ = reply.send(Ok(()));
                }
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// Commits with an fsync, which makes everything committed so far durable, and only then says
    /// so.
    pub(in crate::journal) fn flush(&mut self) -> Result<(), JournalError> {
        let failed = |error| JournalError::sqlite(&self.options.path, "sync", error);
        let resume_lsn = self.written.checkpoint.map_or(Lsn::ZERO, |point| point.resume_lsn);
        self.db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let marked = self
            .db
            .prepare_cached(MARK_DURABLE)
            .and_then(|mut mark| mark.execute([resume_lsn.0 as i64]));
        self.db.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        marked.map_err(failed)?;
        self.dirty_since = None;
        self.shared.durable_lsn.store(resume_lsn.0, Ordering::Release);
        if !self.has_pending() && self.retry.take().is_some() {
            self.shared.known().trouble = None;
        }
        Ok(())
    }

    /// Deletes a few of the oldest events, when retention wants it.
    pub(super) fn prune_if_due(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        if now < self.prune_at || self.retry.is_some_and(|retry| now < retry.at) {
            return Ok(());
        }
        let now_ms = now_ms();
        let retain_ms = i64::try_from(self.options.retain.as_millis()).unwrap_or(i64::MAX);
        let step = self.atomically("prune", |writer| {
            // Segments are what retention counts by: none may be much coarser than it.
            if append::segment_is_old(&writer.written, now_ms - (retain_ms / 64).clamp(1, 60_000)) {
                append::close_segment(&writer.db, &mut writer.written)?;
            }
            let target = prune::wanted(&writer.db, &writer.written, &writer.options, now_ms)?;
            let Writer { db, counts, written, shared, .. } = writer;
            Ok(prune::step(db, counts, written, &shared.filters(), target, now_ms)?)
        });
        match step {
            Ok(pruned) => {
                if pruned.events > 0 {
                    self.dirty_since.get_or_insert_with(Instant::now);
                }
                pruned.dropped.into_iter().for_each(|lost| self.losses.add(lost));
                if !pruned.more {
                    self.prune_at = now + (self.options.retain / 16).clamp(STEP_LEAST, STEP_MOST);
                    self.losses.say(&self.shared, now);
                }
                Ok(())
            }
            Err(error) => {
                self.prune_at = now + STEP_MOST;
                if error.is_retryable() { Ok(()) } else { Err(error) }
            }
        }
    }
}
