//! What the keys of a `[[table]]` make of events.

use super::*;
use crate::event::rules::{Case, Columns};
use crate::postgres::pattern::NamePattern;

pub(super) fn person() -> TableRule {
    TableRule::new(TablePattern::exact("public", "people"), Some("person".into()))
}

pub(super) fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn rules_of(tables: Vec<TableRule>) -> EventRules {
    let mut rules = rules(&[]);
    rules.set_tables(tables);
    rules
}

/// One change's event under a rule: lanes, envelope.
fn event_of(rule: &TableRule, relation: &Arc<Relation>, message: &[u8]) -> (Vec<i64>, Value) {
    let batch = apply(&mut rules_of(vec![rule.clone()]), relation, message);
    let [event] = batch.events() else { panic!("{} events", batch.len()) };
    let body: Value = serde_json::from_slice(batch.body(event)).unwrap();
    assert_eq!(body["event"], *event.name);
    (event.lanes.as_slice().to_vec(), body)
}

/// `id`, `first_name`, `last_name`, `bio`.
fn wide(identity: ReplicaIdentity) -> Arc<Relation> {
    let text = TypeKind::Text;
    let columns = [
        ("*id", TypeKind::Int8),
        ("first_name", text.clone()),
        ("last_name", text.clone()),
        ("bio", text),
    ];
    table(identity, &columns)
}

#[test]
fn events_tell_the_wanted_columns_by_their_names_and_no_others() {
    let rule = TableRule {
        columns: Columns::Except(list(&["last_name"])),
        rename: vec![("bio".into(), "life_story".into())],
        case: Case::Camel,
        ..person()
    };
    let full = wide(ReplicaIdentity::Full);
    let (_, body) = event_of(&rule, &full, &insert(&["1", "Ada", "L", "~"]));
    assert_eq!(body["data"], json!({"id": 1, "firstName": "Ada", "life_story": null}));
    let old = (b'O', &["1", "Ada", "L", "^"][..]);
    let (_, body) = event_of(&rule, &full, &update(Some(old), &["1", "Eve", "M", "^"]));
    assert_eq!(body["data"], json!({"id": 1, "firstName": "Eve"}));
    assert_eq!(body["previous"], json!({"firstName": "Ada"}));
    assert_eq!(body["updatedFields"], json!(["firstName"]));
    assert_eq!(body["unchanged"], json!(["life_story"]));
    let (_, body) = event_of(&rule, &full, &delete(b'O', &["1", "Ada", "L", "b"]));
    assert_eq!(body["data"], json!({"id": 1, "firstName": "Ada", "life_story": "b"}));
    let (_, body) = event_of(&rule, &full, TRUNCATE);
    assert_eq!((&body["event"], &body["data"]), (&json!("person.truncated"), &json!({})));
}

#[test]
fn what_is_not_told_is_not_said_to_be_unchanged_or_updated() {
    let rule = TableRule { columns: Columns::Only(list(&["first_name"])), ..person() };
    let (_, body) =
        event_of(&rule, &wide(ReplicaIdentity::Default), &update(None, &["1", "Ada", "L", "^"]));
    assert_eq!(body["data"], json!({"first_name": "Ada"}));
    assert_eq!(body.get("unchanged"), None);
    // The row has changed all the same.
    let old = (b'O', &["1", "Ada", "L", "b"][..]);
    let message = update(Some(old), &["1", "Ada", "M", "b"]);
    let (_, body) = event_of(&rule, &wide(ReplicaIdentity::Full), &message);
    assert_eq!(body["event"], "person.updated");
    assert_eq!((&body["previous"], &body["updatedFields"]), (&json!({}), &json!([])));
    // A key that changed is not told either.
    let old = (b'K', &["1", "~", "~", "~"][..]);
    let message = update(Some(old), &["2", "Ada", "L", "b"]);
    let (_, body) = event_of(&rule, &wide(ReplicaIdentity::Default), &message);
    assert_eq!(body.get("previous"), None);
    let message = delete(b'K', &["1", "~", "~", "~"]);
    let (_, body) = event_of(&rule, &wide(ReplicaIdentity::Default), &message);
    assert_eq!(body["data"], json!({}));
}

#[test]
fn a_key_that_is_not_told_orders_all_the_same() {
    let plain = wide(ReplicaIdentity::Default);
    let secret = TableRule { columns: Columns::Except(list(&["id"])), ..person() };
    let lanes = |rule: &TableRule, message: &[u8]| event_of(rule, &plain, message).0;
    let created = insert(&["1", "a", "b", "c"]);
    assert_eq!(lanes(&secret, &created), lanes(&person(), &created));
    let moved = update(Some((b'K', &["1", "~", "~", "~"])), &["2", "a", "b", "c"]);
    assert_eq!(lanes(&secret, &moved).len(), 2);
    assert_eq!(lanes(&secret, &moved), lanes(&person(), &moved));
}

#[test]
fn a_value_that_is_not_told_need_not_be_utf8() {
    let message =
        encode::insert(1, &[TupleValue::Text(b"1"), TupleValue::Text(b"\xE9"), TupleValue::Null]);
    let rule = TableRule { columns: Columns::Except(list(&["name"])), ..person() };
    let (_, body) = event_of(&rule, &people(ReplicaIdentity::Default), &message);
    assert_eq!(body["data"], json!({"id": 1, "bio": null}));
}

#[test]
fn the_tables_of_a_pattern_are_named_after_themselves() {
    let pattern = |schema: &str, name: &str| {
        TablePattern::new(NamePattern::Exact(schema.into()), NamePattern::Glob(name.into()))
    };
    let mut rules = rules_of(vec![
        TableRule::new(pattern("public", "*"), None),
        TableRule::new(TablePattern::exact("public", "people"), Some("person".into())),
    ]);
    for (table, name) in [
        ("people", Some("person.created")),
        ("notes", Some("notes.created")),
        ("order items*", Some("order_items_.created")),
        ("a..b", Some("a._.b.created")),
    ] {
        let mut relation = (*people(ReplicaIdentity::Default)).clone();
        relation.name = table.into();
        let batch = apply(&mut rules, &Arc::new(relation), &insert(&["1", "a", "b"]));
        assert_eq!(batch.events().first().map(|event| &*event.name), name);
    }
}

#[test]
fn rules_may_change_while_changes_come() {
    let relation = people(ReplicaIdentity::Default);
    let mut rules = rules_of(Vec::new());
    let message = insert(&["1", "a", "b"]);
    assert!(apply(&mut rules, &relation, &message).is_empty());
    for record in ["person", "human"] {
        rules.set_tables(vec![TableRule { record: Some(record.into()), ..person() }]);
        let batch = apply(&mut rules, &relation, &message);
        assert_eq!(*batch.events()[0].name, format!("{record}.created"));
    }
}

/// A table `id`, `gone`, where `gone` marks deleted rows.
fn soft(identity: ReplicaIdentity, kind: TypeKind) -> impl Fn(&[u8]) -> Value {
    let relation = table(identity, &[("*id", TypeKind::Number), ("gone", kind)]);
    let rule = TableRule { soft_delete: Some("gone".into()), ..person() };
    move |message| event_of(&rule, &relation, message).1
}

#[test]
fn a_mark_that_comes_or_goes_is_a_deletion_or_its_undoing() {
    let event = soft(ReplicaIdentity::Full, TypeKind::TimestampTz);
    let verb = |old: &str, new: &str| event(&update(Some((b'O', &["1", old])), &["1", new]));
    let (day, next) = ("2024-01-01 00:00:00+00", "2024-01-02 00:00:00+00");
    let deleted = verb("~", day);
    assert_eq!(deleted["event"], "person.deleted");
    assert_eq!(deleted["data"], json!({"id": 1, "gone": "2024-01-01T00:00:00+00:00"}));
    assert_eq!(deleted["previous"], json!({"gone": null}));
    assert_eq!(deleted["updatedFields"], json!(["gone"]));
    let restored = verb(day, "~");
    assert_eq!(restored["event"], "person.restored");
    assert_eq!(restored["data"], json!({"id": 1, "gone": null}));
    assert_eq!(restored["previous"], json!({"gone": "2024-01-01T00:00:00+00:00"}));
    for (old, new) in [(day, next), (day, day), ("~", "~"), (day, "^")] {
        assert_eq!(verb(old, new)["event"], "person.updated", "{old} to {new}");
    }
    assert_eq!(event(&insert(&["1", day]))["event"], "person.created");
    assert_eq!(event(&delete(b'O', &["1", day]))["event"], "person.deleted");
}

#[test]
fn false_is_no_mark() {
    let event = soft(ReplicaIdentity::Full, TypeKind::Bool);
    for (old, new, verb) in [
        ("f", "t", "deleted"),
        ("~", "t", "deleted"),
        ("t", "f", "restored"),
        ("t", "~", "restored"),
        ("f", "~", "updated"),
        ("~", "f", "updated"),
        ("t", "t", "updated"),
    ] {
        let event = event(&update(Some((b'O', &["1", old])), &["1", new]));
        assert_eq!(event["event"], format!("person.{verb}"), "{old} to {new}");
    }
    // Of a text it is a value like any other.
    let event = soft(ReplicaIdentity::Full, TypeKind::Text);
    let event = event(&update(Some((b'O', &["1", "~"])), &["1", "f"]));
    assert_eq!(event["event"], "person.deleted");
}

#[test]
fn a_mark_whose_old_value_is_not_known_is_new() {
    let event = soft(ReplicaIdentity::Default, TypeKind::Text);
    for (old, new, verb) in [
        (None, "x", "deleted"),
        (None, "~", "updated"),
        (None, "^", "updated"),
        (Some((b'K', &["2", "~"][..])), "x", "deleted"),
        (Some((b'K', &["2", "~"])), "~", "updated"),
    ] {
        let event = event(&update(old, &["1", new]));
        assert_eq!(event["event"], format!("person.{verb}"), "{old:?} to {new}");
    }
}

/// The old value of a key comes with every update that changes it.
#[test]
fn a_mark_in_the_replica_identity_is_known() {
    let relation =
        table(ReplicaIdentity::Index, &[("*id", TypeKind::Number), ("*gone", TypeKind::Bool)]);
    let rule = TableRule { soft_delete: Some("gone".into()), ..person() };
    for (old, new, verb) in [
        (None, "t", "updated"),
        (None, "f", "updated"),
        (Some((b'K', &["1", "f"][..])), "t", "deleted"),
        (Some((b'K', &["1", "t"])), "f", "restored"),
        (Some((b'K', &["2", "t"])), "t", "updated"),
    ] {
        let (_, event) = event_of(&rule, &relation, &update(old, &["1", new]));
        assert_eq!(event["event"], format!("person.{verb}"), "{old:?} to {new}");
    }
}

#[test]
fn a_mark_that_is_not_told_is_read() {
    let relation = wide(ReplicaIdentity::Full);
    let rule = TableRule {
        columns: Columns::Only(list(&["id"])),
        soft_delete: Some("bio".into()),
        ..person()
    };
    let old = (b'O', &["1", "a", "b", "~"][..]);
    let (_, body) = event_of(&rule, &relation, &update(Some(old), &["1", "a", "b", "c"]));
    assert_eq!((&body["event"], &body["data"]), (&json!("person.deleted"), &json!({"id": 1})));
    assert_eq!(body["updatedFields"], json!([]));
}
