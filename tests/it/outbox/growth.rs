//! An outbox that nobody empties, and one that is emptied all the time.

use std::time::{Duration, Instant};

use serde_json::Value;
use walhook::throwaway::Options;

use super::{PATIENCE, event, events, fixture, told};
use crate::harness::{Capture, Database, Workspace, eventually};
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
    // Seen by Prometheus while nobody drains it.
    let metrics = fixture.workspace.run(&["status", "--metrics"]).await.stdout;
    assert!(metrics.contains("\nwalhook_outbox_rows 500\n"), "{metrics}");
    let has = |name: &str| metrics.lines().any(|line| line.starts_with(name));
    for name in
        ["walhook_outbox_oldest_seconds ", "walhook_outbox_size_bytes ", "walhook_source_up 1"]
    {
        assert!(has(name), "{name}: {metrics}");
    }
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
    const INSERTED: usize = 12_100;
    let fixture = told().await;
    let policy = "[source]\noutbox_max_rows = 2000\noutbox_policy = 'drop_oldest'";
    let workspace = fixture.workspace.toml(policy);
    let fixture = Fixture { workspace, ..fixture };
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    // Several sessions, as none may drop what another counts too.
    let writers: Vec<_> = (0..4).map(|_| insert(&fixture.database, 30, 100)).collect();
    futures_util::future::join_all(writers).await;
    // One alone, as nothing is dropped while another does that.
    insert(&fixture.database, 1, 100).await;
    let left = rows(&fixture.database).await;
    // A step is a tenth of the limit. What the sessions write while one of them drops comes on top.
    assert!((1_800..=3_200).contains(&left), "{left} rows are left");
    let daemon = fixture.start().await;
    super::drained(&fixture.database).await;
    fixture.insert("the last").await;
    let last = |it: &Value| it["data"]["name"] == "the last";
    event(&fixture.receiver, "/", "the last change", last).await;
    let told = accounted_for(&fixture, INSERTED).await;
    daemon.stop().await;
    assert_eq!(told.0 + told.1, INSERTED, "{told:?}");
    assert!(told.1 > INSERTED / 2, "{told:?}");
    println!("{} delivered, {} dropped", told.0, told.1);
}

/// Rows that walhook has read are dropped before it could delete them: they were told, and are not
/// counted as dropped; also where walhook was killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_not_counted_as_dropped() {
    for is_killed in [false, true] {
        let fixture = told().await;
        let policy = "[source]\noutbox_max_rows = 2000\noutbox_policy = 'drop_oldest'";
        let workspace = fixture.workspace.toml(policy);
        let fixture = Fixture { workspace, ..fixture };
        fixture.workspace.run(&["setup"]).await.assert(0, &[]);
        insert(&fixture.database, 1, 1_900).await;
        // Keeps rows among all that are deleted together, and so the daemon from deleting what it has
        // taken, however long it tries.
        let keeper = fixture.database.client().await;
        let some = "begin; select from walhook.outbox where id % 20 = 0 for update";
        keeper.batch_execute(some).await.unwrap();
        let mut daemon = fixture.start().await;
        let client = fixture.database.client().await;
        let waits = "select count(*) from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock'
                         and query ilike '%delete from walhook.outbox%'";
        eventually(PATIENCE, "all of it is taken", async || {
            let waiting: i64 = client.query_one(waits, &[]).await.unwrap().get(0);
            (waiting > 0).then_some(())
        })
        .await;
        // Too many at once, so that some are dropped however fast the daemon takes the others.
        insert(&fixture.database, 4, 1_000).await;
        if is_killed {
            daemon.sigkill().await;
        }
        keeper.batch_execute("commit").await.unwrap();
        if is_killed {
            daemon = fixture.start().await;
        }
        let (arrived, dropped) = accounted_for(&fixture, 5_900).await;
        super::drained(&fixture.database).await;
        fixture.insert("the last").await;
        let last = |it: &Value| it["data"]["name"] == "the last";
        event(&fixture.receiver, "/", "the last change", last).await;
        assert_eq!((arrived, dropped), told_of(&fixture), "killed: {is_killed}");
        daemon.stop().await;
        assert_eq!(arrived + dropped, 5_900, "killed: {is_killed}");
        assert!(arrived >= 1_900 && dropped > 0, "{arrived} arrived, {dropped} dropped");
    }
}

/// How many changes of rows named "x" came, and how many were told to be dropped.
fn told_of(fixture: &Fixture) -> (usize, usize) {
    let arrived = events(&fixture.receiver, "/");
    let arrived = arrived.iter().filter(|it| it["data"]["name"] == "x").count();
    let gaps = events(&fixture.receiver, "/ops");
    let gaps = gaps.iter().filter(|it| it["event"] == "walhook.gap");
    let dropped = gaps.map(|gap| gap["data"]["events"].as_u64().unwrap_or_else(|| panic!("{gap}")));
    (arrived, dropped.sum::<u64>() as usize)
}

/// The same, once it is as many as were made.
async fn accounted_for(fixture: &Fixture, made: usize) -> (usize, usize) {
    eventually(PATIENCE, "every change or its loss", async || {
        let (arrived, dropped) = told_of(fixture);
        (arrived + dropped >= made).then_some((arrived, dropped))
    })
    .await
}

/// The outbox at one moment: kB of the table and of its index, rows that wait, rows that are gone and
/// not cleaned away yet.
#[derive(Debug)]
struct Size {
    table: i64,
    index: i64,
    waiting: i64,
    dead: i64,
}

impl Size {
    async fn now(client: &tokio_postgres::Client) -> Size {
        let sql = "select pg_table_size('walhook.outbox') / 1024,
                          pg_indexes_size('walhook.outbox') / 1024,
                          (select count(*) from walhook.outbox),
                          pg_stat_get_dead_tuples('walhook.outbox'::regclass)";
        let row = client.query_one(sql, &[]).await.unwrap();
        Size { table: row.get(0), index: row.get(1), waiting: row.get(2), dead: row.get(3) }
    }
}

/// Commits batches as long as few rows wait, so that what is measured is not the daemon's pace.
async fn insert_slowly(database: &Database, batches: usize, each: usize) {
    let client = database.client().await;
    for _ in 0..batches {
        eventually(PATIENCE, "the daemon keeps up", async || {
            (Size::now(&client).await.waiting < 1_000).then_some(())
        })
        .await;
        insert(database, 1, each).await;
    }
}

/// Rows come and go all the time: the server's own cleaning keeps up, by the table's settings.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_in_use_stays_small() {
    /// Each of so many writers commits so many batches of so many rows.
    const WRITERS: usize = 4;
    const BATCHES: usize = 150;
    const EACH: usize = 100;
    let cluster = own_cluster(Options::new().conf("autovacuum_naptime = '1s'")).await;
    let database = Database::create_on(&cluster, "crm").await.captured_by(Capture::Outbox);
    let fixture = Fixture::on(database).await;
    // It is the journal's way that matters here; nobody wants the events.
    let workspace = Workspace::new(&fixture.database).table("public.person", "person").endpoint(
        "main",
        &fixture.receiver.url("/"),
        "events = ['company.*']",
    );
    let database = &fixture.database;
    let daemon = workspace.start(database).await;
    let began = Instant::now();
    let written = async {
        let writers: Vec<_> =
            (0..WRITERS).map(|_| insert_slowly(database, BATCHES, EACH)).collect();
        futures_util::future::join_all(writers).await
    };
    let mut written = std::pin::pin!(written);
    let (mut sizes, client) = (Vec::new(), database.client().await);
    loop {
        tokio::select! {
            _ = &mut written => break,
            () = crate::harness::pause(Duration::from_millis(300)) => {}
        }
        sizes.push(Size::now(&client).await);
    }
    super::drained(database).await;
    let sql = "select autovacuum_count from pg_stat_user_tables
               where schemaname = 'walhook' and relname = 'outbox'";
    let vacuums: i64 = eventually(PATIENCE, "the table is cleaned", async || {
        Some(client.query_one(sql, &[]).await.unwrap().get(0)).filter(|&count| count > 0)
    })
    .await;
    daemon.stop().await;
    let changes = WRITERS * BATCHES * EACH;
    let most = |of: fn(&Size) -> i64| sizes.iter().map(of).max().unwrap_or(0);
    println!(
        "{changes} changes in {:?}, {vacuums} vacuums, at most {} kB of table and {} kB of index, \
         {} rows waiting, {} dead: {:?}",
        began.elapsed(),
        most(|size| size.table),
        most(|size| size.index),
        most(|size| size.waiting),
        most(|size| size.dead),
        sizes.iter().map(|size| (size.table, size.index)).collect::<Vec<_>>()
    );
    // Without cleaning, these rows alone would take more than four times as much.
    let bound = (changes * 150 / 1024 / 4) as i64;
    assert!(most(|size| size.table) < bound, "beyond {bound} kB: {sizes:?}");
}
