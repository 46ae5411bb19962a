//! How the endpoint is doing: whether anything may be sent, and what the operator is told of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::attempt::{HostAnswer, Steering};
use crate::delivery::host::{Host, Permit, Ticket, Turn};
use crate::delivery::pace::Pace;
use crate::event::Report;
use crate::journal::Journal;

/// Between two words in the log about an endpoint that goes on failing.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// An endpoint is reported as failing after that many failures in a row,
const FAILURES_TO_TELL: u32 = 10;
/// and not before it has failed that long.
const FAILING_MS: i64 = 10_000;
/// An endpoint is not disabled for fewer failures than that in one run of the daemon, however long
/// they lie apart: it may have been the daemon that was away.
const FAILURES_TO_DISABLE: u32 = 3;

/// See the module's words.
pub(super) struct Health {
    name: Arc<str>,
    journal: Journal,
    host: Host,
    pace: Pace,
    disable_after: Option<Duration>,
    /// Requests since the last success.
    failures: u32,
    /// When the first of them ended.
    failing_since_ms: Option<i64>,
    /// Whether that was reported.
    told: bool,
    /// When the log last said that the endpoint fails, and how many failures it hid since.
    complained_at: Option<Instant>,
    unsaid: u32,
}

/// What came of a request, as far as the endpoint's health goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Result<'a> {
    /// Whether anything was accepted.
    pub(super) success: bool,
    /// Whether the request failed by what the endpoint did; neither for one that was too large.
    pub(super) failure: bool,
    pub(super) host: HostAnswer,
    pub(super) after: Option<Duration>,
    pub(super) steering: Steering,
    pub(super) error: &'a str,
    /// Whether all it carried was about walhook itself: that is not reported, for the report would
    /// be one more of these.
    pub(super) own: bool,
}

impl Health {
    pub(super) fn new(
        name: Arc<str>,
        journal: Journal,
        host: Host,
        pace: Pace,
        disable_after: Option<Duration>,
    ) -> Health {
        Health {
            name,
            journal,
            host,
            pace,
            disable_after,
            failures: 0,
            failing_since_ms: None,
            told: false,
            complained_at: None,
            unsaid: 0,
        }
    }

    /// It failed when the last dispatcher ended, and that was reported or not.
    pub(super) fn failing_since(&mut self, since_ms: Option<i64>, told: bool) {
        self.failing_since_ms = since_ms;
        self.told = told;
    }

    /// Whether it was reported that it fails, and not yet that it recovered.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// How many requests may be on their way.
    pub(super) fn slots(&self) -> usize {
        self.pace.slots()
    }

    /// Whether a request may be sent; otherwise when to ask again, unless that depends on a request
    /// of another endpoint of the host.
    pub(super) fn permit(&mut self, now: Instant) -> std::result::Result<(), Option<Instant>> {
        match self.host.permit(now) {
            Permit::Any | Permit::One => self.pace.permit(now).map_err(Some),
            Permit::After(until) => Err(Some(until)),
            Permit::Probing => Err(None),
        }
    }

    /// Leave to send a request that is at hand.
    pub(super) fn try_start(&mut self, now: Instant) -> Option<Ticket> {
        let ticket = self.host.try_start(now)?;
        self.pace.started(now);
        Some(ticket)
    }

    /// Waits until the host's breaker has changed.
    pub(super) async fn host_changed(&mut self) {
        self.host.changed().await;
    }

    /// A request is over. Why the endpoint is to be disabled, if it has failed for too long.
    pub(super) fn landed(
        &mut self,
        ticket: Ticket,
        result: Result<'_>,
        now: Instant,
        now_ms: i64,
    ) -> Option<String> {
        self.pace.landed(result.after, &result.steering, result.success, now);
        let turn = self.host.landed(ticket, result.host, now);
        match turn {
            Turn::Unchanged => {}
            Turn::Opened { cool_down } => tracing::warn!(
                endpoint = &*self.name,
                error = result.error,
                "most of what is sent to its host fails: sending nothing there for {cool_down:?}"
            ),
            Turn::Closed => {
                tracing::info!(endpoint = &*self.name, "its host accepts events again");
            }
        }
        if result.success {
            self.recovered();
            None
        } else if result.failure {
            let opened = matches!(turn, Turn::Opened { .. });
            self.failed(&result, opened, now, now_ms)
        } else {
            None
        }
    }

    /// Reported even if what was accepted is about walhook itself: only one that was reported as
    /// failing is, so these end.
    fn recovered(&mut self) {
        self.failures = 0;
        let Some(since_ms) = self.failing_since_ms.take() else { return };
        if std::mem::take(&mut self.told) {
            tracing::info!(endpoint = &*self.name, "the endpoint accepts events again");
            let endpoint = self.name.to_string();
            self.journal.report(Report::EndpointRecovered { endpoint, since_ms });
        }
    }

    fn failed(
        &mut self,
        result: &Result<'_>,
        opened: bool,
        now: Instant,
        now_ms: i64,
    ) -> Option<String> {
        self.complain(now, result.error);
        self.failures = self.failures.saturating_add(1);
        let since_ms = *self.failing_since_ms.get_or_insert(now_ms);
        let lasting = now_ms.saturating_sub(since_ms);
        let tell = opened || (self.failures >= FAILURES_TO_TELL && lasting >= FAILING_MS);
        if tell && !self.told && !result.own {
            self.told = true;
            let (endpoint, error) = (self.name.to_string(), result.error.to_owned());
            self.journal.report(Report::EndpointFailing { endpoint, error, since_ms });
        }
        let limit = self.disable_after?;
        let over = u128::try_from(lasting).is_ok_and(|lasting| lasting >= limit.as_millis());
        (over && self.failures >= FAILURES_TO_DISABLE).then(|| {
            let (since, limit) = (time(since_ms), words(limit));
            format!("nothing but failures since {since}, for {limit}: {}", result.error)
        })
    }

    /// Says at once that the endpoint fails, and then now and then that it still does: an operator
    /// wants to know, but not of every attempt.
    fn complain(&mut self, now: Instant, error: &str) {
        self.unsaid = self.unsaid.saturating_add(1);
        if self.complained_at.is_some_and(|at| now < at + COMPLAIN_EVERY) {
            return;
        }
        tracing::warn!(
            endpoint = &*self.name,
            failures = self.unsaid,
            error,
            "the endpoint does not take events; they are sent again on its schedule"
        );
        self.complained_at = Some(now);
        self.unsaid = 0;
    }
}

fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.0}"),
        Err(_) => "a time out of range".to_owned(),
    }
}

/// `5 days` rather than 432000 seconds.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        86_400 => "a day".to_owned(),
        _ if seconds > 0 && seconds.is_multiple_of(86_400) => format!("{} days", seconds / 86_400),
        3_600 => "an hour".to_owned(),
        _ if seconds > 0 && seconds.is_multiple_of(3_600) => format!("{} hours", seconds / 3_600),
        _ => format!("{time:?}"),
    }
}
