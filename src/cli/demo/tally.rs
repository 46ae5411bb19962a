//! What was committed at the source, counted from the results of the commands that did it.

use std::ops::AddAssign;

use serde::Serialize;

/// Changes by kind: of rows, and events that an application announced itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Rows inserted.
    pub(super) created: u64,
    /// Rows updated.
    pub(super) updated: u64,
    /// Rows deleted.
    pub(super) deleted: u64,
    /// Events emitted with `pg_logical_emit_message`.
    pub(super) custom: u64,
}

impl Counts {
    pub(super) fn total(&self) -> u64 {
        self.created + self.updated + self.deleted + self.custom
    }

    /// Whether there is as much of every kind as in `other`, or more.
    pub(super) fn covers(&self, other: &Counts) -> bool {
        self.created >= other.created
            && self.updated >= other.updated
            && self.deleted >= other.deleted
            && self.custom >= other.custom
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.created += other.created;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.custom += other.custom;
    }
}

/// What the traffic did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Transactions committed that changed something.
    pub(super) transactions: u64,
    /// What they changed.
    pub(super) committed: Counts,
    /// Changes made and taken back: nothing of these may ever be delivered.
    pub(super) rolled_back: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.transactions += other.transactions;
        self.committed += other.committed;
        self.rolled_back += other.rolled_back;
    }
}
