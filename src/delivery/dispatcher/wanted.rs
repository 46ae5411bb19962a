//! Which events of the stream the endpoint gets.

use std::collections::HashSet;

use tokio::time::Instant;

use crate::event::{ConditionError, Event, EventCondition, EventFilter, EventId};
use crate::journal::{Listed, Replay, Seq};

use super::seldom::Seldom;

/// What an endpoint wants.
pub(super) struct Wanted {
    endpoint: String,
    filter: EventFilter,
    condition: Option<EventCondition>,
    replay: Option<Again>,
    /// What the log says of events that could not be judged.
    doubts: Seldom,
}

/// What is sent once more.
struct Again {
    until: Seq,
    events: EventFilter,
    /// Delivered anyway.
    except: HashSet<Seq>,
}

impl Wanted {
    pub(super) fn new(
        endpoint: &str,
        filter: EventFilter,
        condition: Option<EventCondition>,
    ) -> Wanted {
        let (endpoint, replay) = (endpoint.to_owned(), None);
        Wanted { endpoint, filter, condition, replay, doubts: Seldom::new(1) }
    }

    /// Only some of the events come next, once more, but for those of them on their way or parked.
    pub(super) fn again(&mut self, replay: &Replay, in_flight: &[Listed]) {
        // Whoever stored the patterns has checked them; by patterns that cannot be read anything is
        // sent rather than nothing.
        let events = match replay.events.as_slice() {
            [] => EventFilter::default(),
            patterns => EventFilter::new(patterns).unwrap_or_default(),
        };
        let except = in_flight.iter().map(|listed| listed.seq).chain(replay.parked.iter().copied());
        self.replay = Some(Again { until: replay.until, events, except: except.collect() });
    }

    /// Whether events of this name are wanted at all.
    pub(super) fn name(&self, name: &str) -> bool {
        self.filter.matches(name)
    }

    /// Whether looking at an event takes long.
    pub(super) fn is_costly(&self) -> bool {
        self.condition.is_some()
    }

    /// Whether an event of the stream is wanted.
    pub(super) fn event(&mut self, seq: Seq, event: &Event, body: &[u8], now: Instant) -> bool {
        self.filter.matches(&event.name)
            && self.replayed(seq, &event.name)
            && match &self.condition {
                None => true,
                Some(condition) => {
                    let judged = condition.matches(body);
                    judged.unwrap_or_else(|error| self.doubt(event.id, &error, now))
                }
            }
    }

    fn replayed(&mut self, seq: Seq, name: &str) -> bool {
        match &self.replay {
            Some(again) if seq <= again.until => {
                again.events.matches(name) && !again.except.contains(&seq)
            }
            Some(_) => {
                self.replay = None;
                true
            }
            None => true,
        }
    }

    /// An event that cannot be judged is not sent, and the log says so now and then.
    fn doubt(&mut self, id: EventId, error: &ConditionError, now: Instant) -> bool {
        if let Some(line) = self.doubts.line(now) {
            tracing::warn!(
                endpoint = self.endpoint,
                events = line.count,
                event = %id,
                %error,
                "the condition `when` cannot be judged for some events, which are not sent; this \
                 is the last of them"
            );
        }
        false
    }
}
