//! `walhook run`: the daemon.

use std::process;

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{Config, Flags};
use crate::daemon::{self, DaemonError, RunOptions, Stop};

use super::{Failure, Globals, StopSignals};

/// What can be said after `walhook run`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
                  walhook run --source postgres://walhook@localhost/crm --table people --to https://example.com/in\n\
                  The first Ctrl-C or SIGTERM finishes requests in flight, the second leaves at once.\n\
                  SIGHUP reads the tables of the configuration again.")]
pub struct RunArgs {
    /// Go on at the slot's position though the journal's doesn't fit any more (the slot moved or
    /// was created again, the server was restored from a backup), and lose the changes in between
    #[arg(long)]
    pub accept_gap: bool,

    /// Enable this endpoint again, as `walhook endpoints enable` does: it gets what it missed, as
    /// long as the journal keeps it; may be given several times
    #[arg(long, value_name = "NAME")]
    pub enable: Vec<String>,

    // Last: its heading would stand above what comes after it.
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,
}

impl RunArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let config = super::load_to_run(globals, &self.flags)?;
        let reload = || super::load_to_run(globals, &self.flags);
        let options =
            RunOptions { accept_gap: self.accept_gap, enable: self.enable.clone(), reload: None };
        daemon_runtime()?.block_on(run_until_signalled(config, options, reload))
    }
}

/// One core reads, decodes and journals; the others deliver. More workers than cores only switch.
fn daemon_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .thread_name("walhook")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))
}

async fn run_until_signalled(
    config: Config,
    mut options: RunOptions,
    load: impl Fn() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    let mut hangups = signal(SignalKind::hangup())
        .map_err(|error| Failure::failed(format_args!("cannot handle signals: {error}")))?;
    let (reload, reloaded) = watch::channel(None);
    options.reload = Some(reloaded);
    let stop = watch::Sender::new(Stop::Run);
    let daemon = daemon::run(config, options, stop.subscribe());
    tokio::pin!(daemon);
    loop {
        tokio::select! {
            ended = &mut daemon => return ended.map_err(failure),
            () = signals.next() => break,
            Some(()) = hangups.recv() => match load() {
                Ok(config) => {
                    info!("SIGHUP: the configuration is read again");
                    reload.send_replace(Some(Arc::new(config)));
                }
                Err(problem) => {
                    error!("SIGHUP: the configuration stays as it was: {problem}");
                }
            },
        }
    }
    stop.send_replace(Stop::Drain);
    tokio::select! {
        ended = daemon => ended.map_err(failure),
        () = signals.next() => {
            // The journal survives this as it survives a crash: what was in flight is sent again.
            warn!("stopping at once: requests in flight are broken off and sent again later");
            process::exit(1);
        }
    }
}

fn failure(error: DaemonError) -> Failure {
    if error.is_refusal() {
        Failure::refused(error)
    } else if error.is_configuration() {
        Failure::usage(error)
    } else {
        Failure::failed(error)
    }
}
