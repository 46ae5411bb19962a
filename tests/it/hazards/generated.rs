//! Generated columns: those that are not sent, and what comes of that.

use serde_json::{Value, json};

use super::is_at_least;
use super::story::{Story, row_parts};
use crate::harness::{Capture, Database, Workspace, under_both_captures};

under_both_captures!(hazard_22_generated_columns_are_absent_and_check_says_so);

async fn hazard_22_generated_columns_are_absent_and_check_says_so(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table item (id int primary key, price int,
                 gross int generated always as (price * 2) stored, name text)",
        )
        .await;
    if capture == Capture::Replication {
        // From 18 on, the one that setup makes would send them.
        let publish = format!("create publication {} for table item", database.name());
        database.execute(&publish).await;
    }
    let events = Story::of(&database, &["item"])
        .told(&[
            "insert into item (id, price, name) values (1, 10, 'a')",
            "update item set price = 20",
        ])
        .await;
    let said: Vec<Value> = events.iter().map(row_parts).collect();
    let expected = match capture {
        Capture::Replication => [
            json!({"data": {"id": 1, "price": 10, "name": "a"}}),
            json!({"data": {"id": 1, "price": 20, "name": "a"}}),
        ],
        // In a trigger, they are columns like others.
        Capture::Outbox => [
            json!({"data": {"id": 1, "price": 10, "gross": 20, "name": "a"}}),
            json!({"data": {"id": 1, "price": 20, "gross": 40, "name": "a"},
                   "previous": {"price": 10, "gross": 20}, "updatedFields": ["price", "gross"]}),
        ],
    };
    assert_eq!(said, expected);
    let workspace = Workspace::new(&database).table("public.item", "item").endpoint(
        "main",
        "http://127.0.0.1:9/",
        "",
    );
    let checked = workspace.run(&["check"]).await.stdout;
    let says_so = checked.contains("generated columns are not in the stream: gross");
    assert_eq!(says_so, capture == Capture::Replication, "{checked}");
}

/// From 18 on the application's updates would fail otherwise, unless generated columns are sent.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_22_an_identity_of_generated_columns_is_not_published() {
    let database = Database::create().await;
    database
        .execute(
            "create table item (id int primary key, price int,
                 gross int generated always as (price * 2) stored);
             alter table item replica identity full;
             create table bill (id int, twice int generated always as (id * 2) stored primary key);
             insert into item values (1, 10); insert into bill values (1)",
        )
        .await;
    let is_new = is_at_least(&database, 18).await;
    for (table, update) in
        [("item", "update item set price = 20"), ("bill", "update bill set id = 2")]
    {
        let workspace = Workspace::new(&database).table(&format!("public.{table}"), table);
        let publication = workspace.slot();
        if is_new {
            database.execute(&format!("create publication {publication}")).await;
            let set_up = workspace.run(&["setup"]).await;
            set_up.assert(1, &["generated columns in its replica identity"]);
            database.execute(&format!("drop publication {publication}")).await;
        }
        // The one that it makes itself sends them.
        workspace.run(&["setup"]).await.assert(0, &[]);
        database.execute(update).await;
        workspace.run(&["teardown"]).await.assert(0, &[]);
    }
}

/// Those that are not stored have no value in a trigger: they must not look null.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_22_virtual_columns_are_no_nulls_of_an_outbox() {
    let database = Capture::Outbox.database().await;
    if !is_at_least(&database, 18).await {
        return;
    }
    database
        .execute(
            "create table item (id int primary key, price int,
                 seen int generated always as (price * 3) virtual)",
        )
        .await;
    let events = Story::of(&database, &["item"])
        .told(&[
            "insert into item values (1, 10)",
            "update item set price = 20",
            // the trigger was told of none of that name
            "alter table item add later int generated always as (price * 4) virtual;
             update item set price = 30",
        ])
        .await;
    for (event, price) in events.iter().zip([10, 20, 30]) {
        assert_eq!(event["data"], json!({"id": 1, "price": price}), "{event}");
    }
    assert_eq!(events[2]["previous"], json!({"price": 20}));
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_22_generated_columns_come_where_the_publication_says_so() {
    let database = Database::create().await;
    if !is_at_least(&database, 18).await {
        return;
    }
    let name = database.name();
    database
        .execute(&format!(
            "create table item (id int primary key, price int,
                 gross int generated always as (price * 2) stored,
                 seen int generated always as (price * 3) virtual);
             create publication {name} for table item with (publish_generated_columns = stored)"
        ))
        .await;
    let workspace = Workspace::new(&database).table("public.item", "item").endpoint(
        "main",
        "http://127.0.0.1:9/",
        "",
    );
    let checked = workspace.run(&["check"]).await.stdout;
    assert!(checked.contains("generated columns are not in the stream: seen"), "{checked}");
    let events = Story::of(&database, &["item"]).told(&["insert into item values (1, 10)"]).await;
    assert_eq!(events[0]["data"], json!({"id": 1, "price": 10, "gross": 20}));

    // Those that are not stored never come, and an identity with one of them stops the application.
    database.execute("alter table item replica identity full").await;
    let checked = workspace.run(&["check"]).await.stdout;
    assert!(checked.contains("generated columns in its replica identity"), "{checked}");
    let client = database.client().await;
    assert!(client.batch_execute("update item set price = 20").await.is_err());
}
