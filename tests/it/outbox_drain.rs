//! The outbox is drained: each row becomes one entry of the journal, in order, whatever is cut or
//! killed in between. The rows are written by hand here, or by a trigger of the test's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use crate::harness::{Counters, Daemon, Database, Receiver, Request, Workspace, eventually};

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

/// A trigger that tells each change of `counter` as an event.
const TELL: &str = "\
    create function tell() returns trigger language plpgsql as $$ begin
        insert into walhook.outbox (op, ordinal, new) values ('M', 0, json_build_object(
            'event', case new.n when 1 then 'counter.created' else 'counter.updated' end,
            'key', new.id::text,
            'data', json_build_object('id', new.id, 'n', new.n)));
        return null;
    end $$;
    create trigger tell after insert or update on counter for each row execute function tell()";

/// Counters whose changes are told.
async fn counters() -> Arc<Database> {
    let database = outbox().await;
    Counters::create_table(&database).await;
    database.execute(TELL).await;
    database
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
        assert_eq!(event["source"]["capture"], "outbox");
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
    database.execute(&insert(1, 5_000)).await;
    let daemon = start(&workspace).await;
    database.execute(&insert(5_001, 10)).await;
    let requests = receiver.wait_for(5_010, PATIENCE).await;
    assert_eq!(numbers(&requests), (1..=5_010).collect::<Vec<_>>());
    emptied(&database).await;
    daemon.stop().await;
    start(&workspace).await.stop().await;
    assert_eq!(receiver.count(), 5_010);
    receiver.assert_all_signed();
}

/// The connection is cut again and again while much is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_loses_and_repeats_nothing() {
    let database = counters().await;
    let receiver = Receiver::start().await;
    let workspace = workspace(&database, &receiver);
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
    daemon.stop().await;
    assert!(verify(&database, &requests).await.is_empty());
    assert_eq!(receiver.count(), due);
}
