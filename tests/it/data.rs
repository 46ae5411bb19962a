//! What the many ways of writing make of rows, and which of it an endpoint gets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Capture, Receiver, Request, Workspace, under_both_captures};
use crate::hazards::{Story, is_at_least, summary};

under_both_captures!(
    what_was_rolled_back_never_happened,
    every_way_to_write_rows_tells_each_of_them,
    triggers_cascades_and_deferred_constraints_are_seen,
    a_table_without_a_key_is_told_by_whole_rows,
    what_changes_no_row_is_no_event,
    an_endpoint_gets_the_events_it_asked_for
);

const PATIENCE: Duration = Duration::from_secs(60);

const PERSON: &str = "create table person (id int primary key, name text)";

fn data(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event["data"]).collect()
}

/// Only what was committed, and at its commit's place.
async fn what_was_rolled_back_never_happened(capture: Capture) {
    let database = capture.database().await;
    database.execute(PERSON).await;
    let events = Story::of(&database, &["person"])
        .told(&[
            "begin; insert into person values (1, 'gone'); rollback",
            "begin; insert into person values (2, 'kept'); savepoint a;
             insert into person values (3, 'gone'); rollback to a;
             update person set name = 'kept, too';
             savepoint b; insert into person values (4, 'kept'); savepoint c;
             update person set name = 'gone' where id = 4; rollback to c; release b; commit",
            "do $$ begin
                 insert into person values (5, 'kept');
                 begin insert into person values (6, 'gone'), (5, 'twice');
                 exception when unique_violation then null; end;
             end $$",
        ])
        .await;
    let expected = [
        json!({"id": 2, "name": "kept"}),
        json!({"id": 2, "name": "kept, too"}),
        json!({"id": 4, "name": "kept"}),
        json!({"id": 5, "name": "kept"}),
    ];
    assert_eq!(data(&events), expected.iter().collect::<Vec<_>>());
    for event in &events[1..3] {
        assert_eq!(event["source"]["commitLsn"], events[0]["source"]["commitLsn"]);
    }
}

async fn every_way_to_write_rows_tells_each_of_them(capture: Capture) {
    let database = capture.database().await;
    database.execute(PERSON).await;
    let merge = "merge into person p using (values (2, 'm'), (3, 'gone'), (9, 'n')) v (id, name)
                     on p.id = v.id
                 when matched and v.name = 'gone' then delete
                 when matched then update set name = v.name
                 when not matched then insert values (v.id, v.name)";
    let as_merge = "begin; update person set name = 'm' where id = 2;
                    delete from person where id = 3; insert into person values (9, 'n'); commit";
    let events = Story::of(&database, &["person"])
        .told(&[
            "insert into person values (1, 'a'), (2, 'b')",
            "copy person (id) from program 'seq 3 4'",
            "insert into person values (1, 'c') on conflict (id) do update set name = 'taken'",
            "insert into person values (1, 'd'), (5, 'e') on conflict do nothing",
            "update person p set name = v.name from (values (4, 'v')) v (id, name) where p.id = v.id",
            if is_at_least(&database, 15).await { merge } else { as_merge },
            "with gone as (delete from person where id = 4 returning *)
             insert into person select id + 100, name from gone",
        ])
        .await;
    let mut summary = summary(&events);
    // A MERGE and a WITH go through their rows as they like.
    summary[7..10].sort();
    summary[10..].sort();
    let expected = [
        "person.created 1",
        "person.created 2",
        "person.created 3",
        "person.created 4",
        "person.updated 1",
        "person.created 5",
        "person.updated 4",
        "person.created 9",
        "person.deleted 3",
        "person.updated 2",
        "person.created 104",
        "person.deleted 4",
    ];
    assert_eq!(summary, expected);
    assert_eq!(events[4]["data"], json!({"id": 1, "name": "taken"}));
}

/// What the application did not write itself is a change like any other, and comes in the order in
/// which it was done.
async fn triggers_cascades_and_deferred_constraints_are_seen(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table person (id int primary key, name text);
             create table note (id int primary key,
                 person int references person on delete cascade on update cascade
                     deferrable initially deferred);
             create table tally (id int primary key, changes int);
             insert into tally values (0, 0);
             create function count_it() returns trigger language plpgsql as $$ begin
                 update tally set changes = changes + 1; return null; end $$;
             create function shout() returns trigger language plpgsql as $$ begin
                 new.name := upper(new.name); return new; end $$;
             create trigger count_it after insert on person for each row execute function count_it();
             create trigger shout before insert or update on person
                 for each row execute function shout()",
        )
        .await;
    let events = Story::of(&database, &["person", "note", "tally"])
        .told(&[
            "begin; insert into note values (10, 1); insert into person values (1, 'ada'); commit",
            "begin; insert into note values (11, 2); rollback",
            "update person set id = 3",
            "delete from person",
        ])
        .await;
    let expected = [
        "note.created 10",
        "person.created 1",
        "tally.updated 0",
        "person.updated 3",
        "note.updated 10",
        "person.deleted 3",
        "note.deleted 10",
    ];
    assert_eq!(summary(&events), expected);
    assert_eq!(events[1]["data"]["name"], "ADA");
    assert_eq!(events[4]["data"], json!({"id": 10, "person": 3}));
}

async fn a_table_without_a_key_is_told_by_whole_rows(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table reading (n int, note text); alter table reading replica identity full",
        )
        .await;
    let events = Story::of(&database, &["reading"])
        .told(&[
            "insert into reading values (1, 'a'), (1, 'a'), (null, null)",
            "update reading set note = 'b' where n = 1",
            "delete from reading where n is null",
        ])
        .await;
    assert_eq!(events.len(), 6);
    for event in &events[3..5] {
        assert_eq!(event["event"], "reading.updated");
        assert_eq!(event["previous"], json!({"note": "a"}));
        assert_eq!(event["data"], json!({"n": 1, "note": "b"}));
    }
    assert_eq!(events[5]["event"], "reading.deleted");
    assert_eq!(events[5]["data"], json!({"n": null, "note": null}));
}

/// An update that sets what is there already is an update to Postgres; a lock is none, nor is what
/// never enters the log.
async fn what_changes_no_row_is_no_event(capture: Capture) {
    let database = capture.database().await;
    database
        .execute(
            "create table person (id int primary key, name text); insert into person values (1, 'a');
             create unlogged table fleeting (id int primary key)",
        )
        .await;
    let events = Story::of(&database, &["person"])
        .told(&[
            "begin; select * from person for update; select * from person for key share; commit",
            "update person set name = name",
            "update person set name = 'b' where false",
            "insert into fleeting values (1)",
            "create temp table person (id int primary key, name text);
             insert into person values (2, 'temporary'); drop table pg_temp.person",
            "select lo_unlink(lo_from_bytea(0, 'a large object'))",
            "analyze person; create index on person (name); comment on table person is 'no row'",
            "begin; declare c cursor for select * from person for update; fetch c;
             update person set name = 'c' where current of c; commit",
        ])
        .await;
    let expected = [json!({"id": 1, "name": "a"}), json!({"id": 1, "name": "c"})];
    assert_eq!(data(&events), expected.iter().collect::<Vec<_>>());
}

async fn an_endpoint_gets_the_events_it_asked_for(capture: Capture) {
    let database = capture.database().await;
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
