//! How events become parcels.

use std::collections::BTreeSet;

use super::{Lanes, Limits, Phase, Seq, Window};

/// The parcel that goes next.
#[derive(Debug)]
pub(super) struct Packing {
    limits: Limits,
    members: Vec<Seq>,
    bytes: usize,
    /// Nothing more fits in, or may join.
    full: bool,
    /// One more for each parcel.
    number: u64,
    /// Those that stand behind members only, and may go with this parcel but not by themselves.
    joining: BTreeSet<Seq>,
}

impl Packing {
    pub(super) fn new(limits: Limits) -> Packing {
        let (members, joining) = (Vec::new(), BTreeSet::new());
        Packing { limits, members, bytes: 0, full: false, number: 0, joining }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Begins the next one; returns the members of this one.
    fn next(&mut self) -> Vec<Seq> {
        self.bytes = 0;
        self.full = false;
        self.number += 1;
        self.joining.clear();
        std::mem::take(&mut self.members)
    }
}

impl<T> Window<T> {
    /// Whether there is something to be sent.
    pub(in super::super) fn has_parcel(&self) -> bool {
        !self.packing.members.is_empty()
    }

    /// Whether waiting would not make the parcel any larger.
    pub(in super::super) fn is_complete(&self) -> bool {
        self.packing.full
    }

    /// Events in memory that may not go yet.
    pub(in super::super) fn waits_behind(&self) -> usize {
        self.held - self.packing.members.len()
    }

    pub(in super::super) fn limits(&self) -> Limits {
        self.packing.limits
    }

    /// What may go in one parcel, in order; it counts as on its way from now on.
    pub(in super::super) fn start(&mut self) -> Vec<T> {
        let mut members = self.packing.next();
        members.sort_unstable();
        let mut payloads = Vec::with_capacity(members.len());
        for seq in members {
            let Some(entry) = self.entries.get_mut(&seq) else { continue };
            entry.phase = Phase::InFlight;
            self.held -= 1;
            self.held_bytes -= entry.bytes;
            self.in_flight += 1;
            payloads.extend(entry.payload.take());
        }
        self.pack();
        payloads
    }

    /// Events that were started wait for their turn again, first of all and as if they had not been.
    pub(in super::super) fn put_back(&mut self, events: Vec<(Seq, T)>) {
        let mut again = Vec::with_capacity(events.len());
        for (seq, payload) in events {
            let Some(entry) = self.entries.get_mut(&seq) else { continue };
            entry.payload = Some(payload);
            self.held += 1;
            self.held_bytes += entry.bytes;
            self.in_flight -= 1;
            again.push(seq);
        }
        let members = self.packing.next();
        self.unpack(&members);
        self.unpack(&again);
        self.pack();
    }

    /// No parcel that is packed from now on is larger than that.
    pub(in super::super) fn limit_bytes(&mut self, bytes: usize) {
        self.packing.limits.bytes = bytes.max(1);
    }

    /// These may go, but are not in a parcel.
    fn unpack(&mut self, seqs: &[Seq]) {
        for &seq in seqs.iter().rev() {
            let Some(entry) = self.entries.get_mut(&seq) else { continue };
            entry.phase = Phase::Held;
            if entry.behind == 0 {
                entry.phase = Phase::Ready;
                self.ready.push_front(seq);
            }
        }
    }

    /// Packs as much as may go and fits in.
    pub(super) fn pack(&mut self) {
        while !self.packing.full {
            let (free, joining) = (self.ready.front(), self.packing.joining.first());
            let (seq, joins) = match (free, joining) {
                (Some(&free), Some(&joining)) => (free.min(joining), joining < free),
                (Some(&free), None) => (free, false),
                (None, Some(&joining)) => (joining, true),
                (None, None) => return,
            };
            if !self.pack_one(seq) {
                self.packing.full = true;
            } else if joins {
                self.packing.joining.remove(&seq);
            } else {
                self.ready.pop_front();
            }
        }
    }

    /// Whether this one fitted in.
    fn pack_one(&mut self, seq: Seq) -> bool {
        let packing = &mut self.packing;
        let Some(entry) = self.entries.get_mut(&seq) else { return true };
        let (bytes, is_barrier) = (entry.bytes.max(1), self.barriers.contains(&seq));
        let fits = packing.bytes + bytes <= packing.limits.bytes && !is_barrier;
        if !packing.members.is_empty() && !fits {
            return false;
        }
        entry.phase = Phase::Packed;
        packing.members.push(seq);
        packing.bytes += bytes;
        packing.full = is_barrier
            || packing.members.len() >= packing.limits.events
            || packing.bytes >= packing.limits.bytes;
        if !packing.full {
            for next in entry.next.into_iter().flatten() {
                self.joins(next);
            }
        }
        true
    }

    /// The one before it on one of its lanes is in the parcel.
    fn joins(&mut self, seq: Seq) {
        let number = self.packing.number;
        if let Some(entry) = self.entries.get_mut(&seq) {
            let known = if entry.joins.0 == number { entry.joins.1 } else { 0 };
            entry.joins = (number, known + 1);
            self.consider(seq);
        }
    }

    /// Finds out whether one that stands behind others may go with them.
    pub(super) fn consider(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get(&seq) else { return };
        let with_all = entry.joins == (self.packing.number, entry.behind);
        if !with_all || entry.phase != Phase::Held || self.is_held_back(seq) {
            return;
        }
        let is_free = |keys: Lanes| {
            keys.as_slice().iter().filter_map(|key| self.lanes.get(key)).all(|lane| {
                let is_first = lane.ends.is_some_and(|(first, _)| first == seq);
                !is_first || !(lane.locked || lane.parked > 0)
            })
        };
        if is_free(entry.keys) {
            self.packing.joining.insert(seq);
        }
    }
}
