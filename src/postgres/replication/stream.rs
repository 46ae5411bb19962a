//! The stream itself: the hot path.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::buffer::MAX_FRAME_BYTES;
use super::wire::{Doing, Wire};
use crate::postgres::error::{PgError, ServerError, Stage};
use crate::postgres::lsn::Lsn;

/// From the Unix epoch to Postgres's, 2000-01-01, in microseconds.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// How long the server may take to end the stream when asked.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A slot's changes as they come. Blocking.
///
/// Messages borrow from the receive buffer, which holds one until the next call: nothing is copied
/// or allocated for a message. The buffer grows for a row larger than 256 KiB and shrinks after.
pub struct ReplicationStream {
    wire: Wire,
    /// The beginning of an error's sentence.
    what: String,
}

/// What the server sends
/// (<https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-XLOGDATA>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationMessage<'a> {
    /// One message of the output plugin.
    XLogData {
        /// Where the record begins that it is made from; zero for Relation and Type messages.
        wal_start: Lsn,
        /// The same again, for logical replication.
        wal_end: Lsn,
        /// When it was sent, in microseconds since the Unix epoch by the server's clock.
        sent_at_us: i64,
        /// What [`pgoutput::decode`](crate::postgres::pgoutput) reads.
        data: &'a [u8],
    },
    /// A sign of life.
    Keepalive {
        /// Up to where the server has looked through the log for this slot: nothing that is to be
        /// sent lies before it that was not sent before.
        wal_end: Lsn,
        /// When it was sent, in microseconds since the Unix epoch by the server's clock.
        sent_at_us: i64,
        /// Whether the server wants a status update at once.
        reply_requested: bool,
    },
}

/// What the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Up to where everything was received.
    pub received_lsn: Lsn,
    /// Up to where everything is durable: the slot forgets what lies before.
    pub flushed_lsn: Lsn,
    /// Up to where everything is applied.
    pub applied_lsn: Lsn,
    /// Asks for a keepalive in return.
    pub reply_requested: bool,
}

impl ReplicationStream {
    pub(super) fn new(wire: Wire, slot: &str) -> ReplicationStream {
        let what = format!("the stream of the replication slot {slot:?} was interrupted as");
        ReplicationStream { wire, what }
    }

    /// The next message, waiting for it until `deadline` at most: `None` when that has passed.
    /// With a deadline in the past it still takes what has come in already.
    ///
    /// # Errors
    ///
    /// The connection or the server ended, or the server sent what the protocol doesn't know. The
    /// stream is of no use afterwards.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<ReplicationMessage<'_>>, PgError> {
        loop {
            let doing = Doing { stage: Stage::Stream, what: &self.what };
            let Some(frame) = self.wire.frame(deadline, MAX_FRAME_BYTES, doing)? else {
                return Ok(None);
            };
            match frame.tag {
                b'd' => {
                    return match parse(self.wire.buffer().bytes(frame.body)) {
                        Some(message) => Ok(Some(message)),
                        None => Err(self.wire.protocol(doing, "the server sent a broken message")),
                    };
                }
                // From 18 on the server but warns when the publication is missing at this point of
                // the log, and goes on without its changes.
                b'N' => {
                    let notice = server_error(self.wire.buffer().bytes(frame.body));
                    let notice = PgError::server(self.wire.context(doing), doing.stage, notice);
                    if notice.is_publication_missing() {
                        return Err(notice);
                    }
                }
                // A setting that changed, a notification.
                b'S' | b'A' => {}
                b'E' => {
                    let error = server_error(self.wire.buffer().bytes(frame.body));
                    return Err(PgError::server(self.wire.context(doing), doing.stage, error));
                }
                // The server ends the stream before it shuts down.
                b'c' | b'C' | b'Z' => {
                    return Err(PgError::closed(self.wire.context(doing), doing.stage));
                }
                tag => {
                    let problem = format!("the server sent an unknown message (tag {tag})");
                    return Err(self.wire.protocol(doing, problem));
                }
            }
        }
    }

    /// Whether a whole message lies in the buffer already, so that [`next`](Self::next) will not
    /// touch the socket.
    pub fn has_buffered(&self) -> bool {
        self.wire.buffer().has_frame()
    }

    /// How many bytes came with the last read from the socket.
    pub fn last_read_bytes(&self) -> usize {
        self.wire.buffer().last_read_bytes()
    }

    /// Tells the server how far we are. It has to hear from us every now and then
    /// (`wal_sender_timeout`), whether or not anything comes in.
    pub fn send_status(&mut self, status: StatusUpdate) -> Result<(), PgError> {
        let doing = Doing { stage: Stage::Stream, what: &self.what };
        self.wire.send(&status_message(status, now_us()), doing)
    }

    /// Ends the stream in good order: what was sent before reaches the server.
    pub fn finish(mut self) -> Result<(), PgError> {
        let doing = Doing { stage: Stage::Stream, what: &self.what };
        let deadline = Instant::now() + FINISH_TIMEOUT;
        self.wire.send(&[b'c', 0, 0, 0, 4], doing)?;
        // A large transaction is sent to its end first; it isn't worth waiting for.
        while Instant::now() < deadline {
            let Some(frame) = self.wire.frame(deadline, MAX_FRAME_BYTES, doing)? else { break };
            match frame.tag {
                b'Z' => return Ok(()),
                b'E' => {
                    let error = server_error(self.wire.buffer().bytes(frame.body));
                    return Err(PgError::server(self.wire.context(doing), doing.stage, error));
                }
                _ => {}
            }
        }
        Err(PgError::timed_out(self.wire.context(doing), doing.stage))
    }
}

/// Reads the body of a CopyData frame.
#[inline]
fn parse(body: &[u8]) -> Option<ReplicationMessage<'_>> {
    match body.split_first()? {
        (b'w', rest) => {
            let (wal_start, rest) = take_u64(rest)?;
            let (wal_end, rest) = take_u64(rest)?;
            let (sent_at, data) = take_u64(rest)?;
            Some(ReplicationMessage::XLogData {
                wal_start: Lsn(wal_start),
                wal_end: Lsn(wal_end),
                sent_at_us: unix_us(sent_at),
                data,
            })
        }
        (b'k', rest) => {
            let (wal_end, rest) = take_u64(rest)?;
            let (sent_at, rest) = take_u64(rest)?;
            let [reply_requested] = rest else { return None };
            Some(ReplicationMessage::Keepalive {
                wal_end: Lsn(wal_end),
                sent_at_us: unix_us(sent_at),
                reply_requested: *reply_requested != 0,
            })
        }
        _ => None,
    }
}

#[inline]
fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*value), rest))
}

fn unix_us(postgres_us: u64) -> i64 {
    (postgres_us as i64).saturating_add(POSTGRES_EPOCH_US)
}

fn now_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// A CopyData frame with a standby status update in it.
fn status_message(status: StatusUpdate, now_us: i64) -> [u8; 39] {
    let mut message = [0; 39];
    message[0] = b'd';
    message[1..5].copy_from_slice(&38_u32.to_be_bytes());
    message[5] = b'r';
    message[6..14].copy_from_slice(&status.received_lsn.0.to_be_bytes());
    message[14..22].copy_from_slice(&status.flushed_lsn.0.to_be_bytes());
    message[22..30].copy_from_slice(&status.applied_lsn.0.to_be_bytes());
    message[30..38].copy_from_slice(&(now_us - POSTGRES_EPOCH_US).to_be_bytes());
    message[38] = u8::from(status.reply_requested);
    message
}

/// Errors and notices have the same fields.
fn server_error(body: &[u8]) -> ServerError {
    use bytes::{BufMut, BytesMut};
    use postgres_protocol::message::backend::Message;

    let mut whole = BytesMut::with_capacity(body.len() + 5);
    whole.put_u8(b'E');
    whole.put_u32(body.len() as u32 + 4);
    whole.extend_from_slice(body);
    match Message::parse(&mut whole) {
        Ok(Some(Message::ErrorResponse(body))) => ServerError::parse(body.fields()),
        _ => ServerError::default(),
    }
}
