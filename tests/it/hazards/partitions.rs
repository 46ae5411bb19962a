//! Partitioned tables: whose name the rows come under, and which are never seen.

use serde_json::json;

use super::is_at_least;
use super::story::{Story, summary};
use crate::harness::{Capture, Database, Receiver, Workspace, under_both_captures};

under_both_captures!(
    hazard_19_rows_of_partitions_come_under_the_root_s_name,
    hazard_20_truncate_of_a_root_is_one_event_and_of_a_leaf_none,
    hazard_17_a_key_update_across_partitions_is_a_deletion_and_a_creation
);

/// Two leaves, the second below a partition of its own.
const MEASURE: &str = "
    create table measure (id int primary key, note text) partition by range (id);
    create table measure_low partition of measure for values from (0) to (100);
    create table measure_high partition of measure for values from (100) to (1000)
        partition by range (id);
    create table measure_high_1 partition of measure_high for values from (100) to (200);
    create table measure_more (id int primary key, note text);
    insert into measure_more values (1001, 'came along')";

const ATTACH: &str =
    "alter table measure attach partition measure_more for values from (1000) to (2000)";

async fn hazard_19_rows_of_partitions_come_under_the_root_s_name(capture: Capture) {
    let database = capture.database().await;
    database.execute(MEASURE).await;
    let events = Story::of(&database, &["measure"])
        .told(&[
            "insert into measure values (1, 'a'), (101, 'b')",
            "update measure_high_1 set note = 'c'",
            // What a partition brings along is no change of the root.
            "insert into measure_more values (1002, 'before')",
            ATTACH,
            "insert into measure values (1003, 'd')",
            "update measure set note = 'e' where id = 1001",
            "alter table measure detach partition measure_low",
            "insert into measure_low values (2, 'silent')",
            "create table measure_new partition of measure for values from (0) to (100);
             insert into measure values (3, 'f')",
            "drop table measure_new",
            "alter table measure_high detach partition measure_high_1",
            "delete from measure_high_1",
            "delete from measure where id = 1003",
        ])
        .await;
    let begin = ["measure.created 1", "measure.created 101", "measure.updated 101"];
    let then = if capture == Capture::Outbox || is_at_least(&database, 15).await {
        [
            "measure.created 1003",
            "measure.updated 1001",
            "measure.created 3",
            "measure.deleted 1003",
        ]
        .as_slice()
    } else {
        // The server goes by what a partition was when the stream first met it.
        ["measure.created 2", "measure.created 3", "measure.deleted 101"].as_slice()
    };
    assert_eq!(summary(&events), [&begin, then].concat());
    for event in &events {
        assert_eq!(event["source"]["table"], "measure", "{event}");
    }
}

/// The publication is somebody else's, and names partitions by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_19_without_via_root_rows_come_under_the_partitions_names() {
    let database = Database::create().await;
    database.execute(MEASURE).await;
    let publish = format!("create publication {} for table measure", database.name());
    database.execute(&publish).await;
    let events = Story::of(&database, &["measure_low", "measure_high_1"])
        .told(&[
            "insert into measure values (1, 'a'), (101, 'b')",
            "update measure set note = 'c'",
            "truncate measure_low",
            "insert into measure values (2, 'd')",
            "begin; truncate measure; insert into measure values (102, 'e'); commit",
        ])
        .await;
    let expected = [
        "measure_low.created 1",
        "measure_high_1.created 101",
        "measure_low.updated 1",
        "measure_high_1.updated 101",
        "measure_low.truncated",
        "measure_low.created 2",
        "measure_low.truncated",
        "measure_high_1.truncated",
        "measure_high_1.created 102",
    ];
    let mut summary = summary(&events);
    // Which leaf of one TRUNCATE comes first is the server's choice.
    summary[6..8].sort_by_key(|name| name.contains("high"));
    assert_eq!(summary, expected);
    // The root alone would stay silent, so the daemon says so.
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .table("public.measure", "measure")
        .toml(&format!("[source]\ncreate = false\nslot = '{}_live'", database.name()))
        .endpoint("main", &receiver.url("/"), "");
    let daemon = workspace.spawn();
    daemon.says("under their partitions' names", super::PATIENCE).await;
    daemon.stop().await;
}

async fn hazard_20_truncate_of_a_root_is_one_event_and_of_a_leaf_none(capture: Capture) {
    let database = capture.database().await;
    database.execute(MEASURE).await;
    let events = Story::of(&database, &["measure"])
        .told(&[
            "insert into measure values (1, 'a'), (101, 'b')",
            "truncate measure_low",
            "truncate measure",
            "insert into measure values (1, 'c')",
        ])
        .await;
    let expected =
        ["measure.created 1", "measure.created 101", "measure.truncated", "measure.created 1"];
    assert_eq!(summary(&events), expected);
    let workspace = Workspace::new(&database).table("public.measure", "measure").endpoint(
        "main",
        "http://127.0.0.1:9/",
        "",
    );
    let checked = workspace.run(&["check"]).await.stdout;
    assert!(checked.contains("TRUNCATE of a single partition"), "{checked}");
    let is_old = capture == Capture::Replication && !is_at_least(&database, 15).await;
    assert_eq!(checked.contains("attached or detached while walhook streams"), is_old, "{checked}");
}

/// Postgres itself makes two rows of it.
async fn hazard_17_a_key_update_across_partitions_is_a_deletion_and_a_creation(capture: Capture) {
    let database = capture.database().await;
    database.execute(MEASURE).await;
    let events = Story::of(&database, &["measure"])
        .told(&[
            "insert into measure values (1, 'a')",
            "update measure set id = 2",
            "update measure set id = 102",
            "update measure set note = 'b'",
        ])
        .await;
    let expected = [
        "measure.created 1",
        "measure.updated 2",
        "measure.deleted 2",
        "measure.created 102",
        "measure.updated 102",
    ];
    assert_eq!(summary(&events), expected);
    assert_eq!(events[1]["previous"], json!({"id": 1}));
    assert_eq!(events[2]["source"]["xid"], events[3]["source"]["xid"]);
    assert_eq!(events[3]["data"], json!({"id": 102, "note": "a"}));
}
