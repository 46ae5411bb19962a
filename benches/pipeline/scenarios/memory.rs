//! The daemon at rest, with a long journal.

use super::*;

const JOURNALED: usize = 1_000_000;
/// Delivered before it rests.
const DELIVERED: usize = 1_000;

impl Bench {
    pub(super) async fn idle_memory(&mut self, runs: usize) -> Outcome {
        let slot = self.filled(JOURNALED).await?;
        for _ in 0..runs {
            let receiver = Receiver::start().await?;
            let url = receiver.url();
            let target = Target { start: "now", ..Target::new(&url, "*") };
            let config = self.config(&slot, &[target])?;
            let daemon = Daemon::start(&config)?;
            self.wait_streaming(&slot).await?;
            load::single_rows(&self.client, DELIVERED).await?;
            receiver.wait_for(DELIVERED as u64, PATIENCE).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let resident = mebibytes(daemon.resident_bytes()?);
            daemon.stop()?;
            let what = "resident memory, idle with 1,000,000 journaled events";
            self.report.add(what, "MiB", "< 64", resident);
        }
        self.forget(&slot).await
    }
}
