//! Ten endpoints, one of them dead and one slow: what the other eight still reach.

use super::*;

const GOOD: usize = 8;

impl Bench {
    pub(super) async fn neighbours(&mut self, runs: usize) -> Outcome {
        for run in 0..runs {
            self.neighbours_once(run).await?;
        }
        Ok(())
    }

    /// Three daemons over the same rows: eight endpoints alone, with a dead one that refuses
    /// connections and a slow one, and with a dead one that takes connections and never answers.
    async fn neighbours_once(&mut self, run: usize) -> Outcome {
        let rows = self.rows / 10;
        let slots = [self.new_slot().await?, self.new_slot().await?, self.new_slot().await?];
        load::single_rows(&self.client, rows).await?;
        let slow = Receiver::start_with(Manner::OneASecond).await?.url();
        let hanging = Receiver::start_with(Manner::Silent).await?.url();
        let mut cases = [
            ("eight endpoints alone", vec![]),
            ("  with one that refuses and one at 1 answer/s", vec![NOBODY, &slow]),
            ("  with one that hangs and one at 1 answer/s", vec![&*hanging, &slow]),
        ];
        // Whoever is first may find the log less warm, so they take turns.
        let turn = run % cases.len();
        cases.rotate_left(turn);
        let mut rates = Vec::new();
        for ((what, bad), slot) in cases.into_iter().zip(&slots) {
            let (took, cpu) = self.time_good(slot, &bad, rows).await?;
            let requests = (GOOD * rows) as f64;
            let cpu = micros(cpu) / requests;
            rates.push((what, bad.is_empty(), requests / took.as_secs_f64(), cpu));
        }
        rates.rotate_right(turn);
        let alone = rates.iter().find(|(_, alone, ..)| *alone).map_or(0.0, |(_, _, rate, _)| *rate);
        for (what, is_alone, rate, cpu) in rates {
            let aim = if is_alone { "(the limit)" } else { "" };
            self.report.add(what, "requests/s", aim, rate);
            if !is_alone {
                self.report.add(&format!("{what}: share"), "", ">= 0.95", rate / alone);
            }
            self.report.add(&format!("{what}: daemon CPU"), "us/request", "", cpu);
        }
        Ok(())
    }

    /// Until each of the good ones has all rows: time and CPU.
    async fn time_good(
        &self,
        slot: &str,
        bad: &[&str],
        rows: usize,
    ) -> Result<(Duration, Duration), Box<dyn Error>> {
        let mut receivers = Vec::new();
        for _ in 0..GOOD {
            receivers.push(Receiver::start().await?);
        }
        let urls: Vec<String> = receivers.iter().map(Receiver::url).collect();
        let names: Vec<String> = (0..GOOD + bad.len()).map(|i| format!("e{i}")).collect();
        // The bad ones first, where they are most in the way.
        let urls = bad.iter().copied().chain(urls.iter().map(|url| &**url));
        let targets: Vec<_> = names
            .iter()
            .zip(urls)
            .map(|(name, url)| Target { name, ..Target::new(url, "*") })
            .collect();
        let config = self.config(slot, &targets)?;
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        for receiver in &receivers {
            receiver.wait_for(rows as u64, PATIENCE).await?;
        }
        let (took, cpu) = (started.elapsed(), daemon.cpu()?);
        // Killed: it would wait for the endpoint that hangs.
        drop(daemon);
        self.forget(slot).await?;
        Ok((took, cpu))
    }
}
