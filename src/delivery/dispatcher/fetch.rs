//! What the dispatcher reads from the journal.

use super::*;

impl Dispatcher {
    pub(super) fn fetch_page(&mut self) -> Reply<Arc<StoredBatch>> {
        let (journal, after) = (self.journal.clone(), self.window.taken());
        Box::pin(async move { journal.page(after, intake::PAGE_EVENTS, intake::PAGE_BYTES).await })
    }

    pub(super) fn found_page(
        &mut self,
        found: Result<Arc<StoredBatch>, JournalError>,
    ) -> Result<(), DeliveryError> {
        match found {
            Ok(batch) => {
                self.intake.found(batch);
                Ok(())
            }
            Err(error) => self.pause(error, "read events"),
        }
    }

    pub(super) fn fetch_due(&mut self) -> Reply<Due> {
        let (journal, endpoint) = (self.journal.clone(), self.endpoint);
        let until_ms = self.retries.until_ms(unix_ms(SystemTime::now()));
        let (except, limit) = (self.retries.begin_fetch(), self.slots.max(8));
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
                self.retries.found_nothing(unix_ms(SystemTime::now()));
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
