//! An outbox that nobody empties, and one that is emptied all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use walhook::throwaway::Options;

use super::{PATIENCE, event, events, fixture, told};
use crate::harness::{Capture, Counters, Database, Receiver, Workspace, eventually};
use crate::refusals::{Fixture, own_cluster};

async fn rows(database: &Database) -> i64 {
    Capture::Outbox.left_behind(&database.client().await, "").await
}

async fn insert(database: &Database, batches: usize, each: usize) {
    let client = database.client().await;
    let sql = format!("insert into person (name) select 'x' from generate_series(1, {each})");
    for _ in 0..batches {
        client.batch_execute(&sql).await.unwrap();
    }
}

async fn status(workspace: &Workspace) -> Value {
    let status = workspace.run(&["status", "--json"]).await.stdout;
    serde_json::from_str(&status).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_waits() {
    let fixture = fixture().await;
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    let empty = status(&fixture.workspace).await;
    assert_eq!(empty["source"]["outbox"]["rows"], 0, "{}", empty["source"]);
    insert(&fixture.database, 5, 100).await;
    let waiting = status(&fixture.workspace).await;
    let outbox = &waiting["source"]["outbox"];
    assert_eq!(outbox["rows"], 500, "{outbox}");
    assert!(outbox["bytes"].as_u64().is_some_and(|bytes| bytes > 10_000), "{outbox}");
    assert!(outbox["oldestSeconds"].as_f64().is_some_and(|age| age >= 0.0), "{outbox}");
    let text = fixture.workspace.run(&["status"]).await.stdout;
    assert!(text.contains("outbox") && text.contains("500"), "{text}");
    let daemon = fixture.start().await;
    super::drained(&fixture.database).await;
    daemon.stop().await;
    assert_eq!(status(&fixture.workspace).await["source"]["outbox"]["rows"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_grows_beyond_its_limit_is_said_and_keeps_all() {
    let fixture = told().await;
    let workspace = fixture.workspace.toml("[source]\noutbox_max_rows = 1000");
    let fixture = Fixture { workspace, ..fixture };
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    insert(&fixture.database, 30, 100).await;
    assert_eq!(rows(&fixture.database).await, 3000);
    let daemon = fixture.start().await;
    eventually(PATIENCE, "all of them", async || {
        (events(&fixture.receiver, "/").len() >= 3000).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_counted_and_told() {
    const INSERTED: usize = 12_000;
    let fixture = told().await;
    let policy = "[source]\noutbox_max_rows = 2000\noutbox_policy = 'drop_oldest'";
    let workspace = fixture.workspace.toml(policy);
    let fixture = Fixture { workspace, ..fixture };
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    // Several sessions, as none may drop what another counts too.
    let writers: Vec<_> = (0..4).map(|_| insert(&fixture.database, 30, 100)).collect();
    futures_util::future::join_all(writers).await;
    let left = rows(&fixture.database).await;
    assert!((1_900..=4_100).contains(&left), "{left} rows are left");
    let daemon = fixture.start().await;
    super::drained(&fixture.database).await;
    fixture.insert("the last").await;
    let last = |it: &Value| it["data"]["name"] == "the last";
    event(&fixture.receiver, "/", "the last change", last).await;
    let dropped = |events: &[Value]| -> u64 {
        let gaps = events.iter().filter(|it| it["event"] == "walhook.gap");
        gaps.map(|gap| gap["data"]["events"].as_u64().unwrap_or_else(|| panic!("{gap}"))).sum()
    };
    let told = eventually(PATIENCE, "every change or its loss", async || {
        let arrived = events(&fixture.receiver, "/").len() - 1;
        let dropped = dropped(&events(&fixture.receiver, "/ops")) as usize;
        (arrived + dropped >= INSERTED).then_some((arrived, dropped))
    })
    .await;
    daemon.stop().await;
    assert_eq!(told.0 + told.1, INSERTED, "{told:?}");
    assert!(told.1 > INSERTED / 2, "{told:?}");
    println!("{} delivered, {} dropped", told.0, told.1);
}

/// How many bytes the outbox takes, all in all, and what of it are rows that are gone.
async fn size(database: &Database) -> (i64, i64) {
    let sql = "select pg_total_relation_size('walhook.outbox'),
                      pg_stat_get_dead_tuples('walhook.outbox'::regclass)";
    let row = database.client().await.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Rows come and go all the time: the server's own cleaning keeps up, by the table's settings.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_in_use_stays_small() {
    const LASTS: Duration = Duration::from_secs(25);
    let cluster = own_cluster(Options::new().conf("autovacuum_naptime = '1s'")).await;
    let database = Database::create_on(&cluster, "crm").await.captured_by(Capture::Outbox);
    let database = Arc::new(database);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    // It is the journal's way that matters here; nobody wants the events.
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "events = ['company.*']",
    );
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 4);
    let began = Instant::now();
    let (mut largest, mut sizes) = (0, Vec::new());
    while began.elapsed() < LASTS {
        let (bytes, dead) = size(&database).await;
        largest = largest.max(bytes);
        sizes.push((bytes / 1024, dead));
        crate::harness::pause(Duration::from_millis(500)).await;
    }
    load.stop().await;
    super::drained(&database).await;
    daemon.stop().await;
    let changes = Counters::events_due(&database).await;
    let client = database.client().await;
    let sql = "select autovacuum_count from pg_stat_user_tables
               where schemaname = 'walhook' and relname = 'outbox'";
    let vacuums: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    // Each change is a row with two states of the counter and its index entry.
    let written = changes * 500;
    println!(
        "{changes} changes, about {} kB written, {vacuums} vacuums, largest {} kB, \
         (kB, dead rows) over time: {sizes:?}",
        written / 1024,
        largest / 1024
    );
    assert!(vacuums > 3, "{vacuums} vacuums");
    let bound = 8 << 20;
    assert!(largest < bound, "{largest} bytes after {changes} changes");
    // And it does not creep: the second half needs no more than the first.
    let (first, second) = sizes.split_at(sizes.len() / 2);
    let peak = |sizes: &[(i64, i64)]| sizes.iter().map(|(bytes, _)| *bytes).max().unwrap();
    assert!(peak(second) <= 2 * peak(first).max(1024), "{} after {}", peak(second), peak(first));
}
