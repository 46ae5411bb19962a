//! Tables as the change stream describes them, completed from the catalog.

use std::sync::Arc;

/// The oid of a table, as Relation messages and row messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

/// What an UPDATE or DELETE tells about the old row
/// (<https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The columns of the primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// The columns of one unique index.
    Index,
}

/// A table at one moment of the stream: its columns are those of the rows that follow, which may
/// be fewer or others than the live catalog's.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// The table's oid.
    pub id: RelationId,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What old rows contain.
    pub replica_identity: ReplicaIdentity,
    /// The columns in the order of the row messages.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the primary key, as the catalog knows it; empty where there is
    /// none or the catalog no longer fits the stream. Falls back to the replica identity's columns
    /// (unless that is FULL).
    pub key: Vec<usize>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Whether it is part of the replica identity.
    pub in_replica_identity: bool,
    /// The oid of its type as the stream names it (a domain's own oid for a domain).
    pub type_oid: u32,
    /// How its values render; domains are resolved to their base type.
    pub kind: TypeKind,
}

/// How a type's text becomes JSON, following `to_jsonb`
/// (<https://www.postgresql.org/docs/current/functions-json.html>).
#[derive(Clone, Debug, PartialEq)]
pub enum TypeKind {
    /// `t` or `f`.
    Bool,
    /// smallint, integer, float4, float8, numeric: digits as they are; NaN and ±Infinity as
    /// strings.
    Number,
    /// bigint: digits as they are, or a string on request.
    Int8,
    /// json or jsonb: embedded as written.
    Json,
    /// timestamp: ISO 8601 with `T`.
    Timestamp,
    /// timestamp with time zone: ISO 8601 with `T` and a full offset (`+00:00`).
    TimestampTz,
    /// Anything whose JSON is the quoted text: text kinds, uuid, date, time, bytea, enums, and
    /// every type this list doesn't name.
    Text,
    /// An array, with its element's kind and delimiter.
    Array {
        /// How elements render.
        element: Arc<TypeKind>,
        /// Between elements: `,` for all but `box` (`;`).
        delimiter: u8,
    },
    /// int2vector and oidvector: arrays to `to_jsonb`, though their text is the elements with
    /// spaces between.
    Vector(Arc<TypeKind>),
    /// `"char"`, a single byte: one above 127 as `\ooo`, as servers from 16 on write it.
    Char,
    /// A composite.
    Composite(Arc<Composite>),
}

/// The shapes that a composite type's rows may have.
///
/// Attributes come and go without a word in the stream, and a row's text has those of its own
/// time, without their names. What is here are the shapes among which the number of fields in the
/// text tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composite {
    /// The attributes in order, as far as the catalog knows them.
    pub attributes: Vec<Attribute>,
    /// A text of at most so many fields has the first ones of `attributes`: none was dropped in
    /// between, so the row is of a time before the others were added.
    pub firm: usize,
    /// Other shapes, by their number of attributes; no two have the same, and none that of
    /// `attributes`.
    pub others: Vec<Vec<Attribute>>,
}

/// An attribute of a composite: its name, and how its values render.
pub type Attribute = (String, TypeKind);

impl TypeKind {
    /// Whether a composite is anywhere in it.
    pub fn has_composite(&self) -> bool {
        match self {
            TypeKind::Composite(_) => true,
            TypeKind::Array { element, .. } => element.has_composite(),
            _ => false,
        }
    }
}
