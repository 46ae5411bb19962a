//! One signed request for each event, in order for each record.

use super::*;

const RATE: &str = "end to end, one signed POST per event, 32 in flight";

impl Bench {
    pub(super) async fn end_to_end(&mut self) -> Outcome {
        let receiver = Receiver::start().await?;
        let bare = bare_client::send(receiver.address(), self.rows, IN_FLIGHT, 500).await?;
        let slot = self.new_slot().await?;
        load::single_rows(&self.client, self.rows).await?;
        let config = self.config(&slot, &[Target::new(&receiver.url(), "*")])?;
        let before = receiver.requests();
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        receiver.wait_for(before + self.rows as u64, PATIENCE).await?;
        let took = started.elapsed();
        let (cpu, resident) = (daemon.cpu()?, daemon.resident_bytes()?);
        daemon.stop()?;
        self.forget(&slot).await?;
        let rows = self.rows as f64;
        let report = &mut self.report;
        let limit = rows / bare.as_secs_f64();
        report.add(
            "a bare client that only sends, 32 in flight",
            "requests/s",
            "(the limit)",
            limit,
        );
        report.add(RATE, "events/s", ">= 20,000", rows / took.as_secs_f64());
        report.add("  daemon CPU (end to end)", "us/event", "<= 45", micros(cpu) / rows);
        report.add("  resident memory (end to end)", "MiB", "", mebibytes(resident));
        Ok(())
    }

    /// Events a second at most, measured now if that was not done yet.
    pub(super) async fn maximum(&mut self) -> Result<f64, Box<dyn Error>> {
        if self.report.median_of(RATE).is_none() {
            self.end_to_end().await?;
        }
        self.report.median_of(RATE).ok_or_else(|| "the maximum was not measured".into())
    }
}
