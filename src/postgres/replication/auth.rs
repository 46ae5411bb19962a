//! Logging in
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>).

use std::time::Instant;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secrecy::{ExposeSecret, SecretString};

use super::startup::CONNECTING;
use super::wire::{Reply, Wire};
use crate::postgres::connection::ChannelBindingMode;
use crate::postgres::error::{NO_PASSWORD, PgError, ServerError};

/// Who wants in, and on which terms.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: Option<SecretString>,
    pub(super) channel_binding: ChannelBindingMode,
    pub(super) deadline: Instant,
}

impl Login<'_> {
    /// Answers whatever the server asks until it lets us in.
    pub(super) fn run(&self, wire: &mut Wire) -> Result<(), PgError> {
        match self.message(wire)? {
            Message::AuthenticationOk => self.without_binding(wire),
            Message::AuthenticationCleartextPassword => {
                self.without_binding(wire)?;
                let password = self.password(wire)?;
                self.send(wire, |buf| {
                    frontend::password_message(password.expose_secret().as_bytes(), buf)
                })?;
                self.accepted(wire)
            }
            Message::AuthenticationMd5Password(body) => {
                self.without_binding(wire)?;
                let password = self.password(wire)?.expose_secret().as_bytes();
                let hash = md5_hash(self.user.as_bytes(), password, body.salt());
                self.send(wire, |buf| frontend::password_message(hash.as_bytes(), buf))?;
                self.accepted(wire)
            }
            Message::AuthenticationSasl(body) => {
                self.scram(wire, &body)?;
                self.accepted(wire)
            }
            Message::AuthenticationGss | Message::AuthenticationSspi => Err(self.refuse(
                wire,
                "the server asks for Kerberos (GSSAPI), which walhook does not speak; let \
                 pg_hba.conf ask for scram-sha-256",
            )),
            _ => Err(self.refuse(
                wire,
                "the server asks for a kind of authentication that walhook does not speak; let \
                 pg_hba.conf ask for scram-sha-256",
            )),
        }
    }

    /// SCRAM (RFC 5802, RFC 7677), with channel binding where both sides can.
    fn scram(&self, wire: &mut Wire, body: &AuthenticationSaslBody) -> Result<(), PgError> {
        let offered: Vec<&str> = match body.mechanisms().collect() {
            Ok(offered) => offered,
            Err(_) => return Err(self.refuse(wire, "the server's list of mechanisms is broken")),
        };
        let certificate_hash = match self.channel_binding {
            ChannelBindingMode::Disable => None,
            _ => wire.transport().server_end_point(),
        };
        let (mechanism, binding) = match certificate_hash {
            Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash))
            }
            _ if !offered.contains(&SCRAM_SHA_256) => {
                return Err(self.refuse(wire, "the server offers no SCRAM mechanism we speak"));
            }
            // We could and the server says it couldn't: it will notice if somebody else said so
            // in its name.
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if mechanism != SCRAM_SHA_256_PLUS {
            self.without_binding(wire)?;
        }
        let password = self.password(wire)?;
        let mut scram = ScramSha256::new(password.expose_secret().as_bytes(), binding);
        self.send(wire, |buf| frontend::sasl_initial_response(mechanism, scram.message(), buf))?;
        let Message::AuthenticationSaslContinue(body) = self.message(wire)? else {
            return Err(self.out_of_turn(wire));
        };
        let broken = |error: std::io::Error| format!("the SCRAM exchange failed: {error}");
        scram.update(body.data()).map_err(|error| self.refuse(wire, broken(error)))?;
        self.send(wire, |buf| frontend::sasl_response(scram.message(), buf))?;
        // Without this message the server has not proven that it knows the password.
        let Message::AuthenticationSaslFinal(body) = self.message(wire)? else {
            return Err(self.out_of_turn(wire));
        };
        scram.finish(body.data()).map_err(|error| self.refuse(wire, broken(error)))
    }

    fn accepted(&self, wire: &mut Wire) -> Result<(), PgError> {
        match self.message(wire)? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(self.out_of_turn(wire)),
        }
    }

    fn message(&self, wire: &mut Wire) -> Result<Message, PgError> {
        match wire.reply(self.deadline, CONNECTING)? {
            Reply::Message(Message::ErrorResponse(body)) => {
                let error = ServerError::parse(body.fields());
                Err(PgError::server(wire.context(CONNECTING), CONNECTING.stage, error))
            }
            Reply::Message(message) => Ok(message),
            Reply::CopyBoth => Err(self.out_of_turn(wire)),
        }
    }

    fn send(
        &self,
        wire: &mut Wire,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), PgError> {
        let mut buf = BytesMut::new();
        if write(&mut buf).is_err() {
            return Err(self.refuse(wire, "the password contains a zero byte"));
        }
        wire.send(&buf, CONNECTING)
    }

    fn password(&self, wire: &Wire) -> Result<&SecretString, PgError> {
        self.password.as_ref().ok_or_else(|| self.refuse(wire, NO_PASSWORD))
    }

    /// Goes on without channel binding, unless it is required.
    fn without_binding(&self, wire: &Wire) -> Result<(), PgError> {
        if self.channel_binding != ChannelBindingMode::Require {
            return Ok(());
        }
        let why = match wire.transport().is_tls() {
            true => "channel_binding=require, but the server does not offer it for this login",
            false => "channel_binding=require, but the connection has no TLS",
        };
        Err(self.refuse(wire, why))
    }

    fn out_of_turn(&self, wire: &Wire) -> PgError {
        self.refuse(wire, "the server answered out of turn while logging in")
    }

    fn refuse(&self, wire: &Wire, problem: impl Into<String>) -> PgError {
        PgError::login(wire.context(CONNECTING), problem)
    }
}
