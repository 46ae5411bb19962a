//! What the dispatcher reads from the journal.

use super::*;

/// Deliveries asked for at a time, where a parcel does not hold more.
const DUE_EVENTS: usize = 1_024;

impl Dispatcher {
    pub(super) fn fetch_page(&mut self) -> Reply<Page> {
        Box::pin(self.intake.read(self.journal.clone(), self.window.taken()))
    }

    pub(super) fn found_page(
        &mut self,
        found: Result<Page, JournalError>,
    ) -> Result<(), DeliveryError> {
        match found {
            Ok(page) => {
                if let Some(gone) = self.intake.found(page) {
                    self.window.lose(gone);
                }
                Ok(())
            }
            Err(error) => self.pause(error, "read events"),
        }
    }

    pub(super) fn fetch_due(&mut self) -> Reply<Due> {
        let (journal, endpoint) = (self.journal.clone(), self.endpoint);
        let until_ms = self.retries.until_ms(self.now_ms());
        let except = self.retries.begin_fetch();
        let parcel = self.window.limits().events;
        if self.ordering == Ordering::Strict {
            return Box::pin(async move { journal.due_in_order(endpoint, until_ms, parcel).await });
        }
        let limit = (self.slots * parcel).clamp(8, DUE_EVENTS).max(parcel);
        Box::pin(async move { journal.due_except(endpoint, until_ms, limit, &except).await })
    }

    pub(super) fn found_due(
        &mut self,
        found: Result<Due, JournalError>,
    ) -> Result<(), DeliveryError> {
        match found {
            Ok(due) => {
                if self.retries.found(due) {
                    self.window.nothing_parked();
                }
                Ok(())
            }
            Err(error) => {
                self.retries.found_nothing(self.now_ms());
                self.pause(error, "read due retries")
            }
        }
    }

    /// An error that may pass is waited out; nothing is lost meanwhile.
    pub(super) fn pause(&mut self, error: JournalError, doing: &str) -> Result<(), DeliveryError> {
        if !error.is_retryable() {
            return Err(DeliveryError::journal(error).of(&self.name));
        }
        tracing::warn!(endpoint = &*self.name, %error, "cannot {doing}; trying again");
        self.journal_pause = Some(Instant::now() + JOURNAL_PAUSE);
        Ok(())
    }

    pub(super) fn is_paused(&mut self, now: Instant) -> bool {
        self.journal_pause = self.journal_pause.filter(|&until| now < until);
        self.journal_pause.is_some()
    }
}
