//! The newest events, in memory: who keeps up never reads the file.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::event::EventFilter;

use super::model::{EndpointId, Seq};
use super::routing::{Follower, Routing};
use super::stored::StoredBatch;

/// Bytes of envelopes and their descriptions kept in memory.
const TAIL_BYTES: usize = 16 << 20;

/// The newest committed batches. Shared by the writer and all dispatchers.
#[derive(Debug)]
pub struct Tail {
    ring: Mutex<Ring>,
    last_seq: watch::Sender<Seq>,
    routing: Arc<Routing>,
}

#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<Arc<StoredBatch>>,
    bytes: usize,
}

/// Waits for new events; see [`Tail::watch`].
#[derive(Clone, Debug)]
pub struct TailWatcher {
    last_seq: watch::Receiver<Seq>,
}

impl TailWatcher {
    /// Waits until the tail goes beyond what this watcher last saw, and tells the newest number. At
    /// once if it already does. Never comes back after the journal is gone.
    ///
    /// Cancel-safe.
    pub async fn changed(&mut self) -> Seq {
        if self.last_seq.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.last_seq.borrow_and_update()
    }
}

impl Tail {
    pub(super) fn new(last_seq: Seq) -> Tail {
        let routing = Arc::new(Routing::new(last_seq));
        Tail { ring: Mutex::default(), last_seq: watch::Sender::new(last_seq), routing }
    }

    /// The number of the newest event in the journal, whether in memory or not.
    pub fn last_seq(&self) -> Seq {
        *self.last_seq.borrow()
    }

    /// A watcher that has seen everything up to now.
    pub fn watch(&self) -> TailWatcher {
        TailWatcher { last_seq: self.last_seq.subscribe() }
    }

    /// See [`TailWatcher::changed`].
    pub async fn changed(&self, watcher: &mut TailWatcher) -> Seq {
        watcher.changed().await
    }

    /// Tells which of the events that follow `taken` an endpoint of this filter may want, whose
    /// cursor stands there.
    pub fn follow(&self, endpoint: EndpointId, filter: &EventFilter, taken: Seq) -> Follower {
        self.routing.follow(endpoint, filter, taken)
    }

    pub(super) fn routing(&self) -> &Routing {
        &self.routing
    }

    /// The batch that holds the event after `after`, or `None` where that one is no longer, or not
    /// yet, in memory: [`last_seq`](Self::last_seq) tells which.
    pub fn get(&self, after: Seq) -> Option<Arc<StoredBatch>> {
        let ring = self.ring();
        let wanted = after.0.saturating_add(1);
        let at = ring.batches.partition_point(|batch| batch.last_seq().0 < wanted);
        let batch = ring.batches.get(at)?;
        (batch.first_seq().0 <= wanted).then(|| Arc::clone(batch))
    }

    /// Adds a committed batch; without telling the watchers yet.
    pub(super) fn push(&self, batch: StoredBatch) {
        let batch = Arc::new(batch);
        let mut ring = self.ring();
        ring.bytes += cost(&batch);
        ring.batches.push_back(Arc::clone(&batch));
        // The newest batch stays whatever its size, for those who wait for it.
        while ring.bytes > TAIL_BYTES && ring.batches.len() > 1 {
            if let Some(oldest) = ring.batches.pop_front() {
                ring.bytes -= cost(&oldest);
            }
        }
        drop(ring);
        self.routing.route(&batch);
    }

    /// Tells the watchers.
    pub(super) fn publish(&self, last_seq: Seq) {
        self.last_seq.send_if_modified(|seen| {
            let newer = last_seq > *seen;
            *seen = last_seq.max(*seen);
            newer
        });
        self.routing.wake();
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here can panic halfway, so a poisoned ring is as good as any.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a batch takes in memory, about.
pub(super) fn cost(batch: &StoredBatch) -> usize {
    batch.bytes() + batch.len() * size_of::<crate::event::Event>()
}
