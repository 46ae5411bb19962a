//! Which events of the stream the endpoint gets.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::event::{ConditionError, Event, EventCondition, EventFilter, EventId};
use crate::journal::{Listed, Replay, Seq};

use super::seldom::WINDOW;

/// What an endpoint wants.
pub(super) struct Wanted {
    endpoint: String,
    filter: EventFilter,
    condition: Option<EventCondition>,
    replay: Option<Again>,
    complained_at: Option<Instant>,
    /// Events that could not be judged and of which the log does not know: how many, and the last.
    unsaid: Option<(u32, EventId, ConditionError)>,
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
        Wanted { endpoint, filter, condition, replay, complained_at: None, unsaid: None }
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
        self.filter.matches(&event.name) && self.named(seq, event, body, now)
    }

    /// Whether an event of the stream is wanted, whose name is.
    pub(super) fn named(&mut self, seq: Seq, event: &Event, body: &[u8], now: Instant) -> bool {
        self.replayed(seq, &event.name)
            && match &self.condition {
                None => true,
                Some(condition) => {
                    let judged = condition.matches(body);
                    judged.unwrap_or_else(|error| self.doubt(event.id, error, now))
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
    fn doubt(&mut self, id: EventId, error: ConditionError, now: Instant) -> bool {
        let events = self.unsaid.as_ref().map_or(0, |(events, ..)| *events);
        self.unsaid = Some((events.saturating_add(1), id, error));
        self.look_around(now);
        false
    }

    /// Says what is left to be said, when it is time for that.
    pub(super) fn look_around(&mut self, now: Instant) {
        if self.complained_at.is_some_and(|at| now < at + WINDOW) {
            return;
        }
        if self.say() {
            self.complained_at = Some(now);
        }
    }

    /// Says what is left to be said, if there is anything.
    fn say(&mut self) -> bool {
        let Some((events, id, error)) = self.unsaid.take() else { return false };
        tracing::warn!(
            endpoint = self.endpoint,
            events,
            event = %id,
            %error,
            "the condition `when` cannot be judged for some events, which are not sent; this is \
             the last of them"
        );
        true
    }
}

impl Drop for Wanted {
    /// What is still unsaid would never be.
    fn drop(&mut self) {
        self.say();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::id::TransactionTag;
    use crate::event::{EventBatch, Lanes};

    /// What is wanted of these events.
    fn judge(wanted: &mut Wanted, events: &[(&str, &str)], now: Instant) -> Vec<bool> {
        let mut batch = EventBatch::default();
        for (n, (name, body)) in (1..).zip(events) {
            let id = EventId::new(n, 0, TransactionTag::new("test", 1, 1, 1, 1));
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(body.as_bytes());
                Ok::<_, ()>(())
            };
            batch.push(id, (*name).into(), Lanes::NONE, 1, write).unwrap();
        }
        let judged = (1..).zip(batch.events());
        judged.map(|(n, event)| wanted.event(Seq(n), event, batch.body(event), now)).collect()
    }

    const OLD: (&str, &str) = ("person.created", r#"{"data":{"age":41}}"#);
    const YOUNG: (&str, &str) = ("person.created", r#"{"data":{"age":7}}"#);
    const AGELESS: (&str, &str) = ("person.created", r#"{"data":{}}"#);
    const COMPANY: (&str, &str) = ("company.created", r#"{"data":{"age":99}}"#);

    fn wanted() -> Wanted {
        let filter = EventFilter::new(["person.*"]).unwrap();
        Wanted::new("crm", filter, Some(EventCondition::new("data.age > 40").unwrap()))
    }

    #[test]
    fn name_and_condition_must_both_fit() {
        let mut wanted = wanted();
        let judged = judge(&mut wanted, &[OLD, YOUNG, COMPANY], Instant::now());
        assert_eq!(judged, [true, false, false]);
        assert!(wanted.unsaid.is_none() && wanted.complained_at.is_none(), "all was judged");
        assert!(wanted.is_costly() && wanted.name("person.deleted") && !wanted.name("x.deleted"));
    }

    #[test]
    fn what_cannot_be_judged_is_not_sent_and_said_now_and_then() {
        let mut wanted = wanted();
        let now = Instant::now();
        let unsaid = |wanted: &Wanted| wanted.unsaid.as_ref().map_or(0, |(events, ..)| *events);
        assert_eq!(judge(&mut wanted, &[AGELESS], now), [false]);
        assert_eq!((wanted.complained_at, unsaid(&wanted)), (Some(now), 0), "said at once");
        let soon = now + WINDOW / 2;
        assert_eq!(judge(&mut wanted, &[AGELESS, OLD, AGELESS], soon), [false, true, false]);
        wanted.look_around(soon);
        assert_eq!((wanted.complained_at, unsaid(&wanted)), (Some(now), 2), "but not each of them");
        // The rest is said even if no other one follows.
        let later = now + WINDOW;
        wanted.look_around(later);
        assert_eq!((wanted.complained_at, unsaid(&wanted)), (Some(later), 0));
        wanted.look_around(later + WINDOW);
        assert_eq!(wanted.complained_at, Some(later), "there is nothing to say");
    }
}
