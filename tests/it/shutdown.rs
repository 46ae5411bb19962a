//! The primary may leave when it wants to, and so may the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use walhook::throwaway::{Cluster, Options, StopMode};

use crate::harness::{
    Answer, Capture, Counters, Database, Receiver, Workspace, eventually, under_both_captures,
};

under_both_captures!(
    hazard_9_the_primary_s_fast_shutdown_is_not_held_up,
    hazard_9_nor_by_a_stuck_journal,
    a_signal_lets_finish_what_is_under_way,
    a_second_signal_ends_the_wait
);

const PATIENCE: Duration = Duration::from_secs(120);
/// A server held up by a slot's reader waits for much longer than this.
const AT_ONCE: Duration = Duration::from_secs(30);

async fn counting(database: &Database, receiver: &Receiver, more: &str) -> Workspace {
    Counters::create_table(database).await;
    Workspace::new(database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        more,
    )
}

async fn hazard_9_the_primary_s_fast_shutdown_is_not_held_up(capture: Capture) {
    let cluster = Arc::new(Cluster::start(&Options::new()).unwrap());
    let database = Arc::new(Database::create_on(&cluster, "crm").await.captured_by(capture));
    let receiver = Receiver::start().await;
    let dead = Receiver::start().await;
    dead.answer(|_| Answer::Silence);
    let workspace =
        counting(&database, &receiver, "").await.endpoint("dead", &dead.url("/"), "timeout = '5s'");
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 4);

    for _ in 0..2 {
        load.commits_more(200).await;
        let started = Instant::now();
        cluster.stop(StopMode::Fast).unwrap();
        let took = started.elapsed();
        assert!(took < AT_ONCE, "the server took {took:?} to stop; {}", daemon.stderr());
        cluster.resume().unwrap();
    }
    load.commits_more(100).await;
    load.stop().await;
    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    assert!(Counters::verify(&database, &requests).await.is_empty());
    daemon.stop().await;
}

/// Nor by a journal that cannot be written: here another program has it locked.
async fn hazard_9_nor_by_a_stuck_journal(capture: Capture) {
    let cluster = Arc::new(Cluster::start(&Options::new()).unwrap());
    let database = Arc::new(Database::create_on(&cluster, "crm").await.captured_by(capture));
    let receiver = Receiver::start().await;
    let workspace = counting(&database, &receiver, "").await;
    let daemon = workspace.start(&database).await;
    database.execute("insert into counter values (1, 1)").await;
    receiver.wait_for(1, PATIENCE).await;

    // A reader that never confirmed anything is not waited for.
    let client = database.client().await;
    let sql = match capture {
        Capture::Replication => "select from pg_stat_replication where flush_lsn is not null",
        Capture::Outbox => "select where not exists (select from walhook.outbox)",
    };
    eventually(PATIENCE, "the first change is confirmed", async || {
        (!client.query(sql, &[]).await.unwrap().is_empty()).then_some(())
    })
    .await;

    let journal = workspace.config_path().with_file_name("walhook.db");
    let other = rusqlite::Connection::open(journal).unwrap();
    other.busy_timeout(AT_ONCE).unwrap();
    other.execute_batch("begin immediate").unwrap();
    database.execute("insert into counter values (2, 1)").await;
    daemon.says("cannot be written", PATIENCE).await;
    let started = Instant::now();
    cluster.stop(StopMode::Fast).unwrap();
    let took = started.elapsed();
    assert!(took < AT_ONCE, "the server took {took:?} to stop; {}", daemon.stderr());
    cluster.resume().unwrap();

    other.execute_batch("rollback").unwrap();
    let requests = receiver.wait_for(2, PATIENCE).await;
    assert!(Counters::verify(&database, &requests).await.is_empty());
    daemon.stop().await;
}

async fn a_signal_lets_finish_what_is_under_way(capture: Capture) {
    let database = Arc::new(capture.database().await);
    let receiver = Receiver::start().await;
    receiver.answer(|_| Answer::After(Duration::from_secs(1), Box::new(Answer::Status(200))));
    let workspace = counting(&database, &receiver, "concurrency = 4").await;
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 2);
    load.commits_more(20).await;
    load.stop().await;
    receiver.wait_for(4, PATIENCE).await;
    daemon.stop().await;
    let before = receiver.count();

    // Whatever had come was answered and noted, so nothing of it comes again.
    receiver.answer(|_| Answer::Status(200));
    let daemon = workspace.start(&database).await;
    let due = Counters::events_due(&database).await;
    let requests = receiver.wait_for(due, PATIENCE).await;
    daemon.stop().await;
    assert!(before < due, "the first daemon did not leave anything over");
    assert!(Counters::verify(&database, &requests).await.is_empty());
    assert_eq!(receiver.count(), due);
}

async fn a_second_signal_ends_the_wait(capture: Capture) {
    let database = Arc::new(capture.database().await);
    let receiver = Receiver::start().await;
    receiver.answer(|_| Answer::Silence);
    let workspace = counting(&database, &receiver, "timeout = '60s'")
        .await
        .toml("[daemon]\nstop_grace = '60s'");
    let mut daemon = workspace.start(&database).await;
    database.execute("insert into counter values (1, 1)").await;
    receiver.wait_for(1, PATIENCE).await;

    daemon.sigterm();
    daemon.says("stop", PATIENCE).await;
    assert!(daemon.is_running(), "it did not wait for the answer: {}", daemon.stderr());
    daemon.sigterm();
    daemon.finished(AT_ONCE).await;

    // The request was not answered: it comes again.
    receiver.answer(|_| Answer::Status(200));
    let daemon = workspace.start(&database).await;
    let requests = receiver.wait_for(2, PATIENCE).await;
    assert_eq!(Counters::verify(&database, &requests).await, [1]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_serves_one_daemon_at_a_time() {
    let database = Arc::new(Database::create().await);
    let receiver = Receiver::start().await;
    let workspace = counting(&database, &receiver, "").await;
    let daemon = workspace.start(&database).await;
    let second = workspace.run(&["run"]).await;
    assert_ne!(second.code, Some(0));
    assert!(second.stderr.contains("walhook.db"), "{}", second.stderr);

    database.execute("insert into counter values (1, 1)").await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
}
