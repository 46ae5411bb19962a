//! Batches of a hundred events, from the slot to the receiver, next to Postgres's own client.

use super::*;

const LARGE_TRANSACTION: usize = 300_000;

impl Bench {
    /// Transactions of one row each.
    pub(super) async fn batches(&mut self, run: usize) -> Outcome {
        let slots = [self.next_slot(), self.next_slot()];
        self.create_slots(&slots).await?;
        let end = load::single_rows(&self.client, self.rows).await?;
        // Whoever is first may find the log less warm, so they take turns.
        self.time_batches("single-row transactions", slots, &end, self.rows, run % 2 == 1).await
    }

    pub(super) async fn batches_of_one_transaction(&mut self) -> Outcome {
        let slots = [self.next_slot(), self.next_slot()];
        self.create_slots(&slots).await?;
        let end = load::one_large(&self.client, LARGE_TRANSACTION).await?;
        self.time_batches("one large transaction", slots, &end, LARGE_TRANSACTION, true).await
    }

    async fn create_slots(&self, slots: &[String]) -> Outcome {
        for slot in slots {
            load::create_slot(&self.client, slot).await?;
        }
        Ok(())
    }

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
        load::drop_slot(&self.client, &slot).await?;
        load::drop_slot(&self.client, &limit).await?;
        let rows = rows as f64;
        let (limit_rate, rate) = (rows / recvlogical.as_secs_f64(), rows / took.as_secs_f64());
        let report = &mut self.report;
        let what = format!("batches of 100, {what}");
        report.add(&format!("{what}, pg_recvlogical"), "rows/s", "(the limit)", limit_rate);
        report.add(&format!("{what}, end to end"), "events/s", ">= 60,000", rate);
        report.add(&format!("{what}: share of it"), "", "", rate / limit_rate);
        report.add(&format!("{what}: daemon CPU"), "us/event", "", micros(cpu) / rows);
        report.add(&format!("{what}: peak memory"), "MiB", "", mebibytes(peak));
        Ok(())
    }
}
