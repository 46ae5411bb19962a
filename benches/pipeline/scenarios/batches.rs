//! Batches of a hundred events, from the slot to the receiver, next to Postgres's own client.

use super::*;

const LARGE_TRANSACTION: usize = 300_000;
const SINGLE_ROWS: &str = "single-row transactions";
const ONE_LARGE: &str = "one large transaction";

impl Bench {
    /// Transactions of one row each.
    pub(super) async fn batches(&mut self, run: usize) -> Outcome {
        let slots = [self.new_slot().await?, self.new_slot().await?];
        let end = load::single_rows(&self.client, self.rows).await?;
        self.time_batches(SINGLE_ROWS, slots, &end, self.rows, run % 2 == 1).await
    }

    /// One large transaction, which all runs read again from the same log.
    pub(super) async fn batches_of_one_transaction(&mut self, runs: usize) -> Outcome {
        let mut slots = Vec::new();
        for _ in 0..runs {
            slots.push([self.new_slot().await?, self.new_slot().await?]);
        }
        let end = load::one_large(&self.client, LARGE_TRANSACTION).await?;
        for (run, slots) in slots.into_iter().enumerate() {
            self.time_batches(ONE_LARGE, slots, &end, LARGE_TRANSACTION, run % 2 == 0).await?;
        }
        Ok(())
    }

    /// The server's own client and the daemon, one after the other. Whoever is first may find the
    /// log less warm, so they take turns.
    async fn time_batches(
        &mut self,
        what: &str,
        [limit, slot]: [String; 2],
        end: &str,
        rows: usize,
        limit_first: bool,
    ) -> Outcome {
        let receiver = Receiver::start_with(Manner::CountEvents).await?;
        let url = receiver.url();
        let target = Target { more: "batch = { max_events = 100 }", ..Target::new(&url, "*") };
        let config = self.config(&slot, &[target])?;
        let mut recvlogical = Duration::ZERO;
        if limit_first {
            recvlogical = self.pg_recvlogical(&limit, end)?;
        }
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        receiver.wait_for(rows as u64, PATIENCE).await?;
        let (took, cpu, peak) = (started.elapsed(), daemon.cpu()?, daemon.peak_bytes()?);
        daemon.stop()?;
        if !limit_first {
            recvlogical = self.pg_recvlogical(&limit, end)?;
        }
        load::drop_slot(&self.client, &limit).await?;
        self.forget(&slot).await?;
        let rows = rows as f64;
        let (limit_rate, rate) = (rows / recvlogical.as_secs_f64(), rows / took.as_secs_f64());
        let report = &mut self.report;
        let aim = if what == ONE_LARGE { ">= 60,000" } else { "" };
        let name = format!("batches of 100, {what}");
        report.add(&format!("{name}, pg_recvlogical"), "rows/s", "(the limit)", limit_rate);
        report.add(&format!("{name}, end to end"), "events/s", aim, rate);
        report.add(&format!("  share of it ({what})"), "", ">= 0.9", rate / limit_rate);
        report.add(&format!("  daemon CPU ({what})"), "us/event", "<= 15", micros(cpu) / rows);
        report.add(&format!("  peak memory ({what})"), "MiB", "", mebibytes(peak));
        Ok(())
    }
}
