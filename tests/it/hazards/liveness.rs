//! Neither walhook nor the server may be held up by the other.

use std::fs;

use walhook::throwaway::Options;

use super::PATIENCE;
use crate::harness::{
    Capture, Daemon, Database, Receiver, Workspace, eventually, slot_state, under_both_captures,
};
use crate::refusals::{Fixture, own_cluster};

under_both_captures!(hazard_14_large_transactions_come_when_committed_and_in_constant_memory);

#[tokio::test(flavor = "multi_thread")]
async fn hazard_11_the_danger_of_losing_the_slot_is_shown() {
    let options = Options::new()
        .conf("max_slot_wal_keep_size = '64MB'")
        .conf("min_wal_size = '32MB'")
        .conf("max_wal_size = '48MB'");
    let cluster = own_cluster(options).await;
    let fixture = Fixture::on(Database::create_on(&cluster, "crm").await).await;
    fixture.run_once().await;
    let client = fixture.database.client().await;
    client.batch_execute("create table filler (text text)").await.unwrap();
    let fill = "insert into filler select repeat('x', 1000) from generate_series(1, 20000)";
    client.batch_execute(fill).await.unwrap();
    let status = fixture.workspace.run(&["status", "--json"]).await.stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let slot = &status["source"]["slot"];
    assert_eq!((&slot["lost"], &slot["walStatus"]), (&false.into(), &"reserved".into()), "{slot}");
    assert!(slot["retainedBytes"].as_u64().unwrap() > 20_000_000, "{slot}");
    let left = slot["safeWalBytes"].as_i64().unwrap();
    assert!((1..64 << 20).contains(&left), "{slot}");
}

/// An open write transaction of anybody, in any database, holds up the making of a slot.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_12_whom_the_making_of_the_slot_waits_for_is_said() {
    let cluster = own_cluster(Options::new()).await;
    let neighbour = Database::create_on(&cluster, "neighbour").await;
    let writer = neighbour.client().await;
    writer.batch_execute("begin; create table unfinished (id int)").await.unwrap();
    let pid: i32 = writer.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let fixture = Fixture::on(Database::create_on(&cluster, "crm").await).await;
    let daemon = fixture.workspace.spawn();
    daemon.says(&format!("waiting for the open transaction of process {pid}"), PATIENCE).await;
    writer.batch_execute("commit").await.unwrap();
    let client = fixture.database.client().await;
    daemon.streams(&client, fixture.slot(), None).await;
    fixture.deliver("Ada").await;
    daemon.stop().await;
}

/// A second daemon waits for the slot until the first one is gone, and then takes over.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_13_a_slot_in_use_is_waited_for() {
    let fixture = Fixture::new().await;
    let mut first = fixture.start().await;
    fixture.deliver("Ada").await;
    let client = fixture.database.client().await;
    let reader = slot_state(&client, fixture.slot()).await.unwrap().reader;
    let standing_by = Workspace::new(&fixture.database).table("public.person", "person").endpoint(
        "main",
        &fixture.receiver.url("/"),
        "",
    );
    let mut second = standing_by.spawn();
    second.says("the slot is held by another connection", PATIENCE).await;
    fixture.deliver("Grace").await;
    assert!(second.is_running(), "{}", second.stderr());
    first.sigkill().await;
    second.streams(&client, fixture.slot(), reader).await;
    fixture.insert("Edsger").await;
    // What the first one had not confirmed comes again, too.
    fixture
        .receiver
        .wait_until(PATIENCE, "an event by the second daemon", |requests| {
            requests.iter().any(|request| request.json()["data"]["name"] == "Edsger")
        })
        .await;
    second.stop().await;
}

/// The most memory a process ever had, in bytes.
fn peak_bytes(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The server spills a large transaction and sends it once it is committed; the daemon never holds
/// more than a part of it.
async fn hazard_14_large_transactions_come_when_committed_and_in_constant_memory(capture: Capture) {
    const ROWS: usize = 20_000;
    const MANY: usize = 3 * ROWS;
    // Queues and the allocator take their share, more on a busy machine; to hold the additional
    // rows would take more than the 40 MB of their text alone.
    const GROWTH: u64 = 32 << 20;
    // A server of its own: others' slots would have to wait for these transactions.
    let cluster = own_cluster(Options::new()).await;
    let database = Database::create_on(&cluster, "crm").await.captured_by(capture);
    let name = database.name();
    database
        .execute(&format!(
            "create table filler (id int primary key, text text);
             alter database {name} set logical_decoding_work_mem = '64kB'"
        ))
        .await;
    let receiver = Receiver::start().await;
    // It is the journal's way that matters here; of the rows only the last is delivered.
    let workspace = Workspace::new(&database).table("public.filler", "filler").endpoint(
        "main",
        &receiver.url("/"),
        "events = ['filler.updated']",
    );
    let daemon = workspace.start(&database).await;
    let rows = |from: usize, count: usize| {
        format!(
            "insert into filler select g, repeat('x', 1000) \
             from generate_series({from}, {from} + {count} - 1) g"
        )
    };
    let mut peaks = Vec::new();
    for (from, count) in [(1, ROWS), (ROWS + 1, MANY)] {
        database.execute(&format!("begin; {}; rollback", rows(from, ROWS))).await;
        let script = format!(
            "begin; {}; savepoint a; {}; rollback to a;
             update filler set text = 'the end' where id = {from}; commit",
            rows(from, count),
            rows(from + count, ROWS)
        );
        database.execute(&script).await;
        let requests = receiver.wait_for(peaks.len() + 1, 3 * PATIENCE).await;
        // Nothing of what was rolled back was counted, let alone sent.
        assert_eq!(requests[peaks.len()].json()["source"]["ordinal"], count);
        peaks.push(peak_bytes(&daemon));
    }
    let grown = peaks[1] - peaks[0];
    assert!(grown < GROWTH, "{grown} bytes more for {} MB", (MANY - ROWS) / 1000);
    let client = database.client().await;
    eventually(PATIENCE, "the transaction is confirmed", async || {
        (capture.left_behind(&client, workspace.slot()).await < 1 << 20).then_some(())
    })
    .await;
    daemon.stop().await;
    let status = workspace.run(&["status", "--json"]).await.stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["journal"]["events"], ROWS + MANY + 2);
}
