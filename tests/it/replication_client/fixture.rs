//! A throwaway server with TLS and every way to log in.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, Weak};

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use tempfile::TempDir;
use walhook::postgres::{Client, ConnectionOptions, connect};

/// Every role may replicate and has this password.
pub(super) const PASSWORD: &str = "s3cret pass'word";

const HBA: &str = "\
local all all trust
host all trusty 127.0.0.1/32 trust
host all plain 127.0.0.1/32 password
host all md5er 127.0.0.1/32 md5
host all scram 127.0.0.1/32 scram-sha-256
host all mortal 127.0.0.1/32 trust
hostssl all certer 127.0.0.1/32 cert
hostnossl all clear 127.0.0.1/32 trust
";

const ROLES: &str = "\
SET password_encryption = 'md5';
CREATE ROLE md5er LOGIN REPLICATION PASSWORD 's3cret pass''word';
SET password_encryption = 'scram-sha-256';
CREATE ROLE trusty LOGIN REPLICATION SUPERUSER PASSWORD 's3cret pass''word';
CREATE ROLE plain LOGIN REPLICATION PASSWORD 's3cret pass''word';
CREATE ROLE scram LOGIN REPLICATION PASSWORD 's3cret pass''word';
CREATE ROLE certer LOGIN REPLICATION;
CREATE ROLE clear LOGIN REPLICATION;
CREATE ROLE mortal LOGIN;
CREATE DATABASE app;
ALTER DATABASE app SET datestyle = 'German, DMY';
ALTER DATABASE app SET timezone = 'America/St_Johns';
ALTER DATABASE app SET bytea_output = 'escape';
ALTER DATABASE app SET intervalstyle = 'iso_8601';
ALTER DATABASE app SET extra_float_digits = 0;
ALTER DATABASE app SET statement_timeout = '1h';
ALTER DATABASE app SET idle_session_timeout = '1h';
ALTER DATABASE app SET idle_in_transaction_session_timeout = '1h';
";

/// A cluster of its own; stopped and removed when dropped.
pub(super) struct ClusterFixture {
    directory: TempDir,
    bin: PathBuf,
    port: u16,
    authority: Issuer<'static, KeyPair>,
}

impl ClusterFixture {
    /// One that tests share which leave it as it is. It lives as long as one of them does.
    pub(super) fn shared() -> Arc<ClusterFixture> {
        static SHARED: Mutex<Weak<ClusterFixture>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(ClusterFixture::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    pub(super) fn start() -> ClusterFixture {
        let directory = tempfile::Builder::new().prefix("walhook-it-").tempdir().unwrap();
        let (root, authority) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut cluster = ClusterFixture { directory, bin: bin(), port: 0, authority };
        fs::write(cluster.path("root.crt"), root).unwrap();
        cluster.own(cluster.directory.path());
        let data = cluster.path("data");
        let data = data.to_str().unwrap();
        cluster.run("initdb", &["-D", data, "-U", "trusty", "-A", "trust", "--no-sync"]);
        fs::write(cluster.path("data/pg_hba.conf"), HBA).unwrap();
        let authority = &cluster.authority;
        let (certificate, key) = certificate(authority, &["localhost"], "localhost");
        cluster.install(&certificate, &key);
        cluster.launch();
        let roles = ROLES.replace("CREATE ROLE trusty", "ALTER ROLE trusty");
        cluster.psql_each("postgres", roles.lines());
        cluster
    }

    /// Starts the server on a free port.
    fn launch(&mut self) {
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nssl = on\n\
             wal_level = logical\nfsync = off\nautovacuum = off\nmax_wal_senders = 30\n\
             max_replication_slots = 30\nssl_ca_file = '{}'\nlog_min_messages = warning\n",
            self.directory.path().display(),
            self.path("root.crt").display(),
        );
        for _ in 0..10 {
            // Somebody else may take the port before the server does.
            self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let text = format!("{settings}port = {}\n", self.port);
            fs::write(self.path("data/postgresql.auto.conf"), text).unwrap();
            self.own(&self.path("data"));
            if self.control(&["start", "-w", "-l", self.path("log").to_str().unwrap()]) {
                return;
            }
        }
        panic!("the server didn't start: {}", self.log());
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Stops the server; `mode` as for `pg_ctl stop -m`.
    pub(super) fn stop(&self, mode: &str) {
        assert!(self.control(&["stop", "-w", "-t", "60", "-m", mode]), "{}", self.log());
    }

    /// Starts it again, on the same port.
    pub(super) fn restart(&self) {
        let log = self.path("log");
        assert!(self.control(&["start", "-w", "-l", log.to_str().unwrap()]), "{}", self.log());
    }

    pub(super) fn control(&self, arguments: &[&str]) -> bool {
        let data = self.path("data");
        let mut all = vec!["-D", data.to_str().unwrap(), "-s"];
        all.extend(arguments);
        // Not `output`: the server would hold its pipes open.
        let mut command = self.command("pg_ctl", &all);
        command.stderr(std::process::Stdio::null()).status().unwrap().success()
    }

    /// Makes the server present `certificate` from the next connection on.
    pub(super) fn install(&self, certificate: &str, key: &str) {
        for (name, text) in [("data/server.crt", certificate), ("data/server.key", key)] {
            fs::write(self.path(name), text).unwrap();
        }
        let key = self.path("data/server.key");
        self.own(&key);
        assert!(Command::new("chmod").arg("600").arg(&key).status().unwrap().success());
    }

    /// A client certificate for `role`: the paths of it and its key.
    pub(super) fn client_certificate(&self, role: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = certificate(&self.authority, &[], role);
        let paths = (self.path(&format!("{role}.crt")), self.path(&format!("{role}.key")));
        fs::write(&paths.0, certificate).unwrap();
        fs::write(&paths.1, key).unwrap();
        paths
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A connection string for TCP; `more` are further settings.
    pub(super) fn tcp(&self, user: &str, more: &str) -> ConnectionOptions {
        let quoted = PASSWORD.replace('\'', "\\'");
        let text = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user={user} dbname=app \
             password='{quoted}' connect_timeout=60 {more}",
            self.port
        );
        text.parse().unwrap_or_else(|error| panic!("{more}: {error}"))
    }

    /// A connection string for the unix socket.
    pub(super) fn unix(&self, user: &str) -> ConnectionOptions {
        let directory = self.directory.path().display();
        let text = format!("host={directory} port={} user={user} dbname=app", self.port);
        text.parse().unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        connect(&self.unix("trusty")).await.unwrap()
    }

    /// Runs statements on a connection of their own, in one transaction.
    pub(super) fn psql(&self, database: &str, sql: &str) {
        self.psql_each(database, std::iter::once(sql));
    }

    fn psql_each<'a>(&self, database: &str, statements: impl Iterator<Item = &'a str>) {
        let (directory, port) = (self.directory.path().display().to_string(), self.port);
        let connection = format!("host={directory} port={port} user=trusty dbname={database}");
        let mut arguments = vec!["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &connection];
        arguments.extend(statements.flat_map(|sql| ["-c", sql]));
        self.run("psql", &arguments);
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program, arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        output
    }

    /// A program of the server, which refuses to run as root.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let path = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.args(arguments).current_dir(self.directory.path());
        command.stdout(std::process::Stdio::null());
        command
    }

    fn own(&self, path: &Path) {
        if is_root() {
            let status = Command::new("chown").args(["-R", "postgres"]).arg(path).status();
            assert!(status.unwrap().success());
        }
    }
}

impl Drop for ClusterFixture {
    fn drop(&mut self) {
        self.control(&["stop", "-w", "-m", "immediate"]);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The newest server Debian installed, or the one on the path.
fn bin() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = installed.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").exists().then_some((version, bin))
    });
    versions.max().map(|(_, bin)| bin).unwrap_or_default()
}

/// A certificate authority: its certificate and what signs with it.
pub(super) fn authority(
    algorithm: &'static SignatureAlgorithm,
) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, Issuer::new(params, key))
}

/// A certificate and its key.
pub(super) fn certificate(
    authority: &Issuer<'static, KeyPair>,
    names: &[&str],
    common_name: &str,
) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}
