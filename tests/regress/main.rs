//! PostgreSQL's own regression suite as workload.
//!
//! Runs `src/test/regress` file by file in a published database while the real daemon follows it,
//! and then replays the journal's events: every table that is still there must hold just what the
//! events say. `scripts/regress` fetches the suite and starts this; without it nothing happens here.
//!
//! What row changes cannot tell (dropped and renamed tables, rewrites, new defaults) the event
//! triggers of `watch.sql` tell, by logical messages in the same transactions.

mod json;
mod replay;
mod report;
mod suite;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, NoTls};
use walhook::throwaway::{Cluster, Options};

use replay::{Replay, difference, rows_of};
use report::Report;
use suite::{DATABASE, Outcome, Suite};

/// Where `src/test/regress` is.
const SOURCE: &str = "WALHOOK_REGRESS_SOURCE";
/// Where `regress.so` and its fellows are.
const LIBRARIES: &str = "WALHOOK_REGRESS_LIBRARIES";
/// Where psql's output, the daemon's log and the journal are left.
const OUTPUT: &str = "WALHOOK_REGRESS_OUTPUT";

/// How long the daemon may take to start, and to catch up at the end.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let Some(source) = std::env::var_os(SOURCE) else {
        println!("PostgreSQL's regression suite is run by `make regress`");
        return ExitCode::SUCCESS;
    };
    json::check_itself();
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or(name.to_owned());
    let run = || -> Result<bool, Box<dyn Error>> {
        let (libraries, output) = (folder(LIBRARIES)?, folder(OUTPUT)?);
        let chosen: Vec<String> =
            std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(workload(Path::new(&source), &libraries, &output, &chosen))
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("regress: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; whether all is well. With `chosen` files, those alone (and what all need).
async fn workload(
    source: &Path,
    libraries: &Path,
    output: &Path,
    chosen: &[String],
) -> Result<bool, Box<dyn Error>> {
    let options = Options::new().conf("log_min_duration_statement = 2s");
    let cluster = Cluster::start(&options)?;
    let suite = Suite::lay_out(source, libraries, &output.join("psql"), &cluster)?;
    let client = prepare(&cluster).await?;
    let mut daemon = Daemon::start(&cluster, output)?;
    daemon.streams(&client).await?;

    let mut report = Report::default();
    let (files, left_out) = suite.files()?;
    report.left_out = left_out;
    for name in files {
        if !chosen.is_empty() && name != "test_setup" && !chosen.contains(&name) {
            continue;
        }
        let outcome: Outcome = suite.run(&name, &cluster)?;
        daemon.lives(&format!("while {name} ran"))?;
        eprintln!("{:>7.1} s  {name}", outcome.took.as_secs_f64());
        report.outcomes.push(outcome);
    }
    let caught_up = daemon.catches_up(&client).await?;
    report.caught_up_in = caught_up;
    daemon.stop()?;
    report.log = daemon.log()?;

    let server_log = cluster.log();
    fs::write(output.join("server.log"), &server_log)?;

    let mut replay = Replay::default();
    for error in watching_failures(&server_log) {
        replay.differ(format!("the watching itself failed: {error}"));
    }
    replay_journal(&daemon.journal, &mut replay)?;
    compare(&client, &mut replay, &mut report).await?;
    report.print(&replay);
    Ok(report.all_is_well(&replay))
}

/// The database as pg_regress makes it, watched and published.
async fn prepare(cluster: &Cluster) -> Result<Client, Box<dyn Error>> {
    let client = connect(cluster, "postgres").await?;
    client
        .batch_execute(&format!("create database {DATABASE} template template0 encoding 'UTF8'"))
        .await?;
    for setting in [
        "lc_messages to 'C'",
        "lc_monetary to 'C'",
        "lc_numeric to 'C'",
        "lc_time to 'C'",
        "bytea_output to 'hex'",
        "timezone_abbreviations to 'Default'",
    ] {
        client.batch_execute(&format!("alter database {DATABASE} set {setting}")).await?;
    }
    let client = connect(cluster, DATABASE).await?;
    client.batch_execute(include_str!("watch.sql")).await?;
    client.batch_execute("create publication walhook for all tables").await?;
    client
        .batch_execute("select pg_create_logical_replication_slot('walhook', 'pgoutput')")
        .await?;
    Ok(client)
}

/// A session with the settings the daemon's values are made under.
async fn connect(cluster: &Cluster, database: &str) -> Result<Client, Box<dyn Error>> {
    let (client, connection) = tokio_postgres::connect(&cluster.url(database), NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set timezone = 'UTC';
             set bytea_output = 'hex'; set extra_float_digits = 3",
        )
        .await?;
    Ok(client)
}

/// Errors inside the event triggers of `watch.sql`: each fails a statement of the suite, and with it
/// what that was to test.
fn watching_failures(server_log: &str) -> Vec<&str> {
    let mut failures = Vec::new();
    let mut error = "";
    for line in server_log.lines() {
        if let Some((_, said)) = line.split_once(" ERROR:  ") {
            error = said;
        }
        // Among serializable transactions the watching's own table counts too, and one has to yield.
        let yields = error.starts_with("could not serialize access");
        if line.contains("function walhook_watch.") && !yields && failures.last() != Some(&error) {
            failures.push(error);
        }
    }
    failures
}

/// Every event of the journal, in order.
fn replay_journal(journal: &Path, replay: &mut Replay) -> Result<(), Box<dyn Error>> {
    let journal = Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut events = journal.prepare("SELECT body FROM events ORDER BY seq")?;
    let mut rows = events.query([])?;
    while let Some(row) = rows.next()? {
        replay.apply(row.get_ref(0)?.as_blob()?);
    }
    Ok(())
}

/// Compares every table that is there, and whatever the events think is there.
async fn compare(
    client: &Client,
    replay: &mut Replay,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let tables = client
        .query("select oid, schema, name from walhook_watch.current order by schema, name", &[])
        .await?;
    let mut held = std::mem::take(&mut replay.tables);
    for table in tables {
        let (oid, schema, name): (u32, String, String) = (table.get(0), table.get(1), table.get(2));
        let shown = format!("{schema}.{name}");
        let key = (schema, name);
        let held = held.remove(&key).unwrap_or_default();
        if let Some(why) = replay.unreadable.get(&key) {
            report.not_compared.push(format!("{shown}: {why}"));
            continue;
        }
        let rows = client.query_one("select walhook_watch.rows($1)", &[&oid]).await;
        let rows: String = match rows {
            Ok(rows) => rows.get(0),
            Err(error) => {
                let why = error.as_db_error().map_or(error.to_string(), |e| e.message().to_owned());
                report.not_compared.push(format!("{shown}: {why}"));
                continue;
            }
        };
        let expected = rows_of(&serde_json::from_str(&rows)?);
        report.tables += 1;
        report.rows += expected.values().sum::<usize>() as u64;
        if let Some(difference) = difference(&held, &expected) {
            replay.differ(format!("{shown} at the end: {difference}"));
        }
    }
    for ((schema, name), rows) in held {
        if !rows.is_empty() {
            replay.differ(format!("{schema}.{name} is not there, but has {} rows", rows.len()));
        }
    }
    Ok(())
}

/// The real daemon, with its log and journal in a folder that stays.
struct Daemon {
    child: Child,
    journal: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn start(cluster: &Cluster, output: &Path) -> Result<Daemon, Box<dyn Error>> {
        let journal = output.join("walhook.db");
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let _ = fs::remove_file(output.join(format!("walhook.db{suffix}")));
        }
        // Nobody is sent anything: what counts here is the journal.
        let config = format!(
            "[source]\nurl = \"{}\"\n\n[[table]]\nname = \"*.*\"\n\n\
             [[endpoint]]\nname = \"nobody\"\nurl = \"http://127.0.0.1:9/\"\n\
             signature = [\"none\"]\nevents = [\"nothing.at.all\"]\n\n[journal]\npath = \"walhook.db\"\n",
            cluster.url(DATABASE)
        );
        fs::write(output.join("walhook.toml"), config)?;
        let log = output.join("walhook.log");
        let child = Command::new(env!("CARGO_BIN_EXE_walhook"))
            .args(["run", "-c"])
            .arg(output.join("walhook.toml"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        Ok(Daemon { child, journal, log })
    }

    fn log(&self) -> Result<String, Box<dyn Error>> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    fn lives(&mut self, when: &str) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(format!("the daemon ended {when} with {status}:\n{}", self.log()?).into())
            }
        }
    }

    async fn streams(&mut self, client: &Client) -> Result<(), Box<dyn Error>> {
        const ACTIVE: &str = "select active from pg_replication_slots where slot_name = 'walhook'";
        let deadline = Instant::now() + PATIENCE;
        while !client.query_one(ACTIVE, &[]).await?.get::<_, bool>(0) {
            self.lives("before it streamed")?;
            if Instant::now() > deadline {
                return Err("the daemon does not read its slot".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until the server was told that everything written so far is durable; how long that
    /// took.
    async fn catches_up(&mut self, client: &Client) -> Result<Duration, Box<dyn Error>> {
        const REACHED: &str =
            "select confirmed_flush_lsn >= $1::text::pg_lsn, confirmed_flush_lsn::text
            from pg_replication_slots where slot_name = 'walhook'";
        let end: String =
            client.query_one("select pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
        let began = Instant::now();
        loop {
            self.lives("before it caught up")?;
            let slot = client.query_one(REACHED, &[&end]).await?;
            if slot.get(0) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > PATIENCE {
                let confirmed: String = slot.get(1);
                return Err(
                    format!("stalled: {confirmed} is confirmed, the log ends at {end}").into()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as an operator would.
    fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        let pid = Pid::from_raw(self.child.id().try_into()?).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(format!("the daemon ended with {status}:\n{}", self.log()?).into());
                }
                None if Instant::now() > deadline => return Err("the daemon does not stop".into()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
