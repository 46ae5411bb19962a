//! From a connection string to a server that takes replication commands.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::auth::Login;
use super::commands::SLOT_LOCK_TIMEOUT;
use super::socket::{Socket, Transport};
use super::wire::{Doing, Reply, Wire};
use crate::postgres::connection::{
    ChannelBindingMode, ConnectionOptions, Host, Round, SessionState, SslMode, connect_error,
    socket_name, state_query, timeouts_query,
};
use crate::postgres::error::{PgError, ServerError, Stage};
use crate::postgres::tls::TlsSetup;

pub(super) const CONNECTING: Doing<'static> =
    Doing { stage: Stage::Connect, what: "could not connect to" };

/// Where `connect_timeout=0` asks for no limit at all.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection to a walsender that waits for commands. Blocking.
pub struct ReplicationClient {
    pub(super) wire: Wire,
    version_num: u32,
    pub(super) slot_lock_timeout: Duration,
}

impl ReplicationClient {
    /// Connects for logical replication to the first host that will do, with the settings pinned
    /// that the text of values depends on.
    ///
    /// # Errors
    ///
    /// Every host was tried, or one refused the login. The sentence names host, database and user.
    pub fn connect(options: &ConnectionOptions) -> Result<ReplicationClient, PgError> {
        let mut errors = Vec::new();
        for round in options.rounds() {
            match connect_to(options, &round) {
                Ok(client) => return Ok(client),
                Err(error) if error.is_login_refused() => return Err(error),
                Err(error) => errors.push(error),
            }
        }
        Err(connect_error(options, errors))
    }

    /// The server's version as a number, as in 150018 for 15.18; 0 where it doesn't say.
    pub fn server_version_num(&self) -> u32 {
        self.version_num
    }
}

fn connect_to(options: &ConnectionOptions, round: &Round) -> Result<ReplicationClient, PgError> {
    let deadline = Instant::now() + options.connect_timeout.unwrap_or(NO_LIMIT);
    let with_tls = options.wants_tls(&round.host);
    match attempt(options, round, with_tls, deadline) {
        Err(error) if with_tls && options.falls_back(&error) => {
            tracing::debug!(%error, "trying again without TLS");
            attempt(options, round, false, deadline).map_err(|_| error)
        }
        result => result,
    }
}

fn attempt(
    options: &ConnectionOptions,
    round: &Round,
    with_tls: bool,
    deadline: Instant,
) -> Result<ReplicationClient, PgError> {
    let peer = options.describe(&round.server);
    let failed =
        |error| PgError::io(format!("{} {peer}", CONNECTING.what), CONNECTING.stage, error);
    let setup = match (&round.host, with_tls) {
        (Host::Tcp { name, .. }, true) => Some(TlsSetup::load(&options.tls, name)?),
        _ => None,
    };
    let socket = dial(options, round, deadline).map_err(failed)?;
    let transport = match setup {
        Some(setup) => negotiate(options, socket, &setup, &peer, deadline)?,
        None => Transport::Plain(socket),
    };

    let mut wire = Wire::new(transport, peer);
    let mut packet = BytesMut::new();
    let startup_options = options.startup_options();
    let parameters = [
        ("user", options.user()),
        ("database", options.database()),
        ("replication", "database"),
        ("application_name", &options.application_name),
        ("client_encoding", "UTF8"),
        ("options", &startup_options),
    ];
    frontend::startup_message(parameters, &mut packet)
        .map_err(|_| PgError::invalid("the connection string contains a zero byte"))?;
    wire.send(&packet, CONNECTING)?;
    let login = Login {
        user: options.user(),
        password: options.password_for(&round.server),
        channel_binding: options.channel_binding,
        deadline,
    };
    login.run(&mut wire)?;
    until_ready(&mut wire, deadline)?;

    let version = wire.parameters().server_version.as_deref().unwrap_or_default();
    let mut client = ReplicationClient {
        version_num: version_num(version),
        slot_lock_timeout: SLOT_LOCK_TIMEOUT,
        wire,
    };
    client.check_target(options, round, deadline)?;
    client.query(timeouts_query(), CONNECTING, deadline)?;
    Ok(client)
}

fn dial(options: &ConnectionOptions, round: &Round, deadline: Instant) -> io::Result<Socket> {
    let port = round.server.port;
    match &round.host {
        Host::Unix(directory) => Socket::unix(&directory.join(socket_name(port)), deadline),
        Host::Tcp { address: Some(ip), .. } => Socket::tcp((*ip, port), &options.socket, deadline),
        Host::Tcp { name, .. } => Socket::tcp((name.as_str(), port), &options.socket, deadline),
        Host::Local => Socket::tcp(("localhost", port), &options.socket, deadline),
    }
}

/// Asks for TLS and does the handshake.
fn negotiate(
    options: &ConnectionOptions,
    socket: Socket,
    setup: &TlsSetup,
    peer: &str,
    deadline: Instant,
) -> Result<Transport, PgError> {
    let context = || format!("{} {peer}", CONNECTING.what);
    let failed = |error| PgError::io(context(), CONNECTING.stage, error);
    if options.tls.direct {
        return Transport::with_tls(socket, setup, deadline).map_err(failed);
    }
    let mut plain = Transport::Plain(socket);
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    plain.send(&request).map_err(failed)?;
    // One byte and no more: what follows it belongs to the handshake.
    let mut answer = [0];
    if plain.read(&mut answer, deadline).map_err(failed)? == 0 {
        return Err(PgError::closed(context(), CONNECTING.stage));
    }
    match (answer[0], plain) {
        (b'S', Transport::Plain(socket)) => {
            Transport::with_tls(socket, setup, deadline).map_err(failed)
        }
        (b'N', plain)
            if options.tls.mode == SslMode::Prefer
                && options.channel_binding != ChannelBindingMode::Require =>
        {
            Ok(plain)
        }
        (b'N', _) => Err(PgError::tls(
            context(),
            "the server has it switched off (ssl = off), but the connection string asks for it",
        )),
        // The text of an error that comes before encryption can't be trusted, so it isn't shown.
        _ => Err(PgError::protocol(
            context(),
            CONNECTING.stage,
            "it did not answer as a Postgres server does when asked for TLS",
        )),
    }
}

/// Takes what the server tells between the login and the first ReadyForQuery.
fn until_ready(wire: &mut Wire, deadline: Instant) -> Result<(), PgError> {
    loop {
        match wire.reply(deadline, CONNECTING)? {
            Reply::Message(Message::ReadyForQuery(_)) => return Ok(()),
            Reply::Message(Message::BackendKeyData(_)) => {}
            Reply::Message(Message::ErrorResponse(body)) => {
                let error = ServerError::parse(body.fields());
                return Err(PgError::server(wire.context(CONNECTING), CONNECTING.stage, error));
            }
            _ => return Err(wire.protocol(CONNECTING, "the server answered out of turn")),
        }
    }
}

impl ReplicationClient {
    fn check_target(
        &mut self,
        options: &ConnectionOptions,
        round: &Round,
        deadline: Instant,
    ) -> Result<(), PgError> {
        if !options.target.is_choosy() {
            return Ok(());
        }
        let parameters = self.wire.parameters();
        let state = match (&parameters.in_hot_standby, &parameters.read_only) {
            (Some(standby), Some(read_only)) => SessionState::new(standby, read_only),
            _ => {
                let rows = self.query(state_query(), CONNECTING, deadline)?;
                let column = |i: usize| match rows.first().and_then(|row| row.get(i)) {
                    Some(Some(value)) => String::from_utf8_lossy(value).into_owned(),
                    _ => String::new(),
                };
                SessionState::new(&column(0), &column(1))
            }
        };
        match options.target.objection(state, round.last) {
            Some(objection) => Err(PgError::unwanted(self.wire.context(CONNECTING), objection)),
            None => Ok(()),
        }
    }
}

/// `15.18 (Debian …)` is 150018, `18beta1` is 180000, `9.6.24` is 90624.
fn version_num(text: &str) -> u32 {
    let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u32>().unwrap_or(0).min(9_999));
    let mut part = || parts.next().unwrap_or(0);
    match part() {
        major if major >= 10 => major * 10_000 + part(),
        major => major * 10_000 + part() * 100 + part(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version_num("15.18 (Debian 15.18-0+deb12u1)"), 150_018);
        assert_eq!(version_num("18beta1"), 180_000);
        assert_eq!(version_num("9.6.24"), 90_624);
        assert_eq!(version_num("14.11 - Percona"), 140_011);
        assert_eq!(version_num(""), 0);
        assert_eq!(version_num("99999999999999999999"), 0);
    }
}
