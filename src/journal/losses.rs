//! What retention took from endpoints before they had it: gathered, and said now and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::event::{EventFilter, Report, is_report};

use super::writer::Shared;

/// Between two words about an endpoint.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The same of one that no dispatcher serves, which may go on for as long as there are events.
const SAY_ABSENT_EVERY: Duration = Duration::from_secs(3_600);

const REASON: &str = "they were older than journal.retain, or the journal larger than \
                      journal.max_size";

/// What one endpoint lost.
#[derive(Debug)]
pub(super) struct Lost {
    /// Its number.
    pub(super) endpoint: i64,
    /// Its name.
    pub(super) name: String,
    /// How many events.
    pub(super) events: i64,
    /// How many of them were reports.
    pub(super) reports: i64,
}

/// What was lost to each endpoint and when that was last said.
#[derive(Debug, Default)]
pub(super) struct Losses(HashMap<i64, Loss>);

#[derive(Debug, Default)]
struct Loss {
    name: String,
    events: i64,
    reports: i64,
    said_at: Option<Instant>,
}

impl Losses {
    /// Counts more.
    pub(super) fn add(&mut self, lost: Lost) {
        let loss = self.0.entry(lost.endpoint).or_default();
        loss.name = lost.name;
        loss.events += lost.events;
        loss.reports += lost.reports;
    }

    /// Says what is due to be said.
    pub(super) fn say(&mut self, shared: &Shared, now: Instant) {
        if self.0.values().all(|loss| loss.events == 0) {
            return;
        }
        let filters = shared.filters();
        for loss in self.0.values_mut().filter(|loss| loss.events > 0) {
            let filter = filters.get(&loss.name);
            let every = if filter.is_some() { SAY_EVERY } else { SAY_ABSENT_EVERY };
            if loss.said_at.is_none_or(|said_at| now >= said_at + every) {
                loss.say(shared, filter);
                loss.said_at = Some(now);
            }
        }
    }

    /// Says all that was not said.
    pub(super) fn say_all(&mut self, shared: &Shared) {
        let filters = shared.filters();
        for loss in self.0.values_mut().filter(|loss| loss.events > 0) {
            loss.say(shared, filters.get(&loss.name));
        }
    }
}

impl Loss {
    fn say(&mut self, shared: &Shared, filter: Option<&EventFilter>) {
        let (events, reports) =
            (std::mem::take(&mut self.events), std::mem::take(&mut self.reports));
        warn!(endpoint = self.name, dropped = events, "events were dropped undelivered: {REASON}");
        // A report of each lost report would never end.
        let of_reports = filter.is_some_and(|filter| filter.patterns().all(is_report));
        if events > reports && !of_reports {
            shared.report(Report::Gap {
                endpoint: Some(self.name.clone()),
                events: Some(events.unsigned_abs()),
                reason: format!("events were dropped undelivered: {REASON}"),
            });
        }
    }
}
