//! The logical replication message format of pgoutput.

/// A row as sent.
#[derive(Clone, Copy, Debug)]
pub struct TupleData<'a>(pub &'a [u8]);
/// What is known of an old row.
#[derive(Clone, Copy, Debug)]
pub enum OldTuple<'a> {
    /// Only the columns of the replica identity are values; the others are not known.
    Key(TupleData<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Full(TupleData<'a>),
}
