//! What the writer does besides answering: making durable, keeping the WAL short, and pruning.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::journal::append;
use crate::journal::error::JournalError;
use crate::journal::prune;
use crate::postgres::lsn::Lsn;

use super::{Syncing, Writer};
use crate::clock::now_ms;
use crate::journal::disk::{self, Done, Job};

const MARK_DURABLE: &str = "UPDATE journal SET durable_lsn = ?1, flushes = flushes + 1";

/// Between looks at what retention wants.
const STEP_LEAST: Duration = Duration::from_millis(20);
const STEP_MOST: Duration = Duration::from_secs(1);

/// Pages of the WAL that are not in the file yet, beyond which they are copied there.
const COPY_PAGES: i64 = 2_000;
/// A WAL this long is begun anew as soon as what little is left of it can be copied: the longer it
/// is, the longer it takes to find a page in it.
const LONG_PAGES: i64 = 6_000;
/// So little of it is copied by the writer itself: it waits for the disk meanwhile.
const LAST_PAGES: i64 = 64;
/// For so long does retention wait until that little is left. It writes more than anybody, and would
/// go on adding to what has to be copied while the disk is busy with what was there before.
const ENDING_PATIENCE: Duration = Duration::from_millis(500);
/// Where it could not come to an end in that time, this much is little.
const MOST_LAST_PAGES: i64 = 500;
/// Between looks at its length.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After it could not be copied.
const COPY_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// Makes durable what is committed, when that is due, was asked for, or is the last thing to do.
    pub(super) fn flush_if_wanted(&mut self, stopping: bool) -> Result<(), JournalError> {
        let asked = self.flushes_wanted.iter().any(|(after, _)| *after <= self.appended);
        let due = self.dirty_since.is_some_and(|since| {
            since.elapsed() >= self.options.durable_every
                && self.retry.is_none_or(|retry| retry.at <= Instant::now())
        });
        // What is just being made durable is not waited for, but made so once more.
        let volatile = self.dirty_since.is_some() || self.syncing.is_some();
        let last = stopping && !self.has_pending() && volatile;
        if last {
            return match self.flush() {
                Ok(()) => {
                    self.answer_durable(self.appended);
                    Ok(())
                }
                Err(error) => self.failed(error),
            };
        }
        if (asked || due)
            && self.syncing.is_none()
            && let Some(disk) = &self.disk
        {
            let appended = self.appended;
            let waiting = self.flushes_wanted.extract_if(.., |(after, _)| *after <= appended);
            let replies = waiting.map(|(_, reply)| reply).collect();
            self.syncing = Some(Syncing { resume_lsn: self.resume_lsn(), replies });
            self.dirty_since = None;
            disk.ask(Job::Sync);
        }
        Ok(())
    }

    fn resume_lsn(&self) -> Lsn {
        self.written.checkpoint.map_or(Lsn::ZERO, |point| point.resume_lsn)
    }

    fn answer_durable(&mut self, appended: u64) {
        for (_, reply) in self.flushes_wanted.extract_if(.., |(after, _)| *after <= appended) {
            let _ = reply.send(Ok(()));
        }
    }

    /// A job of the disk's thread is over.
    pub(super) fn disk_done(&mut self, Done { job, result }: Done) -> Result<(), JournalError> {
        match (job, result) {
            (Job::Sync, result) => {
                // Everything was made durable otherwise, meanwhile, if none is known.
                let Some(syncing) = self.syncing.take() else { return result };
                let marked = result.clone().and_then(|()| self.durable(syncing.resume_lsn));
                for reply in syncing.replies {
                    let _ = reply.send(result.clone());
                }
                match marked {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        // So that it is tried again, even if nothing else is ever written.
                        self.dirty_since.get_or_insert_with(Instant::now);
                        self.failed(error)
                    }
                }
            }
            (Job::Checkpoint, result) => {
                self.copying.running = false;
                self.copying.look_at = Instant::now();
                match result {
                    Err(error) if error.is_retryable() => {
                        self.copying.look_at += COPY_PAUSE;
                        Ok(())
                    }
                    result => result,
                }
            }
        }
    }

    /// What was committed up to there is durable; the file says so, too.
    fn durable(&mut self, resume_lsn: Lsn) -> Result<(), JournalError> {
        self.shared.durable_lsn.store(resume_lsn.0, Ordering::Release);
        self.db
            .prepare_cached(MARK_DURABLE)
            .and_then(|mut mark| mark.execute([resume_lsn.0 as i64]))
            .map_err(|error| JournalError::sqlite(&self.options.path, "write to", error))?;
        if !self.has_pending() && self.retry.take().is_some() {
            self.shared.known().trouble = None;
        }
        Ok(())
    }

    /// Has the WAL copied into the file when it has become long: by the disk's thread, which keeps
    /// nobody waiting. Only while nothing is written can the WAL be used from its beginning again,
    /// so the last bit is copied here, when there is little of it.
    pub(super) fn copy_wal_if_long(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        let Some(disk) = self.disk.as_ref().filter(|_| !self.copying.running) else {
            return Ok(());
        };
        if !self.copying.grown || now < self.copying.look_at {
            return Ok(());
        }
        self.copying.grown = false;
        self.copying.look_at = now + LOOK_EVERY;
        let copied = disk::wal_pages(&self.db).and_then(|(pages, in_file)| {
            let left = pages - in_file;
            let long = pages >= LONG_PAGES;
            let ending_since = self.copying.ending_since.filter(|_| long && left > 0);
            let patient = ending_since.is_none_or(|since| since.elapsed() < ENDING_PATIENCE);
            let last_pages = if patient { LAST_PAGES } else { MOST_LAST_PAGES };
            self.copying.ending_since = (long && left > 0).then(|| ending_since.unwrap_or(now));
            if left >= COPY_PAGES || (long && left > last_pages) {
                self.copying.running = true;
                disk.ask(Job::Checkpoint);
            } else if long && left > 0 {
                disk::copy_wal(&self.db)?;
            }
            Ok(())
        });
        let Err(error) = copied else { return Ok(()) };
        let error = JournalError::sqlite(&self.options.path, "copy the WAL into", error);
        self.copying.look_at = now + COPY_PAUSE;
        if error.is_retryable() { Ok(()) } else { Err(error) }
    }

    /// Commits with an fsync, which makes everything committed so far durable, and only then says
    /// so.
    pub(in crate::journal) fn flush(&mut self) -> Result<(), JournalError> {
        let failed = |error| JournalError::sqlite(&self.options.path, "sync", error);
        let resume_lsn = self.resume_lsn();
        self.db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let marked = self
            .db
            .prepare_cached(MARK_DURABLE)
            .and_then(|mut mark| mark.execute([resume_lsn.0 as i64]));
        self.db.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        marked.map_err(failed)?;
        self.dirty_since = None;
        for reply in self.syncing.take().into_iter().flat_map(|syncing| syncing.replies) {
            let _ = reply.send(Ok(()));
        }
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
        if self.copying.ending_since.is_some_and(|since| since.elapsed() < ENDING_PATIENCE) {
            // Looked at again even if nothing more is written.
            self.copying.grown = true;
            self.prune_at = now + STEP_LEAST;
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
