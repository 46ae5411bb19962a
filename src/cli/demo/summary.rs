//! The two sides of the books, side by side.

use std::fmt::Write as _;

use serde_json::json;

use super::compare::{Comparison, compare};
use super::ledger::Figures;
use super::paint::{Color, Style, milliseconds};
use super::stage::Stage;
use super::tally::{Counts, Tally};
use super::{bold, chain};
use crate::cli::{Failure, print};

/// What was committed, and what became of it.
pub(super) struct Summary {
    tally: Tally,
    figures: Figures,
    comparison: Comparison,
}

impl Summary {
    /// Of what the traffic committed.
    pub(super) fn new(tally: Tally) -> Summary {
        Summary { tally, figures: Figures::default(), comparison: Comparison::default() }
    }

    /// Takes the receiver's figures, and compares its records with the database. Nothing must
    /// arrive any more.
    pub(super) async fn finish(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        let told = {
            let ledger = stage.ledger();
            self.figures = ledger.figures();
            ledger.told()
        };
        self.comparison = compare(&stage.database_url(), &told).await.map_err(|error| {
            Failure::failed(format_args!(
                "cannot compare the records with the database: {}",
                chain(&error)
            ))
        })?;
        Ok(())
    }

    /// Whether everything committed was delivered, nothing else was, each record's events came in
    /// order, and every request was signed.
    fn is_complete(&self) -> bool {
        self.figures.delivered == self.tally.committed
            && self.figures.forged == 0
            && self.figures.unreadable == 0
            && self.figures.out_of_order == 0
            && self.comparison.equal == self.comparison.compared
    }

    /// Prints it; a failure if it does not add up.
    pub(super) fn report(&self, style: Style, as_json: bool) -> Result<(), Failure> {
        print(if as_json { format!("{}\n", self.json()) } else { self.text(style) })?;
        if self.is_complete() { Ok(()) } else { Err(Failure::reported()) }
    }

    fn json(&self) -> serde_json::Value {
        let ms = |us: Option<u32>| us.map(|us| f64::from(us) / 1_000.0);
        json!({
            "complete": self.is_complete(),
            "committed": self.tally.committed,
            "delivered": self.figures.delivered,
            "transactions": self.tally.transactions,
            "rolledBack": self.tally.rolled_back,
            "verified": self.figures.verified,
            "rejected": self.figures.forged + self.figures.unreadable,
            "repeats": self.figures.repeats,
            "outOfOrder": self.figures.out_of_order,
            "records": self.comparison,
            "latencyMs": { "p50": ms(self.figures.p50_us), "p99": ms(self.figures.p99_us) },
        })
    }

    fn text(&self, style: Style) -> String {
        let (tally, figures) = (&self.tally, &self.figures);
        let mut text = String::from("\n");
        let mut line = |line: String| {
            text.push_str(line.trim_end());
            text.push('\n');
        };
        let head = format!(
            "{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "created", "updated", "deleted", "custom", "total"
        );
        line(style.paint(Color::Dim, &head));
        line(format!(
            "{}   in {} transactions; changes rolled back: {}",
            row(style, "committed", &tally.committed),
            tally.transactions,
            tally.rolled_back
        ));
        line(format!("{}   each event counted once", row(style, "delivered", &figures.delivered)));
        line(String::new());
        let mut fact = |good: bool, name: &str, said: String| {
            let mark = if good {
                style.paint(Color::Green, "✓")
            } else {
                style.paint(Color::Red, "✗")
            };
            line(format!("{mark} {name:<11}{said}"));
        };
        let requests = figures.verified + figures.forged;
        fact(
            figures.forged == 0 && figures.unreadable == 0,
            "signatures",
            format!("{} of {requests} requests verified", figures.verified - figures.unreadable),
        );
        fact(
            figures.out_of_order == 0,
            "order",
            match figures.out_of_order {
                0 => format!("kept for each of {} records", self.comparison.compared),
                number => format!("{number} events came after a later one of their record"),
            },
        );
        fact(
            true,
            "repeats",
            match figures.repeats {
                0 => "none".to_owned(),
                number => format!("{number}, each under the id it had before"),
            },
        );
        let Comparison { compared, equal } = self.comparison;
        fact(
            compared == equal,
            "contents",
            format!("{equal} of {compared} records, as the events tell them, equal their rows"),
        );
        if let (Some(p50), Some(p99)) = (figures.p50_us, figures.p99_us) {
            let latency =
                format!("p50 {}, p99 {} from commit to 2xx", milliseconds(p50), milliseconds(p99));
            fact(true, "latency", latency);
        }
        let _ = writeln!(text, "\n{}", self.verdict(style));
        text
    }

    fn verdict(&self, style: Style) -> String {
        let (committed, delivered) = (self.tally.committed.total(), self.figures.delivered.total());
        if self.is_complete() {
            return bold(style, &format!("All {committed} committed changes were delivered."));
        }
        let verdict = if !self.figures.delivered.covers(&self.tally.committed) {
            format!("Of {committed} committed changes only {delivered} were delivered.")
        } else if self.figures.delivered != self.tally.committed {
            format!("{delivered} changes were delivered, but only {committed} were committed.")
        } else {
            "Everything arrived, but not all is as it should be.".to_owned()
        };
        style.paint(Color::Red, &verdict)
    }
}

fn row(style: Style, name: &str, counts: &Counts) -> String {
    let Counts { created, updated, deleted, custom } = counts;
    let total = counts.total();
    bold(style, &format!("{name:<12}"))
        + &format!("{created:>10}{updated:>10}{deleted:>10}{custom:>10}{total:>10}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { color: false, width: 100 };

    fn summary() -> Summary {
        let committed = Counts { created: 3, updated: 2, deleted: 1, custom: 1 };
        Summary {
            tally: Tally { transactions: 5, committed, rolled_back: 4 },
            figures: Figures {
                delivered: committed,
                verified: 8,
                repeats: 1,
                p50_us: Some(2_100),
                p99_us: Some(9_000),
                ..Figures::default()
            },
            comparison: Comparison { compared: 4, equal: 4 },
        }
    }

    #[test]
    fn complete_when_the_books_agree_and_repeats_do_no_harm() {
        let summary = summary();
        assert!(summary.is_complete());
        let text = summary.text(PLAIN);
        assert!(text.contains("All 7 committed changes were delivered."), "{text}");
        assert!(text.contains("p50 2.1 ms, p99 9.0 ms"), "{text}");
        assert_eq!(summary.json()["complete"], true);
    }

    #[test]
    fn incomplete_for_each_thing_that_can_go_wrong() {
        let changes: [fn(&mut Summary); 6] = [
            |summary| summary.figures.delivered.deleted -= 1,
            |summary| summary.figures.delivered.created += 1,
            |summary| summary.figures.forged = 1,
            |summary| summary.figures.unreadable = 1,
            |summary| summary.figures.out_of_order = 1,
            |summary| summary.comparison.equal -= 1,
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut summary = summary();
            change(&mut summary);
            assert!(!summary.is_complete(), "change {place}");
            assert!(!summary.text(PLAIN).contains("All 7"), "change {place}");
        }
    }
}
