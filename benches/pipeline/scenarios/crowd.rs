//! A hundred endpoints, of which one is dead: what the daemon holds of them.

use super::*;

const LIVING: usize = 99;
const EVENTS: usize = 100_000;
/// One in so many is for the living, too: all of them for all would be ten million requests.
const SHARED: usize = 20;
/// Turns of the load, so that both kinds are under way together.
const TURNS: usize = 10;
const UPDATED: &str = "person.updated";

impl Bench {
    pub(super) async fn crowd(&mut self) -> Outcome {
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let slot = self.new_slot().await?;
        let names: Vec<String> = (0..LIVING).map(|n| format!("living{n}")).collect();
        let mut targets = vec![Target { name: "dead", ..Target::new(NOBODY, "*") }];
        let living = names.iter().map(|name| Target { name, ..Target::new(&url, UPDATED) });
        targets.extend(living);
        let config = self.config(&slot, &targets)?;
        let updates = EVENTS / SHARED / TURNS;
        let daemon = Daemon::start(&config)?;
        let started = Instant::now();
        for _ in 0..TURNS {
            load::single_rows(&self.client, EVENTS / TURNS - updates).await?;
            load::single_updates(&self.client, updates).await?;
        }
        let requests = LIVING * updates * TURNS;
        receiver.wait_for(requests as u64, PATIENCE).await?;
        self.wait_journaled(&self.journal(&slot), EVENTS).await?;
        let took = started.elapsed();
        let (resident, peak) = (daemon.resident_bytes()?, daemon.peak_bytes()?);
        daemon.stop()?;
        let report = &mut self.report;
        let what = "100 endpoints, one dead, 100,000 events, 1 in 20 for all";
        let rate = requests as f64 / took.as_secs_f64();
        report.add(&format!("{what}: peak memory"), "MiB", "< 150", mebibytes(peak));
        report.add(
            "  resident memory at its end (100 endpoints)",
            "MiB",
            "< 150",
            mebibytes(resident),
        );
        report.add("  requests to the living ones", "requests/s", "", rate);
        self.forget(&slot).await
    }
}
