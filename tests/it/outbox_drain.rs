//! The outbox is drained: each row becomes one entry of the journal, in order, whatever is cut or
//! killed in between. Many of the rows are written by hand here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio_postgres::Client;
use walhook::throwaway::Options;

use crate::harness::{
    Answer, Counters, Daemon, Database, Receiver, Request, Workspace, eventually, pause,
};
use crate::refusals::own_cluster;

const PATIENCE: Duration = Duration::from_secs(120);

/// The outbox without triggers of walhook's.
async fn outbox() -> Arc<Database> {
    let database = Arc::new(Database::create().await);
    create_outbox(&database).await;
    database
}

async fn create_outbox(database: &Database) {
    database.execute(include_str!("../../sql/outbox.sql")).await;
}

/// Counters, which triggers of walhook's watch once it is set up.
async fn counters() -> (Arc<Database>, Receiver, Workspace) {
    let database = Arc::new(Database::create().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    workspace.run(&["setup"]).await.assert(0, &[]);
    (database, receiver, workspace)
}

/// Writes events `first..first + count` of one transaction, all with one key.
fn insert(first: i64, count: i64) -> String {
    format!(
        "insert into walhook.outbox (op, ordinal, new)
         select 'M', n - {first}, json_build_object('event', 'test.said', 'key', 'one',
                                                    'data', json_build_object('n', n))
         from generate_series({first}, {first} + {count} - 1) n"
    )
}

fn workspace(database: &Database, receiver: &Receiver) -> Workspace {
    Workspace::new(database)
        .table("public.counter", "counter")
        .toml("[source]\ncreate = false\ncapture = 'outbox'")
        .endpoint("main", &receiver.url("/"), "concurrency = 8")
}

/// Starts the daemon and waits until it drains the outbox.
async fn start(workspace: &Workspace) -> Daemon {
    let daemon = workspace.spawn();
    daemon.says("draining the outbox", PATIENCE).await;
    daemon
}

async fn waiting(client: &Client) -> i64 {
    client.query_one("select count(*) from walhook.outbox", &[]).await.unwrap().get(0)
}

async fn emptied(database: &Database) {
    let client = database.client().await;
    eventually(PATIENCE, "the outbox is empty", async || {
        (waiting(&client).await == 0).then_some(())
    })
    .await;
}

/// `n` of each request, in order of arrival.
fn numbers(requests: &[Arc<Request>]) -> Vec<i64> {
    requests.iter().map(|request| request.json()["data"]["n"].as_i64().unwrap()).collect()
}

/// Fails the test unless each counter's story is told in order, where an event may come again only
/// before the next one of its row. Answers the arrivals that were repeats.
async fn verify(database: &Database, requests: &[Arc<Request>]) -> Vec<usize> {
    let mut rows: HashMap<i64, (i64, String)> = HashMap::new();
    let mut repeats = Vec::new();
    for request in requests {
        let event = request.json();
        let (id, n) = (event["data"]["id"].as_i64().unwrap(), event["data"]["n"].as_i64().unwrap());
        let (newest, newest_id) = rows.entry(id).or_default();
        if newest_id == request.id() {
            repeats.push(request.arrival);
            continue;
        }
        assert_eq!(n, *newest + 1, "row {id}: change {n} came after change {newest}");
        (*newest, *newest_id) = (n, request.id().to_owned());
    }
    let truth = database.client().await.query("select id, n from counter", &[]).await.unwrap();
    assert_eq!(rows.len(), truth.len());
    for row in truth {
        let (id, n): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(rows[&id].0, n, "the newest changes of row {id} did not come");
    }
    repeats
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_makes_one_event_in_order() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    // More than one batch.
    database.execute(&insert(1, 2_500)).await;
    let daemon = start(&workspace).await;
    database.execute(&insert(2_501, 10)).await;
    let requests = receiver.wait_for(2_510, PATIENCE).await;
    assert_eq!(numbers(&requests), (1..=2_510).collect::<Vec<_>>());
    emptied(&database).await;
    daemon.stop().await;
    start(&workspace).await.stop().await;
    assert_eq!(receiver.count(), 2_510);
    receiver.assert_all_signed();
}

/// The connection is cut again and again while much is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_loses_and_repeats_nothing() {
    let (database, receiver, workspace) = counters().await;
    let daemon = start(&workspace).await;
    let load = Counters::start(&database, 4);
    let client = database.client().await;
    let cut = "select pg_terminate_backend(pid) from pg_locks \
               where locktype = 'advisory' and granted \
                 and database = (select oid from pg_database where datname = current_database())";
    for _ in 0..20 {
        load.commits_more(50).await;
        client.query(cut, &[]).await.unwrap();
    }
    load.stop().await;
    let due = Counters::events_due(&database).await;
    let requests = receiver.wait_for(due, PATIENCE).await;
    emptied(&database).await;
    let status = workspace.run(&["status"]).await;
    status.assert(0, &[]);
    assert!(status.stdout.contains("being drained (process "), "{}", status.stdout);
    assert!(status.stdout.contains("0 rows wait"), "{}", status.stdout);
    daemon.stop().await;
    workspace.run(&["status"]).await.assert(0, &[]);
    assert!(verify(&database, &requests).await.is_empty());
    assert_eq!(receiver.count(), due);
}

const KILLS: usize = 24;
const CONCURRENCY: usize = 8;

/// How many events the journal holds.
async fn journaled(workspace: &Workspace) -> usize {
    let status = workspace.run(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    status["journal"]["events"].as_u64().unwrap() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_and_journal_nothing_twice() {
    let (database, receiver, workspace) = counters().await;
    receiver.answer(|_| {
        let delay = Duration::from_micros(rand::rng().random_range(0..5_000));
        Answer::After(delay, Box::new(Answer::Status(200)))
    });
    let mut kills = Vec::new();
    while kills.len() < KILLS {
        // For each round, so that what gathers does not hang on the machine's pace.
        let load = Counters::start(&database, 8);
        let mut daemon = workspace.spawn();
        if rand::rng().random_bool(0.75) {
            receiver.wait_for(receiver.count() + 1, PATIENCE).await;
        }
        pause(Duration::from_millis(rand::rng().random_range(0..400))).await;
        assert!(daemon.is_running(), "it ended by itself: {}", daemon.stderr());
        daemon.sigkill().await;
        receiver.disconnected().await;
        kills.push(receiver.count());
        load.stop().await;
    }
    let daemon = workspace.spawn();
    let due = Counters::events_due(&database).await;
    let requests = Counters::arrived(&database, &receiver, 3 * PATIENCE).await;
    emptied(&database).await;
    daemon.stop().await;
    let repeats = verify(&database, &requests).await;
    println!("{due} events, {} repeats after {KILLS} kills", repeats.len());
    for (index, &killed_at) in kills.iter().enumerate() {
        let next = kills.get(index + 1).copied().unwrap_or(usize::MAX);
        let after = repeats.iter().filter(|&&arrival| (killed_at..next).contains(&arrival)).count();
        assert!(after <= 2 * CONCURRENCY, "{after} repeats after kill {index}");
    }
    assert_eq!(receiver.count(), due + repeats.len(), "requests beyond what happened");
    assert_eq!(journaled(&workspace).await, due);
    receiver.assert_all_signed();
}

/// Rows that somebody has locked can be read and journaled, but not deleted.
async fn hold(database: &Database) -> Client {
    let holder = database.client().await;
    holder.batch_execute("begin; select from walhook.outbox for update").await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_the_deletion_repeats_nothing() {
    // On a server of its own: slots that are being created wait for every open transaction.
    let cluster = own_cluster(Options::new()).await;
    let database = Arc::new(Database::create_on(&cluster, "crm").await);
    create_outbox(&database).await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    database.execute(&insert(1, 3_000)).await;
    let holder = hold(&database).await;
    let mut daemon = start(&workspace).await;
    receiver.wait_for(2_000, PATIENCE).await;
    daemon.sigkill().await;
    drop(holder);
    // The killed one's session may still wait for the lock.
    let daemon = start(&workspace).await;
    receiver.wait_until(PATIENCE, "all rows", |requests| numbers(requests).contains(&3_000)).await;
    emptied(&database).await;
    daemon.stop().await;
    assert_eq!(journaled(&workspace).await, 3_000);
    let mut numbers = numbers(&receiver.requests_to("/"));
    let repeats = numbers.len() - 3_000;
    assert!(repeats <= 2 * CONCURRENCY, "{repeats} repeats");
    numbers.dedup();
    assert!(numbers.is_sorted_by(|a, b| a < b) || repeats > 0);
}

/// The journal remembers rows of an outbox that is gone; those of a new one have the same numbers.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_made_anew_loses_nothing_to_the_old_one() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    database.execute(&insert(1, 100)).await;
    let holder = hold(&database).await;
    let mut daemon = start(&workspace).await;
    receiver.wait_for(100, PATIENCE).await;
    daemon.sigkill().await;
    drop(holder);
    database.execute("drop schema walhook cascade").await;
    let refused = workspace.run(&["run"]).await;
    refused.assert(3, &["the outbox", "does not exist any more", "walhook setup"]);
    create_outbox(&database).await;
    database.execute(&insert(101, 100)).await;
    let daemon = start(&workspace).await;
    receiver.wait_until(PATIENCE, "both", |requests| numbers(requests).contains(&200)).await;
    emptied(&database).await;
    daemon.stop().await;
    assert_eq!(journaled(&workspace).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_took_long_comes_late_and_holds_up_nobody() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let daemon = start(&workspace).await;
    let slow = database.client().await;
    slow.batch_execute("begin").await.unwrap();
    slow.batch_execute(&insert(1, 5)).await.unwrap();
    database.execute(&insert(6, 20)).await;
    let requests = receiver.wait_for(20, PATIENCE).await;
    assert_eq!(numbers(&requests), (6..=25).collect::<Vec<_>>());
    slow.batch_execute("commit").await.unwrap();
    let requests = receiver.wait_for(25, PATIENCE).await;
    assert_eq!(numbers(&requests[20..]), (1..=5).collect::<Vec<_>>());
    emptied(&database).await;
    daemon.stop().await;
    assert_eq!(journaled(&workspace).await, 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_one_works_and_the_other_takes_over() {
    let (database, receiver, one) = counters().await;
    let other = workspace(&database, &receiver);
    let mut first = start(&one).await;
    let second = other.spawn();
    second.says("another walhook drains the outbox", PATIENCE).await;
    let load = Counters::start(&database, 2);
    receiver.wait_for(receiver.count() + 100, PATIENCE).await;
    assert!(!second.stderr().contains("draining the outbox"), "{}", second.stderr());
    first.sigkill().await;
    let killed = Instant::now();
    second.says("draining the outbox", PATIENCE).await;
    println!("taken over after {:?}", killed.elapsed());
    load.commits_more(50).await;
    load.stop().await;
    // What the first had in its journal goes out when it comes back, and waits for the outbox now.
    let first = one.spawn();
    first.says("another walhook drains the outbox", PATIENCE).await;
    Counters::arrived(&database, &receiver, PATIENCE).await;
    emptied(&database).await;
    second.stop().await;
    first.says("draining the outbox", PATIENCE).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_wakes_it_and_it_stops_at_once() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let slow = "[source]\noutbox_poll = '10m'\noutbox_notify = true";
    let workspace = workspace(&database, &receiver).toml(slow);
    let daemon = start(&workspace).await;
    let client = database.client().await;
    for n in 1..=20 {
        client
            .batch_execute(&format!("begin; {}; notify walhook; commit", insert(n, 1)))
            .await
            .unwrap();
        receiver.wait_for(n as usize, PATIENCE).await;
    }
    // Nothing came for a while: it waits for the next look, and still hears the order to stop.
    let told = Instant::now();
    daemon.stop().await;
    assert!(told.elapsed() < Duration::from_secs(30), "it took {:?}", told.elapsed());
}

/// Seconds of processor time used so far.
fn cpu_seconds(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero()));
    let stat = stat.unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// The most memory it ever had, in bytes.
fn most_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero()));
    let status = status.unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_outbox_costs_hardly_anything() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let daemon = start(&workspace).await;
    // What it does once, at the start, is behind it.
    pause(Duration::from_secs(2)).await;
    let (before, began) = (cpu_seconds(&daemon), Instant::now());
    pause(Duration::from_secs(5)).await;
    let share = (cpu_seconds(&daemon) - before) / began.elapsed().as_secs_f64();
    println!("{:.2} % of a core", share * 100.0);
    // That of one that never rests is 1.
    assert!(share < 0.2, "{share} of a core");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_row_passes() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let daemon = start(&workspace).await;
    database.execute(&insert(1, 10)).await;
    let huge = "insert into walhook.outbox (op, ordinal, new)
        select 'M', 0, json_build_object('event', 'test.said', 'key', 'one', 'data',
            json_build_object('n', n, 'text', repeat(md5(random()::text), 1600000)))
        from generate_series(11, 13) n";
    database.execute(huge).await;
    database.execute(&insert(14, 10)).await;
    let requests = receiver.wait_for(23, PATIENCE).await;
    assert_eq!(numbers(&requests), (1..=23).collect::<Vec<_>>());
    assert!(requests[10].body.len() > 50_000_000);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_waiting_rows_are_taken_with_little_memory_and_a_stop_amid_them_is_prompt() {
    const ROWS: i64 = 100_000;
    let database = outbox().await;
    let receiver = Receiver::start().await;
    // Nothing is delivered: the receiver is down.
    receiver.down().await;
    let workspace = workspace(&database, &receiver);
    database.execute(&insert(1, ROWS)).await;
    let client = database.client().await;
    let daemon = start(&workspace).await;
    eventually(PATIENCE, "it is at work", async || {
        (waiting(&client).await < ROWS - 4_000).then_some(())
    })
    .await;
    let told = Instant::now();
    daemon.stop().await;
    println!("stopped within {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(30), "it took {:?}", told.elapsed());
    let left = waiting(&client).await;
    // What was taken is deleted, or remembered where there was no time for that.
    assert!(journaled(&workspace).await as i64 >= ROWS - left, "{left} are left");
    let daemon = start(&workspace).await;
    emptied(&database).await;
    let most = most_memory(&daemon);
    println!("{} MB", most >> 20);
    assert!(most < 400 << 20, "{} MB", most >> 20);
    daemon.stop().await;
    assert_eq!(journaled(&workspace).await as i64, ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_kind_to_come_is_kept_and_what_is_behind_it_waits() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    database.execute(&insert(1, 2)).await;
    database.execute("insert into walhook.outbox (op, ordinal) values ('Z', 0)").await;
    database.execute(&insert(3, 2)).await;
    let daemon = start(&workspace).await;
    daemon.says("row 3 of the outbox is of the kind 'Z'", PATIENCE).await;
    let requests = receiver.wait_for(2, PATIENCE).await;
    assert_eq!(numbers(&requests), [1, 2]);
    let client = database.client().await;
    eventually(PATIENCE, "the rows before it are gone", async || {
        (waiting(&client).await == 3).then_some(())
    })
    .await;
    database.execute("delete from walhook.outbox where op = 'Z'").await;
    assert_eq!(numbers(&receiver.wait_for(4, PATIENCE).await), [1, 2, 3, 4]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver)
        .endpoint("ops", &receiver.url("/ops"), "events = ['walhook.*']")
        .toml("[source]\noutbox_max_rows = 10");
    database
        .execute(
            "insert into walhook.outbox (op, ordinal, new) values ('L', 0, '{\"dropped\": 7}');
             insert into walhook.outbox (op, ordinal, relation, schema_name, table_name, new)
                 values ('X', 0, 1, 'public', 'counter', '{\"error\": \"it fell over\"}')",
        )
        .await;
    let daemon = start(&workspace).await;
    let mut gaps = eventually(PATIENCE, "both gaps", async || {
        let requests = receiver.requests_to("/ops");
        let events = requests.iter().map(|request| request.json());
        let gaps: Vec<_> = events.filter(|event| event["event"] == "walhook.gap").collect();
        (gaps.len() >= 2).then_some(gaps)
    })
    .await;
    // They are on no lane, and so in any order.
    gaps.sort_by_key(|gap| gap["data"]["events"] == 1);
    assert_eq!(gaps[0]["data"]["events"], 7);
    assert!(gaps[0]["data"]["reason"].as_str().unwrap().contains("outbox_max_rows"));
    assert_eq!(gaps[1]["data"]["events"], 1);
    let reason = gaps[1]["data"]["reason"].as_str().unwrap();
    assert!(reason.contains("\"public\".\"counter\"") && reason.contains("it fell over"));
    daemon.says("it fell over", PATIENCE).await;
    emptied(&database).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_rows_are_said_and_told() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver)
        .endpoint("ops", &receiver.url("/ops"), "events = ['walhook.*']")
        .toml("[source]\noutbox_max_rows = 100");
    database.execute(&insert(1, 3_000)).await;
    let holder = hold(&database).await;
    let daemon = start(&workspace).await;
    daemon.says("many rows wait in the outbox", PATIENCE).await;
    let told = eventually(PATIENCE, "the report", async || {
        let requests = receiver.requests_to("/ops");
        let mut events = requests.iter().map(|request| request.json());
        events.find(|event| event["event"] == "walhook.outbox.lag")
    })
    .await;
    assert_eq!(
        told["data"],
        serde_json::json!({"rows": 101, "limitRows": 100, "recovered": false})
    );
    drop(holder);
    daemon.says("few rows wait in the outbox again", PATIENCE).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused() {
    let database = Arc::new(Database::create().await);
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    let finished = workspace.run(&["run"]).await;
    finished.assert(2, &["the outbox (table walhook.outbox) does not exist yet", "walhook setup"]);
    create_outbox(&database).await;
    start(&workspace).await.stop().await;
    // Another database of the cluster.
    let other = outbox().await;
    let moved = workspace.source(&other);
    moved.run(&["run"]).await.assert(3, &["belongs to another database"]);
}

/// The same configuration, that reads a slot.
fn replicating(workspace: Workspace) -> Workspace {
    workspace.toml("[source]\ncapture = 'replication'")
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_outbox_to_the_slot_nothing_is_lost_or_repeated() {
    let (database, receiver, workspace) = counters().await;
    let daemon = start(&workspace).await;
    let load = Counters::start(&database, 4);
    load.commits_more(100).await;
    // The old daemon works on while the triggers go.
    let workspace = replicating(workspace);
    workspace.run(&["setup"]).await.assert(0, &[]);
    load.commits_more(100).await;
    daemon.stop().await;
    load.commits_more(100).await;
    // Some die while the rest is drained, some when they stream already.
    for _ in 0..6 {
        let mut daemon = workspace.spawn();
        pause(Duration::from_millis(rand::rng().random_range(50..1_000))).await;
        assert!(daemon.is_running(), "it ended by itself: {}", daemon.stderr());
        daemon.sigkill().await;
        receiver.disconnected().await;
    }
    let daemon = workspace.start(&database).await;
    load.commits_more(100).await;
    load.stop().await;
    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    daemon.stop().await;
    let repeats = verify(&database, &requests).await;
    println!("{} events, {} repeats", requests.len(), repeats.len());
    assert_eq!(journaled(&workspace).await, Counters::events_due(&database).await);
    let captures: std::collections::BTreeSet<String> = requests
        .iter()
        .map(|request| request.json()["source"]["capture"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(captures.into_iter().collect::<Vec<_>>(), ["outbox", "replication"]);
}

/// What waited for the first start after the switch is in the outbox, and what came later is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_in_the_outbox_comes_before_the_slot() {
    let (database, receiver, workspace) = counters().await;
    start(&workspace).await.stop().await;
    database.execute("insert into counter values (1, 1)").await;
    let workspace = replicating(workspace);
    let early = workspace.run(&["run"]).await;
    early.assert(2, &["triggers still fill it", "walhook setup"]);
    workspace.run(&["setup"]).await.assert(0, &[]);
    database.execute("update counter set n = 2").await;
    // Who goes on with the outbox would wait for ever.
    let workspace = workspace.toml("[source]\ncapture = 'outbox'");
    workspace.run(&["run"]).await.assert(2, &["gave way to logical replication"]);
    let workspace = replicating(workspace);
    let daemon = workspace.start(&database).await;
    let requests = receiver.wait_for(2, PATIENCE).await;
    assert_eq!(numbers(&requests), [1, 2]);
    daemon.stop().await;
    // There is no way back with the same journal.
    let workspace = workspace.toml("[source]\ncapture = 'outbox'");
    workspace.run(&["run"]).await.assert(3, &["come from a replication slot", "journal.path"]);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_moved_after_the_switch_is_a_gap() {
    let (database, receiver, workspace) = counters().await;
    start(&workspace).await.stop().await;
    let workspace = replicating(workspace);
    workspace.run(&["setup"]).await.assert(0, &[]);
    database.execute("insert into counter values (1, 1)").await;
    let advance =
        format!("select pg_replication_slot_advance('{}', pg_current_wal_lsn())", workspace.slot());
    database.execute(&advance).await;
    workspace.run(&["run"]).await.assert(3, &["the slot has moved", "--accept-gap"]);
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_waited_for() {
    let database = outbox().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
    database.execute(&insert(1, 1)).await;
    let read_only =
        format!("alter database {} set default_transaction_read_only = on", database.name());
    database.execute(&read_only).await;
    let daemon = workspace.spawn();
    daemon.says("read-only", PATIENCE).await;
    let reset = format!("begin read write; alter database {} reset all; commit", database.name());
    database.execute(&reset).await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
}
