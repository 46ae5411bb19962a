//! What an endpoint is told about itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use crate::event::{EventCondition, EventFilter, Format};
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
    /// Which of these, by their content; all where there is none.
    pub when: Option<EventCondition>,
    /// What is made of an event.
    pub format: Format,
    /// The method of its requests.
    pub method: Method,
    /// Whether bodies are compressed (gzip).
    pub compress: bool,
    /// One for each signature scheme.
    pub signers: Vec<Signer>,
    /// In which order it gets them.
    pub ordering: Ordering,
    /// How many requests may be on their way at once, at least 1.
    pub concurrency: usize,
    /// How many events go into one request.
    pub batch: BatchOptions,
    /// How many requests may be sent in a time, at most.
    pub rate_limit: Option<RateLimit>,
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
    /// It is disabled after that long of nothing but failures, unless that is `None`.
    pub disable_after: Option<Duration>,
    /// Which addresses its URL may lead to.
    pub networks: Networks,
    /// The proxy its requests go through.
    pub proxy: Option<Url>,
    /// Whom it trusts, and how walhook proves itself to it.
    pub tls: EndpointTls,
}

/// How many events go into one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// At most; 1 means that each event is sent by itself, as an object, not as an array.
    pub max_events: usize,
    /// At most, of bodies as they are sent, unless a single one is larger.
    pub max_bytes: usize,
    /// How long the first event may wait for others.
    pub max_wait: Duration,
}

impl BatchOptions {
    /// Each event by itself.
    pub const SINGLE: BatchOptions =
        BatchOptions { max_events: 1, max_bytes: 1 << 20, max_wait: Duration::ZERO };
}

/// So many requests in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub requests: u32,
    /// Longer than zero.
    pub period: Duration,
}

/// Which addresses an endpoint's URL may lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Whether addresses that do not belong to the public internet are allowed.
    pub private: bool,
    /// Allowed even if they are private.
    pub allow: Vec<IpNet>,
    /// Never allowed.
    pub deny: Vec<IpNet>,
}

/// Whom an endpoint's connections trust, and how walhook proves itself there.
#[derive(Clone, Default)]
pub struct EndpointTls {
    /// Certificate authorities instead of the system's.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// The client's certificate chain and key.
    pub identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
}

impl fmt::Debug for EndpointTls {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTls")
            .field("ca", &self.ca.as_ref().map(Vec::len))
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

impl EndpointOptions {
    /// An endpoint with all defaults: every event, unsigned, in order per record, 32 requests at
    /// once, 15 s for one and 5 s of them for connecting, no private network, no
    /// proxy, disabled after five days of failures.
    pub fn new(name: impl Into<String>, url: Url) -> EndpointOptions {
        EndpointOptions {
            name: name.into(),
            url,
            filter: EventFilter::default(),
            when: None,
            format: Format::Walhook,
            method: Method::POST,
            compress: false,
            signers: Vec::new(),
            ordering: Ordering::Record,
            concurrency: 32,
            batch: BatchOptions::SINGLE,
            rate_limit: None,
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            retry: RetrySchedule::default(),
            headers: Vec::new(),
            start: Start::Now,
            disable_after: Some(Duration::from_secs(5 * 24 * 3600)),
            networks: Networks::default(),
            proxy: None,
            tls: EndpointTls::default(),
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
            .field("when", &self.when)
            .field("format", &self.format)
            .field("method", &self.method)
            .field("compress", &self.compress)
            .field("batch", &self.batch)
            .field("rate_limit", &self.rate_limit)
            .field("disable_after", &self.disable_after)
            .field("networks", &self.networks)
            .field("proxy", &self.proxy.is_some())
            .field("tls", &self.tls)
            .field("signers", &self.signers)
            .field("ordering", &self.ordering)
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}
