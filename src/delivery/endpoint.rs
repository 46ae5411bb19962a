//! What an endpoint is told about itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use crate::event::EventFilter;
use crate::journal::Start;

use super::retry::RetrySchedule;
use super::signature::Signer;

/// In which order an endpoint gets its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// Events of one record one after another, others side by side. What stands behind a failing
    /// one waits for it.
    #[default]
    Record,
    /// All events one after another, each held back until the one before succeeded or died.
    Strict,
    /// As they come.
    None,
}

impl FromStr for Ordering {
    type Err = UnknownOrdering;

    fn from_str(text: &str) -> Result<Ordering, UnknownOrdering> {
        match text {
            "record" => Ok(Ordering::Record),
            "strict" => Ok(Ordering::Strict),
            "none" => Ok(Ordering::None),
            _ => Err(UnknownOrdering),
        }
    }
}

/// The text names no ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOrdering;

impl fmt::Display for UnknownOrdering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an ordering: record, strict or none")
    }
}

impl std::error::Error for UnknownOrdering {}

/// An endpoint: a URL with its keys, limits and filter.
#[derive(Clone)]
pub struct EndpointOptions {
    /// Its name, under which the journal knows it.
    pub name: String,
    /// Where requests go. User and password in it become basic authorization.
    pub url: Url,
    /// Which events it gets.
    pub filter: EventFilter,
    /// One for each signature scheme.
    pub signers: Vec<Signer>,
    /// In which order it gets them.
    pub ordering: Ordering,
    /// How many requests may be on their way at once, at least 1.
    pub concurrency: usize,
    /// For one request, from connecting to the end of the answer.
    pub timeout: Duration,
    /// For connecting alone.
    pub connect_timeout: Duration,
    /// When a failed delivery is tried again.
    pub retry: RetrySchedule,
    /// Sent with every request besides walhook's own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where it starts when it is first seen.
    pub start: Start,
    /// Whether its URL may lead into the private network.
    pub private_network: bool,
    /// Whether the proxy that the environment names is used.
    pub system_proxy: bool,
}

impl EndpointOptions {
    /// An endpoint with all defaults: every event, unsigned, in order per record, 32 requests at
    /// once, 15 s for one and 5 s of them for connecting, no private network, no proxy.
    pub fn new(name: impl Into<String>, url: Url) -> EndpointOptions {
        EndpointOptions {
            name: name.into(),
            url,
            filter: EventFilter::default(),
            signers: Vec::new(),
            ordering: Ordering::Record,
            concurrency: 32,
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            retry: RetrySchedule::default(),
            headers: Vec::new(),
            start: Start::Now,
            private_network: false,
            system_proxy: false,
        }
    }
}

impl fmt::Debug for EndpointOptions {
    /// Leaves out whatever may hold a secret: all of the URL but scheme and host, header values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("EndpointOptions")
            .field("name", &self.name)
            .field("scheme", &self.url.scheme())
            .field("host", &self.url.host_str())
            .field("filter", &self.filter)
            .field("signers", &self.signers)
            .field("ordering", &self.ordering)
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}
