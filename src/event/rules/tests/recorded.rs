//! Changes that triggers recorded: told as the log would tell them under REPLICA IDENTITY FULL.

mod formats;
mod same;
mod speed;

use super::tables::{list, person};
use super::*;
use crate::capture::change::{Recorded, RecordedKind, RecordedTable};
use crate::event::rules::{Case, Columns};

fn recorded_rules(
    tables: Vec<TableRule>,
    int8_as_string: bool,
    capture: &'static str,
) -> EventRules {
    EventRules::new(RulesOptions {
        system_identifier: 7_000_000_000_000_000_001,
        database_oid: 16_384,
        database: "crm".into(),
        capture,
        tables,
        int8_as_string,
        replace_invalid_utf8: false,
        message_prefix: "walhook".into(),
    })
}

/// The same table as a trigger sees it.
fn seen(relation: &Relation) -> Arc<RecordedTable> {
    let columns = relation.columns.iter();
    Arc::new(RecordedTable {
        id: relation.id,
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        key: relation.key.iter().map(|&column| relation.columns[column].name.clone()).collect(),
        columns: columns.map(|column| (column.name.clone(), column.kind.clone())).collect(),
        unseen: Vec::new(),
    })
}

fn record(
    rules: &mut EventRules,
    table: &Arc<RecordedTable>,
    kind: RecordedKind,
    old: Option<&str>,
    new: Option<&str>,
) -> Result<EventBatch, RuleError> {
    let mut batch = EventBatch::default();
    let position = Position { commit_lsn: TRANSACTION.commit_lsn, ordinal: 3 };
    let change = Change::Recorded(Recorded { kind, table, old, new });
    rules.apply(&TRANSACTION, position, &change, &mut batch)?;
    Ok(batch)
}

fn insert_json(new: &str) -> (RecordedKind, Option<&str>, Option<&str>) {
    (RecordedKind::Insert, None, Some(new))
}

fn update_json<'a>(old: &'a str, new: &'a str) -> (RecordedKind, Option<&'a str>, Option<&'a str>) {
    (RecordedKind::Update, Some(old), Some(new))
}

fn delete_json(old: &str) -> (RecordedKind, Option<&str>, Option<&str>) {
    (RecordedKind::Delete, Some(old), None)
}

const TRUNCATE_RECORDED: (RecordedKind, Option<&str>, Option<&str>) =
    (RecordedKind::Truncate, None, None);

/// One recorded change's event: name, lanes, envelope as text.
fn told(
    rule: &TableRule,
    table: &Arc<RecordedTable>,
    (kind, old, new): (RecordedKind, Option<&str>, Option<&str>),
) -> (String, Vec<i64>, String) {
    let mut rules = recorded_rules(vec![rule.clone()], false, "outbox");
    let batch = record(&mut rules, table, kind, old, new).unwrap();
    only(&batch)
}

fn only(batch: &EventBatch) -> (String, Vec<i64>, String) {
    let [event] = batch.events() else { panic!("{} events", batch.len()) };
    let body = std::str::from_utf8(batch.body(event)).unwrap();
    let id = event.id.to_string();
    let body =
        body.replace(&id, "ID").replace(r#""capture":"outbox""#, r#""capture":"replication""#);
    (event.name.to_string(), event.lanes.as_slice().to_vec(), body)
}

fn parsed(event: &(String, Vec<i64>, String)) -> Value {
    serde_json::from_str(&event.2).unwrap()
}

/// As the log tells it.
fn logged(
    rule: &TableRule,
    relation: &Arc<Relation>,
    message: &[u8],
) -> (String, Vec<i64>, String) {
    only(&apply(&mut recorded_rules(vec![rule.clone()], false, "replication"), relation, message))
}

fn timestamps() -> Arc<Relation> {
    let columns = [
        ("*id", TypeKind::Int8),
        ("first_name", TypeKind::Text),
        ("price", TypeKind::Number),
        ("ok", TypeKind::Bool),
        ("at", TypeKind::TimestampTz),
        ("doc", TypeKind::Json),
    ];
    table(ReplicaIdentity::Full, &columns)
}

#[test]
fn an_event_is_byte_for_byte_that_of_the_log_but_for_its_capture() {
    let relation = timestamps();
    let table = seen(&relation);
    let text =
        ["7", "A \"l\"\\\n\u{1}é", "1.50", "t", "2024-02-10 15:30:50.5+00", r#"{"a": [1e3]}"#];
    let moved = ["7", "Al", "2.00", "f", "2024-02-10 15:30:50.5+00", "~"];
    let json = r#"{"id":7,"first_name":"A \"l\"\\\n\u0001é","price":1.50,"ok":true,"at":"2024-02-10T15:30:50.5+00:00","doc":{"a": [1e3]}}"#;
    let moved_json = r#"{"id":7,"first_name":"Al","price":2.00,"ok":false,"at":"2024-02-10T15:30:50.5+00:00","doc":null}"#;
    let rules = [
        person(),
        TableRule { case: Case::Camel, ..person() },
        TableRule {
            columns: Columns::Except(list(&["price"])),
            rename: vec![("ok".into(), "fine".into())],
            ..person()
        },
        TableRule { columns: Columns::Only(list(&["id", "at"])), ..person() },
        TableRule { soft_delete: Some("ok".into()), ..person() },
        TableRule { soft_delete: Some("doc".into()), ..person() },
        TableRule { record: None, ..person() },
    ];
    for rule in rules {
        for (change, message) in [
            (insert_json(json), insert(&text)),
            (update_json(json, moved_json), update(Some((b'O', &text)), &moved)),
            (update_json(moved_json, json), update(Some((b'O', &moved)), &text)),
            (update_json(json, json), update(Some((b'O', &text)), &text)),
            (delete_json(json), delete(b'O', &text)),
            (TRUNCATE_RECORDED, TRUNCATE.to_vec()),
        ] {
            assert_eq!(told(&rule, &table, change), logged(&rule, &relation, &message));
        }
    }
    let event = told(&person(), &table, update_json(json, moved_json));
    assert_eq!(parsed(&event)["updatedFields"], json!(["first_name", "price", "ok", "doc"]));
    let mut rules = recorded_rules(vec![person()], false, "outbox");
    let batch = record(&mut rules, &table, RecordedKind::Insert, None, Some(json)).unwrap();
    let body: Value = serde_json::from_slice(batch.body(&batch.events()[0])).unwrap();
    let source = json!({"database": "crm", "schema": "public", "table": "people",
        "lsn": "0/16B3748", "commitLsn": "0/16B3790", "xid": 743, "ordinal": 3, "capture": "outbox"});
    assert_eq!(body["source"], source);
}

#[test]
fn records_have_the_lanes_that_the_log_gives_them() {
    for (kind, text, json) in [
        (TypeKind::Number, "42", "42"),
        (TypeKind::Number, "-7.50", "-7.50"),
        (TypeKind::Number, "NaN", r#""NaN""#),
        (TypeKind::Number, "1e+20", "1e+20"),
        (TypeKind::Int8, "9223372036854775807", "9223372036854775807"),
        (TypeKind::Text, "", r#""""#),
        (TypeKind::Text, "a \"b\" \\ é\n", r#""a \"b\" \\ é\n""#),
        (TypeKind::Text, "null", r#""null""#),
        (
            TypeKind::Text,
            "550e8400-e29b-41d4-a716-446655440000",
            r#""550e8400-e29b-41d4-a716-446655440000""#,
        ),
        (TypeKind::Text, "2024-02-10", r#""2024-02-10""#),
        (TypeKind::Text, "\\x00ff", r#""\\x00ff""#),
        (TypeKind::Char, "\\377", r#""\\377""#),
        (TypeKind::Bool, "t", "true"),
        (TypeKind::Bool, "f", "false"),
        (TypeKind::Timestamp, "2024-02-10 15:30:00", r#""2024-02-10T15:30:00""#),
        (TypeKind::Timestamp, "0044-03-15 12:00:00 BC", r#""0044-03-15T12:00:00 BC""#),
        (
            TypeKind::TimestampTz,
            "2024-02-10 15:30:50.123456+00",
            r#""2024-02-10T15:30:50.123456+00:00""#,
        ),
        (TypeKind::TimestampTz, "2024-02-10 15:30:00+00", r#""2024-02-10T15:30:00+00:00""#),
        (TypeKind::TimestampTz, "0044-03-15 12:00:00+00 BC", r#""0044-03-15T12:00:00+00:00 BC""#),
        (TypeKind::TimestampTz, "2024-02-10 15:30:00+05:30", r#""2024-02-10T15:30:00+05:30""#),
        (TypeKind::TimestampTz, "-infinity", r#""-infinity""#),
        (TypeKind::Json, r#"{"a": "b\n"}"#, r#"{"a": "b\n"}"#),
    ] {
        for columns in [
            vec![("a", TypeKind::Text), ("*k", kind.clone()), ("b", TypeKind::Text)],
            // Without a key, the whole row tells a record from others.
            vec![("a", TypeKind::Text), ("k", kind.clone()), ("b", TypeKind::Text)],
        ] {
            let relation = table(ReplicaIdentity::Full, &columns);
            let table = seen(&relation);
            let row = format!(r#"{{"a":"1","k":{json},"b":null}}"#);
            let (other, message) = (r#"{"a":"2","k":null,"b":null}"#, insert(&["1", text, "~"]));
            let (_, lanes, _) = told(&person(), &table, insert_json(&row));
            assert_eq!(lanes, logged(&person(), &relation, &message).1, "{text}");
            assert_eq!(told(&person(), &table, delete_json(&row)).1, lanes);
            let moved = told(&person(), &table, update_json(&row, other)).1;
            let message = update(Some((b'O', &["1", text, "~"])), &["2", "~", "~"]);
            assert_eq!(moved, logged(&person(), &relation, &message).1);
            assert_eq!((moved[0], moved.len()), (lanes[0], 2));
            // Nor does a key that is not told count for less.
            let secret = TableRule { columns: Columns::Except(list(&["k"])), ..person() };
            assert_eq!(told(&secret, &table, insert_json(&row)).1, lanes);
        }
    }
}

/// A slot knows the replica identity alone, which is the key unless somebody chose otherwise.
#[test]
fn a_switch_of_capture_keeps_lanes_under_the_default_identity() {
    let relation = people(ReplicaIdentity::Default);
    let table = seen(&relation);
    let row = r#"{"id":1,"name":"A","bio":null}"#;
    let lanes = logged(&person(), &relation, &insert(&["1", "A", "~"])).1;
    assert_eq!(told(&person(), &table, insert_json(row)).1, lanes);
    assert_eq!(told(&person(), &table, delete_json(row)).1, lanes);
    assert_eq!(told(&person(), &table, TRUNCATE_RECORDED).1, Lanes::BARRIER.as_slice());
}

#[test]
fn numbers_are_written_as_the_log_has_them_written() {
    let rendered = |kind: TypeKind, json: &str, int8_as_string: bool| {
        let relation = table(ReplicaIdentity::Full, &[("v", kind)]);
        let mut rules = recorded_rules(vec![person()], int8_as_string, "outbox");
        let row = format!(r#"{{"v":{json}}}"#);
        let batch = record(&mut rules, &seen(&relation), RecordedKind::Insert, None, Some(&row));
        let (_, _, body) = only(&batch.unwrap());
        let start = body.find(r#""data":{"v":"#).unwrap() + 12;
        body[start..body.find(r#"},"source""#).unwrap()].to_owned()
    };
    let array = |element: TypeKind| TypeKind::Array { element: Arc::new(element), delimiter: b',' };
    let pair = |kind: TypeKind| {
        let attributes = vec![("a \"b\"".to_owned(), TypeKind::Text), ("n".to_owned(), kind)];
        TypeKind::Composite(Arc::new(crate::postgres::relation::Composite {
            firm: attributes.len(),
            attributes,
            others: Vec::new(),
        }))
    };
    for (kind, json, plain, as_string) in [
        (TypeKind::Number, "1e+20", "100000000000000000000", None),
        (TypeKind::Number, "-0", "0", None),
        (TypeKind::Number, "\"NaN\"", "\"NaN\"", None),
        (TypeKind::Number, "12345678901234567890.10", "12345678901234567890.10", None),
        (
            TypeKind::Int8,
            "-9223372036854775808",
            "-9223372036854775808",
            Some("\"-9223372036854775808\""),
        ),
        (TypeKind::Int8, "null", "null", None),
        (array(TypeKind::Int8), "[1,null,-2]", "[1,null,-2]", Some(r#"["1",null,"-2"]"#)),
        (array(TypeKind::Int8), "[[1],[2]]", "[[1],[2]]", Some(r#"[["1"],["2"]]"#)),
        (array(array(TypeKind::Int8)), "[[1],[2]]", "[[1],[2]]", Some(r#"[["1"],["2"]]"#)),
        (array(TypeKind::Number), "[1.5e-07,[-0]]", "[0.00000015,[0]]", None),
        (array(TypeKind::Json), "[1e3,[1]]", "[1e3,[1]]", None),
        (array(TypeKind::Text), r#"["1","[1]"]"#, r#"["1","[1]"]"#, None),
        (
            pair(TypeKind::Int8),
            r#"{"a \"b\"":"1","n":1}"#,
            r#"{"a \"b\"":"1","n":1}"#,
            Some(r#"{"a \"b\"":"1","n":"1"}"#),
        ),
        (
            array(pair(array(TypeKind::Int8))),
            r#"[{"n":[1]},null]"#,
            r#"[{"n":[1]},null]"#,
            Some(r#"[{"n":["1"]},null]"#),
        ),
        (pair(TypeKind::Number), r#"{"gone":1e3,"n":1e+2}"#, r#"{"gone":1e3,"n":100}"#, None),
        (TypeKind::Vector(Arc::new(TypeKind::Number)), "[1,2]", "[1,2]", None),
        // Recorded as text.
        (array(TypeKind::Int8), r#""{1,NULL}""#, "[1,null]", Some(r#"["1",null]"#)),
        (array(TypeKind::Text), r#""{\"a\\\"b\"}""#, r#"["a\"b"]"#, None),
        (pair(TypeKind::Text), r#""(\",\",1)""#, r#"{"a \"b\"":",","n":"1"}"#, None),
        // The catalog is ahead of the row.
        (TypeKind::Int8, "\"text\"", "\"text\"", None),
        (array(TypeKind::Int8), "7", "7", None),
        (pair(TypeKind::Int8), "[1]", "[1]", None),
        (TypeKind::Text, "7", "7", None),
        (TypeKind::Bool, "[1e3]", "[1e3]", None),
    ] {
        assert_eq!(rendered(kind.clone(), json, false), plain);
        assert_eq!(rendered(kind, json, true), as_string.unwrap_or(plain));
    }
}

#[test]
fn columns_that_the_trigger_left_out_are_not_missed() {
    let relation = timestamps();
    let rule = TableRule { columns: Columns::Except(list(&["price", "doc"])), ..person() };
    let row = r#"{"id":7,"first_name":"Al","ok":true,"at":null}"#;
    let body = parsed(&told(&rule, &seen(&relation), insert_json(row)));
    assert_eq!(body["data"], json!({"id": 7, "first_name": "Al", "ok": true, "at": null}));
    let mut rules = recorded_rules(vec![rule], false, "outbox");
    record(&mut rules, &seen(&relation), RecordedKind::Insert, None, Some(row)).unwrap();
    assert!(rules.notices.said.is_empty(), "{:?}", rules.notices);
    // Rows of a time before the configuration changed.
    let rule = TableRule { columns: Columns::Only(list(&["id"])), ..person() };
    let body = parsed(&told(&rule, &seen(&relation), update_json(row, row)));
    assert_eq!((&body["data"], &body["previous"]), (&json!({"id": 7}), &json!({})));
}

#[test]
fn tables_may_change_between_rows_and_after_them() {
    let relation = people(ReplicaIdentity::Full);
    let now = seen(&relation);
    let mut gone = (*now).clone();
    gone.columns.clear();
    let mut rules = recorded_rules(vec![person()], true, "outbox");
    let mut data = |table: &Arc<RecordedTable>, row: &str| {
        let batch = record(&mut rules, table, RecordedKind::Insert, None, Some(row)).unwrap();
        parsed(&only(&batch))["data"].clone()
    };
    assert_eq!(data(&now, r#"{"id":1,"name":"A"}"#), json!({"id": "1", "name": "A"}));
    // Column added, dropped, renamed, and in another order.
    assert_eq!(data(&now, r#"{"id":1,"x":2,"bio":"b"}"#), json!({"id": "1", "x": 2, "bio": "b"}));
    assert_eq!(data(&now, r#"{"bio":"b","id":1}"#), json!({"id": "1", "bio": "b"}));
    assert_eq!(data(&now, "{}"), json!({}));
    // The table is gone, and nobody knows any more what was a bigint.
    let gone = Arc::new(gone);
    assert_eq!(data(&gone, r#"{"id":1,"ok":false}"#), json!({"id": 1, "ok": false}));
    assert_eq!(data(&Arc::new((*now).clone()), r#"{"id":1}"#), json!({"id": "1"}));
    // Not a column of this table's: another table's of the same number, of a dump that was restored.
    let mut other = (*now).clone();
    other.name = "persons".into();
    let other = Arc::new(other);
    assert!(record(&mut rules, &other, RecordedKind::Insert, None, Some("{}")).unwrap().is_empty());
    assert!(record(&mut rules, &other, RecordedKind::Insert, None, None).unwrap().is_empty());
    rules.set_tables(Vec::new());
    assert!(record(&mut rules, &now, RecordedKind::Insert, None, Some("{}")).unwrap().is_empty());
}

/// The log shows both rows of an update with the columns that the table has then.
#[test]
fn a_column_that_one_of_two_rows_lacks_was_not_changed() {
    let table = seen(&people(ReplicaIdentity::Full));
    let update = update_json(r#"{"id":1,"name":"A","y":1}"#, r#"{"id":1,"name":"B","bio":"b"}"#);
    let body = parsed(&told(&person(), &table, update));
    assert_eq!(body["data"], json!({"id": 1, "name": "B", "bio": "b"}));
    assert_eq!(body["previous"], json!({"name": "A"}));
    assert_eq!(body["updatedFields"], json!(["name"]));
    // In another order it is the same row.
    let update = update_json(r#"{"name":"A","id":1}"#, r#"{"id":1,"name":"A"}"#);
    let event = told(&person(), &table, update);
    assert_eq!((event.1.len(), &parsed(&event)["previous"]), (1, &json!({})));
    // No old row: nobody knows what differs.
    let update = (RecordedKind::Update, None, Some(r#"{"id":1,"name":"B"}"#));
    let body = parsed(&told(&person(), &table, update));
    assert!(body.get("previous").is_none() && body.get("updatedFields").is_none());
}

#[test]
fn marks_of_deleted_rows_are_read_as_the_log_reads_them() {
    for (kind, values) in [
        (TypeKind::Bool, [("~", "null"), ("f", "false"), ("t", "true")]),
        (TypeKind::Text, [("~", "null"), ("f", "\"f\""), ("false", "\"false\"")]),
        (TypeKind::Json, [("~", "null"), ("false", "false"), ("0", "0")]),
        (
            TypeKind::Timestamp,
            [
                ("~", "null"),
                ("2024-01-01 00:00:00", "\"2024-01-01T00:00:00\""),
                ("infinity", "\"infinity\""),
            ],
        ),
    ] {
        let columns = [("*id", TypeKind::Number), ("gone", kind)];
        let relation = table(ReplicaIdentity::Full, &columns);
        let rule = TableRule { soft_delete: Some("gone".into()), ..person() };
        for (old, old_json) in values {
            for (new, new_json) in values {
                let message = update(Some((b'O', &["1", old])), &["1", new]);
                let row = |json: &str| format!(r#"{{"id":1,"gone":{json}}}"#);
                let (old_row, new_row) = (row(old_json), row(new_json));
                let event = told(&rule, &seen(&relation), update_json(&old_row, &new_row));
                assert_eq!(event, logged(&rule, &relation, &message));
            }
        }
    }
}

#[test]
fn what_is_no_row_is_an_error_that_names_the_table_and_not_the_row() {
    let table = seen(&people(ReplicaIdentity::Full));
    let good = r#"{"id":1}"#;
    let deep = format!(r#"{{"id":{}"#, "[".repeat(1_000_000));
    let mut rules = recorded_rules(vec![person()], true, "outbox");
    for bad in [
        "",
        " ",
        "secret",
        "\"secret\"",
        "[]",
        "null",
        "7",
        "{",
        r#"{"id":1"#,
        r#"{"id":1,}"#,
        r#"{"id":1}{}"#,
        r#"{"id":"secret}"#,
        r#"{"id":secret}"#,
        r#"{id:1}"#,
        r#"{1:1}"#,
        r#"{"id":[1}}"#,
        &deep,
    ] {
        for (kind, old, new) in
            [insert_json(bad), update_json(bad, good), update_json(good, bad), delete_json(bad)]
        {
            let error = record(&mut rules, &table, kind, old, new).unwrap_err();
            assert!(error.is_of_one_change() && !error.is_invalid_utf8());
            let sentence = error.to_string();
            assert!(sentence.contains("\"public\".\"people\"") && !sentence.contains("secret"));
        }
    }
    for (kind, row) in [
        (RecordedKind::Insert, "new"),
        (RecordedKind::Update, "new"),
        (RecordedKind::Delete, "old"),
    ] {
        let error = record(&mut rules, &table, kind, None, None).unwrap_err();
        assert!(error.to_string().contains(&format!("without its {row} row")), "{error}");
    }
    // And on it goes.
    assert_eq!(
        record(&mut rules, &table, RecordedKind::Insert, None, Some(good)).unwrap().len(),
        1
    );
}

/// None of these comes from a server; what goes out is JSON all the same.
#[test]
fn strange_rows_make_well_formed_events() {
    let deep = format!(r#"{{"id":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let huge = format!(r#"{{"id":{}e{}}}"#, "9".repeat(100_000), "9".repeat(100_000));
    let many: Vec<String> = (0..500).map(|n| format!(r#""c{n}":1e+{n}"#)).collect();
    let many = format!("{{{}}}", many.join(","));
    let array = TypeKind::Array { element: Arc::new(TypeKind::Int8), delimiter: b',' };
    for kind in [TypeKind::Int8, TypeKind::Number, TypeKind::TimestampTz, TypeKind::Json, array] {
        let table = seen(&table(ReplicaIdentity::Full, &[("*id", kind)]));
        for row in [
            r#"{"id":1,"id":2,"id":3}"#,
            r#"{"id":"\ud800"}"#,
            r#"{"\ud800":1,"id":"\ud800\u0041"}"#,
            r#"{"id":"\u0000"}"#,
            " {\t\"id\" :\n1 , \"x\": [ 1e5 ] } ",
            r#"{"":"","\"":1}"#,
            r#"{"id":"T"}"#,
            r#"{"id":"T:00 BC"}"#,
            r#"{"id":"éTé:00"}"#,
            r#"{"id":-0,"x":1E5}"#,
            &deep,
            &huge,
            &many,
        ] {
            for int8_as_string in [false, true] {
                let mut rules = recorded_rules(vec![person()], int8_as_string, "outbox");
                for (kind, old, new) in [insert_json(row), update_json("{}", row), delete_json(row)]
                {
                    let batch = record(&mut rules, &table, kind, old, new).unwrap();
                    let body = batch.body(&batch.events()[0]);
                    serde_json::from_slice::<&serde_json::value::RawValue>(body).unwrap();
                }
            }
        }
    }
}

#[test]
fn what_triggers_do_not_see_is_told_of_no_row() {
    let mut table = RecordedTable::clone(&seen(&timestamps()));
    table.unseen = vec!["price".to_owned()];
    let table = Arc::new(table);
    let rule = person();
    let (old, new) = (r#"{"id":1,"price":null,"ok":true}"#, r#"{"id":1,"price":null,"ok":false}"#);
    let updated = parsed(&told(&rule, &table, update_json(old, new)));
    assert_eq!(updated["data"], serde_json::json!({"id": 1, "ok": false}));
    assert_eq!(updated["updatedFields"], serde_json::json!(["ok"]));
    // also of one whose columns are others
    let deleted = parsed(&told(&rule, &table, delete_json(r#"{"price":null,"id":1}"#)));
    assert_eq!(deleted["data"], serde_json::json!({"id": 1}));
}
