//! What is measured, in the order of the table.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};
use walhook::journal::Journal;
use walhook::throwaway::{Cluster, Options};

use crate::bare_client;
use crate::daemon::Daemon;
use crate::load;
use crate::machine::Machine;
use crate::receiver::{Manner, Receiver};
use crate::report::Report;

mod backlog;
mod batches;
mod crowd;
mod end_to_end;
mod fanout;
mod fill;
mod growth;
mod journal;
mod latency;
mod memory;
mod neighbours;
mod outbox;

/// What `WALHOOK_BENCH_ONLY` may name.
pub(crate) const NAMES: &[&str] = &[
    "journal",
    "end-to-end",
    "batches",
    "large",
    "latency",
    "memory",
    "crowd",
    "growth",
    "stall",
    "neighbours",
    "fanout",
    "backlog",
    "outbox",
];

const PATIENCE: Duration = Duration::from_secs(300);
const IN_FLIGHT: usize = 32;
/// Where every connection is refused.
const NOBODY: &str = "http://127.0.0.1:9/";

type Outcome = Result<(), Box<dyn Error>>;

pub(crate) async fn run(rows: usize, runs: usize) -> Result<Report, Box<dyn Error>> {
    let only = std::env::var("WALHOOK_BENCH_ONLY").ok();
    let only: Option<Vec<&str>> = only.as_deref().map(|list| list.split(',').collect());
    if let Some(unknown) = only.iter().flatten().find(|name| !NAMES.contains(name)) {
        let names = NAMES.join(", ");
        return Err(format!("there is no scenario {unknown:?}: the names are {names}").into());
    }
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.contains(&name));
    let mut bench = Bench::start(rows).await?;
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        if wanted("journal") {
            bench.slot_to_journal(run).await?;
        }
        if wanted("end-to-end") {
            bench.end_to_end().await?;
        }
        if wanted("batches") {
            bench.batches(run).await?;
        }
    }
    for name in NAMES.iter().filter(|name| wanted(name)) {
        eprintln!("{name}: at {:.0?}", bench.started.elapsed());
        match *name {
            "batches" => bench.batches_of_one_transaction(runs).await?,
            "large" => bench.large_transaction(runs).await?,
            "latency" => bench.latencies(runs).await?,
            "memory" => bench.idle_memory(runs).await?,
            "crowd" => {
                for _ in 0..runs {
                    bench.crowd().await?;
                }
            }
            "growth" => bench.growth(runs).await?,
            "stall" => bench.stall(runs).await?,
            "neighbours" => bench.neighbours(runs).await?,
            "fanout" => {
                for _ in 0..runs {
                    bench.fanout().await?;
                }
            }
            "backlog" => bench.backlog(runs).await?,
            "outbox" => bench.outbox(runs).await?,
            // Measured above, by turns.
            _ => {}
        }
    }
    eprintln!("all of it took {:.0?}", bench.started.elapsed());
    Ok(bench.report)
}

/// An endpoint of the daemon.
struct Target<'a> {
    name: &'a str,
    url: &'a str,
    /// Which events it gets; a pattern that matches nothing leaves the journal alone.
    events: &'a str,
    /// Which event is its first, when the daemon first sees it.
    start: &'a str,
    /// More lines of its section.
    more: &'a str,
    /// Requests on their way at once.
    in_flight: usize,
}

impl<'a> Target<'a> {
    fn new(url: &'a str, events: &'a str) -> Target<'a> {
        Target { name: "bench", url, events, start: "earliest", more: "", in_flight: IN_FLIGHT }
    }
}

struct Bench {
    // Dropped, it stops and removes itself.
    cluster: Cluster,
    client: Client,
    folder: tempfile::TempDir,
    rows: usize,
    /// Runs started so far: names of slots and files.
    counter: usize,
    started: Instant,
    report: Report,
}

impl Bench {
    async fn start(rows: usize) -> Result<Bench, Box<dyn Error>> {
        let cluster = Cluster::start(&Options::new())?;
        let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls).await?;
        tokio::spawn(connection);
        load::create(&client).await?;
        let folder = tempfile::tempdir()?;
        let report = Report::new(Machine::look(cluster.binaries().dir()));
        let started = Instant::now();
        Ok(Bench { cluster, client, folder, rows, counter: 0, started, report })
    }

    fn next_slot(&mut self) -> String {
        self.counter += 1;
        format!("bench_{}", self.counter)
    }

    /// A new slot, which holds what is written from now on.
    async fn new_slot(&mut self) -> Result<String, Box<dyn Error>> {
        let slot = self.next_slot();
        load::create_slot(&self.client, &slot).await?;
        Ok(slot)
    }

    fn config(&self, slot: &str, targets: &[Target<'_>]) -> Result<PathBuf, Box<dyn Error>> {
        self.config_with(slot, targets, "")
    }

    /// Writes the configuration, with these lines more of the journal's section.
    fn config_with(
        &self,
        slot: &str,
        targets: &[Target<'_>],
        journal: &str,
    ) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.folder.path().join(format!("{slot}.toml"));
        let mut text = format!(
            r#"
[source]
url = "{source}"
slot = "{slot}"
publication = "{publication}"

[[table]]
name = "public.people"
record = "person"

[journal]
path = "{path}"
{journal}
"#,
            source = self.cluster.url("postgres"),
            publication = load::PUBLICATION,
            path = self.journal(slot).display(),
        );
        for Target { name, url, events, start, more, in_flight } in targets {
            text.push_str(&format!(
                r#"
[[endpoint]]
name = "{name}"
url = "{url}"
events = ["{events}"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
concurrency = {in_flight}
start = "{start}"
{more}
"#
            ));
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    fn journal(&self, slot: &str) -> PathBuf {
        self.folder.path().join(format!("{slot}.db"))
    }

    /// Drops the slot and the journal that belongs to it.
    async fn forget(&self, slot: &str) -> Outcome {
        load::drop_slot(&self.client, slot).await?;
        for end in ["db", "db-wal", "db-shm"] {
            // Not all of them need be there.
            let _ = fs::remove_file(self.folder.path().join(format!("{slot}.{end}")));
        }
        Ok(())
    }

    /// The limit: Postgres's own client, writing nowhere. It asks for what the daemon asks for.
    fn pg_recvlogical(&self, slot: &str, end: &str) -> Result<Duration, Box<dyn Error>> {
        let started = Instant::now();
        let status = Command::new(self.cluster.binaries().program("pg_recvlogical"))
            .args(["--dbname", &self.cluster.url("postgres"), "--slot", slot, "--start"])
            .args(["--file", "/dev/null", "--no-loop", "--endpos", end])
            .args(["-o", "proto_version=1", "-o", "messages=true", "-o"])
            .arg(format!("publication_names={}", load::PUBLICATION))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("pg_recvlogical ended with {status}").into());
        }
        Ok(started.elapsed())
    }

    /// Waits until the journal's newest event has at least this number.
    async fn wait_journaled(&self, journal: &Path, last: usize) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let mut reader = None;
        let mut journaled = 0;
        while journaled < last as i64 {
            if Instant::now() > deadline {
                return Err(format!("only {journaled} of {last} events were journaled").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            // Not there yet at first.
            reader = reader.or_else(|| Journal::open_read_only(journal).ok());
            let status = reader.as_ref().and_then(|reader| reader.status().ok());
            journaled = status.map_or(0, |status| status.events.last_seq.0);
        }
        Ok(())
    }

    /// Waits until the daemon streams from the slot.
    async fn wait_streaming(&self, slot: &str) -> Outcome {
        let sql = "select active from pg_replication_slots where slot_name = $1";
        let deadline = Instant::now() + PATIENCE;
        while !self.client.query_one(sql, &[&slot]).await?.get::<_, bool>(0) {
            if Instant::now() > deadline {
                return Err(format!("nobody streams from the slot {slot}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
