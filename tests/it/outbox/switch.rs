//! From an outbox to a replication slot, while the application writes: every change comes, each
//! once, in the order of its row.

use std::sync::Arc;
use std::time::Instant;

use super::PATIENCE;
use crate::harness::{Capture, Counters, Daemon, Database, Receiver, Workspace, eventually, pause};

/// The outbox' remains in a database: schemas, and triggers.
async fn remains(database: &Database) -> (i64, i64) {
    let sql = "select (select count(*) from pg_namespace where nspname = 'walhook'),
                      (select count(*) from pg_trigger where tgname like '!walhook%')";
    let row = database.client().await.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

struct Fixture {
    database: Arc<Database>,
    receiver: Receiver,
    workspace: Workspace,
}

impl Fixture {
    async fn new() -> Fixture {
        let database = Arc::new(Capture::Outbox.database().await);
        Counters::create_table(&database).await;
        let receiver = Receiver::start().await;
        let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
            "main",
            &receiver.url("/"),
            "",
        );
        Fixture { database, receiver, workspace }
    }

    /// With `capture` changed in the file.
    fn switched(self) -> Fixture {
        let workspace = self.workspace.toml("[source]\ncapture = 'replication'");
        Fixture { workspace, ..self }
    }

    /// Sets up the slot and publication, and starts the daemon on them.
    async fn starts_on_the_slot(&self) -> Daemon {
        let client = self.database.client().await;
        let daemon = self.workspace.spawn();
        daemon.follows(Capture::Replication, &client, self.workspace.slot(), None).await;
        daemon
    }

    /// How many events came by which capture.
    fn by(&self, capture: Capture) -> usize {
        let requests = self.receiver.requests_to("/");
        let its = |request: &Arc<crate::harness::Request>| {
            request.json()["source"]["capture"] == capture.as_str()
        };
        requests.iter().filter(|request| its(request)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_switched_to_replication_under_traffic() {
    let fixture = Fixture::new().await;
    let database = Arc::clone(&fixture.database);
    let daemon = fixture.workspace.start(&database).await;
    let load = Counters::start(&database, 4);
    load.commits_more(300).await;

    let fixture = fixture.switched();
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    // The old one goes on with what is in the outbox, and the slot keeps the rest.
    load.commits_more(300).await;
    daemon.stop().await;
    load.commits_more(300).await;
    let daemon = fixture.starts_on_the_slot().await;
    load.commits_more(300).await;
    load.stop().await;
    let requests = Counters::arrived(&database, &fixture.receiver, PATIENCE).await;
    daemon.stop().await;

    let repeats = Counters::verify(&database, &requests).await;
    assert!(repeats.is_empty(), "{} repeats", repeats.len());
    let (old, new) = (fixture.by(Capture::Outbox), fixture.by(Capture::Replication));
    assert!(old > 0 && new > 0, "{old} by the outbox, {new} by the slot");
    assert_eq!(old + new, Counters::events_due(&database).await);
    fixture.receiver.assert_all_signed();
    println!("{old} events by the outbox, {new} by the slot");

    assert_eq!(remains(&database).await.1, 0, "triggers stay");
    fixture.workspace.run(&["teardown"]).await.assert(0, &[]);
    assert_eq!(remains(&database).await, (0, 0));
}

/// Setup is killed anywhere amid the switch, again and again, and done once more: by then some of it may
/// have happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_cut_off_is_done_again() {
    let fixture = Fixture::new().await;
    let database = Arc::clone(&fixture.database);
    let daemon = fixture.workspace.start(&database).await;
    let load = Counters::start(&database, 4);
    load.commits_more(100).await;
    let fixture = fixture.switched();
    let whole = Instant::now();
    fixture.workspace.run(&["check"]).await;
    let most = whole.elapsed() * 3;
    for part in 1..=8 {
        let mut setup = fixture.workspace.command(&["setup"]).spawn().unwrap();
        // Not all at the same place, though it need not be hit exactly.
        pause(most * part / 8).await;
        setup.kill().await.unwrap();
        load.commits_more(20).await;
    }
    let again = fixture.workspace.run(&["setup"]).await;
    again.assert(0, &[]);
    load.commits_more(100).await;
    daemon.stop().await;
    load.commits_more(100).await;
    let daemon = fixture.starts_on_the_slot().await;
    load.commits_more(100).await;
    load.stop().await;
    let requests = Counters::arrived(&database, &fixture.receiver, PATIENCE).await;
    daemon.stop().await;
    assert!(Counters::verify(&database, &requests).await.is_empty());
    assert!(fixture.by(Capture::Outbox) > 0 && fixture.by(Capture::Replication) > 0);
    assert_eq!(remains(&database).await.1, 0, "triggers stay");
}

/// Nobody ran while it was switched, so that a backlog lies in the outbox; and the first that drains
/// it is killed, several times.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_drained_before_the_slot_is_read() {
    let fixture = Fixture::new().await;
    let database = Arc::clone(&fixture.database);
    fixture.workspace.start(&database).await.stop().await;
    let load = Counters::start(&database, 4);
    load.commits_more(500).await;
    let fixture = fixture.switched();
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    load.commits_more(300).await;
    load.stop().await;
    for kill in 0..5 {
        let mut daemon = fixture.workspace.spawn();
        fixture.receiver.wait_for(60 * (kill + 1), PATIENCE).await;
        daemon.sigkill().await;
        fixture.receiver.disconnected().await;
    }
    let daemon = fixture.workspace.spawn();
    let requests = Counters::arrived(&database, &fixture.receiver, PATIENCE).await;
    daemon.stop().await;
    // A kill may repeat what was on its way, and loses nothing; the order holds.
    Counters::verify(&database, &requests).await;
    assert!(fixture.by(Capture::Outbox) > 0 && fixture.by(Capture::Replication) > 0);
}

/// An application that rolls back what it did across the switch, or commits it late: setup waits for
/// whoever has changed a followed table.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_open_at_the_switch_are_told_once() {
    let fixture = Fixture::new().await;
    let database = Arc::clone(&fixture.database);
    let daemon = fixture.workspace.start(&database).await;
    let open = database.client().await;
    open.batch_execute("begin; insert into counter values (1, 1, 'open')").await.unwrap();
    let fixture = fixture.switched();
    let setup = fixture.workspace.command(&["setup"]);
    let setup = tokio::spawn(crate::harness::finish(setup));
    let client = database.client().await;
    eventually(PATIENCE, "setup waits for it", async || {
        let sql = "select from pg_stat_activity a
                   where datname = current_database() and application_name like 'walhook%'
                       and cardinality(pg_blocking_pids(pid)) > 0";
        client.query_opt(sql, &[]).await.ok()?.map(drop)
    })
    .await;
    open.batch_execute("update counter set n = 2; commit").await.unwrap();
    setup.await.unwrap().assert(0, &[]);
    database.execute("update counter set n = 3").await;
    daemon.stop().await;
    let daemon = fixture.starts_on_the_slot().await;
    database.execute("update counter set n = 4").await;
    let requests = Counters::arrived(&database, &fixture.receiver, PATIENCE).await;
    daemon.stop().await;
    assert!(Counters::verify(&database, &requests).await.is_empty());
    assert_eq!(requests.len(), 4);
}
