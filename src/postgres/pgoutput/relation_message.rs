//! Tables as the stream announces them.

use super::error::{DecodeError, Kind};
use super::reader::Reader;
use crate::postgres::relation::{RelationId, ReplicaIdentity};

/// A table as the rows after this message have it. Comes before its first row, and again whenever
/// the table changed, even inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationMessage<'a> {
    /// The table's oid.
    pub id: RelationId,
    /// Its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What old rows contain.
    pub replica_identity: ReplicaIdentity,
    /// Its columns in the order of the row messages.
    pub columns: RelationColumns<'a>,
}

/// A column as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type's oid; a domain's own for a domain.
    pub type_oid: u32,
    /// Its type modifier (`atttypmod`), -1 for none.
    pub type_modifier: i32,
    /// Whether it is part of the replica identity. With FULL all columns are.
    pub in_replica_identity: bool,
}

/// The columns of a [`RelationMessage`].
#[derive(Clone, Copy)]
pub struct RelationColumns<'a> {
    count: u16,
    reader: Reader<'a>,
}

impl<'a> RelationColumns<'a> {
    /// How many columns there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns, in order.
    pub fn iter(&self) -> impl Iterator<Item = RelationColumn<'a>> + use<'a> {
        let mut reader = self.reader;
        // They were all read once when the message was decoded, so none is missing here.
        (0..self.count).map_while(move |_| RelationColumn::read(&mut reader).ok())
    }
}

impl PartialEq for RelationColumns<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for RelationColumns<'_> {}

impl std::fmt::Debug for RelationColumns<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> RelationColumn<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<RelationColumn<'a>, DecodeError> {
        Ok(RelationColumn {
            in_replica_identity: reader.u8()? & 1 != 0,
            name: reader.c_str()?,
            type_oid: reader.u32()?,
            type_modifier: reader.i32()?,
        })
    }
}

impl<'a> RelationMessage<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<RelationMessage<'a>, DecodeError> {
        let id = RelationId(reader.u32()?);
        let (schema, name) = (reader.schema()?, reader.c_str()?);
        let before = *reader;
        let replica_identity = match reader.u8()? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            other => return Err(before.fail(Kind::UnknownReplicaIdentity(other))),
        };
        let count = reader.u16()?;
        let columns = RelationColumns { count, reader: *reader };
        for _ in 0..count {
            RelationColumn::read(reader)?;
        }
        Ok(RelationMessage { id, schema, name, replica_identity, columns })
    }
}
