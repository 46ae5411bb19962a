//! Between walhook and the server: logins, poolers, timeouts, copies of the server, clocks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use walhook::throwaway::Options;

use super::PATIENCE;
use super::story::summary;
use crate::harness::{Answer, Database, Receiver, Workspace, eventually, pause, slot_state};
use crate::refusals::{Fixture, own_cluster};

/// The sessions of walhook in a database: process and what it is for.
async fn sessions(database: &Database) -> Vec<(i32, String)> {
    let sql = "select pid, backend_type from pg_stat_activity \
               where datname = current_database() and application_name like 'walhook%' \
               order by pid";
    let rows = database.client().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Timeouts set for everybody end no session of walhook, however long it is idle.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_32_timeouts_of_the_database_end_no_session() {
    let database = Database::create().await;
    let name = database.name();
    let mut settings =
        vec!["statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"];
    if super::is_at_least(&database, 17).await {
        settings.push("transaction_timeout");
    }
    for setting in &settings {
        database.execute(&format!("alter database {name} set {setting} = '5s'")).await;
    }
    let fixture = Fixture::on(database).await;
    let daemon = fixture.start().await;
    fixture.deliver("Ada").await;
    let wanted = |sessions: &[(i32, String)]| sessions.iter().any(|(_, kind)| kind == "walsender");
    let before = eventually(PATIENCE, "the sessions are there", async || {
        Some(sessions(&fixture.database).await).filter(|sessions| wanted(sessions))
    })
    .await;
    // Others do suffer.
    let victim = fixture.database.client().await;
    assert!(victim.batch_execute("select pg_sleep(30)").await.is_err());
    pause(Duration::from_secs(6)).await;
    let after = sessions(&fixture.database).await;
    // The look for silent tables at the start has a session of its own, which ends.
    assert!(wanted(&after) && after.iter().all(|session| before.contains(session)), "{after:?}");
    assert!(after.iter().any(|(_, kind)| kind == "client backend"), "{after:?}");
    fixture.deliver("Grace").await;
    assert!(!daemon.stderr().contains("waiting for"), "{}", daemon.stderr());
    daemon.stop().await;
}

/// What a pooler has against a connection, by its startup packet.
type Objection = fn(&str) -> Option<&'static str>;

/// A pooler in front of the server that turns connections away as PgBouncer did before 1.23, and
/// lets through what it does not object to.
async fn pooler(server_port: u16, objection: Objection) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pool(client, server_port, objection));
        }
    });
    port
}

async fn pool(mut client: TcpStream, server_port: u16, objection: Objection) -> Option<()> {
    const SSL_REQUEST: &[u8] = &[4, 210, 22, 47];
    loop {
        let length = client.read_u32().await.ok()?;
        let mut packet = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
        client.read_exact(&mut packet).await.ok()?;
        if packet == SSL_REQUEST {
            client.write_all(b"N").await.ok()?;
            continue;
        }
        if let Some(objection) = objection(&String::from_utf8_lossy(&packet)) {
            let fields = format!("SFATAL\0VFATAL\0C08P01\0M{objection}\0\0");
            client.write_u8(b'E').await.ok()?;
            client.write_u32(u32::try_from(fields.len()).ok()? + 4).await.ok()?;
            client.write_all(fields.as_bytes()).await.ok()?;
            return client.shutdown().await.ok();
        }
        let mut server = TcpStream::connect(("127.0.0.1", server_port)).await.ok()?;
        server.write_u32(length).await.ok()?;
        server.write_all(&packet).await.ok()?;
        return copy_bidirectional(&mut client, &mut server).await.ok().map(drop);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_31_a_pooler_without_replication_is_named() {
    let fixture = Fixture::new().await;
    let url = fixture.database.url();
    let port: u16 = url.split([':', '/']).nth(4).unwrap().parse().unwrap();
    let cases: [(Objection, &str); 2] = [
        (
            |packet| {
                packet
                    .contains("replication\0")
                    .then_some("unsupported startup parameter: replication")
            },
            "PgBouncer does from 1.23",
        ),
        (
            |packet| {
                packet.contains("options\0").then_some("unsupported startup parameter: options")
            },
            "doesn't take session settings",
        ),
    ];
    for (objection, words) in cases {
        let pooled = url.replace(&port.to_string(), &pooler(port, objection).await.to_string());
        let workspace = Workspace::new(&fixture.database)
            .toml(&format!("[source]\nurl = '{pooled}'"))
            .table("public.person", "person")
            .endpoint("main", &fixture.receiver.url("/"), "");
        let checked = workspace.run(&["check"]).await;
        assert_eq!(checked.code, Some(1), "{checked:?}");
        assert!(checked.stdout.contains(words), "{}", checked.stdout);
        assert!(checked.stdout.contains("direct host and port"), "{}", checked.stdout);
        // Not tried for ever: no second attempt changes a pooler.
        workspace.run(&["run"]).await.assert(1, &[words, "direct host and port"]);
    }
}

/// A physical copy has the same identifier, so it is told by its slots: the copy has none, or one
/// that was made later.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_33_a_physical_copy_has_no_slot() {
    let (original, copy) = (own_cluster(Options::new()).await, own_cluster(Options::new()).await);
    let fixture = Fixture::on(Database::create_on(&original, "crm").await).await;
    fixture.run_once().await;
    let copied = Database::create_on(&copy, "crm").await;
    let noise = "create table noise as select repeat('x', 1000) from generate_series(1, 20000)";
    copied.execute(noise).await;
    copied.execute("create table person (id serial primary key, name text)").await;
    let identifier = "select system_identifier from pg_control_system()";
    let of = async |database: &Database| -> i64 {
        database.client().await.query_one(identifier, &[]).await.unwrap().get(0)
    };
    assert_eq!(of(&fixture.database).await, of(&copied).await);

    let fixture = fixture.moved_to(copied);
    fixture.refused(&[fixture.slot(), "does not exist"]).await;
    assert!(slot_state(&fixture.database.client().await, fixture.slot()).await.is_none());
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    fixture.refused(&["past the stored position"]).await;
}

/// By the clock of the transaction that came second it is 2001.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_34_order_is_no_matter_of_clocks() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "retry = { initial = '1300ms', factor = 1.0, max = '2s', give_up_after = '1h' }",
    );
    let daemon = workspace.start(&database).await;
    receiver.answer(|request| Answer::Status(if request.attempt() == 1 { 503 } else { 200 }));
    let client = database.client().await;
    let origin = format!("{}_elsewhere", database.name());
    client.batch_execute("insert into person values (1, 'Ada')").await.unwrap();
    for sql in [
        &format!("select pg_replication_origin_create('{origin}')"),
        &format!("select pg_replication_origin_session_setup('{origin}')"),
        "begin; update person set name = 'Grace';
         select pg_replication_origin_xact_setup('0/1', '2001-02-03 04:05:06+00'); commit",
        "select pg_replication_origin_session_reset()",
        &format!("select pg_replication_origin_drop('{origin}')"),
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let requests = receiver.wait_for(4, PATIENCE).await;
    daemon.stop().await;
    // Signatures are verified with the times they claim, which must be those of now.
    receiver.assert_all_signed();
    let taken: Vec<_> = requests.iter().filter(|r| r.attempt() == 2).map(|r| r.json()).collect();
    assert_eq!(summary(&taken), ["person.created 1", "person.updated 1"]);
    assert_eq!(taken[1]["timestamp"], json!("2001-02-03T04:05:06.000000Z"));
    assert!(taken[0]["id"].as_str() < taken[1]["id"].as_str());
    // Each attempt has a time and a signature of its own, under the same id.
    for pair in requests.chunks(2) {
        let [first, second] = pair else { panic!("an odd number of requests") };
        assert_eq!((first.id(), &first.body), (second.id(), &second.body));
        let sent = |request: &Arc<crate::harness::Request>| -> i64 {
            request.header("webhook-timestamp").unwrap().parse().unwrap()
        };
        assert!(sent(first) < sent(second));
        assert_ne!(first.header("webhook-signature"), second.header("webhook-signature"));
    }
}
