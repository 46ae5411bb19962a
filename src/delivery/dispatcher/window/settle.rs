//! How events leave the window: by settlements, one at a time.

use super::{Ended, Lanes, Ordering, Phase, STRICT, Settling, Window};
use crate::journal::{Listed, Outcome, OutcomeKind, Park, Seq};

impl<T> Window<T> {
    /// Whether a settlement has something to say besides the cursor.
    pub(in super::super) fn has_news(&self) -> bool {
        self.settling == 0 && !(self.exits.is_empty() && self.to_park.is_empty())
    }

    /// Up to where everything is settled or listed: what a settlement says now.
    pub(in super::super) fn cursor(&self) -> Seq {
        let beyond = Seq(self.settled.0.saturating_add(1));
        match self.entries.range(beyond..).next() {
            Some((first, _)) => Seq(first.0 - 1),
            None => self.taken,
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
                None => {
                    let parks = matches!(exit.kind, Ended::Waiting { .. });
                    self.leave(exit.seq, parks, &mut firsts)
                }
            };
            settling.outcomes.push(Outcome {
                seq: exit.seq,
                sequence: 0,
                kind: exit.kind.outcome(lanes),
            });
        }
        while let Some(seq) = firsts.pop() {
            if self.must_park(seq) {
                let lanes = self.leave(seq, true, &mut firsts);
                settling.parks.push(Park { seq, sequence: 0, attempts: 0, lanes });
            } else {
                self.decide(seq);
            }
        }
        settling.cursor = self.cursor();
        let listed = self.entries.range(..=settling.cursor);
        settling.in_flight = listed.map(|(&seq, _)| Listed { seq, sequence: 0 }).collect();
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
        if std::mem::take(&mut self.barrier_leaves) {
            for seq in self.entries.keys().copied().collect::<Vec<_>>() {
                self.decide(seq);
            }
        }
        if let Some(&barrier) = self.barriers.first() {
            self.decide(barrier);
        }
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
    /// goes to `firsts`. Returns the lanes for the journal.
    fn leave(&mut self, seq: Seq, parks: bool, firsts: &mut Vec<Seq>) -> Lanes {
        let Some(entry) = self.entries.remove(&seq) else { return Lanes::NONE };
        self.settled = self.settled.max(seq);
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
        entry.lanes
    }

    /// The settlement being built says what came of a parked delivery.
    fn leave_parked(&mut self, lanes: Lanes, kind: Ended) {
        let keys = match self.ordering {
            Ordering::Record => lanes,
            Ordering::Strict => Lanes::one(STRICT),
            Ordering::None => Lanes::NONE,
        };
        if matches!(kind, Ended::Waiting { .. }) {
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
    fn outcome(self, lanes: Lanes) -> OutcomeKind {
        match self {
            Ended::Succeeded => OutcomeKind::Succeeded,
            Ended::Waiting { due_at_ms, attempts } => {
                OutcomeKind::Waiting { due_at_ms, attempts, lanes }
            }
            Ended::Dead { attempts } => OutcomeKind::Dead { attempts, lanes },
        }
    }
}
