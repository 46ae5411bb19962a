//! A publication that changes while it is read.

use super::story::{Story, summary};
use crate::harness::Database;

/// Every row is judged by the publication of its own time.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_21_a_publication_that_changes_is_followed() {
    let database = Database::create().await;
    database
        .execute(
            "create table person (id int primary key); create table note (id int primary key);
             create schema attic",
        )
        .await;
    let alter = |what: &str| format!("alter publication {} {what}", database.name());
    let events = Story::of(&database, &["person", "note"])
        .told(&[
            "insert into person values (1)",
            &alter("drop table note"),
            "insert into note values (2); insert into person values (3)",
            &alter("add table note"),
            "insert into note values (4)",
            &alter("set (publish = 'insert')"),
            "update note set id = 5 where id = 4; insert into note values (6); delete from note where id = 6",
            &alter("set (publish = 'delete, truncate')"),
            "insert into note values (7); delete from note where id = 7; truncate person",
            &alter("set (publish = 'insert, update, delete, truncate')"),
            "insert into person values (8)",
            &alter("set table person"),
            "begin; insert into note values (9); insert into person values (10); commit",
        ])
        .await;
    let expected = [
        "person.created 1",
        "person.created 3",
        "note.created 4",
        "note.created 6",
        "note.deleted 7",
        "person.truncated",
        "person.created 8",
        "person.created 10",
    ];
    assert_eq!(summary(&events), expected);
}
