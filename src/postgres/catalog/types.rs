//! Completes a relation of the stream: how its types render, and its primary key.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::postgres::error::PgError;
use crate::postgres::pgoutput::{RelationColumn, RelationMessage};
use crate::postgres::relation::{Column, Relation, RelationId, ReplicaIdentity, TypeKind};

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

/// How deep arrays, domains and composites may lie in each other; what is deeper renders as text.
const MAX_DEPTH: u32 = 16;

/// Completes a Relation message from the catalog: how each type renders, and which columns are the
/// primary key.
///
/// The catalog may be ahead of the stream. A type that is gone renders as text; a primary key that
/// does not fit the columns (or a table that is gone) gives way to the replica identity's columns.
///
/// # Errors
/// Fails only when the server cannot be asked.
pub async fn resolve_relation(
    client: &Client,
    message: &OwnedRelation,
) -> Result<Relation, PgError> {
    let (types, primary_key) =
        tokio::try_join!(type_rows(client, message), primary_key(client, message.id))?;
    let columns: Vec<Column> = message
        .columns
        .iter()
        .map(|column| Column {
            name: column.name.clone(),
            in_replica_identity: column.in_replica_identity,
            type_oid: column.type_oid,
            kind: kind(column.type_oid, &types, 0),
        })
        .collect();
    Ok(Relation {
        id: message.id,
        schema: message.schema.clone(),
        name: message.name.clone(),
        replica_identity: message.replica_identity,
        key: key(message, &primary_key),
        columns,
    })
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

/// What a type that is not built of nothing is made of.
enum TypeRow {
    Plain,
    Domain { base: u32 },
    Array { element: u32, delimiter: u8 },
    Composite { attributes: Vec<(String, u32)> },
}

async fn type_rows(
    client: &Client,
    message: &OwnedRelation,
) -> Result<HashMap<u32, TypeRow>, PgError> {
    const SQL: &str = include_str!("../../../sql/catalog_types.sql");
    let mut oids: Vec<u32> = message.columns.iter().map(|column| column.type_oid).collect();
    oids.sort_unstable();
    oids.dedup();
    // a table of plain columns, the common case, needs no look into the catalog
    oids.retain(|oid| plain_kind(*oid).is_none());
    if oids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut types = HashMap::new();
    let rows = client
        .query_typed(SQL, &[(&oids, Type::OID_ARRAY)])
        .await
        .map_err(|error| PgError::query("could not look up the types of a table", error))?;
    for row in rows {
        let attributes: Option<Vec<String>> = row.try_get("attribute_names")?;
        let parts = if let Some(base) = row.try_get("base")? {
            TypeRow::Domain { base }
        } else if let Some(element) = row.try_get("element")? {
            let delimiter: &str = row.try_get("delimiter")?;
            TypeRow::Array { element, delimiter: delimiter.bytes().next().unwrap_or(b',') }
        } else if let Some(names) = attributes {
            let oids: Option<Vec<u32>> = row.try_get("attribute_types")?;
            let attributes = names.into_iter().zip(oids.unwrap_or_default()).collect();
            TypeRow::Composite { attributes }
        } else {
            TypeRow::Plain
        };
        types.insert(row.try_get("oid")?, parts);
    }
    Ok(types)
}

/// How a type of fixed oid renders, following `json_categorize_type` in Postgres's `jsonfuncs.c`;
/// the oids are those of `pg_type.dat`. None for a type that must be looked up.
fn plain_kind(oid: u32) -> Option<TypeKind> {
    Some(match oid {
        16 => TypeKind::Bool,
        // int2, int4, float4, float8, numeric
        21 | 23 | 700 | 701 | 1700 => TypeKind::Number,
        20 => TypeKind::Int8,
        114 | 3802 => TypeKind::Json,
        1114 => TypeKind::Timestamp,
        1184 => TypeKind::TimestampTz,
        // bytea, char, name, text, bpchar, varchar, date, time, timetz, interval, uuid
        17 | 18 | 19 | 25 | 1042 | 1043 | 1082 | 1083 | 1266 | 1186 | 2950 => TypeKind::Text,
        // int2vector and oidvector are arrays to the catalog, but their text is not an array's
        22 | 30 => TypeKind::Text,
        _ => return None,
    })
}

fn kind(oid: u32, types: &HashMap<u32, TypeRow>, depth: u32) -> TypeKind {
    if let Some(kind) = plain_kind(oid) {
        return kind;
    }
    if depth == MAX_DEPTH {
        return TypeKind::Text;
    }
    match types.get(&oid) {
        None | Some(TypeRow::Plain) => TypeKind::Text,
        Some(TypeRow::Domain { base }) => kind(*base, types, depth + 1),
        Some(TypeRow::Array { element, delimiter }) => TypeKind::Array {
            element: Arc::new(kind(*element, types, depth + 1)),
            delimiter: *delimiter,
        },
        Some(TypeRow::Composite { attributes }) => TypeKind::Composite(Arc::new(
            attributes
                .iter()
                .map(|(name, oid)| (name.clone(), kind(*oid, types, depth + 1)))
                .collect(),
        )),
    }
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

    #[test]
    fn types_that_hold_themselves_end_as_text() {
        let types = HashMap::from([(
            90_000,
            TypeRow::Composite { attributes: vec![("next".to_owned(), 90_000)] },
        )]);
        let mut found = kind(90_000, &types, 0);
        let mut depth = 0;
        while let TypeKind::Composite(attributes) = found {
            found = attributes[0].1.clone();
            depth += 1;
        }
        assert_eq!((found, depth), (TypeKind::Text, MAX_DEPTH));
    }
}
