//! Which columns recorded rows have: what the log says of a table before its rows, rows of JSON say
//! themselves.

use std::collections::HashMap;
use std::sync::Arc;

use super::Values;
use crate::capture::change::RecordedTable;
use crate::event::object::Object;
use crate::event::render::recorded::unquoted;
use crate::postgres::relation::{Column, Relation, RelationId, ReplicaIdentity, TypeKind};

/// A table as the rows seen last showed it.
#[derive(Debug)]
pub(in crate::event::rules) struct Shape {
    table: Arc<RecordedTable>,
    /// The columns that rows have, as JSON strings.
    keys: Vec<Box<str>>,
    /// The places of those that are told of no row.
    unseen: Vec<usize>,
    /// Those columns, and behind them those that only the catalog has.
    relation: Arc<Relation>,
}

/// The shapes of the tables seen.
#[derive(Debug, Default)]
pub(in crate::event::rules) struct Shapes {
    shapes: HashMap<RelationId, Shape>,
}

impl Shapes {
    /// Tables may come and go for years; forgetting one only costs looking at it again.
    const MOST: usize = 10_000;

    /// The shape of a table's row; without a row, the last one.
    pub(super) fn of(&mut self, table: &Arc<RecordedTable>, row: Option<&Object<'_>>) -> &Shape {
        use std::collections::hash_map::Entry;
        if self.shapes.len() >= Shapes::MOST && !self.shapes.contains_key(&table.id) {
            self.shapes.clear();
        }
        match self.shapes.entry(table.id) {
            Entry::Occupied(mut entry) => {
                let shape = entry.get_mut();
                if !Arc::ptr_eq(&shape.table, table) && shape.table == *table {
                    shape.table = table.clone();
                }
                let fits =
                    Arc::ptr_eq(&shape.table, table) && row.is_none_or(|row| shape.fits(row));
                if !fits {
                    *shape = Shape::new(table, row);
                }
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(Shape::new(table, row)),
        }
    }
}

impl Shape {
    fn new(table: &Arc<RecordedTable>, row: Option<&Object<'_>>) -> Shape {
        let members = row.map_or(&[][..], |row| &row.0);
        let keys: Vec<Box<str>> = members.iter().map(|(key, _)| (*key).into()).collect();
        let is_unseen = |key: &str| table.unseen.iter().any(|column| *column == *unquoted(key));
        let unseen = (0..keys.len()).filter(|&place| keys.get(place).is_some_and(|k| is_unseen(k)));
        let unseen = unseen.collect();
        let told = members.iter().map(|(key, json)| {
            let name = unquoted(key);
            let known = table.columns.iter().find(|(column, _)| *column == *name);
            let kind = known.map_or_else(|| kind_of(json), |(_, kind)| kind.clone());
            (name.into_owned(), kind)
        });
        let mut columns: Vec<(String, TypeKind)> = told.collect();
        for (name, kind) in &table.columns {
            if columns.iter().all(|(told, _)| told != name) {
                columns.push((name.clone(), kind.clone()));
            }
        }
        let is_key = |(column, _): &(String, TypeKind)| table.key.contains(column);
        let key = (0..columns.len()).filter(|&place| columns.get(place).is_some_and(is_key));
        let relation = Relation {
            id: table.id,
            schema: table.schema.clone(),
            name: table.name.clone(),
            // Both rows are there as a whole.
            replica_identity: ReplicaIdentity::Full,
            key: key.collect(),
            columns: columns.into_iter().map(column).collect(),
        };
        Shape { table: table.clone(), keys, unseen, relation: Arc::new(relation) }
    }

    /// What the log would have said of the table.
    pub(super) fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    /// A row's values by the columns; those of columns that this shape does not have are left out.
    pub(super) fn values<'a>(&self, row: &Object<'a>) -> Values<'a> {
        let mut values: Values<'a> = if self.fits(row) {
            row.0.iter().map(|(_, json)| Some(*json)).collect()
        } else {
            self.keys.iter().map(|key| row.get(key)).collect()
        };
        for &place in &self.unseen {
            if let Some(value) = values.get_mut(place) {
                *value = None;
            }
        }
        values
    }

    fn fits(&self, row: &Object<'_>) -> bool {
        row.0.len() == self.keys.len()
            && row.0.iter().zip(&self.keys).all(|((key, _), known)| **key == **known)
    }
}

fn column((name, kind): (String, TypeKind)) -> Column {
    Column { name, in_replica_identity: true, type_oid: 0, kind }
}

/// The type of a column that the catalog does not have any more: what its value looks like.
fn kind_of(json: &str) -> TypeKind {
    match json.as_bytes().first() {
        Some(b't' | b'f') => TypeKind::Bool,
        Some(b'-' | b'0'..=b'9') => TypeKind::Number,
        Some(b'{' | b'[') => TypeKind::Json,
        _ => TypeKind::Text,
    }
}
