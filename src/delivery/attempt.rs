//! One HTTP request, and what its answer means.
//!
//! `request` makes it, `answer` reads what comes back, `trouble` says why nothing did.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use tokio::time::Instant;
use url::Url;

use crate::clock::unix_ms;
use crate::event::{EventId, Format};
use crate::journal::{AttemptRecord, Seq, StoredEvent};

use super::client::{Client, ClientOptions, Trouble, basic_authorization};
use super::endpoint::EndpointOptions;
use super::error::DeliveryError;
use super::guard::Lookup;
use super::signature::Signer;

mod answer;
mod request;
mod trouble;

use trouble::describe;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("walhook/", env!("CARGO_PKG_VERSION")));

/// Makes the requests of one endpoint.
pub(super) struct Sender {
    /// The endpoint's, for the log.
    name: String,
    client: Client,
    url: Url,
    method: Method,
    format: Format,
    /// Whether a request is an array of events, also where it is an array of one.
    batches: bool,
    compress: bool,
    /// What every request carries.
    headers: Vec<(HeaderName, HeaderValue)>,
    signers: Vec<Signer>,
    timeout: Duration,
}

/// What one request carries.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    /// The events in order, at least one; more only for an endpoint with batches.
    pub(super) events: Vec<Numbered>,
    /// Which try this is, from 1; of several events the highest.
    pub(super) number: u32,
}

/// An event for one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) event: StoredEvent,
    /// Its place among the events that the endpoint wanted, from 1; 0 where it has none.
    pub(super) sequence: u64,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx: the endpoint has it.
    Succeeded,
    /// 2xx, but the endpoint named events of the batch that it wants once more.
    Partly {
        /// Those, all of the parcel's own.
        failed: Vec<EventId>,
    },
    /// To be tried again on the schedule.
    Retry {
        /// How long the receiver asked to be left alone, if it did.
        after: Option<Duration>,
    },
    /// 413 for several events: to be sent again at once in smaller parcels.
    Split,
    /// The receiver wants this delivery never again: it is dead at once.
    Abort,
    /// The endpoint is gone for good, or asked to be disabled.
    Disable {
        /// Whether it has taken this one nevertheless.
        delivered: bool,
    },
}

/// What an attempt says of the host it went to, for its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostAnswer {
    /// It answered for itself: any status but those that speak of overload or outage.
    Alive,
    /// No answer, or one of 429, 500 and above.
    Failing,
    /// No request was made.
    None,
}

/// What an answer asks of the sender's pace, whatever came of the delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steering {
    /// 429, 502, 503 or 504: send less at once.
    pub(super) throttle: bool,
    /// What is left of a limit the receiver told of.
    pub(super) allowance: Option<Allowance>,
}

/// So many requests may be sent until the limit is filled up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) remaining: u64,
    pub(super) reset: Duration,
}

/// A finished attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) verdict: Verdict,
    pub(super) host: HostAnswer,
    pub(super) steering: Steering,
    pub(super) record: AttemptRecord,
}

/// What an attempt came to, as far as it is known where it ends.
struct Outcome {
    verdict: Verdict,
    host: HostAnswer,
    steering: Steering,
    status: Option<u16>,
    /// Of a success, nothing.
    error: Option<String>,
    failed_events: usize,
    head: Option<String>,
    response: Option<Vec<u8>>,
}

impl Outcome {
    /// No answer came.
    fn unanswered(host: HostAnswer, error: String, events: usize) -> Outcome {
        Outcome {
            verdict: Verdict::Retry { after: None },
            host,
            steering: Steering::default(),
            status: None,
            error: Some(error),
            failed_events: events,
            head: None,
            response: None,
        }
    }
}

impl Sender {
    pub(super) fn new(options: &EndpointOptions) -> Result<Sender, DeliveryError> {
        Sender::with_lookup(options, Lookup::System)
    }

    fn with_lookup(options: &EndpointOptions, lookup: Lookup) -> Result<Sender, DeliveryError> {
        let mut url = options.url.clone();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(DeliveryError::url("begins with neither http:// nor https://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(DeliveryError::url("names no host"));
        }
        options.networks.check_literal(&url).map_err(DeliveryError::refused)?;
        let mut headers = vec![(USER_AGENT, AGENT)];
        if let Some(authorization) = take_credentials(&mut url) {
            headers.push((AUTHORIZATION, authorization));
        }
        for (name, value) in &options.headers {
            headers.retain(|(known, _)| known != name);
            let mut value = value.clone();
            value.set_sensitive(true);
            headers.push((name.clone(), value));
        }
        let client = ClientOptions {
            url: url.clone(),
            concurrency: options.concurrency,
            connect_timeout: options.connect_timeout,
            networks: options.networks.clone(),
            proxy: options.proxy.clone(),
            tls: options.tls.clone(),
        };
        Ok(Sender {
            name: options.name.clone(),
            client: Client::new(client, lookup)?,
            url,
            method: options.method.clone(),
            format: options.format.clone(),
            batches: options.batch.max_events > 1,
            compress: options.compress,
            headers,
            signers: options.signers.clone(),
            timeout: options.timeout,
        })
    }

    /// Sends a parcel. Never takes longer than the timeout, and never reads more than a few KiB.
    pub(super) async fn attempt(&self, parcel: &Parcel) -> Attempt {
        let started = Instant::now();
        let started_at_ms = unix_ms(SystemTime::now());
        let outcome = self.outcome(parcel, started_at_ms, started + self.timeout).await;
        let mut seqs = parcel.events.iter().map(|numbered| numbered.event.seq);
        let record = AttemptRecord {
            seq: seqs.next().unwrap_or(Seq(0)),
            others: seqs.collect(),
            failed_events: u32::try_from(outcome.failed_events).unwrap_or(u32::MAX),
            attempt: parcel.number,
            started_at_ms,
            duration_us: u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX),
            status: outcome.status,
            error: outcome.error,
            head: outcome.head,
            response: outcome.response,
        };
        let Outcome { verdict, host, steering, .. } = outcome;
        Attempt { verdict, host, steering, record }
    }

    async fn outcome(&self, parcel: &Parcel, at_ms: i64, deadline: Instant) -> Outcome {
        let events = parcel.events.len();
        let request = match self.request(parcel, at_ms).await {
            Ok(request) => request,
            Err(why) => {
                let error = format!("no request was made: {why}");
                return Outcome::unanswered(HostAnswer::None, trouble::cut(error), events);
            }
        };
        match self.client.send(request, deadline).await {
            Ok(answer) => self.receive(answer, parcel, deadline).await,
            Err(Trouble::Request(why)) => {
                let error = format!("no request was made: {why}");
                Outcome::unanswered(HostAnswer::None, trouble::cut(error), events)
            }
            Err(Trouble::Late) => {
                let error = format!(
                    "no answer within {:?}: see why the receiver is slow, or raise `timeout`",
                    self.timeout
                );
                Outcome::unanswered(HostAnswer::Failing, error, events)
            }
            Err(trouble) => {
                let (host, error) = describe(&trouble);
                Outcome::unanswered(host, error, events)
            }
        }
    }
}

/// User and password of a URL, as the header they become.
fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(basic_authorization(url)?).ok()?;
    // An http URL can always be without them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
