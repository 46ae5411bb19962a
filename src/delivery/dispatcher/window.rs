//! What a dispatcher has taken from the stream and not settled yet, and who must wait for whom.
//! Plain data: no I/O, no clock.
//!
//! The rules, for the lanes of [`Ordering::Record`]:
//! - An event may go when it is first on each of its lanes here, nothing is parked on any of them in
//!   the journal, and no settlement that touches one of them is on its way. So a lane is released
//!   only by what is committed: after a crash a repeat never comes after a later event.
//! - An event that is first on its lanes, while something is parked on one of them, is parked too.
//!   So on each lane all that is parked is older than all that is here.
//! - Several events may go in one parcel, in order: one joins the parcel being packed when all that is
//!   before it on its lanes is in that very parcel.
//! - A barrier goes, alone, when all that was taken before it is settled or parked, and nothing here goes
//!   before the barrier is. What is parked stands aside: it may go before, meanwhile or later. So
//!   does a barrier that failed: an endpoint that refuses it still gets the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::delivery::endpoint::Ordering;
use crate::event::Lanes;
use crate::journal::{Listed, Outcome, Park, Seq};

use packing::Packing;

/// The one lane of [`Ordering::Strict`].
const STRICT: i64 = 0;

/// See the module's words. `T` is what is needed to send the event.
#[derive(Debug)]
pub(super) struct Window<T> {
    ordering: Ordering,
    /// Taken, neither settled nor parked; outcomes stay until their settlement is built.
    entries: BTreeMap<Seq, Entry<T>>,
    lanes: HashMap<i64, Lane>,
    /// May go, in the order in which they became free, but not with the parcel being packed.
    ready: VecDeque<Seq>,
    /// The parcel that goes next.
    packing: Packing,
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
    /// How many events up to there were wanted, or are unknown since retention took them.
    counted: u64,
    /// Up to this one, events are sent once more.
    replay_until: Seq,
    /// The last event settled or parked.
    settled: Seq,
    /// Entries that were on their way at the start, beyond where the stream is taken from since.
    ahead: BTreeSet<Seq>,
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
    /// On how many of them that one is in the parcel of this number.
    joins: (u64, u8),
    phase: Phase,
    bytes: usize,
    /// What the endpoint is told of its place in the stream.
    sequence: u64,
    /// How many events before it were wanted.
    before: u64,
    /// Taken out when it is sent.
    payload: Option<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Held,
    ToPark,
    Ready,
    /// In the parcel that goes next.
    Packed,
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
    listed: Listed,
    kind: Ended,
    /// The lanes of one that was parked; `None` for one of the entries.
    parked: Option<Lanes>,
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    Waiting {
        due_at_ms: i64,
        attempts: u32,
    },
    /// It failed together with another one that it must wait for.
    Blocked {
        attempts: u32,
    },
    Dead {
        attempts: u32,
    },
}

/// Where a window begins: see [`EndpointState`](crate::journal::EndpointState).
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning<'a> {
    pub(super) cursor: Seq,
    pub(super) sequence: u64,
    pub(super) replay_until: Seq,
    /// What is parked on each lane.
    pub(super) parked: &'a [(i64, u32)],
    /// Whether anything waits for its retry.
    pub(super) any_waiting: bool,
}

/// How much one parcel may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) events: usize,
    /// Unless a single event is larger.
    pub(super) bytes: usize,
}

/// The part of a settlement that the window knows.
#[derive(Debug, Default)]
pub(super) struct Settling {
    pub(super) cursor: Seq,
    pub(super) sequence: u64,
    pub(super) in_flight: Vec<Listed>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) parks: Vec<Park>,
}

impl<T> Window<T> {
    /// A window that goes on where the journal says.
    pub(super) fn new(ordering: Ordering, limits: Limits, beginning: Beginning<'_>) -> Window<T> {
        let mut window = Window {
            ordering,
            entries: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            packing: Packing::new(limits),
            barriers: BTreeSet::new(),
            barrier_leaves: false,
            to_park: Vec::new(),
            exits: Vec::new(),
            settling: 0,
            locked: Vec::new(),
            taken: beginning.cursor,
            counted: beginning.sequence,
            replay_until: beginning.replay_until,
            settled: beginning.cursor,
            ahead: BTreeSet::new(),
            held: 0,
            held_bytes: 0,
            in_flight: 0,
            parked_lanes: 0,
        };
        window.learn(beginning.parked, beginning.any_waiting);
        window
    }

    /// Takes an event from the stream, beyond all before; `make` is told its number among those that
    /// the endpoint wanted, 0 for one that it gets once more.
    pub(super) fn take(
        &mut self,
        seq: Seq,
        lanes: Lanes,
        bytes: usize,
        make: impl FnOnce(u64) -> T,
    ) {
        self.skip(seq);
        let before = self.counted;
        let repeated = seq <= self.replay_until;
        self.counted += u64::from(!repeated);
        let sequence = if repeated { 0 } else { self.counted };
        self.insert(Listed { seq, sequence }, before, lanes, bytes, make(sequence));
    }

    /// Takes an event from the stream that has its number already: it was still to be delivered when
    /// the replay began that turned the stream back.
    pub(super) fn take_pending(
        &mut self,
        listed: Listed,
        lanes: Lanes,
        bytes: usize,
        make: impl FnOnce(u64) -> T,
    ) {
        self.skip(listed.seq);
        self.insert(listed, self.counted, lanes, bytes, make(listed.sequence));
    }

    /// Gives back an event that was on its way when the last dispatcher ended.
    pub(super) fn restore(&mut self, listed: Listed, lanes: Lanes, bytes: usize, payload: T) {
        if listed.seq > self.taken {
            self.ahead.insert(listed.seq);
        }
        self.insert(listed, self.counted, lanes, bytes, payload);
    }

    fn insert(
        &mut self,
        Listed { seq, sequence }: Listed,
        before: u64,
        lanes: Lanes,
        bytes: usize,
        payload: T,
    ) {
        let (keys, lanes) = match self.ordering {
            Ordering::Record => (lanes, lanes),
            Ordering::Strict => (Lanes::one(STRICT), lanes),
            Ordering::None => (Lanes::NONE, Lanes::NONE),
        };
        let (mut behind, mut packed) = (0, 0);
        for &key in keys.as_slice() {
            let lane = self.lanes.entry(key).or_default();
            let last = lane.ends.map(|(_, last)| last);
            lane.ends = Some((lane.ends.map_or(seq, |(first, _)| first), seq));
            if let Some(entry) = last.and_then(|last| self.entries.get_mut(&last)) {
                entry.set_next(key, seq);
                behind += 1;
                packed += u8::from(entry.phase == Phase::Packed);
            }
        }
        if self.ordering == Ordering::Record && lanes.is_barrier() {
            self.barriers.insert(seq);
        }
        self.held += 1;
        self.held_bytes += bytes;
        self.entries.insert(
            seq,
            Entry {
                keys,
                lanes,
                next: [None; 2],
                behind,
                joins: (self.packing.number(), packed),
                phase: Phase::Held,
                bytes,
                sequence,
                before,
                payload: Some(payload),
            },
        );
        self.decide(seq);
        self.pack();
    }

    /// Passes over an event of the stream that is not wanted. Those between it and the one before,
    /// which retention took, count as wanted: who receives sees that something may be missing.
    pub(super) fn skip(&mut self, seq: Seq) {
        let lost = seq.0.saturating_sub(self.taken.max(self.replay_until).0).saturating_sub(1);
        self.counted += u64::try_from(lost).unwrap_or_default();
        self.taken = self.taken.max(seq);
    }

    /// No event up to this one is wanted, of those that were not taken.
    pub(super) fn pass(&mut self, through: Seq) {
        self.taken = self.taken.max(through);
    }

    /// Retention took all events up to this one that were not taken: they count as wanted.
    pub(super) fn lose(&mut self, through: Seq) {
        let lost = through.0.saturating_sub(self.taken.max(self.replay_until).0);
        self.counted += u64::try_from(lost).unwrap_or_default();
        self.taken = self.taken.max(through);
    }

    /// Whether nothing that was taken is left to be sent or written down.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.exits.is_empty() && self.settling == 0
    }

    /// How many of the events taken were wanted.
    pub(super) fn counted(&self) -> u64 {
        self.counted
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

    /// Events on their way, retries included.
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
                self.waits_behind() > 0
                    || self.lanes.get(&STRICT).is_some_and(|lane| lane.parked > 0)
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

    /// What came of an event that was started.
    pub(super) fn finish(&mut self, seq: Seq, kind: Ended) {
        if let Some(entry) = self.entries.get_mut(&seq)
            && entry.phase == Phase::InFlight
        {
            entry.phase = Phase::Finished;
            self.in_flight -= 1;
            let listed = Listed { seq, sequence: entry.sequence };
            self.exits.push(Exit { listed, kind, parked: None });
        }
    }

    /// A parked delivery goes out again. The journal hands it out only when it is first on its
    /// lanes, and all here is behind it.
    pub(super) fn start_parked(&mut self) {
        self.in_flight += 1;
    }

    /// A parked delivery that was started waits for its turn again, as if it had not been.
    pub(super) fn put_back_parked(&mut self) {
        self.in_flight -= 1;
    }

    /// What came of a parked delivery that was started.
    pub(super) fn finish_parked(&mut self, listed: Listed, lanes: Lanes, kind: Ended) {
        self.in_flight -= 1;
        self.exits.push(Exit { listed, kind, parked: Some(lanes) });
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
        if !matches!(entry.phase, Phase::Held | Phase::ToPark) {
            return;
        }
        if entry.behind > 0 {
            return self.consider(seq);
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

mod packing;
mod settle;

#[cfg(test)]
mod tests;
