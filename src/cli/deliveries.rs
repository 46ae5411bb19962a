//! `walhook deliveries`: what was not delivered, and having it sent again.

mod list;
mod show;

use clap::{Args, Subcommand};

use crate::event::{EventFilter, EventId};
use crate::journal::{Chosen, Point, Wish};

use super::journal::{JournalArgs, Opened};
use super::when::{self, When};
use super::{Failure, Globals};

/// What can be said after `walhook deliveries`.
#[derive(Args, Debug)]
pub struct DeliveriesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeliveriesCommand,
}

/// What can be done with deliveries.
#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// List deliveries that are dead, wait for a retry, or are blocked behind one that does
    List(list::ListArgs),
    /// Show an event, where it stands for each endpoint, and every attempt to deliver it
    Show(show::ShowArgs),
    /// Send dead deliveries again
    #[command(after_help = RETRY_HELP)]
    Retry(ChosenArgs),
    /// Forget dead deliveries
    #[command(after_help = when::HELP)]
    Discard(ChosenArgs),
    /// Send events of the journal to one endpoint once more
    #[command(after_help = REPLAY_HELP)]
    Replay(ReplayArgs),
}

const RETRY_HELP: &str = "They go at once, in the order of their records, and before what waits behind them; their \
                          retry schedule starts anew, and so does the count of webhook-attempt. Say which: by id, \
                          --endpoint, --events, --since, --until (all that is said must fit), or --all.\n\
                          Times mean when the change was committed: RFC 3339 (2025-02-10T15:30:00Z), without an \
                          offset in this machine's time zone (2025-02-10, 2025-02-10T15:30), or how long ago (90s, 2h, 3d).";

const REPLAY_HELP: &str = "The endpoint's place in the journal goes back: it gets those of the events that it wants, \
                           delivered or not, in order, before anything new. Each keeps its id, by which a receiver \
                           knows it, and has no webhook-sequence. What is still to be delivered comes with them, \
                           whatever --until and --events say, in its place and with its webhook-sequence.\n\
                           Example: walhook deliveries replay --endpoint crm --since 2025-02-10T15:30:00Z --until 1h\n\
                           Times mean when the change was committed: RFC 3339, without an offset in this machine's \
                           time zone (2025-02-10, 2025-02-10T15:30), or how long ago (90s, 2h, 3d).";

/// Which dead deliveries.
#[derive(Args, Debug)]
pub struct ChosenArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// Events, by id
    #[arg(value_name = "EVENT_ID")]
    pub ids: Vec<EventId>,

    /// Of this endpoint alone
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,

    /// Of events with such names, such as `person.*,*.deleted`
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = pattern)]
    pub events: Vec<String>,

    /// Of events committed then or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,

    /// Of events committed then or earlier
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,

    /// All of them
    #[arg(long)]
    pub all: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which events, to whom.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// To this endpoint
    #[arg(long, value_name = "NAME")]
    pub endpoint: String,

    /// From this time or this event on, or `earliest`: from the oldest event that is kept
    #[arg(long, value_name = "TIME|EVENT_ID|earliest", value_parser = point, required_unless_present = "stop")]
    pub since: Option<Point>,

    /// Up to this time or this event [default: all that the endpoint was given]
    #[arg(long, value_name = "TIME|EVENT_ID", value_parser = point)]
    pub until: Option<Point>,

    /// Those with such names alone, such as `person.*,*.deleted`
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = pattern)]
    pub events: Vec<String>,

    /// End the replay that is under way
    #[arg(long, conflicts_with_all = ["since", "until", "events"])]
    pub stop: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl DeliveriesArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        match self.command {
            DeliveriesCommand::List(args) => args.run(globals),
            DeliveriesCommand::Show(args) => args.run(globals),
            DeliveriesCommand::Retry(args) => {
                let json = args.json;
                let wish = |endpoint, chosen| Wish::Retry { endpoint, chosen };
                let (journal, wish) = args.wish(globals, "retry", wish)?;
                journal.order(&wish, json)
            }
            DeliveriesCommand::Discard(args) => {
                let json = args.json;
                let wish = |endpoint, chosen| Wish::Discard { endpoint, chosen };
                let (journal, wish) = args.wish(globals, "discard", wish)?;
                journal.order(&wish, json)
            }
            DeliveriesCommand::Replay(args) => args.run(globals),
        }
    }
}

impl ChosenArgs {
    fn wish(
        self,
        globals: &Globals,
        command: &str,
        make: impl FnOnce(Option<String>, Chosen) -> Wish,
    ) -> Result<(Opened, Wish), Failure> {
        let narrowed = !self.ids.is_empty()
            || self.endpoint.is_some()
            || !self.events.is_empty()
            || self.since.is_some()
            || self.until.is_some();
        if !narrowed && !self.all {
            return Err(Failure::usage(format_args!(
                "say which: `walhook deliveries {command} EVENT_ID…`, --endpoint, --events, \
                 --since, --until or --all"
            )));
        }
        let journal = self.journal.open(globals)?;
        if let Some(endpoint) = &self.endpoint {
            journal.check_endpoint(endpoint)?;
        }
        for &id in &self.ids {
            journal.check_event(id)?;
        }
        let chosen = Chosen {
            ids: self.ids,
            events: self.events,
            since_us: self.since.map(|since| since.0),
            until_us: self.until.map(|until| until.0),
        };
        Ok((journal, make(self.endpoint, chosen)))
    }
}

impl ReplayArgs {
    fn run(self, globals: &Globals) -> Result<(), Failure> {
        let journal = self.journal.open(globals)?;
        journal.check_endpoint(&self.endpoint)?;
        for point in [self.since, self.until].into_iter().flatten() {
            if let Point::Event(id) = point {
                journal.check_event(id)?;
            }
        }
        let endpoint = self.endpoint;
        let wish = match self.since {
            Some(since) if !self.stop => {
                Wish::Replay { endpoint, since, until: self.until, events: self.events }
            }
            _ => Wish::StopReplay { endpoint },
        };
        journal.order(&wish, self.json)
    }
}

/// A pattern of event names, as it is written.
fn pattern(text: &str) -> Result<String, String> {
    match EventFilter::new([text]) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn point(text: &str) -> Result<Point, String> {
    match text {
        "earliest" => Ok(Point::Earliest),
        id if id.starts_with("evt_") => {
            id.parse().map(Point::Event).map_err(|error| format!("is {error}"))
        }
        time => time.parse::<When>().map(|when| Point::Time(when.0)),
    }
}
