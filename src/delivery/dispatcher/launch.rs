//! What goes out next, and when.

use super::*;

use crate::journal::{DueDelivery, Listed};

use intake::Found;

/// How long a parcel may wait for a page of events to be read, even if it is not to wait at all.
const READING: Duration = Duration::from_millis(20);

/// How taking from the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    /// Nothing more is to be taken now: the parcel is complete, or others must leave first.
    Enough,
    /// There is nothing more at the moment, or it is the others' turn.
    Nothing,
    /// More is being read from the journal.
    Later,
}

impl Dispatcher {
    /// Whether a request may be sent now, if there is one to be sent.
    pub(super) fn may_launch(&mut self, now: Instant) -> bool {
        let events = self.window.limits().events;
        let slots = self.slots.min(self.health.slots());
        self.flying < slots
            && (self.flying == 0 || self.flying_bytes < FLYING_BYTES)
            && self.window.in_flight() + self.window.unsettled() < 2 * self.slots * events
            && self.health.permit(now).is_ok()
    }

    /// The next request that may be sent now, if there is one.
    pub(super) fn next_launch(&mut self, now: Instant) -> Option<Launch> {
        if !self.may_launch(now) {
            self.note_packing(now);
            return None;
        }
        if self.retry_is_next
            && let Some(launch) = self.next_retry(now)
        {
            return Some(launch);
        }
        let pulled = self.pull(now);
        self.note_packing(now);
        if self.may_start(pulled, now)
            && let Some(launch) = self.start_parcel(now)
        {
            self.retry_is_next = true;
            return Some(launch);
        }
        self.next_retry(now)
    }

    fn note_packing(&mut self, now: Instant) {
        let since = self.packing_since.unwrap_or(now);
        self.packing_since = self.window.has_parcel().then_some(since);
    }

    /// When the next parcel goes even if it is not complete.
    pub(super) fn parcel_due_at(&self) -> Option<Instant> {
        let reading = if self.intake.wants_page() { READING } else { Duration::ZERO };
        self.packing_since.map(|since| since + self.max_wait.max(reading))
    }

    /// Whether the parcel goes as it is.
    fn may_start(&self, pulled: Pulled, now: Instant) -> bool {
        self.window.has_parcel()
            && (self.window.is_complete()
                || self.hurried > 0
                || pulled == Pulled::Enough
                || self.parcel_due_at().is_some_and(|due_at| now >= due_at))
    }

    fn start_parcel(&mut self, now: Instant) -> Option<Launch> {
        let ticket = self.health.try_start(now)?;
        let events = self.window.start();
        self.packing_since = self.window.has_parcel().then_some(now);
        self.hurried = self.hurried.saturating_sub(events.len());
        let bytes = events.iter().map(|numbered| numbered.event.body.len()).sum();
        self.flying += 1;
        self.flying_bytes += bytes;
        let parcel = Parcel { events, number: 1 };
        Some(Launch { parcel, tries: Vec::new(), parked: false, bytes, ticket })
    }

    fn next_retry(&mut self, now: Instant) -> Option<Launch> {
        let limits = self.window.limits();
        let (due, unwanted) =
            self.retries.start(limits, |delivery| self.wanted.name(&delivery.event.name));
        for unwanted in unwanted {
            // Parked before the filter was changed.
            let listed = Listed { seq: unwanted.seq, sequence: unwanted.sequence };
            self.window.start_parked();
            self.window.finish_parked(listed, unwanted.event.lanes, Ended::Succeeded);
        }
        if due.is_empty() {
            return None;
        }
        let Some(ticket) = self.health.try_start(now) else {
            self.retries.put_back(due);
            return None;
        };
        self.retry_is_next = false;
        let mut launch = Launch {
            parcel: Parcel { events: Vec::with_capacity(due.len()), number: 1 },
            tries: Vec::with_capacity(due.len()),
            parked: true,
            bytes: 0,
            ticket,
        };
        for DueDelivery { sequence, attempts, event, .. } in due {
            self.window.start_parked();
            let tries = attempts.saturating_add(1);
            launch.bytes += event.body.len();
            launch.parcel.number = launch.parcel.number.max(tries);
            launch.parcel.events.push(Numbered { event, sequence });
            launch.tries.push(tries);
        }
        self.flying += 1;
        self.flying_bytes += launch.bytes;
        Some(launch)
    }

    /// Whether so many records wait behind a failure that nothing new is taken.
    fn is_crowded(&mut self) -> bool {
        let crowded = self.window.parked_lanes() >= PARKED_LANES;
        if crowded && !self.crowded {
            tracing::warn!(
                endpoint = &*self.name,
                records = PARKED_LANES,
                "that many records wait behind a failure: new events stay in the journal until \
                 some of them are delivered or given up"
            );
        }
        self.crowded = crowded;
        crowded
    }

    /// Whether no more events fit into memory, or nothing may be taken before others have left.
    fn takes_no_more(&mut self) -> bool {
        let limits = self.window.limits();
        self.window.is_complete()
            || self.window.held() >= HELD_EVENTS.max(2 * limits.events)
            || self.window.held_bytes() >= HELD_BYTES.max(2 * limits.bytes)
            || self.is_crowded()
            || self.window.is_barred()
    }

    /// Takes from the stream until a parcel is complete.
    fn pull(&mut self, now: Instant) -> Pulled {
        self.intake.resume();
        let mut left = TURN_EVENTS;
        while left > 0 {
            if self.takes_no_more() {
                return Pulled::Enough;
            }
            let Some(found) = self.intake.next(self.journal.tail(), self.window.taken()) else {
                return if self.intake.wants_page() { Pulled::Later } else { Pulled::Nothing };
            };
            let (batch, seq, at, named) = match found {
                Found::Event { batch, seq, at, named } => (batch, seq, at, named),
                Found::Nothing(through) => {
                    self.window.pass(through);
                    continue;
                }
                Found::Lost(run) => {
                    self.window.pass(Seq(run.first.0 - 1));
                    self.window.lose(run.last);
                    continue;
                }
            };
            if named {
                self.window.pass(Seq(seq.0 - 1));
            }
            left = left.saturating_sub(if self.wanted.is_costly() { COSTLY } else { 1 });
            let events = batch.events();
            let pending = self.wanted.pending(seq);
            let wanted = (events.events().get(at)).is_some_and(|event| match pending {
                Some(_) => self.wanted.name(&event.name),
                None if named => self.wanted.named(seq, event, events.body(event), now),
                None => self.wanted.event(seq, event, events.body(event), now),
            });
            match wanted.then(|| batch.get(seq)).flatten() {
                Some(event) => {
                    let (lanes, bytes) = (event.lanes, event.body.len());
                    let make = |sequence| Numbered { event, sequence };
                    match pending {
                        Some(listed) => self.window.take_pending(listed, lanes, bytes, make),
                        None => self.window.take(seq, lanes, bytes, make),
                    }
                }
                None => self.window.skip(seq),
            }
        }
        self.intake.interrupted();
        Pulled::Nothing
    }
}
