//! Events as they travel: many of them in one buffer.

use std::ops::Range;
use std::sync::Arc;

use super::id::EventId;

/// A buffer that grew beyond this is given away, not kept for what comes next.
const KEPT_BYTES: usize = 1 << 20;

/// The ordering keys of an event: events that share a lane are delivered one after another.
///
/// A lane is the hash of a record's identity. An ordinary change has one; an update that changes
/// the primary key has two, the old record's and the new one's; an event of a table without any
/// key has none. Two records whose hashes collide only wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    lanes: [i64; 2],
    count: u8,
}

impl Lanes {
    /// No lane: ordered with nothing.
    pub const NONE: Lanes = Lanes { lanes: [0, 0], count: 0 };

    /// Ordered with everything: what an endpoint got to see before is done with before it is sent,
    /// and what comes after waits for it. Stands for a lane of its own wherever lanes are stored.
    pub const BARRIER: Lanes = Lanes { lanes: [i64::MIN, 0], count: 1 };

    /// Whether it is [`BARRIER`](Lanes::BARRIER).
    pub fn is_barrier(&self) -> bool {
        *self == Lanes::BARRIER
    }

    /// One lane.
    pub fn one(lane: i64) -> Lanes {
        Lanes { lanes: [lane, 0], count: 1 }
    }

    /// Two lanes; one, if they are the same.
    pub fn two(first: i64, second: i64) -> Lanes {
        if first == second { Lanes::one(first) } else { Lanes { lanes: [first, second], count: 2 } }
    }

    /// The lanes.
    pub fn as_slice(&self) -> &[i64] {
        &self.lanes[..usize::from(self.count)]
    }
}

/// What the house needs to know of an event besides its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its stable identity.
    pub id: EventId,
    /// Its name, such as `person.created`.
    pub name: Arc<str>,
    /// What it is ordered with.
    pub lanes: Lanes,
    /// Commit time, microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// Where its JSON envelope lies in the batch's buffer.
    body: Range<usize>,
}

/// Events in commit order, their JSON in one buffer.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    buffer: Vec<u8>,
    events: Vec<Event>,
}

impl EventBatch {
    /// Appends an event whose envelope `write` puts into the buffer. On an error nothing is
    /// appended.
    pub fn push<E>(
        &mut self,
        id: EventId,
        name: Arc<str>,
        lanes: Lanes,
        committed_at_us: i64,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.buffer.len();
        if let Err(error) = write(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(error);
        }
        let body = start..self.buffer.len();
        self.events.push(Event { id, name, lanes, committed_at_us, body });
        Ok(())
    }

    /// What is in it, in memory of just that size; it is empty afterwards and keeps its room, so that
    /// filling it again allocates nothing.
    pub fn take(&mut self) -> EventBatch {
        if self.buffer.capacity() > KEPT_BYTES {
            return std::mem::take(self);
        }
        let taken = EventBatch {
            buffer: self.buffer.as_slice().into(),
            events: self.events.drain(..).collect(),
        };
        self.buffer.clear();
        taken
    }

    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The envelope of an event of this batch.
    pub fn body(&self, event: &Event) -> &[u8] {
        &self.buffer[event.body.clone()]
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of all envelopes.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::TransactionTag;
    use super::*;

    #[test]
    fn what_is_taken_is_whole_and_what_stays_is_empty() {
        let tag = TransactionTag::new("test", 1, 1, 1, 1);
        let mut batch = EventBatch::default();
        for size in [10, 3, 2 << 20, 5] {
            for n in 0..3 {
                let write = |out: &mut Vec<u8>| {
                    out.extend(std::iter::repeat_n(b'0' + n, size));
                    Ok::<_, ()>(())
                };
                let id = EventId::new(1, n.into(), tag);
                batch.push(id, "person.created".into(), Lanes::NONE, 1, write).unwrap();
            }
            let taken = batch.take();
            assert!(batch.is_empty() && batch.bytes() == 0);
            assert_eq!((taken.len(), taken.bytes()), (3, 3 * size));
            for (event, digit) in taken.events().iter().zip(b"012") {
                let body = taken.body(event);
                assert!(body.len() == size && body.iter().all(|byte| byte == digit));
            }
        }
    }
}
