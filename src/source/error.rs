//! Why the database could not be prepared or cleaned up.

use std::fmt;
use std::time::Duration;

use super::Finding;
use crate::postgres::error::PgError;

/// Preparing or cleaning up the database failed.
#[derive(Debug)]
pub struct SourceError(Kind);

#[derive(Debug)]
enum Kind {
    Postgres(PgError),
    Refused(Vec<Finding>),
    Waited { what: String, whom: Option<String>, waited: Duration },
}

impl SourceError {
    pub(super) fn refused(findings: Vec<Finding>) -> SourceError {
        SourceError(Kind::Refused(findings))
    }

    pub(super) fn waited(what: &str, whom: Option<String>, waited: Duration) -> SourceError {
        SourceError(Kind::Waited { what: what.to_owned(), whom, waited })
    }

    /// Everything that stands in the way, where walhook refused to begin; nothing was done then.
    pub fn findings(&self) -> &[Finding] {
        match &self.0 {
            Kind::Refused(findings) => findings,
            _ => &[],
        }
    }

    /// Whether it was given up because of somebody else's open transaction.
    pub fn is_timed_out(&self) -> bool {
        matches!(self.0, Kind::Waited { .. })
    }

    pub(super) fn is_undefined_object(&self) -> bool {
        matches!(&self.0, Kind::Postgres(error) if error.is_undefined_object())
    }

    /// Whether another session has dropped the outbox: its schema (3F000), tables (42P01) or functions
    /// (42883) are gone, or it did so at this very moment.
    pub(super) fn is_outbox_gone(&self) -> bool {
        let Kind::Postgres(error) = &self.0 else { return false };
        matches!(error.sqlstate(), Some("3F000" | "42P01" | "42883" | "XX000"))
    }

    /// Whether another session has the slot at this moment (55006).
    pub(super) fn is_slot_in_use(&self) -> bool {
        matches!(&self.0, Kind::Postgres(error) if error.is_slot_in_use())
    }

    /// Whether another session did the same at the same moment: it exists already (42710), one
    /// catalog row was written twice (23505, or XX000 "tuple concurrently updated"), or what was to
    /// be changed is gone (42704).
    pub(super) fn is_lost_race(&self) -> bool {
        let Kind::Postgres(error) = &self.0 else { return false };
        matches!(error.sqlstate(), Some("42710" | "42P06" | "23505" | "XX000" | "42704"))
    }

    /// Whether trying again later may help without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match &self.0 {
            Kind::Postgres(error) => error.is_retryable(),
            Kind::Refused(_) => false,
            Kind::Waited { .. } => true,
        }
    }
}

impl From<PgError> for SourceError {
    fn from(error: PgError) -> SourceError {
        SourceError(Kind::Postgres(error))
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Postgres(error) => error.fmt(f),
            Kind::Refused(findings) => {
                for (i, finding) in findings.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{} {}", finding.subject, finding.sentence)?;
                    if let Some(remedy) = &finding.remedy {
                        write!(f, " ({remedy})")?;
                    }
                }
                Ok(())
            }
            Kind::Waited { what, whom, waited } => {
                write!(f, "gave up after {} s: {what}", waited.as_secs())?;
                match whom {
                    Some(whom) => write!(f, " is waiting for {whom}; see to that, then try again"),
                    None => f.write_str(" did not finish; try again when the server is less busy"),
                }
            }
        }
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Postgres(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}
