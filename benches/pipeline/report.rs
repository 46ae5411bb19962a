//! One table for people, one in Markdown for the README, one JSON file for scripts.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::machine::Machine;

pub(crate) struct Report {
    rows: Vec<Row>,
    machine: Machine,
}

struct Row {
    what: String,
    unit: &'static str,
    /// One value a run.
    values: Vec<f64>,
    /// What it should reach: `>= 1.2`, `<= 45`, `< 64`; or words, such as `(the limit)`.
    aim: &'static str,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Report {
        Report { rows: Vec::new(), machine }
    }

    /// Adds one run's value of a figure; figures keep the order of their first value.
    pub(crate) fn add(&mut self, what: &str, unit: &'static str, aim: &'static str, value: f64) {
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.values.push(value),
            None => {
                let what = what.to_owned();
                self.rows.push(Row { what, unit, values: vec![value], aim });
            }
        }
    }

    /// The median of a figure's runs so far.
    pub(crate) fn median_of(&self, what: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.what == what).map(Row::median)
    }

    /// Adds what `make bench-build` measured, if it was run here.
    pub(crate) fn add_build(&mut self) -> Result<(), Box<dyn Error>> {
        let Ok(text) = fs::read_to_string(folder().join("build.json")) else { return Ok(()) };
        let build: Value = serde_json::from_str(&text)?;
        let number = |key: &str| build[key].as_f64().ok_or(format!("build.json has no {key}"));
        let minutes = number("wall_s")? / 60.0;
        self.add("release binary", "MiB", "< 25", number("binary_bytes")? / (1024.0 * 1024.0));
        self.add("clean release build on 2 cores", "min", "< 6", minutes);
        self.add("  its CPU time, over 2", "min", "", number("cpu_s")? / 120.0);
        Ok(())
    }

    /// Writes the figures to `bench-results`, and says where.
    pub(crate) fn write(&self) -> Result<[PathBuf; 2], Box<dyn Error>> {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what.trim_start(), "unit": row.unit, "median": row.median(),
                    "runs": row.values, "aim": row.aim, "met": row.met(),
                })
            })
            .collect();
        let json = json!({ "machine": self.machine.json(), "figures": figures });
        let folder = folder();
        fs::create_dir_all(&folder)?;
        let paths = [folder.join("pipeline.json"), folder.join("pipeline.md")];
        fs::write(&paths[0], serde_json::to_string_pretty(&json)? + "\n")?;
        fs::write(&paths[1], self.markdown())?;
        Ok(paths)
    }

    /// The figures, less the details that have nothing to reach.
    fn markdown(&self) -> String {
        let mut text = format!("Measured {}.\n\n", self.machine.sentence());
        text.push_str("| | median | aim | runs, range |\n|---|---|---|---|\n");
        for row in &self.rows {
            let what = row.what.trim_start();
            let detail = what.len() < row.what.len();
            if detail && row.aim.is_empty() {
                continue;
            }
            let indent = if detail { "– " } else { "" };
            let median = format!("{} {}", number(row.median()), row.unit);
            let mark = if row.met() == Some(false) { " (**missed**)" } else { "" };
            let _ = writeln!(
                text,
                "| {indent}{what} | {} | {}{mark} | {}: {} |",
                median.trim_end(),
                row.aim,
                row.values.len(),
                row.range(),
            );
        }
        text
    }
}

impl Row {
    fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        }
    }

    fn range(&self) -> String {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{}..{}", number(low), number(high))
    }

    /// Whether the median is what it should be, where the aim is a number.
    fn met(&self) -> Option<bool> {
        let (comparison, limit) = self.aim.split_once(' ')?;
        let limit: f64 = limit.replace(',', "").parse().ok()?;
        let median = self.median();
        match comparison {
            ">=" => Some(median >= limit),
            "<=" => Some(median <= limit),
            "<" => Some(median < limit),
            _ => None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine.sentence())?;
        writeln!(
            f,
            "{:<66} {:>12} {:<10} {:<12} {:<7} {:>4}  range",
            "figure", "median", "unit", "aim", "", "runs"
        )?;
        for row in &self.rows {
            let met = match row.met() {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            writeln!(
                f,
                "{:<66} {:>12} {:<10} {:<12} {met:<7} {:>4}  {}",
                row.what,
                number(row.median()),
                row.unit,
                row.aim,
                row.values.len(),
                row.range(),
            )?;
        }
        Ok(())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-results")
}

/// About three digits, with commas between thousands.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
