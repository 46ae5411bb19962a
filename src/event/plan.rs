//! What is worked out once per table: names, escaped keys, what a record is ordered by.

use std::sync::Arc;

use super::columns::{SoftDelete, Told};
use super::envelope::{self, Source};
use super::lanes::LaneHash;
use super::render::recorded;
use crate::postgres::pgoutput::{OldTuple, TupleData, TupleValue};
use crate::postgres::relation::{Relation, RelationId, ReplicaIdentity};

/// What happened to a record or its table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Created,
    Updated,
    Deleted,
    Truncated,
    Restored,
}

/// How one table's changes become events.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) relation: Arc<Relation>,
    /// An event's name and the part of the envelope that says it, by [`Verb`].
    verbs: [(Arc<str>, Vec<u8>); 5],
    /// What events call each column, as a JSON key: `"first_name":`. None: they don't tell it.
    keys: Vec<Option<Vec<u8>>>,
    /// Bytes of all keys.
    pub(super) keys_bytes: usize,
    /// The start of the `source` object.
    pub(super) source: Vec<u8>,
    /// Hash of schema and table.
    lane: LaneHash,
    order: Order,
    soft_delete: Option<SoftDelete>,
}

/// What tells a record from others.
#[derive(Debug)]
enum Order {
    /// For each column up to the last that matters, whether it does.
    Columns(Vec<bool>),
    /// There is no key, but old rows are known: all columns.
    Row,
    /// Nothing does.
    None,
}

impl Plan {
    pub(super) fn new(relation: Arc<Relation>, record: &str, told: Told, source: &Source) -> Plan {
        let verb = |verb: &str| {
            let name = format!("{record}.{verb}");
            let naming = envelope::naming(&name);
            (Arc::from(name), naming)
        };
        let key = |name: String| {
            let mut key = Vec::with_capacity(name.len() + 3);
            envelope::quoted(&mut key, &name);
            key.push(b':');
            key
        };
        let keys: Vec<_> = told.names.into_iter().map(|name| name.map(key)).collect();
        Plan {
            // In the order of `Verb`.
            verbs: ["created", "updated", "deleted", "truncated", "restored"].map(verb),
            keys_bytes: keys.iter().flatten().map(|key| key.len() + 1).sum(),
            keys,
            source: source.of_table(&relation.schema, &relation.name),
            lane: LaneHash::of(&[relation.schema.as_bytes(), relation.name.as_bytes()]),
            order: Order::of(&relation),
            soft_delete: told.soft_delete,
            relation,
        }
    }

    pub(super) fn name(&self, verb: Verb) -> &Arc<str> {
        &self.verbs[verb as usize].0
    }

    pub(super) fn naming(&self, verb: Verb) -> &[u8] {
        &self.verbs[verb as usize].1
    }

    /// What events call a column, as a JSON key with its colon. None: they don't tell it.
    pub(super) fn key(&self, column: usize) -> Option<&[u8]> {
        self.keys.get(column)?.as_deref()
    }

    /// What events call a column, as a JSON string.
    pub(super) fn quoted_name(&self, column: usize) -> Option<&[u8]> {
        self.key(column)?.strip_suffix(b":")
    }

    /// What an update means: another word than `updated` only where a column marks deleted rows.
    pub(super) fn verb_of_update(&self, old: Option<OldTuple<'_>>, new: TupleData<'_>) -> Verb {
        self.soft_delete.as_ref().map_or(Verb::Updated, |column| column.verb(old, new))
    }

    /// The same of an update whose rows are JSON.
    pub(super) fn verb_of_json(&self, old: Option<&[Option<&str>]>, new: &[Option<&str>]) -> Verb {
        self.soft_delete.as_ref().map_or(Verb::Updated, |column| column.verb_of_json(old, new))
    }

    /// The lane of a record; a value that was not sent is taken from its old row. `None` where
    /// nothing tells the table's records apart.
    pub(super) fn lane(&self, row: TupleData<'_>, old: Option<TupleData<'_>>) -> Option<i64> {
        let mut old = old.map(|old| old.iter());
        let values = row.iter().map(|value| (value, old.as_mut().and_then(Iterator::next)));
        self.hash(values, |hash, value| {
            let value = match value {
                (TupleValue::UnchangedToast, Some(old)) => old,
                (value, _) => value,
            };
            match value {
                TupleValue::Text(text) => hash.with(text),
                TupleValue::Null | TupleValue::UnchangedToast => hash.with_absent(),
            }
        })
    }

    /// The lane of a record whose values are JSON: that of the same record as text, as far as JSON
    /// tells it, which [`recorded::text`] says.
    pub(super) fn lane_of_json(&self, row: &[Option<&str>]) -> Option<i64> {
        let columns = &self.relation.columns;
        self.hash(row.iter().zip(columns), |hash, (json, column)| {
            match json.and_then(|json| recorded::text(&column.kind, json)) {
                Some(text) => hash.with(text.as_bytes()),
                None => hash.with_absent(),
            }
        })
    }

    /// The hash of the values of the columns that tell a record from others, which `with` adds.
    fn hash<V>(
        &self,
        values: impl Iterator<Item = V>,
        with: impl Fn(LaneHash, V) -> LaneHash,
    ) -> Option<i64> {
        let mut hash = self.lane;
        match &self.order {
            Order::None => return None,
            Order::Row => hash = values.fold(hash, with),
            Order::Columns(matters) => {
                for (value, matters) in values.zip(matters) {
                    if *matters {
                        hash = with(hash, value);
                    }
                }
            }
        }
        Some(hash.lane())
    }
}

impl Order {
    fn of(relation: &Relation) -> Order {
        let identity = || relation.columns.iter().map(|column| column.in_replica_identity);
        let primary_key =
            || (0..relation.columns.len()).map(|column| relation.key.contains(&column));
        // Old rows tell the columns of the replica identity and no others, so an update or delete
        // can be ordered by nothing else, whatever the primary key is.
        let named =
            matches!(relation.replica_identity, ReplicaIdentity::Default | ReplicaIdentity::Index)
                && identity().any(|matters| matters);
        let mut matters: Vec<bool> =
            if named { identity().collect() } else { primary_key().collect() };
        matters.truncate(matters.iter().rposition(|&matters| matters).map_or(0, |last| last + 1));
        match relation.replica_identity {
            _ if !matters.is_empty() => Order::Columns(matters),
            ReplicaIdentity::Full => Order::Row,
            _ => Order::None,
        }
    }
}

/// The plans of the tables seen, with nothing for those that no rule names.
#[derive(Debug, Default)]
pub(super) struct Plans {
    plans: std::collections::HashMap<RelationId, (Arc<Relation>, Option<Plan>)>,
}

impl Plans {
    /// Tables may come and go for years; forgetting a plan only costs making it again.
    const MOST: usize = 10_000;

    /// The plan of a table, made by `make` where there is none for exactly this relation.
    pub(super) fn of(
        &mut self,
        relation: &Arc<Relation>,
        make: impl FnOnce(&Arc<Relation>) -> Option<Plan>,
    ) -> Option<&Plan> {
        use std::collections::hash_map::Entry;
        if self.plans.len() >= Plans::MOST && !self.plans.contains_key(&relation.id) {
            self.plans.clear();
        }
        let entry = match self.plans.entry(relation.id) {
            Entry::Occupied(mut entry) => {
                if !Arc::ptr_eq(&entry.get().0, relation) {
                    let plan = make(relation);
                    if entry.get().1.is_some() && plan.is_none() {
                        let Relation { schema, name, .. } = &*entry.get().0;
                        tracing::warn!(
                            "table {schema}.{name} is called {}.{} now, which no table of the \
                             configuration names: from here on, its changes make no events",
                            relation.schema,
                            relation.name
                        );
                    }
                    entry.insert((relation.clone(), plan));
                }
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert((relation.clone(), make(relation))),
        };
        entry.1.as_ref()
    }
}
