//! Completes a relation of the stream: how its types render, and its primary key.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::TypeCache;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::pgoutput::{RelationColumn, RelationMessage};
use crate::postgres::relation::{Column, Relation, RelationId, ReplicaIdentity};

/// A Relation message, copied out of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRelation {
    /// The table's oid.
    pub id: RelationId,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What old rows contain.
    pub replica_identity: ReplicaIdentity,
    /// The columns in the order of the row messages.
    pub columns: Vec<OwnedColumn>,
}

/// A column of an [`OwnedRelation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedColumn {
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub type_oid: u32,
    /// Its type modifier, -1 for none.
    pub type_modifier: i32,
    /// Whether it is part of the replica identity.
    pub in_replica_identity: bool,
}

impl From<&RelationMessage<'_>> for OwnedRelation {
    fn from(message: &RelationMessage<'_>) -> OwnedRelation {
        let column = |column: RelationColumn<'_>| OwnedColumn {
            name: column.name.to_owned(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            in_replica_identity: column.in_replica_identity,
        };
        OwnedRelation {
            id: message.id,
            schema: message.schema.to_owned(),
            name: message.name.to_owned(),
            replica_identity: message.replica_identity,
            columns: message.columns.iter().map(column).collect(),
        }
    }
}

/// A relation as completed from the catalog, and for which rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedRelation {
    /// The relation.
    pub relation: Relation,
    /// It holds for rows that were logged after this place…
    pub after: Lsn,
    /// …and up to this one. For others it must be resolved anew. [`Lsn::ZERO`] and
    /// [`Lsn::MAX`] where no type in it can change its shape.
    pub up_to: Lsn,
}

/// Completes a Relation message from the catalog: how each type renders, and which columns are the
/// primary key. `row_lsn` is the place of the row that it is needed for.
///
/// The catalog may be ahead of the stream. A type that is gone renders as `types` knows it from
/// before, or else as text; a primary key that does not fit the columns (or a table that is gone)
/// gives way to the replica identity's columns.
///
/// # Errors
/// Fails only when the server cannot be asked.
pub async fn resolve_relation(
    client: &Client,
    types: &mut TypeCache,
    message: &OwnedRelation,
    row_lsn: Lsn,
) -> Result<ResolvedRelation, PgError> {
    let oids = message.columns.iter().map(|column| column.type_oid);
    let (seen_lsn, primary_key) =
        tokio::try_join!(types.learn(client, oids), primary_key(client, message.id))?;
    let mut shapes = types.at(row_lsn, seen_lsn);
    let columns: Vec<Column> = message
        .columns
        .iter()
        .map(|column| Column {
            name: column.name.clone(),
            in_replica_identity: column.in_replica_identity,
            type_oid: column.type_oid,
            kind: shapes.kind(column.type_oid),
        })
        .collect();
    let (after, up_to) = if columns.iter().any(|column| column.kind.has_composite()) {
        shapes.valid()
    } else {
        (Lsn::ZERO, Lsn::MAX)
    };
    let relation = Relation {
        id: message.id,
        schema: message.schema.clone(),
        name: message.name.clone(),
        replica_identity: message.replica_identity,
        key: key(message, &primary_key),
        columns,
    };
    Ok(ResolvedRelation { relation, after, up_to })
}

/// The key's places among the columns. With the default replica identity the stream itself says
/// what the primary key was when the row was written, so that comes before the catalog of now.
fn key(message: &OwnedRelation, primary_key: &[String]) -> Vec<usize> {
    let identity = || {
        let columns = message.columns.iter().enumerate();
        columns.filter(|(_, c)| c.in_replica_identity).map(|(place, _)| place).collect::<Vec<_>>()
    };
    if message.replica_identity == ReplicaIdentity::Default {
        let key = identity();
        if !key.is_empty() {
            return key;
        }
    }
    let place = |name: &String| message.columns.iter().position(|column| column.name == *name);
    match primary_key.iter().map(place).collect::<Option<Vec<_>>>() {
        Some(key) if !key.is_empty() => key,
        _ if message.replica_identity == ReplicaIdentity::Full => Vec::new(),
        _ => identity(),
    }
}

async fn primary_key(client: &Client, id: RelationId) -> Result<Vec<String>, PgError> {
    const SQL: &str = include_str!("../../../sql/catalog_primary_key.sql");
    let rows = client
        .query_typed(SQL, &[(&id.0, Type::OID)])
        .await
        .map_err(|error| PgError::query("could not look up a primary key", error))?;
    rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(identity: ReplicaIdentity, columns: &[(&str, bool)]) -> OwnedRelation {
        OwnedRelation {
            id: RelationId(1),
            schema: "public".to_owned(),
            name: "t".to_owned(),
            replica_identity: identity,
            columns: columns
                .iter()
                .map(|(name, in_replica_identity)| OwnedColumn {
                    name: (*name).to_owned(),
                    type_oid: 25,
                    type_modifier: -1,
                    in_replica_identity: *in_replica_identity,
                })
                .collect(),
        }
    }

    #[test]
    fn the_key_follows_the_stream_before_the_catalog() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let default = message(ReplicaIdentity::Default, &[("a", false), ("old_id", true)]);
        assert_eq!(key(&default, &names(&["id"])), [1]);
        let full = message(ReplicaIdentity::Full, &[("a", true), ("b", true)]);
        assert_eq!(key(&full, &names(&["b", "a"])), [1, 0]);
        assert_eq!(key(&full, &names(&["gone"])), [0usize; 0]);
        let index = message(ReplicaIdentity::Index, &[("a", true), ("b", false)]);
        assert_eq!(key(&index, &names(&["b"])), [1]);
        assert_eq!(key(&index, &[]), [0]);
        let nothing = message(ReplicaIdentity::Nothing, &[("a", false), ("b", false)]);
        assert_eq!(key(&nothing, &names(&["a"])), [0]);
        assert_eq!(key(&nothing, &[]), [0usize; 0]);
    }
}
