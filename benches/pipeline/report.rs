//! One table for people, one JSON file for scripts.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    unit: &'static str,
    /// One value a run.
    values: Vec<f64>,
    /// What it should reach, as a sentence.
    aim: &'static str,
}

impl Report {
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

    /// Writes the figures below the build directory's parent, and says where.
    pub(crate) fn write_json(&self) -> Result<PathBuf, Box<dyn Error>> {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what, "unit": row.unit, "median": row.median(),
                    "runs": row.values, "aim": row.aim,
                })
            })
            .collect();
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench-results");
        fs::create_dir_all(&folder)?;
        let path = folder.join("pipeline.json");
        fs::write(&path, serde_json::to_string_pretty(&json!({ "figures": figures }))?)?;
        Ok(path)
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
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<58} {:>12} {:<12} {:<24} range", "figure", "median", "unit", "aim")?;
        for row in &self.rows {
            let digits = if row.median() < 100.0 { 2 } else { 0 };
            let low = row.values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = row.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            writeln!(
                f,
                "{:<58} {:>12.digits$} {:<12} {:<24} {low:.digits$}..{high:.digits$}",
                row.what,
                row.median(),
                row.unit,
                row.aim,
            )?;
        }
        Ok(())
    }
}
