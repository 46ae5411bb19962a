//! The journal a command reads, and the orders it gives by way of it.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{Failure, Globals};
use crate::clock::utc;
use crate::config::{Outline, nearest};
use crate::daemon::carry_out_orders;
use crate::event::EventId;
use crate::journal::{
    EventEntry, Journal, JournalError, JournalOptions, JournalReader, OrderResult, Wish, give_order,
};

/// How long a command waits for the daemon: requests in flight end first.
const PATIENCE: Duration = Duration::from_secs(30);
/// From when on it says that it waits.
const QUIET: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Which journal.
#[derive(Args, Debug)]
pub struct JournalArgs {
    /// The journal's file [default: the one the configuration names]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

/// A journal opened for looking, and what the configuration says of it.
pub(super) struct Opened {
    pub(super) reader: JournalReader,
    path: PathBuf,
    /// The endpoints of the configuration, where there is one that can be read.
    pub(super) configured: Option<Vec<String>>,
}

impl JournalArgs {
    /// Opens it. Neither the database nor the secrets of the configuration are needed.
    pub(super) fn open(&self, globals: &Globals) -> Result<Opened, Failure> {
        let outline = match (&self.journal, super::load::named_file(globals)) {
            // The journal is told: what the configuration says more is welcome, and no need.
            (Some(journal), file) => {
                let configured = file.and_then(|file| Outline::load(&file).ok());
                let endpoints = configured
                    .filter(|outline| same_file(&outline.journal, journal))
                    .and_then(|outline| outline.endpoints);
                Outline { journal: journal.clone(), endpoints }
            }
            (None, Some(file)) => Outline::load(&file)?,
            (None, None) => Outline::without_file(),
        };
        let reader = Journal::open_read_only(&outline.journal).map_err(failure)?;
        Ok(Opened { reader, path: outline.journal, configured: outline.endpoints })
    }
}

fn same_file(a: &std::path::Path, b: &std::path::Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn failure(error: JournalError) -> Failure {
    if error.is_missing() { Failure::usage(error) } else { Failure::failed(error) }
}

impl Opened {
    /// Fails unless the journal knows the endpoint.
    pub(super) fn check_endpoint(&self, name: &str) -> Result<(), Failure> {
        let status = self.reader.status().map_err(failure)?;
        let known: Vec<&str> = status.endpoints.iter().map(|known| known.name.as_str()).collect();
        if known.contains(&name) {
            return Ok(());
        }
        if self.configured.iter().flatten().any(|configured| configured == name) {
            return Err(Failure::usage(format_args!(
                "the journal has not seen the endpoint {name:?} yet: it will when `walhook run` \
                 starts with it"
            )));
        }
        Err(Failure::usage(match nearest(name, known.iter().copied()) {
            Some(near) => format!("no endpoint is called {name:?}: did you mean {near:?}?"),
            None if known.is_empty() => {
                format!("no endpoint is called {name:?}: the journal has seen none yet")
            }
            None => format!("no endpoint is called {name:?}: there is {}", known.join(", ")),
        }))
    }

    /// The event of this id; a failure where the journal does not hold it.
    pub(super) fn event(&self, id: EventId) -> Result<EventEntry, Failure> {
        match self.reader.event(id).map_err(failure)? {
            Some(event) => Ok(event),
            None => Err(self.unknown_event(id)?),
        }
    }

    /// Fails unless the journal holds the event.
    pub(super) fn check_event(&self, id: EventId) -> Result<(), Failure> {
        match self.reader.holds(id).map_err(failure)? {
            true => Ok(()),
            false => Err(self.unknown_event(id)?),
        }
    }

    fn unknown_event(&self, id: EventId) -> Result<Failure, Failure> {
        let kept = match self.reader.oldest().map_err(failure)? {
            Some((oldest, at_us)) => {
                format!("the oldest event still kept is {oldest} of {}", utc(at_us / 1_000))
            }
            None => "it keeps none".to_owned(),
        };
        Ok(Failure::usage(format_args!("the journal does not hold the event {id}: {kept}")))
    }

    /// Gives an order, waits until it is carried out, and prints what came of it. Where no daemon
    /// runs, it is carried out here.
    pub(super) fn order(&self, wish: &Wish, as_json: bool) -> Result<(), Failure> {
        let order = give_order(&self.path, wish).map_err(failure)?;
        let begun = Instant::now();
        let (mut here, mut said) = (false, false);
        let result = loop {
            if let Some(result) = self.reader.order(order).map_err(failure)? {
                break result;
            }
            here |= self.carry_out()?;
            if begun.elapsed() >= PATIENCE {
                return Err(Failure::failed(format_args!(
                    "the daemon has not carried out order {order} within {PATIENCE:?}: it lets \
                     requests on their way end first; the order stands, and its log will tell"
                )));
            }
            if !said && !here && begun.elapsed() >= QUIET {
                said = true;
                // Nothing is left to do when even stderr is gone.
                let _ = writeln!(
                    std::io::stderr(),
                    "waiting for the daemon, which lets requests on their way end first …"
                );
            }
            if !here {
                std::thread::sleep(ASK_EVERY);
            }
        };
        self.report(order, result, here, as_json)
    }

    fn report(
        &self,
        order: i64,
        result: OrderResult,
        here: bool,
        as_json: bool,
    ) -> Result<(), Failure> {
        let OrderResult { sentence, failed } = result;
        if as_json {
            let value = json!({
                "order": order,
                "failed": failed,
                "result": sentence,
                "daemon": !here,
            });
            super::print(format_args!("{value:#}\n"))?;
            return if failed { Err(Failure::reported()) } else { Ok(()) };
        }
        if failed {
            return Err(Failure::failed(sentence));
        }
        let when = match here {
            true => " (no daemon runs; nothing is sent before `walhook run`)",
            false => "",
        };
        super::print(format_args!("{sentence}{when}\n"))
    }

    /// Carries out whatever was ordered, if no daemon has the journal; whether it did.
    fn carry_out(&self) -> Result<bool, Failure> {
        let options = JournalOptions {
            // What is too old is the daemon's to say.
            retain: Duration::MAX,
            max_size_bytes: u64::MAX,
            ..JournalOptions::new(&self.path)
        };
        let (journal, writer) = match Journal::open(options) {
            Ok(opened) => opened,
            Err(error) if error.is_locked() => return Ok(false),
            Err(error) => return Err(failure(error)),
        };
        let configured = self.configured.as_deref().unwrap_or_default();
        // What came of it is printed: the daemon's line in the log would say it twice.
        let silence = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(silence, || {
            super::block_on(async { carry_out_orders(&journal, configured).await.map_err(failure) })
        })?;
        writer.stop().map_err(failure)?;
        Ok(true)
    }
}
