//! What is down comes back, and meanwhile nothing else suffers.

use std::sync::Arc;
use std::time::Duration;

use walhook::throwaway::{Cluster, Options, StopMode};

use crate::harness::{
    Answer, Capture, Counters, Database, Receiver, Workspace, eventually, pause, slot_state,
    under_both_captures,
};

under_both_captures!(
    hazard_2_a_crash_of_the_server_repeats_nothing,
    a_receiver_that_was_down_gets_everything,
    a_dead_endpoint_delays_neither_its_neighbour_nor_the_slot
);

const PATIENCE: Duration = Duration::from_secs(120);
/// What an idle or caught-up slot may lag behind: some records of the server's own housekeeping.
const NEAR_ZERO_BYTES: i64 = 256 * 1024;

fn workspace(database: &Database, receiver: &Receiver) -> Workspace {
    Workspace::new(database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "",
    )
}

async fn hazard_2_a_crash_of_the_server_repeats_nothing(capture: Capture) {
    let cluster = Arc::new(Cluster::start(&Options::new()).unwrap());
    let database = Arc::new(Database::create_on(&cluster, "crm").await.captured_by(capture));
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let mut daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 4);

    for _ in 0..3 {
        load.commits_more(300).await;
        cluster.restart(StopMode::Immediate).unwrap();
    }
    load.commits_more(300).await;
    assert!(daemon.is_running(), "it gave up: {}", daemon.stderr());
    load.stop().await;

    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    daemon.stop().await;
    let repeats = Counters::verify(&database, &requests).await;
    assert!(repeats.is_empty(), "a server that comes back is no reason to repeat: {repeats:?}");
}

async fn a_receiver_that_was_down_gets_everything(capture: Capture) {
    let database = Arc::new(capture.database().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 4);

    load.commits_more(100).await;
    receiver.down().await;
    let before = receiver.count();
    load.commits_more(300).await;
    pause(Duration::from_secs(1)).await;
    assert_eq!(receiver.count(), before);
    receiver.up();
    load.commits_more(100).await;
    // Then it is up and unwell.
    receiver.answer(|request| match request.attempt() {
        1 => Answer::Status(503),
        _ => Answer::Status(200),
    });
    load.commits_more(10).await;
    receiver.answer(|_| Answer::Status(200));
    load.stop().await;

    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    daemon.stop().await;
    Counters::verify(&database, &requests).await;
    receiver.assert_all_signed();
}

async fn a_dead_endpoint_delays_neither_its_neighbour_nor_the_slot(capture: Capture) {
    let cluster = Arc::new(Cluster::start(&Options::new()).unwrap());
    let database = Arc::new(Database::create_on(&cluster, "crm").await.captured_by(capture));
    Counters::create_table(&database).await;
    let (healthy, refusing, silent) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    refusing.down().await;
    silent.answer(|_| Answer::Silence);
    let workspace = workspace(&database, &healthy)
        .endpoint("refusing", &refusing.url("/"), "")
        .endpoint("silent", &silent.url("/"), "timeout = '1s'");
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 4);
    load.commits_more(1_000).await;
    load.stop().await;

    let due = Counters::events_due(&database).await;
    let requests = healthy
        .wait_until(PATIENCE, "every change", |requests| Counters::complete(requests, due))
        .await;
    let client = database.client().await;
    eventually(Duration::from_secs(30), "the slot catches up", async || {
        let near_zero = match capture {
            Capture::Replication => NEAR_ZERO_BYTES,
            Capture::Outbox => 1,
        };
        (capture.left_behind(&client, workspace.slot()).await < near_zero).then_some(())
    })
    .await;
    assert!(Counters::verify(&database, &requests).await.is_empty());

    // The dead ones, alive, get everything too.
    silent.answer(|_| Answer::Status(200));
    refusing.up();
    let complete = |requests: &[_]| Counters::complete(requests, due);
    let requests = refusing.wait_until(PATIENCE, "every change, late", complete).await;
    Counters::verify(&database, &requests).await;
    silent.wait_until(PATIENCE, "every change, late", complete).await;
    daemon.stop().await;
}

/// The server drops a reader from whom it hears nothing, however busy or stuck that one is.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_8_a_slow_endpoint_costs_no_connection() {
    let cluster = Cluster::start(&Options::new().conf("wal_sender_timeout = '6s'")).unwrap();
    let database = Arc::new(Database::create_on(&Arc::new(cluster), "crm").await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Answer::Silence);
    let workspace = workspace(&database, &receiver);
    let daemon = workspace.start(&database).await;
    let client = database.client().await;
    let before = slot_state(&client, workspace.slot()).await.unwrap().reader;
    let load = Counters::start(&database, 2);
    pause(Duration::from_secs(10)).await;
    load.stop().await;
    pause(Duration::from_secs(8)).await;
    let after = slot_state(&client, workspace.slot()).await.unwrap().reader;
    assert_eq!(before, after, "the connection was lost: {}", daemon.stderr());
}

/// What the server cannot send it cannot send at the next attempt either, and each of them costs it
/// the decoding of everything before.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_at_once_is_tried_ever_more_rarely() {
    let database = Database::create().await;
    let table = "create type mood as enum ('odd'); create table kept as select 'odd'::mood as m;
                 create table counter (id serial primary key, name text, m mood)";
    database.execute(table).await;
    let receiver = Receiver::start().await;
    let daemon = workspace(&database, &receiver).start(&database).await;
    // A value whose text the server cannot make any more.
    database.execute("delete from pg_enum where enumtypid = 'mood'::regtype").await;
    database.execute("insert into counter (m) select m from kept").await;
    daemon.says("22P03", PATIENCE).await;
    daemon.says("retry_in_ms=2000", PATIENCE).await;
    daemon.says("does not get past one transaction", PATIENCE).await;
    daemon.says("pg_replication_slot_advance", PATIENCE).await;
    daemon.stop().await;
}
