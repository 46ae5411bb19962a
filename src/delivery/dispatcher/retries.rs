//! Deliveries that are due again, between the journal and a free slot. Plain data.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::delivery::retry::LONGEST_DELAY;
use crate::journal::{Due, DueDelivery, Seq, Settled};

use super::window::Limits;

/// Longer than any delay.
const BELIEVED: Duration = LONGEST_DELAY.saturating_add(Duration::from_secs(24 * 3600));

/// What is known of the endpoint's waiting deliveries.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Whether only the first of all that waits may go: the journal is asked for them in that order.
    strict: bool,
    /// Due and waiting for a slot.
    queue: VecDeque<DueDelivery>,
    /// In the queue, on their way, or settled but not committed: the journal still lists them.
    active: HashSet<Seq>,
    /// Parked by the settlement that is on its way: the journal may list them before it is known
    /// here that it was committed.
    parking: HashSet<Seq>,
    /// When the first of the others is due, as far as known.
    next_due_ms: Option<i64>,
    fetch: Option<Fetch>,
}

/// A question to the journal, and what has changed since it was asked.
#[derive(Debug, Default)]
struct Fetch {
    settled: HashSet<Seq>,
    stale: bool,
}

impl Retries {
    pub(super) fn new(strict: bool, next_due_ms: Option<i64>) -> Retries {
        Retries { strict, next_due_ms, ..Retries::default() }
    }

    /// In strict order nothing is asked for while any is on its way: should that one fail, nothing
    /// behind it may go.
    fn may_fetch(&self) -> bool {
        let alone = !self.strict || self.active.is_empty();
        alone && self.fetch.is_none() && self.queue.is_empty()
    }

    /// Whether the journal should be asked what is due.
    pub(super) fn wants_fetch(&self, now_ms: i64) -> bool {
        self.may_fetch() && self.next_due_ms.is_some_and(|due_ms| due_ms <= self.until_ms(now_ms))
    }

    /// Up to when what is due is to be asked for: up to now. But no retry is put off as long as
    /// [`BELIEVED`]; one that seems to be was written down before the clock was set back.
    pub(super) fn until_ms(&self, now_ms: i64) -> i64 {
        let believed = i64::try_from(BELIEVED.as_millis()).unwrap_or(i64::MAX);
        let beyond = now_ms.saturating_add(believed);
        self.next_due_ms.filter(|&due_ms| due_ms > beyond).unwrap_or(now_ms)
    }

    /// When [`wants_fetch`](Retries::wants_fetch) is to be asked again.
    pub(super) fn wakes_at_ms(&self) -> Option<i64> {
        self.next_due_ms.filter(|_| self.may_fetch())
    }

    /// The journal is being asked; returns the deliveries it should leave out.
    pub(super) fn begin_fetch(&mut self) -> Vec<Seq> {
        self.fetch = Some(Fetch::default());
        self.next_due_ms = None;
        self.active.iter().copied().collect()
    }

    /// The journal's answer. Returns whether nothing at all waits there.
    pub(super) fn found(&mut self, due: Due) -> bool {
        let fetch = self.fetch.take().unwrap_or_default();
        let nothing = due.deliveries.is_empty()
            && due.next_due_ms.is_none()
            && self.active.is_empty()
            && self.next_due_ms.is_none()
            && !fetch.stale;
        self.due_at(due.next_due_ms);
        for delivery in due.deliveries {
            // The answer may be older than a settlement committed meanwhile, or newer than what is
            // known here: that one is asked for again when it is.
            let known =
                !fetch.settled.contains(&delivery.seq) && !self.parking.contains(&delivery.seq);
            if known && self.active.insert(delivery.seq) {
                self.queue.push_back(delivery);
            }
        }
        nothing
    }

    /// The journal gave no answer: ask again.
    pub(super) fn found_nothing(&mut self, now_ms: i64) {
        self.fetch = None;
        self.due_at(Some(now_ms));
    }

    /// The next ones to be sent, in one parcel; those that are not `wanted` any more besides.
    pub(super) fn start(
        &mut self,
        limits: Limits,
        wanted: impl Fn(&DueDelivery) -> bool,
    ) -> (Vec<DueDelivery>, Vec<DueDelivery>) {
        let (mut parcel, mut unwanted, mut bytes) = (Vec::new(), Vec::new(), 0);
        while parcel.len() < limits.events
            && let Some(next) = self.queue.front()
        {
            let is_wanted = wanted(next);
            let size = next.event.body.len().max(1);
            if is_wanted && !parcel.is_empty() && bytes + size > limits.bytes {
                break;
            }
            let Some(next) = self.queue.pop_front() else { break };
            if is_wanted {
                bytes += size;
                parcel.push(next);
            } else {
                unwanted.push(next);
            }
        }
        if self.strict {
            // They are asked for anew when it is known what came of the parcel.
            for left in self.queue.drain(..) {
                self.active.remove(&left.seq);
            }
        }
        // They came by due time.
        parcel.sort_unstable_by_key(|delivery: &DueDelivery| delivery.seq);
        (parcel, unwanted)
    }

    /// Those that were started wait for their turn again, before all others.
    pub(super) fn put_back(&mut self, deliveries: Vec<DueDelivery>) {
        for delivery in deliveries.into_iter().rev() {
            self.queue.push_front(delivery);
        }
    }

    /// A settlement is on its way that parks these.
    pub(super) fn parking(&mut self, seqs: impl Iterator<Item = Seq>) {
        self.parking.extend(seqs);
    }

    /// A settlement is committed. `seqs` are those whose outcomes it held, `dues_ms` when those of
    /// them that wait (again) are due.
    pub(super) fn committed(
        &mut self,
        seqs: impl Iterator<Item = Seq>,
        dues_ms: impl Iterator<Item = i64>,
        settled: &Settled,
        now_ms: i64,
    ) {
        self.parking.clear();
        for seq in seqs {
            self.active.remove(&seq);
            if let Some(fetch) = &mut self.fetch {
                fetch.settled.insert(seq);
            }
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.stale = true;
        }
        if self.active.is_empty() && self.fetch.is_none() {
            self.next_due_ms = settled.next_due_ms;
            return;
        }
        self.due_at(dues_ms.min());
        if !settled.promoted.is_empty() {
            self.due_at(Some(now_ms));
        }
    }

    /// Something may be due from then on.
    pub(super) fn due_at(&mut self, due_ms: Option<i64>) {
        self.next_due_ms = match (self.next_due_ms, due_ms) {
            (Some(known), Some(other)) => Some(known.min(other)),
            (known, other) => known.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::event::id::TransactionTag;
    use crate::event::{EventId, Lanes};
    use crate::journal::StoredEvent;

    use super::*;

    fn due(seqs: &[i64], next_due_ms: Option<i64>) -> Due {
        let tag = TransactionTag::new("test", 1, 1, 1, 1);
        let delivery = |&seq: &i64| DueDelivery {
            seq: Seq(seq),
            sequence: 0,
            attempts: 1,
            event: StoredEvent {
                seq: Seq(seq),
                id: EventId::new(1, seq.unsigned_abs(), tag),
                name: Arc::from("person.created"),
                lanes: Lanes::one(seq),
                committed_at_us: 0,
                body: Bytes::new(),
            },
        };
        Due { deliveries: seqs.iter().map(delivery).collect(), next_due_ms }
    }

    const ONE: Limits = Limits { events: 1, bytes: 1 };

    fn start(retries: &mut Retries) -> Option<Seq> {
        retries.start(ONE, |_| true).0.pop().map(|delivery| delivery.seq)
    }

    fn commit(retries: &mut Retries, seqs: &[i64], settled: &Settled) {
        let seqs = seqs.iter().copied().map(Seq);
        retries.committed(seqs, std::iter::empty(), settled, 100);
    }

    #[test]
    fn an_answer_older_than_a_settlement_repeats_nothing() {
        let mut retries = Retries::new(false, Some(5));
        assert!(!retries.wants_fetch(4) && retries.wants_fetch(5));
        assert_eq!(retries.begin_fetch(), []);
        assert!(!retries.wants_fetch(5));
        assert!(!retries.found(due(&[1, 2], Some(5))));
        assert_eq!(start(&mut retries).unwrap(), Seq(1));
        assert_eq!(start(&mut retries).unwrap(), Seq(2));
        let mut except = retries.begin_fetch();
        except.sort();
        assert_eq!(except, [Seq(1), Seq(2)]);
        // While the journal reads, 1 and 2 are settled: its answer may still hold them.
        commit(&mut retries, &[1, 2], &Settled::default());
        assert!(!retries.found(due(&[1, 2, 3], None)));
        assert_eq!(start(&mut retries).unwrap(), Seq(3));
        assert!(start(&mut retries).is_none());
    }

    #[test]
    fn an_answer_newer_than_what_is_known_repeats_nothing() {
        let mut retries = Retries::new(false, Some(5));
        retries.begin_fetch();
        // 1 failed, and the settlement that parks it is committed while the journal reads; but the
        // answer is here before the news of that.
        retries.parking([Seq(1)].into_iter());
        assert!(!retries.found(due(&[1], None)));
        assert!(start(&mut retries).is_none());
        let settled = Settled { next_due_ms: Some(5), ..Settled::default() };
        retries.committed([Seq(1)].into_iter(), [5].into_iter(), &settled, 100);
        assert!(retries.wants_fetch(100));
        assert_eq!(retries.begin_fetch(), []);
        retries.found(due(&[1], None));
        assert_eq!(start(&mut retries).unwrap(), Seq(1));
        // It is on its way now, and nobody hands it out again.
        assert_eq!(retries.begin_fetch(), [Seq(1)]);
    }

    #[test]
    fn parcels_keep_their_limits_and_leave_out_what_is_not_wanted() {
        let mut retries = Retries::new(false, Some(5));
        retries.begin_fetch();
        retries.found(due(&[1, 2, 3, 4], None));
        let limits = Limits { events: 2, bytes: 10 };
        let (parcel, unwanted) = retries.start(limits, |delivery| delivery.seq != Seq(2));
        let numbers = |found: &[DueDelivery]| found.iter().map(|d| d.seq.0).collect::<Vec<_>>();
        assert_eq!((numbers(&parcel), numbers(&unwanted)), (vec![1, 3], vec![2]));
        retries.put_back(parcel);
        let (parcel, _) = retries.start(Limits { events: 9, bytes: 2 }, |_| true);
        assert_eq!(numbers(&parcel), [1, 3]);
        assert_eq!(start(&mut retries), Some(Seq(4)));
    }

    #[test]
    fn in_strict_order_nothing_overtakes_a_parcel_that_may_fail() {
        let mut retries = Retries::new(true, Some(5));
        retries.begin_fetch();
        retries.found(due(&[1, 2, 3], None));
        assert_eq!(start(&mut retries), Some(Seq(1)));
        assert_eq!(start(&mut retries), None, "2 and 3 wait for what comes of 1");
        retries.due_at(Some(1));
        assert!(!retries.wants_fetch(100));
        let settled = Settled { next_due_ms: Some(7), ..Settled::default() };
        commit(&mut retries, &[1], &settled);
        assert!(!retries.wants_fetch(6) && retries.wants_fetch(7));
    }

    #[test]
    fn nothing_is_reported_only_by_an_answer_that_is_not_stale() {
        let mut retries = Retries::new(false, Some(5));
        retries.begin_fetch();
        commit(&mut retries, &[], &Settled::default());
        assert!(!retries.found(due(&[], None)));
        retries.begin_fetch();
        assert!(retries.found(due(&[], None)));
    }

    #[test]
    fn promoted_deliveries_are_fetched_at_once() {
        let mut retries = Retries::new(false, Some(5));
        retries.begin_fetch();
        retries.found(due(&[1], None));
        start(&mut retries).unwrap();
        let settled = Settled { promoted: vec![Seq(7)], ..Settled::default() };
        commit(&mut retries, &[], &settled);
        assert!(retries.wants_fetch(100));
        retries.begin_fetch();
        retries.found(due(&[7], Some(400)));
        assert_eq!(retries.wakes_at_ms(), None, "the queue comes first");
        start(&mut retries).unwrap();
        assert_eq!(retries.wakes_at_ms(), Some(400));
    }

    #[test]
    fn a_clock_that_was_set_back_puts_nothing_off_for_years() {
        let week_ms = i64::try_from(LONGEST_DELAY.as_millis()).unwrap();
        let retries = Retries::new(false, Some(week_ms));
        assert!(!retries.wants_fetch(0));
        assert_eq!(retries.until_ms(0), 0);
        let retries = Retries::new(false, Some(2 * week_ms));
        assert!(retries.wants_fetch(0));
        assert_eq!(retries.until_ms(0), 2 * week_ms);
    }
}
