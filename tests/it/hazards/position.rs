//! Where the stream stands, and what an event is called.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use tokio_postgres::Client;

use super::PATIENCE;
use super::story::{Story, summary};
use crate::harness::{
    Capture, Database, Receiver, Workspace, eventually, position_of, under_both_captures,
};
use crate::refusals::Fixture;

under_both_captures!(hazard_5_ids_are_unique_and_the_same_on_every_replay);

/// Whether the server takes everything up to this place as read by the slot's reader.
async fn is_confirmed(client: &Client, slot: &str, lsn: &str) -> bool {
    let sql = "select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots \
               where slot_name = $1";
    client.query_one(sql, &[&slot, &lsn]).await.unwrap().get(0)
}

/// What is confirmed is the end of a commit, and only after it is in the journal.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_1_what_is_confirmed_is_journaled_and_does_not_come_again() {
    let fixture = Fixture::new().await;
    let mut daemon = fixture.start().await;
    fixture.deliver("Ada").await;
    let client = fixture.database.client().await;
    let end: String =
        client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    eventually(PATIENCE, "the transaction is confirmed", async || {
        is_confirmed(&client, fixture.slot(), &end).await.then_some(())
    })
    .await;

    // Another program has the journal locked: nothing can become durable.
    let journal = fixture.workspace.config_path().with_file_name("walhook.db");
    let other = rusqlite::Connection::open(journal).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("begin immediate").unwrap();
    fixture.insert("Grace").await;
    let end: String =
        client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    daemon.says("cannot be written", PATIENCE).await;
    assert!(!is_confirmed(&client, fixture.slot(), &end).await, "confirmed and not journaled");
    other.execute_batch("rollback").unwrap();
    eventually(PATIENCE, "the transaction is confirmed", async || {
        is_confirmed(&client, fixture.slot(), &end).await.then_some(())
    })
    .await;
    fixture.receiver.wait_for(2, PATIENCE).await;
    daemon.sigkill().await;

    // The server itself would send nothing of it again; before version 15 it sends the begin and
    // commit of others' transactions.
    let sql = "select count(*) from pg_logical_slot_peek_binary_changes($1, null, null, \
               'proto_version', '1', 'publication_names', $2) \
               where get_byte(data, 0) not in (ascii('B'), ascii('C'))";
    let left = eventually(PATIENCE, "the slot is free to be looked into", async || {
        client.query_one(sql, &[&fixture.slot(), &fixture.slot()]).await.ok()
    })
    .await;
    assert_eq!(left.get::<_, i64>(0), 0);
    let daemon = fixture.start().await;
    fixture.insert("Edsger").await;
    // The one before it comes again where the kill was sooner than what became of it was written.
    fixture
        .receiver
        .wait_until(PATIENCE, "the last one", |requests| {
            requests.iter().any(|request| request.json()["data"]["name"] == "Edsger")
        })
        .await;
    daemon.stop().await;
}

/// Every way to write many rows at once: rows that share log positions.
async fn hazard_5_ids_are_unique_and_the_same_on_every_replay(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table person (id int primary key, name text);
             create table other (id int primary key)",
        )
        .await;
    let messages = match capture {
        Capture::Replication => {
            r#"select pg_logical_emit_message(false, 'walhook', '{"event":"a.message"}');
               select pg_logical_emit_message(true, 'walhook', '{"event":"a.message"}');
               insert into person values (1)"#
        }
        Capture::Outbox => {
            "select walhook.emit('a.message'), walhook.emit('a.message');
             insert into person values (1)"
        }
    };
    // Read twice, and asserted to be the same bytes, by the story itself.
    let events = Story::of(&database, &["person"])
        .told(&[
            "insert into person select g, 'x' from generate_series(1, 300) g",
            "insert into person values (1001, 'a'), (1002, 'b'), (1003, 'c')",
            "copy person (id) from program 'seq 2001 2200'",
            "begin; insert into other values (1); insert into person values (3001);
             savepoint a; insert into person values (3002); rollback to a;
             insert into person values (3003); commit",
            "update person set name = 'y' where id between 10 and 20",
            "truncate person, other",
            messages,
        ])
        .await;
    assert_eq!(events.len(), 300 + 3 + 200 + 2 + 11 + 1 + 3);
    let ids: HashSet<String> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len());
    // While log positions are not unique.
    let rows: HashSet<String> =
        events.iter().map(|event| event["source"]["lsn"].to_string()).collect();
    if capture == Capture::Replication {
        assert!(rows.len() < events.len() - 100, "{} positions", rows.len());
    }
    // Ordinals count every change the server sends, so what did not happen has none.
    let of = |id: i32| events.iter().find(|event| event["data"]["id"] == id).unwrap();
    assert_eq!(of(3001)["source"]["ordinal"], 0);
    assert_eq!(of(3003)["source"]["ordinal"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_6_order_is_that_of_the_commits() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "ordering = 'strict'",
    );
    let daemon = workspace.start(&database).await;
    let (first, second, third) =
        (database.client().await, database.client().await, database.client().await);
    first.batch_execute("begin; insert into person values (1, 'begins first')").await.unwrap();
    second.batch_execute("begin; insert into person values (2, 'second')").await.unwrap();
    third.batch_execute("insert into person values (3, 'third')").await.unwrap();
    first.batch_execute("insert into person values (4, 'first, once more')").await.unwrap();
    second.batch_execute("commit").await.unwrap();
    third.batch_execute("insert into person values (5, 'third, once more')").await.unwrap();
    first.batch_execute("commit").await.unwrap();
    let requests = receiver.wait_for(5, PATIENCE).await;
    daemon.stop().await;
    let events: Vec<_> = requests.iter().map(|request| request.json()).collect();
    let created: Vec<_> = [3, 2, 5, 1, 4].map(|id| format!("person.created {id}")).into();
    assert_eq!(summary(&events), created);
    let positions: Vec<_> = events.iter().map(position_of).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    // Where the rows lie in the log says something else.
    let row = |event: &serde_json::Value| {
        position_of(&json!({"source": {"commitLsn": event["source"]["lsn"], "ordinal": 0}}))
    };
    assert!(!events.iter().map(row).is_sorted());
    let ids: Vec<_> = requests.iter().map(|request: &Arc<_>| request.id()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}
