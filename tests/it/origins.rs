//! Changes that came from another server, which two systems that follow each other must not send
//! back and forth.

use std::sync::Arc;
use std::time::Duration;

use walhook::throwaway::{Cluster, Options};

use crate::harness::{Capture, Database, Receiver, Workspace, eventually, under_both_captures};

under_both_captures!(hazard_25_a_subscriber_tells_only_its_own_changes);

const PATIENCE: Duration = Duration::from_secs(60);

/// The names of the people whose rows become events, by order of commit.
async fn names(database: &Database, origin: &str, changes: &str) -> Vec<String> {
    database.execute("create table person (id serial primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(database)
        .table("public.person", "person")
        .endpoint("main", &receiver.url("/"), "ordering = 'strict'")
        .toml(&format!("[source]\norigin = '{origin}'"));
    let daemon = workspace.start(database).await;
    for statement in changes.split("--") {
        database.execute(statement).await;
    }
    database.execute("insert into person (name) values ('the end')").await;
    let requests = receiver
        .wait_until(PATIENCE, "the last change", |requests| {
            requests.last().is_some_and(|request| request.json()["data"]["name"] == "the end")
        })
        .await;
    daemon.stop().await;
    let name = |request: &Arc<_>| {
        let request: &crate::harness::Request = request;
        request.json()["data"]["name"].as_str().unwrap_or("-").to_owned()
    };
    requests.iter().map(name).collect()
}

/// Sessions under an origin, as a replication tool has them; only one at a time, and the server may
/// learn late that one is gone.
fn sessions(origin: &str) -> String {
    format!(
        "select pg_replication_origin_create('{origin}')
         -- select pg_replication_origin_session_setup('{origin}');
            insert into person (name) values ('theirs');
            begin;
                select pg_replication_origin_xact_setup('0/AB', now());
                insert into person (name) select 'theirs, ' || i from generate_series(1, 3) i;
                select pg_logical_emit_message(true, 'walhook', '{{\"event\":\"their.word\"}}');
                truncate person;
            commit;
            select pg_replication_origin_session_reset()
         -- insert into person (name) values ('ours')
         -- select pg_replication_origin_session_setup('{origin}');
            update person set name = 'ours by them';
            commit;
            select pg_replication_origin_session_reset();
            update person set name = 'ours again'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_25_changes_under_an_origin_are_left_out_on_request() {
    let database = Database::create().await;
    let changes = sessions(&format!("{}_origin", database.name()));
    assert_eq!(names(&database, "none", &changes).await, ["ours", "ours again", "the end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_25_all_changes_come_otherwise() {
    let database = Database::create().await;
    let changes = sessions(&format!("{}_origin", database.name()));
    let all = [
        "theirs",
        "theirs, 1",
        "theirs, 2",
        "theirs, 3",
        "-",
        "-",
        "ours",
        "ours by them",
        "ours again",
        "the end",
    ];
    assert_eq!(names(&database, "any", &changes).await, all);
}

/// Two databases that replicate to each other: each tells its own changes only.
async fn hazard_25_a_subscriber_tells_only_its_own_changes(capture: Capture) {
    let cluster = Arc::new(Cluster::start(&Options::new()).unwrap());
    let publisher = Database::create_on(&cluster, "publisher").await;
    let subscriber = Database::create_on(&cluster, "subscriber").await.captured_by(capture);
    let table = "create table person (id int primary key, name text)";
    publisher.execute(table).await;
    publisher.execute("create publication p for table person").await;
    publisher.execute("select pg_create_logical_replication_slot('s', 'pgoutput')").await;
    subscriber.execute(table).await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&subscriber)
        .table("public.person", "person")
        .endpoint("main", &receiver.url("/"), "")
        .toml("[source]\norigin = 'none'");
    let daemon = workspace.start(&subscriber).await;
    let url = publisher.url();
    let subscribe = format!(
        "create subscription s connection '{url}' publication p \
         with (create_slot = false, slot_name = 's', copy_data = false)"
    );
    subscriber.execute(&subscribe).await;
    publisher.execute("insert into person values (1, 'theirs'), (2, 'theirs')").await;
    let client = subscriber.client().await;
    eventually(PATIENCE, "the row is here", async || {
        let rows = client.query("select from person", &[]).await.unwrap();
        (rows.len() == 2).then_some(())
    })
    .await;
    subscriber.execute("insert into person values (3, 'ours')").await;
    let requests = receiver.wait_for(1, PATIENCE).await;
    assert_eq!(requests[0].json()["data"]["name"], "ours");
    daemon.stop().await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_word_for_the_origin_is_refused() {
    let database = Database::create().await;
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("main", "http://127.0.0.1:1/", "")
        .toml("[source]\norigin = 'local'");
    workspace.run(&["run"]).await.assert(2, &["origin", "\"any\" or \"none\""]);
}
