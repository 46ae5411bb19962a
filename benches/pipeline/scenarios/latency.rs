//! From the commit to the receiver having the whole request, at rates that the load keeps up
//! whatever becomes of the requests.

use super::*;

/// How long the load goes on.
const SECONDS: u32 = 8;
/// Deliveries before anything is measured: they open the connections.
const WARM_UP: usize = 100;

impl Bench {
    pub(super) async fn latencies(&mut self, runs: usize) -> Outcome {
        let half = (self.maximum().await? / 2.0) as u32;
        for _ in 0..runs {
            self.latency(300, "300 events/s", ["< 1.5", "< 6"]).await?;
            self.latency(1_000, "1,000 events/s", ["< 1.5", "< 6"]).await?;
            let reached = self.latency(half, "half of the maximum", ["", "< 40"]).await?;
            // Below this, the load itself had no room on the machine.
            let share = reached / f64::from(half);
            let report = &mut self.report;
            report.add("  half of the maximum is", "events/s", "", f64::from(half));
            report.add("  what the load reached of it", "", ">= 0.95", share);
        }
        Ok(())
    }

    /// Adds the percentiles, and says what the load reached.
    async fn latency(
        &mut self,
        per_second: u32,
        at_rate: &str,
        [p50, p99]: [&'static str; 2],
    ) -> Result<f64, Box<dyn Error>> {
        let receiver = Receiver::start().await?;
        let slot = self.new_slot().await?;
        let config = self.config(&slot, &[Target::new(&receiver.url(), "*")])?;
        let daemon = Daemon::start(&config)?;
        load::single_rows(&self.client, WARM_UP).await?;
        receiver.wait_for(WARM_UP as u64, PATIENCE).await?;
        receiver.measure();
        let rows = per_second * SECONDS;
        let took = load::paced(&self.client, per_second, rows).await?;
        receiver.wait_for(WARM_UP as u64 + u64::from(rows), PATIENCE).await?;
        let arrivals = receiver.arrivals();
        let mut latencies: Vec<i64> =
            arrivals.iter().map(|arrival| arrival.received_us - arrival.committed_us).collect();
        latencies.sort_unstable();
        daemon.stop()?;
        self.forget(&slot).await?;
        if latencies.len() != rows as usize {
            return Err(format!("{} of {rows} requests were timed", latencies.len()).into());
        }
        let at = |share: f64| latencies[((rows - 1) as f64 * share) as usize] as f64 / 1e3;
        let report = &mut self.report;
        let what = format!("commit to received at {at_rate}");
        report.add(&format!("{what}, p50"), "ms", p50, at(0.50));
        report.add(&format!("{what}, p99"), "ms", p99, at(0.99));
        report.add(&format!("  longest at {at_rate}"), "ms", "", at(1.0));
        Ok(f64::from(rows) / took.as_secs_f64())
    }
}
