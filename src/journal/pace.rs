//! When to wait a little, so that more can share a commit.

use std::time::{Duration, Instant};

use super::queue::Queue;

/// The shortest nap worth its wake-up, and the longest that may delay anyone.
const SHORTEST: Duration = Duration::from_micros(125);
const LONGEST: Duration = Duration::from_micros(1000);

/// A nap is worth it that gathers an event or an outcome in each of these: well above what a thousand
/// events a second, whose latency must not suffer, bring with them.
const WORTHWHILE: Duration = Duration::from_micros(125);

/// A cycle that starts this soon after the last one makes the writer busy.
const BUSY: Duration = Duration::from_micros(500);

/// After this many busy cycles in a row a nap is tried.
const TRY_AFTER: u32 = 16;

/// So many events and outcomes are enough for one commit without any waiting.
const ENOUGH: usize = 512;

/// A commit costs 50 to 100 µs whatever is in it, and settlements that come one by one as soon as
/// the last one is answered would keep the writer committing two or three at a time, all the time.
/// So while it is busy it naps before it takes what is queued, for as long as naps are worth it: a
/// nap that gathers a lot makes the next one longer, one that gathers little makes it shorter. When
/// little happens, or everyone waits for the writer, it never naps.
#[derive(Debug)]
pub(super) struct Pace {
    nap: Duration,
    ended: Instant,
    busy_cycles: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { nap: Duration::ZERO, ended: now, busy_cycles: 0 }
    }

    /// Naps, if that is worth it.
    pub(super) fn gather(&mut self, queue: &Queue) {
        let before = queue.records();
        if !self.wants_nap(self.ended.elapsed(), before) {
            return;
        }
        // Asleep, not waiting on the queue: nobody has to wake this thread for each bit of work.
        std::thread::sleep(self.nap);
        self.napped(queue.records().saturating_sub(before));
    }

    /// A cycle has ended.
    pub(super) fn cycle_ended(&mut self, now: Instant) {
        self.ended = now;
    }

    fn wants_nap(&mut self, since_last: Duration, records: usize) -> bool {
        if since_last > BUSY {
            self.busy_cycles = 0;
            return false;
        }
        self.busy_cycles = self.busy_cycles.saturating_add(1);
        if self.nap.is_zero() && self.busy_cycles >= TRY_AFTER {
            self.nap = SHORTEST;
        }
        !self.nap.is_zero() && records < ENOUGH
    }

    /// A nap has gathered so many events and outcomes.
    fn napped(&mut self, gathered: usize) {
        if gathered as u128 * WORTHWHILE.as_micros() >= self.nap.as_micros() {
            self.nap = (self.nap * 2).min(LONGEST);
        } else {
            self.nap /= 2;
            if self.nap < SHORTEST {
                self.nap = Duration::ZERO;
                self.busy_cycles = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_micros(5);

    #[test]
    fn naps_grow_while_they_gather_and_end_when_they_do_not() {
        let mut pace = Pace::new(Instant::now());
        let tries = (0..100).take_while(|_| !pace.wants_nap(AT_ONCE, 1)).count();
        assert_eq!(tries as u32 + 1, TRY_AFTER);
        for _ in 0..5 {
            pace.napped(50);
        }
        assert_eq!(pace.nap, LONGEST);
        assert!(pace.wants_nap(AT_ONCE, 1));
        assert!(!pace.wants_nap(AT_ONCE, ENOUGH), "there is enough already");
        for _ in 0..5 {
            pace.napped(0);
        }
        assert!(!pace.wants_nap(AT_ONCE, 1));
    }

    #[test]
    fn what_comes_after_a_pause_is_never_delayed() {
        let mut pace = Pace::new(Instant::now());
        for _ in 0..100 {
            assert!(!pace.wants_nap(Duration::from_millis(2), 1));
        }
    }
}
