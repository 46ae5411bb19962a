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
use crate::receiver::{Manner, Receiver};
use crate::report::Report;

mod backlog;
mod batches;
mod fanout;
mod neighbours;

const PATIENCE: Duration = Duration::from_secs(300);
const LARGE_TRANSACTION: usize = 1_000_000;
const IN_FLIGHT: usize = 32;
/// Where every connection is refused.
const NOBODY: &str = "http://127.0.0.1:9/";

type Outcome = Result<(), Box<dyn Error>>;

pub(crate) async fn run(rows: usize, runs: usize) -> Result<Report, Box<dyn Error>> {
    let only = std::env::var("WALHOOK_BENCH_ONLY").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|list| list.split(',').any(|o| o == name));
    let mut bench = Bench::start(rows).await?;
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        if wanted("journal") {
            bench.slot_to_journal(run).await?;
        }
        if wanted("end-to-end") {
            bench.end_to_end().await?;
        }
        if wanted("latency") {
            bench.latency(500).await?;
        }
        if wanted("batches") {
            bench.batches(run).await?;
        }
        if wanted("neighbours") {
            bench.neighbours(run).await?;
        }
        if wanted("fanout") {
            bench.fanout().await?;
        }
    }
    if wanted("large") {
        bench.large_transaction().await?;
    }
    if wanted("batches") {
        bench.batches_of_one_transaction().await?;
    }
    if wanted("backlog") {
        bench.backlog(runs).await?;
    }
    Ok(bench.report)
}

/// An endpoint of the daemon.
struct Target<'a> {
    name: &'a str,
    url: &'a str,
    /// Which events it gets; a pattern that matches nothing leaves the journal alone.
    events: &'a str,
    /// More lines of its section.
    more: &'a str,
    /// Requests on their way at once.
    in_flight: usize,
}

impl<'a> Target<'a> {
    fn new(url: &'a str, events: &'a str) -> Target<'a> {
        Target { name: "bench", url, events, more: "", in_flight: IN_FLIGHT }
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
    report: Report,
}

impl Bench {
    async fn start(rows: usize) -> Result<Bench, Box<dyn Error>> {
        let cluster = Cluster::start(&Options::new())?;
        let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls).await?;
        tokio::spawn(connection);
        load::create(&client).await?;
        let folder = tempfile::tempdir()?;
        Ok(Bench { cluster, client, folder, rows, counter: 0, report: Report::default() })
    }

    fn next_slot(&mut self) -> String {
        self.counter += 1;
        format!("bench_{}", self.counter)
    }

    fn config(&self, slot: &str, targets: &[Target<'_>]) -> Result<PathBuf, Box<dyn Error>> {
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
path = "{journal}"
"#,
            source = self.cluster.url("postgres"),
            publication = load::PUBLICATION,
            journal = self.journal(slot).display(),
        );
        for Target { name, url, events, more, in_flight } in targets {
            text.push_str(&format!(
                r#"
[[endpoint]]
name = "{name}"
url = "{url}"
events = ["{events}"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
concurrency = {in_flight}
start = "earliest"
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

    /// The limit: Postgres's own client, writing nowhere.
    fn pg_recvlogical(&self, slot: &str, end: &str) -> Result<Duration, Box<dyn Error>> {
        let started = Instant::now();
        let status = Command::new(self.cluster.binaries().program("pg_recvlogical"))
            .args(["--dbname", &self.cluster.url("postgres"), "--slot", slot, "--start"])
            .args(["--file", "/dev/null", "--no-loop", "--endpos", end])
            .args(["-o", "proto_version=1", "-o"])
            .arg(format!("publication_names={}", load::PUBLICATION))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("pg_recvlogical ended with {status}").into());
        }
        Ok(started.elapsed())
    }

    async fn slot_to_journal(&mut self, run: usize) -> Outcome {
        let (limit, slot) = (self.next_slot(), self.next_slot());
        load::create_slot(&self.client, &limit).await?;
        load::create_slot(&self.client, &slot).await?;
        let end = load::single_rows(&self.client, self.rows).await?;
        let rows = self.rows as f64;
        // Whoever is first may find the log less warm, so they take turns.
        let limit_first = run % 2 == 1;
        let mut recvlogical = Duration::ZERO;
        if limit_first {
            recvlogical = self.pg_recvlogical(&limit, &end)?;
        }
        let (took, cpu, _) = self.time_to_journal(&slot, self.rows).await?;
        if !limit_first {
            recvlogical = self.pg_recvlogical(&limit, &end)?;
        }
        load::drop_slot(&self.client, &limit).await?;
        let limit_rate = rows / recvlogical.as_secs_f64();
        let rate = rows / took.as_secs_f64();
        let report = &mut self.report;
        report.add("single-row transactions, pg_recvlogical", "rows/s", "(the limit)", limit_rate);
        report.add("single-row transactions, slot to journal", "rows/s", "", rate);
        report.add("  share of pg_recvlogical", "", ">= 0.7", rate / limit_rate);
        report.add("  daemon CPU (slot to journal)", "us/row", "", micros(cpu) / rows);
        Ok(())
    }

    /// Runs the daemon until `rows` events are journaled: time, CPU and peak memory.
    async fn time_to_journal(
        &self,
        slot: &str,
        rows: usize,
    ) -> Result<(Duration, Duration, u64), Box<dyn Error>> {
        let config = self.config(slot, &[Target::new(NOBODY, "nothing.matches")])?;
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        self.wait_journaled(&self.journal(slot), rows).await?;
        let took = started.elapsed();
        let (cpu, peak) = (daemon.cpu()?, daemon.peak_bytes()?);
        daemon.stop()?;
        load::drop_slot(&self.client, slot).await?;
        Ok((took, cpu, peak))
    }

    async fn wait_journaled(&self, journal: &Path, rows: usize) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let journaled = Journal::open_read_only(journal)
                .ok()
                .and_then(|reader| reader.status().ok())
                .map_or(0, |status| status.events.last_seq.0);
            if journaled >= rows as i64 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("only {journaled} of {rows} events were journaled").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end_to_end(&mut self) -> Outcome {
        let receiver = Receiver::start().await?;
        let bare = bare_client::send(receiver.address(), self.rows, IN_FLIGHT, 500).await?;
        let slot = self.next_slot();
        load::create_slot(&self.client, &slot).await?;
        load::single_rows(&self.client, self.rows).await?;
        let config = self.config(&slot, &[Target::new(&receiver.url(), "*")])?;
        let before = receiver.requests();
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        receiver.wait_for(before + self.rows as u64, PATIENCE).await?;
        let took = started.elapsed();
        let (cpu, resident) = (daemon.cpu()?, daemon.resident_bytes()?);
        daemon.stop()?;
        load::drop_slot(&self.client, &slot).await?;
        let rows = self.rows as f64;
        let report = &mut self.report;
        report.add(
            "the receiver's own limit, bare client, 32 in flight",
            "requests/s",
            "(the limit)",
            rows / bare.as_secs_f64(),
        );
        report.add(
            "end to end, one signed POST per event, 32 in flight",
            "events/s",
            ">= 12,000",
            rows / took.as_secs_f64(),
        );
        report.add("  daemon CPU (end to end)", "us/event", "<= 60", micros(cpu) / rows);
        report.add("  resident memory", "MiB", "", mebibytes(resident));
        Ok(())
    }

    async fn latency(&mut self, per_second: u32) -> Outcome {
        let receiver = Receiver::start().await?;
        let slot = self.next_slot();
        load::create_slot(&self.client, &slot).await?;
        let config = self.config(&slot, &[Target::new(&receiver.url(), "*")])?;
        let daemon = Daemon::start(&config)?;
        // The first delivery opens the connection; it is not part of the steady state.
        load::single_rows(&self.client, 10).await?;
        receiver.wait_for(10, PATIENCE).await?;
        receiver.measure_latency().await;
        let sent = load::steady(&self.client, per_second, Duration::from_secs(10)).await?;
        receiver.wait_for(10 + sent, PATIENCE).await?;
        let latencies = receiver.latencies_us().await;
        daemon.stop()?;
        load::drop_slot(&self.client, &slot).await?;
        let at =
            |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        let what = format!("commit to received at {per_second} events/s");
        self.report.add(&format!("{what}, p50"), "ms", "< 5", at(0.50));
        self.report.add(&format!("{what}, p99"), "ms", "", at(0.99));
        Ok(())
    }

    async fn large_transaction(&mut self) -> Outcome {
        let (limit, slot) = (self.next_slot(), self.next_slot());
        load::create_slot(&self.client, &limit).await?;
        load::create_slot(&self.client, &slot).await?;
        let end = load::one_large(&self.client, LARGE_TRANSACTION).await?;
        let recvlogical = self.pg_recvlogical(&limit, &end)?;
        load::drop_slot(&self.client, &limit).await?;
        let (took, cpu, peak) = self.time_to_journal(&slot, LARGE_TRANSACTION).await?;
        let rows = LARGE_TRANSACTION as f64;
        let (limit_rate, rate) = (rows / recvlogical.as_secs_f64(), rows / took.as_secs_f64());
        let report = &mut self.report;
        report.add(
            "one transaction of 1,000,000 rows, pg_recvlogical",
            "rows/s",
            "(the limit)",
            limit_rate,
        );
        report.add("one transaction of 1,000,000 rows, slot to journal", "rows/s", "", rate);
        report.add("  share of pg_recvlogical (large)", "", "", rate / limit_rate);
        report.add("  daemon CPU (large)", "us/row", "", micros(cpu) / rows);
        report.add("  peak memory (large)", "MiB", "< 100", mebibytes(peak));
        Ok(())
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
