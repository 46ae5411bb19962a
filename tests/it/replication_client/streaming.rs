//! Commands, and the stream with real changes.

use std::time::{Duration, Instant};

use walhook::postgres::ConnectionOptions;
use walhook::postgres::lsn::Lsn;
use walhook::postgres::replication::{
    CreateSlot, ReplicationClient, ReplicationMessage, ReplicationStream, Snapshot, StartOptions,
    StatusUpdate,
};
use walhook::postgres::sql::quote_ident;
use walhook::throwaway::StopMode;

use super::fixture::ClusterFixture;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn status(lsn: Lsn, reply_requested: bool) -> StatusUpdate {
    StatusUpdate { received_lsn: lsn, flushed_lsn: lsn, applied_lsn: lsn, reply_requested }
}

/// A slot of its own, streaming the publication `name` with the table `name`.
fn streaming(
    cluster: &ClusterFixture,
    options: &ConnectionOptions,
    name: &str,
    // Messages belong to no table: those of other tests in this database come along.
    messages: bool,
) -> ReplicationStream {
    let quoted = quote_ident(name);
    cluster.execute(&format!(
        "CREATE TABLE {quoted} (id int PRIMARY KEY, v text); \
             CREATE PUBLICATION {quoted} FOR TABLE {quoted}"
    ));
    let slot = slot_name(name);
    let mut client = ReplicationClient::connect(options).unwrap();
    client.create_slot(&slot, CreateSlot::default()).unwrap();
    client
        .start(
            &slot,
            Lsn::ZERO,
            &[name.to_owned()],
            StartOptions { messages, ..StartOptions::default() },
        )
        .unwrap()
}

fn slot_name(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').collect()
}

/// The next output of the plugin, copied; keepalives are answered.
fn next_data(stream: &mut ReplicationStream) -> Vec<u8> {
    let deadline = soon();
    loop {
        match stream.next(deadline).unwrap() {
            Some(ReplicationMessage::XLogData { data, .. }) => return data.to_vec(),
            Some(ReplicationMessage::Keepalive { .. }) => {}
            None => panic!("nothing came"),
        }
    }
}

/// The kinds of the next messages. Relation messages are left out: they come again whenever
/// anything invalidates the server's cache.
fn tags(stream: &mut ReplicationStream, count: usize) -> String {
    let mut tags = String::new();
    while tags.len() < count {
        tags.extend(Some(char::from(next_row(stream)[0])));
    }
    tags
}

fn next_row(stream: &mut ReplicationStream) -> Vec<u8> {
    loop {
        let data = next_data(stream);
        if data[0] != b'R' {
            return data;
        }
    }
}

#[test]
fn commands_answer() {
    let cluster = ClusterFixture::shared();
    let mut client = ReplicationClient::connect(&cluster.tcp("scram", "")).unwrap();
    assert!(client.server_version_num() >= 140_000);
    let identity = client.identify_system().unwrap();
    assert_eq!(identity.timeline, 1);
    assert_eq!(identity.database.as_deref(), Some("app"));
    assert!(identity.system_identifier > 0 && identity.xlogpos > Lsn::ZERO);
    assert_eq!(client.timeline_history(1).unwrap(), []);
    let error = client.timeline_history(9).unwrap_err();
    assert!(error.sqlstate().is_some(), "{error}");

    // An error leaves the connection usable.
    let slot = "commands_answer";
    let create = CreateSlot { snapshot: Snapshot::Export, ..CreateSlot::default() };
    let created = client.create_slot(slot, create).unwrap();
    assert!(created.consistent_point > Lsn::ZERO);
    let name = created.snapshot_name.unwrap();
    cluster.execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{name}'"
    ));
    let error = client.create_slot(slot, CreateSlot::default()).unwrap_err();
    assert_eq!(error.sqlstate(), Some("42710"), "{error}");
    let error = client.create_slot("No; such name", CreateSlot::default()).unwrap_err();
    assert_eq!(error.sqlstate(), Some("42602"), "{error}");
    if client.server_version_num() < 170_000 {
        let failover = CreateSlot { failover: true, ..CreateSlot::default() };
        let error = client.create_slot("failing_over", failover).unwrap_err();
        assert!(error.to_string().contains("Postgres 17"), "{error}");
    }
    client.drop_slot(slot).unwrap();
    let error = client.drop_slot(slot).unwrap_err();
    assert!(error.is_undefined_object() && error.to_string().contains(slot), "{error}");

    let error = client
        .start(slot, Lsn::ZERO, &["p".to_owned()], StartOptions::default())
        .map(drop)
        .unwrap_err();
    assert!(error.is_slot_lost() && !error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_slot_waits_for_open_transactions_and_says_so() {
    let cluster = ClusterFixture::shared();
    let mut writer = cluster.client().await;
    let open = writer.transaction().await.unwrap();
    open.batch_execute("CREATE TABLE open_transaction (id int)").await.unwrap();
    let options = cluster.tcp("trusty", "");
    let waiting = tokio::task::spawn_blocking(move || {
        let mut client = ReplicationClient::connect(&options).unwrap();
        client.set_slot_lock_timeout(Duration::from_millis(50));
        client.create_slot("waiting", CreateSlot::default()).unwrap_err()
    });
    let error = waiting.await.unwrap();
    assert_eq!(error.sqlstate(), Some("55P03"), "{error}");
    assert!(error.to_string().contains("pg_stat_activity"), "{error}");
    assert!(error.is_retryable());
    open.rollback().await.unwrap();
}

#[test]
fn changes_stream_over_tcp_tls_and_unix_sockets() {
    let cluster = ClusterFixture::alone();
    for (name, options) in [
        ("over_tcp", cluster.tcp("trusty", "sslmode=disable")),
        ("over_tls", cluster.tcp("trusty", "sslmode=require")),
        ("over_unix", cluster.unix("trusty")),
        ("hos\"tile, n'ame ü", cluster.unix("trusty")),
    ] {
        let mut stream = streaming(&cluster, &options, name, true);
        let table = quote_ident(name);
        cluster.execute(&format!("INSERT INTO {table} VALUES (1, 'one'), (2, 'two')"));
        assert_eq!(char::from(next_data(&mut stream)[0]), 'B');
        assert_eq!(char::from(next_data(&mut stream)[0]), 'R');
        assert_eq!(tags(&mut stream, 3), "IIC", "{name}");
        cluster.execute(&format!(
            "UPDATE {table} SET v = 'x' WHERE id = 1; DELETE FROM {table} WHERE id = 2; \
                 TRUNCATE {table}; SELECT pg_logical_emit_message(true, 'walhook', 'hello')"
        ));
        assert_eq!(tags(&mut stream, 6), "BUDTMC", "{name}");

        // Larger than any buffer: grows, arrives whole, and small ones go on.
        let size = 30_000_000;
        cluster
            .execute(&format!("INSERT INTO {table} VALUES (3, repeat('y', {size})), (4, 'small')"));
        assert_eq!(tags(&mut stream, 1), "B");
        let giant = next_row(&mut stream);
        assert!(giant.len() > size && giant[giant.len() - size..].iter().all(|b| *b == b'y'));
        assert_eq!(tags(&mut stream, 2), "IC", "{name}");
        stream.finish().unwrap();
        ReplicationClient::connect(&options).unwrap().drop_slot(&slot_name(name)).unwrap();
    }
}

#[test]
fn values_come_in_the_pinned_formats() {
    let cluster = ClusterFixture::alone();
    let mut stream = streaming(&cluster, &cluster.tcp("trusty", ""), "formats", false);
    cluster.execute("CREATE TABLE formats_of (t timestamptz PRIMARY KEY, d date, i interval, b bytea, f float8);
         ALTER TABLE formats_of REPLICA IDENTITY FULL;
         ALTER PUBLICATION formats ADD TABLE formats_of;
         INSERT INTO formats_of VALUES ('2025-02-10 15:30:50.123456+00', '2025-02-10',
         '1 year 2 days 03:04:05', '\\xdeadbeef', 0.1::float8 + 0.2)",
    );
    assert_eq!(tags(&mut stream, 1), "B");
    let row = next_row(&mut stream);
    let text = String::from_utf8_lossy(&row);
    for value in [
        "2025-02-10 15:30:50.123456+00",
        "2025-02-10",
        "1 year 2 days 03:04:05",
        "\\xdeadbeef",
        "0.30000000000000004",
    ] {
        assert!(text.contains(value), "{value} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_updates_move_the_slot_and_are_answered() {
    let cluster = ClusterFixture::alone();
    let client = cluster.client().await;
    let work = tokio::task::spawn_blocking(move || {
        let mut reported = Vec::new();
        for (name, options) in [
            ("status_tcp", cluster.tcp("trusty", "sslmode=disable")),
            ("status_tls", cluster.tcp("trusty", "sslmode=require")),
        ] {
            let mut stream = streaming(&cluster, &options, name, false);
            cluster.execute(&format!("INSERT INTO {name} VALUES (1, 'one')"));
            assert_eq!(tags(&mut stream, 2), "BI");
            let commit = next_row(&mut stream);
            assert_eq!(commit[0], b'C');
            let end_lsn = Lsn(u64::from_be_bytes(commit[10..18].try_into().unwrap()));

            // Keepalives come by themselves only after a while, so this is the answer.
            stream.send_status(status(end_lsn, true)).unwrap();
            match stream.next(soon()).unwrap() {
                Some(ReplicationMessage::Keepalive { wal_end, sent_at_us, .. }) => {
                    assert!(wal_end >= end_lsn);
                    let year_2020_us = 1_577_836_800_000_000;
                    assert!(sent_at_us > year_2020_us);
                }
                other => panic!("{other:?}"),
            }

            // Deadlines are kept, and what comes after one is not lost.
            let started = Instant::now();
            let quiet = started + Duration::from_millis(30);
            while let Some(message) = stream.next(quiet).unwrap() {
                assert!(matches!(message, ReplicationMessage::Keepalive { .. }), "{message:?}");
            }
            assert!(started.elapsed() >= Duration::from_millis(30));
            cluster.execute(&format!("INSERT INTO {name} VALUES (2, 'two')"));
            assert_eq!(tags(&mut stream, 3), "BIC");

            // In use, as a second reader is told.
            let second = ReplicationClient::connect(&options).unwrap();
            let error = second
                .start(name, Lsn::ZERO, &[name.to_owned()], StartOptions::default())
                .map(drop)
                .unwrap_err();
            assert!(error.is_slot_in_use() && error.is_retryable(), "{error}");
            assert!(!error.is_slot_lost());
            stream.finish().unwrap();
            reported.push((name, end_lsn));
        }
        (cluster, reported)
    });
    let (_cluster, reported) = work.await.unwrap();
    for (slot, end_lsn) in reported {
        let sql = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn \
                   FROM pg_replication_slots WHERE slot_name = $1";
        let row = client.query_one(sql, &[&slot, &end_lsn.to_string()]).await.unwrap();
        assert!(row.get::<_, bool>(0), "{slot} was not moved to {end_lsn}");
    }
}

#[test]
fn a_missing_publication_shows_while_streaming() {
    let cluster = ClusterFixture::shared();
    let mut stream = streaming(&cluster, &cluster.unix("trusty"), "unpublished", false);
    cluster.execute("DROP PUBLICATION unpublished; INSERT INTO unpublished VALUES (1, 'x')");
    let error = loop {
        match stream.next(soon()) {
            Ok(message) => assert!(message.is_some(), "nothing came"),
            Err(error) => break error,
        }
    };
    assert!(error.is_publication_missing() && !error.is_slot_lost(), "{error}");
    assert!(error.to_string().contains("recreating it does not heal"), "{error}");
}

#[test]
fn a_killed_server_is_noticed_and_a_stopping_one_not_held_up() {
    let cluster = ClusterFixture::start();
    let options = cluster.tcp("trusty", "");
    let mut stream = streaming(&cluster, &options, "killed", false);
    cluster.execute("INSERT INTO killed VALUES (1, 'x')");
    assert_eq!(tags(&mut stream, 3), "BIC");
    cluster.cluster().stop(StopMode::Immediate).unwrap();
    let error = loop {
        match stream.next(soon()) {
            Ok(message) => assert!(message.is_some(), "the end was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable() && error.to_string().contains("\"killed\""), "{error}");
    let error = ReplicationClient::connect(&options).map(drop).unwrap_err();
    assert!(error.is_retryable(), "{error}");

    cluster.cluster().resume().unwrap();
    let client = ReplicationClient::connect(&options).unwrap();
    let publications = ["killed".to_owned()];
    let mut stream =
        client.start("killed", Lsn::ZERO, &publications, StartOptions::default()).unwrap();
    // Not confirmed, so it comes again.
    assert_eq!(tags(&mut stream, 3), "BIC");
    let reader = std::thread::spawn(move || {
        loop {
            match stream.next(Instant::now() + Duration::from_millis(100)) {
                Ok(Some(ReplicationMessage::Keepalive { wal_end, .. })) => {
                    // Everything up to there was received.
                    if let Err(error) = stream.send_status(status(wal_end, false)) {
                        return error;
                    }
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    cluster.cluster().stop(StopMode::Fast).unwrap();
    let error = reader.join().unwrap();
    assert!(error.is_retryable(), "{error}");
}
