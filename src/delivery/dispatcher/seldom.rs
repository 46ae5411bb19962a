//! Lines of the log that must not become a flood.

use std::time::Duration;

use tokio::time::Instant;

/// How long one allowance of lines has to last.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Lets so many lines of one kind through in a minute, and counts the rest.
pub(super) struct Seldom {
    lines: u32,
    begun: Option<Instant>,
    said: u32,
    /// What happened, and no line told.
    unsaid: u32,
}

/// A line that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// How often it happened since the line before, this time included.
    pub(super) count: u32,
    /// Whether none follows for a while.
    pub(super) last: bool,
}

impl Seldom {
    pub(super) const fn new(lines: u32) -> Seldom {
        Seldom { lines, begun: None, said: 0, unsaid: 0 }
    }

    /// It happened once more: the line for it, if one may be written.
    pub(super) fn line(&mut self, now: Instant) -> Option<Line> {
        self.unsaid = self.unsaid.saturating_add(1);
        if self.begun.is_none_or(|begun| now >= begun + WINDOW) {
            self.begun = Some(now);
            self.said = 0;
        }
        if self.said >= self.lines {
            return None;
        }
        self.said += 1;
        let count = std::mem::take(&mut self.unsaid);
        Some(Line { count, last: self.said == self.lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_counted_by_the_next_line() {
        let start = Instant::now();
        let mut seldom = Seldom::new(2);
        let lines: Vec<_> = (0..5).filter_map(|_| seldom.line(start)).collect();
        let first = Line { count: 1, last: false };
        assert_eq!(lines, [first, Line { count: 1, last: true }]);
        assert_eq!(seldom.line(start + WINDOW - Duration::from_millis(1)), None);
        assert_eq!(seldom.line(start + WINDOW), Some(Line { count: 5, last: false }));
        assert_eq!(seldom.line(start + WINDOW), Some(Line { count: 1, last: true }));
    }
}
