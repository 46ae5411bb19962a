//! How the journal learns of what came of requests.

use super::*;

use crate::journal::OutcomeKind;

impl Dispatcher {
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
                || self.window.waits_behind() > 0
                || self.window.unsettled() >= self.settles_at()
                || self.gathering_since.is_none_or(|since| now >= since + LINGER);
        }
        if told != Stop::Run && !self.attempts.is_empty() {
            return true;
        }
        self.is_behind() && (told != Stop::Run || now >= self.saved_at + SAVE_CURSOR_EVERY)
    }

    /// How many outcomes are enough for a settlement: three quarters of what may be on its way, so
    /// that as much can go out as long as it is being written down.
    fn settles_at(&self) -> usize {
        (self.slots * self.window.limits().events * 3).div_ceil(4)
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
                Arc::new(Settlement {
                    endpoint: self.endpoint,
                    cursor: known.cursor,
                    sequence: known.sequence,
                    in_flight: known.in_flight,
                    outcomes: known.outcomes,
                    parks: known.parks,
                    attempts: std::mem::take(&mut self.attempts),
                    failing_told: self.health.is_told(),
                })
            }
        };
        self.settlement = Some(Arc::clone(&settlement));
        self.disabling = self.disable.is_some();
        let (journal, endpoint, disable) =
            (self.journal.clone(), self.endpoint, self.disable.clone());
        Box::pin(async move {
            // First, for it may be done twice: should one of the two fail, both are repeated, and a
            // settlement that was committed must not be.
            if disable.is_some() {
                journal.set_disabled(endpoint, disable.as_deref()).await?;
            }
            journal.settle(settlement).await
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
        self.saved_cursor = self.saved_cursor.max(settlement.cursor);
        self.saved_sequence = settlement.sequence;
        self.saved_in_flight = !settlement.in_flight.is_empty();
        self.saved_at = Instant::now();
        self.window.committed(&settled.freed_lanes, settled.next_due_ms.is_some());
        let outcomes = &settlement.outcomes;
        let dues_ms = outcomes.iter().filter_map(|outcome| match outcome.kind {
            OutcomeKind::Waiting { due_at_ms, .. } => Some(due_at_ms),
            OutcomeKind::Succeeded | OutcomeKind::Dead { .. } => None,
        });
        // Those that failed behind another one were on their way, too.
        let tried = settlement.parks.iter().filter(|park| park.attempts > 0);
        let seqs = outcomes.iter().map(|outcome| outcome.seq).chain(tried.map(|park| park.seq));
        self.retries.committed(seqs, dues_ms, &settled, self.now_ms());
        Ok(())
    }

    /// Whether the cursor should be saved, now or in a while, if nothing else is to be written down.
    pub(super) fn is_behind(&self) -> bool {
        self.window.cursor() > self.saved_cursor && !self.intake.is_resting()
    }

    /// Whether all that was taken is done with and written down. Then the cursor is the only thing
    /// about the stream that can change without an event for the endpoint, and the journal moves it
    /// on by itself, with those of all others that rest.
    pub(super) fn may_rest(&self) -> bool {
        self.intake.is_idle()
            && !self.intake.is_resting()
            && self.settlement.is_none()
            && self.window.is_empty()
            && self.window.counted() == self.saved_sequence
            && !self.saved_in_flight
            && self.saved_cursor >= self.replay_until
    }

    /// Takes nothing from the stream any more; the cursor is this dispatcher's business again.
    pub(super) fn leave_stream(&mut self) {
        let Some((through, saved)) = self.intake.leave() else { return };
        self.saved_cursor = self.saved_cursor.max(saved);
        if let Some(through) = through {
            self.window.pass(through);
        }
    }

    /// Whether everything sent is written down, and how far the stream was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.window.in_flight() == 0
            && self.settlement.is_none()
            && self.disable.is_none()
            && self.attempts.is_empty()
            && !self.window.has_news()
            && self.window.cursor() <= self.saved_cursor
    }
}
