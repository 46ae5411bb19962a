//! What the catalog said about types, kept over Relation messages and connections.
//!
//! The walsender makes the text of a row with the catalog as it was when the row was written, but
//! we can only ask for the catalog of now. Nearly all of it never changes for one oid: what a
//! domain is based on, what an array is made of. Only a composite's attributes come and go, without
//! a message in the stream. So each shape of a composite is kept with the places in the log at which
//! it was seen, and a row of a place in between gets all shapes that its own may have been.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::relation::{Attribute, Composite, TypeKind};

/// How deep arrays, domains and composites may lie in each other; what is deeper renders as text.
const MAX_DEPTH: u32 = 16;

/// Shapes of a composite that are remembered.
const MOST_SHAPES: usize = 8;

/// What the catalog said about types. Empty at first; [`resolve_relation`](super::resolve_relation)
/// fills it.
#[derive(Debug, Default)]
pub struct TypeCache {
    slot: String,
    types: HashMap<u32, TypeRow>,
}

/// What a type is made of.
#[derive(Debug)]
enum TypeRow {
    Plain,
    Domain {
        base: u32,
    },
    Array {
        element: u32,
        delimiter: u8,
    },
    /// The shapes seen, latest first.
    Composite(Vec<Seen>),
}

/// A composite's shape and when it was seen.
#[derive(Debug)]
struct Seen {
    shape: Shape,
    /// The place of the first look that found it; zero when all rows to come are later than it.
    first: Lsn,
    /// That of the last.
    last: Lsn,
}

/// A composite's attributes at one time, without those that were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape(Vec<CatalogAttribute>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct CatalogAttribute {
    /// `attnum`, from 1 on. A number is never used again.
    number: i16,
    name: String,
    type_oid: u32,
}

impl TypeCache {
    /// One for the reader of this slot.
    pub fn new(slot: &str) -> TypeCache {
        TypeCache { slot: slot.to_owned(), types: HashMap::new() }
    }

    /// Asks the catalog about those of `oids` that are not known yet or may have changed, and
    /// returns the place in the log that the answer is of.
    ///
    /// A Type message comes before each Relation message that names the type, and says nothing of
    /// what it is made of; so all types but the server's own are asked for here, and the message
    /// itself is not needed.
    pub(super) async fn learn(
        &mut self,
        client: &Client,
        oids: impl Iterator<Item = u32>,
    ) -> Result<Lsn, PgError> {
        const SQL: &str = include_str!("../../../sql/catalog_types.sql");
        /// `FirstUnpinnedObjectId`: what is below came with the server and stays as it is.
        const FIRST_UNPINNED: u32 = 12_000;
        let known = |oid: u32| oid < FIRST_UNPINNED && self.types.contains_key(&oid);
        let mut oids: Vec<u32> =
            oids.filter(|&oid| plain_kind(oid).is_none() && !known(oid)).collect();
        oids.sort_unstable();
        oids.dedup();
        // a table of plain columns, the common case, needs no look into the catalog
        if oids.is_empty() {
            return Ok(Lsn::MAX);
        }
        let rows = client
            .query_typed(SQL, &[(&oids, Type::OID_ARRAY), (&self.slot, Type::TEXT)])
            .await
            .map_err(|error| PgError::query("could not look up the types of a table", error))?;
        let mut seen_lsn = Lsn::MAX;
        for row in rows {
            let oid = row.try_get("oid")?;
            // a standby that has replayed nothing yet knows no place
            let end: Option<&str> = row.try_get("end_lsn")?;
            let end: Lsn = end.and_then(|end| end.parse().ok()).unwrap_or_default();
            // the next record may begin right at the end
            seen_lsn = Lsn(end.0.saturating_sub(1));
            let found = match parts(&row)? {
                Some(parts) => parts,
                None => {
                    self.saw(oid, shape(&row)?, row.try_get("settled")?, seen_lsn);
                    continue;
                }
            };
            self.types.insert(oid, found);
        }
        Ok(seen_lsn)
    }

    /// How each of these types renders by the catalog of now.
    pub(crate) async fn kinds_now(
        &mut self,
        client: &Client,
        oids: Vec<u32>,
    ) -> Result<HashMap<u32, TypeKind>, PgError> {
        let seen_lsn = self.learn(client, oids.iter().copied()).await?;
        let mut kinds = self.at(Lsn::MAX, seen_lsn);
        Ok(oids.into_iter().map(|oid| (oid, kinds.kind(oid))).collect())
    }

    /// Notes a composite's shape.
    fn saw(&mut self, oid: u32, shape: Shape, settled: bool, seen_lsn: Lsn) {
        let first = if settled { Lsn::ZERO } else { seen_lsn };
        match self.types.get_mut(&oid) {
            Some(TypeRow::Composite(seen)) => match seen.first_mut() {
                Some(latest) if latest.shape == shape => latest.last = latest.last.max(seen_lsn),
                _ => {
                    seen.insert(0, Seen { shape, first: seen_lsn, last: seen_lsn });
                    seen.truncate(MOST_SHAPES);
                }
            },
            _ => {
                let seen = vec![Seen { shape, first, last: seen_lsn }];
                self.types.insert(oid, TypeRow::Composite(seen));
            }
        }
    }

    /// The kinds of types as of a place in the log; the catalog was asked at `seen_lsn`.
    pub(super) fn at(&self, row_lsn: Lsn, seen_lsn: Lsn) -> Kinds<'_> {
        Kinds { types: &self.types, row_lsn, after: Lsn::ZERO, up_to: seen_lsn.max(row_lsn) }
    }
}

/// `None` for a composite.
fn parts(row: &Row) -> Result<Option<TypeRow>, PgError> {
    if let Some(base) = row.try_get("base")? {
        return Ok(Some(TypeRow::Domain { base }));
    }
    if let Some(element) = row.try_get("element")? {
        let delimiter: &str = row.try_get("delimiter")?;
        let delimiter = delimiter.bytes().next().unwrap_or(b',');
        return Ok(Some(TypeRow::Array { element, delimiter }));
    }
    let attributes: Option<Vec<&str>> = row.try_get("attribute_names")?;
    Ok(if attributes.is_none() { Some(TypeRow::Plain) } else { None })
}

fn shape(row: &Row) -> Result<Shape, PgError> {
    let names: Vec<String> = row.try_get("attribute_names")?;
    let types: Vec<u32> = row.try_get("attribute_types")?;
    let numbers: Vec<i16> = row.try_get("attribute_numbers")?;
    let attributes = names.into_iter().zip(types).zip(numbers);
    let attribute = |((name, type_oid), number)| CatalogAttribute { number, name, type_oid };
    Ok(Shape(attributes.map(attribute).collect()))
}

impl Shape {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// How many attributes precede the first that was dropped. A row with at most so many has
    /// exactly these.
    fn firm(&self) -> usize {
        let numbered = (1..).zip(&self.0);
        numbered.take_while(|(number, attribute)| attribute.number == *number).count()
    }

    /// Whether a row with as many fields could be of either, so that the number doesn't tell.
    fn is_confusable_with(&self, other: &Shape) -> bool {
        let numbers = |shape: &Shape| shape.0.iter().map(|a| a.number).collect::<Vec<_>>();
        self.len() == other.len() && numbers(self) != numbers(other)
    }
}

/// Kinds as of a place in the log, and for which rows they hold.
pub(super) struct Kinds<'a> {
    types: &'a HashMap<u32, TypeRow>,
    row_lsn: Lsn,
    after: Lsn,
    up_to: Lsn,
}

impl Kinds<'_> {
    /// The rows that all kinds made so far hold for: after the first place, up to the second.
    pub(super) fn valid(&self) -> (Lsn, Lsn) {
        (self.after, self.up_to)
    }

    /// How a type renders; as text when nothing is known of it.
    pub(super) fn kind(&mut self, oid: u32) -> TypeKind {
        self.kind_at(oid, 0)
    }

    fn kind_at(&mut self, oid: u32, depth: u32) -> TypeKind {
        if let Some(kind) = plain_kind(oid) {
            return kind;
        }
        if depth == MAX_DEPTH {
            return TypeKind::Text;
        }
        let types = self.types;
        match types.get(&oid) {
            None | Some(TypeRow::Plain) => TypeKind::Text,
            Some(TypeRow::Domain { base }) => self.kind_at(*base, depth + 1),
            Some(TypeRow::Array { element, delimiter }) => TypeKind::Array {
                element: Arc::new(self.kind_at(*element, depth + 1)),
                delimiter: *delimiter,
            },
            Some(TypeRow::Composite(shapes)) => {
                TypeKind::Composite(Arc::new(self.composite(shapes, depth + 1)))
            }
        }
    }

    fn composite(&mut self, seen: &[Seen], depth: u32) -> Composite {
        for place in seen.iter().flat_map(|seen| [seen.first, seen.last]) {
            if place < self.row_lsn {
                self.after = self.after.max(place);
            } else {
                self.up_to = self.up_to.min(place);
            }
        }
        // A row has the shape of a look before or after it, and if both found the same, that one.
        let later = std::iter::once(Lsn::MAX).chain(seen.iter().map(|newer| newer.first));
        let earlier = seen.iter().skip(1).map(|older| Some(older.last)).chain([None]);
        let possible: Vec<&Shape> = seen
            .iter()
            .zip(later.zip(earlier))
            .filter(|(_, (later, earlier))| {
                self.row_lsn <= *later && earlier.is_none_or(|earlier| self.row_lsn > earlier)
            })
            .map(|(seen, _)| &seen.shape)
            .collect();
        let Some((&main, others)) = possible.split_first() else { return Composite::default() };
        let firm = main.firm();
        let mut attributes = self.attributes(main, depth);
        // What was dropped has lost its name. So before the first look, only fields ahead of any
        // that was dropped are known.
        let before_any = seen.last().is_some_and(|oldest| self.row_lsn <= oldest.first);
        if before_any || others.iter().any(|other| other.is_confusable_with(main)) {
            attributes.truncate(firm);
        }
        let told_apart = |place: usize, shape: &Shape| {
            !before_any
                && shape.len() > firm
                && shape.len() != main.len()
                && !others.iter().any(|other| other.is_confusable_with(shape))
                && !others[..place].iter().any(|other| other.len() == shape.len())
        };
        let others = others.iter().enumerate().filter(|(place, shape)| told_apart(*place, shape));
        let others = others.map(|(_, shape)| self.attributes(shape, depth)).collect();
        Composite { attributes, firm, others }
    }

    fn attributes(&mut self, shape: &Shape, depth: u32) -> Vec<Attribute> {
        let attributes = shape.0.iter();
        attributes.map(|a| (a.name.clone(), self.kind_at(a.type_oid, depth))).collect()
    }
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
        // bytea, name, text, bpchar, varchar, date, time, timetz, interval, uuid
        17 | 19 | 25 | 1042 | 1043 | 1082 | 1083 | 1266 | 1186 | 2950 => TypeKind::Text,
        18 => TypeKind::Char,
        // arrays to the catalog, too, but their text is not an array's: int2vector, oidvector
        22 => TypeKind::Vector(Arc::new(TypeKind::Number)),
        30 => TypeKind::Vector(Arc::new(TypeKind::Text)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: u32 = 90_000;

    /// `("a", 1)` is an attribute of type text.
    fn attributes(attributes: &[(&str, i16)]) -> Shape {
        let attribute = |&(name, number): &(&str, i16)| CatalogAttribute {
            number,
            name: name.to_owned(),
            type_oid: 25,
        };
        Shape(attributes.iter().map(attribute).collect())
    }

    /// Names of the attributes and of the other shapes', how many are firm, and what it holds for.
    fn at(types: &TypeCache, row: u64) -> (Vec<Vec<String>>, usize, (u64, u64)) {
        let mut kinds = types.at(Lsn(row), Lsn(1000));
        let TypeKind::Composite(shapes) = kinds.kind(OID) else { panic!("not a composite") };
        let names = |shape: &Vec<Attribute>| shape.iter().map(|(name, _)| name.clone()).collect();
        let all = std::iter::once(&shapes.attributes).chain(&shapes.others).map(names).collect();
        let (after, up_to) = kinds.valid();
        (all, shapes.firm, (after.0, up_to.0))
    }

    fn names(shapes: &[&[&str]]) -> Vec<Vec<String>> {
        let names = |shape: &&[&str]| shape.iter().map(|name| (*name).to_owned()).collect();
        shapes.iter().map(names).collect()
    }

    #[test]
    fn types_that_hold_themselves_end_as_text() {
        let mut types = TypeCache::default();
        let next = CatalogAttribute { number: 1, name: "next".to_owned(), type_oid: OID };
        types.saw(OID, Shape(vec![next]), true, Lsn(1));
        let mut found = types.at(Lsn(2), Lsn(3)).kind(OID);
        let mut depth = 0;
        while let TypeKind::Composite(shapes) = found {
            found = shapes.attributes[0].1.clone();
            depth += 1;
        }
        assert_eq!((found, depth), (TypeKind::Text, MAX_DEPTH));
    }

    #[test]
    fn a_shape_that_was_never_another_holds_for_all_rows() {
        let mut types = TypeCache::default();
        types.saw(OID, attributes(&[("a", 1), ("c", 3)]), true, Lsn(100));
        assert_eq!(at(&types, 5), (names(&[&["a", "c"]]), 1, (0, 100)));
        assert_eq!(at(&types, 101), (names(&[&["a", "c"]]), 1, (100, 1000)));
    }

    #[test]
    fn a_shape_that_may_be_new_holds_from_where_it_was_seen() {
        let mut types = TypeCache::default();
        types.saw(OID, attributes(&[("a", 1), ("c", 3)]), false, Lsn(100));
        assert_eq!(at(&types, 100), (names(&[&["a"]]), 1, (0, 100)));
        assert_eq!(at(&types, 101), (names(&[&["a", "c"]]), 1, (100, 1000)));
        let mut added = TypeCache::default();
        added.saw(OID, attributes(&[("a", 1), ("b", 2)]), false, Lsn(100));
        assert_eq!(at(&added, 100), (names(&[&["a", "b"]]), 2, (0, 100)));
    }

    #[test]
    fn an_earlier_shape_is_told_by_its_number_of_attributes() {
        let mut types = TypeCache::default();
        types.saw(OID, attributes(&[("a", 1), ("b", 2), ("c", 3)]), true, Lsn(100));
        types.saw(OID, attributes(&[("a", 1), ("c", 3)]), true, Lsn(200));
        types.saw(OID, attributes(&[("a", 1), ("c", 3)]), true, Lsn(300));
        let both = names(&[&["a", "c"], &["a", "b", "c"]]);
        assert_eq!(at(&types, 150), (both, 1, (100, 200)));
        assert_eq!(at(&types, 100), (names(&[&["a", "b", "c"]]), 3, (0, 100)));
        assert_eq!(at(&types, 201), (names(&[&["a", "c"]]), 1, (200, 300)));
        assert_eq!(at(&types, 301), (names(&[&["a", "c"]]), 1, (300, 1000)));
    }

    #[test]
    fn shapes_that_cannot_be_told_apart_are_not_guessed_at() {
        let mut types = TypeCache::default();
        types.saw(OID, attributes(&[("a", 1), ("b", 2)]), true, Lsn(100));
        types.saw(OID, attributes(&[("a", 1), ("c", 3)]), true, Lsn(200));
        assert_eq!(at(&types, 150), (names(&[&["a"]]), 1, (100, 200)));
        types.saw(OID, attributes(&[("a", 1), ("c", 3)]), true, Lsn(220));
        // A mere new name is no other attribute.
        types.saw(OID, attributes(&[("a", 1), ("d", 3)]), true, Lsn(300));
        assert_eq!(at(&types, 150).0, names(&[&["a"]]));
        assert_eq!(at(&types, 210).0, names(&[&["a", "c"]]));
        assert_eq!(at(&types, 250).0, names(&[&["a", "d"]]));
        assert_eq!(at(&types, 301).0, names(&[&["a", "d"]]));
    }
}
