//! A million deliveries that wait for a dead endpoint: what they cost the daemon and its other
//! endpoint.

use super::*;

const WAITING: usize = 1_000_000;
const CREATED: &str = "person.created";
const UPDATED: &str = "person.updated";

impl Bench {
    pub(super) async fn backlog(&mut self, runs: usize) -> Outcome {
        let receiver = Receiver::start().await?;
        let slot = self.new_slot().await?;
        let url = receiver.url();
        let config = self.config(
            &slot,
            &[
                Target { name: "dead", ..Target::new(NOBODY, CREATED) },
                Target { name: "other", ..Target::new(&url, UPDATED) },
            ],
        )?;
        load::one_large(&self.client, WAITING).await?;
        let daemon = Daemon::start(&config)?;
        self.wait_journaled(&self.journal(&slot), WAITING).await?;
        // The other endpoint has passed all of them when it gets this one.
        load::single_updates(&self.client, 1).await?;
        receiver.wait_for(1, PATIENCE).await?;
        let (resident, peak) = (daemon.resident_bytes()?, daemon.peak_bytes()?);
        daemon.stop()?;
        let waiting = waiting_for_dead(&self.journal(&slot))?;
        let report = &mut self.report;
        report.add("deliveries that wait for a dead endpoint", "", "1,000,000", waiting as f64);
        report.add("  resident memory (backlog)", "MiB", "< 150", mebibytes(resident));
        report.add("  peak memory (backlog)", "MiB", "< 150", mebibytes(peak));
        let mut got = 1;
        for _ in 0..runs {
            load::single_updates(&self.client, 1).await?;
            let started = Instant::now();
            let daemon = Daemon::start(&config)?;
            got += 1;
            receiver.wait_for(got, PATIENCE).await?;
            let took = started.elapsed();
            let resident = daemon.resident_bytes()?;
            daemon.stop()?;
            let report = &mut self.report;
            let what = "  restart to the first delivery of another endpoint";
            report.add(what, "s", "< 2", took.as_secs_f64());
            report.add("  memory after the restart", "MiB", "< 150", mebibytes(resident));
        }
        for run in 0..runs {
            got = self.beside_backlog(&config, &receiver, got, run % 2 == 0).await?;
        }
        for run in 0..runs {
            self.take_up(&slot, run).await?;
        }
        self.forget(&slot).await
    }

    /// From the start to the first delivery of an endpoint that has the backlog itself: of the dead
    /// one, which is alive again, and of a new one that begins with the oldest event.
    async fn take_up(&mut self, slot: &str, run: usize) -> Outcome {
        let new = format!("new{run}");
        let cases = [
            ("start to the first delivery of a backlog of 1,000,000", "dead"),
            ("  of a new endpoint that starts with the oldest of them", &*new),
        ];
        for (what, name) in cases {
            let receiver = Receiver::start().await?;
            let url = receiver.url();
            let config = self.config(slot, &[Target { name, ..Target::new(&url, CREATED) }])?;
            let started = Instant::now();
            let daemon = Daemon::start(&config)?;
            receiver.wait_for(1, PATIENCE).await?;
            self.report.add(what, "s", "< 2", started.elapsed().as_secs_f64());
            daemon.stop()?;
        }
        Ok(())
    }

    /// The same updates by a daemon that has nothing else to do, and by the one with the backlog.
    /// Returns how many requests the latter's receiver has got.
    async fn beside_backlog(
        &mut self,
        config: &Path,
        receiver: &Receiver,
        got: u64,
        alone_first: bool,
    ) -> Result<u64, Box<dyn Error>> {
        let rows = self.rows / 2;
        let slot = self.new_slot().await?;
        load::single_updates(&self.client, rows).await?;
        let lone = Receiver::start().await?;
        let lone_config = self.config(&slot, &[Target::new(&lone.url(), UPDATED)])?;
        let expected = got + rows as u64;
        let (mut rates, mut cpu) = ([0.0; 2], [0.0; 2]);
        for turn in [alone_first, !alone_first] {
            let (config, receiver, count) = if turn {
                (&*lone_config, &lone, rows as u64)
            } else {
                (config, receiver, expected)
            };
            let started = Instant::now();
            let daemon = Daemon::start(config)?;
            receiver.wait_for(count, PATIENCE).await?;
            rates[usize::from(turn)] = rows as f64 / started.elapsed().as_secs_f64();
            cpu[usize::from(turn)] = micros(daemon.cpu()?) / rows as f64;
            daemon.stop()?;
        }
        let [beside, alone] = rates;
        self.forget(&slot).await?;
        let report = &mut self.report;
        report.add("  another endpoint alone", "events/s", "(the limit)", alone);
        report.add("  another endpoint beside the backlog", "events/s", "", beside);
        report.add("  share (backlog)", "", ">= 0.95", beside / alone);
        report.add("  daemon CPU alone", "us/event", "", cpu[1]);
        report.add("  daemon CPU beside the backlog", "us/event", "", cpu[0]);
        Ok(expected)
    }
}

/// What the endpoint `dead` has not got yet.
fn waiting_for_dead(journal: &Path) -> Result<u64, Box<dyn Error>> {
    let status = Journal::open_read_only(journal)?.status()?;
    let dead = status.endpoints.iter().find(|endpoint| endpoint.name == "dead");
    let dead = dead.ok_or("the journal does not know the dead endpoint")?;
    Ok(dead.backlog + dead.in_flight + dead.waiting + dead.blocked)
}
