//! Events as they come out of the journal.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Event, EventBatch, EventId, Lanes};

use super::model::Seq;

/// Bodies up to this size are copied out of their batch. A larger one keeps the batch in memory,
/// unless the batch is that many times as large: then a few bodies would keep far more than they are.
const COPIED_BODY_BYTES: usize = 16 * 1024;
const COPIED_BODY_SHARE: usize = 4;

/// Consecutive events of the journal.
#[derive(Debug)]
pub struct StoredBatch {
    first_seq: Seq,
    events: EventBatch,
}

impl StoredBatch {
    /// Events numbered from `first_seq`.
    pub(super) fn new(first_seq: Seq, events: EventBatch) -> StoredBatch {
        StoredBatch { first_seq, events }
    }

    /// The number of the first event, or of the next one where there is none.
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// The number of the last event; one less than [`first_seq`](Self::first_seq) where there is
    /// none.
    pub fn last_seq(&self) -> Seq {
        Seq(self.first_seq.0 + self.events.len() as i64 - 1)
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
        self.events.bytes()
    }

    /// The events and their envelopes.
    pub fn events(&self) -> &EventBatch {
        &self.events
    }

    /// The events with a number above `after`, in order, with their numbers.
    pub fn after(&self, after: Seq) -> impl Iterator<Item = (Seq, &Event)> {
        let skip = usize::try_from(after.0.saturating_add(1).saturating_sub(self.first_seq.0));
        let skip = skip.unwrap_or(0).min(self.events.len());
        let first = self.first_seq.0 + skip as i64;
        self.events.events()[skip..]
            .iter()
            .enumerate()
            .map(move |(at, event)| (Seq(first + at as i64), event))
    }

    /// One event on its own. `None` where the batch has no such number.
    pub fn get(self: &Arc<Self>, seq: Seq) -> Option<StoredEvent> {
        let index = usize::try_from(seq.0.checked_sub(self.first_seq.0)?).ok()?;
        let event = self.events.events().get(index)?;
        let body = self.events.body(event);
        let copied = body.len() <= COPIED_BODY_BYTES
            || body.len().saturating_mul(COPIED_BODY_SHARE) < self.bytes();
        let body = if copied {
            Bytes::copy_from_slice(body)
        } else {
            Bytes::from_owner(BodyOf { batch: Arc::clone(self), index })
        };
        Some(StoredEvent {
            seq,
            id: event.id,
            name: Arc::clone(&event.name),
            lanes: event.lanes,
            committed_at_us: event.committed_at_us,
            body,
        })
    }
}

/// A body inside a batch that it keeps alive.
struct BodyOf {
    batch: Arc<StoredBatch>,
    index: usize,
}

impl AsRef<[u8]> for BodyOf {
    fn as_ref(&self) -> &[u8] {
        match self.batch.events.events().get(self.index) {
            Some(event) => self.batch.events.body(event),
            None => &[],
        }
    }
}

/// One event of the journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its number.
    pub seq: Seq,
    /// Its stable identity.
    pub id: EventId,
    /// Its name, such as `person.created`.
    pub name: Arc<str>,
    /// What it is ordered with.
    pub lanes: Lanes,
    /// Commit time, microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// Its JSON envelope, exactly as it is sent.
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use crate::event::id::TransactionTag;

    use super::*;

    #[test]
    fn a_body_keeps_its_batch_only_where_it_is_much_of_it() {
        let batch = |sizes: &[usize]| {
            let mut events = EventBatch::default();
            for (ordinal, &size) in (0..).zip(sizes) {
                let id = EventId::new(1, ordinal, TransactionTag::new("test", 1, 1, 1, 1));
                let write = |out: &mut Vec<u8>| {
                    out.resize(out.len() + size, b'x');
                    Ok::<_, ()>(())
                };
                events.push(id, "person.created".into(), Lanes::NONE, 0, write).unwrap();
            }
            Arc::new(StoredBatch::new(Seq(1), events))
        };
        for (sizes, kept) in
            [(&[100_000][..], true), (&[100_000, 100_000], true), (&[20_000, 900_000], false)]
        {
            let batch = batch(sizes);
            let event = batch.get(Seq(1)).unwrap();
            assert_eq!(event.body.len(), sizes[0]);
            assert_eq!(Arc::strong_count(&batch) > 1, kept, "{sizes:?}");
        }
    }
}
