//! What each key of a connection string means.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use super::conninfo::{self, Pair, shown};
use super::{
    ChannelBindingMode, ConnectionOptions, Host, RootCert, Server, SocketOptions, SslMode,
    TargetSession, TlsOptions,
};
use crate::postgres::error::PgError;

const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "passfile",
    "dbname",
    "application_name",
    "fallback_application_name",
    "options",
    "connect_timeout",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "sslsni",
    "ssl_min_protocol_version",
    "channel_binding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "target_session_attrs",
    "load_balance_hosts",
    "client_encoding",
    "gssencmode",
    "replication",
    "sslcompression",
];

/// Keys of libpq that change who is trusted or how; ignoring them would be wrong.
const UNSUPPORTED: &[&str] = &[
    "service",
    "servicefile",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "sslcertmode",
    "requirepeer",
    "require_auth",
    "requiressl",
    "ssl_max_protocol_version",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "min_protocol_version",
    "max_protocol_version",
    "scram_client_key",
    "scram_server_key",
    "sslkeylogfile",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
];

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings as they come, before they are checked against each other.
#[derive(Default)]
struct Raw {
    host: String,
    hostaddr: String,
    port: String,
    user: Option<String>,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
    dbname: Option<String>,
    application_name: Option<String>,
    fallback_application_name: Option<String>,
    options: String,
    connect_timeout: Option<Option<Duration>>,
    ssl_mode: Option<SslMode>,
    tls: TlsOptions,
    channel_binding: ChannelBindingMode,
    socket: SocketOptions,
    target: TargetSession,
    load_balance: bool,
}

impl FromStr for ConnectionOptions {
    type Err = PgError;

    /// # Errors
    ///
    /// One sentence that names the key and what it takes; it never quotes a value that could be
    /// (part of) a password.
    fn from_str(text: &str) -> Result<ConnectionOptions, PgError> {
        let mut raw = Raw::default();
        for pair in conninfo::parse(text)? {
            if !pair.value.is_empty() || pair.key == "password" {
                raw.set(pair)?;
            } else if !KNOWN.contains(&pair.key.as_str()) {
                return Err(unknown(&pair));
            }
        }
        raw.build()
    }
}

impl Raw {
    fn set(&mut self, pair: Pair) -> Result<(), PgError> {
        let Pair { ref key, ref value, .. } = pair;
        let text = || value.clone();
        match key.as_str() {
            "host" => self.host = text(),
            "hostaddr" => self.hostaddr = text(),
            "port" => self.port = text(),
            "user" => self.user = Some(text()),
            "password" => {
                self.password = Some(value.as_str()).filter(|p| !p.is_empty()).map(Into::into);
            }
            "passfile" => self.passfile = Some(value.into()),
            "dbname" => self.dbname = Some(text()),
            "application_name" => self.application_name = Some(text()),
            "fallback_application_name" => self.fallback_application_name = Some(text()),
            "options" => self.options = startup_options(value)?,
            "connect_timeout" => {
                let seconds = number(key, value, i32::MAX as u32)?;
                let timeout = Duration::from_secs(u64::from(seconds));
                self.connect_timeout = Some(Some(timeout).filter(|t| !t.is_zero()));
            }
            "target_session_attrs" => self.target = choose(key, value, TARGETS)?,
            "load_balance_hosts" => {
                self.load_balance = choose(key, value, &[("disable", false), ("random", true)])?;
            }
            "channel_binding" => self.channel_binding = choose(key, value, CHANNEL_BINDINGS)?,
            // Ours to decide: values are always asked for in UTF-8, and which of our connections
            // replicates we know.
            "client_encoding" => {
                choose(key, &value.to_lowercase(), &[("utf8", ()), ("utf-8", ()), ("auto", ())])?;
            }
            "replication" | "sslcompression" => {}
            "gssencmode" => choose(key, value, &[("disable", ()), ("prefer", ())])?,
            key if key.starts_with("ssl") => return self.set_tls(&pair),
            key if key.starts_with("keepalives") || key == "tcp_user_timeout" => {
                return self.set_socket(&pair);
            }
            _ => return Err(unknown(&pair)),
        }
        Ok(())
    }

    fn set_tls(&mut self, pair: &Pair) -> Result<(), PgError> {
        let Pair { key, value, .. } = pair;
        match key.as_str() {
            "sslmode" => self.ssl_mode = Some(choose(key, value, SSL_MODES)?),
            "sslrootcert" if value == "system" => self.tls.root_cert = Some(RootCert::System),
            "sslrootcert" => self.tls.root_cert = Some(RootCert::File(value.into())),
            "sslcert" => self.tls.cert = Some(value.into()),
            "sslkey" => self.tls.key = Some(value.into()),
            "sslnegotiation" => {
                self.tls.direct = choose(key, value, &[("postgres", false), ("direct", true)])?;
            }
            "sslsni" => self.tls.without_sni = choose(key, value, &[("1", false), ("0", true)])?,
            "ssl_min_protocol_version" => {
                let versions =
                    [("TLSv1", false), ("TLSv1.1", false), ("TLSv1.2", false), ("TLSv1.3", true)];
                self.tls.only_tls13 = choose(key, value, &versions)?;
            }
            _ => return Err(unknown(pair)),
        }
        Ok(())
    }

    fn set_socket(&mut self, pair: &Pair) -> Result<(), PgError> {
        let Pair { key, value, .. } = pair;
        let seconds = || {
            // What Linux takes at most.
            let seconds = number(key, value, 32_767)?;
            Ok::<_, PgError>(
                Some(seconds).filter(|s| *s > 0).map(|s| Duration::from_secs(u64::from(s))),
            )
        };
        match key.as_str() {
            "keepalives" => {
                self.socket.keepalives = choose(key, value, &[("1", true), ("0", false)])?;
            }
            "keepalives_idle" => self.socket.idle = seconds()?,
            "keepalives_interval" => self.socket.interval = seconds()?,
            "keepalives_count" => {
                self.socket.count = Some(number(key, value, 127)?).filter(|n| *n > 0);
            }
            "tcp_user_timeout" => {
                let timeout_ms = number(key, value, i32::MAX as u32)?;
                let timeout = Duration::from_millis(u64::from(timeout_ms));
                self.socket.user_timeout = Some(timeout).filter(|t| !t.is_zero());
            }
            _ => return Err(unknown(pair)),
        }
        Ok(())
    }

    fn build(mut self) -> Result<ConnectionOptions, PgError> {
        self.check_tls()?;
        let servers = self.servers()?;
        let user = match self.user {
            Some(user) => user,
            None => ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
                .ok_or_else(|| PgError::invalid("the connection string names no user"))?,
        };
        Ok(ConnectionOptions {
            servers,
            dbname: self.dbname.unwrap_or_else(|| user.clone()),
            user,
            password: self.password,
            passfile: self.passfile,
            application_name: self
                .application_name
                .or(self.fallback_application_name)
                .unwrap_or_else(|| "walhook".to_owned()),
            options: self.options,
            tls: self.tls,
            channel_binding: self.channel_binding,
            connect_timeout: self.connect_timeout.unwrap_or(Some(DEFAULT_CONNECT_TIMEOUT)),
            socket: self.socket,
            target: self.target,
            load_balance: self.load_balance,
        })
    }

    fn check_tls(&mut self) -> Result<(), PgError> {
        let tls = &mut self.tls;
        let system = tls.root_cert == Some(RootCert::System);
        tls.mode = match self.ssl_mode {
            Some(mode) => mode,
            None if system => SslMode::VerifyFull,
            None => SslMode::default(),
        };
        let problem = if system && tls.mode != SslMode::VerifyFull {
            "sslrootcert=system needs sslmode=verify-full: anybody can get a certificate of a \
             public authority for a name of their own"
        } else if tls.mode == SslMode::VerifyCa && tls.root_cert.is_none() {
            "sslmode=verify-ca needs sslrootcert, the file with your authority's certificate; or \
             use sslmode=verify-full"
        } else if tls.cert.is_some() != tls.key.is_some() {
            "sslcert and sslkey go together: set both or neither"
        } else if tls.direct && matches!(tls.mode, SslMode::Disable | SslMode::Prefer) {
            "sslnegotiation=direct needs sslmode=require or stricter"
        } else if self.channel_binding == ChannelBindingMode::Require
            && tls.mode == SslMode::Disable
        {
            "channel_binding=require needs TLS, but sslmode=disable switches it off"
        } else {
            return Ok(());
        };
        Err(PgError::invalid(problem))
    }

    /// Joins the lists of hosts, addresses and ports, which may each be empty.
    fn servers(&self) -> Result<Vec<Server>, PgError> {
        let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        let (hosts, addresses, ports) = (list(&self.host), list(&self.hostaddr), list(&self.port));
        let count = if self.host.is_empty() { addresses.len() } else { hosts.len() };
        if !self.hostaddr.is_empty() && addresses.len() != count {
            return Err(PgError::invalid(
                "the connection string has not as many addresses in `hostaddr` as hosts in `host`",
            ));
        }
        if ports.len() != count && ports.len() != 1 {
            return Err(PgError::invalid(
                "the connection string has neither one port nor as many ports as hosts",
            ));
        }
        (0..count)
            .map(|i| {
                let host = hosts.get(i).map(String::as_str).unwrap_or_default();
                let address = addresses.get(i).map(String::as_str).unwrap_or_default();
                let port = ports.get(i).or(ports.first()).map(String::as_str).unwrap_or_default();
                Ok(Server { host: host_of(host, address)?, port: port_of(port)? })
            })
            .collect()
    }
}

fn host_of(host: &str, address: &str) -> Result<Host, PgError> {
    if host.starts_with('/') {
        return Ok(Host::Unix(PathBuf::from(host)));
    }
    if host.starts_with('@') {
        return Err(PgError::invalid("abstract unix sockets (a host with `@`) are not supported"));
    }
    let address = match address {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            PgError::invalid("`hostaddr` in the connection string is not an IP address")
        })?),
    };
    Ok(match (host, address) {
        ("", None) => Host::Local,
        ("", Some(ip)) => Host::Tcp { name: std::net::IpAddr::to_string(&ip), address },
        (name, address) => Host::Tcp { name: name.to_owned(), address },
    })
}

fn port_of(text: &str) -> Result<u16, PgError> {
    match text.trim() {
        "" => Ok(DEFAULT_PORT),
        text => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            PgError::invalid("a port in the connection string is not between 1 and 65535")
        }),
    }
}

/// A trailing backslash would swallow the space before our own options.
fn startup_options(value: &str) -> Result<String, PgError> {
    let backslashes = value.bytes().rev().take_while(|b| *b == b'\\').count();
    if backslashes % 2 == 1 {
        return Err(PgError::invalid("`options` in the connection string ends in a backslash"));
    }
    Ok(value.to_owned())
}

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Prefer),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

const CHANNEL_BINDINGS: &[(&str, ChannelBindingMode)] = &[
    ("disable", ChannelBindingMode::Disable),
    ("prefer", ChannelBindingMode::Prefer),
    ("require", ChannelBindingMode::Require),
];

const TARGETS: &[(&str, TargetSession)] = &[
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

fn choose<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, PgError> {
    match choices.iter().find(|(name, _)| *name == value) {
        Some((_, chosen)) => Ok(*chosen),
        None => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Err(PgError::invalid(format!(
                "`{key}` in the connection string must be one of {}",
                names.join(", ")
            )))
        }
    }
}

fn number(key: &str, value: &str, max: u32) -> Result<u32, PgError> {
    value.trim().parse().ok().filter(|n| *n <= max).ok_or_else(|| {
        PgError::invalid(format!("`{key}` in the connection string must be between 0 and {max}"))
    })
}

fn unknown(pair: &Pair) -> PgError {
    let key = pair.key.as_str();
    if UNSUPPORTED.contains(&key) {
        return PgError::invalid(format!(
            "`{key}` in the connection string is not supported by walhook: remove it"
        ));
    }
    let near = KNOWN
        .iter()
        .map(|known| (strsim::jaro_winkler(known, &key.to_lowercase()), *known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7)
        .map(|(_, known)| format!(": did you mean `{known}`?"))
        .unwrap_or_default();
    if pair.doubtful {
        return PgError::invalid(
            "the connection string has an unknown key after the password: a password with \
             spaces needs single quotes",
        );
    }
    PgError::invalid(format!("unknown key `{}` in the connection string{near}", shown(key)))
}
