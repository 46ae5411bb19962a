//! Tables that change their shape under the stream.

use serde_json::{Value, json};

use super::story::{SETUP, Story, row_parts, summary};
use crate::harness::{Capture, Receiver, Workspace, under_both_captures};

under_both_captures!(
    hazard_18_every_row_is_told_in_the_shape_of_its_time,
    hazard_18_rewrites_are_no_events,
    hazard_18_a_key_that_changes_is_followed,
    hazard_18_a_renamed_table_is_known_by_its_name_of_the_time,
    hazard_18_a_table_renamed_away_is_warned_of,
    hazard_18_a_table_dropped_and_made_again,
    hazard_18_types_that_change
);

fn data(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event["data"]).collect()
}

async fn hazard_18_every_row_is_told_in_the_shape_of_its_time(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key, name text)").await;
    let events = Story::of(&database, &["person"])
        .told(&[
            // Inside of one transaction,
            "begin;
             insert into person values (1, 'Ada');
             alter table person add column age int default 7;
             insert into person values (2, 'Grace', 40);
             alter table person rename column name to \"fullName\";
             update person set age = 41 where id = 2;
             commit",
            // and between transactions.
            "alter table person alter age type text using 'about ' || age",
            "update person set age = 'old' where id = 1",
            "alter table person drop column age",
            "insert into person values (3, 'Edsger')",
            "alter table person add column age jsonb",
            "insert into person values (4, 'Barbara', '{\"years\": 80}')",
            "begin; alter table person add column lost int; insert into person values (5); rollback",
            "insert into person values (6, 'Tony')",
        ])
        .await;
    let expected = [
        json!({"id": 1, "name": "Ada"}),
        json!({"id": 2, "name": "Grace", "age": 40}),
        json!({"id": 2, "fullName": "Grace", "age": 41}),
        json!({"id": 1, "fullName": "Ada", "age": "old"}),
        json!({"id": 3, "fullName": "Edsger"}),
        json!({"id": 4, "fullName": "Barbara", "age": {"years": 80}}),
        json!({"id": 6, "fullName": "Tony", "age": null}),
    ];
    assert_eq!(data(&events), expected.iter().collect::<Vec<_>>());
}

/// A new type for a column is a rewrite of the table, which is no change of rows; nor is a default
/// for all of them.
async fn hazard_18_rewrites_are_no_events(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table person (id int primary key, name text);
             insert into person select g, 'x' from generate_series(1, 50) g;
             create materialized view names as select name from person",
        )
        .await;
    let events = Story::of(&database, &["person"])
        .told(&[
            "alter table person add column age int default 7, add token uuid default gen_random_uuid()",
            "alter table person alter id type bigint",
            "begin; alter table person alter age type numeric using age + 0.5;
             update person set name = 'y' where id = 1; commit",
            "vacuum full person",
            "cluster person using person_pkey",
            "refresh materialized view names",
            "alter table person drop column token",
            "update person set name = 'z' where id = 2",
        ])
        .await;
    assert_eq!(summary(&events), ["person.updated 1", "person.updated 2"]);
    assert_eq!(events[0]["data"]["age"], 7.5);
    assert_eq!(events[1]["data"], json!({"id": 2, "name": "z", "age": 7.5}));
}

/// The key, too, is that of the row's time.
async fn hazard_18_a_key_that_changes_is_followed(capture: Capture) {
    let database = capture.database().await;
    database
        .execute("create table person (id int primary key, code text not null, name text)")
        .await;
    let events = Story::of(&database, &["person"])
        .told(&[
            "insert into person values (1, 'a', 'Ada')",
            "update person set id = 2",
            "begin; alter table person drop constraint person_pkey;
             alter table person add primary key (code);
             update person set code = 'b'; commit",
            "alter table person drop column id",
            "delete from person",
        ])
        .await;
    let said: Vec<Value> = events.iter().map(row_parts).collect();
    let mut expected = [
        json!({"data": {"id": 1, "code": "a", "name": "Ada"}}),
        json!({"data": {"id": 2, "code": "a", "name": "Ada"}, "previous": {"id": 1}}),
        json!({"data": {"id": 2, "code": "b", "name": "Ada"}, "previous": {"code": "a"}}),
        json!({"data": {"code": "b"}}),
    ];
    if capture == Capture::Outbox {
        expected[1]["updatedFields"] = json!(["id"]);
        expected[2]["updatedFields"] = json!(["code"]);
        expected[3]["data"]["name"] = json!("Ada");
    }
    assert_eq!(said, expected);
}

async fn hazard_18_a_renamed_table_is_known_by_its_name_of_the_time(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key); create schema attic").await;
    let events = Story::of(&database, &["person"])
        .later(&["people"])
        .told(&[
            "insert into person values (1)",
            "begin; insert into person values (2); alter table person rename to people;
             insert into people values (3); commit",
            "insert into people values (4)",
            "alter table people set schema attic",
            "insert into attic.people values (5)",
            "alter table attic.people set schema public",
            "insert into people values (6)",
        ])
        .await;
    let expected = [
        "person.created 1",
        "person.created 2",
        "people.created 3",
        "people.created 4",
        "people.created 6",
    ];
    assert_eq!(summary(&events), expected);
    assert_eq!(events[2]["source"]["table"], "people");
}

/// Its rows go on coming under a name that nobody asked for: that is said.
async fn hazard_18_a_table_renamed_away_is_warned_of(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let daemon = workspace.start(&database).await;
    database
        .execute(
            "insert into person values (1); alter table person rename to people;
             insert into people values (2)",
        )
        .await;
    daemon.says("public.person is called public.people now", super::PATIENCE).await;
    receiver.wait_for(1, super::PATIENCE).await;
    daemon.stop().await;
    assert_eq!(receiver.count(), 1);
}

/// Another table by the same name is not followed by itself; once it is, it is simply the table of
/// that name.
async fn hazard_18_a_table_dropped_and_made_again(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key, name text)").await;
    let publish = match capture {
        Capture::Replication => &format!("alter publication {} add table person", database.name()),
        Capture::Outbox => SETUP,
    };
    let events = Story::of(&database, &["person"])
        .told(&[
            "insert into person values (1, 'Ada')",
            "begin; insert into person values (2, 'Grace'); drop table person;
             create table person (name jsonb, id bigint primary key);
             insert into person values ('\"silent\"', 3); commit",
            "insert into person values ('\"silent\"', 4)",
            publish,
            "insert into person values ('{\"first\": \"Edsger\"}', 5)",
            "drop table person",
        ])
        .await;
    let expected = [
        json!({"id": 1, "name": "Ada"}),
        json!({"id": 2, "name": "Grace"}),
        json!({"id": 5, "name": {"first": "Edsger"}}),
    ];
    assert_eq!(data(&events), expected.iter().collect::<Vec<_>>());
}

/// Types may change, too, and the catalog knows only what became of them. (What is left of one that
/// was dropped meanwhile is its text.)
async fn hazard_18_types_that_change(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create type mood as enum ('sad');
             create domain positive as int check (value > 0);
             create type mark as (x int, y int);
             create table person (id int primary key, mood mood, n positive, mark mark)",
        )
        .await;
    let events = Story::of(&database, &["person"])
        .told(&[
            "insert into person values (1, 'sad', 7, (1, 2))",
            "alter type mood rename value 'sad' to 'blue'",
            "update person set n = 8",
            "alter table person alter mark type text using 'gone', alter n type bigint",
            "insert into person values (2, 'blue', 9, 'there')",
        ])
        .await;
    let expected = [
        json!({"id": 1, "mood": "sad", "n": 7, "mark": {"x": 1, "y": 2}}),
        json!({"id": 1, "mood": "blue", "n": 8, "mark": {"x": 1, "y": 2}}),
        json!({"id": 2, "mood": "blue", "n": 9, "mark": "there"}),
    ];
    assert_eq!(data(&events), expected.iter().collect::<Vec<_>>());
}
