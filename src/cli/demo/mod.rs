//! `walhook demo`: a throwaway Postgres with a CRM's live traffic, a receiver that verifies
//! signatures, and the daemon between them, all in this process. In the end the traffic's own tally
//! of what was committed is laid beside what the receiver got.

mod actions;
mod compare;
mod envelope;
mod known;
mod ledger;
mod paint;
mod printer;
mod session;
mod stage;
mod summary;
mod tally;
mod traffic;
mod words;

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use clap::Args;

use self::paint::{Color, Style};
use self::printer::Printer;
use self::stage::Stage;
use self::summary::Summary;
use self::traffic::Traffic;
use super::{Failure, Globals, StopSignals};

/// After the traffic stopped, how long nothing new may arrive before what is missing counts as
/// lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What can be said after `walhook demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// End by itself after this long, with the summary [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = super::input::duration)]
    pub duration: Option<Duration>,

    /// About how many rows are changed per second; 0 for as many as possible
    #[arg(long, value_name = "CHANGES", default_value_t = 12)]
    pub rate: u32,

    /// How many connections change them
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub writers: u16,

    /// Print nothing but the summary, as one JSON object
    #[arg(long)]
    pub json: bool,

    /// No colours, even on a terminal
    #[arg(long)]
    pub no_color: bool,
}

impl DemoArgs {
    /// Does it.
    pub(crate) fn run(self, _globals: &Globals) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?;
        let result = runtime.block_on(self.play());
        // Nothing that is still running there may hold up the way out.
        runtime.shutdown_timeout(Duration::from_secs(5));
        result
    }

    async fn play(self) -> Result<(), Failure> {
        let mut signals = StopSignals::new()?;
        let style = Style {
            color: !self.json && !self.no_color && super::colour(&io::stdout()),
            width: paint::terminal_width(),
        };
        let printer = Printer::start(style, self.json);
        let mut stage = tokio::select! {
            stage = Stage::set(&printer) => stage?,
            () = signals.next() => return Err(Failure::failed("stopped before it began")),
        };
        let played = self.act(&mut stage, &printer, &mut signals).await;
        // Whatever happened, the database goes away.
        let (summary, ended) = match played {
            Ok(mut summary) => {
                let ended = stage.drain().await;
                summary.finish(&mut stage).await?;
                (Some(summary), ended)
            }
            Err(failure) => {
                stage.strike().await;
                return Err(failure);
            }
        };
        stage.strike().await;
        printer.finish().await;
        ended?;
        match summary {
            Some(summary) => summary.report(style, self.json),
            None => Ok(()),
        }
    }

    /// Lets the traffic run until it is time, and waits until all of it arrived.
    async fn act(
        &self,
        stage: &mut Stage,
        printer: &Printer,
        signals: &mut StopSignals,
    ) -> Result<Summary, Failure> {
        let url = stage.database_url();
        let mut traffic = Traffic::start(&url, usize::from(self.writers), self.rate)
            .await
            .map_err(|error| Failure::failed(chain(&error)))?;
        printer.say(&match self.duration {
            Some(duration) => {
                format!("Traffic for {duration:?}. Every line is a webhook, verified:")
            }
            None => "Traffic until Ctrl-C. Every line is a webhook, verified:".to_owned(),
        });
        tokio::select! {
            () = until(self.duration) => {}
            () = signals.next() => {}
            failure = stage.daemon_ended() => return Err(failure),
            error = traffic.failed() => return Err(Failure::failed(chain(&error))),
        }
        let tally = traffic.stop().await.map_err(|error| Failure::failed(chain(&error)))?;
        printer.say("Traffic stopped; waiting for what is still on its way.");
        tokio::select! {
            arrived = stage.all_arrived(&tally.committed, PATIENCE) => arrived?,
            () = signals.next() => printer.say("Not waiting any longer."),
        }
        Ok(Summary::new(tally))
    }
}

/// Waits so long, or for ever.
async fn until(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// An error with its causes, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// `text` in bold.
fn bold(style: Style, text: &str) -> String {
    style.paint(Color::Bold, text)
}
