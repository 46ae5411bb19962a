//! `walhook endpoints`: how each is, and switching it on and off.

use crate::journal::{EndpointStatus, Wish};
use clap::{Args, Subcommand};

use super::journal::{JournalArgs, Opened};
use super::report::{ago, table};
use super::{Failure, Globals};

/// What can be said after `walhook endpoints`.
#[derive(Args, Debug)]
pub struct EndpointsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EndpointsCommand,
}

/// What can be done with endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointsCommand {
    /// List the endpoints and how each is
    List(ListArgs),
    /// Send events to an endpoint again, first what it missed
    Enable(NameArgs),
    /// Send an endpoint nothing; its events wait in the journal, as long as that keeps them
    Disable(DisableArgs),
    /// Forget an endpoint that was taken out of the configuration, with its dead letters
    Forget(NameArgs),
}

/// What can be said after `walhook endpoints list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Which endpoint.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// Its name
    pub name: String,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which endpoint, and why.
#[derive(Args, Debug)]
pub struct DisableArgs {
    /// Which endpoint.
    #[command(flatten)]
    pub named: NameArgs,

    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub reason: String,
}

impl EndpointsArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        match self.command {
            EndpointsCommand::List(args) => args.run(globals),
            EndpointsCommand::Enable(args) => {
                let journal = args.open(globals)?;
                journal.order(&Wish::Enable { endpoint: args.name }, args.json)
            }
            EndpointsCommand::Disable(DisableArgs { named, reason }) => {
                let journal = named.open(globals)?;
                journal.order(&Wish::Disable { endpoint: named.name, reason }, named.json)
            }
            EndpointsCommand::Forget(args) => {
                let journal = args.open(globals)?;
                if journal.configured.iter().flatten().any(|name| *name == args.name) {
                    return Err(Failure::usage(format_args!(
                        "endpoint {} is in the configuration: take it out first, or it would \
                         start anew; `walhook endpoints disable` switches it off",
                        args.name
                    )));
                }
                journal.order(&Wish::Forget { endpoint: args.name }, args.json)
            }
        }
    }
}

impl NameArgs {
    fn open(&self, globals: &Globals) -> Result<Opened, Failure> {
        let journal = self.journal.open(globals)?;
        journal.check_endpoint(&self.name)?;
        Ok(journal)
    }
}

impl ListArgs {
    fn run(self, globals: &Globals) -> Result<(), Failure> {
        let journal = self.journal.open(globals)?;
        let status = journal.reader.status().map_err(Failure::failed)?;
        let gone = |endpoint: &EndpointStatus| {
            journal.configured.as_ref().is_some_and(|names| !names.contains(&endpoint.name))
        };
        if self.json {
            let mut lines = String::new();
            for endpoint in &status.endpoints {
                let configured = journal.configured.as_ref().map(|_| !gone(endpoint));
                let value = super::status::json::endpoint(endpoint, configured);
                lines.push_str(&format!("{value}\n"));
            }
            return super::print(lines);
        }
        if status.endpoints.is_empty() {
            return super::print("the journal has seen no endpoint yet\n");
        }
        let mut rows = vec![
            ["ENDPOINT", "STATE", "BACKLOG", "WAITING", "BLOCKED", "DEAD", "DROPPED", "SEQUENCE"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows[0].extend(["LAST SUCCESS", "LAST FAILURE"].map(str::to_owned));
        rows.extend(status.endpoints.iter().map(|endpoint| line(endpoint, gone(endpoint))));
        let mut text = table(&rows);
        for endpoint in &status.endpoints {
            text.push_str(&notes(endpoint, gone(endpoint)));
        }
        super::print(text)
    }
}

fn line(endpoint: &EndpointStatus, gone: bool) -> Vec<String> {
    let state = match endpoint {
        _ if gone => "not configured",
        EndpointStatus { disabled: Some(_), .. } => "disabled",
        EndpointStatus { replaying: Some(_), .. } => "replaying",
        EndpointStatus { failing_since_ms: Some(_), .. } => "failing",
        EndpointStatus { backlog: 0, .. } => "up to date",
        _ => "delivering",
    };
    let when = |at_ms: Option<i64>| at_ms.map_or("never".to_owned(), ago);
    let mut row = vec![endpoint.name.clone(), state.to_owned()];
    let counts = [
        endpoint.backlog,
        endpoint.waiting,
        endpoint.blocked,
        endpoint.dead,
        endpoint.dropped,
        endpoint.sequence,
    ];
    row.extend(counts.map(|count| count.to_string()));
    row.extend([when(endpoint.last_success_at_ms), when(endpoint.last_failure_at_ms)]);
    row
}

/// What a table has no room for.
fn notes(endpoint: &EndpointStatus, gone: bool) -> String {
    let name = &endpoint.name;
    let mut notes = String::new();
    let mut note = |text: String| {
        notes.push_str(&format!("{name}: {}\n", crate::terminal::one_line(&text)));
    };
    if gone {
        note(format!(
            "not in the configuration; what comes meanwhile waits for it; `walhook endpoints \
             forget {name}` lets go of it"
        ));
    }
    if let Some(reason) = &endpoint.disabled {
        note(format!(
            "disabled: {reason}; `walhook endpoints enable {name}` sends it what it missed"
        ));
    }
    if let Some(error) = &endpoint.last_error
        && endpoint.failing_since_ms.is_some()
    {
        note(format!("last failure: {error}"));
    }
    if endpoint.dead > 0 {
        note(format!("dead: `walhook deliveries list --endpoint {name}` shows which"));
    }
    notes
}
