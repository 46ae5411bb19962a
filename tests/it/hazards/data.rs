//! What the stream says of rows, and what it leaves unsaid.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use walhook::throwaway::Options;

use super::PATIENCE;
use super::story::{Story, row_parts, summary};
use crate::harness::{
    Answer, Capture, Database, Receiver, Request, Workspace, under_both_captures,
};
use crate::refusals::own_cluster;

under_both_captures!(
    hazard_15_unchanged_toast_is_never_null,
    hazard_15_unchanged_toast_in_a_key_is_taken_from_the_old_key,
    hazard_16_old_rows_are_told_as_far_as_they_are_known,
    hazard_17_a_key_update_is_one_event_in_the_order_of_both_records,
    hazard_20_truncate_is_an_event_of_every_table_and_stops_nothing,
    hazard_23_prepared_transactions_come_when_they_are_committed
);

/// Stored out of line, so that it is not in the log of an update that leaves it alone.
const NOTE: &str = "create table note (id int primary key, code text not null unique, title text,
                        body text);
                    alter table note alter body set storage external;
                    insert into note values (1, 'a', 'one', repeat('x', 5000))";

async fn hazard_15_unchanged_toast_is_never_null(capture: Capture) {
    let database = capture.database().await;
    database.execute(NOTE).await;
    let events = Story::of(&database, &["note"])
        .told(&[
            "update note set title = 'two'",
            "alter table note replica identity using index note_code_key",
            "update note set title = 'three'",
            "update note set code = 'b'",
            "alter table note replica identity full",
            "update note set title = 'four'",
            "update note set body = repeat('y', 4000), title = null",
            "delete from note",
        ])
        .await;
    let (x, y) = ("x".repeat(5000), "y".repeat(4000));
    let said: Vec<Value> = events.iter().map(row_parts).collect();
    let by_identity = match capture {
        Capture::Replication => [
            json!({"data": {"id": 1, "code": "a", "title": "two"}, "unchanged": ["body"]}),
            json!({"data": {"id": 1, "code": "a", "title": "three"}, "unchanged": ["body"]}),
            json!({"data": {"id": 1, "code": "b", "title": "three"}, "unchanged": ["body"],
                   "previous": {"code": "a"}}),
        ],
        // A trigger sees all of both rows.
        Capture::Outbox => [
            json!({"data": {"id": 1, "code": "a", "title": "two", "body": x},
                   "previous": {"title": "one"}, "updatedFields": ["title"]}),
            json!({"data": {"id": 1, "code": "a", "title": "three", "body": x},
                   "previous": {"title": "two"}, "updatedFields": ["title"]}),
            json!({"data": {"id": 1, "code": "b", "title": "three", "body": x},
                   "previous": {"code": "a"}, "updatedFields": ["code"]}),
        ],
    };
    assert_eq!(said[..3], by_identity);
    let expected = [
        json!({"data": {"id": 1, "code": "b", "title": "four", "body": x},
               "previous": {"title": "three"}, "updatedFields": ["title"]}),
        json!({"data": {"id": 1, "code": "b", "title": null, "body": y},
               "previous": {"title": "four", "body": x}, "updatedFields": ["title", "body"]}),
        json!({"data": {"id": 1, "code": "b", "title": null, "body": y}}),
    ];
    assert_eq!(said[3..], expected);
}

/// The server sends a key that lies out of line along with the update, as an old key that equals
/// the new one.
async fn hazard_15_unchanged_toast_in_a_key_is_taken_from_the_old_key(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table doc (path text primary key, n int, body text);
             alter table doc alter path set storage external, alter body set storage external;
             insert into doc values (repeat('p', 2300), 1, repeat('x', 5000))",
        )
        .await;
    let events = Story::of(&database, &["doc"])
        .told(&[
            "update doc set n = 2",
            "update doc set path = repeat('q', 2300)",
            "alter table doc replica identity full",
            "update doc set n = 3",
            "alter table doc replica identity default",
            "delete from doc",
        ])
        .await;
    let (p, q, x) = ("p".repeat(2300), "q".repeat(2300), "x".repeat(5000));
    let said: Vec<Value> = events.iter().map(row_parts).collect();
    let full = json!({"data": {"path": q, "n": 3, "body": x}, "previous": {"n": 2},
               "updatedFields": ["n"]});
    let expected = match capture {
        Capture::Replication => [
            json!({"data": {"path": p, "n": 2}, "unchanged": ["body"]}),
            json!({"data": {"path": q, "n": 2}, "unchanged": ["body"], "previous": {"path": p}}),
            full,
            json!({"data": {"path": q}}),
        ],
        Capture::Outbox => [
            json!({"data": {"path": p, "n": 2, "body": x}, "previous": {"n": 1},
                   "updatedFields": ["n"]}),
            json!({"data": {"path": q, "n": 2, "body": x}, "previous": {"path": p},
                   "updatedFields": ["path"]}),
            full,
            json!({"data": {"path": q, "n": 3, "body": x}}),
        ],
    };
    assert_eq!(said, expected);
}

async fn hazard_16_old_rows_are_told_as_far_as_they_are_known(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table person (tenant int, id int, code text not null, name text,
                 primary key (tenant, id));
             create unique index person_code on person (code);
             insert into person select 7, g, 'c' || g, 'Ada' from generate_series(1, 4) g",
        )
        .await;
    let events = Story::of(&database, &["person"])
        .told(&[
            "update person set name = 'Grace' where id = 1",
            "delete from person where id = 1",
            "alter table person replica identity using index person_code",
            "update person set name = 'Grace' where id = 2",
            // The index does not hold it, so the old key is not told.
            "update person set id = 20 where id = 2",
            "update person set code = 'd2' where id = 20",
            "delete from person where id = 20",
            "alter table person replica identity full",
            "update person set name = null, id = 30 where id = 3",
            "update person set name = name where id = 30",
            "delete from person where id = 30",
        ])
        .await;
    let person = |id: i32, code: &str, name: Option<&str>| json!({"tenant": 7, "id": id, "code": code, "name": name});
    let said: Vec<Value> = events.iter().map(row_parts).collect();
    let by_identity = match capture {
        Capture::Replication => [
            json!({"data": person(1, "c1", Some("Grace"))}),
            json!({"data": {"tenant": 7, "id": 1}}),
            json!({"data": person(2, "c2", Some("Grace"))}),
            json!({"data": person(20, "c2", Some("Grace"))}),
            json!({"data": person(20, "d2", Some("Grace")), "previous": {"code": "c2"}}),
            json!({"data": {"code": "d2"}}),
        ],
        Capture::Outbox => [
            json!({"data": person(1, "c1", Some("Grace")), "previous": {"name": "Ada"},
                   "updatedFields": ["name"]}),
            json!({"data": person(1, "c1", Some("Grace"))}),
            json!({"data": person(2, "c2", Some("Grace")), "previous": {"name": "Ada"},
                   "updatedFields": ["name"]}),
            json!({"data": person(20, "c2", Some("Grace")), "previous": {"id": 2},
                   "updatedFields": ["id"]}),
            json!({"data": person(20, "d2", Some("Grace")), "previous": {"code": "c2"},
                   "updatedFields": ["code"]}),
            json!({"data": person(20, "d2", Some("Grace"))}),
        ],
    };
    assert_eq!(said[..6], by_identity);
    let expected = [
        json!({"data": person(30, "c3", None), "previous": {"id": 3, "name": "Ada"},
               "updatedFields": ["id", "name"]}),
        json!({"data": person(30, "c3", None), "previous": {}, "updatedFields": []}),
        json!({"data": person(30, "c3", None)}),
    ];
    assert_eq!(said[6..], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_16_using_index_is_warned_of_at_the_start() {
    let database = Database::create().await;
    database.execute(NOTE).await;
    database.execute("alter table note replica identity using index note_code_key").await;
    let workspace = Workspace::new(&database).table("public.note", "note").endpoint(
        "main",
        "http://127.0.0.1:9/",
        "",
    );
    let checked = workspace.run(&["check"]).await;
    assert!(checked.stdout.contains("without the old key"), "{checked:?}");
    let daemon = workspace.start(&database).await;
    daemon.says("public.note REPLICA IDENTITY USING INDEX", PATIENCE).await;
    daemon.stop().await;
}

/// Publishing such a table would make the application's own updates fail.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_16_a_table_without_replica_identity_is_not_published() {
    let database = Database::create().await;
    database
        .execute(
            "create table log (text text); insert into log values ('a');
             create table person (id int primary key); insert into person values (1);
             alter table person replica identity nothing",
        )
        .await;
    for (table, why) in
        [("log", "no primary key and no other replica identity"), ("person", "identity nothing")]
    {
        let workspace = Workspace::new(&database)
            .table(&format!("public.{table}"), "record")
            .endpoint("main", "http://127.0.0.1:9/", "");
        let checked = workspace.run(&["check"]).await;
        assert_eq!(checked.code, Some(1), "{checked:?}");
        let said = format!("{}{}", checked.stdout, checked.stderr).to_lowercase();
        assert!(said.contains(table) && said.contains(why), "{said}");
        for (command, code) in [("setup", 1), ("run", 2)] {
            let finished = workspace.run(&[command]).await;
            finished.assert(code, &[table, why, "replica identity"]);
        }
    }
    // The application goes on.
    database.execute("update log set text = 'b'; update person set id = 2").await;
}

/// Each event is refused once, so that whoever does not wait for it overtakes it.
async fn hazard_17_a_key_update_is_one_event_in_the_order_of_both_records(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    receiver.answer(|request| Answer::Status(if request.attempt() == 1 { 503 } else { 200 }));
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let daemon = workspace.start(&database).await;
    let client = database.client().await;
    for sql in [
        "insert into person values (1, 'Ada')",
        "update person set id = 2",
        "update person set name = 'Grace' where id = 2",
        "insert into person values (1, 'Edsger')",
        // Two keys change places, by way of a third.
        "begin; update person set id = 3 where id = 1; update person set id = 1 where id = 2;
         update person set id = 2 where id = 3; commit",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let requests = receiver.wait_for(14, PATIENCE).await;
    daemon.stop().await;
    let taken: Vec<&Arc<Request>> = requests.iter().filter(|r| r.attempt() > 1).collect();
    let names: Vec<String> = taken
        .iter()
        .map(|request| {
            let event = request.json();
            let (data, old) = (&event["data"], &event["previous"]["id"]);
            format!("{old}>{}:{}", data["id"], data["name"].as_str().unwrap())
        })
        .collect();
    let place = |what: &str| names.iter().position(|name| name == what).expect(what);
    assert_eq!(names.len(), 7, "{names:?}");
    for (earlier, later) in [
        ("null>1:Ada", "1>2:Ada"),
        ("1>2:Ada", "null>2:Grace"),
        ("1>2:Ada", "null>1:Edsger"),
        ("null>1:Edsger", "1>3:Edsger"),
        ("1>3:Edsger", "2>1:Grace"),
        ("null>2:Grace", "2>1:Grace"),
        ("2>1:Grace", "3>2:Edsger"),
    ] {
        assert!(place(earlier) < place(later), "{earlier} after {later}: {names:?}");
    }
}

async fn hazard_20_truncate_is_an_event_of_every_table_and_stops_nothing(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table person (id serial primary key);
             create table note (id serial primary key, person int references person);
             create table other (id serial primary key)",
        )
        .await;
    let events = Story::of(&database, &["person", "note", "other"])
        .told(&[
            "insert into person default values; insert into note (person) values (1)",
            "begin; insert into other default values;
             truncate person, other restart identity cascade;
             insert into person default values; commit",
            "truncate note",
            "begin; truncate person cascade; rollback",
            "insert into note (person) values (1)",
        ])
        .await;
    let summary = summary(&events);
    assert_eq!(summary[..3], ["person.created 1", "note.created 1", "other.created 1"]);
    let truncated: HashSet<&str> = summary[3..6].iter().map(String::as_str).collect();
    let all = ["person.truncated", "note.truncated", "other.truncated"];
    assert_eq!(truncated, HashSet::from(all), "{summary:?}");
    // The numbering began anew, that of the table which came along as well.
    assert_eq!(summary[6..], ["person.created 1", "note.truncated", "note.created 1"]);
    for event in &events[3..6] {
        assert_eq!(event["data"], json!({}), "{event}");
    }
    let ordinals: Vec<_> = events[2..7].iter().map(|event| &event["source"]["ordinal"]).collect();
    assert_eq!(ordinals, [0, 1, 2, 3, 4]);
}

async fn hazard_23_prepared_transactions_come_when_they_are_committed(capture: Capture) {
    // A cluster of its own: a prepared transaction holds up the making of slots everywhere in it.
    let cluster = own_cluster(Options::new()).await;
    let database = Database::create_on(&cluster, "crm").await.captured_by(capture);
    database.execute("create table person (id int primary key)").await;
    let changes = [
        "begin; insert into person values (1); savepoint a; insert into person values (10);
         rollback to a; prepare transaction 'kept'",
        "insert into person values (2)",
        "begin; insert into person values (3); prepare transaction 'gone'",
        "commit prepared 'kept'",
        "insert into person values (4)",
        "rollback prepared 'gone'",
    ];
    if capture == Capture::Outbox {
        // Of transactions that overlap, either may come first.
        return prepared_rows_come_once(&database, &changes).await;
    }
    let events = Story::of(&database, &["person"]).told(&changes).await;
    let expected = ["person.created 2", "person.created 1", "person.created 4"];
    assert_eq!(summary(&events), expected);
}

async fn prepared_rows_come_once(database: &Database, changes: &[&str]) {
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let daemon = workspace.start(database).await;
    for change in changes {
        database.execute(change).await;
    }
    receiver.wait_for(3, PATIENCE).await;
    database.execute(&database.emit("the.end")).await;
    let requests = receiver.wait_for(4, PATIENCE).await;
    daemon.stop().await;
    let events: Vec<Value> = requests.iter().map(|request| request.json()).collect();
    let mut told = summary(&events);
    told.sort();
    let expected = ["person.created 1", "person.created 2", "person.created 4", "the.end"];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_24_messages_have_ids_of_their_own() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let events = Story::of(&database, &["person"])
        .told(&[
            r#"begin; insert into person values (1);
               select pg_logical_emit_message(true, 'walhook',
                   '{"event":"invoice.paid","key":"42","data":{"total":12.50}}');
               select pg_logical_emit_message(true, 'somebody', '{"event":"not.ours"}');
               select pg_logical_emit_message(false, 'walhook', '{"event":"lone.first"}');
               select pg_logical_emit_message(false, 'walhook', '{"event":"lone.second"}');
               insert into person values (2); commit"#,
            r#"begin; insert into person values (3);
               select pg_logical_emit_message(true, 'walhook', '{"event":"never.was"}');
               select pg_logical_emit_message(false, 'walhook', '{"event":"lone.third"}');
               rollback"#,
            r#"select pg_logical_emit_message(false, 'walhook', 'not the expected JSON')"#,
        ])
        .await;
    // Those outside of the transaction do not wait for its end.
    let expected = [
        "lone.first",
        "lone.second",
        "person.created 1",
        "invoice.paid",
        "person.created 2",
        "lone.third",
    ];
    assert_eq!(summary(&events), expected);
    let total = serde_json::from_str::<Value>("12.50").unwrap();
    assert_eq!(events[3]["data"], json!({"total": total}));
    assert_eq!(events[3]["source"]["commitLsn"], events[2]["source"]["commitLsn"]);
    // A message that is not ours has its ordinal all the same.
    assert_eq!(
        (&events[3]["source"]["ordinal"], &events[4]["source"]["ordinal"]),
        (&1.into(), &3.into())
    );
    for lone in [&events[0], &events[1], &events[5]] {
        assert_eq!(lone["source"]["xid"], 0, "{lone}");
    }
}
