//! Where new events come from: memory while the endpoint keeps up, pages of the journal when not.

use std::sync::Arc;

use crate::journal::{Seq, StoredBatch, Tail};

/// The most a page may hold.
pub(super) const PAGE_EVENTS: usize = 512;
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// A place in the stream. Never waits: it says what it needs.
#[derive(Debug, Default)]
pub(super) struct Intake {
    batch: Option<Arc<StoredBatch>>,
    /// The next event of the batch.
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There may be more.
    #[default]
    Going,
    /// The next events are in the journal alone.
    NeedsPage,
    /// There is nothing until the tail moves.
    Idle,
    /// There is more, but others are to have their turn.
    Interrupted,
}

impl Intake {
    /// The next event after `taken`: its batch, its number, its place in the batch.
    pub(super) fn next(
        &mut self,
        tail: &Tail,
        taken: Seq,
    ) -> Option<(Arc<StoredBatch>, Seq, usize)> {
        if self.state == State::NeedsPage || self.state == State::Idle {
            return None;
        }
        self.state = State::Going;
        if self.batch.as_ref().is_none_or(|batch| self.at >= batch.len()) {
            self.batch = tail.get(taken);
            self.at = match &self.batch {
                Some(batch) => {
                    usize::try_from(taken.0 + 1 - batch.first_seq().0).unwrap_or_default()
                }
                None => 0,
            };
        }
        let Some(batch) = &self.batch else {
            let behind = tail.last_seq() > taken;
            self.state = if behind { State::NeedsPage } else { State::Idle };
            return None;
        };
        let at = self.at;
        let seq = Seq(batch.first_seq().0 + i64::try_from(at).unwrap_or_default());
        self.at += 1;
        Some((Arc::clone(batch), seq, at))
    }

    pub(super) fn wants_page(&self) -> bool {
        self.state == State::NeedsPage
    }

    /// The page asked for. Where it is empty, retention took what was there.
    pub(super) fn found(&mut self, batch: Arc<StoredBatch>) {
        self.state = if batch.is_empty() { State::Idle } else { State::Going };
        self.batch = Some(batch);
        self.at = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The tail has moved.
    pub(super) fn wake(&mut self) {
        if self.state == State::Idle {
            self.state = State::Going;
        }
    }

    pub(super) fn interrupted(&mut self) {
        self.state = State::Interrupted;
    }

    /// The others had their turn.
    pub(super) fn resume(&mut self) {
        if self.state == State::Interrupted {
            self.state = State::Going;
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.state == State::Interrupted
    }
}
