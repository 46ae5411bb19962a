//! Why the daemon ended.

use std::error::Error;
use std::fmt;

use crate::capture::CaptureError;
use crate::delivery::DeliveryError;
use crate::event::RuleError;
use crate::journal::JournalError;
use crate::source::SourceError;

/// Why the daemon ended other than by being told to.
#[derive(Debug)]
pub struct DaemonError(Kind);

#[derive(Debug)]
enum Kind {
    Capture(CaptureError),
    Rule(RuleError),
    Journal(JournalError),
    Delivery(DeliveryError),
    Source(SourceError),
    NoSuchEndpoint { name: String, known: String },
    Internal(String),
}

impl DaemonError {
    pub(super) fn internal(message: impl Into<String>) -> DaemonError {
        DaemonError(Kind::Internal(message.into()))
    }

    pub(super) fn no_such_endpoint<'a>(
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> DaemonError {
        let known = known.collect::<Vec<_>>().join(", ");
        DaemonError(Kind::NoSuchEndpoint { name: name.to_owned(), known })
    }

    /// Whether going on would lose changes, or send those of another database, so that only a
    /// person can decide (exit code 3).
    pub fn is_refusal(&self) -> bool {
        matches!(&self.0, Kind::Capture(error) if error.is_refusal())
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
            Kind::Rule(error) => error.fmt(f),
            Kind::Journal(error) => error.fmt(f),
            Kind::Delivery(error) => error.fmt(f),
            Kind::Source(error) => error.fmt(f),
            Kind::NoSuchEndpoint { name, known } => {
                write!(f, "no endpoint is called {name:?}: the configuration names {known}")
            }
            Kind::Internal(message) => write!(f, "internal error, please report it: {message}"),
        }
    }
}

impl Error for DaemonError {}

impl From<CaptureError> for DaemonError {
    fn from(error: CaptureError) -> DaemonError {
        DaemonError(Kind::Capture(error))
    }
}

impl From<RuleError> for DaemonError {
    fn from(error: RuleError) -> DaemonError {
        DaemonError(Kind::Rule(error))
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
