//! What can go wrong between walhook and Postgres.

use std::fmt;

/// A request to Postgres failed.
#[derive(Debug)]
pub struct PgError(tokio_postgres::Error);

impl PgError {
    /// A query or statement failed; `context` says which.
    pub(crate) fn query(_context: impl Into<String>, error: tokio_postgres::Error) -> PgError {
        PgError(error)
    }

    /// The SQLSTATE the server gave.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.code().map(|code| code.code())
    }

    /// Retryable.
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// The slot is in use (55006).
    pub fn is_slot_in_use(&self) -> bool {
        self.sqlstate() == Some("55006")
    }

    /// What was named does not exist (42704).
    pub fn is_undefined_object(&self) -> bool {
        self.sqlstate() == Some("42704")
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> PgError {
        PgError(error)
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_db_error() {
            Some(error) => write!(f, "{} (SQLSTATE {})", error.message(), error.code().code()),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for PgError {}
