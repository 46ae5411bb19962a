//! Many endpoints: what a request costs where an event goes to a hundred, and what endpoints cost
//! that an event does not concern.

use super::*;

const MANY: usize = 100;
/// Names of events, each of which three endpoints want.
const NAMES: usize = 333;
const WANT_EACH: usize = 3;
/// Requests of one endpoint at once: many of these share the machine.
const AT_ONCE: usize = 4;

/// What one daemon used after its endpoints had their first event.
struct Used {
    cpu: Duration,
    idle_bytes: u64,
    peak_bytes: u64,
}

impl Bench {
    pub(super) async fn fanout(&mut self) -> Outcome {
        self.one_or_many().await?;
        self.few_of_many().await
    }

    /// The same number of requests by one endpoint and by a hundred, a dead one beside them.
    async fn one_or_many(&mut self) -> Outcome {
        let requests = self.rows / 2;
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let names: Vec<String> = (0..MANY).map(|i| format!("e{i}")).collect();
        let target = |name| Target { name, in_flight: AT_ONCE, ..Target::new(&url, "*") };
        let one = [target("e0")];
        let mut many: Vec<_> = names.iter().map(|name| target(name)).collect();
        many.push(Target { name: "dead", ..Target::new(NOBODY, "*") });
        let one = self.use_of(&one, &receiver, 1, requests).await?;
        let many = self.use_of(&many, &receiver, MANY, requests / MANY).await?;
        let (alone, each) = (one.cpu_of(requests), many.cpu_of(requests / MANY * MANY));
        let report = &mut self.report;
        report.add("an event to one endpoint, daemon CPU", "us/request", "(the limit)", alone);
        report.add("an event to 100 endpoints, daemon CPU", "us/request", "", each);
        report.add("  of 100 times one endpoint", "", "<= 0.8", each / alone);
        let peak = mebibytes(many.peak_bytes);
        report.add("  peak memory, a dead one beside the 100", "MiB", "< 150", peak);
        Ok(())
    }

    /// The same events by three endpoints that want all of them, and by a thousand of which three
    /// want each.
    async fn few_of_many(&mut self) -> Outcome {
        let events = self.rows / 5;
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let all = NAMES * WANT_EACH + 1;
        let names: Vec<String> = (0..all).map(|i| format!("e{i}")).collect();
        // The last one wants what never comes.
        let wants: Vec<String> =
            (0..all).map(|i| format!("thing_{}.done", i / WANT_EACH)).collect();
        let few: Vec<_> = names
            .iter()
            .take(WANT_EACH)
            .map(|name| Target { name, in_flight: AT_ONCE, ..Target::new(&url, "thing_*.done") })
            .collect();
        let of_many: Vec<_> = names
            .iter()
            .zip(&wants)
            .map(|(name, events)| Target { name, in_flight: AT_ONCE, ..Target::new(&url, events) })
            .collect();
        let few = self.use_of(&few, &receiver, WANT_EACH, events).await?;
        let of_many = self.use_of(&of_many, &receiver, WANT_EACH, events).await?;
        let (alone, among) = (few.cpu_of(events), of_many.cpu_of(events));
        let report = &mut self.report;
        report.add("3 endpoints, each event to 3, daemon CPU", "us/event", "(the limit)", alone);
        report.add("1,000 endpoints, each event to 3, daemon CPU", "us/event", "", among);
        report.add("  of what 3 endpoints cost", "", "<= 1.3", among / alone);
        let (idle, peak) = (mebibytes(of_many.idle_bytes), mebibytes(of_many.peak_bytes));
        report.add("  resident memory, 1,000 idle endpoints", "MiB", "", idle);
        report.add("  peak memory, 1,000 endpoints", "MiB", "", peak);
        Ok(())
    }

    /// CPU of a daemon for that many events, each of which `takers` endpoints get, once it is under
    /// way: as many went before, so that the connections are there.
    async fn use_of(
        &mut self,
        targets: &[Target<'_>],
        receiver: &Receiver,
        takers: usize,
        events: usize,
    ) -> Result<Used, Box<dyn Error>> {
        let slot = self.next_slot();
        load::create_slot(&self.client, &slot).await?;
        let config = self.config(&slot, targets)?;
        let before = receiver.requests();
        let daemon = Daemon::start(&config)?;
        load::messages(&self.client, NAMES, NAMES).await?;
        let mut expected = before + (NAMES * takers) as u64;
        receiver.wait_for(expected, PATIENCE).await?;
        // What it does after the last answer is over, and nothing else goes on.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle_bytes = daemon.resident_bytes()?;
        let mut cpu = Duration::ZERO;
        for _ in 0..2 {
            let before = daemon.cpu()?;
            load::messages(&self.client, NAMES, events).await?;
            expected += (events * takers) as u64;
            receiver.wait_for(expected, PATIENCE).await?;
            cpu = daemon.cpu()? - before;
        }
        let used = Used { cpu, idle_bytes, peak_bytes: daemon.peak_bytes()? };
        daemon.stop()?;
        load::drop_slot(&self.client, &slot).await?;
        Ok(used)
    }
}

impl Used {
    /// Microseconds for each of that many.
    fn cpu_of(&self, count: usize) -> f64 {
        micros(self.cpu) / count as f64
    }
}
