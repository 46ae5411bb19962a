//! Which rows were taken and are not known to be deleted.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crate::capture::change::OutboxRow;

/// Between attempts to delete rows that somebody had locked.
const HELD_ASKED_EVERY: Duration = Duration::from_secs(1);
/// These take this part of the time at most.
const HELD_SHARE: u32 = 10;
/// With more such rows than that, walhook waits.
const MOST_HELD: usize = 20_000;
/// Rows that vanished, as many as are remembered at most.
const MOST_VANISHED: usize = 20_000;

/// What the journal is told of rows that were taken, to survive an interruption.
pub(super) struct Remembered {
    /// They are deleted with the next look, as soon as the journal has them for good.
    taken: Vec<OutboxRow>,
    /// Others of which it is known that they could not be, as somebody has locked them: a session that
    /// drops the oldest rows keeps these locked until its transaction ends.
    held: Vec<OutboxRow>,
    /// When to try these again.
    held_until: Instant,
    /// Rows that were gone before they could be deleted: a writer has dropped them (`drop_oldest`), and
    /// the count of what was dropped, which is yet to come, has them too.
    vanished: BTreeMap<i64, OutboxRow>,
}

impl Remembered {
    pub(super) fn new(taken: Vec<OutboxRow>) -> Remembered {
        Remembered {
            taken,
            held: Vec::new(),
            held_until: Instant::now(),
            vanished: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, row: OutboxRow) {
        self.taken.push(row);
    }

    /// What is to be deleted with the next look.
    pub(super) fn taken(&self) -> &[OutboxRow] {
        &self.taken
    }

    /// What is not to be read again, and cannot be deleted yet.
    pub(super) fn held(&self) -> &[OutboxRow] {
        &self.held
    }

    /// Whether nothing more is to be read until some of what is held can be deleted.
    pub(super) fn are_too_many_held(&self) -> bool {
        self.held.len() >= MOST_HELD
    }

    /// How long to leave alone what is held; none if nothing is.
    pub(super) fn rest_of_held(&self) -> Option<Duration> {
        let rest = self.held_until.saturating_duration_since(Instant::now());
        (!self.held.is_empty()).then_some(rest)
    }

    /// All that is to be deleted. What can be is at the beginning: at the end there may be no time for
    /// the rest.
    pub(super) fn all(&self) -> Vec<OutboxRow> {
        [&self.taken[..], &self.held].concat()
    }

    /// None of what was taken is there any more, and these numbers were until now.
    pub(super) fn taken_are_gone(&mut self, deleted: &[i64]) {
        let taken = std::mem::take(&mut self.taken);
        self.are_gone(taken, deleted);
    }

    /// Of [`all`](Self::all), none is there any more but for those that somebody has locked, and these
    /// numbers were until now. To find that out took so long.
    pub(super) fn all_are_gone_but(
        &mut self,
        held: Vec<OutboxRow>,
        deleted: &[i64],
        took: Duration,
    ) {
        let all = self.all();
        self.taken.clear();
        self.held = held;
        let still: HashSet<i64> = self.held.iter().map(|row| row.id).collect();
        let gone = all.into_iter().filter(|row| !still.contains(&row.id)).collect();
        self.are_gone(gone, deleted);
        self.held_until = Instant::now() + HELD_ASKED_EVERY.max(took * HELD_SHARE);
    }

    fn are_gone(&mut self, gone: Vec<OutboxRow>, deleted: &[i64]) {
        if deleted.len() < gone.len() {
            let deleted: HashSet<i64> = deleted.iter().copied().collect();
            let vanished = gone.into_iter().filter(|row| !deleted.contains(&row.id));
            self.vanished.extend(vanished.map(|row| (row.id, row)));
        }
        while self.vanished.len() > MOST_VANISHED {
            self.vanished.pop_first();
        }
    }

    /// A writer has dropped the rows with these numbers. Says how many of them were taken before, and
    /// forgets those.
    pub(super) fn were_dropped(&mut self, first: i64, last: i64) -> u64 {
        if first > last {
            return 0;
        }
        let told: Vec<i64> = self.vanished.range(first..=last).map(|(id, _)| *id).collect();
        for id in &told {
            self.vanished.remove(id);
        }
        // Whoever kept these locked has dropped them, and is done.
        let held = self.held.len();
        self.held.retain(|row| !(first..=last).contains(&row.id));
        (told.len() + held - self.held.len()) as u64
    }

    /// Nothing waits, so whatever was dropped is counted by now.
    pub(super) fn all_is_counted(&mut self) {
        self.vanished.clear();
    }

    /// What the journal is to remember when what was taken is deleted.
    pub(super) fn lasting(&self) -> impl Iterator<Item = OutboxRow> {
        self.held.iter().chain(self.vanished.values()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: impl IntoIterator<Item = i64>) -> Vec<OutboxRow> {
        ids.into_iter().map(|id| OutboxRow { id, xid: 1, written_at_us: 0 }).collect()
    }

    fn lasting(remembered: &Remembered) -> Vec<i64> {
        remembered.lasting().map(|row| row.id).collect()
    }

    #[test]
    fn what_was_deleted_is_forgotten() {
        let mut remembered = Remembered::new(rows(1..=3));
        remembered.taken_are_gone(&[1, 2, 3]);
        assert!(remembered.all().is_empty() && lasting(&remembered).is_empty());
    }

    #[test]
    fn what_somebody_else_dropped_is_told_once_when_it_is_counted() {
        let mut remembered = Remembered::new(rows(1..=5));
        remembered.taken_are_gone(&[1, 5]);
        assert_eq!(lasting(&remembered), [2, 3, 4]);
        assert_eq!(remembered.were_dropped(3, 100), 2);
        assert_eq!(remembered.were_dropped(3, 100), 0);
        assert_eq!(remembered.were_dropped(100, 1), 0, "no range");
        assert_eq!(lasting(&remembered), [2]);
        remembered.all_is_counted();
        assert!(lasting(&remembered).is_empty());
    }

    #[test]
    fn what_is_locked_is_held_until_it_is_deleted_or_dropped() {
        let mut remembered = Remembered::new(rows(1..=4));
        assert_eq!(remembered.rest_of_held(), None);
        remembered.all_are_gone_but(rows([2, 3]), &[1, 4], Duration::ZERO);
        assert!(remembered.taken().is_empty());
        assert_eq!(lasting(&remembered), [2, 3]);
        assert!(remembered.rest_of_held().is_some());
        remembered.take(rows([7])[0]);
        let ids: Vec<i64> = remembered.all().iter().map(|row| row.id).collect();
        assert_eq!(ids, [7, 2, 3]);
        assert_eq!(remembered.were_dropped(3, 3), 1);
        remembered.all_are_gone_but(Vec::new(), &[7, 2], Duration::ZERO);
        assert!(remembered.all().is_empty() && lasting(&remembered).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let most = MOST_VANISHED as i64;
        let mut remembered = Remembered::new(rows(1..=most + 5));
        remembered.taken_are_gone(&[]);
        assert_eq!(remembered.lasting().count(), MOST_VANISHED);
        remembered.all_are_gone_but(rows(1..=most), &[], Duration::ZERO);
        assert!(remembered.are_too_many_held());
    }
}
