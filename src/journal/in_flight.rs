//! The list of events on their way, as it stands in the file.
//!
//! It is written with every settlement, and with batches it is thousands of events long: but these
//! come one after another, so it is written in runs. `[seq, sequence, count]` stands for as many
//! events with ascending numbers (without any, where `sequence` is 0), `[seq, sequence]` for one.

use super::model::{Listed, Seq};
use super::settle::push_array;

/// More than ever are on their way at once: a longer run is damage.
const LONGEST_RUN: u32 = 1 << 24;

/// Events one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "Stored")]
struct Run {
    first: Listed,
    count: u32,
}

/// An element of the list: a plain number was written by version 1.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Stored {
    Run(i64, u64, u32),
    Pair(i64, u64),
    Plain(i64),
}

impl From<Stored> for Run {
    fn from(stored: Stored) -> Run {
        let (seq, sequence, count) = match stored {
            Stored::Run(seq, sequence, count) => (seq, sequence, count),
            Stored::Pair(seq, sequence) => (seq, sequence, 1),
            Stored::Plain(seq) => (seq, 0, 1),
        };
        Run { first: Listed { seq: Seq(seq), sequence }, count }
    }
}

impl Run {
    /// The event at this place of the run, or the one that would follow.
    fn at(&self, place: u32) -> Listed {
        let Listed { seq: Seq(seq), sequence } = self.first;
        let sequence = match sequence {
            0 => 0,
            _ => sequence.saturating_add(place.into()),
        };
        Listed { seq: Seq(seq.saturating_add(place.into())), sequence }
    }
}

/// As JSON. Runs are found where events stand in order.
pub(super) fn write(listed: &[Listed]) -> String {
    let mut text = String::from("[");
    let mut runs: Vec<Run> = Vec::new();
    for &one in listed {
        match runs.last_mut() {
            Some(run) if run.count < LONGEST_RUN && run.at(run.count) == one => run.count += 1,
            _ => runs.push(Run { first: one, count: 1 }),
        }
    }
    for (at, Run { first, count }) in runs.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let numbers = [first.seq.0.unsigned_abs(), first.sequence, count.into()];
        push_array(&mut text, numbers.into_iter().take(if count == 1 { 2 } else { 3 }));
    }
    text.push(']');
    text
}

/// What is on the list, unless it cannot be read.
pub(super) fn read(text: &str) -> Option<Vec<Listed>> {
    let runs: Vec<Run> = serde_json::from_str(text).ok()?;
    if runs.iter().any(|run| run.count > LONGEST_RUN) {
        return None;
    }
    Some(runs.iter().flat_map(|run| (0..run.count).map(|place| run.at(place))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pairs: &[(i64, u64)]) -> Vec<Listed> {
        pairs.iter().map(|&(seq, sequence)| Listed { seq: Seq(seq), sequence }).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for (pairs, text) in [
            (&[][..], "[]"),
            (&[(7, 3)], "[[7,3]]"),
            (&[(7, 3), (8, 4), (9, 5)], "[[7,3,3]]"),
            (&[(7, 3), (8, 4), (10, 5), (11, 7)], "[[7,3,2],[10,5],[11,7]]"),
            // Those that are sent once more have no numbers.
            (&[(1, 0), (2, 0), (3, 1), (4, 2), (5, 0)], "[[1,0,2],[3,1,2],[5,0]]"),
            (&[(5, 1), (4, 2)], "[[5,1],[4,2]]"),
            (&[(1, u64::MAX - 1), (2, u64::MAX)], "[[1,18446744073709551614,2]]"),
        ] {
            assert_eq!(write(&listed(pairs)), text);
            assert_eq!(read(text), Some(listed(pairs)), "{text}");
        }
        let many: Vec<_> = (1..=3_200_i64).map(|n| (n, n.unsigned_abs())).collect();
        assert_eq!(write(&listed(&many)), "[[1,1,3200]]");
        assert_eq!(read("[7,[8,2],[9,3]]"), Some(listed(&[(7, 0), (8, 2), (9, 3)])));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "{}", "[[]]", "[[1]]", "[[1,2,3,4]]", "[[1,-2]]", "[[1,2,4294967295]]"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
