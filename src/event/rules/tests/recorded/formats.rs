//! What formats and conditions make of recorded changes: they read envelopes, so these are about
//! what an outbox always has and a log mostly has not, the old row.

use bytes::Bytes;

use super::*;
use crate::event::format::template::Template;
use crate::event::{EventCondition, Format, Subject};

const OLD: &str = r#"{"id":7,"name":"Al","price":1.50,"doc":{"a": [1]}}"#;
const NEW: &str = r#"{"id":7,"name":"Alice","price":1.50,"doc":null}"#;

fn batch(change: (RecordedKind, Option<&str>, Option<&str>)) -> EventBatch {
    let columns = [
        ("*id", TypeKind::Int8),
        ("name", TypeKind::Text),
        ("price", TypeKind::Number),
        ("doc", TypeKind::Json),
    ];
    let table = seen(&table(ReplicaIdentity::Full, &columns));
    let mut rules = recorded_rules(vec![person()], false, "outbox");
    record(&mut rules, &table, change.0, change.1, change.2).unwrap()
}

fn rendered(format: &Format, change: (RecordedKind, Option<&str>, Option<&str>)) -> String {
    let batch = batch(change);
    let event = &batch.events()[0];
    let envelope = Bytes::copy_from_slice(batch.body(event));
    let (id, name, committed_at_us) = (event.id, &*event.name, event.committed_at_us);
    let subject = Subject { id, name, committed_at_us, envelope: &envelope };
    String::from_utf8(format.render(&subject).unwrap().body.to_vec()).unwrap()
}

fn named(format: &str) -> Format {
    Format::named(format, "crm", "https://example.com/hooks").unwrap()
}

#[test]
fn debezium_has_both_rows() {
    let format = named("debezium");
    for (change, op, before, after) in [
        (insert_json(NEW), "c", "null", NEW),
        (update_json(OLD, NEW), "u", OLD, NEW),
        (delete_json(OLD), "d", OLD, "null"),
        (TRUNCATE_RECORDED, "t", "null", "null"),
    ] {
        let body = rendered(&format, change);
        let rows = format!(r#"{{"before":{before},"after":{after},"source":{{"#);
        assert!(body.starts_with(&rows), "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["op"], op);
        let source = &body["source"];
        assert_eq!((&source["schema"], &source["table"]), (&json!("public"), &json!("people")));
        assert_eq!((&source["txId"], &source["lsn"]), (&json!(743), &json!(0x16B_3748)));
    }
}

#[test]
fn other_formats_read_it_as_any_event() {
    let update = update_json(OLD, NEW);
    let body: Value = serde_json::from_str(&rendered(&named("cloudevents"), update)).unwrap();
    assert_eq!(body["type"], "person.updated");
    assert_eq!(body["source"], "/crm/public/people");
    let body: Value = serde_json::from_str(&rendered(&named("twenty"), update)).unwrap();
    assert_eq!(body["eventName"], "person.updated");
    assert_eq!(body["record"]["name"], "Alice");
    assert_eq!(body["updatedFields"], json!(["name", "doc"]));
    let body: Value = serde_json::from_str(&rendered(&named("standard"), update)).unwrap();
    assert_eq!(body["data"]["name"], "Alice");
    assert_eq!(rendered(&named("cloudevents-binary"), update), NEW);
    let text = "{{ event }}: {{ previous.name }} is {{ data.name }} for {{ data.price }} \
                ({{ source.capture }})";
    let template = Template::new("a.txt", text, None).unwrap();
    let body = rendered(&Format::Template(Arc::new(template)), update);
    assert_eq!(body, "person.updated: Al is Alice for 1.50 (outbox)");
}

#[test]
fn conditions_know_the_old_values() {
    for (text, expected) in [
        ("previous.name == 'Al' && data.name == 'Alice'", true),
        ("'name' in updatedFields && !('price' in updatedFields)", true),
        ("has(previous.price)", false),
        ("data.doc == null && previous.doc.a[0] == 1", true),
        ("data.id == 7 && data.price == 1.5", true),
        ("source.capture == 'outbox' && source.table == 'people'", true),
    ] {
        let batch = batch(update_json(OLD, NEW));
        let body = batch.body(&batch.events()[0]);
        assert_eq!(EventCondition::new(text).unwrap().matches(body), Ok(expected), "{text}");
    }
}
