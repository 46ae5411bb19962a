//! Why the daemon ended.

use std::error::Error;
use std::fmt;

use crate::capture::{CaptureError, LeaveOut, REPLACE, Transaction};
use crate::delivery::DeliveryError;
use crate::event::RuleError;
use crate::journal::JournalError;
use crate::postgres::lsn::Lsn;
use crate::source::SourceError;

/// Why the daemon ended other than by being told to.
#[derive(Debug)]
pub struct DaemonError(Kind);

#[derive(Debug)]
enum Kind {
    Capture(CaptureError),
    Rule { error: RuleError, row_lsn: Lsn, leave_out: LeaveOut },
    Journal(JournalError),
    Delivery(DeliveryError),
    Source(SourceError),
    NoSuchEndpoint { name: String, known: String },
    OtherCapture,
    Internal(String),
}

impl DaemonError {
    pub(super) fn internal(message: impl Into<String>) -> DaemonError {
        DaemonError(Kind::Internal(message.into()))
    }

    /// A change of this transaction makes no event though it should.
    pub(super) fn rule(error: RuleError, transaction: &Transaction, slot: &str) -> DaemonError {
        let leave_out = LeaveOut { slot: slot.to_owned(), commit_lsn: transaction.commit_lsn };
        DaemonError(Kind::Rule { error, row_lsn: transaction.row_lsn, leave_out })
    }

    pub(super) fn no_such_endpoint<'a>(
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> DaemonError {
        let known = known.collect::<Vec<_>>().join(", ");
        DaemonError(Kind::NoSuchEndpoint { name: name.to_owned(), known })
    }

    /// The journal's events come from a slot, and they are to come from an outbox.
    pub(super) fn other_capture() -> DaemonError {
        DaemonError(Kind::OtherCapture)
    }

    /// Whether going on would lose changes, or send those of another database, so that only a
    /// person can decide (exit code 3).
    pub fn is_refusal(&self) -> bool {
        match &self.0 {
            Kind::Capture(error) => error.is_refusal(),
            Kind::Rule { error, .. } => error.is_invalid_utf8(),
            Kind::OtherCapture => true,
            _ => false,
        }
    }

    /// Whether the source was never set up, or the configuration cannot work (exit code 2).
    pub fn is_configuration(&self) -> bool {
        match &self.0 {
            Kind::Capture(error) => error.is_configuration(),
            Kind::Source(error) => !error.findings().is_empty(),
            Kind::NoSuchEndpoint { .. } => true,
            Kind::Delivery(error) => error.is_configuration(),
            _ => false,
        }
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Capture(error) => error.fmt(f),
            Kind::Rule { error, row_lsn, leave_out } if error.is_invalid_utf8() => write!(
                f,
                "{error} (its record begins at {row_lsn}); correct the row, so that it does not \
                 come again; for what is in the log, {REPLACE}; or, {leave_out}"
            ),
            Kind::Rule { error, .. } => error.fmt(f),
            Kind::Journal(error) => error.fmt(f),
            Kind::Delivery(error) => error.fmt(f),
            Kind::Source(error) => error.fmt(f),
            Kind::NoSuchEndpoint { name, known } => {
                write!(f, "no endpoint is called {name:?}: the configuration names {known}")
            }
            Kind::OtherCapture => f.write_str(
                "the journal's events come from a replication slot, and no outbox tells what was \
                 changed since then: set source.capture = \"replication\" again, or give the outbox a \
                 journal of its own with journal.path (changes in between are lost, or told twice)",
            ),
            Kind::Internal(message) => write!(f, "internal error, please report it: {message}"),
        }
    }
}

impl Error for DaemonError {}

impl From<CaptureError> for DaemonError {
    fn from(error: CaptureError) -> DaemonError {
        // What the sink of the changes said is an error of the daemon already.
        let error = match error.into_sink_error() {
            Err(error) => return DaemonError(Kind::Capture(error)),
            Ok(error) => error,
        };
        match error.downcast::<DaemonError>() {
            Ok(error) => *error,
            Err(error) => DaemonError::internal(error.to_string()),
        }
    }
}

impl From<JournalError> for DaemonError {
    fn from(error: JournalError) -> DaemonError {
        DaemonError(Kind::Journal(error))
    }
}

impl From<DeliveryError> for DaemonError {
    fn from(error: DeliveryError) -> DaemonError {
        DaemonError(Kind::Delivery(error))
    }
}

impl From<SourceError> for DaemonError {
    fn from(error: SourceError) -> DaemonError {
        DaemonError(Kind::Source(error))
    }
}
