//! What the application has to do with it: as little as can be.

use std::collections::HashSet;

use serde_json::json;

use super::{PATIENCE, event, events, fixture, told};
use crate::harness::{Capture, Database, Receiver, Workspace, eventually, under_both_captures};
use crate::refusals::Fixture;

/// All in the order in which it happened.
const STRICT: &str = "ordering = 'strict'";

under_both_captures!(emit_is_one_call, a_misused_emit_is_the_callers_error);

/// The application's own events lie among its changes, and are gone with them.
async fn emit_is_one_call(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        STRICT,
    );
    workspace.run(&["setup"]).await.assert(0, &[]);
    let daemon = workspace.start(&database).await;
    let client = database.client().await;
    for sql in [
        "begin; insert into person values (1, 'Ada');
         select walhook.emit('invoice.paid', key => '42', data => '{\"total\": 12.50}');
         update person set name = 'Grace'; commit",
        "begin; select walhook.emit('never.was'); rollback",
        "select walhook.emit('plain')",
        "select walhook.emit('of.a.list', 'é', '[1, \"é\", null]')",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let requests = receiver.wait_for(5, PATIENCE).await;
    daemon.stop().await;
    let events: Vec<_> = requests.iter().map(|request| request.json()).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["person.created", "invoice.paid", "person.updated", "plain", "of.a.list"]);
    let total: serde_json::Value = serde_json::from_str("12.50").unwrap();
    assert_eq!(events[1]["data"], json!({"total": total}));
    assert_eq!((&events[3]["data"], &events[4]["data"]), (&json!({}), &json!([1, "é", null])));
    let ordinals: Vec<_> = events[..3].iter().map(|event| &event["source"]["ordinal"]).collect();
    assert_eq!(ordinals, [0, 1, 2]);
    assert!(events.iter().all(|event| event["source"]["capture"] == capture.as_str()));
    assert!(events[1]["source"].get("table").is_none(), "{}", events[1]);
    receiver.assert_all_signed();
}

async fn a_misused_emit_is_the_callers_error(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key)").await;
    let workspace = Workspace::new(&database).table("public.person", "person");
    let workspace = workspace.endpoint("main", "http://127.0.0.1:9/", "");
    workspace.run(&["setup"]).await.assert(0, &[]);
    let client = database.client().await;
    for arguments in ["''", "' '", "null", "'two words'"] {
        let sql = format!("select walhook.emit({arguments})");
        let error = client.batch_execute(&sql).await.expect_err(&sql);
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains("emit"), "{sql}: {error}");
    }
}

/// The role that writes has no right on the outbox, and needs none.
#[tokio::test(flavor = "multi_thread")]
async fn the_application_needs_no_right_on_the_outbox() {
    let fixture = fixture().await;
    let role = format!("{}_app", fixture.database.name());
    let grants = format!(
        "create role {role}; grant insert, update, delete, truncate, select on person to {role};
         grant usage on sequence person_id_seq to {role}"
    );
    fixture.database.execute(&grants).await;
    let daemon = fixture.start().await;
    let client = fixture.database.client().await;
    client.batch_execute(&format!("set role {role}")).await.unwrap();
    let writes = "insert into person (name) values ('Ada'); update person set name = 'Grace';
                  delete from person; truncate person; select walhook.emit('a.word')";
    client.batch_execute(writes).await.unwrap();
    for sql in [
        "select * from walhook.outbox",
        "delete from walhook.outbox",
        "insert into walhook.outbox (op, ordinal) values ('T', 0)",
        "update walhook.state set switched_lsn = '0/0'",
        "truncate walhook.outbox",
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}: {error}");
    }
    let requests = fixture.receiver.wait_for(5, PATIENCE).await;
    let mut names: Vec<_> =
        requests.iter().map(|it| it.json()["event"].as_str().unwrap().to_owned()).collect();
    names.sort();
    let expected =
        ["a.word", "person.created", "person.deleted", "person.truncated", "person.updated"];
    assert_eq!(names, expected);
    daemon.stop().await;
    fixture.workspace.run(&["teardown"]).await.assert(0, &[]);
    let drop = format!("reset role; drop owned by {role}; drop role {role}");
    client.batch_execute(&drop).await.unwrap();
}

/// Whatever a trigger cannot do, the application's transaction is committed, and the loss is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_fails_is_a_gap_and_no_error_of_the_application() {
    let database = Capture::Outbox.database().await;
    database.execute("create table t (id int primary key, amount int)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .filtered_table("public.t", "100 / amount > 1")
        .endpoint("main", &receiver.url("/"), "")
        .endpoint("ops", &receiver.url("/ops"), "events = ['walhook.*']");
    let daemon = workspace.start(&database).await;
    database.execute("begin; insert into t values (1, 10), (2, 0), (3, 20); commit").await;
    let gap = event(&receiver, "/ops", "the gap", |it| it["event"] == "walhook.gap").await;
    assert!(gap["data"]["reason"].as_str().is_some_and(|why| why.contains("22012")), "{gap}");
    eventually(PATIENCE, "the others", async || (events(&receiver, "/").len() >= 2).then_some(()))
        .await;
    daemon.stop().await;
    let ids: HashSet<_> =
        events(&receiver, "/").iter().map(|it| it["data"]["id"].as_i64()).collect();
    assert_eq!(ids, HashSet::from([Some(1), Some(3)]));
}

/// Columns of the configuration and of the key that are gone or have another name since setup.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_went_away_stop_nobody() {
    let database = Capture::Outbox.database().await;
    database
        .execute("create table person (id int primary key, name text, secret text, gone bool)")
        .await;
    let receiver = Receiver::start().await;
    let tables = "[[table]]
                  name = 'person'
                  exclude = ['secret']
                  soft_delete = 'gone'";
    let workspace =
        Workspace::new(&database).toml(tables).endpoint("main", &receiver.url("/"), STRICT);
    let daemon = workspace.start(&database).await;
    for sql in [
        "insert into person values (1, 'Ada', 'x')",
        "alter table person drop column gone; update person set name = 'Grace'",
        "alter table person drop column secret; update person set name = 'Edsger'",
        "alter table person rename column id to number; update person set name = 'Tony'",
        "alter table person drop column number; update person set name = 'Barbara'",
        "alter table person drop column name; delete from person",
    ] {
        database.execute(sql).await;
    }
    let requests = receiver.wait_for(6, PATIENCE).await;
    daemon.stop().await;
    assert!(requests.iter().all(|it| it.json()["data"].get("secret").is_none()));
    let last = requests.last().unwrap().json();
    assert_eq!((&last["event"], &last["data"]), (&json!("person.deleted"), &json!({})));
}

/// Sessions that say that they replicate are told too, as they are by a slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_role_of_a_replica_is_heard() {
    let fixture = fixture().await;
    let daemon = fixture.start().await;
    let sql = "set session_replication_role = replica; insert into person (name) values ('Ada')";
    fixture.database.execute(sql).await;
    fixture.receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_followed_and_stays_writable() {
    let database = Capture::Outbox.database().await;
    database.execute("create table reading (n int, note text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.reading", "reading").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let daemon = workspace.start(&database).await;
    database.execute("insert into reading values (1, 'a'); update reading set note = 'b'").await;
    let requests = receiver.wait_for(2, PATIENCE).await;
    assert_eq!(requests[1].json()["previous"], json!({"note": "a"}));
    daemon.stop().await;
}

/// Changes are seen at once where the triggers notify, however rarely the outbox is looked at; and
/// no change is so large that it could not be committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_not_waited_for_and_carries_nothing() {
    let fixture = fixture().await;
    let more = "[source]\noutbox_notify = true\noutbox_poll = '1h'";
    let workspace = fixture.workspace.toml(more);
    let fixture = Fixture { workspace, ..fixture };
    let daemon = fixture.start().await;
    let listener = fixture.database.client().await;
    listener.batch_execute("listen walhook").await.unwrap();
    // Waits for the first look, after which only notifications are left.
    for number in 0..3 {
        let insert = format!("insert into person (name) values (repeat('x', 100000) || {number})");
        fixture.database.execute(&insert).await;
        fixture.receiver.wait_for(number + 1, PATIENCE).await;
    }
    let many = "insert into person (name) select 'many' from generate_series(1, 1000)";
    fixture.database.execute(many).await;
    fixture.receiver.wait_for(1003, PATIENCE).await;
    daemon.stop().await;
}

/// An empty outbox is looked at again and again.
#[tokio::test(flavor = "multi_thread")]
async fn without_notifications_the_outbox_is_polled() {
    let fixture = told().await;
    let workspace = fixture.workspace.toml("[source]\noutbox_poll = '20ms'");
    let fixture = Fixture { workspace, ..fixture };
    let daemon = fixture.start().await;
    for name in ["Ada", "Grace"] {
        fixture.insert(name).await;
    }
    eventually(PATIENCE, "both", async || {
        (events(&fixture.receiver, "/").len() >= 2).then_some(())
    })
    .await;
    let client = fixture.database.client().await;
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and (query ilike 'listen %' or query ilike 'notify %')
                   and pid <> pg_backend_pid()";
    let notifying: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(notifying, 0);
    daemon.stop().await;
}

/// A database that no trigger was put into is refused with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_is_not_there_is_said() {
    let database: Database = Capture::Outbox.database().await;
    database.execute("create table person (id int primary key)").await;
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("main", "http://127.0.0.1:9/", "")
        .toml("[source]\ncreate = false");
    let finished = workspace.run(&["run"]).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("walhook setup"), "{}", finished.stderr);
}
