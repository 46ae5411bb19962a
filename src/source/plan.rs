//! What would be done, and what is done.

use serde::Serialize;

use super::Finding;

/// One statement, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The statement, without semicolon.
    pub sql: String,
    /// What it is for, as in "create the slot walhook".
    pub reason: String,
}

impl Step {
    pub(super) fn creates_slot(&self) -> bool {
        self.sql.contains("pg_create_logical_replication_slot")
    }

    /// Whether it creates or changes a table's triggers.
    pub(super) fn is_about_triggers(&self) -> bool {
        self.sql.contains("CREATE OR REPLACE TRIGGER")
    }

    /// The step as the subject of a sentence: `the attempt to create the slot walhook`.
    pub(super) fn what(&self) -> String {
        format!("the attempt to {}", self.reason)
    }
}

/// What there is to do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Why nothing may be done; where this is not empty, `steps` is only what would follow.
    pub blocked: Vec<Finding>,
    /// What is to be done.
    pub steps: Vec<Step>,
    /// What is already as it should be.
    pub present: Vec<String>,
    /// What else whoever sets up should know.
    pub notes: Vec<Finding>,
    /// Another session is doing the rest right now: who, and what.
    pub pending: Option<String>,
}

/// What happens while a plan is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step was done.
    Done(Step),
    /// Something was already as it should be.
    Present(String),
    /// Something to know that stands in nobody's way.
    Note(Finding),
    /// A step waits for somebody: whom.
    Waiting(String),
}
