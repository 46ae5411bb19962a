mod recorded;
mod tables;

use serde_json::{Value, json};

use super::*;
use crate::event::id::EventId;
use crate::postgres::lsn::Lsn;
use crate::postgres::pattern::TablePattern;
use crate::postgres::pgoutput::{LogicalMessage, TupleValue, decode, encode};
use crate::postgres::relation::{Column, RelationId, ReplicaIdentity, TypeKind};

const TRANSACTION: Transaction = Transaction {
    commit_lsn: Lsn(0x16B_3790),
    committed_at_us: 1_739_201_450_123_456,
    xid: 743,
    row_lsn: Lsn(0x16B_3748),
};

fn rules(tables: &[(&str, &str, &str)]) -> EventRules {
    let tables = tables.iter().map(|(schema, name, record)| {
        TableRule::new(TablePattern::exact(*schema, *name), Some(record.to_string()))
    });
    EventRules::new(RulesOptions {
        system_identifier: 7_000_000_000_000_000_001,
        database_oid: 16_384,
        database: "crm".into(),
        capture: "replication",
        tables: tables.collect(),
        int8_as_string: false,
        replace_invalid_utf8: false,
        message_prefix: "walhook".into(),
    })
}

/// A table; key columns are marked with `*`.
fn table(identity: ReplicaIdentity, columns: &[(&str, TypeKind)]) -> Arc<Relation> {
    let is_key = |name: &str| name.starts_with('*');
    Arc::new(Relation {
        id: RelationId(1),
        schema: "public".into(),
        name: "people".into(),
        replica_identity: identity,
        columns: columns
            .iter()
            .map(|(name, kind)| Column {
                name: name.trim_start_matches('*').into(),
                in_replica_identity: identity == ReplicaIdentity::Full || is_key(name),
                type_oid: 0,
                kind: kind.clone(),
            })
            .collect(),
        key: (0..columns.len()).filter(|&column| is_key(columns[column].0)).collect(),
    })
}

fn people(identity: ReplicaIdentity) -> Arc<Relation> {
    let text = TypeKind::Text;
    table(identity, &[("*id", TypeKind::Int8), ("name", text.clone()), ("bio", text)])
}

/// `~` is null and `^` an unchanged large value.
fn values<'v>(values: &[&'v str]) -> Vec<TupleValue<'v>> {
    values
        .iter()
        .map(|&value| match value {
            "~" => TupleValue::Null,
            "^" => TupleValue::UnchangedToast,
            value => TupleValue::Text(value.as_bytes()),
        })
        .collect()
}

fn apply_at(
    rules: &mut EventRules,
    transaction: &Transaction,
    relation: &Arc<Relation>,
    message: &[u8],
) -> Result<EventBatch, RuleError> {
    let position = Position { commit_lsn: transaction.commit_lsn, ordinal: 3 };
    let mut batch = EventBatch::default();
    let change = match decode(message).unwrap() {
        LogicalMessage::Insert { new, .. } => Change::Insert { relation, new },
        LogicalMessage::Update { old, new, .. } => Change::Update { relation, old, new },
        LogicalMessage::Delete { old, .. } => Change::Delete { relation, old },
        LogicalMessage::Truncate { .. } => Change::Truncate { relation },
        LogicalMessage::Message { prefix, content, .. } => Change::Message { prefix, content },
        other => panic!("{other:?} is no change"),
    };
    rules.apply(transaction, position, &change, &mut batch)?;
    Ok(batch)
}

fn apply(rules: &mut EventRules, relation: &Arc<Relation>, message: &[u8]) -> EventBatch {
    apply_at(rules, &TRANSACTION, relation, message).unwrap()
}

/// One change's event: name, lanes, envelope.
fn event(relation: &Arc<Relation>, message: &[u8]) -> (String, Vec<i64>, Value) {
    let batch = apply(&mut rules(&[("public", "people", "person")]), relation, message);
    let [event] = batch.events() else { panic!("{} events", batch.len()) };
    let body = serde_json::from_slice(batch.body(event)).unwrap();
    (event.name.to_string(), event.lanes.as_slice().to_vec(), body)
}

fn insert(new: &[&str]) -> Vec<u8> {
    encode::insert(1, &values(new))
}

fn update(old: Option<(u8, &[&str])>, new: &[&str]) -> Vec<u8> {
    let old = old.map(|(kind, old)| (kind, values(old)));
    let old = old.as_ref().map(|(kind, old)| (*kind, old.as_slice()));
    encode::update(1, old, &values(new))
}

fn delete(kind: u8, old: &[&str]) -> Vec<u8> {
    encode::delete(1, kind, &values(old))
}

/// Truncation of table 1.
const TRUNCATE: &[u8] = b"T\0\0\0\x01\0\0\0\0\x01";

#[test]
fn an_envelope_byte_for_byte() {
    let mut rules = rules(&[("public", "people", "person")]);
    let relation = people(ReplicaIdentity::Full);
    let message = update(Some((b'O', &["7", "Al", "^"])), &["7", "Alice", "^"]);
    let batch = apply(&mut rules, &relation, &message);
    let event = &batch.events()[0];
    let expected = format!(
        "{{\"id\":\"{}\",\"event\":\"person.updated\",\
         \"timestamp\":\"2025-02-10T15:30:50.123456Z\",\"data\":{{\"id\":7,\"name\":\"Alice\"}},\
         \"previous\":{{\"name\":\"Al\"}},\"updatedFields\":[\"name\"],\"unchanged\":[\"bio\"],\
         \"source\":{{\"database\":\"crm\",\"schema\":\"public\",\"table\":\"people\",\
         \"lsn\":\"0/16B3748\",\"commitLsn\":\"0/16B3790\",\"xid\":743,\"ordinal\":3,\
         \"capture\":\"replication\"}}}}",
        event.id
    );
    assert_eq!(std::str::from_utf8(batch.body(event)).unwrap(), expected);
    assert_eq!(event.committed_at_us, TRANSACTION.committed_at_us);
    let tag = crate::event::id::TransactionTag::new(
        "replication",
        7_000_000_000_000_000_001,
        16_384,
        743,
        TRANSACTION.committed_at_us,
    );
    assert_eq!(event.id, EventId::new(0x16B_3790, 3, tag));
}

#[test]
fn inserts() {
    let relation = people(ReplicaIdentity::Default);
    let (name, _, body) = event(&relation, &insert(&["1", "Ann \"A\"", "~"]));
    assert_eq!(name, "person.created");
    assert_eq!(body["event"], "person.created");
    assert_eq!(body["data"], json!({"id": 1, "name": "Ann \"A\"", "bio": null}));
    for absent in ["previous", "updatedFields", "unchanged"] {
        assert!(body.get(absent).is_none());
    }
    let bare = table(ReplicaIdentity::Default, &[]);
    let (_, lanes, body) = event(&bare, &insert(&[]));
    assert_eq!(body["data"], json!({}));
    assert!(lanes.is_empty());
}

#[test]
fn updates_by_what_is_known_of_the_old_row() {
    let default = people(ReplicaIdentity::Default);
    let (name, _, body) = event(&default, &update(None, &["1", "Anna", "^"]));
    assert_eq!(name, "person.updated");
    assert_eq!(body["data"], json!({"id": 1, "name": "Anna"}));
    assert_eq!(body["unchanged"], json!(["bio"]));
    assert!(body.get("previous").is_none() && body.get("updatedFields").is_none());

    let (_, _, body) = event(&default, &update(Some((b'K', &["1", "~", "~"])), &["2", "A", "b"]));
    assert_eq!(body["data"], json!({"id": 2, "name": "A", "bio": "b"}));
    assert_eq!(body["previous"], json!({"id": 1}));
    assert!(body.get("updatedFields").is_none());

    // Sent because the key is stored out of line, not because it changed.
    let (_, _, body) = event(&default, &update(Some((b'K', &["1", "~", "~"])), &["^", "A", "^"]));
    assert_eq!(body["data"], json!({"id": 1, "name": "A"}));
    assert_eq!(body["unchanged"], json!(["bio"]));
    assert!(body.get("previous").is_none());

    let full = people(ReplicaIdentity::Full);
    let message = update(Some((b'O', &["1", "~", "long"])), &["1", "A", "^"]);
    let (_, _, body) = event(&full, &message);
    assert_eq!(body["data"], json!({"id": 1, "name": "A", "bio": "long"}));
    assert_eq!(body["previous"], json!({"name": null}));
    assert_eq!(body["updatedFields"], json!(["name"]));
    assert!(body.get("unchanged").is_none());

    let (_, _, body) = event(&full, &update(Some((b'O', &["1", "~", "b"])), &["1", "~", "b"]));
    assert_eq!(body["previous"], json!({}));
    assert_eq!(body["updatedFields"], json!([]));
}

#[test]
fn deletes_tell_what_is_known() {
    let default = people(ReplicaIdentity::Default);
    let (name, _, body) = event(&default, &delete(b'K', &["1", "~", "~"]));
    assert_eq!(name, "person.deleted");
    assert_eq!(body["data"], json!({"id": 1}));
    let full = people(ReplicaIdentity::Full);
    let (_, _, body) = event(&full, &delete(b'O', &["1", "~", "b"]));
    assert_eq!(body["data"], json!({"id": 1, "name": null, "bio": "b"}));
}

#[test]
fn truncates() {
    let relation = people(ReplicaIdentity::Default);
    let (name, lanes, body) = event(&relation, TRUNCATE);
    assert_eq!(name, "person.truncated");
    assert_eq!(body["data"], json!({}));
    assert_eq!(lanes, Lanes::BARRIER.as_slice());
}

#[test]
fn events_of_one_record_share_its_lane() {
    let lanes = |relation: &Arc<Relation>, message: &[u8]| event(relation, message).1;
    for identity in [ReplicaIdentity::Default, ReplicaIdentity::Index, ReplicaIdentity::Full] {
        let relation = people(identity);
        let kind = if identity == ReplicaIdentity::Full { b'O' } else { b'K' };
        let created = lanes(&relation, &insert(&["1", "A", "b"]));
        assert_eq!(created.len(), 1);
        assert_eq!(lanes(&relation, &update(None, &["1", "B", "^"])), created);
        assert_eq!(lanes(&relation, &delete(kind, &["1", "~", "~"])), created);
        let other = lanes(&relation, &insert(&["2", "A", "b"]));
        assert_ne!(other, created);
        let moved = lanes(&relation, &update(Some((kind, &["1", "~", "~"])), &["2", "A", "b"]));
        assert_eq!(moved, [created[0], other[0]]);
        let same = lanes(&relation, &update(Some((kind, &["1", "~", "~"])), &["^", "A", "b"]));
        assert_eq!(same, created);
    }
}

#[test]
fn records_without_a_primary_key() {
    let columns = [("a", TypeKind::Text), ("b", TypeKind::Text)];
    let lanes = |relation: &Arc<Relation>, message: &[u8]| event(relation, message).1;
    let nothing = table(ReplicaIdentity::Default, &columns);
    assert!(lanes(&nothing, &insert(&["1", "2"])).is_empty());
    let full = table(ReplicaIdentity::Full, &columns);
    let created = lanes(&full, &insert(&["1", "2"]));
    assert_eq!(created.len(), 1);
    assert_eq!(lanes(&full, &delete(b'O', &["1", "2"])), created);
    let updated = lanes(&full, &update(Some((b'O', &["1", "2"])), &["^", "3"]));
    assert_eq!(updated, [created[0], lanes(&full, &insert(&["1", "3"]))[0]]);
}

#[test]
fn the_replica_identity_orders_where_it_is_not_the_primary_key() {
    // The primary key is `id`, but deletes only tell `code`.
    let mut relation = (*people(ReplicaIdentity::Index)).clone();
    relation.columns[0].in_replica_identity = false;
    relation.columns[1].in_replica_identity = true;
    let relation = Arc::new(relation);
    let (_, created, _) = event(&relation, &insert(&["1", "code", "b"]));
    let (_, deleted, body) = event(&relation, &delete(b'K', &["~", "code", "~"]));
    assert_eq!(created, deleted);
    assert_eq!(body["data"], json!({"name": "code"}));
}

#[test]
fn tables_without_a_rule_make_no_event() {
    let relation = people(ReplicaIdentity::Default);
    for table in [("public", "People", "person"), ("Public", "people", "person")] {
        assert!(apply(&mut rules(&[table]), &relation, &insert(&["1", "2", "3"])).is_empty());
    }
}

#[test]
fn a_table_may_change_between_rows() {
    let mut rules = rules(&[("public", "people", "person")]);
    let data = |rules: &mut EventRules, relation: &Arc<Relation>, message: &[u8]| {
        let batch = apply(rules, relation, message);
        let body: Value = serde_json::from_slice(batch.body(&batch.events()[0])).unwrap();
        body["data"].clone()
    };
    let before = table(ReplicaIdentity::Default, &[("*id", TypeKind::Number)]);
    assert_eq!(data(&mut rules, &before, &insert(&["1"])), json!({"id": 1}));
    let columns = [("*number", TypeKind::Text), ("x", TypeKind::Bool)];
    let after = table(ReplicaIdentity::Default, &columns);
    assert_eq!(data(&mut rules, &after, &insert(&["1", "t"])), json!({"number": "1", "x": true}));
    assert_eq!(data(&mut rules, &before, &insert(&["2"])), json!({"id": 2}));
    let mut renamed = (*after).clone();
    renamed.name = "persons".into();
    assert!(apply(&mut rules, &Arc::new(renamed), &insert(&["1", "t"])).is_empty());
}

#[test]
fn hostile_names_are_only_names() {
    let hostile = "na\"ïve\n\\table\u{1}";
    let mut relation = (*table(ReplicaIdentity::Full, &[("*x", TypeKind::Text)])).clone();
    relation.schema = hostile.into();
    relation.name = hostile.into();
    relation.columns[0].name = hostile.into();
    let mut rules = rules(&[(hostile, hostile, hostile)]);
    let message = update(Some((b'O', &["a"])), &["b"]);
    let batch = apply(&mut rules, &Arc::new(relation), &message);
    let event = &batch.events()[0];
    let body: Value = serde_json::from_slice(batch.body(event)).unwrap();
    assert_eq!(*event.name, format!("{hostile}.updated"));
    assert_eq!(body["event"], *event.name);
    assert_eq!(body["data"][hostile], "b");
    assert_eq!(body["previous"][hostile], "a");
    assert_eq!(body["updatedFields"], json!([hostile]));
    assert_eq!(body["source"]["schema"], hostile);
    assert_eq!(body["source"]["table"], hostile);
}

#[test]
fn a_row_of_another_width_is_an_error() {
    let relation = people(ReplicaIdentity::Full);
    for message in [
        insert(&["1"]),
        insert(&["1", "2", "3", "4"]),
        update(Some((b'O', &["1"])), &["1", "2", "3"]),
        delete(b'O', &["1"]),
    ] {
        let mut rules = rules(&[("public", "people", "person")]);
        let error = apply_at(&mut rules, &TRANSACTION, &relation, &message).unwrap_err();
        assert!(error.to_string().contains("announced with 3"), "{error}");
        assert!(!error.is_invalid_utf8());
    }
}

#[test]
fn a_value_that_is_not_utf8_names_its_column() {
    let relation = people(ReplicaIdentity::Default);
    let text = TupleValue::Text;
    let message = encode::insert(1, &[text(b"1"), text(b"caf\xE9"), text(b"")]);
    let mut rules = rules(&[("public", "people", "person")]);
    let error = apply_at(&mut rules, &TRANSACTION, &relation, &message).unwrap_err();
    assert!(error.is_invalid_utf8());
    let sentence = error.to_string();
    assert!(sentence.contains("\"name\"") && sentence.contains("\"public\".\"people\""));
    assert!(!sentence.contains("caf"));
}

fn emitted(prefix: &str, content: &str) -> Vec<u8> {
    encode::encode(&LogicalMessage::Message {
        transactional: true,
        lsn: Lsn(1),
        prefix: prefix.as_bytes(),
        content: content.as_bytes(),
    })
}

#[test]
fn custom_events() {
    let relation = people(ReplicaIdentity::Default);
    let content = r#"{"event":"invoice.paid","key":"42","data":{"total": 1.50}}"#;
    let (name, lanes, body) = event(&relation, &emitted("walhook", content));
    assert_eq!(name, "invoice.paid");
    assert_eq!(body["event"], "invoice.paid");
    assert_eq!(body["data"].to_string(), r#"{"total":1.50}"#);
    let source = json!({"database": "crm", "lsn": "0/16B3748", "commitLsn": "0/16B3790",
        "xid": 743, "ordinal": 3, "capture": "replication"});
    assert_eq!(body["source"], source);
    assert_eq!(lanes.len(), 1);

    let content = r#"{"event":"invoice.sent","key":42}"#;
    let (_, same, body) = event(&relation, &emitted("walhook", content));
    assert_eq!(same, lanes);
    assert_eq!(body["data"], json!({}));
    let (_, none, _) = event(&relation, &emitted("walhook", r#"{"event":"x"}"#));
    assert!(none.is_empty());
}

#[test]
fn malformed_messages_are_counted_and_left_out() {
    let relation = people(ReplicaIdentity::Default);
    let mut rules = rules(&[]);
    assert!(apply(&mut rules, &relation, &emitted("walhook", "{")).is_empty());
    assert!(apply(&mut rules, &relation, &emitted("other", "{")).is_empty());
    assert_eq!(rules.malformed_messages(), 1);
}

#[test]
fn ids_are_stable_and_of_their_transaction() {
    let relation = people(ReplicaIdentity::Default);
    let id = |transaction: &Transaction, message: &[u8]| {
        let mut rules = rules(&[("public", "people", "person")]);
        apply_at(&mut rules, transaction, &relation, message).unwrap().events()[0].id
    };
    let insert = insert(&["1", "2", "3"]);
    let first = id(&TRANSACTION, &insert);
    assert_eq!(id(&TRANSACTION, &insert), first);
    assert_eq!(id(&Transaction { row_lsn: Lsn(9), ..TRANSACTION }, &insert), first);
    assert_ne!(id(&Transaction { xid: 744, ..TRANSACTION }, &insert), first);
    assert_ne!(id(&Transaction { committed_at_us: 1, ..TRANSACTION }, &insert), first);
    // A lone message has no commit time of its own, and must not take a transaction's place.
    let message = emitted("walhook", r#"{"event":"x"}"#);
    let lone = Transaction { xid: 0, ..TRANSACTION };
    assert_eq!(id(&lone, &message), id(&Transaction { committed_at_us: 1, ..lone }, &message));
}

#[test]
fn one_instance_over_many_transactions_is_like_many() {
    let relation = people(ReplicaIdentity::Default);
    let mut kept = rules(&[("public", "people", "person")]);
    for xid in [1, 1, 2, 0, 2, 3] {
        let transaction = Transaction { xid, commit_lsn: Lsn(u64::from(xid)), ..TRANSACTION };
        let message = insert(&["1", "2", "3"]);
        let batch = apply_at(&mut kept, &transaction, &relation, &message).unwrap();
        let mut fresh = rules(&[("public", "people", "person")]);
        let expected = apply_at(&mut fresh, &transaction, &relation, &message).unwrap();
        assert_eq!(batch.events(), expected.events());
        assert_eq!(batch.body(&batch.events()[0]), expected.body(&expected.events()[0]));
    }
}
