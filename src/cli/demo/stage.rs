//! What the demo plays on: the throwaway database, the receiver and the daemon.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ledger::{Arrival, Entry, Ledger};
use super::printer::{EventPrinter, Printer};
use super::session::Session;
use super::tally::Counts;
use super::{bold, chain};
use crate::cli::Failure;
use crate::clock::time_of_day;
use crate::config::{Config, Needs};
use crate::daemon::{self, RunOptions, Stop};
use crate::delivery::signature::{Scheme, generate_secret};
use crate::receiver::{
    Answers, Checks, Received, Receiver, ReceiverOptions, SignatureChecker, Verdict,
};
use crate::throwaway::{Cluster, Options};

const SCHEMA: &str = include_str!("../../../sql/demo.sql");
const DATABASE: &str = "crm";
const SLOT: &str = "walhook_demo";
/// Tables and what their records are called in events.
pub(super) const TABLES: [(&str, &str); 5] = [
    ("people", "person"),
    ("companies", "company"),
    ("opportunities", "opportunity"),
    ("notes", "note"),
    ("tasks", "task"),
];
/// How long the daemon may take until it streams.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that runs. [`strike`](Stage::strike) takes it down in order; dropping it still ends
/// and removes the database.
pub(super) struct Stage {
    daemon: Daemon,
    receiver: ReceiverTask,
    ledger: Arc<Mutex<Ledger>>,
    delivered: watch::Receiver<Counts>,
    cluster: Cluster,
}

/// The receiver; no task once it ended.
struct ReceiverTask {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl ReceiverTask {
    async fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

/// The daemon; no task once it ended.
struct Daemon {
    stop: watch::Sender<Stop>,
    task: Option<JoinHandle<Result<(), Failure>>>,
}

impl Daemon {
    /// Waits until it ends by itself, which it should not.
    async fn ended(&mut self) -> Failure {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Ok(())) => Failure::failed("walhook stopped by itself, without saying why"),
            Ok(Err(failure)) => failure,
            Err(error) => Failure::failed(chain(&error)),
        }
    }

    /// Tells it to stop, and how, and waits until it did.
    async fn stop(&mut self, how: Stop) -> Result<(), Failure> {
        self.stop.send_replace(how);
        let Some(task) = self.task.take() else { return Ok(()) };
        match tokio::time::timeout(STOP_TIMEOUT, task).await {
            Ok(ended) => ended.unwrap_or_else(|error| Err(Failure::failed(chain(&error)))),
            Err(_) => Err(Failure::failed(format_args!(
                "walhook did not stop within {} s after it was told to",
                STOP_TIMEOUT.as_secs()
            ))),
        }
    }
}

impl Stage {
    /// Starts everything, and returns when the daemon streams changes.
    pub(super) async fn set(printer: &Printer) -> Result<Stage, Failure> {
        let style = printer.events().style;
        let began = Instant::now();
        printer.say("Starting a throwaway Postgres in a temporary folder …");
        let cluster = start_cluster().await?;
        printer.say(&format!(
            "{} {} on port {} with a CRM of {} tables, ready after {:.1} s",
            bold(style, "Postgres"),
            cluster.binaries().version(),
            cluster.port(),
            TABLES.len(),
            began.elapsed().as_secs_f64(),
        ));

        let secret = generate_secret(Scheme::Standard);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (progress, delivered) = watch::channel(Counts::default());
        let (receiver, endpoint) =
            start_receiver(&secret, ledger.clone(), progress, printer.events()).await?;
        printer
            .say(&format!("{} at {endpoint}, which verifies signatures", bold(style, "Receiver")));

        // Beside the server's data, so that it goes away with it, whatever happens to this process.
        let folder = cluster.socket_dir();
        let config = configuration(folder, &cluster.url(DATABASE), &endpoint, &secret)?;
        let daemon = start_daemon(config);
        let mut stage = Stage { daemon, receiver, ledger, delivered, cluster };
        let url = stage.database_url();
        let streams = tokio::select! {
            streams = streaming(&url) => streams,
            failure = stage.daemon.ended() => Err(failure),
        };
        if let Err(failure) = streams {
            stage.strike().await;
            return Err(failure);
        }
        printer.say(&format!("{} streams from slot {SLOT}\n", bold(style, "walhook")));
        Ok(stage)
    }

    /// The connection string of the CRM.
    pub(super) fn database_url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Waits until the daemon ends by itself, which it should not.
    pub(super) async fn daemon_ended(&mut self) -> Failure {
        self.daemon.ended().await
    }

    /// Waits until as much arrived as was committed, or nothing new did for `patience`, or the
    /// daemon ended by itself, which is a failure.
    pub(super) async fn all_arrived(
        &mut self,
        committed: &Counts,
        patience: Duration,
    ) -> Result<(), Failure> {
        while !self.delivered.borrow_and_update().covers(committed) {
            tokio::select! {
                changed = tokio::time::timeout(patience, self.delivered.changed()) => match changed {
                    Ok(Ok(())) => {}
                    _ => break,
                },
                failure = self.daemon.ended() => return Err(failure),
            }
        }
        Ok(())
    }

    /// Stops the daemon as Ctrl-C would, then the receiver.
    pub(super) async fn drain(&mut self) -> Result<(), Failure> {
        let ended = self.daemon.stop(Stop::Drain).await;
        self.receiver.stop().await;
        ended
    }

    /// Takes everything down and removes it.
    pub(super) async fn strike(mut self) {
        // It is being thrown away: how it ended no longer matters.
        let _ = self.daemon.stop(Stop::Now).await;
        self.receiver.stop().await;
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server with the CRM in it. It keeps the promises of a real one: commits wait for the disk.
async fn start_cluster() -> Result<Cluster, Failure> {
    let cluster =
        tokio::task::spawn_blocking(|| Cluster::start(&Options::new().own_identity().fsync(true)))
            .await
            .map_err(|error| Failure::failed(chain(&error)))?
            .map_err(|error| Failure::failed(chain(&error)))?;
    let failed =
        |error| Failure::failed(format_args!("cannot load the demo's tables: {}", chain(&error)));
    let session = Session::connect(&cluster.url("postgres")).await.map_err(failed)?;
    session.client().batch_execute(&format!("create database {DATABASE}")).await.map_err(failed)?;
    let session = Session::connect(&cluster.url(DATABASE)).await.map_err(failed)?;
    session.client().batch_execute(SCHEMA).await.map_err(failed)?;
    Ok(cluster)
}

/// Waits until the slot has a reader: from then on nothing that is committed can be missed.
async fn streaming(url: &str) -> Result<(), Failure> {
    let failed =
        |error| Failure::failed(format_args!("cannot watch the demo's slot: {}", chain(&error)));
    let session = Session::connect(url).await.map_err(failed)?;
    let deadline = Instant::now() + START_TIMEOUT;
    // While it is being created a slot is active, too, but has no position yet.
    let sql = "select 1 from pg_replication_slots
               where slot_name = $1 and active and confirmed_flush_lsn is not null";
    while session.client().query_opt(sql, &[&SLOT]).await.map_err(failed)?.is_none() {
        if Instant::now() > deadline {
            return Err(Failure::failed(format_args!(
                "walhook did not begin to stream within {} s: run it again with -v to see why",
                START_TIMEOUT.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn start_receiver(
    secret: &SecretString,
    ledger: Arc<Mutex<Ledger>>,
    progress: watch::Sender<Counts>,
    printer: EventPrinter,
) -> Result<(ReceiverTask, String), Failure> {
    let checker = SignatureChecker::new(std::slice::from_ref(secret), &Checks::default())
        .map_err(Failure::failed)?;
    let receiver = Receiver::bind(ReceiverOptions {
        bind: ([127, 0, 0, 1], 0).into(),
        checker,
        max_body_bytes: 64 << 20,
        answers: Answers::default(),
        forward_to: None,
    })
    .await
    .map_err(Failure::failed)?;
    let endpoint = format!("http://{}/webhooks", receiver.address());
    let (stop, mut stopped) = watch::channel(false);
    let stopped = async move {
        let _ = stopped.wait_for(|&stop| stop).await;
    };
    let show = move |received: &Received| show(received, &ledger, &progress, &printer);
    let task = tokio::spawn(receiver.run(stopped, show));
    Ok((ReceiverTask { stop, task: Some(task) }, endpoint))
}

/// Books a request, and prints it if it is news.
fn show(
    received: &Received,
    ledger: &Mutex<Ledger>,
    progress: &watch::Sender<Counts>,
    printer: &EventPrinter,
) {
    let now = jiff::Timestamp::now();
    let arrival = Arrival {
        body: &received.body,
        verified: matches!(received.verdict, Verdict::Genuine(_)),
        answered_at_us: now.as_microsecond(),
    };
    let (entry, delivered) = {
        let mut ledger = lock(ledger);
        (ledger.book(&arrival), ledger.delivered())
    };
    match entry {
        Entry::New { event, latency_us } => {
            printer.print(|style| style.event(&event, latency_us, &time_of_day(now.into())));
            progress.send_replace(delivered);
        }
        Entry::Repeat => {
            printer.print(|_| "             a repeat of an event that came before".to_owned())
        }
        Entry::Forged => printer.print(|_| format!("             REFUSED: {:?}", received.verdict)),
        Entry::Unreadable => {
            printer.print(|_| "             REFUSED: signed, but no event".to_owned())
        }
    }
}

/// The configuration as a user would write it.
fn configuration(
    folder: &Path,
    source: &str,
    endpoint: &str,
    secret: &SecretString,
) -> Result<Config, Failure> {
    let mut text = format!(
        "[source]\nurl = '{source}'\nslot = '{SLOT}'\npublication = '{SLOT}'\ncreate = true\n\n\
         [[endpoint]]\nname = 'receiver'\nurl = '{endpoint}'\nsecret = '{}'\n\n\
         [journal]\npath = 'walhook.db'\n",
        secret.expose_secret()
    );
    for (table, record) in TABLES {
        text.push_str(&format!("\n[[table]]\nname = 'public.{table}'\nrecord = '{record}'\n"));
    }
    let path = folder.join("walhook.toml");
    Ok(Config::parse(&path, &text, Needs::Everything, &|_| None)?)
}

/// Starts the daemon in this process.
fn start_daemon(config: Config) -> Daemon {
    let (stop, stopped) = watch::channel(Stop::Run);
    let task = tokio::spawn(async move {
        daemon::run(config, RunOptions::default(), stopped)
            .await
            .map_err(|error| Failure::failed(chain(&error)))
    });
    Daemon { stop, task: Some(task) }
}
