//! What may happen to an outbox while it is drained, other than that a connection or a process ends:
//! frozen daemons, full disks, poolers, outboxes that are emptied or made anew, old snapshots, orders
//! that come at the wrong moment.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio_postgres::Client;
use walhook::throwaway::Options;

use crate::harness::{
    Capture, Counters, Daemon, Database, Receiver, Request, Workspace, eventually, pause,
};
use crate::refusals::own_cluster;

mod pooler;

const PATIENCE: Duration = Duration::from_secs(120);

struct Fixture {
    database: Arc<Database>,
    receiver: Receiver,
    workspace: Workspace,
}

impl Fixture {
    /// Counters with the triggers of walhook on them.
    async fn new() -> Fixture {
        Fixture::on(Capture::Outbox.database().await).await
    }

    async fn on(database: Database) -> Fixture {
        let database = Arc::new(database);
        Counters::create_table(&database).await;
        let receiver = Receiver::start().await;
        let workspace = workspace(&database, &receiver);
        workspace.run(&["setup"]).await.assert(0, &[]);
        Fixture { database, receiver, workspace }
    }

    async fn start(&self) -> Daemon {
        let daemon = self.workspace.spawn();
        daemon.says("draining the outbox", PATIENCE).await;
        daemon
    }

    /// Every change has come, no two under different ids, and each row's in order.
    async fn verify(&self) {
        let requests = Counters::arrived(&self.database, &self.receiver, PATIENCE).await;
        assert!(Counters::verify(&self.database, &requests).await.is_empty());
    }
}

fn workspace(database: &Database, receiver: &Receiver) -> Workspace {
    Workspace::new(database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "concurrency = 8",
    )
}

/// Writes events `first..first + count` of one transaction, all with one key.
fn emit(first: i64, count: i64) -> String {
    format!(
        "select walhook.emit('test.said', 'one', jsonb_build_object('n', n))
         from generate_series({first}, {first} + {count} - 1) n"
    )
}

fn numbers(requests: &[Arc<Request>]) -> Vec<i64> {
    requests.iter().map(|request| request.json()["data"]["n"].as_i64().unwrap()).collect()
}

/// The process of the server that drains the outbox.
async fn drainer(client: &Client) -> i32 {
    eventually(PATIENCE, "somebody drains", async || Capture::Outbox.reader(client, "").await).await
}

/// What a daemon has in hand when it freezes it journals when it thaws, though another has taken it
/// meanwhile: the same events, under the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_thaws_repeats_at_most_what_it_had_in_hand() {
    let fixture = Fixture::new().await;
    let second = workspace(&fixture.database, &fixture.receiver);
    let first = fixture.start().await;
    let standing_by = second.spawn();
    standing_by.says("another walhook drains", PATIENCE).await;
    let client = fixture.database.client().await;
    let load = Counters::start(&fixture.database, 4);
    load.commits_more(200).await;
    kill_process(first.pid(), Signal::STOP).unwrap();
    load.commits_more(200).await;
    // What waits until another takes over is not to be more than that one can deliver in time.
    load.stop().await;
    // Its kernel answers for it, so it is well for the server, but idle.
    let frozen = drainer(&client).await;
    eventually(PATIENCE, "another process drains", async || {
        Capture::Outbox.reader(&client, "").await.filter(|process| *process != frozen)
    })
    .await;
    standing_by.says("draining the outbox", PATIENCE).await;
    let load = Counters::start(&fixture.database, 4);
    load.commits_more(200).await;
    kill_process(first.pid(), Signal::CONT).unwrap();
    first.says("another walhook drains", PATIENCE).await;
    load.commits_more(200).await;
    load.stop().await;
    let requests = Counters::arrived(&fixture.database, &fixture.receiver, PATIENCE).await;
    let due = Counters::events_due(&fixture.database).await;
    let ids: HashSet<&str> = requests.iter().map(|request| request.id()).collect();
    assert_eq!(ids.len(), due);
    println!("{} repeats", requests.len() - due);
    standing_by.stop().await;
    first.stop().await;
}

/// The daemon has read rows that are not safe in its journal yet: their numbers are given to others.
async fn others_take_the_numbers(make_anew: &str) {
    let fixture = Fixture::new().await;
    let daemon = fixture.start().await;
    let client = fixture.database.client().await;
    let journal = rusqlite::Connection::open(fixture.workspace.journal_path()).unwrap();
    journal.execute_batch("begin immediate").unwrap();
    client.batch_execute(&emit(1, 10)).await.unwrap();
    let sql = "select from pg_stat_activity
               where datname = current_database() and state = 'idle'
                   and query like '%pg_logical_emit_message%walhook.outbox%'";
    eventually(PATIENCE, "the daemon has read them", async || {
        client.query_opt(sql, &[]).await.unwrap().map(drop)
    })
    .await;
    client.batch_execute(make_anew).await.unwrap();
    client.batch_execute(&emit(11, 10)).await.unwrap();
    let sql = "select min(id) from walhook.outbox";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    journal.execute_batch("commit").unwrap();
    let requests = fixture.receiver.wait_for(20, PATIENCE).await;
    assert_eq!(numbers(&requests), (1..=20).collect::<Vec<_>>());
    daemon.stop().await;
    assert_eq!(fixture.receiver.count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_outbox_that_was_emptied_meanwhile_are_not_deleted_unread() {
    others_take_the_numbers("truncate walhook.outbox restart identity").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_outbox_that_was_made_anew_meanwhile_are_not_deleted_unread() {
    let anew = format!("drop table walhook.outbox; {}", include_str!("../../sql/outbox.sql"));
    others_take_the_numbers(&anew).await;
}

/// The daemon, which outlives attempts to write beyond a limit of its files' size.
fn spawn_limited(workspace: &Workspace) -> Daemon {
    let inner = workspace.command(&["run"]);
    let inner = inner.as_std();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.current_dir(inner.get_current_dir().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Daemon::spawn(command)
}

/// Rows wait in the outbox while the journal cannot grow, beyond what may wait; nothing is dropped,
/// and all of them come when there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_the_rows_in_the_outbox() {
    let fixture = Fixture::new().await;
    let ops = fixture.receiver.url("/ops");
    let workspace = fixture
        .workspace
        .endpoint("ops", &ops, "events = ['walhook.*']")
        .toml("[source]\noutbox_max_rows = 500");
    let fixture = Fixture { workspace, ..fixture };
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    let mut daemon = spawn_limited(&fixture.workspace);
    daemon.says("draining the outbox", PATIENCE).await;
    let load = Counters::start(&fixture.database, 2);
    load.commits_more(50).await;
    let usual = getrlimit(Resource::Fsize);
    let full = Rlimit { current: Some(4096), maximum: usual.maximum };
    prlimit(Some(daemon.pid()), Resource::Fsize, full).unwrap();
    daemon.says("journal", PATIENCE).await;
    load.commits_more(500).await;
    daemon.says("many rows wait in the outbox", PATIENCE).await;
    let client = fixture.database.client().await;
    let waiting = Capture::Outbox.left_behind(&client, "").await;
    assert!(waiting > 500, "{waiting}");
    assert!(daemon.is_running(), "{}", daemon.stderr());
    let status = fixture.workspace.run(&["status"]).await;
    assert!(status.stdout.contains("it grows on beyond 500 of them"), "{}", status.stdout);
    prlimit(Some(daemon.pid()), Resource::Fsize, usual).unwrap();
    load.commits_more(50).await;
    load.stop().await;
    let due = Counters::events_due(&fixture.database).await;
    let requests = eventually(PATIENCE, "every change", async || {
        let requests = fixture.receiver.requests_to("/");
        Counters::complete(&requests, due).then_some(requests)
    })
    .await;
    assert!(Counters::verify(&fixture.database, &requests).await.is_empty());
    daemon.says("few rows wait in the outbox again", PATIENCE).await;
    let lags = eventually(PATIENCE, "both reports", async || {
        let ops = fixture.receiver.requests_to("/ops");
        let events = ops.iter().map(|request| request.json());
        let lags: Vec<_> = events.filter(|event| event["event"] == "walhook.outbox.lag").collect();
        (lags.len() >= 2).then_some(lags)
    })
    .await;
    assert!(lags.iter().any(|lag| lag["data"]["recovered"] == true), "{lags:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_hands_sessions_around_is_refused() {
    let fixture = Fixture::new().await;
    let url = fixture.database.url();
    let (head, name) = url.rsplit_once('/').unwrap();
    let (head, port) = head.rsplit_once(':').unwrap();
    let pooled = pooler::start(port.parse().unwrap()).await;
    let url = format!("[source]\nurl = '{head}:{pooled}/{name}?sslmode=disable'");
    let workspace = fixture.workspace.toml(&url);
    let refused = workspace.run(&["run"]).await;
    refused.assert(2, &["a pooler that gives each transaction another session", "pool_mode"]);
    // No lock stays behind with the pooler's sessions.
    let workspace = workspace.source(&fixture.database);
    let direct = workspace.spawn();
    direct.says("draining the outbox", PATIENCE).await;
    direct.stop().await;
}

/// How many entries of the outbox's index sessions have looked at so far.
async fn entries_read(client: &Client) -> i64 {
    let sql = "select idx_tup_read from pg_stat_user_indexes
               where schemaname = 'walhook' and relname = 'outbox'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits until what walhook looks at in two seconds is much less than all that is dead.
async fn looks_are_short(client: &Client, dead: i64) {
    eventually(PATIENCE, "looks are short", async || {
        let before = entries_read(client).await;
        pause(Duration::from_secs(2)).await;
        (entries_read(client).await - before < dead / 2).then_some(())
    })
    .await;
}

/// Somebody holds an old snapshot, so that what is deleted stays in the way: it is passed over once
/// and not with every look, and what commits late comes all the same, in order.
#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_under_an_old_snapshot_are_not_looked_at_again_and_again() {
    const DEAD: i64 = 400_000;
    // On a server of its own: slots that are being created wait for every open transaction.
    let cluster = own_cluster(Options::new()).await;
    let database = Database::create_on(&cluster, "crm").await.captured_by(Capture::Outbox);
    let fixture = Fixture::on(database).await;
    let (receiver, client) = (&fixture.receiver, fixture.database.client().await);
    let daemon = fixture.start().await;
    let snapshot = fixture.database.client().await;
    let hold = "begin isolation level repeatable read; select from counter";
    snapshot.batch_execute(hold).await.unwrap();
    // With numbers below all others, of a record whose later change has to wait for it.
    let late = fixture.database.client().await;
    late.batch_execute("begin; insert into counter values (1, 1)").await.unwrap();
    let dead = format!(
        "insert into walhook.outbox (op, ordinal) select 'M', 0 from generate_series(1, {DEAD});
         delete from walhook.outbox where op = 'M'"
    );
    client.batch_execute(&format!("begin; {dead}; commit")).await.unwrap();
    for n in 1..=3 {
        let other = format!("insert into counter values ({}, 1)", n + 1);
        client.batch_execute(&other).await.unwrap();
        receiver.wait_for(n, PATIENCE).await;
    }
    late.batch_execute("commit").await.unwrap();
    client.batch_execute("update counter set n = 2 where id = 1").await.unwrap();
    let requests = receiver.wait_for(5, PATIENCE).await;
    let story = |request: &Arc<Request>| request.json()["data"]["id"] == 1;
    let story: Vec<_> = requests.iter().filter(|request| story(request)).cloned().collect();
    assert_eq!(numbers(&story), [1, 2]);
    client.batch_execute("insert into counter values (9, 1)").await.unwrap();
    receiver.wait_for(6, PATIENCE).await;
    looks_are_short(&client, DEAD).await;

    // And so it is when one commits late from now on, beside others that do not.
    late.batch_execute("begin; update counter set n = 3 where id = 1").await.unwrap();
    client.batch_execute("update counter set n = 2 where id = 9").await.unwrap();
    receiver.wait_for(7, PATIENCE).await;
    looks_are_short(&client, DEAD).await;
    late.batch_execute("commit").await.unwrap();
    receiver.wait_for(8, PATIENCE).await;
    client.batch_execute("update counter set n = 4 where id = 1").await.unwrap();
    receiver.wait_for(9, PATIENCE).await;
    fixture.verify().await;
    snapshot.batch_execute("rollback").await.unwrap();
    daemon.stop().await;
}

/// A session that drops the oldest rows in a transaction that goes on keeps them locked: they are sent,
/// and those behind them too, before it ends; whether it commits that or not, none comes again.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_somebody_has_locked_hold_up_no_others() {
    for end in ["commit", "rollback"] {
        let fixture = Fixture::new().await;
        let client = fixture.database.client().await;
        client.batch_execute(&emit(1, 300)).await.unwrap();
        let dropping = fixture.database.client().await;
        let drop_some = "begin; delete from walhook.outbox where id <= 200";
        dropping.batch_execute(drop_some).await.unwrap();
        let mut daemon = fixture.start().await;
        daemon.says("has locked rows of the outbox", PATIENCE).await;
        client.batch_execute(&emit(301, 10)).await.unwrap();
        fixture.receiver.wait_for(310, PATIENCE).await;
        // Whoever comes next knows of them, too.
        daemon.sigkill().await;
        let daemon = fixture.start().await;
        client.batch_execute(&emit(311, 10)).await.unwrap();
        let last = |requests: &[Arc<Request>]| numbers(requests).contains(&320);
        fixture.receiver.wait_until(PATIENCE, "what came last", last).await;
        dropping.batch_execute(end).await.unwrap();
        eventually(PATIENCE, "the outbox is empty", async || {
            (Capture::Outbox.left_behind(&client, "").await == 0).then_some(())
        })
        .await;
        daemon.stop().await;
        let mut numbers = numbers(&fixture.receiver.requests_to("/"));
        // Of the kill, which may have come before answers were noted.
        let mut seen = HashSet::new();
        numbers.retain(|number| seen.insert(*number));
        assert_eq!(numbers, (1..=320).collect::<Vec<_>>(), "{end}");
    }
}

/// The file says "replication", but the daemon is told to read it again and not started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_after_the_switch_does_not_bring_the_triggers_back() {
    let fixture = Fixture::new().await;
    let daemon = fixture.start().await;
    fixture.database.execute("insert into counter values (1, 1)").await;
    fixture.receiver.wait_for(1, PATIENCE).await;
    let workspace = fixture.workspace.toml("[source]\ncapture = 'replication'");
    let fixture = Fixture { workspace, ..fixture };
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    fixture.database.execute("update counter set n = 2").await;
    kill_process(daemon.pid(), Signal::HUP).unwrap();
    daemon.says("takes a restart", PATIENCE).await;
    daemon.says("gave way to logical replication", PATIENCE).await;
    let client = fixture.database.client().await;
    let sql = "select from pg_trigger where tgname like '%walhook%'";
    assert!(client.query(sql, &[]).await.unwrap().is_empty(), "{}", daemon.stderr());
    fixture.database.execute("update counter set n = 3").await;
    daemon.stop().await;
    let daemon = fixture.workspace.spawn();
    fixture.verify().await;
    daemon.stop().await;
}

/// A daemon with the old configuration and no journal, which may create what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_does_not_take_the_switch_back() {
    let fixture = Fixture::new().await;
    let workspace = fixture.workspace.toml("[source]\ncapture = 'replication'");
    workspace.run(&["setup"]).await.assert(0, &[]);
    let old = self::workspace(&fixture.database, &fixture.receiver);
    old.run(&["run"]).await.assert(2, &["gave way to logical replication"]);
    let client = fixture.database.client().await;
    let sql = "select from pg_trigger where tgname like '%walhook%'";
    assert!(client.query(sql, &[]).await.unwrap().is_empty());
    // A person may, and is told what that means.
    let taken_back = old.run(&["setup"]).await;
    assert_eq!(taken_back.code, Some(0), "{}", taken_back.stderr);
    let said = format!("{}{}", taken_back.stdout, taken_back.stderr);
    assert!(said.contains("is in no outbox"), "{said}");
}

/// Before anybody has read it, and after; and to a role without rights.
#[tokio::test(flavor = "multi_thread")]
async fn status_counts_what_was_dropped_and_names_what_helps() {
    let fixture = Fixture::new().await;
    let client = fixture.database.client().await;
    let dropped =
        "insert into walhook.outbox (op, ordinal, new) values ('L', 0, '{\"dropped\": 7}')";
    client.batch_execute(dropped).await.unwrap();
    client.batch_execute(&emit(1, 2)).await.unwrap();
    let status = fixture.workspace.run(&["status"]).await.stdout;
    assert!(status.contains("7 more were dropped unread"), "{status}");
    let daemon = fixture.start().await;
    fixture.receiver.wait_for(2, PATIENCE).await;
    client.batch_execute(dropped).await.unwrap();
    eventually(PATIENCE, "both are counted", async || {
        let status = fixture.workspace.run(&["status", "--json"]).await.stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        // In the journal first, and then no longer in the outbox.
        let outbox = &status["source"]["outbox"];
        (status["journal"]["outboxLost"] == 14 && outbox["dropped"] == 0).then_some(())
    })
    .await;
    let text = fixture.workspace.run(&["status"]).await.stdout;
    assert!(text.contains("14 changes make no event"), "{text}");
    daemon.stop().await;

    let role = format!("no_rights_{}", fixture.database.name());
    client.batch_execute(&format!("create role {role} login")).await.unwrap();
    let url = fixture.database.url();
    let (_, place) = url.split_once('@').unwrap();
    let url = format!("[source]\nurl = 'postgresql://{role}@{place}'");
    let workspace = fixture.workspace.toml(&url);
    let status = workspace.run(&["status"]).await;
    assert_eq!(status.code, Some(1));
    assert!(status.stdout.contains("`walhook check` says which rights"), "{}", status.stdout);
    let grant = format!(
        "grant usage on schema walhook to {role}; grant select, delete on walhook.outbox to {role};
         grant select on walhook.state to {role}"
    );
    client.batch_execute(&grant).await.unwrap();
    workspace.run(&["status"]).await.assert(0, &[]);
    let daemon = workspace.spawn();
    daemon.says("draining the outbox", PATIENCE).await;
    client.batch_execute(&emit(3, 1)).await.unwrap();
    fixture.receiver.wait_for(3, PATIENCE).await;
    daemon.stop().await;
    client.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
}
