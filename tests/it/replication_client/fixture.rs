//! A throwaway server with TLS and every way to log in.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use walhook::postgres::{Client, ConnectionOptions, connect};
use walhook::throwaway::{Cluster, Options, StopMode};

use crate::harness::execute;

/// Every role may replicate and has this password.
pub(super) const PASSWORD: &str = "s3cret pass'word";

const HBA: &str = "\
local all all trust
host all postgres 127.0.0.1/32 trust
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
ALTER DATABASE app SET datestyle = 'German, DMY';
ALTER DATABASE app SET timezone = 'America/St_Johns';
ALTER DATABASE app SET bytea_output = 'escape';
ALTER DATABASE app SET intervalstyle = 'iso_8601';
ALTER DATABASE app SET extra_float_digits = 0;
ALTER DATABASE app SET statement_timeout = '1h';
ALTER DATABASE app SET idle_session_timeout = '1h';
ALTER DATABASE app SET idle_in_transaction_session_timeout = '1h';
";

/// A cluster with a database `app`, the roles above, and a certificate.
pub(super) struct ClusterFixture {
    cluster: Cluster,
    authority: Issuer<'static, KeyPair>,
}

impl ClusterFixture {
    /// One that tests share which leave it as it is.
    pub(super) fn shared() -> Arc<ClusterFixture> {
        static SHARED: OnceLock<Arc<ClusterFixture>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Arc::new(ClusterFixture::start())))
    }

    /// One for a test that looks at each message: before version 15, the transactions of others
    /// come along as empty ones.
    pub(super) fn alone() -> Arc<ClusterFixture> {
        Arc::new(ClusterFixture::start())
    }

    /// One for a test that changes or stops it.
    pub(super) fn start() -> ClusterFixture {
        let cluster = Cluster::start(&Options::new().conf("autovacuum = off")).unwrap();
        let (root, authority) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
        let fixture = ClusterFixture { cluster, authority };
        for sql in ["CREATE DATABASE app", ROLES] {
            execute(&fixture.cluster.url("postgres"), sql);
        }
        fs::write(fixture.path("root.crt"), root).unwrap();
        let (certificate, key) = certificate(&fixture.authority, &["localhost"], "localhost");
        fixture.install(&certificate, &key);
        fs::write(fixture.cluster.data_dir().join("pg_hba.conf"), HBA).unwrap();
        let root = fixture.path("root.crt");
        for line in ["ssl = on", &format!("ssl_ca_file = '{}'", root.display())] {
            fixture.cluster.add_conf(line).unwrap();
        }
        fixture.cluster.restart(StopMode::Fast).unwrap();
        fixture
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Puts `certificate` where the server finds it when it starts or reloads its configuration.
    pub(super) fn install(&self, certificate: &str, key: &str) {
        let data = self.cluster.data_dir();
        let owner = fs::metadata(&data).unwrap();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            fs::write(&path, text).unwrap();
            // The server refuses a key that others may read, and may itself be another user.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }

    /// A client certificate for `role`: the paths of it and its key.
    pub(super) fn client_certificate(&self, role: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = certificate(&self.authority, &[], role);
        let paths = (self.path(&format!("{role}.crt")), self.path(&format!("{role}.key")));
        fs::write(&paths.0, certificate).unwrap();
        fs::write(&paths.1, key).unwrap();
        paths
    }

    /// A file's path in a folder that goes with the cluster.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.cluster.socket_dir().join(name)
    }

    pub(super) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// A connection string for TCP; `more` are further settings.
    pub(super) fn tcp(&self, user: &str, more: &str) -> ConnectionOptions {
        let (port, quoted) = (self.port(), PASSWORD.replace('\'', "\\'"));
        let text = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user={user} dbname=app \
             password='{quoted}' connect_timeout=60 {more}"
        );
        text.parse().unwrap_or_else(|error| panic!("{more}: {error}"))
    }

    /// A connection string for the unix socket.
    pub(super) fn unix(&self, user: &str) -> ConnectionOptions {
        let (directory, port) = (self.cluster.socket_dir().display(), self.port());
        format!("host={directory} port={port} user={user} dbname=app").parse().unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        connect(&self.unix("trusty")).await.unwrap()
    }

    /// Runs statements in the database `app` on a connection of their own, in one transaction.
    pub(super) fn execute(&self, sql: &str) {
        execute(&self.cluster.url("app"), sql);
    }
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
