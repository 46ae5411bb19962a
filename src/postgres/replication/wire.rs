//! Messages to and from the server.

use std::time::Instant;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use super::buffer::{Frame, ReceiveBuffer};
use super::socket::Transport;
use crate::postgres::error::{PgError, Stage};

/// The largest message outside of streaming: errors, rows of commands, a timeline's history.
const MAX_CONTROL_BYTES: usize = 1024 * 1024;

/// How often the server may chat (notices, settings) before it answers.
const MAX_ASIDES: usize = 10_000;

/// One connection: a transport, what has come in, and whose it is.
pub(super) struct Wire {
    transport: Transport,
    buffer: ReceiveBuffer,
    /// `user@host:port/database`, for errors.
    peer: String,
    parameters: Parameters,
}

/// What the server says about itself without being asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub(super) server_version: Option<String>,
    pub(super) in_hot_standby: Option<String>,
    pub(super) read_only: Option<String>,
}

/// What is being done, for errors: a stage and the beginning of a sentence, which the peer's name
/// completes ("could not connect to").
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing<'a> {
    pub(super) stage: Stage,
    pub(super) what: &'a str,
}

/// An answer of the server.
pub(super) enum Reply {
    Message(Message),
    /// Both sides stream from now on; postgres-protocol doesn't know this one.
    CopyBoth,
}

impl Wire {
    pub(super) fn new(transport: Transport, peer: String) -> Wire {
        Wire { transport, buffer: ReceiveBuffer::new(), peer, parameters: Parameters::default() }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn buffer(&self) -> &ReceiveBuffer {
        &self.buffer
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The beginning of an error's sentence.
    pub(super) fn context(&self, doing: Doing<'_>) -> String {
        format!("{} {}", doing.what, self.peer)
    }

    pub(super) fn protocol(&self, doing: Doing<'_>, problem: impl Into<String>) -> PgError {
        PgError::protocol(self.context(doing), doing.stage, problem)
    }

    /// Sends messages that are complete.
    pub(super) fn send(&mut self, bytes: &[u8], doing: Doing<'_>) -> Result<(), PgError> {
        match self.transport.send(bytes) {
            Ok(()) => Ok(()),
            Err(error) => Err(PgError::io(self.context(doing), doing.stage, error)),
        }
    }

    /// The next frame, or `None` when `deadline` passes first.
    #[inline]
    pub(super) fn frame(
        &mut self,
        deadline: Instant,
        limit: usize,
        doing: Doing<'_>,
    ) -> Result<Option<Frame>, PgError> {
        loop {
            match self.buffer.take_frame(limit) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(bad) => {
                    let problem = format!("the server sent a message of {} bytes", bad.0);
                    return Err(self.protocol(doing, problem));
                }
            }
            if !self.receive(deadline, doing)? {
                return Ok(None);
            }
        }
    }

    /// Reads once; `false` when `deadline` passed with nothing.
    fn receive(&mut self, deadline: Instant, doing: Doing<'_>) -> Result<bool, PgError> {
        let transport = &mut self.transport;
        match self.buffer.fill(|room| transport.read(room, deadline)) {
            Ok(0) => Err(PgError::closed(self.context(doing), doing.stage)),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.buffer.shrink();
                Ok(false)
            }
            Err(error) => Err(PgError::io(self.context(doing), doing.stage, error)),
        }
    }

    /// The next answer outside of streaming. Notices, notifications and settings are taken note of
    /// on the way.
    pub(super) fn reply(&mut self, deadline: Instant, doing: Doing<'_>) -> Result<Reply, PgError> {
        for _ in 0..MAX_ASIDES {
            let Some(frame) = self.frame(deadline, MAX_CONTROL_BYTES, doing)? else {
                return Err(PgError::timed_out(self.context(doing), doing.stage));
            };
            if frame.tag == b'W' {
                return Ok(Reply::CopyBoth);
            }
            // With its tag and length, which end where the body begins.
            let mut whole = BytesMut::from(self.buffer.bytes(frame.body.start - 5..frame.body.end));
            match Message::parse(&mut whole) {
                Ok(Some(Message::NoticeResponse(_) | Message::NotificationResponse(_))) => {}
                Ok(Some(Message::ParameterStatus(body))) => {
                    if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
                        self.parameters.set(name, value);
                    }
                }
                Ok(Some(message)) => return Ok(Reply::Message(message)),
                Ok(None) => return Err(self.protocol(doing, "the server sent half a message")),
                Err(error) => {
                    let problem = format!("the server broke the protocol ({error})");
                    return Err(self.protocol(doing, problem));
                }
            }
        }
        Err(self.protocol(doing, "the server keeps sending notices instead of an answer"))
    }
}

impl Parameters {
    fn set(&mut self, name: &str, value: &str) {
        let parameter = match name {
            "server_version" => &mut self.server_version,
            "in_hot_standby" => &mut self.in_hot_standby,
            "default_transaction_read_only" => &mut self.read_only,
            _ => return,
        };
        *parameter = Some(value.to_owned());
    }
}

impl Drop for Wire {
    /// Says goodbye (Terminate), so that the server's log doesn't complain.
    fn drop(&mut self) {
        let _ = self.transport.send(&[b'X', 0, 0, 0, 4]);
    }
}
