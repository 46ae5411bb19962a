//! Waiting: for answers, for the next attempt, for the end; never beyond an order to stop.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::postgres::error::{PgError, Stage};
use crate::postgres::lsn::Lsn;

use super::change::ChangeSink;
use super::error::CaptureError;
use super::progress::Progress;

/// Between attempts to connect, at most.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// How long an answer from the catalog may take.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How soon an order to stop is noticed while waiting.
const STOP_NOTICED_EVERY: Duration = Duration::from_millis(50);
/// How long an answer is still waited for then.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long the end waits for room for what was taken last.
const SETTLE_GRACE: Duration = Duration::from_secs(5);

/// Waits for the answer to a question, but not for ever (a lock on the catalog, a peer that is
/// gone): the server hears nothing from us meanwhile.
pub(super) fn answer<T>(
    runtime: &Handle,
    progress: &Progress,
    question: impl Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    answer_within(ANSWER_WITHIN, runtime, progress, question)
}

/// The same for a question that may take so long.
pub(super) fn answer_within<T>(
    limit: Duration,
    runtime: &Handle,
    progress: &Progress,
    question: impl Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    let question = async {
        let answer = tokio::time::timeout(limit, question).await;
        answer.unwrap_or_else(|_| Err(no_answer()))
    };
    unless_stopped(runtime, progress, question)
}

pub(super) fn ask<T>(
    runtime: &Handle,
    progress: &Progress,
    doing: &'static str,
    question: impl Future<Output = Result<T, PgError>>,
) -> Result<T, CaptureError> {
    answer(runtime, progress, question).map_err(CaptureError::while_doing(doing))
}

/// Waits for the answer to a question, but not much beyond the order to stop.
pub(super) fn unless_stopped<T>(
    runtime: &Handle,
    progress: &Progress,
    question: impl Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    let stopped = async {
        progress.stopping().await;
        tokio::time::sleep(LAST_CHANCE).await;
    };
    runtime.block_on(async {
        tokio::select! {
            biased;
            answer = question => answer,
            () = stopped => Err(no_answer()),
        }
    })
}

fn no_answer() -> PgError {
    PgError::timed_out("waited long enough", Stage::Command)
}

/// Hands over what was gathered, as far as there is room soon.
pub(super) fn settle<S: ChangeSink>(sink: &mut S) {
    let deadline = Instant::now() + SETTLE_GRACE;
    while Instant::now() < deadline {
        if !matches!(sink.hand_over(deadline), Ok(false)) {
            return;
        }
    }
}

/// Counts how often the server failed at the same transaction in the same way.
#[derive(Default)]
pub(super) struct Stuck {
    at: Option<(Lsn, String)>,
    times: u64,
}

impl Stuck {
    /// How often this happened now, in a row, and at which transaction.
    pub(super) fn times(&mut self, error: &CaptureError) -> Option<(u64, Lsn)> {
        let at = error.failed_at().map(|(lsn, code)| (lsn, code.to_owned()));
        self.times = if at.is_some() && at == self.at { self.times + 1 } else { 1 };
        self.at = at;
        self.at.as_ref().map(|(lsn, _)| (self.times, *lsn))
    }
}

/// Grows from a quarter of a second to [`LONGEST_DELAY`].
#[derive(Default)]
pub(super) struct Delay(u32);

impl Delay {
    pub(super) fn next(&mut self) -> Duration {
        let delay = Duration::from_millis(250 << self.0.min(6)).min(LONGEST_DELAY);
        self.0 += 1;
        delay
    }
}

pub(super) fn sleep_unless_stopped(wait: Duration, progress: &Progress) {
    let until = Instant::now() + wait;
    while !progress.is_stopping() && Instant::now() < until {
        thread::sleep(STOP_NOTICED_EVERY.min(until.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_holds_up_no_stop() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let progress = Progress::default();
        progress.stop();
        let started = Instant::now();
        let question = std::future::pending::<Result<(), PgError>>();
        let error = ask(runtime.handle(), &progress, "asking", question).unwrap_err();
        assert!(error.is_connection() && error.is_retryable(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        // One that does is heard all the same.
        ask(runtime.handle(), &progress, "asking", async { Ok(()) }).unwrap();
    }
}
