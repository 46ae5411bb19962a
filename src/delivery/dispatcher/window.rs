//! What a dispatcher has taken from the stream and not settled yet, and who must wait for whom.
//! Plain data: no I/O, no clock.
//!
//! The rules, for the lanes of [`Ordering::Record`]:
//! - An event may go when it is first on each of its lanes here, nothing is parked on any of them in
//!   the journal, and no settlement that touches one of them is on its way. So a lane is released
//!   only by what is committed: after a crash a repeat never comes after a later event.
//! - An event that is first on its lanes, while something is parked on one of them, is parked too.
//!   So on each lane all that is parked is older than all that is here.
//! - A barrier goes when all that was taken before it is settled or parked, and nothing here goes
//!   before the barrier is. What is parked stands aside: it may go before, meanwhile or later. So
//!   does a barrier that failed: an endpoint that refuses it still gets the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::delivery::endpoint::Ordering;
use crate::event::Lanes;
use crate::journal::{Listed, Outcome, Park, Seq};

/// The one lane of [`Ordering::Strict`].
const STRICT: i64 = 0;

/// See the module's words. `T` is what is needed to send the event.
#[derive(Debug)]
pub(super) struct Window<T> {
    ordering: Ordering,
    /// Taken, neither settled nor parked; outcomes stay until their settlement is built.
    entries: BTreeMap<Seq, Entry<T>>,
    lanes: HashMap<i64, Lane>,
    /// May go, in the order in which they became free.
    ready: VecDeque<Seq>,
    /// Those of the entries that everything else is ordered by.
    barriers: BTreeSet<Seq>,
    /// One of them leaves with the settlement on its way.
    barrier_leaves: bool,
    /// First on their lanes, one of which has something parked.
    to_park: Vec<Seq>,
    /// Known since the last settlement.
    exits: Vec<Exit>,
    /// Outcomes in the settlement on its way.
    settling: usize,
    /// Lanes that settlement touches.
    locked: Vec<i64>,
    /// The last event taken.
    taken: Seq,
    /// The last event settled or parked.
    settled: Seq,
    held: usize,
    held_bytes: usize,
    in_flight: usize,
    parked_lanes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// Those it is ordered by here.
    keys: Lanes,
    /// The event's own, for the journal.
    lanes: Lanes,
    /// Who comes next on each of `keys`.
    next: [Option<Seq>; 2],
    /// On how many of `keys` someone is before it.
    behind: u8,
    phase: Phase,
    bytes: usize,
    /// Taken out when it is sent.
    payload: Option<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Held,
    ToPark,
    Ready,
    InFlight,
    Finished,
}

#[derive(Debug, Default)]
struct Lane {
    ends: Option<(Seq, Seq)>,
    /// Waiting and blocked deliveries in the journal, as far as known.
    parked: u32,
    /// How many of them the settlement on its way takes off.
    leaving: u32,
    locked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    seq: Seq,
    kind: Ended,
    /// The lanes of one that was parked; `None` for one of the entries.
    parked: Option<Lanes>,
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    Waiting { due_at_ms: i64, attempts: u32 },
    Dead { attempts: u32 },
}

/// The part of a settlement that the window knows.
#[derive(Debug, Default)]
pub(super) struct Settling {
    pub(super) cursor: Seq,
    pub(super) in_flight: Vec<Listed>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) parks: Vec<Park>,
}

impl<T> Window<T> {
    /// A window that goes on behind `cursor`, with what the journal says is parked on each lane.
    /// `any_waiting`: whether anything waits for its retry.
    pub(super) fn new(
        ordering: Ordering,
        cursor: Seq,
        parked: &[(i64, u32)],
        any_waiting: bool,
    ) -> Window<T> {
        let mut window = Window {
            ordering,
            entries: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            barriers: BTreeSet::new(),
            barrier_leaves: false,
            to_park: Vec::new(),
            exits: Vec::new(),
            settling: 0,
            locked: Vec::new(),
            taken: cursor,
            settled: cursor,
            held: 0,
            held_bytes: 0,
            in_flight: 0,
            parked_lanes: 0,
        };
        window.learn(parked, any_waiting);
        window
    }

    /// Takes an event from the stream; each must be beyond all before, but for those given back by
    /// the journal at the start.
    pub(super) fn take(&mut self, seq: Seq, lanes: Lanes, bytes: usize, payload: T) {
        self.taken = self.taken.max(seq);
        let (keys, lanes) = match self.ordering {
            Ordering::Record => (lanes, lanes),
            Ordering::Strict => (Lanes::one(STRICT), lanes),
            Ordering::None => (Lanes::NONE, Lanes::NONE),
        };
        let mut behind = 0;
        for &key in keys.as_slice() {
            let lane = self.lanes.entry(key).or_default();
            let last = lane.ends.map(|(_, last)| last);
            lane.ends = Some((lane.ends.map_or(seq, |(first, _)| first), seq));
            if let Some(entry) = last.and_then(|last| self.entries.get_mut(&last)) {
                entry.set_next(key, seq);
                behind += 1;
            }
        }
        if self.ordering == Ordering::Record && lanes.is_barrier() {
            self.barriers.insert(seq);
        }
        self.held += 1;
        self.held_bytes += bytes;
        let payload = Some(payload);
        let (next, phase) = ([None; 2], Phase::Held);
        self.entries.insert(seq, Entry { keys, lanes, next, behind, phase, bytes, payload });
        if behind == 0 {
            self.decide(seq);
        }
    }

    /// Passes over an event of the stream that is not wanted.
    pub(super) fn skip(&mut self, seq: Seq) {
        self.taken = self.taken.max(seq);
    }

    /// The last event taken from the stream.
    pub(super) fn taken(&self) -> Seq {
        self.taken
    }

    /// Events in memory that are not on their way.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes of their bodies.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Requests on their way, retries included.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Outcomes that are not committed yet.
    pub(super) fn unsettled(&self) -> usize {
        self.exits.len() + self.settling
    }

    /// Lanes with something parked.
    pub(super) fn parked_lanes(&self) -> usize {
        self.parked_lanes
    }

    /// Whether taking more from the stream is of no use: strict order or a barrier holds
    /// everything back.
    pub(super) fn is_barred(&self) -> bool {
        match self.ordering {
            Ordering::Record => self.barrier_leaves || !self.barriers.is_empty(),
            Ordering::Strict => {
                self.held > 0 || self.lanes.get(&STRICT).is_some_and(|lane| lane.parked > 0)
            }
            Ordering::None => false,
        }
    }

    /// Whether an event waits for a barrier, or is one and waits for what was taken before it.
    fn is_held_back(&self, seq: Seq) -> bool {
        match self.barriers.first() {
            _ if self.barrier_leaves => true,
            Some(&barrier) if barrier == seq => {
                let is_first =
                    self.entries.first_key_value().is_some_and(|(&first, _)| first == seq);
                !is_first || self.settling > 0 || !self.locked.is_empty()
            }
            Some(&barrier) => barrier < seq,
            None => false,
        }
    }

    /// Whether an event may go.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next event that may go; it counts as on its way from now on.
    pub(super) fn start(&mut self) -> Option<T> {
        let seq = self.ready.pop_front()?;
        let entry = self.entries.get_mut(&seq)?;
        entry.phase = Phase::InFlight;
        self.held -= 1;
        self.held_bytes -= entry.bytes;
        self.in_flight += 1;
        entry.payload.take()
    }

    /// What came of an event that was started.
    pub(super) fn finish(&mut self, seq: Seq, kind: Ended) {
        if let Some(entry) = self.entries.get_mut(&seq)
            && entry.phase == Phase::InFlight
        {
            entry.phase = Phase::Finished;
            self.in_flight -= 1;
            self.exits.push(Exit { seq, kind, parked: None });
        }
    }

    /// A parked delivery goes out again. The journal hands it out only when it is first on its
    /// lanes, and all here is behind it.
    pub(super) fn start_parked(&mut self) {
        self.in_flight += 1;
    }

    /// What came of a parked delivery that was started.
    pub(super) fn finish_parked(&mut self, seq: Seq, lanes: Lanes, kind: Ended) {
        self.in_flight -= 1;
        self.exits.push(Exit { seq, kind, parked: Some(lanes) });
    }

    fn learn(&mut self, lanes: &[(i64, u32)], any_waiting: bool) {
        match self.ordering {
            Ordering::Record => {
                for &(key, parked) in lanes {
                    self.set_parked(key, parked);
                }
            }
            Ordering::Strict => self.set_parked(STRICT, u32::from(any_waiting)),
            Ordering::None => {}
        }
    }

    fn set_parked(&mut self, key: i64, parked: u32) {
        if parked == 0 && !self.lanes.contains_key(&key) {
            return;
        }
        let lane = self.lanes.entry(key).or_default();
        match (lane.parked > 0, parked > 0) {
            (false, true) => self.parked_lanes += 1,
            (true, false) => self.parked_lanes -= 1,
            _ => {}
        }
        lane.parked = parked;
        if parked == 0 && lane.ends.is_none() && !lane.locked {
            self.lanes.remove(&key);
        }
    }

    /// Looks again at the first of a lane, and forgets the lane if nothing is left of it.
    fn wake(&mut self, key: i64) {
        let Some(lane) = self.lanes.get(&key) else { return };
        match lane.ends {
            Some((first, _)) => self.decide(first),
            None if lane.parked == 0 && !lane.locked => {
                self.lanes.remove(&key);
            }
            None => {}
        }
    }

    /// Finds out whether an event may go, must be parked, or has to wait.
    fn decide(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get(&seq) else { return };
        if entry.behind > 0 || !matches!(entry.phase, Phase::Held | Phase::ToPark) {
            return;
        }
        let (mut locked, mut parked) = (self.is_held_back(seq), false);
        for lane in entry.keys.as_slice().iter().filter_map(|key| self.lanes.get(key)) {
            locked |= lane.locked;
            parked |= lane.parked > 0;
        }
        let known = entry.phase;
        let phase = match (locked, parked, self.ordering) {
            (true, _, _) | (false, true, Ordering::Strict) => Phase::Held,
            (false, true, _) => Phase::ToPark,
            (false, false, _) => Phase::Ready,
        };
        match phase {
            Phase::ToPark if known != Phase::ToPark => self.to_park.push(seq),
            Phase::Ready => self.ready.push_back(seq),
            _ => {}
        }
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.phase = phase;
        }
    }
}

impl<T> Entry<T> {
    fn set_next(&mut self, key: i64, seq: Seq) {
        for (place, &own) in self.keys.as_slice().iter().enumerate() {
            if own == key {
                self.next[place] = Some(seq);
            }
        }
    }
}

mod settle;

#[cfg(test)]
mod tests;
