//! Connections for queries: tokio-postgres over sockets and TLS of ours.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::ExposeSecret;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls, SimpleQueryMessage};

use super::socket::Socket;
use super::{
    ChannelBindingMode, ConnectionOptions, Host, Round, SessionState, SslMode, connect_error,
    socket_name, state_query, timeouts_query,
};
use crate::postgres::error::{PgError, Stage};
use crate::postgres::tls::{AsyncTls, TlsSetup};

/// A connection for queries.
pub type Client = tokio_postgres::Client;

/// Connects to the first host that will do and pins the session's settings. A task of its own
/// drives the connection until the [`Client`] is dropped.
///
/// # Errors
///
/// Every host was tried, or one refused the login. The sentence names host, database and user.
pub async fn connect(options: &ConnectionOptions) -> Result<Client, PgError> {
    connect_to_any(options, None).await
}

/// Like [`connect`]; wakes `heard` with each notification that comes, and at the connection's end.
///
/// # Errors
///
/// Those of [`connect`].
pub async fn connect_to_listen(
    options: &ConnectionOptions,
    heard: &Arc<Notify>,
) -> Result<Client, PgError> {
    connect_to_any(options, Some(heard)).await
}

async fn connect_to_any(
    options: &ConnectionOptions,
    heard: Option<&Arc<Notify>>,
) -> Result<Client, PgError> {
    let mut errors = Vec::new();
    for round in options.rounds() {
        match connect_to(options, &round, heard).await {
            Ok(client) => return Ok(client),
            Err(error) if error.is_login_refused() => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    Err(connect_error(options, errors))
}

async fn connect_to(
    options: &ConnectionOptions,
    round: &Round,
    heard: Option<&Arc<Notify>>,
) -> Result<Client, PgError> {
    let context = format!("could not connect to {}", options.describe(&round.server));
    let attempts = async {
        let with_tls = options.wants_tls(&round.host);
        match attempt(options, round, with_tls, &context, heard).await {
            Err(error) if with_tls && options.falls_back(&error) => {
                tracing::debug!(%error, "trying again without TLS");
                attempt(options, round, false, &context, heard).await.map_err(|_| error)
            }
            result => result,
        }
    };
    match options.connect_timeout {
        None => attempts.await,
        Some(limit) => match tokio::time::timeout(limit, attempts).await {
            Ok(result) => result,
            Err(_) => Err(PgError::timed_out(context, Stage::Connect)),
        },
    }
}

async fn attempt(
    options: &ConnectionOptions,
    round: &Round,
    with_tls: bool,
    context: &str,
    heard: Option<&Arc<Notify>>,
) -> Result<Client, PgError> {
    let setup = match (&round.host, with_tls) {
        (Host::Tcp { name, .. }, true) => {
            let (tls, name) = (options.tls.clone(), name.clone());
            // It reads certificate files.
            let load = tokio::task::spawn_blocking(move || TlsSetup::load(&tls, &name));
            let failed = || PgError::tls(context, "its setup was interrupted");
            Some(load.await.map_err(|_| failed())??)
        }
        _ => None,
    };
    let socket =
        dial(options, round).await.map_err(|error| PgError::io(context, Stage::Connect, error))?;
    let config = config(options, round, setup.is_some());
    let failed = |error| PgError::from_client(context, Stage::Connect, error);
    match setup {
        None => {
            let (client, connection) = config.connect_raw(socket, NoTls).await.map_err(failed)?;
            ready(options, round, context, client, connection, heard).await
        }
        Some(setup) => {
            let tls = AsyncTls::new(setup);
            let (client, connection) = config.connect_raw(socket, tls).await.map_err(failed)?;
            ready(options, round, context, client, connection, heard).await
        }
    }
}

/// Drives the connection, sees whether the server is of the wanted kind, and pins what the startup
/// packet could not.
async fn ready<T>(
    options: &ConnectionOptions,
    round: &Round,
    context: &str,
    client: Client,
    connection: Connection<Socket, T>,
    heard: Option<&Arc<Notify>>,
) -> Result<Client, PgError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = (
        connection.parameter("in_hot_standby").map(str::to_owned),
        connection.parameter("default_transaction_read_only").map(str::to_owned),
    );
    let heard = heard.cloned();
    tokio::spawn(async move {
        if let Err(error) = drive(connection, heard.as_deref()).await {
            tracing::debug!(%error, "a database connection ended");
        }
        if let Some(heard) = heard {
            heard.notify_one();
        }
    });
    let failed = |error| PgError::from_client(context, Stage::Connect, error);
    if options.target.is_choosy() {
        let state = match state {
            (Some(standby), Some(read_only)) => SessionState::new(&standby, &read_only),
            _ => {
                let rows = client.simple_query(state_query()).await.map_err(failed)?;
                let row = rows.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                let column = |i| row.and_then(|row| row.try_get(i).ok().flatten());
                SessionState::new(column(0).unwrap_or_default(), column(1).unwrap_or_default())
            }
        };
        if let Some(objection) = options.target.objection(state, round.last) {
            return Err(PgError::unwanted(context, objection));
        }
    }
    client.batch_execute(timeouts_query()).await.map_err(failed)?;
    Ok(client)
}

/// Runs the connection to its end.
async fn drive<T>(
    mut connection: Connection<Socket, T>,
    heard: Option<&Notify>,
) -> Result<(), tokio_postgres::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let Some(heard) = heard else { return connection.await };
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(_) = message? {
            heard.notify_one();
        }
    }
    Ok(())
}

fn config(options: &ConnectionOptions, round: &Round, with_tls: bool) -> Config {
    use tokio_postgres::config;

    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(options.database())
        .application_name(&options.application_name)
        .options(options.startup_options())
        .ssl_mode(match options.tls.mode {
            _ if !with_tls => config::SslMode::Disable,
            SslMode::Prefer => config::SslMode::Prefer,
            _ => config::SslMode::Require,
        })
        .ssl_negotiation(match options.tls.direct {
            true => config::SslNegotiation::Direct,
            false => config::SslNegotiation::Postgres,
        })
        .channel_binding(match options.channel_binding {
            ChannelBindingMode::Disable => config::ChannelBinding::Disable,
            ChannelBindingMode::Prefer => config::ChannelBinding::Prefer,
            ChannelBindingMode::Require => config::ChannelBinding::Require,
        });
    if let Some(password) = options.password_for(&round.server) {
        config.password(password.expose_secret());
    }
    config
}

async fn dial(options: &ConnectionOptions, round: &Round) -> io::Result<Socket> {
    let port = round.server.port;
    let (name, address) = match &round.host {
        Host::Unix(directory) => {
            return UnixStream::connect(directory.join(socket_name(port))).await.map(Socket::Unix);
        }
        Host::Local => ("localhost", None),
        Host::Tcp { name, address } => (name.as_str(), *address),
    };
    let addresses: Vec<SocketAddr> = match address {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => tokio::net::lookup_host((name, port)).await?.collect(),
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host's name has no address");
    let deadline = options.connect_timeout.map(|limit| Instant::now() + limit);
    for (tried, address) in addresses.iter().enumerate() {
        let connected = TcpStream::connect(address);
        let connected = match deadline.map(|deadline| deadline - Instant::now()) {
            None => connected.await,
            // What does not answer must leave time for the others.
            Some(left) => timeout(left / (addresses.len() - tried) as u32, connected)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match connected {
            Ok(stream) => {
                options.socket.apply(SockRef::from(&stream))?;
                return Ok(Socket::Tcp(stream));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
