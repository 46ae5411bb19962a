//! Capture from an outbox: what its triggers cost the application, how fast it is drained, and how
//! soon a change is received.

use super::*;

/// pgbench's size factor: more branches than its clients meet each other at.
const SCALE: u32 = 20;
const SECONDS: u32 = 8;
/// How many changes are timed one by one.
const TIMED: u64 = 200;
const PGBENCH_TABLES: &[&str] =
    &["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];
/// The daemon's turn is when nothing else runs, so that what is measured is the triggers' share.
const MODES: [(&str, &str); 3] = [
    ("without triggers", ""),
    ("with triggers", "outbox_notify = false"),
    ("with triggers and NOTIFY", "outbox_notify = true"),
];

/// A database followed by an outbox.
struct Followed<'a> {
    url: String,
    tables: &'a [&'a str],
    /// More lines of `[source]`.
    more: &'a str,
    endpoint: (&'a str, &'a str),
}

impl Bench {
    pub(super) async fn outbox(&mut self, runs: usize) -> Outcome {
        let options = Options::new().conf("max_connections = 100").conf("shared_buffers = '512MB'");
        let cluster = Cluster::start(&options)?;
        self.pgbench(&cluster, &["--initialize", "--quiet", &format!("--scale={SCALE}")])?;
        for _ in 0..runs {
            for clients in [1, 16, 64] {
                self.overhead(&cluster, clients).await?;
            }
            self.drain().await?;
            self.outbox_latency("polling every 250 ms", "").await?;
            self.outbox_latency("NOTIFY", "outbox_notify = true").await?;
        }
        Ok(())
    }

    /// The same transactions with and without triggers, one after the other.
    async fn overhead(&mut self, cluster: &Cluster, clients: u32) -> Outcome {
        let mut plain = 0.0;
        for (mode, more) in MODES {
            let followed = Followed {
                url: cluster.url("postgres"),
                tables: PGBENCH_TABLES,
                more,
                endpoint: (NOBODY, "nothing.matches"),
            };
            let config = self.outbox_config(&followed)?;
            if !more.is_empty() {
                walhook(&["setup"], &config)?;
            }
            let length = format!("--time={SECONDS}");
            let clients_of = format!("--client={clients}");
            let said = self.pgbench(
                cluster,
                &["--no-vacuum", "--jobs=1", "--protocol=prepared", &clients_of, &length],
            )?;
            let rate = transactions_per_second(&said)?;
            if more.is_empty() {
                plain = rate;
            } else {
                // Nobody has read them: the daemon was not there.
                walhook(&["teardown", "--discard-unread"], &config)?;
            }
            let what = format!("outbox, TPC-B, {clients} clients, {mode}");
            self.report.add(&what, "tx/s", "", rate);
            if !more.is_empty() {
                self.report.add(&format!("{what}: share"), "", "", rate / plain);
            }
        }
        Ok(())
    }

    /// Runs pgbench, and gives what it said.
    fn pgbench(&self, cluster: &Cluster, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        let output = Command::new(cluster.binaries().program("pgbench"))
            .args(arguments)
            .arg(cluster.url("postgres"))
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("pgbench ended with {}: {error}", output.status).into());
        }
        Ok(said)
    }

    /// From a full outbox to an empty one, with every event in the journal.
    async fn drain(&mut self) -> Outcome {
        let followed = Followed {
            url: self.cluster.url("postgres"),
            tables: &["people"],
            more: "",
            endpoint: (NOBODY, "nothing.matches"),
        };
        let config = self.outbox_config(&followed)?;
        walhook(&["setup"], &config)?;
        load::single_rows(&self.client, self.rows).await?;
        let started = Instant::now();
        let daemon = Daemon::start(&config)?;
        let empty = "select not exists (select from walhook.outbox)";
        while !self.client.query_one(empty, &[]).await?.get::<_, bool>(0) {
            if started.elapsed() > PATIENCE {
                return Err("the outbox is not drained".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = started.elapsed();
        let (cpu, peak) = (daemon.cpu()?, daemon.peak_bytes()?);
        self.wait_journaled(&config.with_extension("db"), self.rows).await?;
        daemon.stop()?;
        walhook(&["teardown"], &config)?;
        let rows = self.rows as f64;
        let report = &mut self.report;
        let rate = rows / took.as_secs_f64();
        report.add("outbox to journal, single-row transactions", "rows/s", ">= 20,000", rate);
        report.add("  daemon CPU (outbox to journal)", "us/row", "", micros(cpu) / rows);
        report.add("  peak memory (outbox to journal)", "MiB", "", mebibytes(peak));
        Ok(())
    }

    /// From the commit, as the application sees it, to the request: one change at a time.
    async fn outbox_latency(&mut self, what: &str, more: &str) -> Outcome {
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let followed = Followed {
            url: self.cluster.url("postgres"),
            tables: &["people"],
            more,
            endpoint: (&url, "*"),
        };
        let config = self.outbox_config(&followed)?;
        walhook(&["setup"], &config)?;
        let daemon = Daemon::start(&config)?;
        // The first one opens the connection.
        load::single_rows(&self.client, 1).await?;
        receiver.wait_for(1, PATIENCE).await?;
        let insert = "insert into people select p.* from person(nextval('people_ids')) p";
        let mut latencies = Vec::new();
        for number in 0..TIMED {
            // Spread over the time between two looks.
            let pause = Duration::from_millis(20 + number * 37 % 250);
            tokio::time::sleep(pause).await;
            self.client.batch_execute(insert).await?;
            let committed = Instant::now();
            while receiver.requests() < number + 2 {
                if committed.elapsed() > PATIENCE {
                    return Err("a change does not come".into());
                }
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            latencies.push(committed.elapsed());
        }
        daemon.stop()?;
        walhook(&["teardown"], &config)?;
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = ((latencies.len() - 1) as f64 * share) as usize;
            latencies[place].as_secs_f64() * 1e3
        };
        let what = format!("outbox, commit to received, {what}");
        self.report.add(&format!("{what}, p50"), "ms", "", at(0.50));
        self.report.add(&format!("{what}, p99"), "ms", "", at(0.99));
        Ok(())
    }

    fn outbox_config(&mut self, followed: &Followed<'_>) -> Result<PathBuf, Box<dyn Error>> {
        let name = self.next_slot();
        let path = self.folder.path().join(format!("{name}.toml"));
        let Followed { url, tables, more, endpoint: (endpoint, events) } = followed;
        let mut text = format!(
            r#"
[source]
url = "{url}"
capture = "outbox"
{more}

[journal]
path = "{journal}"

[[endpoint]]
url = "{endpoint}"
events = ["{events}"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
concurrency = {IN_FLIGHT}
start = "earliest"
"#,
            journal = path.with_extension("db").display(),
        );
        for table in *tables {
            text.push_str(&format!("\n[[table]]\nname = \"public.{table}\"\n"));
        }
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn walhook(arguments: &[&str], config: &Path) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_walhook"))
        .args(arguments)
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(
            format!("walhook {} ended with {}: {error}", arguments[0], output.status).into()
        );
    }
    Ok(())
}

/// `tps = 1234.5 (without initial connection time)`
fn transactions_per_second(said: &str) -> Result<f64, Box<dyn Error>> {
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    Ok(rate.ok_or("pgbench says no tps")?.parse()?)
}
