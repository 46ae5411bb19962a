//! From the slot into the journal, next to Postgres's own client on the same log.

use super::*;

const LARGE_TRANSACTION: usize = 1_000_000;

/// One run of the daemon.
struct Journaled {
    took: Duration,
    cpu: Duration,
    peak: u64,
    /// A few seconds after the end.
    idle: u64,
}

impl Bench {
    /// Transactions of one row each.
    pub(super) async fn slot_to_journal(&mut self, run: usize) -> Outcome {
        let (limit, slot) = (self.new_slot().await?, self.new_slot().await?);
        let end = load::single_rows(&self.client, self.rows).await?;
        let idle = Duration::ZERO;
        let (recvlogical, daemon) =
            self.time_both([&limit, &slot], &end, self.rows, run % 2 == 1, idle).await?;
        let rows = self.rows as f64;
        let (limit_rate, rate) =
            (rows / recvlogical.as_secs_f64(), rows / daemon.took.as_secs_f64());
        let report = &mut self.report;
        report.add("single-row transactions, pg_recvlogical", "rows/s", "(the limit)", limit_rate);
        report.add("single-row transactions, slot to journal", "rows/s", "", rate);
        report.add("  share of pg_recvlogical", "", ">= 1.2", rate / limit_rate);
        report.add("  daemon CPU (slot to journal)", "us/row", "<= 12", micros(daemon.cpu) / rows);
        Ok(())
    }

    /// One large transaction, which all runs read again from the same log.
    pub(super) async fn large_transaction(&mut self, runs: usize) -> Outcome {
        let mut slots = Vec::new();
        for _ in 0..runs {
            slots.push([self.new_slot().await?, self.new_slot().await?]);
        }
        let end = load::one_large(&self.client, LARGE_TRANSACTION).await?;
        let rows = LARGE_TRANSACTION as f64;
        for (run, [limit, slot]) in slots.iter().enumerate() {
            let idle = Duration::from_secs(3);
            let (recvlogical, daemon) =
                self.time_both([limit, slot], &end, LARGE_TRANSACTION, run % 2 == 0, idle).await?;
            let (limit_rate, rate) =
                (rows / recvlogical.as_secs_f64(), rows / daemon.took.as_secs_f64());
            let report = &mut self.report;
            let what = "one transaction of 1,000,000 rows";
            report.add(&format!("{what}, pg_recvlogical"), "rows/s", "(the limit)", limit_rate);
            report.add(&format!("{what}, slot to journal"), "rows/s", "", rate);
            report.add("  share of pg_recvlogical (large)", "", ">= 0.9", rate / limit_rate);
            report.add("  daemon CPU (large)", "us/row", "<= 12", micros(daemon.cpu) / rows);
            report.add("  peak memory (large)", "MiB", "< 100", mebibytes(daemon.peak));
            let resident = mebibytes(daemon.idle);
            report.add("  resident memory, idle after it (large)", "MiB", "< 64", resident);
        }
        Ok(())
    }

    /// The server's own client and the daemon, one after the other: each has a slot of its own on
    /// the same log. Whoever is first may find the log less warm, so they take turns.
    async fn time_both(
        &self,
        [limit, slot]: [&str; 2],
        end: &str,
        rows: usize,
        limit_first: bool,
        idle: Duration,
    ) -> Result<(Duration, Journaled), Box<dyn Error>> {
        let mut recvlogical = Duration::ZERO;
        if limit_first {
            recvlogical = self.pg_recvlogical(limit, end)?;
        }
        let journaled = self.time_to_journal(slot, rows, idle).await?;
        if !limit_first {
            recvlogical = self.pg_recvlogical(limit, end)?;
        }
        load::drop_slot(&self.client, limit).await?;
        self.forget(slot).await?;
        Ok((recvlogical, journaled))
    }

    /// Runs the daemon until `rows` events are journaled, and then `idle` longer. Its time, as that
    /// of the server's client, is that of the whole process from its start.
    async fn time_to_journal(
        &self,
        slot: &str,
        rows: usize,
        idle: Duration,
    ) -> Result<Journaled, Box<dyn Error>> {
        let config = self.config(slot, &[Target::new(NOBODY, "nothing.matches")])?;
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        self.wait_journaled(&self.journal(slot), rows).await?;
        let took = started.elapsed();
        let (cpu, peak) = (daemon.cpu()?, daemon.peak_bytes()?);
        tokio::time::sleep(idle).await;
        let idle = daemon.resident_bytes()?;
        daemon.stop()?;
        Ok(Journaled { took, cpu, peak, idle })
    }
}
