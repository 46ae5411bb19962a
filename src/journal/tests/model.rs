//! The order of deliveries against a model that is simple enough to be believed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelState {
    Waiting,
    Blocked,
}

/// Parked deliveries and their lanes; everything else follows.
#[derive(Clone, Debug, Default)]
struct Model {
    parked: BTreeMap<i64, (ModelState, Lanes)>,
    dead: BTreeSet<i64>,
}

impl Model {
    fn holds(&self, lane: i64) -> u32 {
        self.parked.values().filter(|(_, lanes)| lanes.as_slice().contains(&lane)).count() as u32
    }

    fn is_held(&self, lanes: Lanes) -> bool {
        lanes.as_slice().iter().any(|&lane| self.holds(lane) > 0)
    }

    /// Makes blocked ones that are first on all their lanes waiting, and names them.
    fn promote(&mut self) -> Vec<i64> {
        let before = self.parked.clone();
        let mut promoted = Vec::new();
        for (&seq, (state, lanes)) in &mut self.parked {
            let first = |lane| {
                before
                    .iter()
                    .all(|(&other, (_, others))| other >= seq || !others.as_slice().contains(&lane))
            };
            if *state == ModelState::Blocked && lanes.as_slice().iter().all(|&lane| first(lane)) {
                *state = ModelState::Waiting;
                promoted.push(seq);
            }
        }
        promoted
    }
}

/// What a dispatcher does next; numbers choose among what is possible then.
#[derive(Clone, Debug)]
enum Step {
    /// Takes the next event; if nothing holds it, its first attempt ends so.
    Take(Ending),
    /// A waiting delivery's attempt ends so.
    Retry(prop::sample::Index, Ending),
    /// All since the last settlement is settled.
    Settle,
    /// The daemon is killed and started again.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Success,
    Failure,
    Death,
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![Just(Ending::Success), Just(Ending::Failure), Just(Ending::Death)];
    let failing = prop_oneof![Just(Ending::Success), Just(Ending::Failure)];
    prop_oneof![
        6 => failing.prop_map(Step::Take),
        4 => (any::<prop::sample::Index>(), ending).prop_map(|(at, end)| Step::Retry(at, end)),
        4 => Just(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

fn event_lanes() -> impl Strategy<Value = Lanes> {
    prop_oneof![
        1 => Just(Lanes::NONE),
        4 => (0..4i64).prop_map(Lanes::one),
        4 => (0..4i64, 0..4i64).prop_map(|(one, other)| Lanes::two(one, other)),
    ]
}

/// A dispatcher in little: it obeys the journal's rules, and checks its answers.
struct Driver {
    fixture: Fixture,
    journal: Option<(Journal, JournalWriter)>,
    endpoint: EndpointId,
    lanes: Vec<Lanes>,
    model: Model,
    next: Settlement,
    /// Deliveries with an outcome in `next`: each has one at most.
    touched: BTreeSet<i64>,
    /// The last event taken.
    cursor: i64,
}

impl Driver {
    fn new(lanes: Vec<Lanes>) -> Driver {
        let fixture = Fixture::new();
        let (journal, writer) = fixture.open();
        append(&journal, append_of(1, lanes.len() as u64, |n| lanes[n as usize - 1]));
        journal.make_durable().unwrap();
        let state = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap();
        Driver {
            fixture,
            journal: Some((journal, writer)),
            endpoint: state.endpoint,
            lanes,
            model: Model::default(),
            next: Settlement::new(state.endpoint, Seq(0)),
            touched: BTreeSet::new(),
            cursor: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Take(ending) => self.take(*ending),
            Step::Retry(at, ending) => self.retry(at, *ending),
            Step::Settle => self.settle(),
            Step::Restart => {
                self.settle();
                self.journal = None;
                self.journal = Some(self.fixture.open());
                self.check();
            }
        }
    }

    fn take(&mut self, ending: Ending) {
        if self.cursor == self.lanes.len() as i64 {
            return;
        }
        self.cursor += 1;
        let (seq, lanes) = (self.cursor, self.lanes[self.cursor as usize - 1]);
        self.next.cursor = Seq(seq);
        let ahead = self.next.parks.iter().map(|park| park.lanes);
        let failed = self.next.outcomes.iter().filter_map(|outcome| match outcome.kind {
            OutcomeKind::Waiting { lanes, .. } => Some(lanes),
            _ => None,
        });
        let held = self.model.is_held(lanes)
            || ahead
                .chain(failed)
                .any(|other| lanes.as_slice().iter().any(|lane| other.as_slice().contains(lane)));
        if held {
            self.next.parks.push(Park { seq: Seq(seq), sequence: 0, attempts: 0, lanes });
        } else {
            self.end(seq, lanes, ending);
        }
    }

    fn retry(&mut self, at: &prop::sample::Index, ending: Ending) {
        let waiting: Vec<_> = self
            .model
            .parked
            .iter()
            .filter(|(seq, (state, _))| {
                *state == ModelState::Waiting && !self.touched.contains(seq)
            })
            .map(|(&seq, &(_, lanes))| (seq, lanes))
            .collect();
        if !waiting.is_empty() {
            let (seq, lanes) = *at.get(&waiting);
            self.end(seq, lanes, ending);
        }
    }

    fn end(&mut self, seq: i64, lanes: Lanes, ending: Ending) {
        let kind = match ending {
            Ending::Success => OutcomeKind::Succeeded,
            Ending::Failure => OutcomeKind::Waiting { due_at_ms: seq, attempts: 1, lanes },
            Ending::Death => OutcomeKind::Dead { attempts: 1, lanes },
        };
        self.touched.insert(seq);
        self.next.outcomes.push(Outcome { seq: Seq(seq), sequence: 0, kind });
    }

    fn settle(&mut self) {
        let cursor = Seq(self.cursor);
        let next = std::mem::replace(&mut self.next, Settlement::new(self.endpoint, cursor));
        self.touched.clear();
        for outcome in &next.outcomes {
            let seq = outcome.seq.0;
            match outcome.kind {
                OutcomeKind::Succeeded => {
                    self.model.parked.remove(&seq);
                }
                OutcomeKind::Waiting { lanes, .. } => {
                    self.model.parked.insert(seq, (ModelState::Waiting, lanes));
                }
                OutcomeKind::Dead { .. } => {
                    self.model.parked.remove(&seq);
                    self.model.dead.insert(seq);
                }
            }
        }
        for park in &next.parks {
            self.model.parked.insert(park.seq.0, (ModelState::Blocked, park.lanes));
        }
        let promoted = self.model.promote();
        let (journal, _) = self.journal.as_ref().unwrap();
        let settled = block_on(journal.settle(next)).unwrap();
        assert_eq!(settled.promoted.iter().map(|seq| seq.0).collect::<Vec<_>>(), promoted);
        for (lane, remaining) in settled.freed_lanes {
            assert_eq!(remaining, self.model.holds(lane), "lane {lane}");
        }
        self.check();
    }

    /// The file says what the model says.
    fn check(&self) {
        let (journal, _) = self.journal.as_ref().unwrap();
        let due = block_on(journal.due(self.endpoint, i64::MAX, 1000)).unwrap();
        let mut waiting: Vec<_> = due.deliveries.iter().map(|due| due.seq.0).collect();
        waiting.sort_unstable();
        let expected = self.model.parked.iter().filter(|(_, (s, _))| *s == ModelState::Waiting);
        assert_eq!(waiting, expected.map(|(&seq, _)| seq).collect::<Vec<_>>());
        let mut taken = BTreeSet::new();
        for delivery in &due.deliveries {
            for lane in delivery.event.lanes.as_slice() {
                assert!(taken.insert(*lane), "two of lane {lane} may go at a time");
            }
        }
        let state = block_on(journal.register_endpoint("one", Start::Now)).unwrap();
        assert_eq!(state.cursor.0, self.cursor);
        assert_eq!(state.waiting + state.blocked, self.model.parked.len() as u64);
        assert_eq!(state.dead, self.model.dead.len() as u64);
        for lane in 0..4 {
            let parked = state.parked.iter().find(|(of, _)| *of == lane);
            assert_eq!(parked.map_or(0, |(_, count)| *count), self.model.holds(lane));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_lanes_rule_holds_whatever_happens(
        lanes in prop::collection::vec(event_lanes(), 40),
        steps in prop::collection::vec(step(), 1..90),
    ) {
        let mut driver = Driver::new(lanes);
        for step in &steps {
            driver.run(step);
        }
        // Everything ends by itself when all attempts succeed from now on.
        driver.settle();
        for _ in 0..40 {
            while let Some((&seq, &(_, lanes))) = driver.model.parked.iter().find(|(seq, (s, _))| {
                *s == ModelState::Waiting && !driver.touched.contains(seq)
            }) {
                driver.end(seq, lanes, Ending::Success);
            }
            driver.settle();
        }
        prop_assert!(driver.model.parked.is_empty());
    }
}
