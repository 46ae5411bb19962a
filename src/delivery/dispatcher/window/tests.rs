use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::journal::OutcomeKind;

const SLOTS: usize = 4;
const HELD: usize = 16;

fn window(ordering: Ordering) -> Window<Seq> {
    Window::new(ordering, Seq(0), &[], false)
}

fn take(window: &mut Window<Seq>, seq: i64, lanes: Lanes) {
    window.take(Seq(seq), lanes, 1, Seq(seq));
}

fn started(window: &mut Window<Seq>) -> Vec<i64> {
    std::iter::from_fn(|| window.start()).map(|seq| seq.0).collect()
}

fn waiting(attempts: u32) -> Ended {
    Ended::Waiting { due_at_ms: 0, attempts }
}

#[test]
fn a_lane_is_released_by_the_commit_and_not_before() {
    let mut window = window(Ordering::Record);
    for (seq, lane) in [(1, 10), (2, 10), (3, 20)] {
        take(&mut window, seq, Lanes::one(lane));
    }
    assert_eq!(started(&mut window), [1, 3]);
    window.finish(Seq(1), Ended::Succeeded);
    assert!(started(&mut window).is_empty());
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.in_flight), (Seq(1), vec![]));
    assert!(started(&mut window).is_empty());
    window.committed(&[], false);
    assert_eq!(started(&mut window), [2]);
    window.finish(Seq(3), Ended::Succeeded);
    let settling = window.settle();
    assert_eq!(
        (settling.cursor, settling.in_flight),
        (Seq(3), vec![Listed { seq: Seq(2), sequence: 0 }])
    );
}

#[test]
fn a_failure_parks_all_that_stands_behind_it_and_nothing_else() {
    let mut window = window(Ordering::Record);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::two(10, 20));
    take(&mut window, 3, Lanes::one(20));
    take(&mut window, 4, Lanes::two(20, 30));
    take(&mut window, 5, Lanes::one(40));
    take(&mut window, 6, Lanes::NONE);
    assert_eq!(started(&mut window), [1, 5, 6]);
    window.finish(Seq(1), waiting(1));
    let settling = window.settle();
    let parks: Vec<i64> = settling.parks.iter().map(|park| park.seq.0).collect();
    assert_eq!(parks, [2, 3, 4]);
    assert_eq!((settling.cursor, settling.in_flight), (Seq(4), vec![]));
    // What comes meanwhile waits for the commit, and is parked with the next settlement.
    take(&mut window, 7, Lanes::one(30));
    assert!(!window.has_news());
    window.committed(&[(10, 2), (20, 3), (30, 1)], true);
    assert!(window.has_news());
    let settling = window.settle();
    assert_eq!(
        settling.parks,
        [Park { seq: Seq(7), sequence: 0, attempts: 0, lanes: Lanes::one(30) }]
    );
    window.committed(&[(30, 2)], true);
    assert_eq!(window.held(), 0);
    assert_eq!(window.parked_lanes(), 3);
}

#[test]
fn nothing_is_parked_behind_someone_still_on_the_way() {
    let mut window = window(Ordering::Record);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::one(20));
    take(&mut window, 3, Lanes::two(10, 20));
    assert_eq!(started(&mut window), [1, 2]);
    window.finish(Seq(1), waiting(1));
    assert_eq!(window.settle().parks, []);
    window.committed(&[(10, 1)], true);
    window.finish(Seq(2), Ended::Succeeded);
    // 2 leaves with this very settlement, so 3 is first but for what is parked.
    assert_eq!(
        window.settle().parks,
        [Park { seq: Seq(3), sequence: 0, attempts: 0, lanes: Lanes::two(10, 20) }]
    );
}

#[test]
fn the_last_parked_one_of_a_lane_gives_way_to_what_is_held() {
    let mut window: Window<Seq> = Window::new(Ordering::Record, Seq(5), &[(10, 1)], true);
    window.start_parked();
    window.finish_parked(Seq(2), Lanes::one(10), Ended::Succeeded);
    take(&mut window, 6, Lanes::one(10));
    let settling = window.settle();
    assert_eq!(settling.parks, []);
    assert_eq!(settling.in_flight, [], "6 is beyond the cursor");
    assert!(started(&mut window).is_empty());
    window.committed(&[(10, 0)], false);
    assert_eq!(started(&mut window), [6]);
}

#[test]
fn strict_order_waits_in_memory() {
    let mut window = window(Ordering::Strict);
    take(&mut window, 1, Lanes::one(10));
    assert_eq!(started(&mut window), [1]);
    take(&mut window, 2, Lanes::one(20));
    assert!(window.is_barred());
    window.finish(Seq(1), waiting(1));
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.parks), (Seq(1), vec![]));
    let kind = OutcomeKind::Waiting { due_at_ms: 0, attempts: 1, lanes: Lanes::one(10) };
    assert_eq!(settling.outcomes, [Outcome { seq: Seq(1), sequence: 0, kind }]);
    window.committed(&[(10, 1)], true);
    assert!(started(&mut window).is_empty());
    assert!(!window.has_news());
    window.start_parked();
    window.finish_parked(Seq(1), Lanes::one(10), Ended::Dead { attempts: 2 });
    window.settle();
    window.committed(&[(10, 0)], false);
    assert_eq!(started(&mut window), [2]);
}

#[test]
fn lanes_thought_parked_are_freed_when_nothing_is() {
    for ordering in [Ordering::Record, Ordering::Strict] {
        let mut window: Window<Seq> = Window::new(ordering, Seq(5), &[(10, 3)], true);
        window.nothing_parked();
        take(&mut window, 6, Lanes::one(10));
        assert_eq!(started(&mut window), [6], "{ordering:?}");
    }
}

#[test]
fn a_barrier_waits_for_all_before_it_and_all_behind_wait_for_its_commit() {
    let mut window = window(Ordering::Record);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::one(10));
    take(&mut window, 3, Lanes::BARRIER);
    assert!(window.is_barred());
    assert_eq!(started(&mut window), [1]);
    window.finish(Seq(1), Ended::Succeeded);
    window.settle();
    window.committed(&[], false);
    assert_eq!(started(&mut window), [2]);
    window.finish(Seq(2), waiting(1));
    window.settle();
    assert!(started(&mut window).is_empty(), "2 is not written down yet");
    window.committed(&[(10, 1)], true);
    assert_eq!(started(&mut window), [3]);
    // Taken although it is barred, as a start may do.
    take(&mut window, 4, Lanes::one(20));
    assert!(started(&mut window).is_empty());
    window.finish(Seq(3), waiting(1));
    window.settle();
    assert!(window.is_barred() && started(&mut window).is_empty());
    window.committed(&[(Lanes::BARRIER.as_slice()[0], 1)], true);
    assert!(!window.is_barred());
    assert_eq!(started(&mut window), [4]);
    take(&mut window, 5, Lanes::BARRIER);
    window.finish(Seq(4), Ended::Succeeded);
    window.settle();
    window.committed(&[], true);
    assert_eq!(
        window.settle().parks,
        [Park { seq: Seq(5), sequence: 0, attempts: 0, lanes: Lanes::BARRIER }]
    );
}

#[test]
fn what_is_passed_over_moves_the_cursor() {
    let mut window = window(Ordering::Record);
    window.skip(Seq(1));
    assert_eq!(window.cursor(), Seq(1));
    take(&mut window, 2, Lanes::one(1));
    window.skip(Seq(3));
    assert_eq!(window.cursor(), Seq(1));
    started(&mut window);
    window.finish(Seq(2), Ended::Succeeded);
    assert_eq!(window.settle().cursor, Seq(3));
}

/// The journal's side of the rule, in its plainest form.
#[derive(Default)]
struct Journal {
    cursor: Seq,
    in_flight: Vec<Seq>,
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
        self.in_flight = settling.in_flight.iter().map(|listed| listed.seq).collect();
        for outcome in &settling.outcomes {
            match outcome.kind {
                OutcomeKind::Succeeded => {
                    self.parked.remove(&outcome.seq);
                }
                OutcomeKind::Waiting { lanes, .. } => {
                    let row = Row { lanes, blocked: false };
                    self.parked.entry(outcome.seq).or_insert(row);
                }
                OutcomeKind::Dead { .. } => {
                    self.parked.remove(&outcome.seq);
                    self.dead.insert(outcome.seq);
                }
            }
        }
        for park in &settling.parks {
            self.parked.insert(park.seq, Row { lanes: park.lanes, blocked: true });
        }
        let first = self.first_of_lanes();
        for (seq, row) in &mut self.parked {
            row.blocked &= !row.lanes.as_slice().iter().all(|lane| first[lane] == *seq);
        }
        assert!(self.in_flight.iter().all(|seq| !self.parked.contains_key(seq)));
        let mut counts: HashMap<i64, u32> = HashMap::new();
        for lane in (0..LANES).chain([STRICT, Lanes::BARRIER.as_slice()[0]]) {
            counts.insert(lane, 0);
        }
        for row in self.parked.values() {
            for lane in row.lanes.as_slice() {
                *counts.entry(*lane).or_default() += 1;
            }
        }
        counts.into_iter().collect()
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

/// A dispatcher without a network, a clock or a file, that dies now and then.
struct World {
    rng: StdRng,
    ordering: Ordering,
    events: Vec<Lanes>,
    window: Window<Seq>,
    journal: Journal,
    on_the_way: Option<Settling>,
    flying: Vec<(Seq, bool)>,
    active: BTreeSet<Seq>,
    /// The last event of each lane that was ever sent.
    sent: HashMap<i64, Seq>,
    delivered: BTreeSet<Seq>,
    /// The last event and the last barrier sent straight from the stream.
    fresh: (Seq, Seq),
}

impl World {
    fn new(seed: u64, ordering: Ordering) -> World {
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
            window: Window::new(ordering, Seq(0), &[], false),
            journal: Journal::default(),
            on_the_way: None,
            flying: Vec::new(),
            active: BTreeSet::new(),
            sent: HashMap::new(),
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
            _ => {}
        }
        // After a crash what was on its way is held again.
        assert!(self.window.held() <= HELD + 2 * SLOTS);
        assert!(self.window.in_flight() + self.window.unsettled() <= 2 * SLOTS);
        assert_eq!(self.window.in_flight(), self.flying.len());
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
        let in_flight = self.window.in_flight();
        in_flight >= self.slots() || in_flight + self.window.unsettled() >= 2 * self.slots()
    }

    fn start(&mut self) {
        if !self.is_busy()
            && let Some(seq) = self.window.start()
        {
            self.send(seq, false);
        }
    }

    fn start_parked(&mut self) {
        let due: Vec<Seq> = (self.journal.parked.iter())
            .filter(|(seq, row)| !row.blocked && !self.active.contains(seq))
            .map(|(&seq, _)| seq)
            .collect();
        if self.is_busy() || due.is_empty() {
            return;
        }
        let seq = due[self.rng.random_range(0..due.len())];
        self.active.insert(seq);
        self.window.start_parked();
        self.send(seq, true);
    }

    fn send(&mut self, seq: Seq, parked: bool) {
        let keys = match self.ordering {
            Ordering::Record => self.lanes(seq),
            Ordering::Strict => Lanes::one(STRICT),
            Ordering::None => Lanes::NONE,
        };
        for &key in keys.as_slice() {
            let last = self.sent.insert(key, seq);
            assert!(last <= Some(seq), "{seq} is sent after {last:?} of lane {key}");
        }
        if !parked && self.ordering == Ordering::Record {
            let (last, last_barrier) = &mut self.fresh;
            assert!(*last_barrier <= seq, "{seq} is sent after the barrier {last_barrier}");
            if self.events[usize::try_from(seq.0 - 1).unwrap()].is_barrier() {
                assert!(*last <= seq, "the barrier {seq} is sent after {last}");
                assert!(self.flying.iter().all(|(_, parked)| *parked), "{seq} is not alone");
                *last_barrier = seq;
            }
            *last = (*last).max(seq);
        }
        self.flying.push((seq, parked));
    }

    fn finish(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.flying.len());
        let (seq, parked) = self.flying.swap_remove(at);
        let ended = match self.rng.random_range(0..10) {
            0..6 => Ended::Succeeded,
            6..9 => waiting(1),
            _ => Ended::Dead { attempts: 1 },
        };
        if ended == Ended::Succeeded {
            self.delivered.insert(seq);
        }
        match parked {
            true => self.window.finish_parked(seq, self.lanes(seq), ended),
            false => self.window.finish(seq, ended),
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
        }
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
        self.window = Window::new(self.ordering, cursor, &counts, waits);
        for seq in self.journal.in_flight.clone() {
            let lanes = self.lanes(seq);
            take(&mut self.window, seq.0, lanes);
        }
    }

    /// Everything succeeds from now on: it must come to an end.
    fn drain(&mut self) {
        for _ in 0..100_000 {
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
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn order_is_kept_and_nothing_is_lost_whatever_happens(seed: u64, ordering in 0..3usize) {
        let ordering = [Ordering::Record, Ordering::Strict, Ordering::None][ordering];
        let mut world = World::new(seed, ordering);
        for _ in 0..1_500 {
            world.step();
        }
        world.drain();
        for seq in (1..=60).map(Seq) {
            prop_assert!(
                world.delivered.contains(&seq) || world.journal.dead.contains(&seq),
                "{seq} is lost"
            );
        }
        prop_assert!(world.window.lanes.is_empty(), "lanes are left over");
        prop_assert_eq!(world.window.held(), 0);
        prop_assert_eq!(world.window.parked_lanes(), 0);
    }
}
