//! One HTTP request, and what its answer means.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Client, Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::clock::unix_ms;
use crate::event::EventId;
use crate::journal::{AttemptRecord, StoredEvent};

use super::client::{ClientOptions, http_client};
use super::endpoint::EndpointOptions;
use super::error::DeliveryError;
use super::guard::{Unresolved, private_literal};
use super::signature::{Signer, WEBHOOK_ID};

/// How much of an answer is read at all.
const RESPONSE_BYTES: usize = 4 * 1024;
/// How long an accepted request's answer may take to end, so that its connection can be used again.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
const LONGEST_ERROR_BYTES: usize = 400;

const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("walhook/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Makes the requests of one endpoint.
pub(super) struct Sender {
    client: Client,
    url: Url,
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

impl Sender {
    pub(super) fn new(options: &EndpointOptions) -> Result<Sender, DeliveryError> {
        let mut url = options.url.clone();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(DeliveryError::url("begins with neither http:// nor https://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(DeliveryError::url("names no host"));
        }
        if !options.networks.private
            && let Some(address) = private_literal(&url)
        {
            return Err(DeliveryError::private_address(address));
        }
        let mut headers = vec![(USER_AGENT, AGENT), (CONTENT_TYPE, JSON)];
        if let Some(authorization) = take_credentials(&mut url) {
            headers.push((AUTHORIZATION, authorization));
        }
        for (name, value) in &options.headers {
            headers.retain(|(known, _)| known != name);
            let mut value = value.clone();
            value.set_sensitive(true);
            headers.push((name.clone(), value));
        }
        let client = http_client(&ClientOptions {
            concurrency: options.concurrency,
            connect_timeout: options.connect_timeout,
            networks: options.networks.clone(),
            proxy: options.proxy.clone(),
            tls: options.tls.clone(),
        })?;
        let (signers, timeout) = (options.signers.clone(), options.timeout);
        Ok(Sender { client, url, headers, signers, timeout })
    }

    /// Sends a parcel. Never takes longer than the timeout, and never reads more than a few KiB.
    pub(super) async fn attempt(&self, parcel: &Parcel) -> Attempt {
        let (event, number) = (&parcel.events[0].event, parcel.number);
        let started = Instant::now();
        let started_at_ms = unix_ms(SystemTime::now());
        let deadline = started + self.timeout;
        let request = self.request(event, number, started_at_ms);
        let answer = match timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(response)) => receive(response, deadline).await,
            Ok(Err(error)) => Answer::Failed(describe(error)),
            Err(_) => Answer::Failed(format!(
                "no answer within {:?}: see why the receiver is slow, or raise `timeout`",
                self.timeout
            )),
        };
        let duration_us = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        let (status, response, verdict, error) = match answer {
            Answer::Failed(error) => (None, None, Verdict::Retry { after: None }, Some(error)),
            Answer::Status { status, retry_after, body } => {
                let (verdict, error) = classify(status, retry_after);
                (Some(status.as_u16()), body, verdict, error)
            }
        };
        let seq = event.seq;
        let attempt = number;
        let record = AttemptRecord {
            seq,
            others: Vec::new(),
            failed_events: u32::from(error.is_some()),
            attempt,
            started_at_ms,
            duration_us,
            status,
            error,
            head: None,
            response,
        };
        let host = match status {
            Some(status) if status != 429 && status < 500 => HostAnswer::Alive,
            _ => HostAnswer::Failing,
        };
        Attempt { verdict, host, steering: Steering::default(), record }
    }

    fn request(&self, event: &StoredEvent, number: u32, at_ms: i64) -> Request {
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.reserve(self.headers.len() + 2 + 2 * self.signers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let mut id = Vec::with_capacity(36);
        event.id.write_to(&mut id);
        let id = Bytes::from(id);
        // An id is ASCII letters, digits and `_`: it is both text and a header value.
        let text = std::str::from_utf8(&id).unwrap_or_default();
        for signer in &self.signers {
            signer.sign_into(text, &event.name, at_ms, &event.body, headers);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(id.clone()) {
            headers.insert(WEBHOOK_ID, value);
        }
        headers.insert(WEBHOOK_ATTEMPT, HeaderValue::from(number));
        *request.body_mut() = Some(event.body.clone().into());
        request
    }
}

enum Answer {
    /// None, or none that is HTTP; why, in a sentence.
    Failed(String),
    Status {
        status: StatusCode,
        retry_after: Option<Duration>,
        body: Option<Vec<u8>>,
    },
}

/// Reads what is wanted of an answer's body: of a failure its beginning, for the log; of a success
/// nothing, but where it is short it is read to its end, which frees the connection for the next
/// request. Whatever goes wrong here, the status stands.
async fn receive(mut response: Response, deadline: Instant) -> Answer {
    let status = response.status();
    if status.is_success() {
        if response.content_length() != Some(0) {
            let until = deadline.min(Instant::now() + DRAIN_TIME);
            let _ = timeout_at(until, read_start(&mut response, None)).await;
        }
        return Answer::Status { status, retry_after: None, body: None };
    }
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let mut start = Vec::new();
    let _ = timeout_at(deadline, read_start(&mut response, Some(&mut start))).await;
    let body = (!start.is_empty()).then(|| excerpt(&start));
    Answer::Status { status, retry_after, body }
}

async fn read_start(response: &mut Response, mut keep: Option<&mut Vec<u8>>) {
    let mut read = 0;
    while read < RESPONSE_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        if let Some(keep) = keep.as_deref_mut() {
            keep.extend_from_slice(&chunk[..chunk.len().min(RESPONSE_BYTES - read)]);
        }
        read += chunk.len();
    }
}

/// At most [`RESPONSE_BYTES`] of valid UTF-8.
fn excerpt(start: &[u8]) -> Vec<u8> {
    // A replacement takes more room than the byte it stands for.
    cut(String::from_utf8_lossy(start).into_owned(), RESPONSE_BYTES).into_bytes()
}

/// What a status means for the delivery, and for a failure what the operator can do about it.
fn classify(status: StatusCode, retry_after: Option<Duration>) -> (Verdict, Option<String>) {
    if status.is_success() {
        return (Verdict::Succeeded, None);
    }
    let after = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => retry_after,
        _ => None,
    };
    let verdict = if status == StatusCode::GONE {
        Verdict::Disable { delivered: false }
    } else {
        Verdict::Retry { after }
    };
    let remedy = match status.as_u16() {
        410 => {
            ": the endpoint is gone for good and gets nothing more until it is enabled again, with \
             `walhook run --enable` and its name"
        }
        401 | 403 => ": check the endpoint's `secret` and `headers`",
        404 | 405 => ": check the path of the endpoint's `url`",
        413 => ": raise the receiver's limit for request bodies",
        429 => ": lower the endpoint's `concurrency`",
        _ if status.is_redirection() => {
            ", a redirect, which is never followed: set `url` to where it leads"
        }
        _ => "",
    };
    let reason = status.canonical_reason().map(|text| format!(" {text}")).unwrap_or_default();
    (verdict, Some(format!("answered {}{reason}{remedy}", status.as_u16())))
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3), at most a day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are a very long time.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// Why no answer came, in a sentence, without the URL, which may hold a token.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &(dyn StdError + 'static) = &error;
    let mut from_http = None;
    loop {
        if let Some(unresolved) = cause.downcast_ref::<Unresolved>() {
            return cut(unresolved.to_string(), LONGEST_ERROR_BYTES);
        }
        from_http = from_http.or_else(|| cause.downcast_ref::<hyper::Error>());
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    let what = if error.is_connect() && error.is_timeout() {
        return "could not connect within `connect_timeout`: is the host up, and does a firewall \
                let walhook through?"
            .to_owned();
    } else if error.is_connect() {
        "could not connect"
    } else if from_http.is_some_and(|http| http.is_parse()) {
        "the answer is not HTTP"
    } else if from_http.is_some_and(|http| http.is_incomplete_message()) {
        return "the connection was closed before an answer came".to_owned();
    } else {
        "the request failed"
    };
    cut(format!("{what}: {cause}"), LONGEST_ERROR_BYTES)
}

/// At most that many bytes, and whole characters.
fn cut(mut text: String, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// User and password of a URL, as the header they become.
fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain = |text: &str| percent_decode(text);
    let mut pair = plain(url.username());
    pair.push(b':');
    pair.extend(plain(url.password().unwrap_or_default()));
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    // An http URL can always be without them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let mut decoded = [0];
        if *first == b'%'
            && tail.len() >= 2
            && hex::decode_to_slice(&tail[..2], &mut decoded).is_ok()
        {
            bytes.push(decoded[0]);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
