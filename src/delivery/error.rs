//! What stops a dispatcher. A failed attempt does not: it is retried.

use std::fmt;

use crate::journal::JournalError;

use super::guard::Refusal;

/// A dispatcher cannot start or go on. Displays one sentence with its cause.
#[derive(Debug)]
pub struct DeliveryError {
    /// The endpoint's name, once it is known.
    endpoint: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Journal(JournalError),
    Client(reqwest::Error),
    Tls(rustls::Error),
    Url(&'static str),
    Refused(Refusal),
}

impl DeliveryError {
    fn new(kind: Kind) -> DeliveryError {
        DeliveryError { endpoint: None, kind }
    }

    pub(super) fn journal(error: JournalError) -> DeliveryError {
        DeliveryError::new(Kind::Journal(error))
    }

    pub(super) fn client(error: reqwest::Error) -> DeliveryError {
        DeliveryError::new(Kind::Client(error.without_url()))
    }

    pub(super) fn tls(error: rustls::Error) -> DeliveryError {
        DeliveryError::new(Kind::Tls(error))
    }

    pub(super) fn url(problem: &'static str) -> DeliveryError {
        DeliveryError::new(Kind::Url(problem))
    }

    pub(super) fn refused(refusal: Refusal) -> DeliveryError {
        DeliveryError::new(Kind::Refused(refusal))
    }

    pub(super) fn of(mut self, endpoint: &str) -> DeliveryError {
        self.endpoint = Some(endpoint.to_owned());
        self
    }

    /// The endpoint's options are wrong: starting again will not help.
    pub fn is_configuration(&self) -> bool {
        match &self.kind {
            Kind::Journal(error) => error.is_unknown_start(),
            _ => true,
        }
    }

    /// Trying again later can help.
    pub fn is_retryable(&self) -> bool {
        matches!(&self.kind, Kind::Journal(error) if error.is_retryable())
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.endpoint {
            write!(f, "endpoint `{endpoint}`: ")?;
        }
        match &self.kind {
            Kind::Journal(error) => write!(f, "{error}"),
            Kind::Client(error) => write!(f, "the HTTP client cannot be set up: {error}"),
            Kind::Tls(error) => write!(f, "TLS cannot be set up: {error}"),
            Kind::Url(problem) => write!(f, "its `url` {problem}"),
            Kind::Refused(refusal) => {
                write!(f, "its `url` names {refusal}; {}", refusal.remedy())
            }
        }
    }
}

impl std::error::Error for DeliveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Journal(error) => Some(error),
            Kind::Client(error) => Some(error),
            Kind::Tls(error) => Some(error),
            Kind::Url(_) | Kind::Refused(_) => None,
        }
    }
}
