//! Where the database is and how to reach it: one parsed connection string serves both kinds of
//! connection, [`connect`] for queries and
//! [`ReplicationClient::connect`](super::replication::ReplicationClient::connect).

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

mod client;
mod conninfo;
mod keys;
mod passfile;
mod session;
mod socket;
mod target;
#[cfg(test)]
mod tests;

pub use client::{Client, connect, connect_to_listen};
pub(crate) use session::{SessionState, state_query, timeouts_query};
pub(crate) use socket::SocketOptions;
pub(crate) use target::{Round, connect_error};

/// A connection string, read and checked.
///
/// Parses from what libpq accepts
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>): a URL
/// (`postgres://user:password@host:5432/database?sslmode=verify-full`) or `key=value` words.
/// Unlike libpq it reads neither `PG*` environment variables nor `~/.pgpass` nor a service file:
/// what isn't in the string isn't used. Without a host it looks for the local server's socket in
/// `/var/run/postgresql` and `/tmp`, then tries `localhost`.
///
/// Differences on purpose: `connect_timeout` is 10 seconds by default; `allow` means `prefer`;
/// `verify-full` without `sslrootcert` trusts the system's certificate authorities.
///
/// Displays as `user@host:port/database`; neither that nor `Debug` shows the password.
#[derive(Clone)]
pub struct ConnectionOptions {
    pub(crate) servers: Vec<Server>,
    pub(crate) user: String,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
    dbname: String,
    pub(crate) application_name: String,
    /// The user's own startup options, before ours.
    options: String,
    pub(crate) tls: TlsOptions,
    pub(crate) channel_binding: ChannelBindingMode,
    /// For one host, from its address to the end of the login.
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) socket: SocketOptions,
    pub(crate) target: TargetSession,
    pub(crate) load_balance: bool,
}

/// One of the hosts of a connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// None was named: the local socket, or localhost.
    Local,
    /// The directory of a unix socket.
    Unix(PathBuf),
    /// A name or address, and with `hostaddr` where to find it without asking the resolver.
    Tcp { name: String, address: Option<IpAddr> },
}

/// Everything TLS needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub(crate) mode: SslMode,
    pub(crate) root_cert: Option<RootCert>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Start with TLS at once instead of asking for it (`sslnegotiation=direct`, PG 17).
    pub(crate) direct: bool,
    /// Don't tell the host's name in the handshake (`sslsni=0`).
    pub(crate) without_sni: bool,
    /// Refuse TLS 1.2 (`ssl_min_protocol_version=TLSv1.3`).
    pub(crate) only_tls13: bool,
}

/// `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootCert {
    /// The authorities the operating system trusts.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// `sslmode`. `allow` is taken as `prefer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ChannelBindingMode {
    Disable,
    #[default]
    Prefer,
    Require,
}

/// `target_session_attrs`: which of several hosts will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetSession {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl ConnectionOptions {
    /// The database to connect to.
    pub fn database(&self) -> &str {
        &self.dbname
    }

    /// The role to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> ConnectionOptions {
        ConnectionOptions { dbname: database.to_owned(), ..self.clone() }
    }

    /// The same, under another name in `pg_stat_activity` and the server's log.
    pub fn with_application_name(&self, name: &str) -> ConnectionOptions {
        ConnectionOptions { application_name: name.to_owned(), ..self.clone() }
    }

    /// The password for `server`, from the string or from the file `passfile` names.
    pub(crate) fn password_for(&self, server: &Server) -> Option<SecretString> {
        match (&self.password, &self.passfile) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => passfile::find(file, server, &self.dbname, &self.user),
            (None, None) => None,
        }
    }

    /// The startup packet's `options`: the user's own, then the settings that the text of values
    /// and the life of our connections depend on. The later ones win.
    pub(crate) fn startup_options(&self) -> String {
        let space = if self.options.is_empty() { "" } else { " " };
        format!("{}{space}{}", self.options, session::PINNED_OPTIONS)
    }

    /// How messages call a server of this list.
    pub(crate) fn describe(&self, server: &Server) -> String {
        format!("{}@{server}/{}", self.user, self.dbname)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Local => write!(f, "localhost:{}", self.port),
            Host::Unix(directory) => write!(f, "{}:{}", directory.display(), self.port),
            Host::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Display for ConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        for (i, server) in self.servers.iter().enumerate() {
            write!(f, "{}{server}", if i == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.dbname)
    }
}

impl fmt::Debug for ConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionOptions")
            .field("servers", &self.servers)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "[redacted]"))
            .field("dbname", &self.dbname)
            .field("tls", &self.tls)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ConnectionOptions {
    fn eq(&self, other: &ConnectionOptions) -> bool {
        let secret =
            |o: &ConnectionOptions| o.password.as_ref().map(|p| p.expose_secret().to_owned());
        self.servers == other.servers
            && self.user == other.user
            && secret(self) == secret(other)
            && self.passfile == other.passfile
            && self.dbname == other.dbname
            && self.application_name == other.application_name
            && self.options == other.options
            && self.tls == other.tls
            && self.channel_binding == other.channel_binding
            && self.connect_timeout == other.connect_timeout
            && self.socket == other.socket
            && self.target == other.target
            && self.load_balance == other.load_balance
    }
}

impl Host {
    /// Resolves [`Host::Local`] to where a local server listens.
    pub(crate) fn local(port: u16) -> Host {
        let listens = |directory: &Path| directory.join(socket_name(port)).exists();
        match ["/var/run/postgresql", "/tmp"].map(Path::new).into_iter().find(|d| listens(d)) {
            Some(directory) => Host::Unix(directory.to_owned()),
            None => Host::Tcp { name: "localhost".to_owned(), address: None },
        }
    }
}

/// The file name of a server's unix socket.
pub(crate) fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}
