//! The other direction, for tests: messages as the server writes them.

use super::{LogicalMessage, OldTuple, POSTGRES_EPOCH_US, TupleData, TupleValue};
use crate::postgres::relation::ReplicaIdentity;

/// The values of a row.
pub(crate) type Values<'v> = &'v [TupleValue<'v>];

pub(crate) fn insert(relation: u32, new: Values<'_>) -> Vec<u8> {
    Writer::new(b'I').u32(relation).u8(b'N').tuple(new).0
}

/// `old` is its kind, `K` or `O`, and its values.
pub(crate) fn update(relation: u32, old: Option<(u8, Values<'_>)>, new: Values<'_>) -> Vec<u8> {
    let message = Writer::new(b'U').u32(relation);
    let message = match old {
        Some((kind, old)) => message.u8(kind).tuple(old),
        None => message,
    };
    message.u8(b'N').tuple(new).0
}

pub(crate) fn delete(relation: u32, kind: u8, old: Values<'_>) -> Vec<u8> {
    Writer::new(b'D').u32(relation).u8(kind).tuple(old).0
}

/// The bytes of a decoded message.
pub(crate) fn encode(message: &LogicalMessage<'_>) -> Vec<u8> {
    match *message {
        LogicalMessage::Begin { final_lsn, committed_at_us, xid } => {
            Writer::new(b'B').u64(final_lsn.0).time(committed_at_us).u32(xid).0
        }
        LogicalMessage::Commit { commit_lsn, end_lsn, committed_at_us } => {
            let message = Writer::new(b'C').u8(0).u64(commit_lsn.0);
            message.u64(end_lsn.0).time(committed_at_us).0
        }
        LogicalMessage::Origin { commit_lsn, name } => {
            Writer::new(b'O').u64(commit_lsn.0).text(name).0
        }
        LogicalMessage::Type { oid, schema, name } => {
            Writer::new(b'Y').u32(oid).schema(schema).text(name.as_bytes()).0
        }
        LogicalMessage::Relation(relation) => {
            let message = Writer::new(b'R').u32(relation.id.0).schema(relation.schema);
            let identity = match relation.replica_identity {
                ReplicaIdentity::Default => b'd',
                ReplicaIdentity::Nothing => b'n',
                ReplicaIdentity::Full => b'f',
                ReplicaIdentity::Index => b'i',
            };
            let message = message.text(relation.name.as_bytes()).u8(identity);
            let message = message.u16(relation.columns.len());
            let columns = relation.columns.iter();
            columns
                .fold(message, |message, column| {
                    let message = message.u8(u8::from(column.in_replica_identity));
                    let message = message.text(column.name.as_bytes()).u32(column.type_oid);
                    message.u32(column.type_modifier.cast_unsigned())
                })
                .0
        }
        LogicalMessage::Insert { relation, new } => insert(relation.0, &values(new)),
        LogicalMessage::Update { relation, old, new } => {
            let old = old.map(|old| (kind(&old), values(old.tuple())));
            let old = old.as_ref().map(|(kind, old)| (*kind, old.as_slice()));
            update(relation.0, old, &values(new))
        }
        LogicalMessage::Delete { relation, old } => {
            delete(relation.0, kind(&old), &values(old.tuple()))
        }
        LogicalMessage::Truncate { cascade, restart_identity, relations } => {
            let relations = relations.iter();
            let message = Writer::new(b'T').u32(u32::try_from(relations.len()).unwrap());
            let message = message.u8(u8::from(cascade) | u8::from(restart_identity) << 1);
            relations.fold(message, |message, relation| message.u32(relation.0)).0
        }
        LogicalMessage::Message { transactional, lsn, prefix, content } => {
            let message = Writer::new(b'M').u8(u8::from(transactional)).u64(lsn.0).text(prefix);
            message.u32(u32::try_from(content.len()).unwrap()).bytes(content).0
        }
    }
}

fn values(tuple: TupleData<'_>) -> Vec<TupleValue<'_>> {
    tuple.iter().collect()
}

fn kind(old: &OldTuple<'_>) -> u8 {
    match old {
        OldTuple::Key(_) => b'K',
        OldTuple::Full(_) => b'O',
    }
}

pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn new(tag: u8) -> Writer {
        Writer(vec![tag])
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(self, byte: u8) -> Writer {
        self.bytes(&[byte])
    }

    pub(super) fn u16(self, number: usize) -> Writer {
        self.bytes(&u16::try_from(number).unwrap().to_be_bytes())
    }

    pub(super) fn u32(self, number: u32) -> Writer {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn u64(self, number: u64) -> Writer {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn time(self, time_us: i64) -> Writer {
        self.u64((time_us - POSTGRES_EPOCH_US).cast_unsigned())
    }

    pub(super) fn text(self, text: &[u8]) -> Writer {
        self.bytes(text).u8(0)
    }

    pub(super) fn schema(self, schema: &str) -> Writer {
        self.text(if schema == "pg_catalog" { b"" } else { schema.as_bytes() })
    }

    pub(super) fn tuple(self, values: Values<'_>) -> Writer {
        let message = self.u16(values.len());
        values.iter().fold(message, |message, value| match value {
            TupleValue::Null => message.u8(b'n'),
            TupleValue::UnchangedToast => message.u8(b'u'),
            TupleValue::Text(text) => {
                message.u8(b't').u32(u32::try_from(text.len()).unwrap()).bytes(text)
            }
        })
    }
}
