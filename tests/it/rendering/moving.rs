//! Types that change while rows of them are on their way. The server makes a row's text with the
//! catalog of the row's own time; walhook can only ask for that of now.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::{all, pinned};
use crate::harness::{Database, Receiver, Workspace, position_of};

const PATIENCE: Duration = Duration::from_secs(60);

const TABLES: &str = "
    create type pair as (a int8, b text);
    create type trio as (x int, y int, z int);
    create type mood as enum ('sad', 'happy');
    create domain price as numeric(8, 2);
    create table t (id int primary key, p pair, ps pair[]);
    create table u (id int primary key, t trio);
    create table v (id int primary key, m mood, price price);
    alter table t replica identity full;";

struct Fixture {
    database: Database,
    receiver: Receiver,
    workspace: Workspace,
}

impl Fixture {
    async fn new() -> Fixture {
        let database = Database::create().await;
        database.execute(TABLES).await;
        let receiver = Receiver::start().await;
        let mut workspace = Workspace::new(&database).endpoint("main", &receiver.url("/"), "");
        for table in ["t", "u", "v"] {
            workspace = workspace.table(&format!("public.{table}"), table);
        }
        Fixture { database, receiver, workspace }
    }

    /// Each event's data, in the order of the log, when there are `count`.
    async fn data(&self, count: usize) -> Vec<Value> {
        let requests = self.receiver.wait_for(count, PATIENCE).await;
        let mut events: Vec<Value> = requests.iter().map(|request| request.json()).collect();
        events.sort_by_cached_key(position_of);
        assert_eq!(events.len(), count);
        events.into_iter().map(|event| event["data"].clone()).collect()
    }

    async fn row(&self, table: &str, id: usize) -> Value {
        let client = pinned(&self.database).await;
        let sql = format!("select to_jsonb(x)::text from {table} x where id = {id}");
        all(&client, &sql).await.remove(0)
    }
}

#[tokio::test]
async fn a_composite_that_changes_while_the_daemon_follows() {
    let it = Fixture::new().await;
    let daemon = it.workspace.start(&it.database).await;
    let mut expected = Vec::new();
    for (step, change) in [
        "select 1",
        "alter type pair add attribute c date",
        "alter type pair rename attribute b to bb",
        "alter type pair drop attribute a",
        "alter type pair add attribute a2 bool",
        "alter type pair drop attribute c",
        "alter type pair add attribute d jsonb",
    ]
    .iter()
    .enumerate()
    {
        it.database.execute(change).await;
        let columns = "jsonb_populate_record(null::pair, '{\"a\": 1, \"b\": \"x \\\"y\\\"\", \"bb\": \"z\", \
                       \"c\": \"2024-02-29\", \"a2\": true, \"d\": {\"e\": [1.50]}}')";
        let insert = format!(
            "insert into t select {step}, p, array[p, null] from (select {columns} as p) given"
        );
        it.database.execute(&insert).await;
        expected.push(it.row("t", step).await);
        assert_eq!(it.data(step + 1).await, expected);
    }
    // Drop and add at once leave the number of fields as it was: the first row after it may be one
    // before it, for all that can be known.
    let row = "jsonb_populate_record(null::pair, '{\"bb\": \"z\", \"e\": 5}')";
    let step = expected.len();
    it.database.execute("alter type pair drop attribute d, add attribute e int").await;
    it.database.execute(&format!("insert into t values ({step}, {row}, null)")).await;
    expected.push(json!({"id": step, "p": "(z,,5)", "ps": null}));
    assert_eq!(it.data(step + 1).await, expected);
    let step = expected.len();
    it.database.execute(&format!("insert into t values ({step}, {row}, null)")).await;
    expected.push(it.row("t", step).await);
    assert_eq!(it.data(step + 1).await, expected);
    // The old row is of the type's present shape, too, whatever it was when it was written.
    let now = it.row("t", 0).await;
    it.database.execute("update t set p = null where id = 0").await;
    it.receiver.wait_for(expected.len() + 1, PATIENCE).await;
    let requests = it.receiver.requests_to("/");
    let event = requests.last().unwrap().json();
    assert_eq!(event["previous"], json!({"p": now["p"]}));
    assert_eq!(event["data"]["ps"], now["ps"]);
    daemon.stop().await;
}

/// It was there before the change, so it knows the shapes of either side.
#[tokio::test]
async fn a_composite_that_changes_while_the_daemon_lags() {
    let it = Fixture::new().await;
    let daemon = it.workspace.start(&it.database).await;
    it.database
        .execute("insert into t values (0, (1, 'b')); insert into u values (0, (1, 2, 3))")
        .await;
    it.data(2).await;
    kill_process(daemon.pid(), Signal::STOP).unwrap();
    let mut expected = vec![it.row("t", 0).await, it.row("u", 0).await];
    for (table, id, before, row) in [
        ("t", 1, "select 1", "(1, 'b')"),
        ("u", 1, "select 1", "(1, 2, 3)"),
        ("t", 2, "alter type pair add attribute c date", "(2, 'b', '2024-02-29')"),
        ("u", 2, "alter type trio drop attribute y", "(1, 3)"),
    ] {
        it.database.execute(before).await;
        it.database.execute(&format!("insert into {table} values ({id}, {row})")).await;
        expected.push(it.row(table, id).await);
    }
    // Once with the connection kept, once with a new one.
    kill_process(daemon.pid(), Signal::CONT).unwrap();
    assert_eq!(it.data(6).await, expected);
    kill_process(daemon.pid(), Signal::STOP).unwrap();
    for (table, id, before, row) in [
        ("u", 3, "select 1", "(1, 3)"),
        ("u", 4, "alter type trio add attribute w text, add attribute z2 int", "(1, 3, 'w', 4)"),
        ("t", 3, "select 1", "(3, 'b', null)"),
    ] {
        it.database.execute(before).await;
        it.database.execute(&format!("insert into {table} values ({id}, {row})")).await;
        expected.push(it.row(table, id).await);
    }
    let slot = it.workspace.slot();
    let disconnect = format!(
        "alter table t drop p, drop ps; drop type pair; select pg_terminate_backend(active_pid, 10000)
         from pg_replication_slots where slot_name = '{slot}'"
    );
    it.database.execute(&disconnect).await;
    kill_process(daemon.pid(), Signal::CONT).unwrap();
    assert_eq!(it.data(9).await, expected);
    daemon.stop().await;
}

#[tokio::test]
async fn types_that_change_while_the_daemon_is_stopped() {
    let it = Fixture::new().await;
    it.workspace.start(&it.database).await.stop().await;
    let steps = [
        // As of the row's time, though the catalog is ahead.
        (
            "insert into t values (1, (1, 'b'), '{}')",
            json!({"id": 1, "p": {"a": 1, "b": "b"}, "ps": []}),
        ),
        ("alter type pair add attribute c date", Value::Null),
        (
            "insert into t values (2, (2, 'b', '2024-02-29'), array[(3, null, null)::pair])",
            json!({"id": 2, "p": {"a": 2, "b": "b", "c": "2024-02-29"},
                "ps": [{"a": 3, "b": null, "c": null}]}),
        ),
        ("insert into v values (1, 'sad', 1.50)", json!({"id": 1, "m": "sad", "price": "1.50"})),
        ("alter type mood add value 'so so' before 'happy'", Value::Null),
        ("insert into v values (2, 'so so', null)", json!({"id": 2, "m": "so so", "price": null})),
        ("alter type mood rename value 'sad' to 'blue'", Value::Null),
        ("insert into v values (3, 'blue', null)", json!({"id": 3, "m": "blue", "price": null})),
        // The domain of the rows before is gone, and with it what they were.
        (
            "drop domain price cascade; create domain price as text; alter table v add price price",
            Value::Null,
        ),
        (
            "insert into v values (4, 'blue', '1.50')",
            json!({"id": 4, "m": "blue", "price": "1.50"}),
        ),
        // What was dropped has lost its name, so nothing is said of what is what.
        ("insert into u values (1, (1, 2, 3))", json!({"id": 1, "t": "(1,2,3)"})),
        ("alter type trio drop attribute y, add attribute w text", Value::Null),
        ("insert into u values (2, (1, 3, 'w'))", json!({"id": 2, "t": "(1,3,w)"})),
        // A whole type that is gone.
        ("create type gone as (q int); alter table v add g gone", Value::Null),
        (
            "insert into v values (5, 'blue', null, row(7))",
            json!({"id": 5, "m": "blue", "price": null, "g": "(7)"}),
        ),
        ("alter table v drop g; drop type gone", Value::Null),
        ("insert into v values (6, 'blue', null)", json!({"id": 6, "m": "blue", "price": null})),
    ];
    let mut expected = Vec::new();
    for (sql, event) in steps {
        it.database.execute(sql).await;
        expected.extend(Some(event).filter(|event| !event.is_null()));
    }
    let daemon = it.workspace.start(&it.database).await;
    assert_eq!(it.data(expected.len()).await, expected);
    // From here on it follows.
    it.database.execute("insert into u values (3, (1, 3, 'w'))").await;
    let found = it.data(expected.len() + 1).await.pop();
    assert_eq!(found, Some(json!({"id": 3, "t": {"x": 1, "z": 3, "w": "w"}})));
    daemon.stop().await;
}

#[tokio::test]
async fn a_composite_that_lost_an_attribute_is_an_object_again_once_the_daemon_is_up_to_date() {
    let it = Fixture::new().await;
    it.database.execute("alter type trio drop attribute y").await;
    it.workspace.start(&it.database).await.stop().await;
    it.database.execute("insert into u values (1, (1, 3))").await;
    let daemon = it.workspace.start(&it.database).await;
    it.data(1).await;
    it.database.execute("insert into u values (2, (1, 3))").await;
    let found = it.data(2).await;
    // Transactions of other databases that are older than the change leave it open whether the
    // slot's first row is, too.
    let (certain, open) = (it.row("u", 1).await, json!({"id": 1, "t": "(1,3)"}));
    assert!(found[0] == certain || found[0] == open, "{}", found[0]);
    assert_eq!(found[1], it.row("u", 2).await);
    daemon.stop().await;
}
