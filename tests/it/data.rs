//! What events say, compared with what the server itself says of its rows.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Database, Receiver, Request, Workspace, position_of};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the daemon while `changes` happen; the answer is that many events in the database's order.
async fn events(database: &Database, tables: &[&str], changes: &str, due: usize) -> Vec<Value> {
    let receiver = Receiver::start().await;
    let mut workspace = Workspace::new(database).endpoint("main", &receiver.url("/"), "");
    for table in tables {
        workspace = workspace.table(&format!("public.{table}"), table);
    }
    let daemon = workspace.start(database).await;
    database.execute(changes).await;
    // What comes after must not have been preceded by more than what is due.
    database
        .execute("select pg_logical_emit_message(true, 'walhook', '{\"event\":\"the.end\"}')")
        .await;
    let requests = receiver.wait_for(due + 1, PATIENCE).await;
    daemon.stop().await;
    receiver.assert_all_signed();
    let mut events: Vec<Value> = requests.iter().map(|request| request.json()).collect();
    events.sort_by_cached_key(position_of);
    let names: Vec<_> = events.iter().map(|event| event["event"].to_string()).collect();
    assert_eq!(events.len(), due + 1, "{names:?}");
    assert_eq!(events.pop().unwrap()["event"], "the.end", "{names:?}");
    events
}

/// The rows of a table as `to_jsonb` gives them under the settings walhook promises.
async fn truth(database: &Database, sql: &str) -> Vec<Value> {
    let client = database.client().await;
    let settings = "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set timezone = 'UTC';
                    set bytea_output = 'hex'; set extra_float_digits = 1";
    client.batch_execute(settings).await.unwrap();
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

/// Whatever the database's own settings make of values.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_rendered_as_to_jsonb_does() {
    let database = Database::create().await;
    let name = database.name();
    let settings = [
        "datestyle = 'German, DMY'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "statement_timeout = '2s'",
        "idle_session_timeout = '2s'",
    ];
    for setting in settings {
        database.execute(&format!("alter database {name} set {setting}")).await;
    }
    database
        .execute(
            "create type mood as enum ('sad', 'so \"so\"');
             create domain positive as int check (value > 0);
             create domain names as text[];
             create table kind (
                 id int primary key, i2 int2, i8 int8, f4 float4, f8 float8, num numeric, b bool,
                 t text, vc varchar(10), ch char(5), u uuid, d date, tm time, tmz timetz,
                 ts timestamp, tsz timestamptz, iv interval, j json, jb jsonb, by bytea,
                 m mood, p positive, ns names, ai int[], at text[], an numeric[][], atsz timestamptz[],
                 ajb jsonb[], ip inet, cash money, r int4range, bits varbit, pt point)",
        )
        .await;
    let changes = r#"
        insert into kind (id) values (0);
        insert into kind values (1, -32768, 9223372036854775807, 0.1, 1e-7, 12345678901234567890.1200,
            true, E'a\tb"\\\u00e9\U0001F418', 'vc', 'ch', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
            '2024-02-29', '23:59:59.5', '10:00:00.25+05:30', '2024-02-29 12:34:56.7',
            '2024-02-29 12:34:56.789012+00', '1 year 2 days 03:04:05.6', '{"a": [1,  2.50]}',
            '{"b": {"c": null}, "a": 1.0}', '\x00ff10', 'so "so"', 7, '{x,NULL,"a b"}',
            '{{1,2},{3,NULL}}', '{"",NULL,"NULL","a\"b\\c","{}"}', '{{1.50},{NaN}}',
            '{"2024-01-01 00:00:00+02",infinity}', array['{"a":1}'::jsonb, 'null', null],
            '10.0.0.1/8', 12.5, '[1,5)', B'1010', '(1,2)');
        insert into kind (id, f4, f8, num, d, ts, tsz, ai, at, i8) values
            (2, 'NaN', '-Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '{}', '{}',
             -9223372036854775808);
        insert into kind (id, f8, f4, num, d, ts, tsz, ai) values
            (3, 1e300, 1e-30, -0.00, '0044-03-15 BC', '0044-03-15 01:02:03 BC',
             '12345-01-01 00:00:00+00', '[0:1]={7,8}');
        insert into kind (id, f8, f4, num) values (4, 123456789012345680, 16777216, 1e20);
        insert into kind (id, f8, f4) values (5, '-0', 3.4028235e38);
    "#;
    let events = events(&database, &["kind"], changes, 6).await;
    let truth = truth(&database, "select to_jsonb(k)::text from kind k order by id").await;
    for (event, truth) in events.iter().zip(&truth) {
        assert_eq!(event["event"], "kind.created");
        let (data, truth) = (event["data"].as_object().unwrap(), truth.as_object().unwrap());
        for (column, truth) in truth {
            assert_eq!(&data[column], truth, "column {column} of row {}", data["id"]);
        }
        assert_eq!(data.len(), truth.len());
    }
}

const WIDE: &str = "create table note (id int primary key, title text, body text);
                    alter table note alter body set storage external;
                    insert into note values (1, 'one', repeat('x', 100000))";

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_that_was_not_touched_is_named_or_known_and_never_null() {
    let database = Database::create().await;
    database.execute(WIDE).await;
    let changes = "update note set title = 'two';
                   alter table note replica identity full;
                   update note set title = 'three'";
    let events = events(&database, &["note"], changes, 2).await;
    assert_eq!(events[0]["data"], json!({"id": 1, "title": "two"}));
    assert_eq!(events[0]["unchanged"], json!(["body"]));
    assert!(events[0].get("previous").is_none() && events[0].get("updatedFields").is_none());
    let body = "x".repeat(100_000);
    assert_eq!(events[1]["data"], json!({"id": 1, "title": "three", "body": body}));
    assert_eq!(events[1]["previous"], json!({"title": "two"}));
    assert_eq!(events[1]["updatedFields"], json!(["title"]));
    assert!(events[1].get("unchanged").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_row_is_told_as_far_as_it_is_known() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text, email text)").await;
    let changes = "insert into person values (1, 'Ada', null), (2, 'Grace', 'g@example.com');
                   delete from person where id = 1;
                   alter table person replica identity full;
                   delete from person where id = 2";
    let events = events(&database, &["person"], changes, 4).await;
    assert_eq!(events[2]["event"], "person.deleted");
    assert_eq!(events[2]["data"], json!({"id": 1}));
    assert_eq!(events[3]["data"], json!({"id": 2, "name": "Grace", "email": "g@example.com"}));
}

/// Only what was committed, and at its commit's place.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_never_happened() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let changes = "begin; insert into person values (1, 'gone'); rollback;
                   begin; insert into person values (2, 'kept'); savepoint a;
                   insert into person values (3, 'gone'); rollback to a;
                   update person set name = 'kept, too'; commit";
    let events = events(&database, &["person"], changes, 2).await;
    assert_eq!(events[0]["data"], json!({"id": 2, "name": "kept"}));
    assert_eq!(events[1]["data"], json!({"id": 2, "name": "kept, too"}));
    assert_eq!(events[0]["source"]["commitLsn"], events[1]["source"]["commitLsn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_its_shape_is_followed() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let changes = "begin;
                   insert into person values (1, 'Ada');
                   alter table person add column age int default 7;
                   insert into person values (2, 'Grace', 40);
                   alter table person rename column name to \"fullName\";
                   update person set age = 41 where id = 2;
                   commit;
                   alter table person alter age type text using 'about ' || age;
                   update person set age = 'old' where id = 1;
                   alter table person drop column age;
                   insert into person values (3, 'Edsger')";
    let events = events(&database, &["person"], changes, 5).await;
    let data: Vec<&Value> = events.iter().map(|event| &event["data"]).collect();
    assert_eq!(data[0], &json!({"id": 1, "name": "Ada"}));
    assert_eq!(data[1], &json!({"id": 2, "name": "Grace", "age": 40}));
    assert_eq!(data[2], &json!({"id": 2, "fullName": "Grace", "age": 41}));
    assert_eq!(data[3], &json!({"id": 1, "fullName": "Ada", "age": "old"}));
    assert_eq!(data[4], &json!({"id": 3, "fullName": "Edsger"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_empties_and_stops_nothing() {
    let database = Database::create().await;
    database
        .execute(
            "create table person (id int primary key);
             create table note (id int primary key, person int references person)",
        )
        .await;
    let changes = "insert into person values (1); insert into note values (1, 1);
                   truncate person cascade; insert into person values (2)";
    let events = events(&database, &["person", "note"], changes, 5).await;
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["person.created", "note.created"]);
    let truncated: HashSet<&str> = names[2..4].iter().copied().collect();
    assert_eq!(truncated, HashSet::from(["person.truncated", "note.truncated"]));
    assert_eq!(names[4], "person.created");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_application_become_events() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let changes = r#"
        begin; insert into person values (1);
        select pg_logical_emit_message(true, 'walhook',
            '{"event":"invoice.paid","key":"42","data":{"total":12.50}}');
        select pg_logical_emit_message(true, 'somebody', '{"event":"not.ours"}');
        insert into person values (2); commit;
        begin; select pg_logical_emit_message(true, 'walhook', '{"event":"never.was"}'); rollback;
    "#;
    let events = events(&database, &["person"], changes, 3).await;
    assert_eq!(events[1]["event"], "invoice.paid");
    assert_eq!(
        events[1]["data"],
        json!({"total": serde_json::from_str::<Value>("12.50").unwrap()})
    );
    assert_eq!(events[0]["source"]["commitLsn"], events[1]["source"]["commitLsn"]);
}

/// One transaction of every way to write many rows at once: rows that share log positions.
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_stable_unique_and_in_commit_order() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let (one, two) = (Receiver::start().await, Receiver::start().await);
    let workspace = |slot: &str, receiver: &Receiver| {
        Workspace::new(&database)
            .table("public.person", "person")
            .endpoint("main", &receiver.url("/"), "")
            .toml(&format!("[source]\nslot = '{slot}'"))
    };
    let slots = [format!("{}_a", database.name()), format!("{}_b", database.name())];
    let workspaces = [workspace(&slots[0], &one), workspace(&slots[1], &two)];
    for workspace in &workspaces {
        workspace.run(&["setup"]).await.assert(0, &[]);
    }
    let (mut early, late) = (database.client().await, database.client().await);
    // Begins first, commits last.
    let transaction = early.transaction().await.unwrap();
    transaction.batch_execute("insert into person values (-1, 'late')").await.unwrap();
    late.batch_execute("insert into person select g, 'x' from generate_series(1, 500) g")
        .await
        .unwrap();
    late.batch_execute("insert into person values (1001, 'a'), (1002, 'b'), (1003, 'c')")
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let due = 504;

    let mut replays = Vec::new();
    for (workspace, receiver) in workspaces.iter().zip([&one, &two]) {
        let daemon = workspace.spawn();
        let mut requests = receiver.wait_for(due, PATIENCE).await;
        daemon.stop().await;
        requests.sort_by(|a, b| a.id().cmp(b.id()));
        replays.push(requests);
    }
    let positions: Vec<_> = replays[0].iter().map(|request| position_of(&request.json())).collect();
    assert!(positions.is_sorted(), "ids do not sort in commit order");
    let unique: HashSet<&str> = replays[0].iter().map(|request| request.id()).collect();
    assert_eq!(unique.len(), due);
    assert_eq!(replays[0].last().unwrap().json()["data"]["id"], -1, "the last to commit");
    for (one, two) in replays[0].iter().zip(&replays[1]) {
        assert_eq!((one.id(), &one.body), (two.id(), &two.body), "a replay tells another story");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_the_events_it_asked_for() {
    let database = Database::create().await;
    database
        .execute("create table person (id int primary key); create table note (id int primary key)")
        .await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .table("public.note", "note")
        .endpoint("people", &receiver.url("/people"), "events = ['person.*']")
        .endpoint("deletions", &receiver.url("/deletions"), "events = ['*.deleted']")
        .endpoint("all", &receiver.url("/all"), "");
    let daemon = workspace.start(&database).await;
    database
        .execute(
            "insert into person values (1); insert into note values (1);
             delete from note; delete from person",
        )
        .await;
    receiver.wait_for(8, PATIENCE).await;
    daemon.stop().await;
    let sorted = |path| {
        let mut names: Vec<String> = receiver
            .requests_to(path)
            .iter()
            .map(|request: &std::sync::Arc<Request>| request.json()["event"].to_string())
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(sorted("/people"), r#""person.created" "person.deleted""#);
    assert_eq!(sorted("/deletions"), r#""note.deleted" "person.deleted""#);
    assert_eq!(receiver.requests_to("/all").len(), 4);
}

/// Publishing such a table would make the application's own updates fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_replica_identity_is_not_published() {
    let database = Database::create().await;
    database.execute("create table log (text text); insert into log values ('a')").await;
    let workspace = Workspace::new(&database).table("public.log", "log").endpoint(
        "main",
        "http://127.0.0.1:9/",
        "",
    );
    let checked = workspace.run(&["check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let said = format!("{}{}", checked.stdout, checked.stderr).to_lowercase();
    assert!(said.contains("log") && said.contains("replica identity"), "{said}");
    let set_up = workspace.run(&["setup"]).await;
    assert!(set_up.code.is_some_and(|code| code != 0), "{set_up:?}");
    database.execute("update log set text = 'b'").await;
}
