//! `walhook deliveries list`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::journal::JournalArgs;
use crate::cli::report::{ago, counted, table, until};
use crate::cli::when::{self, When};
use crate::cli::{Failure, Globals};
use crate::clock::utc;
use crate::event::EventFilter;
use crate::journal::{DeliveryEntry, DeliveryFilter, DeliveryRow, DeliveryState};

/// What can be said after `walhook deliveries list`.
#[derive(Args, Debug)]
#[command(after_help = when::HELP)]
pub struct ListArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// Of this endpoint alone
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,

    /// In which state
    #[arg(long, value_enum, default_value_t = Shown::Dead)]
    pub state: Shown,

    /// Of events with such names, such as `person.*,*.deleted`
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = super::pattern)]
    pub events: Vec<String>,

    /// Of events committed then or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,

    /// Of events committed then or earlier
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// The states that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// Given up
    Dead,
    /// Waiting for a retry
    Waiting,
    /// Waiting behind another one of their record
    Blocked,
    /// All of these
    All,
}

impl Shown {
    fn state(self) -> Option<DeliveryState> {
        match self {
            Shown::Dead => Some(DeliveryState::Dead),
            Shown::Waiting => Some(DeliveryState::Waiting),
            Shown::Blocked => Some(DeliveryState::Blocked),
            Shown::All => None,
        }
    }
}

impl ListArgs {
    pub(super) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let journal = self.journal.open(globals)?;
        if let Some(endpoint) = &self.endpoint {
            journal.check_endpoint(endpoint)?;
        }
        let events = match self.events.is_empty() {
            true => EventFilter::default(),
            false => EventFilter::new(&self.events).map_err(Failure::usage)?,
        };
        let filter = DeliveryFilter {
            endpoint: self.endpoint,
            state: self.state.state(),
            events,
            since_us: self.since.map(|since| since.0),
            until_us: self.until.map(|until| until.0),
            limit: self.limit,
        };
        let (entries, more) = journal.reader.deliveries(&filter).map_err(Failure::failed)?;
        if self.json {
            let lines: String = entries.iter().map(|entry| format!("{}\n", of(entry))).collect();
            return super::super::print(lines);
        }
        if entries.is_empty() {
            let what = match self.state {
                Shown::Dead => "no delivery is dead",
                Shown::Waiting => "no delivery waits for a retry",
                Shown::Blocked => "no delivery waits behind another",
                Shown::All => "no delivery is dead or waits",
            };
            let such = if filter
                == (DeliveryFilter {
                    state: filter.state,
                    limit: filter.limit,
                    ..Default::default()
                }) {
                ""
            } else {
                " of those meant"
            };
            return super::super::print(format_args!("{what}{such}\n"));
        }
        let mut rows = vec![
            ["ENDPOINT", "STATE", "EVENT", "NAME", "COMMITTED", "TRIES", "WHEN"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(entries.iter().map(line));
        super::super::print(table(&rows))?;
        if more {
            let shown = counted(entries.len(), "delivery").replace("deliverys", "deliveries");
            super::super::print(format_args!("{shown} shown, there are more: --limit\n"))?;
        }
        Ok(())
    }
}

fn line(entry: &DeliveryEntry) -> Vec<String> {
    let row = &entry.row;
    vec![
        entry.endpoint.clone(),
        row.state.as_str().to_owned(),
        entry.id.to_string(),
        entry.event.clone(),
        utc(entry.committed_at_us / 1_000),
        row.attempts.to_string(),
        when(row),
    ]
}

/// When it died, or goes again.
pub(super) fn when(row: &DeliveryRow) -> String {
    match (row.died_at_ms, row.due_at_ms) {
        (Some(at_ms), _) => format!("died {}", ago(at_ms)),
        (None, Some(at_ms)) => until(at_ms),
        (None, None) => "after others of its record".to_owned(),
    }
}

fn of(entry: &DeliveryEntry) -> Value {
    json!({
        "endpoint": entry.endpoint,
        "id": entry.id.to_string(),
        "event": entry.event,
        "committedAtUs": entry.committed_at_us,
        "state": entry.row.state.as_str(),
        "attempts": entry.row.attempts,
        "sequence": (entry.row.sequence > 0).then_some(entry.row.sequence),
        "dueAtMs": entry.row.due_at_ms,
        "diedAtMs": entry.row.died_at_ms,
    })
}
