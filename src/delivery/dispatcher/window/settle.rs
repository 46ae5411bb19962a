//! How events leave the window: by settlements, one at a time.

use std::ops::Bound;

use super::{Ended, Entry, Lanes, Ordering, Phase, STRICT, Settling, Window};
use crate::journal::{Listed, Outcome, OutcomeKind, Park, Seq};

impl<T> Window<T> {
    /// Whether a settlement has something to say besides the cursor.
    pub(in super::super) fn has_news(&self) -> bool {
        self.settling == 0 && !(self.exits.is_empty() && self.to_park.is_empty())
    }

    /// Up to where everything is settled or listed: what a settlement says now.
    pub(in super::super) fn cursor(&self) -> Seq {
        let beyond = Seq(self.settled.0.saturating_add(1));
        match self.entries.range(beyond..).find(|(seq, _)| !self.ahead.contains(seq)) {
            Some((first, _)) => Seq(first.0 - 1),
            None => self.taken,
        }
    }

    /// How many events up to there were wanted.
    fn sequence_at(&self, cursor: Seq) -> u64 {
        let next = Seq(cursor.0.saturating_add(1));
        match self.entries.get(&next).filter(|_| !self.ahead.contains(&next)) {
            Some(entry) => entry.before,
            None => self.counted,
        }
    }

    /// Gathers all outcomes into a settlement. The next one may be built only when this one is
    /// [`committed`](Window::committed).
    pub(in super::super) fn settle(&mut self) -> Settling {
        let exits = std::mem::take(&mut self.exits);
        self.settling = exits.len();
        let mut settling =
            Settling { outcomes: Vec::with_capacity(exits.len()), ..Settling::default() };
        let mut firsts = std::mem::take(&mut self.to_park);
        for exit in exits {
            let lanes = match exit.parked {
                Some(lanes) => {
                    self.leave_parked(lanes, exit.kind);
                    lanes
                }
                None => self.leave(exit.listed.seq, exit.kind.parks(), &mut firsts).0,
            };
            let Listed { seq, sequence } = exit.listed;
            match exit.kind.outcome(lanes) {
                Ok(kind) => settling.outcomes.push(Outcome { seq, sequence, kind }),
                Err(attempts) => settling.parks.push(Park { seq, sequence, attempts, lanes }),
            }
        }
        while let Some(seq) = firsts.pop() {
            if self.must_park(seq) {
                let (lanes, sequence) = self.leave(seq, true, &mut firsts);
                settling.parks.push(Park { seq, sequence, attempts: 0, lanes });
            } else {
                self.decide(seq);
            }
        }
        self.pack();
        settling.cursor = self.cursor();
        settling.sequence = self.sequence_at(settling.cursor);
        let listed = |(&seq, entry): (&Seq, &Entry<T>)| Listed { seq, sequence: entry.sequence };
        settling.in_flight = self.entries.range(..=settling.cursor).map(listed).collect();
        let beyond = (Bound::Excluded(settling.cursor), Bound::Unbounded);
        let ahead = self.ahead.range(beyond).filter_map(|seq| self.entries.get_key_value(seq));
        settling.in_flight.extend(ahead.map(listed));
        settling
    }

    /// The settlement last built is in the journal, which tells how many deliveries each lane it
    /// touched has now, and whether anything waits for its retry.
    pub(in super::super) fn committed(&mut self, lanes: &[(i64, u32)], any_waiting: bool) {
        self.settling = 0;
        self.learn(lanes, any_waiting);
        let locked = std::mem::take(&mut self.locked);
        for key in &locked {
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.locked = false;
                lane.leaving = 0;
            }
        }
        for key in locked {
            self.wake(key);
        }
        if self.ordering == Ordering::Strict {
            // What was parked may be gone without a success: retention took it on its way.
            self.wake(STRICT);
        }
        if std::mem::take(&mut self.barrier_leaves) {
            for seq in self.entries.keys().copied().collect::<Vec<_>>() {
                self.decide(seq);
            }
        }
        if let Some(&barrier) = self.barriers.first() {
            self.decide(barrier);
        }
        self.pack();
    }

    /// Nothing at all waits in the journal: what was thought to be parked is gone, because it was
    /// too old to be kept. Ignored while a settlement is on its way.
    pub(in super::super) fn nothing_parked(&mut self) {
        if self.settling > 0 || !self.locked.is_empty() {
            return;
        }
        let parked: Vec<i64> =
            self.lanes.iter().filter(|(_, lane)| lane.parked > 0).map(|(&key, _)| key).collect();
        for &key in &parked {
            self.set_parked(key, 0);
        }
        for key in parked {
            self.wake(key);
        }
        self.pack();
    }

    /// Whether an event that is first on its lanes has something parked before it, even after the
    /// settlement being built.
    fn must_park(&mut self, seq: Seq) -> bool {
        let Some(entry) = self.entries.get_mut(&seq) else { return false };
        if entry.behind > 0 || !matches!(entry.phase, Phase::Held | Phase::ToPark) {
            return false;
        }
        entry.phase = Phase::Held;
        self.ordering == Ordering::Record
            && entry
                .keys
                .as_slice()
                .iter()
                .filter_map(|key| self.lanes.get(key))
                .any(|lane| lane.parked > lane.leaving)
    }

    /// Takes an event out with the settlement being built. Who thereby becomes first on all lanes
    /// goes to `firsts`. Returns the lanes for the journal, and its number.
    fn leave(&mut self, seq: Seq, parks: bool, firsts: &mut Vec<Seq>) -> (Lanes, u64) {
        let Some(entry) = self.entries.remove(&seq) else { return (Lanes::NONE, 0) };
        if !self.ahead.remove(&seq) {
            self.settled = self.settled.max(seq);
        }
        self.barrier_leaves |= self.barriers.remove(&seq);
        if matches!(entry.phase, Phase::Held | Phase::ToPark) {
            self.held -= 1;
            self.held_bytes -= entry.bytes;
        }
        for (&key, next) in entry.keys.as_slice().iter().zip(entry.next) {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.ends = match (next, lane.ends) {
                (Some(next), Some((_, last))) => Some((next, last)),
                _ => None,
            };
            let parked = lane.parked + u32::from(parks);
            self.lock(key);
            self.set_parked(key, parked);
            if let Some(next) = next
                && let Some(entry) = self.entries.get_mut(&next)
            {
                entry.behind -= 1;
                if entry.behind == 0 {
                    firsts.push(next);
                }
            }
        }
        (entry.lanes, entry.sequence)
    }

    /// The settlement being built says what came of a parked delivery.
    fn leave_parked(&mut self, lanes: Lanes, kind: Ended) {
        let keys = match self.ordering {
            Ordering::Record => lanes,
            Ordering::Strict => Lanes::one(STRICT),
            Ordering::None => Lanes::NONE,
        };
        if kind.parks() {
            return;
        }
        for &key in keys.as_slice() {
            self.lock(key);
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.leaving += 1;
            }
        }
    }

    fn lock(&mut self, key: i64) {
        let lane = self.lanes.entry(key).or_default();
        if !lane.locked {
            lane.locked = true;
            self.locked.push(key);
        }
    }
}

impl Ended {
    /// Whether it has (still) a place in the journal that others wait for.
    fn parks(self) -> bool {
        matches!(self, Ended::Waiting { .. } | Ended::Blocked { .. })
    }

    /// What the journal is told; for one that only waits for another, how often it was tried.
    fn outcome(self, lanes: Lanes) -> Result<OutcomeKind, u32> {
        match self {
            Ended::Succeeded => Ok(OutcomeKind::Succeeded),
            Ended::Waiting { due_at_ms, attempts } => {
                Ok(OutcomeKind::Waiting { due_at_ms, attempts, lanes })
            }
            Ended::Blocked { attempts } => Err(attempts),
            Ended::Dead { attempts } => Ok(OutcomeKind::Dead { attempts, lanes }),
        }
    }
}
