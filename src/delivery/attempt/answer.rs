//! The answer: what it means for the delivery, for the endpoint and for the pace.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use tokio::time::Instant;

use crate::event::EventId;

use super::super::client::{Answer, Chunk};
use super::super::steering::steering;
use super::trouble::{cut, cut_to};
use super::{HostAnswer, Outcome, Parcel, Sender, Verdict};

/// How much of an answer's body is read, and kept of a failure's.
const RESPONSE_BYTES: usize = 4 * 1024;
/// How much more of it for each event of a batch, whose ids it may list.
const LISTED_BYTES: usize = 64;
/// Status line and headers, as kept of a failure.
const HEAD_BYTES: usize = 4 * 1024;
/// How long an answer may take to end that says nothing of interest any more, so that its connection
/// can be used again.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// With which a receiver steers beyond its status.
const WEBHOOK_DELIVERY: HeaderName = HeaderName::from_static("webhook-delivery");

/// What `webhook-delivery` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Disable,
    Abort,
}

impl Sender {
    /// Reads what is wanted of an answer's body: of a failure its beginning, for the log; of a
    /// success nothing. But where it is short it is read to its end, which frees the connection for
    /// the next request. Of a batch's success it may be a list. Whatever goes wrong here, the status
    /// stands.
    pub(super) async fn receive(
        &self,
        mut response: Answer,
        parcel: &Parcel,
        deadline: Instant,
    ) -> Outcome {
        let status = response.status;
        let events = parcel.events.len();
        let steering = steering(status, &response.headers, SystemTime::now());
        let wish = wish(&response.headers);
        let mut body = Vec::new();
        if !status.is_success() {
            read(&mut response, &mut body, RESPONSE_BYTES, deadline).await;
            response.drain(deadline.min(Instant::now() + DRAIN_TIME)).await;
            let (verdict, error) = classify(status, &response.headers, wish, events);
            let host = host_answer(status);
            let outcome = Outcome { verdict, steering, ..Outcome::unanswered(host, error, events) };
            return answered(outcome, &response, &body);
        }
        let end = self.read_success(&mut response, &mut body, events, deadline).await;
        let verdict = match wish {
            Some(Wish::Disable) => Verdict::Disable { delivered: true },
            Some(Wish::Abort) | None => Verdict::Succeeded,
        };
        let success = Outcome {
            verdict,
            host: HostAnswer::Alive,
            steering,
            status: Some(status.as_u16()),
            error: None,
            failed_events: 0,
            head: None,
            response: None,
        };
        if !self.batches {
            return success;
        }
        match self.failed_events(&body, end, parcel) {
            Named::None => success,
            Named::Some(failed) => {
                let error = format!(
                    "answered {status} and named {} of {events} events as failed",
                    failed.len()
                );
                let failed_events = failed.len();
                let verdict = match wish {
                    // The rest of them has to come again, too, once it is enabled.
                    Some(Wish::Disable) => Verdict::Disable { delivered: false },
                    _ if failed_events == events => Verdict::Retry { after: None },
                    _ => Verdict::Partly { failed },
                };
                let error = Some(error);
                answered(Outcome { verdict, error, failed_events, ..success }, &response, &body)
            }
            Named::Unknown => {
                let error = format!(
                    "answered {status}, but its list of failed events broke off: let it be short, \
                     and complete before `timeout`"
                );
                let outcome =
                    Outcome { steering, ..Outcome::unanswered(HostAnswer::Alive, error, events) };
                answered(outcome, &response, &body)
            }
        }
    }

    async fn read_success(
        &self,
        response: &mut Answer,
        body: &mut Vec<u8>,
        events: usize,
        deadline: Instant,
    ) -> End {
        if response.is_empty() {
            return End::Whole;
        }
        let drained = deadline.min(Instant::now() + DRAIN_TIME);
        let bytes = RESPONSE_BYTES + if self.batches { LISTED_BYTES * events } else { 0 };
        let end = read(response, body, bytes, drained).await;
        // Only a list of failures is worth waiting for.
        let may_list = match body.trim_ascii_start().first() {
            Some(first) => *first == b'{',
            None => is_json(&response.headers),
        };
        if !self.batches || end != End::More || !may_list {
            response.drain(drained).await;
            return end;
        }
        read(response, body, bytes, deadline).await
    }

    /// Which events of a batch the answer to it names as failed.
    fn failed_events(&self, body: &[u8], end: End, parcel: &Parcel) -> Named {
        if end != End::Whole {
            let lists = body.windows(LIST.len()).any(|window| window == LIST);
            return if lists { Named::Unknown } else { Named::None };
        }
        // Anything else that a receiver likes to answer means that all is well.
        let Ok(answer) = serde_json::from_slice::<BatchAnswer>(body) else { return Named::None };
        let named = answer.failed.len();
        let named_ids: HashSet<EventId> = answer
            .failed
            .iter()
            .filter_map(|id| id.as_str().and_then(|id| id.parse().ok()))
            .collect();
        let ids = parcel.events.iter().map(|numbered| numbered.event.id);
        let failed: Vec<EventId> = ids.filter(|id| named_ids.contains(id)).collect();
        if failed.len() < named {
            tracing::warn!(
                endpoint = self.name,
                named,
                known = failed.len(),
                "the answer to a batch names failed events that were not in it, or twice"
            );
        }
        if failed.is_empty() { Named::None } else { Named::Some(failed) }
    }
}

/// What a receiver may answer to a batch.
#[derive(Deserialize)]
struct BatchAnswer {
    failed: Vec<serde_json::Value>,
}

/// How a [`BatchAnswer`] that broke off is known.
const LIST: &[u8] = b"\"failed\"";

/// Events of a batch.
enum Named {
    None,
    /// At least one.
    Some(Vec<EventId>),
    /// There are some, but who knows which.
    Unknown,
}

/// How the reading of a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its end.
    Whole,
    /// Before, since it is long or slow.
    More,
    /// Before, and nothing more will come.
    Broken,
}

/// Reads until `into` holds that many bytes, or until then.
async fn read(response: &mut Answer, into: &mut Vec<u8>, bytes: usize, until: Instant) -> End {
    while into.len() < bytes {
        match response.chunk(until).await {
            Chunk::Data(chunk) => {
                let room = bytes - into.len();
                into.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    // The rest of the chunk is gone.
                    return End::Broken;
                }
            }
            Chunk::End => return End::Whole,
            Chunk::Broken => return End::Broken,
            Chunk::Late => return End::More,
        }
    }
    End::More
}

/// What is kept of the answer of a request that failed, at least in part.
fn answered(outcome: Outcome, response: &Answer, body: &[u8]) -> Outcome {
    let start = &body[..body.len().min(RESPONSE_BYTES)];
    Outcome {
        status: Some(response.status.as_u16()),
        head: Some(head(response)),
        response: (!start.is_empty()).then(|| excerpt(start)),
        ..outcome
    }
}

/// At most [`RESPONSE_BYTES`] of valid UTF-8.
fn excerpt(start: &[u8]) -> Vec<u8> {
    // A replacement takes more room than the byte it stands for.
    cut_to(String::from_utf8_lossy(start).into_owned(), RESPONSE_BYTES).into_bytes()
}

/// Status line and headers, a line each, at most [`HEAD_BYTES`] of them.
fn head(response: &Answer) -> String {
    let status = response.status;
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("{:?} {} {reason}", response.version, status.as_u16());
    head.truncate(head.trim_end().len());
    for (name, value) in &response.headers {
        if head.len() >= HEAD_BYTES {
            break;
        }
        let value = if is_secret(name) {
            "(redacted)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        // Writing to a String cannot fail.
        let _ = write!(head, "\n{name}: {value}");
    }
    cut_to(head, HEAD_BYTES)
}

/// Whether a header's value may let somebody in somewhere.
fn is_secret(name: &HeaderName) -> bool {
    ["cookie", "authoriz", "authentic", "token", "secret", "session", "api-key", "apikey"]
        .iter()
        .any(|part| name.as_str().contains(part))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.to_ascii_lowercase().contains("json"))
}

fn wish(headers: &HeaderMap) -> Option<Wish> {
    let value = headers.get(WEBHOOK_DELIVERY)?.to_str().ok()?.trim();
    if value.eq_ignore_ascii_case("disable") {
        Some(Wish::Disable)
    } else if value.eq_ignore_ascii_case("abort-message") {
        Some(Wish::Abort)
    } else {
        None
    }
}

fn host_answer(status: StatusCode) -> HostAnswer {
    let failing = status == StatusCode::TOO_MANY_REQUESTS || status.as_u16() >= 500;
    if failing { HostAnswer::Failing } else { HostAnswer::Alive }
}

/// What a failure's status means for the delivery, and what the operator can do about it.
fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    wish: Option<Wish>,
    events: usize,
) -> (Verdict, String) {
    let after = retry_after(status, headers, SystemTime::now());
    let verdict = match (status, wish) {
        (_, Some(Wish::Disable)) | (StatusCode::GONE, _) => Verdict::Disable { delivered: false },
        (_, Some(Wish::Abort)) => Verdict::Abort,
        (StatusCode::PAYLOAD_TOO_LARGE, _) if events > 1 => Verdict::Split,
        _ => Verdict::Retry { after },
    };
    let code = status.as_u16();
    let mut error = format!("answered {code}");
    if let Some(reason) = status.canonical_reason() {
        error = format!("{error} {reason}");
    }
    error.push_str(match verdict {
        Verdict::Disable { .. } if status == StatusCode::GONE => {
            ": the endpoint is gone for good, and gets nothing until somebody enables it again"
        }
        Verdict::Disable { .. } => {
            " with `webhook-delivery: disable`: the endpoint gets nothing until somebody enables it \
             again"
        }
        Verdict::Abort => {
            " with `webhook-delivery: abort-message`: it does not want this delivery again"
        }
        Verdict::Split => ": what is in it goes out again in smaller requests",
        _ => remedy(status),
    });
    if let Verdict::Retry { after: Some(after) } = verdict {
        // Writing to a String cannot fail.
        let _ = write!(error, "; it asks to be left alone for {} s", after.as_secs());
    }
    (verdict, cut(error))
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => ": check the endpoint's `secret` and `headers`",
        404 => ": check the path of the endpoint's `url`",
        405 => ": check the endpoint's `method`, and the path of its `url`",
        407 => ": check user and password in the endpoint's `proxy`",
        413 => ": raise the receiver's limit for request bodies",
        415 => ": check the endpoint's `format` and `compress`",
        429 => ": lower the endpoint's `rate_limit` or `concurrency`",
        _ if status.is_redirection() => {
            ", a redirect, which is never followed: set `url` to where it leads"
        }
        _ => "",
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3), at most a day; of statuses that speak
/// of a passing trouble.
fn retry_after(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if !matches!(status.as_u16(), 408 | 413 | 425 | 429 | 500..) {
        return None;
    }
    let text = headers.get(RETRY_AFTER).map(HeaderValue::to_str)?.ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are a very long time.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_retry_after_count_from_now() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let mut headers = HeaderMap::new();
        let mut after = |status: u16, value: &'static str| {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let after = retry_after(StatusCode::from_u16(status).unwrap(), &headers, now);
            after.map(|after| after.as_secs())
        };
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:51:07 GMT"), Some(90));
        assert_eq!(after(429, "Sunday, 06-Nov-94 08:50:37 GMT"), Some(60));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:49:07 GMT"), Some(0));
        assert_eq!(after(504, " 120 "), Some(120));
        assert_eq!(after(503, ""), None);
        assert_eq!(after(503, "1.5"), None);
        assert_eq!(after(400, "120"), None);
    }
}
