//! Many sessions at once, that commit and roll back as they like: no change is lost, none comes
//! twice, none before an earlier one of its row.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Transaction};
use walhook::throwaway::Options;

use super::PATIENCE;
use crate::harness::{Capture, Counters, Database, Receiver, Workspace, pause};
use crate::refusals::own_cluster;

const CLIENTS: usize = 64;
const TRANSACTIONS_EACH: usize = 30;
const KEYS: usize = 500;

const COUNT: &str = "insert into counter values ($1, 1, $2) on conflict (id) \
                     do update set n = counter.n + 1, note = excluded.note";

async fn count(transaction: &Transaction<'_>, id: usize) {
    let note = "é".repeat(rand::rng().random_range(0..100));
    transaction.execute(COUNT, &[&(id as i64), &note]).await.unwrap();
}

/// What a transaction does: its rows, in ascending order so that none waits in a circle.
struct Plan {
    ids: Vec<usize>,
    /// After which of them it undoes the last one.
    undone: Vec<bool>,
    rests: Option<Duration>,
    rolls_back: bool,
}

impl Plan {
    fn new() -> Plan {
        let mut rng = rand::rng();
        let rows = rng.random_range(1..=6);
        let mut ids = rand::seq::index::sample(&mut rng, KEYS, rows).into_vec();
        ids.sort_unstable();
        Plan {
            undone: ids.iter().map(|_| rng.random_bool(0.2)).collect(),
            ids,
            rests: rng.random_bool(0.05).then(|| Duration::from_millis(rng.random_range(1..300))),
            rolls_back: rng.random_bool(0.15),
        }
    }

    /// Does it. The answer is how many changes were committed.
    async fn run(self, client: &mut Client) -> usize {
        let mut transaction = client.transaction().await.unwrap();
        let mut changes = 0;
        for (&id, undone) in self.ids.iter().zip(self.undone) {
            if undone {
                let savepoint = transaction.savepoint("a").await.unwrap();
                count(&savepoint, id).await;
                savepoint.rollback().await.unwrap();
            } else {
                let savepoint = transaction.savepoint("a").await.unwrap();
                count(&savepoint, id).await;
                savepoint.commit().await.unwrap();
                changes += 1;
            }
            if let Some(rest) = self.rests {
                pause(rest).await;
            }
        }
        if self.rolls_back {
            transaction.rollback().await.unwrap();
            return 0;
        }
        transaction.commit().await.unwrap();
        changes
    }
}

/// One transaction that lasts for as long as the others go on, with rows of its own.
async fn lasting(database: &Database, number: usize, others: &Arc<tokio::sync::Barrier>) -> usize {
    let mut client = database.client().await;
    let transaction = client.transaction().await.unwrap();
    for row in 0..10 {
        count(&transaction, KEYS + 10 * number + row).await;
    }
    others.wait().await;
    transaction.commit().await.unwrap();
    10
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_lost_among_many_sessions() {
    const LASTING: usize = 4;
    let cluster = own_cluster(Options::new().conf("max_connections = 120")).await;
    let database = Database::create_on(&cluster, "crm").await.captured_by(Capture::Outbox);
    let database = Arc::new(database);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "concurrency = 16",
    );
    let daemon = workspace.start(&database).await;
    let over = Arc::new(tokio::sync::Barrier::new(LASTING + 1));
    let mut running = JoinSet::new();
    let mut waiting = JoinSet::new();
    for number in 0..LASTING {
        let (database, over) = (Arc::clone(&database), Arc::clone(&over));
        waiting.spawn(async move { lasting(&database, number, &over).await });
    }
    for _ in 0..CLIENTS {
        let database = Arc::clone(&database);
        running.spawn(async move {
            let mut client = database.client().await;
            let mut changes = 0;
            for _ in 0..TRANSACTIONS_EACH {
                changes += Plan::new().run(&mut client).await;
            }
            changes
        });
    }
    let by_many: usize = running.join_all().await.into_iter().sum();
    // Nobody waits for those that last.
    receiver.wait_for(by_many, PATIENCE).await;
    over.wait().await;
    let by_few: usize = waiting.join_all().await.into_iter().sum();
    let requests = receiver.wait_for(by_many + by_few, PATIENCE).await;
    super::drained(&database).await;
    daemon.stop().await;
    assert_eq!(Counters::events_due(&database).await, by_many + by_few);
    let repeats = Counters::verify(&database, &requests).await;
    assert!(repeats.is_empty(), "{} repeats", repeats.len());
    assert_eq!(receiver.count(), by_many + by_few, "requests beyond what happened");
    println!("{by_many} changes of {CLIENTS} sessions, {by_few} of {LASTING} that lasted");
}

/// A transaction with low numbers is open, in this database and in another one, and holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_long_holds_up_nobody() {
    let fixture = super::fixture().await;
    let elsewhere = Database::create().await;
    let daemon = fixture.start().await;
    let stranger = elsewhere.client().await;
    stranger.batch_execute("begin; create table unfinished (id int)").await.unwrap();
    let slow = fixture.database.client().await;
    slow.batch_execute("begin; insert into person (name) values ('slow')").await.unwrap();
    for number in 0..20 {
        fixture.deliver(&number.to_string()).await;
    }
    slow.batch_execute("commit").await.unwrap();
    let requests = fixture.receiver.wait_for(21, PATIENCE).await;
    assert_eq!(requests[20].json()["data"]["name"], "slow");
    fixture.deliver("the last").await;
    daemon.stop().await;
    assert_eq!(fixture.receiver.count(), 22);
}

/// What is taken but not known to be deleted does not come again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_repeats_nothing() {
    let database = Arc::new(Capture::Outbox.database().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let mut daemon = workspace.start(&database).await;
    let client = database.client().await;
    let load = Counters::start(&database, 4);
    for _ in 0..20 {
        load.commits_more(30).await;
        let Some(reader) = Capture::Outbox.reader(&client, "").await else { continue };
        client.query("select pg_terminate_backend($1)", &[&reader]).await.unwrap();
    }
    load.commits_more(100).await;
    load.stop().await;
    assert!(daemon.is_running(), "it gave up: {}", daemon.stderr());
    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    super::drained(&database).await;
    daemon.stop().await;
    let repeats = Counters::verify(&database, &requests).await;
    assert!(repeats.is_empty(), "{} repeats", repeats.len());
}
