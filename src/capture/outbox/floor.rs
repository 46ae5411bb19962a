//! How far down the outbox has to be looked through.
//!
//! A look at the lowest rows passes over all that was deleted, and while somebody holds an old
//! snapshot (a dump, a report) the server can neither clean that away nor skip it: each look takes
//! longer than the one before. So where looking takes long, walhook finds out below which number no
//! row can come any more, and looks from there on only.
//!
//! Whoever writes to the outbox has a lock on it before taking a number, until the end of the
//! transaction. So when all who have that lock after a number was seen have ended, every number up to
//! that one has come or never will; and a look that was begun then and finds none of these has seen
//! the last of them. What takes low numbers in another way (a sequence that was set back, rows put in
//! by hand) is found by looks at the whole, which are made now and then.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A look that takes so long is worth shortening.
const LONG: Duration = Duration::from_millis(25);
/// Between two questions who writes.
const ASKED_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at the whole.
const WHOLE_EVERY: Duration = Duration::from_secs(60);
/// Looks at the whole take this part of the time at most.
const WHOLE_SHARE: u32 = 50;

/// Below any row's number.
const BOTTOM: i64 = i64::MIN;

#[derive(Debug)]
pub(super) struct Floor {
    /// There are no rows up to this number, and none will come.
    level: i64,
    /// None will come up to this number, but there may be some.
    clear: Option<i64>,
    /// Numbers that these may still bring.
    coming: Option<Coming>,
    /// The highest number seen.
    highest: i64,
    asked_at: Option<Instant>,
    whole_at: Instant,
}

#[derive(Debug)]
struct Coming {
    up_to: i64,
    writers: HashSet<String>,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// At the rows above this number.
    above: i64,
    /// [`Floor::clear`] when it began.
    clear: Option<i64>,
    began: Instant,
}

impl Look {
    pub(super) fn above(&self) -> i64 {
        self.above
    }
}

impl Default for Floor {
    fn default() -> Floor {
        Floor {
            level: BOTTOM,
            clear: None,
            coming: None,
            highest: BOTTOM,
            asked_at: None,
            whole_at: Instant::now(),
        }
    }
}

impl Floor {
    /// Begins a look; with `whole`, one at everything.
    pub(super) fn look(&self, whole: bool) -> Look {
        let began = Instant::now();
        let above = if whole || began >= self.whole_at { BOTTOM } else { self.level };
        Look { above, clear: self.clear, began }
    }

    /// What a look found: the lowest number and the highest of those it read.
    pub(super) fn looked(&mut self, look: Look, first: Option<i64>, last: Option<i64>) {
        self.highest = self.highest.max(last.unwrap_or(BOTTOM));
        if first.is_some_and(|first| first <= self.level) {
            // Somebody takes numbers in a way of his own.
            *self = Floor { highest: self.highest, asked_at: self.asked_at, ..Floor::default() };
            return;
        }
        if look.above == BOTTOM {
            let took = look.began.elapsed();
            self.whole_at = Instant::now() + WHOLE_EVERY.max(took.saturating_mul(WHOLE_SHARE));
        }
        let clear = look.clear.filter(|clear| first.is_none_or(|first| first > *clear));
        if let Some(clear) = clear {
            self.level = self.level.max(clear);
            self.clear = None;
        }
    }

    /// Whether it is to be asked who writes now, after a look that took so long.
    pub(super) fn is_worth_asking(&mut self, took: Duration) -> bool {
        let soon = self.asked_at.is_some_and(|asked| asked.elapsed() < ASKED_EVERY);
        if took < LONG || soon || self.clear.is_some() || self.highest <= self.level {
            return false;
        }
        self.asked_at = Some(Instant::now());
        true
    }

    /// Who writes now, told after all numbers that were seen.
    pub(super) fn heard(&mut self, writers: impl IntoIterator<Item = String>) {
        let writers: HashSet<String> = writers.into_iter().collect();
        match &self.coming {
            Some(coming) if !coming.writers.is_disjoint(&writers) => return,
            Some(coming) => self.clear = Some(coming.up_to),
            None if writers.is_empty() => self.clear = Some(self.highest),
            None => {}
        }
        self.coming = (!writers.is_empty()).then_some(Coming { up_to: self.highest, writers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers<const N: usize>(names: [&str; N]) -> [String; N] {
        names.map(str::to_owned)
    }

    /// One that looks at the whole only when told to.
    fn floor() -> Floor {
        let mut floor = Floor::default();
        floor.looked(floor.look(false), None, None);
        floor
    }

    fn look(floor: &mut Floor, first: i64, last: i64) {
        floor.looked(floor.look(false), Some(first), Some(last));
    }

    #[test]
    fn it_rises_when_all_have_ended_who_may_bring_low_numbers() {
        let mut floor = floor();
        look(&mut floor, 1, 100);
        assert!(floor.is_worth_asking(LONG));
        floor.heard(writers(["3/7", "4/1"]));
        look(&mut floor, 101, 200);
        floor.heard(writers(["4/1", "5/5"]));
        look(&mut floor, 7, 300);
        assert_eq!(floor.look(false).above, BOTTOM);
        floor.heard(writers(["5/5", "3/8"]));
        // What was found before is of no account.
        assert_eq!(floor.look(false).above, BOTTOM);
        look(&mut floor, 60, 60);
        assert_eq!(floor.look(false).above, BOTTOM);
        look(&mut floor, 301, 400);
        assert_eq!(floor.look(false).above, 100);
        // Those who write now may bring what was seen until they were asked.
        floor.heard(writers(["5/6"]));
        look(&mut floor, 401, 500);
        assert_eq!(floor.look(false).above, 300);
    }

    #[test]
    fn a_look_that_was_begun_before_does_not_count() {
        let mut floor = floor();
        look(&mut floor, 1, 100);
        let before = floor.look(false);
        floor.heard([]);
        floor.looked(before, None, None);
        assert_eq!(floor.look(false).above, BOTTOM);
        floor.looked(floor.look(false), None, None);
        assert_eq!(floor.look(false).above, 100);
        assert_eq!(floor.look(true).above, BOTTOM);
    }

    #[test]
    fn what_lies_below_takes_it_away() {
        let mut floor = floor();
        look(&mut floor, 1, 100);
        floor.heard([]);
        floor.looked(floor.look(false), None, None);
        assert_eq!(floor.look(false).above, 100);
        floor.looked(floor.look(true), Some(50), Some(50));
        assert_eq!(floor.look(false).above, BOTTOM);
    }

    #[test]
    fn it_is_asked_for_seldom_and_where_it_helps() {
        let mut floor = floor();
        assert!(!floor.is_worth_asking(LONG), "nothing was seen");
        look(&mut floor, 1, 100);
        assert!(!floor.is_worth_asking(LONG / 2));
        assert!(floor.is_worth_asking(LONG));
        floor.asked_at = Some(Instant::now() + Duration::from_secs(3600));
        assert!(!floor.is_worth_asking(LONG), "just now");
    }
}
