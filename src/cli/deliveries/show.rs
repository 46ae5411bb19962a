//! `walhook deliveries show`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cli::journal::JournalArgs;
use crate::cli::report::rough;
use crate::cli::{Failure, Globals};
use crate::clock::utc;
use crate::event::EventId;
use crate::journal::{AttemptEntry, EventEntry, Standing};
use crate::terminal::one_line;

/// Bytes of an answer's body that are shown to people.
const SHOWN_BODY: usize = 500;

/// What can be said after `walhook deliveries show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// The event
    #[arg(value_name = "EVENT_ID")]
    pub id: EventId,

    /// For this endpoint alone
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

impl ShowArgs {
    pub(super) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let journal = self.journal.open(globals)?;
        if let Some(endpoint) = &self.endpoint {
            journal.check_endpoint(endpoint)?;
        }
        let mut event = journal.event(self.id)?;
        if let Some(endpoint) = &self.endpoint {
            event.endpoints.retain(|(name, _)| name == endpoint);
            event.attempts.retain(|attempt| attempt.endpoint == *endpoint);
        }
        match self.json {
            true => super::super::print(format_args!("{:#}\n", of(&event))),
            false => super::super::print(text(&event)),
        }
    }
}

fn text(event: &EventEntry) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} {}, committed {}",
        event.id,
        one_line(&event.name),
        utc(event.committed_at_us / 1_000)
    );
    let _ = writeln!(out, "{}", one_line(&String::from_utf8_lossy(&event.body)));
    for (endpoint, standing) in &event.endpoints {
        let attempts: Vec<&AttemptEntry> =
            event.attempts.iter().filter(|attempt| attempt.endpoint == *endpoint).collect();
        let _ = writeln!(out, "\n{endpoint}: {}", describe(standing, &attempts));
        for attempt in attempts {
            write_attempt(&mut out, attempt, event);
        }
    }
    out
}

fn describe(standing: &Standing, attempts: &[&AttemptEntry]) -> String {
    match standing {
        Standing::Ahead => "not reached yet".to_owned(),
        Standing::InFlight => "on its way".to_owned(),
        Standing::Listed(row) => {
            let tries = match row.attempts {
                1 => "1 try".to_owned(),
                n => format!("{n} tries"),
            };
            format!("{}, {tries} so far, {}", row.state.as_str(), super::list::when(row))
        }
        Standing::Done if attempts.iter().any(|attempt| attempt.error.is_none()) => {
            "delivered".to_owned()
        }
        Standing::Done if attempts.is_empty() => {
            "done: not wanted, or delivered so long ago that the attempts are gone".to_owned()
        }
        Standing::Done => "done".to_owned(),
    }
}

fn write_attempt(out: &mut String, attempt: &AttemptEntry, event: &EventEntry) {
    let status = attempt.status.map_or("no answer".to_owned(), |status| status.to_string());
    let took = rough(Duration::from_micros(attempt.duration_us.into()));
    let batch = match attempt.others.len() {
        0 => String::new(),
        others if attempt.seq == event.seq => format!(", with {others} other events"),
        others => format!(", with {others} other events, as one of them"),
    };
    let _ = writeln!(
        out,
        "  {} try {}: {status} after {took}{batch}",
        utc(attempt.started_at_ms),
        attempt.attempt
    );
    if let Some(error) = &attempt.error {
        let _ = writeln!(out, "    {}", one_line(error));
    }
    for line in attempt.head.iter().flat_map(|head| head.lines()) {
        let _ = writeln!(out, "    < {}", one_line(line));
    }
    if let Some(body) = attempt.response.as_deref().filter(|body| !body.is_empty()) {
        let cut = &body[..body.len().min(SHOWN_BODY)];
        let more = if body.len() > SHOWN_BODY { " …" } else { "" };
        let _ = writeln!(out, "    < {}{more}", one_line(&String::from_utf8_lossy(cut)));
    }
}

fn of(event: &EventEntry) -> Value {
    let body = serde_json::from_slice::<Box<RawValue>>(&event.body).ok();
    let body = body.and_then(|body| serde_json::to_value(body).ok());
    let endpoints: Vec<Value> = event
        .endpoints
        .iter()
        .map(|(endpoint, standing)| {
            let (state, row) = match standing {
                Standing::Ahead => ("ahead", None),
                Standing::InFlight => ("inFlight", None),
                Standing::Listed(row) => (row.state.as_str(), Some(row)),
                Standing::Done => ("done", None),
            };
            let attempts = event.attempts.iter().filter(|attempt| attempt.endpoint == *endpoint);
            json!({
                "endpoint": endpoint,
                "state": state,
                "sequence": row.map(|row| row.sequence).filter(|&sequence| sequence > 0),
                "dueAtMs": row.and_then(|row| row.due_at_ms),
                "diedAtMs": row.and_then(|row| row.died_at_ms),
                "attempts": attempts.map(attempt).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "id": event.id.to_string(),
        "event": event.name,
        "committedAtUs": event.committed_at_us,
        "body": body,
        "endpoints": endpoints,
    })
}

fn attempt(attempt: &AttemptEntry) -> Value {
    json!({
        "attempt": attempt.attempt,
        "startedAtMs": attempt.started_at_ms,
        "durationUs": attempt.duration_us,
        "status": attempt.status,
        "error": attempt.error,
        "head": attempt.head,
        "response": attempt.response.as_deref().map(String::from_utf8_lossy),
        "events": attempt.others.len() + 1,
        "failedEvents": attempt.failed_events,
    })
}
