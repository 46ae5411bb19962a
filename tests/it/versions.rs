//! What only some versions of the server have, and one that is too old.

use std::sync::Arc;
use std::time::Duration;

use walhook::throwaway::{Cluster, Options};

use crate::harness::{Database, Receiver, Workspace, eventually, slot_state};

const PATIENCE: Duration = Duration::from_secs(60);
/// Names the folder of a PostgreSQL 13's programs.
const TOO_OLD: &str = "WALHOOK_TEST_PG13_BIN";

async fn start(options: Options) -> Arc<Cluster> {
    Arc::new(tokio::task::spawn_blocking(move || Cluster::start(&options)).await.unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn version_13_is_refused_in_one_sentence() {
    let Some(programs) = std::env::var_os(TOO_OLD) else {
        return eprintln!("nothing to test: {TOO_OLD} names no server");
    };
    let cluster = start(Options::new().programs(programs)).await;
    let database = Database::create_on(&cluster, "crm").await;
    database.execute("create table person (id serial primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    const SENTENCE: &str = "PostgreSQL 13 is too old, walhook needs 14 or newer";
    let check = workspace.run(&["check"]).await;
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains(SENTENCE), "{}", check.stdout);
    workspace.run(&["setup"]).await.assert(1, &[SENTENCE]);
    workspace.run(&["run"]).await.assert(2, &[SENTENCE]);
    let workspace = workspace.toml("[source]\ncreate = false");
    workspace.run(&["run"]).await.assert(2, &[SENTENCE, "pg_upgrade"]);
}

/// From 18 on the server gives up slots that nobody reads, where it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_given_up_for_idleness_is_refused() {
    let cluster = start(Options::new()).await;
    if cluster.binaries().version() < 18 {
        return eprintln!("nothing to test: idle_replication_slot_timeout came with PostgreSQL 18");
    }
    let database = Database::create_on(&cluster, "crm").await;
    database.execute("create table person (id serial primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let daemon = workspace.start(&database).await;
    database.execute("insert into person (name) values ('Ada')").await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;

    cluster.add_conf("idle_replication_slot_timeout = '1s'").unwrap();
    let client = database.client().await;
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    eventually(PATIENCE, "check warns", async || {
        let told = workspace.run(&["check"]).await.stdout;
        told.contains("idle_replication_slot_timeout is 1s").then_some(())
    })
    .await;
    eventually(PATIENCE, "the slot is given up", async || {
        client.batch_execute("checkpoint").await.unwrap();
        let state = slot_state(&client, workspace.slot()).await?;
        (state.wal_status.as_deref() == Some("lost")).then_some(())
    })
    .await;
    let words = ["was not read for longer than idle_replication_slot_timeout", "walhook teardown"];
    workspace.run(&["run"]).await.assert(3, &words);
    let told = workspace.run(&["check"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stdout.contains("is lost (idle_timeout)"), "{}", told.stdout);
}
