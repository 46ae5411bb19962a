//! The daemon: wires the rooms together, owns their tasks, and stops in two phases.
//!
//! Capture runs on a thread of its own, since it reads a socket without a pause. The journal has
//! its writer thread. Dispatchers are tasks of the runtime. Stopping turns the intake off first
//! (capture, and new attempts), then lets what is in flight finish, and last closes the journal.

mod capture;
mod dispatchers;
mod error;
mod lag;
mod orders;
mod prepare;
mod reload;
mod sink;
mod tables;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch as channel};
use tracing::{info, warn};

pub use crate::delivery::Stop;
pub use error::DaemonError;
pub use orders::carry_out_orders;
pub use watch::Reload;

use crate::capture::CaptureError;
use crate::config::{Config, JournalConfig};
use crate::delivery::{EndpointOptions, Hosts};
use crate::journal::{Journal, JournalError, JournalOptions, JournalWriter};

use capture::{RunningCapture, start_capture};
use dispatchers::Dispatchers;
use lag::LagWatch;
use reload::Fixed;
use tables::Tables;
use watch::Watcher;

/// How often it is looked whether the journal can still be written at all.
const WRITER_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// How long another process may have the journal locked at the start.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_ASKED_EVERY: Duration = Duration::from_millis(50);

/// What is decided at the start of one run and not in the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Go on at the slot's position where the journal's doesn't fit, and lose what lies between.
    pub accept_gap: bool,
    /// Endpoints, by name, to be enabled again that answered 410 or were disabled otherwise.
    pub enable: Vec<String>,
    /// New configurations, whose tables are taken over while the daemon runs.
    pub reload: Option<Reload>,
}

/// Runs until `stop` says otherwise, or until something happens that only a person can mend.
///
/// `Stop::Drain` ends capture, lets requests in flight finish (for `stop_grace` at most), makes
/// the checkpoint durable and tells the server; `Stop::Now` does not wait for requests.
///
/// # Errors
/// See [`DaemonError`]; what is in flight is finished before it is returned.
pub async fn run(
    config: Config,
    options: RunOptions,
    stop: channel::Receiver<Stop>,
) -> Result<(), DaemonError> {
    let (journal, writer) = open(&config.journal).await?;
    // At once, for retention may be at work already.
    let filters = config.endpoints.iter().map(|e| (e.name.clone(), e.filter.clone()));
    journal.set_filters(filters.collect());
    journal.want_reports(config.endpoints.iter().any(|e| e.filter.wants_reports()));
    if config.source.create && journal.checkpoint().is_none() {
        let mut stopped = stop.clone();
        tokio::select! {
            prepared = prepare::source(&config.source, &config.tables) => prepared?,
            _ = stopped.wait_for(|stop| *stop != Stop::Run) => return Ok(writer.stop()?),
        }
    }
    let grace = config.daemon.stop_grace;
    info!(
        tables = config.tables.len(),
        endpoints = config.endpoints.len(),
        journal = %config.journal.path.display(),
        "walhook {}",
        env!("CARGO_PKG_VERSION")
    );
    let (fixed, tables) = (Fixed::of(&config), Arc::new(Tables::new(config.tables)));
    enable(&options.enable, &config.endpoints, &journal).await?;
    let names: Vec<String> = config.endpoints.iter().map(|one| one.name.clone()).collect();
    carry_out_orders(&journal, &names).await?;
    for name in Journal::open_read_only(journal.path())?.endpoint_names()? {
        if !names.contains(&name) {
            warn!(
                endpoint = name,
                "an endpoint of the journal is not in the configuration: events wait for it, as \
                 long as the journal keeps them; `walhook endpoints forget {name}` lets go of it"
            );
        }
    }
    let hosts = Hosts::new(config.breaker);
    let dispatchers = Dispatchers::start(config.endpoints, &journal, &hosts).await?;
    let capture = start_capture(&config.source, &tables, options.accept_gap, &journal).await?;
    let progress = Arc::clone(&capture.progress);
    let lag = LagWatch::new(&config.source, journal.clone());
    let watcher = Watcher::new(config.source, tables, fixed, progress);
    let watcher = tokio::spawn(watcher.run(options.reload, lag));
    let orders = tokio::spawn(orders::run(journal.clone(), dispatchers.handles()));
    let ended = Running { journal, capture, dispatchers, writer, grace }.until_stopped(stop).await;
    watcher.abort();
    orders.abort();
    ended
}

/// Opens the journal. A command that carries out an order has it locked for a moment.
async fn open(config: &JournalConfig) -> Result<(Journal, JournalWriter), JournalError> {
    let begun = Instant::now();
    loop {
        let opened = Journal::open(JournalOptions {
            retain: config.retain,
            max_size_bytes: config.max_size_bytes,
            ..JournalOptions::new(&config.path)
        });
        match opened {
            Err(error) if error.is_locked() && begun.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(LOCK_ASKED_EVERY).await;
            }
            opened => return opened,
        }
    }
}

/// Everything that has to be stopped in order.
struct Running {
    journal: Journal,
    capture: RunningCapture,
    dispatchers: Dispatchers,
    writer: JournalWriter,
    grace: Duration,
}

impl Running {
    /// Waits for the first of:
    /// 1. the order to stop;
    /// 2. the end of capture, which is always an error here;
    /// 3. the end of a dispatcher with an error;
    /// 4. the end of the journal's writer, which nobody else notices while nothing happens.
    ///
    /// Then stops everything in order.
    async fn until_stopped(mut self, mut stop: channel::Receiver<Stop>) -> Result<(), DaemonError> {
        let mut captured = None;
        let ended = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop != Stop::Run) => Ok(()),
            result = &mut self.capture.result => {
                let result = flatten(result);
                captured = Some(());
                result
            }
            error = self.dispatchers.failed() => Err(error),
            () = finished(&self.writer) => Ok(()),
        };
        if ended.is_ok() && !self.writer.is_finished() {
            info!("stopping: no new work is taken, requests in flight may finish");
        }
        self.capture.progress.stop();
        self.dispatchers.stop(Stop::Drain);
        let now = async { stop.wait_for(|stop| *stop == Stop::Now).await.map(|_| ()) };
        let drained = tokio::select! {
            biased;
            Ok(()) = now => false,
            () = tokio::time::sleep(self.grace) => {
                warn!(
                    "requests were still in flight after {:?}; their events are sent again at the \
                     next start",
                    self.grace
                );
                false
            }
            () = self.dispatchers.drained() => true,
        };
        if !drained {
            self.dispatchers.stop(Stop::Now);
            self.dispatchers.drained().await;
        }
        let captured = match captured {
            Some(()) => Ok(()),
            None => flatten(self.capture.result.await),
        };
        let closed = self.writer.stop().map_err(DaemonError::from);
        let result = ended.and(captured).and(closed);
        if result.is_ok() {
            info!(durable_lsn = %self.journal.durable_lsn(), "stopped: all that was taken is safe");
        }
        result
    }
}

/// Waits until the journal's writer has given up.
async fn finished(writer: &JournalWriter) {
    while !writer.is_finished() {
        tokio::time::sleep(WRITER_LOOKED_AT_EVERY).await;
    }
}

fn flatten(
    result: Result<Result<(), CaptureError>, oneshot::error::RecvError>,
) -> Result<(), DaemonError> {
    match result {
        Ok(result) => Ok(result?),
        Err(_) => Err(DaemonError::internal("the capture thread ended without a word")),
    }
}

/// Enables endpoints that an earlier run disabled.
async fn enable(
    names: &[String],
    endpoints: &[EndpointOptions],
    journal: &Journal,
) -> Result<(), DaemonError> {
    for name in names {
        let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.name == *name) else {
            let known = endpoints.iter().map(|endpoint| endpoint.name.as_str());
            return Err(DaemonError::no_such_endpoint(name, known));
        };
        let state = journal.register_endpoint(name, endpoint.start).await?;
        if state.disabled.is_some() {
            journal.set_disabled(state.endpoint, None).await?;
            info!(endpoint = name, "the endpoint is enabled again");
        }
    }
    Ok(())
}
