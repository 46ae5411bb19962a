//! What is pending, committed and published.

use std::collections::VecDeque;
use std::time::Instant;

use tracing::{info, warn};

use crate::clock::now_ms;
use crate::journal::append;
use crate::journal::emit::{self, Emission};
use crate::journal::error::JournalError;
use crate::journal::model::{Append, Seq};
use crate::journal::queue::Command;
use crate::journal::stored::StoredBatch;

use super::{Answer, Writer};

/// What a transaction did.
struct Done {
    answers: Vec<Answer>,
    /// The reports, as events.
    reported: Option<StoredBatch>,
    /// The number of each append's first event.
    starts: Vec<i64>,
}

impl Writer {
    /// Commits what is pending and the commands in one transaction. When that fails, each of them
    /// gets one of its own, so that nobody suffers for another's fault.
    pub(super) fn commit(&mut self, commands: Vec<Command>) -> Result<(), JournalError> {
        let writing = self.retry.is_none_or(|retry| retry.at <= Instant::now());
        let (mut appends, mut reports) = (VecDeque::new(), VecDeque::new());
        if writing {
            appends = std::mem::take(&mut self.pending);
            reports = std::mem::take(&mut self.reports);
        }
        if appends.is_empty() && reports.is_empty() && commands.is_empty() {
            return Ok(());
        }
        if let Ok(done) = self.transaction(&appends, &reports, &commands) {
            let answers = self.publish(done, appends);
            for (command, answer) in commands.into_iter().zip(answers) {
                self.answer(command, Ok(answer));
            }
            return Ok(());
        }
        let (no_appends, no_reports) = (VecDeque::new(), VecDeque::new());
        for command in commands {
            let alone = self.transaction(&no_appends, &no_reports, std::slice::from_ref(&command));
            let answer = alone.map(|mut done| done.answers.pop().unwrap_or(Answer::Done));
            self.dirty_since.get_or_insert_with(Instant::now);
            self.answer(command, answer);
        }
        if !appends.is_empty() {
            match self.transaction(&appends, &no_reports, &[]) {
                Ok(done) => drop(self.publish(done, appends)),
                Err(error) => {
                    self.pending = appends;
                    self.reports = reports;
                    return self.failed(error);
                }
            }
        }
        if !reports.is_empty() {
            match self.transaction(&no_appends, &reports, &[]) {
                Ok(done) => drop(self.publish(done, no_appends)),
                Err(error) if error.is_retryable() => {
                    self.reports = reports;
                    return self.failed(error);
                }
                Err(error) => {
                    warn!(%error, "walhook.* events cannot be written: they are not sent")
                }
            }
        }
        Ok(())
    }

    /// One transaction.
    fn transaction(
        &mut self,
        appends: &VecDeque<Append>,
        reports: &VecDeque<Emission>,
        commands: &[Command],
    ) -> Result<Done, JournalError> {
        let now_ms = now_ms();
        let identity = match reports.is_empty() {
            true => None,
            false => self.shared.known().identity.clone(),
        };
        self.atomically("write to", |writer| {
            let mut answers = Vec::with_capacity(commands.len());
            for command in commands {
                answers.push(writer.apply(command, now_ms)?);
            }
            let Writer { db, written, .. } = writer;
            let reported = emit::emit(db, written, reports, identity.as_ref(), now_ms)?;
            let mut starts = Vec::with_capacity(appends.len());
            for append in appends {
                starts.push(written.last_seq + 1);
                append::append(db, written, append, now_ms)?;
            }
            if !appends.is_empty() {
                append::store_checkpoint(db, written)?;
            }
            Ok(Done { answers, reported, starts })
        })
    }

    /// Tells everyone about committed events; gives the answers back.
    fn publish(&mut self, done: Done, appends: VecDeque<Append>) -> Vec<Answer> {
        let Done { answers, reported, starts } = done;
        self.dirty_since.get_or_insert_with(Instant::now);
        if appends.is_empty() && reported.is_none() {
            return answers;
        }
        if let Some(batch) = reported {
            self.shared.tail.push(batch);
        }
        self.appended += appends.len() as u64;
        for (start, append) in starts.into_iter().zip(appends) {
            if !append.events.is_empty() {
                self.shared.tail.push(StoredBatch::new(Seq(start), append.events));
            }
        }
        let mut known = self.shared.known();
        known.checkpoint = self.written.checkpoint;
        let recovered = known.trouble.take().is_some();
        drop(known);
        self.shared.tail.publish(Seq(self.written.last_seq));
        self.pass_soon();
        self.retry = None;
        if recovered {
            info!("the journal can be written again");
        }
        answers
    }
}
