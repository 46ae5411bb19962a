//! What came of a request, and how the journal learns of it.

use super::*;

use crate::delivery::attempt::Verdict;
use crate::delivery::breaker::Turn;
use crate::journal::OutcomeKind;

impl Dispatcher {
    /// A request came back.
    pub(super) fn landed(&mut self, landing: Landing) {
        let Landing { launch, attempt } = landing;
        let now = Instant::now();
        let ended = match attempt.verdict {
            Verdict::Succeeded | Verdict::Partly { .. } => {
                if self.breaker.succeeded() == Turn::Closed {
                    tracing::info!(endpoint = &*self.name, "the endpoint accepts events again");
                }
                Ended::Succeeded
            }
            Verdict::Retry { after } => self.failed(&launch, &attempt, after, now),
            Verdict::Split | Verdict::Abort => self.failed(&launch, &attempt, None, now),
            Verdict::Disable { .. } => {
                let reason = attempt.record.error.clone().unwrap_or_default();
                tracing::warn!(endpoint = &*self.name, reason, "the endpoint is disabled");
                self.disabled = true;
                self.disable = Some(reason);
                // Kept as waiting, so that it is sent first when the endpoint is enabled again.
                let due_at_ms = unix_ms(SystemTime::now());
                Ended::Waiting { due_at_ms, attempts: launch.number }
            }
        };
        self.gathering_since.get_or_insert(now);
        self.attempts.push(attempt.record);
        if launch.parked {
            self.window.finish_parked(launch.event.seq, launch.event.lanes, ended);
        } else {
            self.window.finish(launch.event.seq, ended);
        }
    }

    fn failed(
        &mut self,
        launch: &Launch,
        attempt: &Attempt,
        after: Option<Duration>,
        now: Instant,
    ) -> Ended {
        let error = attempt.record.error.as_deref().unwrap_or_default();
        tracing::debug!(
            endpoint = &*self.name,
            event = %launch.event.id,
            attempt = launch.number,
            error,
            "an attempt failed"
        );
        self.complain(now, error);
        if let Turn::Opened { cool_down } = self.breaker.failed(launch.probe, now) {
            tracing::warn!(
                endpoint = &*self.name,
                error,
                "nothing but failures: sending nothing for {cool_down:?}"
            );
        }
        if let Some(after) = after {
            self.breaker.keep_quiet(now, after);
        }
        let attempts = launch.number;
        match self.schedule.delay(attempts, &mut self.rng) {
            Some(delay) => {
                // Asked for less, it still gets the schedule's time: it would soon be used up.
                let delay = after.map_or(delay, |after| delay.max(after));
                let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                let due_at_ms = unix_ms(SystemTime::now()).saturating_add(delay_ms);
                Ended::Waiting { due_at_ms, attempts }
            }
            None => {
                tracing::warn!(
                    endpoint = &*self.name,
                    event = %launch.event.id,
                    name = &*launch.event.name,
                    attempts,
                    error,
                    "a delivery is dead: the retry schedule is at its end"
                );
                Ended::Dead { attempts }
            }
        }
    }

    /// Says at once that the endpoint fails, and then now and then that it still does: an operator
    /// wants to know, but not of every attempt.
    fn complain(&mut self, now: Instant, error: &str) {
        self.failures_unsaid += 1;
        if self.complained_at.is_some_and(|at| now < at + COMPLAIN_EVERY) {
            return;
        }
        tracing::warn!(
            endpoint = &*self.name,
            failures = self.failures_unsaid,
            error,
            "the endpoint does not take events; they are sent again on its schedule"
        );
        self.complained_at = Some(now);
        self.failures_unsaid = 0;
    }

    /// Whether a settlement should be sent now, none being on its way.
    pub(super) fn wants_to_settle(&mut self, now: Instant, told: Stop) -> bool {
        if self.is_paused(now) {
            return false;
        }
        if self.settlement.is_some() || self.disable.is_some() {
            return true;
        }
        if self.window.has_news() {
            // Under load outcomes gather for a moment, unless someone waits for them.
            return told != Stop::Run
                || self.window.in_flight() == 0
                || self.window.held() > 0
                || self.window.unsettled() >= self.slots.div_ceil(2)
                || self.gathering_since.is_none_or(|since| now >= since + LINGER);
        }
        self.window.cursor() > self.saved_cursor
            && (told != Stop::Run || now >= self.saved_at + SAVE_CURSOR_EVERY)
    }

    /// Writes down what is known; a settlement that failed is sent again first.
    pub(super) fn settle(&mut self) -> Reply<Settled> {
        let settlement = match self.settlement.take() {
            Some(again) => again,
            None => {
                self.gathering_since = None;
                let known = self.window.settle();
                let failed = known.outcomes.iter().filter_map(|outcome| match outcome.kind {
                    OutcomeKind::Waiting { .. } => Some(outcome.seq),
                    OutcomeKind::Succeeded | OutcomeKind::Dead { .. } => None,
                });
                self.retries.parking(failed.chain(known.parks.iter().map(|park| park.seq)));
                Settlement {
                    endpoint: self.endpoint,
                    cursor: known.cursor,
                    sequence: 0,
                    in_flight: known.in_flight,
                    outcomes: known.outcomes,
                    parks: known.parks,
                    attempts: std::mem::take(&mut self.attempts),
                }
            }
        };
        self.settlement = Some(settlement.clone());
        self.disabling = self.disable.is_some();
        let (journal, endpoint, disable) =
            (self.journal.clone(), self.endpoint, self.disable.clone());
        Box::pin(async move {
            let settled = journal.settle(settlement).await?;
            if disable.is_some() {
                journal.set_disabled(endpoint, disable.as_deref()).await?;
            }
            Ok(settled)
        })
    }

    /// The answer to [`settle`](Dispatcher::settle).
    pub(super) fn settled(
        &mut self,
        settled: Result<Settled, JournalError>,
    ) -> Result<(), DeliveryError> {
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => return self.pause(error, "write down what was delivered"),
        };
        let Some(settlement) = self.settlement.take() else { return Ok(()) };
        // A refusal that came meanwhile is still to be written down.
        if self.disabling {
            self.disable = None;
        }
        self.saved_cursor = settlement.cursor;
        self.saved_at = Instant::now();
        self.window.committed(&settled.freed_lanes, settled.next_due_ms.is_some());
        let outcomes = &settlement.outcomes;
        let dues_ms = outcomes.iter().filter_map(|outcome| match outcome.kind {
            OutcomeKind::Waiting { due_at_ms, .. } => Some(due_at_ms),
            OutcomeKind::Succeeded | OutcomeKind::Dead { .. } => None,
        });
        let seqs = outcomes.iter().map(|outcome| outcome.seq);
        self.retries.committed(seqs, dues_ms, &settled, unix_ms(SystemTime::now()));
        Ok(())
    }

    /// Whether everything sent is written down, and how far the stream was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.window.in_flight() == 0
            && self.settlement.is_none()
            && self.disable.is_none()
            && !self.window.has_news()
            && self.window.cursor() <= self.saved_cursor
    }
}
