//! How long a busy reader waits before it reads on.
//!
//! The server sends every message by itself, so a reader that reads as soon as something comes is
//! woken, and hands over, for each of them. One that sleeps a moment first gets many at once, and both
//! sides become faster. It must do so only while the server is busy: otherwise events come late.

use std::time::Duration;

/// The first sleeps. What one small transaction is made of comes in messages of its own, too: this
/// is all that it can be delayed by.
const SHORTEST: Duration = Duration::from_micros(100);
/// The longest, once the server has been busy for a while: tens of transactions at its best pace.
const LONGEST: Duration = Duration::from_micros(800);
/// Input that comes sooner than this after it was waited for means that the server is busy. Well
/// below the time between events at a thousand a second, whose latency must not suffer.
const BUSY_BELOW: Duration = Duration::from_micros(150);
/// So many busy reads in a row, and sleeps get longer.
const PATIENCE: u32 = 8;
/// A read that brings this much was worth its wake-up, and sleeping longer would only fill the
/// socket's buffer.
const ENOUGH_BYTES: usize = 16 * 1024;

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Gather {
    busy_reads: u32,
    nap: Duration,
}

impl Gather {
    /// How long to sleep before the next read; zero while the server is not busy.
    pub(super) fn nap(&self) -> Duration {
        self.nap
    }

    /// A read waited this long and brought so many bytes.
    pub(super) fn read(&mut self, waited: Duration, bytes: usize) {
        if bytes == 0 || waited >= BUSY_BELOW {
            *self = Gather::default();
            return;
        }
        self.busy_reads = self.busy_reads.saturating_add(1);
        if self.nap.is_zero() {
            self.nap = SHORTEST;
        } else if bytes >= ENOUGH_BYTES {
            self.nap = (self.nap / 2).max(SHORTEST);
        } else if self.busy_reads > PATIENCE {
            self.nap = (self.nap * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_micros(10);

    #[test]
    fn naps_grow_while_little_comes_at_a_time_and_end_with_a_pause() {
        let mut gather = Gather::default();
        assert_eq!(gather.nap(), Duration::ZERO);
        for _ in 0..PATIENCE {
            gather.read(AT_ONCE, 300);
            assert_eq!(gather.nap(), SHORTEST);
        }
        for _ in 0..10 {
            gather.read(AT_ONCE, 300);
        }
        assert_eq!(gather.nap(), LONGEST);
        for _ in 0..10 {
            gather.read(AT_ONCE, 10 * ENOUGH_BYTES);
        }
        assert_eq!(gather.nap(), SHORTEST);
        gather.read(Duration::from_millis(1), 300);
        assert_eq!(gather.nap(), Duration::ZERO);
    }

    #[test]
    fn small_transactions_with_pauses_between_them_are_hardly_delayed() {
        let mut gather = Gather::default();
        for _ in 0..1_000 {
            // The beginning, then the row and the commit, then nothing for a while.
            gather.read(Duration::from_millis(1), 46);
            assert_eq!(gather.nap(), Duration::ZERO);
            gather.read(AT_ONCE, 300);
            assert!(gather.nap() <= SHORTEST);
            gather.read(AT_ONCE, 51);
            assert!(gather.nap() <= SHORTEST);
        }
        gather.read(AT_ONCE, 51);
        gather.read(AT_ONCE, 0);
        assert_eq!(gather.nap(), Duration::ZERO, "nothing came");
    }
}
