//! Whatever happens to a window, in whatever order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const SLOTS: usize = 4;
const HELD: usize = 16;

/// The journal's side of the rule, in its plainest form.
#[derive(Default)]
struct Journal {
    cursor: Seq,
    in_flight: Vec<Listed>,
    /// Retention took all up to there.
    pruned: Seq,
    parked: BTreeMap<Seq, Row>,
    dead: BTreeSet<Seq>,
}

struct Row {
    lanes: Lanes,
    blocked: bool,
}

impl Journal {
    fn apply(&mut self, settling: &Settling) -> Vec<(i64, u32)> {
        assert!(settling.cursor >= self.cursor, "the cursor went back");
        self.cursor = settling.cursor;
        assert_eq!(settling.sequence, settling.cursor.0.unsigned_abs());
        self.in_flight = settling.in_flight.clone();
        let gone = |seq: Seq| seq <= self.pruned;
        let mut touched = BTreeSet::new();
        for outcome in &settling.outcomes {
            assert_eq!(outcome.sequence, outcome.seq.0.unsigned_abs());
            match outcome.kind {
                OutcomeKind::Waiting { lanes, .. } if !gone(outcome.seq) => {
                    touched.extend(lanes.as_slice().to_vec());
                    let row = Row { lanes, blocked: false };
                    self.parked.entry(outcome.seq).or_insert(row);
                }
                kind => {
                    if let Some(row) = self.parked.remove(&outcome.seq) {
                        touched.extend(row.lanes.as_slice().to_vec());
                    }
                    if matches!(kind, OutcomeKind::Dead { .. }) {
                        self.dead.insert(outcome.seq);
                    }
                }
            }
        }
        for park in settling.parks.iter().filter(|park| !gone(park.seq)) {
            assert_eq!(park.sequence, park.seq.0.unsigned_abs());
            touched.extend(park.lanes.as_slice().to_vec());
            self.parked.insert(park.seq, Row { lanes: park.lanes, blocked: true });
        }
        self.promote();
        assert!(self.in_flight.iter().all(|listed| !self.parked.contains_key(&listed.seq)));
        let mut counts: HashMap<i64, u32> = touched.into_iter().map(|lane| (lane, 0)).collect();
        for row in self.parked.values() {
            for lane in row.lanes.as_slice() {
                counts.entry(*lane).and_modify(|count| *count += 1);
            }
        }
        counts.into_iter().collect()
    }

    /// What is blocked by nothing waits from now on.
    fn promote(&mut self) {
        let first = self.first_of_lanes();
        for (seq, row) in &mut self.parked {
            row.blocked &= !row.lanes.as_slice().iter().all(|lane| first[lane] == *seq);
        }
    }

    fn first_of_lanes(&self) -> HashMap<i64, Seq> {
        let mut first = HashMap::new();
        for (&seq, row) in &self.parked {
            for &lane in row.lanes.as_slice() {
                first.entry(lane).or_insert(seq);
            }
        }
        first
    }

    fn waits(&self) -> bool {
        self.parked.values().any(|row| !row.blocked)
    }
}

const LANES: i64 = 6;

fn limits(parcel: usize) -> Limits {
    Limits { events: parcel, bytes: parcel }
}

/// A dispatcher without a network, a clock or a file, that dies now and then.
struct World {
    rng: StdRng,
    ordering: Ordering,
    /// Events in one parcel.
    parcel: usize,
    events: Vec<Lanes>,
    window: Window<Seq>,
    journal: Journal,
    on_the_way: Option<Settling>,
    flying: Vec<(Vec<Seq>, bool)>,
    active: BTreeSet<Seq>,
    /// A later event of their lane was sent without them: they may never be sent again.
    passed: BTreeSet<Seq>,
    delivered: BTreeSet<Seq>,
    /// The last event and the last barrier sent straight from the stream.
    fresh: (Seq, Seq),
}

impl World {
    fn new(seed: u64, ordering: Ordering, parcel: usize) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let events = (0..60)
            .map(|_| match rng.random_range(0..8) {
                0 if rng.random_bool(0.3) => Lanes::BARRIER,
                0 => Lanes::NONE,
                1 | 2 => Lanes::two(rng.random_range(0..LANES), rng.random_range(0..LANES)),
                _ => Lanes::one(rng.random_range(0..LANES)),
            })
            .collect();
        World {
            rng,
            ordering,
            events,
            window: Window::new(ordering, limits(parcel), from(0, &[], false)),
            parcel,
            journal: Journal::default(),
            on_the_way: None,
            flying: Vec::new(),
            active: BTreeSet::new(),
            passed: BTreeSet::new(),
            delivered: BTreeSet::new(),
            fresh: (Seq(0), Seq(0)),
        }
    }

    fn lanes(&self, seq: Seq) -> Lanes {
        self.events[usize::try_from(seq.0 - 1).unwrap()]
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..25 => self.take(),
            25..50 => self.start(),
            50..60 => self.start_parked(),
            60..80 => self.finish(),
            80..90 => self.settle(),
            90..98 => self.commit(),
            98 if self.rng.random_bool(0.3) => self.crash(),
            99 if self.rng.random_bool(0.3) => self.prune(),
            99 => self.look_around(),
            _ => {}
        }
        // After a crash what was on its way is held again.
        let most = 2 * SLOTS * self.parcel + self.parcel;
        assert!(self.window.held() <= HELD + most);
        assert!(self.window.in_flight() + self.window.unsettled() <= most);
        let flying: usize = self.flying.iter().map(|(parcel, _)| parcel.len()).sum();
        assert_eq!(self.window.in_flight(), flying);
        assert_eq!(self.window.held(), self.window.held_bytes());
    }

    fn take(&mut self) {
        let next = self.window.taken().0 + 1;
        if next > 60 || self.window.held() >= HELD || self.window.is_barred() {
            return;
        }
        let lanes = self.lanes(Seq(next));
        take(&mut self.window, next, lanes);
    }

    fn slots(&self) -> usize {
        if self.ordering == Ordering::Strict { 1 } else { SLOTS }
    }

    fn is_busy(&self) -> bool {
        let events = self.window.in_flight() + self.window.unsettled();
        self.flying.len() >= self.slots() || events >= 2 * self.slots() * self.parcel
    }

    fn start(&mut self) {
        // Now and then a parcel waits until it is complete.
        let wants =
            self.window.has_parcel() && (self.window.is_complete() || self.rng.random_bool(0.5));
        if wants && !self.is_busy() {
            let parcel = self.window.start();
            self.send(parcel, false);
        }
    }

    fn start_parked(&mut self) {
        let strict = self.ordering == Ordering::Strict;
        let mut due: Vec<Seq> = (self.journal.parked.iter())
            .filter(|(seq, row)| (strict || !row.blocked) && !self.active.contains(seq))
            .map(|(&seq, _)| seq)
            .collect();
        if self.is_busy() || due.is_empty() || (strict && !self.active.is_empty()) {
            return;
        }
        let count = self.rng.random_range(1..=self.parcel.min(due.len()));
        if !strict {
            let by = self.rng.random_range(0..due.len());
            due.rotate_left(by);
        }
        due.truncate(count);
        due.sort_unstable();
        for &seq in &due {
            self.active.insert(seq);
            self.window.start_parked();
        }
        self.send(due, true);
    }

    fn keys(&self, seq: Seq) -> Lanes {
        match self.ordering {
            Ordering::Record => self.lanes(seq),
            Ordering::Strict => Lanes::one(STRICT),
            Ordering::None => Lanes::NONE,
        }
    }

    fn send(&mut self, parcel: Vec<Seq>, parked: bool) {
        assert!(!parcel.is_empty() && parcel.len() <= self.parcel);
        assert!(parcel.is_sorted());
        for &seq in &parcel {
            assert!(!self.passed.contains(&seq), "{seq} is sent after a later one");
            let keys = self.keys(seq);
            for earlier in (1..seq.0).map(Seq).filter(|earlier| !parcel.contains(earlier)) {
                let theirs = self.keys(earlier);
                if theirs.as_slice().iter().any(|key| keys.as_slice().contains(key)) {
                    let done = self.is_done(earlier);
                    assert!(done, "{seq} is sent before {earlier}");
                    self.passed.insert(earlier);
                }
            }
            if !parked && self.ordering == Ordering::Record {
                let (last, last_barrier) = &mut self.fresh;
                assert!(*last_barrier <= seq, "{seq} is sent after the barrier {last_barrier}");
                if self.events[usize::try_from(seq.0 - 1).unwrap()].is_barrier() {
                    assert!(*last <= seq, "the barrier {seq} is sent after {last}");
                    let alone = parcel.len() == 1 && self.flying.iter().all(|(_, parked)| *parked);
                    assert!(alone, "{seq} is not alone");
                    *last_barrier = seq;
                }
                *last = (*last).max(seq);
            }
        }
        self.flying.push((parcel, parked));
    }

    fn finish(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.flying.len());
        let (parcel, parked) = self.flying.swap_remove(at);
        if !parked && parcel.len() > 1 && self.rng.random_bool(0.2) {
            let bytes = if self.rng.random_bool(0.2) { self.parcel } else { parcel.len() / 2 };
            self.window.limit_bytes(bytes);
            self.window.put_back(parcel.iter().map(|&seq| (seq, seq)).collect());
            return;
        }
        let fate = self.rng.random_range(0..10);
        let mut held = BTreeSet::new();
        for seq in parcel {
            let partly = fate == 9 && self.rng.random_bool(0.5);
            let ended = match fate {
                0..6 => Ended::Succeeded,
                9 if partly => Ended::Succeeded,
                8 => Ended::Dead { attempts: 1 },
                _ => {
                    let lanes = self.lanes(seq);
                    let blocked = lanes.as_slice().iter().any(|lane| held.contains(lane));
                    held.extend(lanes.as_slice().to_vec());
                    match blocked && self.ordering != Ordering::None {
                        true => Ended::Blocked { attempts: 1 },
                        false => waiting(1),
                    }
                }
            };
            if ended == Ended::Succeeded {
                self.delivered.insert(seq);
            }
            match parked {
                true => self.window.finish_parked(listed(seq.0), self.lanes(seq), ended),
                false => self.window.finish(seq, ended),
            }
        }
    }

    fn settle(&mut self) {
        if self.on_the_way.is_none() && self.window.has_news() {
            self.on_the_way = Some(self.window.settle());
        }
    }

    fn commit(&mut self) {
        if let Some(settling) = self.on_the_way.take() {
            let counts = self.journal.apply(&settling);
            self.window.committed(&counts, self.journal.waits());
            for outcome in settling.outcomes {
                self.active.remove(&outcome.seq);
            }
            for park in settling.parks {
                self.active.remove(&park.seq);
            }
        }
    }

    /// Retention takes the oldest events, even such as are on their way.
    fn prune(&mut self) {
        let by = self.rng.random_range(0..4);
        let journal = &mut self.journal;
        journal.pruned = Seq(journal.pruned.0 + by).min(journal.cursor);
        let pruned = journal.pruned;
        journal.parked.retain(|&seq, _| seq > pruned);
        journal.promote();
    }

    /// Now and then the journal is asked for what is due, whatever is expected.
    fn look_around(&mut self) {
        if self.journal.parked.is_empty() && self.active.is_empty() && self.on_the_way.is_none() {
            self.window.nothing_parked();
        }
    }

    fn is_done(&self, seq: Seq) -> bool {
        let journal = &self.journal;
        self.delivered.contains(&seq) || journal.dead.contains(&seq) || seq <= journal.pruned
    }

    fn crash(&mut self) {
        if let Some(settling) = self.on_the_way.take()
            && self.rng.random_bool(0.5)
        {
            self.journal.apply(&settling);
        }
        self.flying.clear();
        self.active.clear();
        let mut counts: HashMap<i64, u32> = HashMap::new();
        for lane in self.journal.parked.values().flat_map(|row| row.lanes.as_slice().to_vec()) {
            *counts.entry(lane).or_default() += 1;
        }
        let counts: Vec<(i64, u32)> = counts.into_iter().collect();
        let (cursor, waits) = (self.journal.cursor, self.journal.waits());
        let beginning = from(cursor.0, &counts, waits);
        self.window = Window::new(self.ordering, limits(self.parcel), beginning);
        let pruned = self.journal.pruned;
        self.journal.in_flight.retain(|listed| listed.seq > pruned);
        for listed in self.journal.in_flight.clone() {
            let lanes = self.lanes(listed.seq);
            self.window.restore(listed, lanes, 1, listed.seq);
        }
    }

    /// Everything succeeds from now on: it must come to an end.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            self.look_around();
            if self.journal.cursor == Seq(60)
                && self.journal.in_flight.is_empty()
                && self.journal.parked.is_empty()
            {
                return;
            }
            self.take();
            self.start();
            self.start_parked();
            self.finish();
            self.settle();
            self.commit();
        }
        panic!("stuck: {:?}", self.window);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn order_is_kept_and_nothing_is_lost_whatever_happens(
        seed: u64,
        ordering in 0..3usize,
        parcel in 1..8usize,
    ) {
        let ordering = [Ordering::Record, Ordering::Strict, Ordering::None][ordering];
        let mut world = World::new(seed, ordering, parcel);
        for _ in 0..1_500 {
            world.step();
        }
        world.drain();
        for seq in (1..=60).map(Seq) {
            prop_assert!(world.is_done(seq), "{seq} is lost");
        }
        prop_assert!(world.window.lanes.is_empty(), "lanes are left over");
        prop_assert_eq!(world.window.held(), 0);
        prop_assert_eq!(world.window.parked_lanes(), 0);
    }
}
