//! A throwaway Postgres cluster, for `walhook demo`, tests and benches.
//!
//! [`Cluster::start`] finds the machine's server binaries, makes a data directory below the
//! temporary folder and starts a server on a free loopback port and on a unix socket of its own.
//! Dropping the cluster stops the server and removes everything. When the owning process dies in
//! any other way, SIGKILL included, a watchdog does the same: see `workshop`.
//!
//! Every call here blocks, for a second or so at most when it makes or starts a server; from async
//! code use `spawn_blocking` where that matters.

mod binaries;
mod standby;
mod workshop;

use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

pub use binaries::{Binaries, find};
use workshop::Workshop;

/// How often another port is tried when somebody else took the one that was free a moment ago.
const PORT_TRIES: usize = 8;
/// How long `pg_ctl` waits for a server to come up or to go down.
const PATIENCE_S: &str = "60";
/// Whoever connects as this role may do everything: authentication is `trust`, on loopback only.
const SUPERUSER: &str = "postgres";

/// What a throwaway cluster should be like.
#[derive(Clone, Debug, Default)]
pub struct Options {
    fsync: bool,
    own_identity: bool,
    programs: Option<PathBuf>,
    conf: Vec<String>,
}

impl Options {
    /// A cluster for tests: commits survive a crash of the server, not one of the machine.
    pub fn new() -> Options {
        Options::default()
    }

    /// Whether commits wait for the disk, as they do on a real server. Off by default.
    pub fn fsync(mut self, fsync: bool) -> Options {
        self.fsync = fsync;
        self
    }

    /// Gives the cluster a system identifier of its own. Otherwise all clusters of this process
    /// are copies of one, which starts faster, and look like clones of each other.
    pub fn own_identity(mut self) -> Options {
        self.own_identity = true;
        self
    }

    /// Uses the server's programs in this folder, of whatever version, instead of those
    /// [`find`] finds.
    pub fn programs(mut self, dir: impl Into<PathBuf>) -> Options {
        self.programs = Some(dir.into());
        self
    }

    /// Adds a line to `postgresql.conf`; the last one for a setting wins.
    pub fn conf(mut self, line: impl Into<String>) -> Options {
        self.conf.push(line.into());
        self
    }
}

/// How a server is told to stop, as `pg_ctl stop -m` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Wait for the clients to leave.
    Smart,
    /// Send the clients away, write a checkpoint.
    Fast,
    /// Just end: the next start recovers, as after a crash.
    Immediate,
}

impl StopMode {
    fn as_str(self) -> &'static str {
        match self {
            StopMode::Smart => "smart",
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        }
    }
}

/// A running (or, between [`stop`](Cluster::stop) and [`resume`](Cluster::resume), stopped) server.
#[derive(Debug)]
pub struct Cluster {
    workshop: Arc<Workshop>,
    dir: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes a cluster and starts it; it takes connections when this returns.
    pub fn start(options: &Options) -> Result<Cluster, ThrowawayError> {
        let workshop = match &options.programs {
            None => Workshop::shared()?,
            Some(dir) => Arc::new(Workshop::new(binaries::in_folder(dir)?)?),
        };
        let dir = workshop.new_cluster_dir()?;
        let mut cluster = Cluster { workshop, dir, port: 0 };
        if options.own_identity {
            cluster.workshop.initdb(&cluster.data_dir())?;
        } else {
            cluster.workshop.copy_template(&cluster.data_dir())?;
        }
        cluster.configure_and_start(options)?;
        Ok(cluster)
    }

    /// Makes a streaming standby of this cluster and starts it; it takes connections when this
    /// returns. It may lag behind, as this cluster keeps no log for it.
    pub fn standby(&self, options: &Options) -> Result<Cluster, ThrowawayError> {
        let workshop = Arc::clone(&self.workshop);
        let dir = workshop.new_cluster_dir()?;
        let mut standby = Cluster { workshop, dir, port: 0 };
        standby::copy(self, &standby.data_dir())?;
        standby.configure_and_start(options)?;
        Ok(standby)
    }

    /// The connection string of one of its databases, over TCP. `database` is taken as it is:
    /// letters, digits and `_`.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The TCP port, on 127.0.0.1, which stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The folder with the server's programs, and its version.
    pub fn binaries(&self) -> &Binaries {
        self.workshop.binaries()
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Stops the server and waits until it is gone, for a minute at most.
    pub fn stop(&self, mode: StopMode) -> Result<(), ThrowawayError> {
        self.pg_ctl(&["stop", "-m", mode.as_str()]).map(drop)
    }

    /// Starts a stopped server again, on the same port.
    pub fn resume(&self) -> Result<(), ThrowawayError> {
        let mut result = self.try_start();
        for _ in 1..PORT_TRIES {
            match result {
                Err(ref error) if error.port_taken() => result = self.try_start(),
                _ => break,
            }
        }
        result
    }

    /// Stops and starts the server.
    pub fn restart(&self, mode: StopMode) -> Result<(), ThrowawayError> {
        self.stop(mode)?;
        self.resume()
    }

    /// Makes a standby a primary, on a new timeline.
    pub fn promote(&self) -> Result<(), ThrowawayError> {
        self.pg_ctl(&["promote"]).map(drop)
    }

    /// Adds a line to the configuration; it holds from the next restart or `pg_reload_conf()`.
    pub fn add_conf(&self, line: &str) -> Result<(), ThrowawayError> {
        let mut conf = fs::read_to_string(self.conf_path())
            .map_err(|error| ThrowawayError::io("read", &self.conf_path(), error))?;
        conf.push_str(line);
        conf.push('\n');
        self.write_conf(&conf)
    }

    fn configure_and_start(&mut self, options: &Options) -> Result<(), ThrowawayError> {
        let main = self.data_dir().join("postgresql.conf");
        let mut text =
            fs::read_to_string(&main).map_err(|error| ThrowawayError::io("read", &main, error))?;
        if !text.contains("include 'throwaway.conf'") {
            text.push_str("\ninclude_if_exists 'standby.conf'\ninclude 'throwaway.conf'\n");
            fs::write(&main, text).map_err(|error| ThrowawayError::io("write", &main, error))?;
        }
        let mut tries = 1;
        loop {
            self.port = free_port()?;
            self.write_conf(&self.conf(options))?;
            match self.try_start() {
                Err(error) if error.port_taken() && tries < PORT_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    fn conf(&self, options: &Options) -> String {
        let on_off = |on| if on { "on" } else { "off" };
        let fsync = on_off(options.fsync);
        let port = self.port;
        let socket_dir = self.dir.display();
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\n\
             port = {port}\n\
             unix_socket_directories = '{socket_dir}'\n\
             fsync = {fsync}\n\
             full_page_writes = {fsync}\n\
             wal_level = logical\n\
             max_replication_slots = 64\n\
             max_wal_senders = 64\n\
             max_connections = 200\n\
             max_prepared_transactions = 16\n\
             shared_buffers = 64MB\n\
             max_wal_size = 4GB\n\
             checkpoint_timeout = 30min\n\
             logging_collector = off\n\
             log_destination = stderr\n\
             lc_messages = 'C'\n"
        );
        for line in &options.conf {
            conf.push_str(line);
            conf.push('\n');
        }
        conf
    }

    fn conf_path(&self) -> PathBuf {
        self.data_dir().join("throwaway.conf")
    }

    fn write_conf(&self, conf: &str) -> Result<(), ThrowawayError> {
        let path = self.conf_path();
        fs::write(&path, conf).map_err(|error| ThrowawayError::io("write", &path, error))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn try_start(&self) -> Result<(), ThrowawayError> {
        let before = self.log().len();
        let log_path = self.log_path();
        self.pg_ctl(&["start", "-l", &log_path.to_string_lossy()]).map(drop).map_err(|error| {
            let log = self.log();
            error.with_log(log.get(before..).unwrap_or(&log))
        })
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Result<Output, ThrowawayError> {
        let mut command = self.workshop.command("pg_ctl");
        command.args(arguments).args(["-w", "-s", "-t", PATIENCE_S, "-D"]).arg(self.data_dir());
        run(command)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A stopped server is an error here, and as good as stopped.
        if self.data_dir().join("postmaster.pid").exists() {
            let _ = self.stop(StopMode::Immediate);
        }
        // What is left over goes with the workshop.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> Result<u16, ThrowawayError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| ThrowawayError(Kind::Port(error)))
}

/// Runs a program to its end; one that fails is an error with what it wrote to stderr.
fn run(mut command: std::process::Command) -> Result<Output, ThrowawayError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| ThrowawayError(Kind::Spawn { program: program.clone(), error }))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ThrowawayError(Kind::Failed { program, said, log: String::new() }))
}

/// Why there is no throwaway cluster. Displays as one sentence: what happened and what to do.
#[derive(Debug)]
pub struct ThrowawayError(Kind);

#[derive(Debug)]
enum Kind {
    NoServer { install: String },
    NoServerIn { dir: PathBuf },
    TooOld { dir: PathBuf, version: u32 },
    NoUser,
    Port(std::io::Error),
    Io { doing: &'static str, path: PathBuf, error: std::io::Error },
    Spawn { program: String, error: std::io::Error },
    Failed { program: String, said: String, log: String },
    Backup(String),
}

impl ThrowawayError {
    /// Whether the machine has no Postgres server of version 14 or later; the message then says
    /// how to install one.
    pub fn is_no_server(&self) -> bool {
        matches!(self.0, Kind::NoServer { .. } | Kind::NoServerIn { .. } | Kind::TooOld { .. })
    }

    fn io(doing: &'static str, path: &Path, error: std::io::Error) -> ThrowawayError {
        ThrowawayError(Kind::Io { doing, path: path.to_owned(), error })
    }

    fn port_taken(&self) -> bool {
        matches!(&self.0, Kind::Failed { log, .. } if log.contains("could not bind")
            || log.contains("could not create any TCP/IP sockets"))
    }

    fn with_log(mut self, new: &str) -> ThrowawayError {
        if let Kind::Failed { log, .. } = &mut self.0 {
            *log = new.trim().to_owned();
        }
        self
    }
}

impl fmt::Display for ThrowawayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::NoServer { install } => write!(
                f,
                "found no Postgres server programs (initdb, pg_ctl, postgres) of version 14 or \
                 later: install them ({install}) or name their folder in {}",
                binaries::ENV
            ),
            Kind::NoServerIn { dir } => write!(
                f,
                "{} names {}, but initdb, pg_ctl and postgres are not all there: name the folder \
                 that holds them, or unset the variable to search the usual places",
                binaries::ENV,
                dir.display()
            ),
            Kind::TooOld { dir, version } => write!(
                f,
                "the newest Postgres server found, in {}, is version {version}: 14 or later is \
                 needed",
                dir.display()
            ),
            Kind::NoUser => write!(
                f,
                "Postgres does not run as root, and this machine has neither a user postgres nor \
                 a user nobody to run it as: run the command as an ordinary user"
            ),
            Kind::Port(error) => write!(f, "no free port on 127.0.0.1: {error}"),
            Kind::Io { doing, path, error } => {
                write!(f, "could not {doing} {}: {error}", path.display())
            }
            Kind::Spawn { program, error } => write!(f, "could not run {program}: {error}"),
            Kind::Backup(problem) => write!(f, "could not copy the primary: {problem}"),
            Kind::Failed { program, said, log } => {
                write!(f, "{program} failed: {said}")?;
                if !log.is_empty() {
                    write!(f, "; the server's log says: {log}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ThrowawayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Port(error) | Kind::Io { error, .. } | Kind::Spawn { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
