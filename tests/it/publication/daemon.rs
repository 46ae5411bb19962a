//! How the daemon looks after the publication while it runs.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::{PATIENCE, existing};
use crate::harness::{Daemon, Database, Receiver, Workspace};

const LONG_PATIENCE: Duration = Duration::from_secs(300);

fn rewrite(workspace: &Workspace, from: &str, to: &str) {
    let path = workspace.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(Path::new(&path), text.replace(from, to)).unwrap();
}

fn hang_up(daemon: &Daemon) {
    kill_process(daemon.pid(), Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_added_with_sighup_and_with_a_restart() {
    let database = Database::create().await;
    database
        .execute(
            "create table a (id int primary key); create table b (id int primary key);
             create table c (id int primary key)",
        )
        .await;
    let receiver = Receiver::start().await;
    let workspace =
        Workspace::new(&database).table("public.a", "one").endpoint("main", &receiver.url("/"), "");
    let daemon = workspace.start(&database).await;
    database.execute("insert into a values (1)").await;
    receiver.wait_for(1, PATIENCE).await;

    rewrite(&workspace, "[[endpoint]]", "[[nonsense]]");
    hang_up(&daemon);
    daemon.says("the configuration stays as it was", PATIENCE).await;
    rewrite(
        &workspace,
        "[[nonsense]]",
        "[[table]]\nname = 'public.b'\n[[endpoint]]\ntimeout = '3s'",
    );
    hang_up(&daemon);
    daemon.says("takes a restart: endpoint main", PATIENCE).await;
    daemon.says("done: add public.b", PATIENCE).await;
    database.execute("insert into b values (1); insert into a values (2)").await;
    receiver.wait_for(3, PATIENCE).await;

    // somebody takes it out again: said, and not put back before the next start
    let publication = database.name();
    database.execute(&format!("alter publication {publication} drop table b")).await;
    // It looks ever more rarely where that takes long.
    daemon.says("does not publish public.b", LONG_PATIENCE).await;
    database.execute(&format!("alter publication {publication} add table b")).await;
    daemon.says("no longer so: publication", LONG_PATIENCE).await;
    daemon.stop().await;

    let workspace = workspace.table("public.b", "b").table("public.c", "c");
    let daemon = workspace.start(&database).await;
    daemon.says("done: add public.c", PATIENCE).await;
    database.execute("insert into c values (1)").await;
    let requests = receiver.wait_for(4, PATIENCE).await;
    let mut names: Vec<String> =
        requests.iter().map(|r| r.json()["event"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(json!(names), json!(["b.created", "c.created", "one.created", "one.created"]));
    daemon.stop().await;
}

/// A lock on the table holds up the publication's change, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_holds_up_neither_the_stream_nor_the_end() {
    let database = Database::create().await;
    database
        .execute("create table a (id int primary key); create table b (id int primary key)")
        .await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .table("public.a", "a")
        .endpoint("main", &receiver.url("/"), "")
        .toml("[source]\ncreate = false");
    workspace.run(&["setup"]).await.assert(0, &[]);
    let locker = database.client().await;
    locker.batch_execute("begin; lock table b in access exclusive mode").await.unwrap();
    let workspace = workspace.table("public.b", "b");
    let daemon = workspace.start(&database).await;
    daemon.says("the publication is not changed yet", PATIENCE).await;
    database.execute("insert into a values (1)").await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
    locker.batch_execute("commit").await.unwrap();
}

/// Of two daemons on one slot the one that waits for it, perhaps with another configuration, leaves
/// the other's publication alone.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_daemon_that_has_the_slot_changes_the_publication() {
    let database = Database::create().await;
    database
        .execute("create table a (id int primary key); create table b (id int primary key)")
        .await;
    let receiver = Receiver::start().await;
    let workspace = || Workspace::new(&database).endpoint("main", &receiver.url("/"), "");
    let first = workspace().table("public.a", "a");
    let first = first.start(&database).await;
    let second = workspace().table("public.a", "a").table("public.b", "b");
    let second = second.spawn();
    second.says("the slot is held by another connection", PATIENCE).await;
    second.says("does not publish public.b", PATIENCE).await;
    let client = database.client().await;
    let tables = async || existing(&client, database.name()).await.tables.len();
    assert_eq!(tables().await, 1);
    first.stop().await;
    second.says("done: add public.b", PATIENCE).await;
    assert_eq!(tables().await, 2);
    second.stop().await;
}
