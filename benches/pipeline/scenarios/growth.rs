//! What a long journal costs: CPU of each event, and how long delivery stands still while the
//! oldest events are deleted and SQLite copies its log into the file.

use std::io::Read as _;

use super::*;
use crate::receiver::Arrival;

const SHORT: usize = 10_000;
const LONG: usize = 5_000_000;
/// Rate and length of the load beside which retention works.
const PER_SECOND: u32 = 1_000;
const SECONDS: u32 = 5;
/// What retention is to delete in a run: a few seconds of its work.
const DELETED_BYTES: u64 = 500 << 20;

/// What a steady load showed.
struct Gap {
    /// What the receiver waited for a request beyond what the load made it wait.
    longest_ms: f64,
    /// Events that retention deleted meanwhile.
    deleted: f64,
    /// How often SQLite's log was copied into the file and begun anew.
    checkpoints: f64,
}

impl Bench {
    /// The same events, end to end, behind a short journal and behind a long one.
    pub(super) async fn growth(&mut self, runs: usize) -> Outcome {
        let slots = [self.filled(SHORT).await?, self.filled(LONG).await?];
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let mut configs = Vec::new();
        for slot in &slots {
            let target = Target { start: "now", ..Target::new(&url, "*") };
            configs.push(self.config(slot, &[target])?);
            // The endpoint begins behind what is there.
            let daemon = Daemon::start(&configs[configs.len() - 1])?;
            self.wait_streaming(slot).await?;
            daemon.stop()?;
        }
        let rows = self.rows / 2;
        for run in 0..runs {
            load::single_rows(&self.client, rows).await?;
            let mut cpu = [0.0; 2];
            for turn in [run % 2, 1 - run % 2] {
                let count = receiver.requests() + rows as u64;
                let daemon = Daemon::start(&configs[turn])?;
                receiver.wait_for(count, PATIENCE).await?;
                cpu[turn] = micros(daemon.cpu()?) / rows as f64;
                daemon.stop()?;
            }
            let report = &mut self.report;
            report.add("daemon CPU behind 10,000 journaled events", "us/event", "", cpu[0]);
            report.add("daemon CPU behind 5,000,000 journaled events", "us/event", "", cpu[1]);
            report.add("  the latter over the former (growth)", "", "< 1.2", cpu[1] / cpu[0]);
        }
        for slot in &slots {
            self.forget(slot).await?;
        }
        Ok(())
    }

    /// A steady load with and without retention at work.
    pub(super) async fn stall(&mut self, runs: usize) -> Outcome {
        let slot = self.filled(LONG).await?;
        for run in 0..runs {
            for prune in [run % 2 == 0, run % 2 == 1] {
                let gap = self.longest_gap(&slot, prune).await?;
                let report = &mut self.report;
                if prune {
                    let what = "longest gap in delivery beside prune and checkpoint";
                    report.add(what, "ms", "< 50", gap.longest_ms);
                    report.add("  events deleted meanwhile (stall)", "", "", gap.deleted);
                    report.add("  checkpoints meanwhile (stall)", "", "", gap.checkpoints);
                } else {
                    report.add("  longest gap without prune", "ms", "", gap.longest_ms);
                    report.add("  checkpoints without prune", "", "", gap.checkpoints);
                }
            }
        }
        self.forget(&slot).await
    }

    /// Delivers a steady load, while so much is deleted that retention is at it all the time, or
    /// nothing is.
    async fn longest_gap(&self, slot: &str, prune: bool) -> Result<Gap, Box<dyn Error>> {
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let kept = Journal::open_read_only(self.journal(slot))?.status()?;
        let most = if prune { kept.size_bytes.saturating_sub(DELETED_BYTES) } else { 1 << 40 };
        let journal = format!("max_size = \"{most}B\"");
        let target = Target { start: "now", ..Target::new(&url, "*") };
        let config = self.config_with(slot, &[target], &journal)?;
        let daemon = Daemon::start(&config)?;
        self.wait_streaming(slot).await?;
        receiver.measure();
        let rows = PER_SECOND * SECONDS;
        load::paced(&self.client, PER_SECOND, rows).await?;
        receiver.wait_for(u64::from(rows), PATIENCE).await?;
        let arrivals = receiver.arrivals();
        let checkpoints = checkpoints(&self.journal(slot))?;
        daemon.stop()?;
        let now = Journal::open_read_only(self.journal(slot))?.status()?;
        let first = |events: walhook::journal::EventsStatus| events.first_seq.unwrap_or_default().0;
        let deleted = (first(now.events) - first(kept.events)) as f64;
        Ok(Gap { longest_ms: longest_excess(&arrivals), deleted, checkpoints })
    }
}

/// Between one request and the next, less what lay between the commits: where delivery stands still
/// this is how long, where the load does it is nothing.
fn longest_excess(arrivals: &[Arrival]) -> f64 {
    let excess = arrivals.windows(2).map(|pair| {
        let committed = (pair[1].committed_us - pair[0].committed_us).max(0);
        pair[1].received_us - pair[0].received_us - committed
    });
    excess.max().unwrap_or(0) as f64 / 1e3
}

/// SQLite counts in its log's header, from the moment a journal is opened.
fn checkpoints(journal: &Path) -> Result<f64, Box<dyn Error>> {
    let mut header = [0; 16];
    fs::File::open(journal.with_extension("db-wal"))?.read_exact(&mut header)?;
    Ok(f64::from(u32::from_be_bytes([header[12], header[13], header[14], header[15]])))
}
