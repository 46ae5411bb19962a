//! Bad input at every edge: one clear sentence where it is wrong, and nothing lost where it is
//! merely odd.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use walhook::postgres::sql::quote_ident;

use crate::harness::{Answer, Daemon, Database, Receiver, Workspace, finish};

mod network;

const PATIENCE: Duration = Duration::from_secs(60);
const USAGE: i32 = 2;

const TABLE: &str = "we\"ird ta'ble\n;--\\ 名前 \u{1F418}";
const KEY: &str = "the \"key\"\n";
const COLUMN: &str = "col'umn\t\"}],\\u0000 é";

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_and_values_arrive_as_they_are() {
    let database = Database::create().await;
    let (table, key, column) = (quote_ident(TABLE), quote_ident(KEY), quote_ident(COLUMN));
    database.execute("create schema \"Sche.ma\"").await;
    let create =
        format!("create table \"Sche.ma\".{table} ({key} text primary key, {column} text)");
    database.execute(&create).await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .table(&format!("\"Sche.ma\".{table}"), "odd")
        .endpoint("main", &receiver.url("/"), "");
    workspace.run(&["check"]).await.assert(0, &[]);
    let daemon = workspace.start(&database).await;

    let client = database.client().await;
    let values = [
        "",
        "\\",
        "\"",
        "null",
        "line\r\nline\u{1}\u{7f}\u{2028}",
        "{\"a\":1}",
        "é名\u{1F418}",
        "'",
    ];
    let insert = format!("insert into \"Sche.ma\".{table} values ($1, $2)");
    for value in values {
        client.execute(&insert, &[&value, &value]).await.unwrap();
    }
    let huge = "\u{1F418}\"".repeat(300_000);
    client.execute(&insert, &[&"huge", &huge]).await.unwrap();
    let emit = "select pg_logical_emit_message(true, 'walhook', $1)";
    for content in ["", "{", "[1]", "{\"event\": 7}", "\u{1}", "{\"event\":\"\"}"] {
        client.query(emit, &[&content]).await.unwrap();
    }
    client.execute(&insert, &[&"last", &"last"]).await.unwrap();

    let due = values.len() + 2;
    let requests = receiver.wait_for(due, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(receiver.count(), due);
    for request in &requests {
        let event = request.json();
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(event["event"], "odd.created");
        assert_eq!(event["source"]["schema"], "Sche.ma");
        assert_eq!(event["source"]["table"], TABLE);
        let key = event["data"][KEY].as_str().unwrap();
        let expected = if key == "huge" { huge.as_str() } else { key };
        assert_eq!(event["data"], json!({ KEY: key, COLUMN: expected }));
    }
    let keys: HashSet<Value> =
        requests.iter().map(|request| request.json()["data"][KEY].take()).collect();
    assert_eq!(keys.len(), due);
    receiver.assert_all_signed();
}

/// Every way to answer badly, once for each event, and then well.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_nonsense_gets_everything_in_the_end() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    let elsewhere = Receiver::start().await;
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    let full = |status, header: (&'static str, String)| Answer::Full(status, vec![header], vec![]);
    let bad = vec![
        Answer::Reset,
        Answer::Silence,
        raw(""),
        raw("\0\u{1}\u{2}nonsense"),
        raw("HTTP/1.1 OK\r\n\r\n"),
        raw("HTTP/1.1 99999 Odd\r\n\r\n"),
        raw("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"),
        raw(&format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2_000_000))),
        Answer::Status(600),
        Answer::Status(404),
        full(301, ("location", elsewhere.url("/"))),
        full(307, ("location", elsewhere.url("/"))),
        full(302, ("location", "http://[::1".to_owned())),
        full(503, ("retry-after", "-1".to_owned())),
        full(429, ("retry-after", "Sun, 99 Foo 2024 99:99:99 GMT".to_owned())),
        full(429, ("retry-after", "0".to_owned())),
        Answer::Full(500, vec![], vec![b'x'; 5_000_000]),
        Answer::Full(500, vec![("content-encoding", "gzip".to_owned())], b"no gzip".to_vec()),
    ];
    let due = bad.len();
    receiver.answer(move |request| match request.attempt() {
        1 => {
            let id = request.json()["data"]["id"].as_u64().unwrap();
            bad[id as usize - 1].clone()
        }
        _ => Answer::Status(200),
    });
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "timeout = '15s'",
    );
    let daemon = workspace.start(&database).await;
    database.execute(&format!("insert into person select generate_series(1, {due})")).await;

    let requests = receiver.wait_for(2 * due, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(receiver.count(), 2 * due, "requests beyond a second attempt each");
    assert_eq!(elsewhere.count(), 0, "a redirect was followed");
    for first in requests.iter().filter(|request| request.attempt() == 1) {
        let second = requests.iter().find(|other| other.id() == first.id() && other.attempt() == 2);
        let second = second.unwrap_or_else(|| panic!("{} did not come again", first.id()));
        assert_eq!(first.body, second.body);
        assert!(second.at > first.at);
    }
    receiver.assert_all_signed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gone_endpoint_is_left_alone() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let (gone, alive) = (Receiver::start().await, Receiver::start().await);
    gone.answer(|_| Answer::Status(410));
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("gone", &gone.url("/"), "concurrency = 1")
        .endpoint("alive", &alive.url("/"), "");
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1)").await;
    gone.wait_for(1, PATIENCE).await;
    alive.wait_for(1, PATIENCE).await;
    daemon.says("410", PATIENCE).await;
    database.execute("insert into person values (2), (3)").await;
    alive.wait_for(3, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(gone.count(), 1);

    // A restart does not change its mind.
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (4)").await;
    alive.wait_for(4, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(gone.count(), 1);

    // An operator does, and it gets what it missed.
    gone.answer(|_| Answer::Status(200));
    workspace.run(&["run", "--enable", "gnoe"]).await.assert(2, &["gnoe", "gone, alive"]);
    let daemon = Daemon::spawn(workspace.command(&["run", "--enable", "gone"]));
    let requests = gone.wait_for(5, PATIENCE).await;
    let ids: Vec<i64> = requests[1..]
        .iter()
        .map(|request| request.json()["data"]["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3, 4]));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configurations_get_one_sentence() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let endpoint = |more: &str| {
        Workspace::new(&database).table("public.person", "person").endpoint(
            "main",
            "http://127.0.0.1:9/",
            more,
        )
    };
    let wrong = [
        (endpoint("url = 'no url'"), "url"),
        (endpoint("url = 'ftp://example.com/'"), "ftp"),
        (endpoint("url = 'http://'"), "url"),
        (endpoint("secret = 'whsec_short'"), "secret"),
        (endpoint("secret = 'not base64 at all!'"), "secret"),
        (endpoint("secret_file = 'missing'\nsecret = ''"), "secret"),
        (endpoint("concurency = 3"), "concurrency"),
        (endpoint("concurrency = 0"), "concurrency"),
        (endpoint("concurrency = -1"), "concurrency"),
        (endpoint("timeout = 'soon'"), "timeout"),
        (endpoint("events = ['']"), "events"),
        (endpoint("signature = ['strange']"), "strange"),
        (endpoint("ordering = 'some'"), "ordering"),
        (endpoint("method = 'FETCH'"), "method"),
        (endpoint("method = 'GET'\ncompress = true"), "compress"),
        (endpoint("deny_networks = ['10.0.0.0/99']"), "deny_networks"),
        (endpoint("proxy = 'socks5://x'"), "proxy"),
        (endpoint("tls = { ca = 'missing.pem' }"), "tls"),
        (endpoint("headers = { 'bad header' = 'x' }"), "header"),
        (endpoint("headers = { X = \"a\\nb\" }"), "header"),
        (endpoint("template = 'x'"), "template"),
        (endpoint("").toml("[source]\nurl = 'mysql://localhost/x'"), "url"),
        (endpoint("").toml("[source]\nurl = 'postgresql://%zz@h/x'"), "url"),
        (endpoint("").toml("[source]\nurl = 'postgresql://h/x?sslmod=require'"), "sslmode"),
        (endpoint("").toml("[source]\nurl = '${WALHOOK_TEST_UNSET}'"), "WALHOOK_TEST_UNSET"),
        (endpoint("").toml("[source]\nslot = 'Bad Slot'"), "slot"),
        (endpoint("").toml("[soruce]\nurl = 'x'"), "source"),
        (endpoint("").toml("[journal]\nretain = '7 days'"), "retain"),
        (endpoint("").table("a.b.c", "x"), "a.b.c"),
        (endpoint("").table("public.\"x", "x"), "quote"),
        (endpoint("").table("public.x", "bad name"), "record"),
    ];
    for (workspace, word) in wrong {
        let finished = workspace.run(&["run"]).await;
        finished.assert(USAGE, &[word]);
        assert_one_sentence(&finished.stderr);
        assert!(!finished.stderr.contains("whsec_short"), "a secret is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_get_one_sentence() {
    let database = Database::create().await;
    let workspace = Workspace::new(&database);
    for (content, word) in [
        (&b"\xff\xfe"[..], "walhook.toml"),
        (b"[source", "walhook.toml"),
        (b"", "source"),
        (b"source = 3", "source"),
    ] {
        let command = workspace.command(&["run"]);
        std::fs::write(workspace.config_path(), content).unwrap();
        let finished = finish(command).await;
        finished.assert(USAGE, &[word]);
        assert_one_sentence(&finished.stderr);
    }
    let mut command = workspace.bare_command(&["run"]);
    command.args(["-c", "does not exist.toml"]);
    let finished = finish(command).await;
    finished.assert(USAGE, &["does not exist.toml"]);
    assert_one_sentence(&finished.stderr);
}

/// One line, not a debug print.
#[track_caller]
fn assert_one_sentence(said: &str) {
    let said = said.trim();
    assert!(!said.is_empty() && said.lines().count() == 1, "not one sentence: {said}");
    assert!(!said.contains("Error {") && !said.contains("Err("), "for developers only: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_or_table_that_is_not_there_gets_one_sentence() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let workspace = |table| {
        Workspace::new(&database).table(table, "person").endpoint("main", "http://127.0.0.1:9/", "")
    };
    let unknown = workspace("public.persons").run(&["run"]).await;
    assert!(unknown.code.is_some_and(|code| code != 0), "{unknown:?}");
    assert!(unknown.stderr.contains("persons"), "{}", unknown.stderr);

    let url = database.url().replace(database.name(), "no_such_database");
    let missing = workspace("public.person").toml(&format!("[source]\nurl = '{url}'"));
    let missing = missing.run(&["check"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let said = format!("{}{}", missing.stdout, missing.stderr);
    assert!(said.contains("no_such_database"), "{said}");
}

/// The stream has no word for a table that is not in it, so the daemon looks, and goes on with the
/// others.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_stay_silent_are_named_at_the_start() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("main", &receiver.url("/"), "")
        .toml("[source]\ncreate = false");
    workspace.run(&["setup"]).await.assert(0, &[]);
    database.execute("create table later (id int primary key)").await;
    let workspace = workspace.table("public.persons", "persons").table("public.later", "later");
    let daemon = workspace.start(&database).await;
    daemon.says("table public.persons does not exist", PATIENCE).await;
    daemon.says("done: add public.later", PATIENCE).await;
    database.execute("insert into person values (1)").await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
}

/// What no endpoint can work with is a matter of the configuration.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_in_a_private_network_is_a_configuration_error() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "inside",
        "http://10.255.255.1/",
        "",
    );
    workspace.run(&["run"]).await.assert(2, &["inside", "allow_private_network"]);
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "denied",
        "http://127.0.0.1:9/",
        "deny_networks = ['127.0.0.0/8']",
    );
    workspace.run(&["run"]).await.assert(2, &["denied", "deny_networks"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_none_is_left_as_it_is() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("main", "http://127.0.0.1:9/", "")
        .toml("[journal]\npath = 'walhook.toml'");
    let finished = workspace.run(&["run"]).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("walhook.toml"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    let content = std::fs::read_to_string(workspace.config_path()).unwrap();
    assert!(content.contains("[journal]"));

    let checked = workspace.run(&["check"]).await;
    assert!(checked.stdout.contains("is not a journal of walhook"), "{checked:?}");

    let unreachable = workspace.toml("[journal]\npath = 'no/such/folder/walhook.db'");
    let checked = unreachable.run(&["check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("set another journal.path"), "{checked:?}");
    let finished = unreachable.run(&["run"]).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("no/such/folder"), "{}", finished.stderr);
}
