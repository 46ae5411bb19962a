//! A throwaway server.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio_postgres::{Client, NoTls};

/// A Postgres of its own behind a socket in a directory of its own; gone when dropped.
pub(super) struct Cluster {
    directory: tempfile::TempDir,
    binaries: PathBuf,
}

impl Cluster {
    pub(super) fn start() -> Cluster {
        let directory = tempfile::Builder::new().prefix("walhook-pg").tempdir().unwrap();
        if is_root() {
            let (user, group) = (id("-u"), id("-g"));
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let cluster = Cluster { directory, binaries: binaries() };
        let data = cluster.data();
        let locale = ["-E", "UTF8", "--locale=C", "--no-sync", "-A", "trust", "-U", "postgres"];
        cluster.run("initdb", Path::new("-D"), &data, &locale);
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c wal_level=logical -c fsync=off \
             -c max_wal_senders=4 -c max_replication_slots=4",
            cluster.directory.path().display()
        );
        let log = cluster.directory.path().join("log");
        let start = ["-w", "-l", log.to_str().unwrap(), "-o", &options, "start"];
        cluster.run("pg_ctl", Path::new("-D"), &data, &start);
        cluster
    }

    /// A connection with the settings walhook pins on its own.
    pub(super) async fn connect(&self) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.directory.path()).user("postgres").dbname("postgres").options(
            "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex \
             -c extra_float_digits=1",
        );
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn run(&self, program: &str, flag: &Path, data: &Path, rest: &[&str]) {
        let program = self.binaries.join(program);
        let mut command = if is_root() {
            // The server refuses to run as root.
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        command.arg(flag).arg(data).args(rest).current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "{} failed", program.display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run("pg_ctl", Path::new("-D"), &self.data(), &["-m", "immediate", "-w", "stop"]);
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn id(flag: &str) -> u32 {
    let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Debian keeps the server's programs out of the path.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = installed.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).collect::<Vec<_>>();
    debian.chain(in_path).find(|folder| folder.join("initdb").is_file()).expect("no initdb found")
}
