//! Where new events come from: memory while the endpoint keeps up, the journal's file when not.
//!
//! Where it is known which events may concern the endpoint, only those are looked at. Who is too far
//! behind for that reads one after another.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::EventFilter;
use crate::journal::{
    Course, EndpointId, Follower, Journal, JournalError, Picked, Run, Seq, StoredBatch, Tail,
};

/// The most a page may hold.
const PAGE_EVENTS: usize = 512;
const PAGE_BYTES: usize = 1 << 20;

/// A place in the stream. Never waits: it says what it needs.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Who knows what concerns the endpoint; nobody while it takes nothing.
    follower: Option<Follower>,
    /// The next events that it may want, as far as known.
    runs: VecDeque<Run>,
    /// What was last looked at.
    batch: Option<Arc<StoredBatch>>,
    /// Events of the runs, from the file.
    picked: Picked,
    /// Up to there the stream is read one by one.
    unknown: Seq,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There may be more.
    #[default]
    Going,
    /// The next events are in the journal alone.
    NeedsPage,
    /// There is nothing until somebody calls.
    Idle,
    /// There is more, but others are to have their turn.
    Interrupted,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Found {
    /// An event: its batch, its number, its place in the batch.
    Event {
        batch: Arc<StoredBatch>,
        seq: Seq,
        at: usize,
        /// Its name is wanted, and none before it was that was not handed out; otherwise nothing is
        /// known of it.
        named: bool,
    },
    /// No event that may be wanted, up to this one.
    Nothing(Seq),
    /// These would have been next, and may have been wanted, but retention took them.
    Lost(Run),
}

/// Events read from the journal.
pub(super) enum Page {
    /// Those that follow.
    Next(Arc<StoredBatch>),
    /// Those of some runs.
    Picked(Picked),
}

impl Intake {
    /// Takes what follows `taken`.
    pub(super) fn new(
        tail: &Tail,
        endpoint: EndpointId,
        filter: &EventFilter,
        taken: Seq,
    ) -> Intake {
        Intake { follower: Some(tail.follow(endpoint, filter, taken)), ..Intake::default() }
    }

    /// What comes after `taken`.
    pub(super) fn next(&mut self, tail: &Tail, taken: Seq) -> Option<Found> {
        if self.state == State::NeedsPage || self.state == State::Idle {
            return None;
        }
        self.state = State::Going;
        while self.runs.front().is_some_and(|run| run.last <= taken) {
            self.runs.pop_front();
        }
        let mut next = Seq(taken.0 + 1);
        if self.runs.is_empty() {
            let Some(follower) = &mut self.follower else {
                self.state = State::Idle;
                return None;
            };
            match follower.next(taken, &mut self.runs) {
                Course::Runs => {}
                Course::Nothing(through) => {
                    self.state = State::Idle;
                    self.batch = None;
                    self.picked = Picked::default();
                    return (through > taken).then_some(Found::Nothing(through));
                }
                Course::Unknown(through) => self.unknown = through,
            }
        }
        let run = self.runs.front().copied();
        next = run.map_or(next, |run| run.first.max(next));
        let Some((batch, at)) = self.find(tail, next) else {
            if let Some(run) = run
                && let Some(last) = self.lost_from(next)
            {
                return Some(Found::Lost(Run { first: next, last: last.min(run.last) }));
            }
            self.state = State::NeedsPage;
            return None;
        };
        let seq = Seq(batch.first_seq().0 + i64::try_from(at).unwrap_or_default());
        Some(Found::Event { batch, seq, at, named: run.is_some() })
    }

    /// The batch of an event and its place there, if it is in memory. Of a page that was read one by
    /// one, the first one counts if those before it are gone.
    fn find(&mut self, tail: &Tail, seq: Seq) -> Option<(Arc<StoredBatch>, usize)> {
        let holds = |batch: &StoredBatch| batch.first_seq() <= seq && seq <= batch.last_seq();
        if !self.batch.as_deref().is_some_and(holds) {
            let after = Seq(seq.0 - 1);
            while self.picked.batches.front().is_some_and(|batch| batch.last_seq() < seq) {
                self.picked.batches.pop_front();
            }
            let picked = self.picked.batches.front().filter(|batch| holds(batch)).cloned();
            let page = self
                .batch
                .take()
                .filter(|page| self.runs.is_empty() && page.first_seq() > seq && !page.is_empty());
            self.batch = page.or_else(|| picked.or_else(|| tail.get(after)));
        }
        let batch = self.batch.as_ref()?;
        let at = usize::try_from(seq.0 - batch.first_seq().0).unwrap_or_default();
        Some((Arc::clone(batch), at))
    }

    /// Up to where events are gone from the journal, if this one is.
    fn lost_from(&self, seq: Seq) -> Option<Seq> {
        let there = self.picked.batches.front().map(|batch| batch.first_seq());
        let through = there.map_or(self.picked.through, |first| Seq(first.0 - 1));
        (through >= seq).then_some(through)
    }

    pub(super) fn wants_page(&self) -> bool {
        self.state == State::NeedsPage
    }

    /// Reads what is needed next, after `taken`.
    pub(super) fn read(
        &self,
        journal: Journal,
        taken: Seq,
    ) -> impl Future<Output = Result<Page, JournalError>> + Send + 'static {
        let next = Seq(taken.0 + 1);
        let rest = |run: &Run| Run { first: run.first.max(next), last: run.last };
        let runs: Vec<Run> = self.runs.iter().map(rest).collect();
        async move {
            if runs.is_empty() {
                journal.shared_page(taken, PAGE_EVENTS, PAGE_BYTES).await.map(Page::Next)
            } else {
                journal.shared_pick(runs, PAGE_EVENTS, PAGE_BYTES).await.map(Page::Picked)
            }
        }
    }

    /// The page asked for. Where it is empty, retention took all that was there: up to which number,
    /// is returned.
    pub(super) fn found(&mut self, page: Page) -> Option<Seq> {
        self.state = State::Going;
        match page {
            Page::Next(batch) if batch.is_empty() => return Some(self.unknown),
            Page::Next(batch) => self.batch = Some(batch),
            Page::Picked(picked) => self.picked = picked,
        }
        None
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Waits until there is something for the endpoint, which there was not.
    pub(super) async fn changed(&self) {
        match &self.follower {
            Some(follower) => follower.changed().await,
            None => std::future::pending().await,
        }
    }

    /// There is something.
    pub(super) fn wake(&mut self) {
        if self.state == State::Idle {
            self.state = State::Going;
        }
    }

    /// All that was taken is done with, and the cursor is saved there: it may be moved on while
    /// there is nothing for the endpoint.
    pub(super) fn rest(&mut self, saved: Seq) {
        if let Some(follower) = &mut self.follower {
            follower.rest(saved);
        }
    }

    /// Whether the cursor is somebody else's business.
    pub(super) fn is_resting(&self) -> bool {
        self.follower.as_ref().is_some_and(Follower::is_resting)
    }

    /// Takes nothing any more. Up to where there was nothing for the endpoint, if that is known, and
    /// up to where others saved its cursor.
    pub(super) fn leave(&mut self) -> Option<(Option<Seq>, Seq)> {
        let mut follower = self.follower.take()?;
        let through = follower.stir();
        self.state = State::Idle;
        Some((through, follower.saved()))
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
