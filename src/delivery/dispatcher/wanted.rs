//! Which events of the stream the endpoint gets.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{ConditionError, Event, EventCondition, EventFilter, EventId};
use crate::journal::{Listed, Replay, Seq};

/// Between two words in the log about events that cannot be judged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What an endpoint wants.
pub(super) struct Wanted {
    endpoint: String,
    filter: EventFilter,
    condition: Option<EventCondition>,
    replay: Option<Again>,
    complained_at: Option<Instant>,
    /// Events that could not be judged and of which the log does not know.
    unsaid: u32,
}

/// What is sent once more.
struct Again {
    until: Seq,
    /// Those after it are passed over.
    last: Seq,
    events: EventFilter,
    /// Still to be delivered when the replay began, ascending, as far as the stream has not come to
    /// them.
    pending: VecDeque<Listed>,
}

impl Wanted {
    pub(super) fn new(
        endpoint: &str,
        filter: EventFilter,
        condition: Option<EventCondition>,
    ) -> Wanted {
        let (endpoint, replay) = (endpoint.to_owned(), None);
        Wanted { endpoint, filter, condition, replay, complained_at: None, unsaid: 0 }
    }

    /// Only some of the events come next, once more, and those that were still to be delivered.
    pub(super) fn again(&mut self, replay: &Replay) {
        // Whoever stored the patterns has checked them; by patterns that cannot be read anything is
        // sent rather than nothing.
        let events = match replay.events.as_slice() {
            [] => EventFilter::default(),
            patterns => EventFilter::new(patterns).unwrap_or_default(),
        };
        let (until, last) = (replay.until, replay.last);
        let pending = replay.pending.iter().copied().collect();
        self.replay = Some(Again { until, last, events, pending });
    }

    /// The place and number of an event that was still to be delivered when the replay began, if it
    /// is such a one: it was wanted then, so only its name counts now, as for a retry. The stream is
    /// asked about in order.
    pub(super) fn pending(&mut self, seq: Seq) -> Option<Listed> {
        let pending = &mut self.replay.as_mut()?.pending;
        // Retention took them.
        while pending.front().is_some_and(|first| first.seq < seq) {
            pending.pop_front();
        }
        if pending.front()?.seq == seq { pending.pop_front() } else { None }
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
            Some(again) if seq <= again.until => seq <= again.last && again.events.matches(name),
            Some(_) => {
                self.replay = None;
                true
            }
            None => true,
        }
    }

    /// An event that cannot be judged is not sent, and the log says so now and then.
    fn doubt(&mut self, id: EventId, error: &ConditionError, now: Instant) -> bool {
        self.unsaid = self.unsaid.saturating_add(1);
        if self.complained_at.is_none_or(|at| now >= at + COMPLAIN_EVERY) {
            tracing::warn!(
                endpoint = self.endpoint,
                events = self.unsaid,
                event = %id,
                %error,
                "the condition `when` cannot be judged for some events, which are not sent; this \
                 is the last of them"
            );
            self.complained_at = Some(now);
            self.unsaid = 0;
        }
        false
    }
}
