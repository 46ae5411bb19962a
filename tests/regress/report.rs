//! What came of it, as a short table.

use std::time::Duration;

use crate::replay::Replay;
use crate::suite::{LeftOut, Outcome};

/// How many differences are shown in full.
const SHOWN: usize = 40;

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) left_out: LeftOut,
    pub(crate) caught_up_in: Duration,
    pub(crate) log: String,
    /// Tables compared at the end, and their rows.
    pub(crate) tables: u64,
    pub(crate) rows: u64,
    pub(crate) not_compared: Vec<String>,
}

impl Report {
    pub(crate) fn all_is_well(&self, replay: &Replay) -> bool {
        replay.differences.is_empty() && self.failed().is_empty() && self.lines("ERROR").is_empty()
    }

    fn failed(&self) -> Vec<String> {
        let failure = |outcome: &Outcome| {
            let failure = outcome.failure.as_ref()?;
            Some(format!("{}: {failure}", outcome.name))
        };
        self.outcomes.iter().filter_map(failure).collect()
    }

    fn lines(&self, level: &str) -> Vec<&str> {
        let at_level = |line: &&str| {
            line.split_whitespace().take(3).any(|word| word == level) || line.contains("panicked")
        };
        self.log.lines().filter(at_level).collect()
    }

    pub(crate) fn print(&self, replay: &Replay) {
        let unexpected: Vec<_> =
            self.outcomes.iter().filter(|outcome| !outcome.as_expected).collect();
        let took: f64 = self.outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
        let list = |heading: &str, lines: &[String]| {
            if !lines.is_empty() {
                println!("\n{heading}");
            }
            for line in lines {
                println!("  {line}");
            }
        };
        let as_expected = self.outcomes.len() - unexpected.len();
        let all: u64 = replay.kinds.values().sum();
        println!();
        println!("files run              {:>9}  in {took:.0} s", self.outcomes.len());
        println!("  output as expected   {as_expected:>9}");
        println!("files left out         {:>9}", self.left_out.len());
        println!("events                 {all:>9}");
        for (kind, count) in &replay.kinds {
            println!("  {kind:<20} {count:>9}");
        }
        println!("compared on the way    {:>9}  tables", replay.checks);
        println!("                       {:>9}  rows", replay.checked_rows);
        println!("compared at the end    {:>9}  tables", self.tables);
        println!("                       {:>9}  rows", self.rows);
        println!("not compared           {:>9}  tables", self.not_compared.len());
        println!("caught up in           {:>9.2}  s", self.caught_up_in.as_secs_f64());
        println!("differences            {:>9}", replay.differences.len());
        let left_out: Vec<_> =
            self.left_out.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        list("Left out:", &left_out);
        list("Did not run to their end:", &self.failed());
        list("Not compared:", &self.not_compared);
        for level in ["WARN", "ERROR"] {
            let lines: Vec<_> = self.lines(level).into_iter().map(str::to_owned).collect();
            list(&format!("The daemon's lines of the level {level}:"), &lines);
        }
        let names: Vec<_> = unexpected.iter().map(|outcome| outcome.name.as_str()).collect();
        if !names.is_empty() {
            list("Other output than PostgreSQL's own run has:", &[names.join(" ")]);
        }
        list("Differences:", &replay.differences[..replay.differences.len().min(SHOWN)]);
    }
}
