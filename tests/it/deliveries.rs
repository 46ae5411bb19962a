//! What an operator does when something was not delivered: look, send it again, go back in time,
//! switch an endpoint off and on. Commands and daemon are processes of their own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Answer, Counters, Daemon, Database, Finished, Receiver, Request, Workspace, eventually, finish,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Two tries, and it is dead.
const DIES_SOON: &str = "retry = { schedule = ['20ms'], jitter = 0.0 }";

async fn people() -> Database {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    database
}

fn workspace(database: &Database, receiver: &Receiver) -> Workspace {
    Workspace::new(database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        DIES_SOON,
    )
}

/// Runs a command that is to succeed, and gives what it printed.
pub(crate) async fn done(workspace: &Workspace, arguments: &[&str]) -> String {
    let finished = workspace.run(arguments).await;
    finished.assert(0, &[]);
    finished.stdout
}

async fn listed(workspace: &Workspace, more: &[&str]) -> Vec<Value> {
    let arguments = [&["deliveries", "list", "--json"], more].concat();
    let lines = done(workspace, &arguments).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) async fn endpoint(workspace: &Workspace, name: &str) -> Value {
    let lines = done(workspace, &["endpoints", "list", "--json"]).await;
    let endpoints = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    endpoints.into_iter().find(|endpoint| endpoint["name"] == name).unwrap()
}

async fn until_dead(workspace: &Workspace, count: usize) -> Vec<Value> {
    eventually(PATIENCE, "so many are dead", async || {
        let dead = listed(workspace, &[]).await;
        (dead.len() >= count).then_some(dead)
    })
    .await
}

/// (event, record) of each request.
fn story(requests: &[Arc<Request>]) -> Vec<(String, i64)> {
    let tell = |request: &Arc<Request>| {
        let event = request.json();
        (event["event"].as_str().unwrap().to_owned(), event["data"]["id"].as_i64().unwrap())
    };
    requests.iter().map(tell).collect()
}

const SIX_EVENTS: &str = "insert into person values (1, 'a'), (2, 'b'), (3, 'c');
                          update person set name = name || '!'";

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_looked_at_and_sent_again() {
    let database = people().await;
    let receiver = Receiver::start().await;
    let body = || b"out of order".to_vec();
    receiver.answer(move |_| Answer::Full(500, vec![("x-why", "a test".to_owned())], body()));
    let workspace = workspace(&database, &receiver);
    let daemon = workspace.start(&database).await;
    database.execute(SIX_EVENTS).await;
    let dead = until_dead(&workspace, 6).await;
    assert_eq!(endpoint(&workspace, "main").await["dead"], 6);
    let id = dead[0]["id"].as_str().unwrap();
    let shown = done(&workspace, &["deliveries", "show", id]).await;
    for words in [id, "person.created", "main: dead, 2 tries", "try 2: 500", "out of order"] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }

    // One of them.
    receiver.answer(|_| Answer::Status(200));
    let before = receiver.count();
    let said = done(&workspace, &["deliveries", "retry", id]).await;
    assert_eq!(said, "1 dead delivery of endpoint main is sent again\n");
    let requests = receiver.wait_for(before + 1, PATIENCE).await;
    assert_eq!((requests[before].id(), requests[before].attempt()), (id, 1));
    // Some by their name, since a time.
    let updates = ["deliveries", "retry", "--events", "*.updated", "--since", "1h"];
    assert!(done(&workspace, &updates).await.starts_with("3 dead deliveries"));
    let requests = receiver.wait_for(before + 4, PATIENCE).await;
    assert!(story(&requests[before + 1..]).iter().all(|(event, _)| event == "person.updated"));
    let later = ["deliveries", "retry", "--since", "2099-01-01"];
    assert!(done(&workspace, &later).await.starts_with("no dead delivery"));
    // The rest.
    assert!(done(&workspace, &["deliveries", "retry", "--all"]).await.starts_with("2 dead"));
    receiver.wait_for(before + 6, PATIENCE).await;
    eventually(PATIENCE, "none is left", async || {
        listed(&workspace, &["--state", "all"]).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(done(&workspace, &["deliveries", "list"]).await, "no delivery is dead\n");
    let finished = workspace.run(&["deliveries", "retry"]).await;
    finished.assert(2, &["--all"]);
    daemon.stop().await;
    receiver.assert_all_signed();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_again_in_order_and_before_what_came_later() {
    let database = people().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Answer::Status(500));
    let workspace = workspace(&database, &receiver);
    let daemon = workspace.start(&database).await;
    database.execute(SIX_EVENTS).await;
    until_dead(&workspace, 6).await;
    receiver.answer(|_| Answer::Status(200));
    let before = receiver.count();
    done(&workspace, &["deliveries", "retry", "--endpoint", "main"]).await;
    database.execute("delete from person").await;
    let requests = receiver.wait_for(before + 9, PATIENCE).await;
    for record in 1..=3 {
        let told = story(&requests[before..]);
        let events: Vec<&str> =
            told.iter().filter(|(_, id)| *id == record).map(|(event, _)| event.as_str()).collect();
        assert_eq!(events, ["person.created", "person.updated", "person.deleted"]);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_need_neither_a_daemon_nor_a_database_nor_secrets() {
    let database = people().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Answer::Status(500));
    let workspace = workspace(&database, &receiver);
    let daemon = workspace.start(&database).await;
    database.execute(SIX_EVENTS).await;
    until_dead(&workspace, 6).await;
    daemon.stop().await;
    let before = receiver.count();

    // A configuration of which nothing but the journal's place can be read.
    let config = workspace.config_path().with_file_name("bare.toml");
    let text = "[source]\nurl = '${NOT_SET}'\n[[endpoint]]\nname = 'main'\nsecret = '${NOT_SET}'";
    std::fs::write(&config, text).unwrap();
    let bare = async |arguments: &[&str]| -> Finished {
        let mut command = workspace.bare_command(arguments);
        command.arg("-c").arg(&config);
        finish(command).await
    };
    let id = listed(&workspace, &[]).await[0]["id"].as_str().unwrap().to_owned();
    let forgotten = bare(&["deliveries", "discard", &id]).await;
    forgotten.assert(0, &[]);
    assert!(forgotten.stdout.contains("1 dead delivery of endpoint main is forgotten"));
    assert!(forgotten.stdout.contains("no daemon runs"), "{}", forgotten.stdout);
    let retried = bare(&["deliveries", "retry", "--all", "--json"]).await;
    retried.assert(0, &[]);
    let retried: Value = serde_json::from_str(&retried.stdout).unwrap();
    assert_eq!((&retried["failed"], &retried["daemon"]), (&false.into(), &false.into()));
    let states: Vec<Value> = listed(&workspace, &["--state", "all"]).await;
    assert_eq!(states.len(), 5);
    assert!(states.iter().all(|entry| entry["state"] != "dead"), "{states:?}");
    assert_eq!(receiver.count(), before);

    receiver.answer(|_| Answer::Status(200));
    let daemon = workspace.start(&database).await;
    let requests = receiver.wait_for(before + 5, PATIENCE).await;
    assert!(requests[before..].iter().all(|request| request.id() != id));
    daemon.stop().await;
    let mut command = workspace.bare_command(&["endpoints", "list", "--journal", "walhook.db"]);
    command.env("HOME", "/nonexistent");
    let endpoints = finish(command).await;
    endpoints.assert(0, &[]);
    assert!(endpoints.stdout.contains("up to date"), "{}", endpoints.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disabled_endpoint_misses_comes_in_order_when_it_is_enabled() {
    let database = Arc::new(Database::create().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 3);
    load.commits_more(50).await;
    for _ in 0..2 {
        let disable = ["endpoints", "disable", "main", "--reason", "the receiver moves"];
        assert!(done(&workspace, &disable).await.contains("is disabled"));
        let silent = receiver.count();
        load.commits_more(50).await;
        assert_eq!(receiver.count(), silent, "it gets something");
        let state = endpoint(&workspace, "main").await;
        assert_eq!(state["disabled"], "the receiver moves");
        assert!(done(&workspace, &["endpoints", "enable", "main"]).await.contains("enabled again"));
        receiver.wait_for(silent + 50, PATIENCE).await;
    }
    load.stop().await;
    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    assert!(Counters::verify(&database, &requests).await.is_empty(), "there were repeats");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_comes_back_gets_what_it_missed() {
    let database = people().await;
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let folder = tempfile::tempdir().unwrap();
    let journal = format!("[journal]\npath = '{}'", folder.path().join("walhook.db").display());
    let alone = workspace(&database, &first).toml(&journal);
    let both = workspace(&database, &first).toml(&journal).endpoint("two", &second.url("/"), "");
    let daemon = both.start(&database).await;
    database.execute("insert into person values (1, 'a')").await;
    second.wait_for(1, PATIENCE).await;
    both.run(&["endpoints", "forget", "two"]).await.assert(2, &["in the configuration"]);
    daemon.stop().await;

    let daemon = alone.start(&database).await;
    database.execute("update person set name = 'b'; update person set name = 'c'").await;
    first.wait_for(3, PATIENCE).await;
    let list = done(&alone, &["endpoints", "list"]).await;
    assert!(list.contains("not configured") && list.contains("not in the configuration"), "{list}");
    daemon.stop().await;

    let daemon = both.start(&database).await;
    let requests = second.wait_for(3, PATIENCE).await;
    let names: Vec<Value> = requests.iter().map(|r| r.json()["data"]["name"].clone()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    daemon.stop().await;
    assert_eq!((first.count(), second.count()), (3, 3));

    let daemon = alone.start(&database).await;
    assert!(done(&alone, &["endpoints", "forget", "two"]).await.contains("is forgotten"));
    assert!(!done(&alone, &["endpoints", "list"]).await.contains("two"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_at_once_are_all_carried_out() {
    let database = people().await;
    let (one, two) = (Receiver::start().await, Receiver::start().await);
    for receiver in [&one, &two] {
        receiver.answer(|_| Answer::Status(500));
    }
    let workspace = workspace(&database, &one).endpoint("two", &two.url("/"), DIES_SOON);
    let daemon = workspace.start(&database).await;
    database.execute(SIX_EVENTS).await;
    until_dead(&workspace, 12).await;
    for receiver in [&one, &two] {
        receiver.answer(|_| Answer::Status(200));
    }
    let before = (one.count(), two.count());
    let (main, other, switch) = tokio::join!(
        workspace.run(&["deliveries", "retry", "--endpoint", "main"]),
        workspace.run(&["deliveries", "retry", "--endpoint", "two"]),
        workspace.run(&["endpoints", "enable", "two"]),
    );
    for finished in [main, other, switch] {
        finished.assert(0, &[]);
    }
    one.wait_for(before.0 + 6, PATIENCE).await;
    two.wait_for(before.1 + 6, PATIENCE).await;
    daemon.stop().await;
}

/// A request that takes long is let finish, and a daemon that is told to stop meanwhile does.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_holds_up_no_stop() {
    let database = people().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Answer::Silence);
    let workspace = workspace(&database, &receiver).toml("[daemon]\nstop_grace = '1s'").endpoint(
        "slow",
        &receiver.url("/slow"),
        "timeout = '60s'",
    );
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1, 'a')").await;
    receiver
        .wait_until(PATIENCE, "a slow request", |requests| {
            requests.iter().any(|request| request.path == "/slow")
        })
        .await;
    let disable = ["endpoints", "disable", "slow"];
    let (finished, stopped): (Finished, Finished) = tokio::join!(workspace.run(&disable), async {
        let journal = workspace.config_path().with_file_name("walhook.db");
        eventually(PATIENCE, "the order is given", async || {
            let db = rusqlite::Connection::open(&journal).unwrap();
            let count = db.query_row("select count(*) from orders", (), |row| row.get::<_, i64>(0));
            (count.unwrap() > 0).then_some(())
        })
        .await;
        stop(daemon).await
    });
    stopped.assert(0, &[]);
    // With the daemon gone, the command did it itself.
    finished.assert(0, &[]);
    assert!(endpoint(&workspace, "slow").await["disabled"].is_string());
}

async fn stop(daemon: Daemon) -> Finished {
    daemon.sigterm();
    daemon.finished(Duration::from_secs(30)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_start_behind_an_event() {
    let database = people().await;
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let daemon = workspace(&database, &first);
    let folder = tempfile::tempdir().unwrap();
    let journal = format!("[journal]\npath = '{}'", folder.path().join("walhook.db").display());
    let alone = daemon.toml(&journal);
    let running = alone.start(&database).await;
    database.execute("insert into person values (1, 'a'), (2, 'b'), (3, 'c')").await;
    let requests = first.wait_for(3, PATIENCE).await;
    let second_id = requests.iter().find(|r| r.json()["data"]["id"] == 2).unwrap().id().to_owned();
    running.stop().await;
    let with = |start: &str| {
        workspace(&database, &first).toml(&journal).endpoint(
            "late",
            &second.url("/"),
            &format!("start = '{start}'"),
        )
    };
    let unknown = with("evt_00000000000000000000000000000000").run(&["run"]).await;
    unknown.assert(2, &["late", "does not hold", "earliest"]);
    let running = with(&second_id).start(&database).await;
    let requests = second.wait_for(1, PATIENCE).await;
    assert_eq!(requests[0].json()["data"]["id"], 3);
    running.stop().await;
    assert_eq!(second.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let database = people().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let retry = ["deliveries", "retry", "--all"];
    workspace.run(&retry).await.assert(2, &["no journal", "walhook run"]);
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1, 'a')").await;
    let id = receiver.wait_for(1, PATIENCE).await[0].id().to_owned();
    for arguments in [
        &["endpoints", "disable", "mian"][..],
        &["deliveries", "list", "--endpoint", "mian"],
        &["deliveries", "retry", "--endpoint", "mian"],
        &["deliveries", "replay", "--endpoint", "mian", "--since", "1h"],
    ] {
        workspace.run(arguments).await.assert(2, &["mian", "did you mean \"main\"?"]);
    }
    let unknown = "evt_00000000000000000000000000000000";
    for arguments in [
        &["deliveries", "show", unknown][..],
        &["deliveries", "retry", unknown],
        &["deliveries", "replay", "--endpoint", "main", "--since", unknown],
    ] {
        workspace.run(arguments).await.assert(2, &["does not hold", &id]);
    }
    for arguments in [
        &["deliveries", "list", "--since", "yesterday"][..],
        &["deliveries", "retry", "--events", "a..b"],
        &["deliveries", "show", "evt_1"],
    ] {
        workspace.run(arguments).await.assert(2, &["invalid value"]);
    }
    let later = ["deliveries", "replay", "--endpoint", "main", "--since", "2099-01-01T00:00:00Z"];
    workspace.run(&later).await.assert(1, &["not been given any event of that time"]);
    daemon.stop().await;
}
