//! The command line: what can be asked for, and one file for each command.

pub mod check;
pub mod completions;
mod database;
pub mod deliveries;
pub mod demo;
pub mod endpoints;
mod failure;
mod input;
pub mod journal;
pub mod listen;
mod load;
pub mod logging;
mod report;
pub mod run;
pub mod secret;
pub mod setup;
pub mod sign;
pub mod status;
pub mod teardown;
pub mod verify;
pub mod when;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use failure::Failure;
pub(crate) use load::{load, load_to_run};

/// Turns any Postgres database into a webhook source.
#[derive(Debug, Parser)]
#[command(
    name = "walhook",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage or configuration error, 3 refused for safety."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Of every command")]
pub struct Globals {
    /// The configuration file [default: what the variable WALHOOK_CONFIG names, or walhook.toml in
    /// the current folder]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How the log on stderr is written: text, or json, which is one object a line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub log_format: LogFormat,

    /// Log more; twice for even more. The variable RUST_LOG, if set, decides instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the database and deliver its changes
    Run(run::RunArgs),
    /// Look for what would keep `run` from working, with a remedy for each finding
    Check(check::CheckArgs),
    /// Create the publication and the replication slot
    Setup(setup::SetupArgs),
    /// Drop the replication slot and the publication
    Teardown(teardown::TeardownArgs),
    /// Show positions, lag, retained WAL and the health of every endpoint
    Status(status::StatusArgs),
    /// Look at what was not delivered, and have it sent again
    Deliveries(deliveries::DeliveriesArgs),
    /// List endpoints, and switch them on and off
    Endpoints(endpoints::EndpointsArgs),
    /// Receive webhooks here: verify and print them
    Listen(listen::ListenArgs),
    /// Generate a signing secret
    Secret(secret::SecretArgs),
    /// Sign a body read from stdin and print the headers
    Sign(sign::SignArgs),
    /// Check the signature of a body read from stdin
    Verify(verify::VerifyArgs),
    /// Show it all at work on a throwaway Postgres with live traffic
    Demo(demo::DemoArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
}

/// Parses `arguments` (the first is the program's name), does what they say, reports a failure on
/// stderr, and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, everything else to stderr with 2. Nothing is
            // left to do when even that cannot be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                let _ = writeln!(io::stderr(), "error: {message}");
            }
            ExitCode::from(&failure)
        }
    }
}

impl Cli {
    /// Does what the command says.
    pub fn run(self) -> Result<(), Failure> {
        let Cli { globals, command } = self;
        // The demo's own lines stand on the same terminal.
        let quiet = matches!(command, Command::Demo(_));
        logging::start(&globals, quiet)?;
        match command {
            Command::Run(args) => args.run(&globals),
            Command::Check(args) => args.run(&globals),
            Command::Setup(args) => args.run(&globals),
            Command::Teardown(args) => args.run(&globals),
            Command::Status(args) => args.run(&globals),
            Command::Deliveries(args) => args.run(&globals),
            Command::Endpoints(args) => args.run(&globals),
            Command::Listen(args) => args.run(),
            Command::Secret(args) => args.run(),
            Command::Sign(args) => args.run(),
            Command::Verify(args) => args.run(),
            Command::Demo(args) => args.run(&globals),
            Command::Completions(args) => args.run(&mut Cli::command()),
        }
    }
}

/// Runs a command's future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?
        .block_on(future)
}

/// Ctrl-C and SIGTERM. Create it once and early: what arrives between two calls of
/// [`next`](StopSignals::next) is not lost, so the second signal can break off what the first one
/// began to end.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over; from here on they no longer end the process by themselves.
    pub(crate) fn new() -> Result<StopSignals, Failure> {
        let take = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(format_args!("cannot handle signals: {error}")))
        };
        Ok(StopSignals {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Writes a command's result to stdout. A reader that closed the pipe has seen enough: that is no
/// failure.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format_args!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether to colour what goes to `stream`: it is a terminal that can, and <https://no-color.org>
/// does not object.
pub(crate) fn colour(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }
}
