//! The messages of pgoutput, the server's logical replication format, protocol version 1
//! (<https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>).
//!
//! Decoding does no I/O, copies nothing and allocates nothing: a [`LogicalMessage`] borrows from
//! the bytes it was decoded from. Whatever those bytes are, decoding ends with a message or with a
//! [`DecodeError`]. Streaming of open transactions and two-phase commit belong to later protocol
//! versions and are refused as unknown messages, and so are binary values, which walhook never
//! asks for.

mod error;
mod reader;
mod relation_message;
mod repair;
mod tuple;

#[cfg(test)]
pub(crate) mod encode;
#[cfg(test)]
mod tests;

pub use error::DecodeError;
pub use relation_message::{RelationColumn, RelationColumns, RelationMessage};
pub use repair::with_valid_names;
pub use tuple::{OldTuple, TupleData, TupleValue, TupleValues};

use super::lsn::Lsn;
use super::relation::RelationId;
use error::Kind;
use reader::Reader;

/// Microseconds from the Unix epoch to Postgres's, 2000-01-01 00:00:00 UTC.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// One message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicalMessage<'a> {
    /// A committed transaction begins; all its changes follow.
    Begin {
        /// Where its commit record starts.
        final_lsn: Lsn,
        /// When it was committed, in microseconds since the Unix epoch.
        committed_at_us: i64,
        /// Its transaction id.
        xid: u32,
    },
    /// The transaction is complete.
    Commit {
        /// Where its commit record starts.
        commit_lsn: Lsn,
        /// Where its commit record ends: what may be acknowledged once the transaction is kept.
        end_lsn: Lsn,
        /// When it was committed, in microseconds since the Unix epoch.
        committed_at_us: i64,
    },
    /// The transaction was replicated from elsewhere.
    Origin {
        /// Where it was committed on the server it came from.
        commit_lsn: Lsn,
        /// The origin's name.
        name: &'a [u8],
    },
    /// A table as the rows after this message have it.
    Relation(RelationMessage<'a>),
    /// The name of a column type that is not built in.
    Type {
        /// Its oid.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A row was inserted.
    Insert {
        /// The table.
        relation: RelationId,
        /// The row.
        new: TupleData<'a>,
    },
    /// A row was updated.
    Update {
        /// The table.
        relation: RelationId,
        /// What is told of the old row: with a replica identity other than FULL only when the
        /// identity changed or a part of it is stored out of line.
        old: Option<OldTuple<'a>>,
        /// The new row.
        new: TupleData<'a>,
    },
    /// A row was deleted.
    Delete {
        /// The table.
        relation: RelationId,
        /// What is told of the row.
        old: OldTuple<'a>,
    },
    /// Tables were emptied by one TRUNCATE, those it cascaded to included.
    Truncate {
        /// Whether it said CASCADE.
        cascade: bool,
        /// Whether it said RESTART IDENTITY.
        restart_identity: bool,
        /// The tables.
        relations: RelationIds<'a>,
    },
    /// `pg_logical_emit_message` was called.
    Message {
        /// Whether it belongs to the transaction it was called in. If not it comes outside of any,
        /// even when that one rolled back.
        transactional: bool,
        /// Where its record lies.
        lsn: Lsn,
        /// Who it is for.
        prefix: &'a [u8],
        /// What it says.
        content: &'a [u8],
    },
}

/// The tables of a TRUNCATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationIds<'a>(&'a [[u8; 4]]);

impl<'a> RelationIds<'a> {
    /// The tables, in the order sent.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RelationId> + 'a {
        self.0.iter().map(|oid| RelationId(u32::from_be_bytes(*oid)))
    }
}

/// Decodes one message: the payload of one XLogData.
///
/// # Errors
///
/// When the bytes are not exactly one message of protocol version 1.
pub fn decode(data: &[u8]) -> Result<LogicalMessage<'_>, DecodeError> {
    let mut reader = Reader::new(data)?;
    let message = match reader.tag() {
        b'B' => LogicalMessage::Begin {
            final_lsn: reader.lsn()?,
            committed_at_us: timestamp(&mut reader)?,
            xid: reader.u32()?,
        },
        b'C' => {
            let _unused_flags = reader.u8()?;
            LogicalMessage::Commit {
                commit_lsn: reader.lsn()?,
                end_lsn: reader.lsn()?,
                committed_at_us: timestamp(&mut reader)?,
            }
        }
        b'O' => LogicalMessage::Origin { commit_lsn: reader.lsn()?, name: reader.c_bytes()? },
        b'R' => LogicalMessage::Relation(RelationMessage::read(&mut reader)?),
        b'Y' => LogicalMessage::Type {
            oid: reader.u32()?,
            schema: reader.schema()?,
            name: reader.c_str()?,
        },
        b'I' => insert(&mut reader)?,
        b'U' => update(&mut reader)?,
        b'D' => delete(&mut reader)?,
        b'T' => truncate(&mut reader)?,
        b'M' => {
            let transactional = reader.u8()? & 1 != 0;
            let (lsn, prefix) = (reader.lsn()?, reader.c_bytes()?);
            let length = reader.length()?;
            LogicalMessage::Message { transactional, lsn, prefix, content: reader.take(length)? }
        }
        _ => return Err(reader.fail(Kind::UnknownMessage)),
    };
    reader.finish()?;
    Ok(message)
}

fn timestamp(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    Ok(reader.i64()?.saturating_add(POSTGRES_EPOCH_US))
}

fn insert<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, DecodeError> {
    let relation = RelationId(reader.u32()?);
    match reader.u8()? {
        b'N' => Ok(LogicalMessage::Insert { relation, new: TupleData::read(reader)? }),
        other => Err(reader.fail(Kind::UnknownTuple(other))),
    }
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, DecodeError> {
    let relation = RelationId(reader.u32()?);
    let mut kind = reader.u8()?;
    let old = match kind {
        b'K' | b'O' => {
            let old = OldTuple::read(reader, kind)?;
            kind = reader.u8()?;
            Some(old)
        }
        _ => None,
    };
    match kind {
        b'N' => Ok(LogicalMessage::Update { relation, old, new: TupleData::read(reader)? }),
        other => Err(reader.fail(Kind::UnknownTuple(other))),
    }
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, DecodeError> {
    let relation = RelationId(reader.u32()?);
    let kind = reader.u8()?;
    Ok(LogicalMessage::Delete { relation, old: OldTuple::read(reader, kind)? })
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, DecodeError> {
    let count = reader.length()?;
    let options = reader.u8()?;
    let oids = count.checked_mul(4).ok_or_else(|| reader.fail(Kind::Truncated))?;
    let (relations, _) = reader.take(oids)?.as_chunks();
    Ok(LogicalMessage::Truncate {
        cascade: options & 1 != 0,
        restart_identity: options & 2 != 0,
        relations: RelationIds(relations),
    })
}
