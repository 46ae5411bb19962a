//! Databases of other encodings, and sessions that depend on nobody's settings.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use walhook::throwaway::{Cluster, Options};

use crate::harness::{
    Capture, Daemon, Database, Receiver, Workspace, eventually, slot_state, under_both_captures,
};

under_both_captures!(
    hazard_28_bytes_of_no_encoding_are_replaced_on_request,
    hazard_28_other_encodings_come_as_utf8,
    hazard_26_nobodys_settings_change_the_text_of_values
);

const PATIENCE: Duration = Duration::from_secs(60);
const REFUSED: i32 = 3;

struct Fixture {
    cluster: Arc<Cluster>,
    database: Database,
    receiver: Receiver,
    workspace: Workspace,
}

impl Fixture {
    /// A database of this encoding with a table, whose name is `table` after `public.`.
    async fn new(capture: Capture, encoding: &str, table: &str, columns: &str) -> Fixture {
        let fixture = Fixture::empty(capture, encoding, table).await;
        fixture.database.execute(&format!("create table \"{table}\" ({columns})")).await;
        fixture
    }

    /// Without the table.
    async fn empty(capture: Capture, encoding: &str, table: &str) -> Fixture {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(&Options::new()).unwrap());
        let cluster = Arc::new(cluster.await.unwrap());
        let create = format!(
            "create database other template template0 encoding '{encoding}' \
             lc_collate 'C' lc_ctype 'C'"
        );
        Database::existing_on(&cluster, "postgres").execute(&create).await;
        let database = Database::existing_on(&cluster, "other").captured_by(capture);
        let receiver = Receiver::start().await;
        let workspace = Workspace::new(&database)
            .table(&format!("public.\"{table}\""), "person")
            .endpoint("main", &receiver.url("/"), "ordering = 'strict'");
        Fixture { cluster, database, receiver, workspace }
    }

    async fn start(&self) -> Daemon {
        self.workspace.start(&self.database).await
    }

    /// The `data` of that many events.
    async fn data(&self, count: usize) -> Vec<Value> {
        let requests = self.receiver.wait_for(count, PATIENCE).await;
        assert_eq!(requests.len(), count);
        requests.iter().map(|request| request.json()["data"].clone()).collect()
    }

    /// Runs the statement that the refusal tells to run, and goes on as it tells.
    async fn leaves_out(&self, said: &str) -> Daemon {
        let from = said.find("SELECT pg_replication_slot_advance").expect(said);
        let (statement, _) = said[from..].split_once(';').expect(said);
        let client = self.database.client().await;
        eventually(PATIENCE, "the slot is free to be advanced", async || {
            client.query(statement, &[]).await.ok().map(drop)
        })
        .await;
        let before =
            slot_state(&client, self.workspace.slot()).await.and_then(|state| state.reader);
        let daemon = Daemon::spawn(self.workspace.command(&["run", "--accept-gap"]));
        daemon.streams(&client, self.workspace.slot(), before).await;
        daemon
    }
}

async fn hazard_28_other_encodings_come_as_utf8(capture: Capture) {
    for (encoding, text) in
        [("LATIN1", "Größe é ¿ü"), ("WIN1251", "Привет, мир"), ("EUC_JP", "日本語 ｶﾅ")]
    {
        let (table, column) = (text.replace(' ', "_"), text.replace(' ', "\"\""));
        let columns = format!("id int primary key, \"{column}\" text, many text[], j jsonb");
        let fixture = Fixture::new(capture, encoding, &table, &columns).await;
        let daemon = fixture.start().await;
        let insert = format!(
            "insert into \"{table}\" values (1, '{text}', array['{text}', 'a'], '{{\"{text}\": 1}}')"
        );
        fixture.database.execute(&insert).await;
        let name = text.replace(' ', "\"");
        let expected = json!({"id": 1, name: text, "many": [text, "a"], "j": {text: 1}});
        assert_eq!(fixture.data(1).await, [expected], "{encoding}");
        let request = &fixture.receiver.requests_to("/")[0];
        assert_eq!(request.json()["source"]["table"], table);
        daemon.stop().await;
    }
}

const COLUMNS: &str = "id int primary key, name text, many text[], unasked text";

#[tokio::test(flavor = "multi_thread")]
async fn hazard_28_bytes_of_no_encoding_end_the_stream_with_a_way_on() {
    let fixture = Fixture::new(Capture::Replication, "SQL_ASCII", "person", COLUMNS).await;
    let daemon = fixture.start().await;
    fixture.database.execute("insert into person values (1, 'Größe')").await;
    fixture.data(1).await;
    let bad = r"insert into person values (2, E'na\xefve'), (3, 'of the same transaction')";
    let both = format!("insert into person values (20, 'just before'); {bad}");
    for statement in both.split("; ") {
        fixture.database.execute(statement).await;
    }
    fixture.database.execute("insert into person values (4, 'after')").await;
    let words = ["\"name\"", "\"public\".\"person\"", "UTF-8", "invalid_utf8", "--accept-gap"];
    daemon.finished(PATIENCE).await.assert(REFUSED, &words);
    // It is no better the second time.
    let finished = fixture.workspace.run(&["run"]).await;
    finished.assert(REFUSED, &words);

    let daemon = fixture.leaves_out(&finished.stderr).await;
    let data = fixture.data(3).await;
    assert_eq!(
        data.iter().map(|data| &data["name"]).collect::<Vec<_>>(),
        ["Größe", "just before", "after"]
    );
    daemon.stop().await;
}

/// One row is in the way, and it is said which.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_28_bytes_of_no_encoding_stop_an_outbox_with_a_way_on() {
    let fixture = Fixture::new(Capture::Outbox, "SQL_ASCII", "person", COLUMNS).await;
    let daemon = fixture.start().await;
    fixture.database.execute("insert into person values (1, 'Größe')").await;
    fixture.data(1).await;
    fixture
        .database
        .execute(r"insert into person values (2, E'na\xefve'), (3, 'of the same transaction')")
        .await;
    let words = ["UTF-8", "invalid_utf8", "DELETE FROM walhook.outbox WHERE id = "];
    let said = daemon.finished(PATIENCE).await;
    said.assert(REFUSED, &words);
    let from = said.stderr.find("DELETE FROM walhook").expect(&said.stderr);
    let statement = said.stderr[from..].split(" in the database").next().unwrap();
    fixture.database.execute(statement).await;
    let daemon = fixture.start().await;
    assert_eq!(fixture.data(2).await[1]["id"], 3);
    daemon.stop().await;
}

async fn hazard_28_bytes_of_no_encoding_are_replaced_on_request(capture: Capture) {
    let Fixture { cluster, database, receiver, workspace } =
        Fixture::new(capture, "SQL_ASCII", "person", COLUMNS).await;
    let finished = workspace.run(&["check"]).await;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(said.contains("SQL_ASCII") && said.contains("invalid_utf8"), "{said}");

    let workspace = workspace.toml("[source]\ninvalid_utf8 = 'replace'");
    let fixture = Fixture { cluster, database, receiver, workspace };
    let daemon = fixture.start().await;
    fixture
        .database
        .execute(
            r#"insert into person values (1, E'na\xefve "', array[E'\xff,', 'Größe', null]);
               update person set name = E'\xe4' where id = 1"#,
        )
        .await;
    let data = fixture.data(2).await;
    assert_eq!(data[0]["name"], "na\u{fffd}ve \"");
    assert_eq!(data[0]["many"], json!(["\u{fffd},", "Größe", null]));
    assert_eq!(data[1]["name"], "\u{fffd}");
    daemon.stop().await;
    drop(fixture.cluster);
}

/// A table of such a name among those that the publication has.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_28_names_of_no_encoding_stop_nothing() {
    let fixture = Fixture::new(Capture::Replication, "SQL_ASCII", "person", COLUMNS).await;
    fixture
        .database
        .execute(&format!("create publication {} for all tables", fixture.database.name()))
        .await;
    let daemon = fixture.start().await;
    fixture
        .database
        .execute(
            r"do $$ begin
                  execute convert_from('\x637265617465207461626c6520 74ff 20286920696e742c20 61ff 20746578 7429'::bytea, 'SQL_ASCII');
                  execute convert_from('\x696e7365727420696e746f20 74ff 2076616c7565732028 312c2027 ff 2729'::bytea, 'SQL_ASCII');
              end $$;
              insert into person values (1, 'Ada')",
        )
        .await;
    assert_eq!(fixture.data(1).await[0]["name"], "Ada");
    daemon.stop().await;
}

/// Only the server can read it, and it cannot say it in UTF-8.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_28_a_character_that_utf8_lacks_ends_the_stream_with_a_way_on() {
    let fixture = Fixture::new(Capture::Replication, "EUC_JP", "person", COLUMNS).await;
    let daemon = fixture.start().await;
    fixture.database.execute("insert into person values (1, '日本')").await;
    let client = fixture.database.client().await;
    let bad = r"insert into person values (2, E'\xf5\xa1')";
    for statement in ["insert into person values (20, 'just before')", bad] {
        client.batch_execute(statement).await.unwrap();
    }
    fixture.database.execute("insert into person values (4, 'after')").await;
    let words = ["22P05", "UTF-8", "its record begins at", "--accept-gap"];
    daemon.finished(PATIENCE).await.assert(REFUSED, &words);
    let finished = fixture.workspace.run(&["run"]).await;
    finished.assert(REFUSED, &words);
    let daemon = fixture.leaves_out(&finished.stderr).await;
    let data = fixture.data(3).await;
    assert_eq!(
        data.iter().map(|data| &data["name"]).collect::<Vec<_>>(),
        ["日本", "just before", "after"]
    );
    daemon.stop().await;
}

/// Of an outbox, the row is named.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_28_a_row_of_the_outbox_that_utf8_lacks_is_refused_with_a_way_on() {
    let fixture = Fixture::new(Capture::Outbox, "EUC_JP", "person", COLUMNS).await;
    let client = fixture.database.client().await;
    fixture.start().await.stop().await;
    let bad = r"insert into person values (2, E'\xf5\xa1')";
    for statement in ["insert into person values (20, 'just before')", bad] {
        client.batch_execute(statement).await.unwrap();
    }
    fixture.database.execute("insert into person values (4, 'after')").await;
    let finished = fixture.workspace.run(&["run"]).await;
    let statement = "DELETE FROM walhook.outbox WHERE id = 2";
    finished.assert(REFUSED, &["row 2 of the outbox", "UTF-8", "0xf5 0xa1", statement]);
    client.batch_execute(statement).await.unwrap();
    let daemon = fixture.start().await;
    let data = fixture.data(2).await;
    assert_eq!(data.iter().map(|data| &data["name"]).collect::<Vec<_>>(), ["just before", "after"]);

    // And so it is while it runs; what was sent does not stay behind.
    let bad = r"begin; insert into person values (5, 'good');
                insert into person values (6, E'\xf5\xa1'); commit";
    client.batch_execute(bad).await.unwrap();
    let statement = "DELETE FROM walhook.outbox WHERE id = 5";
    daemon.finished(PATIENCE).await.assert(REFUSED, &["row 5 of the outbox", statement]);
    let left = client.query("select id from walhook.outbox order by id", &[]).await.unwrap();
    assert_eq!(left.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_28_an_encoding_that_has_no_utf8_is_said_at_once() {
    let fixture = Fixture::empty(Capture::Replication, "MULE_INTERNAL", "person").await;
    let finished = fixture.workspace.run(&["run"]).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    for word in ["MULE_INTERNAL", "encoding UTF8"] {
        assert!(finished.stderr.contains(word), "{}", finished.stderr);
    }
}

/// What the database and the role have set means nothing to walhook's sessions.
async fn hazard_26_nobodys_settings_change_the_text_of_values(capture: Capture) {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(&Options::new()).unwrap());
    let cluster = Arc::new(cluster.await.unwrap());
    let database = Database::create_on(&cluster, "crm").await.captured_by(capture);
    database
        .execute(
            "create schema trap;
             create table trap.pg_class (oid oid); create table trap.pg_type (oid oid);
             create table kind (id int primary key, ts timestamp, tsz timestamptz, d date,
                 iv interval, by bytea, f4 float4, f8 float8, t text, cash money, n numeric,
                 b bool, x xml)",
        )
        .await;
    let insert = r"insert into kind values (1, '2024-03-04 05:06:07', '2024-03-04 05:06:07+00',
        '2024-03-04', '1 year 2 days 03:04:05.6', '\x00ff', 0.1, 0.1::float8 + 0.2::float8, 'Größe',
        12.5, 1.50, true, '<a/>')";
    // Connections of the test are subject to them as well.
    let client = database.client().await;
    let settings = [
        "datestyle = 'German, DMY'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "client_encoding = 'LATIN1'",
        "search_path = 'trap, pg_catalog'",
        "row_security = off",
        "session_replication_role = replica",
        "lc_messages = 'C'",
        "lc_monetary = 'C'",
        "lc_numeric = 'C'",
        "lc_time = 'C'",
        "standard_conforming_strings = off",
        "escape_string_warning = off",
        "quote_all_identifiers = on",
        "xmlbinary = hex",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = '2s'",
        "idle_session_timeout = '2s'",
        "idle_in_transaction_session_timeout = '2s'",
    ];
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.kind", "kind").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    workspace.run(&["setup"]).await.assert(0, &[]);
    for setting in settings {
        // Nothing could be deleted from the outbox: the daemon says so, and waits.
        if capture == Capture::Outbox && setting.starts_with("default_transaction_read_only") {
            continue;
        }
        let sql = format!("alter database crm set {setting}");
        client.batch_execute(&sql).await.unwrap();
        client
            .batch_execute(&format!("alter role postgres in database crm set {setting}"))
            .await
            .unwrap();
        client.batch_execute(&format!("alter role postgres set {setting}")).await.unwrap();
    }
    let daemon = workspace.spawn();
    client.batch_execute(insert).await.unwrap();
    let requests = receiver.wait_for(1, PATIENCE).await;
    let number: Value = serde_json::from_str("1.50").unwrap();
    assert_eq!(
        requests[0].json()["data"],
        json!({
            "id": 1, "ts": "2024-03-04T05:06:07", "tsz": "2024-03-04T05:06:07+00:00",
            "d": "2024-03-04", "iv": "1 year 2 days 03:04:05.6", "by": "\\x00ff", "f4": 0.1,
            "f8": 0.30000000000000004, "t": "Größe", "cash": "$12.50", "n": number, "b": true,
            "x": "<a/>"
        })
    );
    daemon.stop().await;
}
