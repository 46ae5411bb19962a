//! Replays of the journal to one endpoint, with a load going on: each record's events come in order,
//! the repeated ones and those that had not been delivered yet.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::deliveries::{PATIENCE, done, endpoint};
use crate::harness::{Answer, Counters, Database, Receiver, Request, Workspace, eventually};

const REPLAY: [&str; 6] = ["deliveries", "replay", "--endpoint", "main", "--since", "1h"];
/// What fails before a replay waits until the replay comes to it.
const PATIENT: &str = "concurrency = 8\nretry = { schedule = ['1h', '1h'], jitter = 0.0 }";

async fn counters() -> Arc<Database> {
    let database = Arc::new(Database::create().await);
    Counters::create_table(&database).await;
    database
}

/// The requests from the first repeat on.
fn repeated(requests: &[Arc<Request>]) -> &[Arc<Request>] {
    let mut seen = HashSet::new();
    let first = requests.iter().position(|request| !seen.insert(request.id().to_owned()));
    &requests[first.unwrap_or(requests.len())..]
}

fn record(request: &Request) -> i64 {
    request.json()["data"]["id"].as_i64().unwrap()
}

fn sequence(request: &Request) -> Option<usize> {
    request.header("webhook-sequence").map(|text| text.parse().unwrap())
}

/// One record of four fails.
fn fails(request: &Request) -> bool {
    record(request) % 4 == 0
}

fn fail_in_part(receiver: &Receiver) {
    receiver.answer(|request| Answer::Status(if fails(request) { 500 } else { 200 }));
}

/// Waits until deliveries wait for their retry, and others are blocked behind them.
async fn some_wait(workspace: &Workspace) {
    eventually(PATIENCE, "some wait, and some are blocked", async || {
        let state = endpoint(workspace, "main").await;
        let enough = |count: &str| state[count].as_u64().unwrap() >= 20;
        (enough("waiting") && enough("blocked")).then_some(())
    })
    .await;
}

async fn until_idle(workspace: &Workspace) {
    eventually(PATIENCE, "nothing is left to do", async || {
        (endpoint(workspace, "main").await["backlog"] == 0).then_some(())
    })
    .await;
}

/// Every number from 1 on was told, always of the same event, and none with two events.
fn assert_numbered(requests: &[Arc<Request>], due: usize) {
    let mut of: HashMap<usize, &str> = HashMap::new();
    for request in requests {
        if let Some(number) = sequence(request) {
            let id = *of.entry(number).or_insert(request.id());
            assert_eq!(id, request.id(), "two events have the number {number}");
        }
    }
    let numbers: BTreeSet<usize> = of.keys().copied().collect();
    assert!(numbers.into_iter().eq(1..=due), "a number is missing");
    let ids: HashSet<&str> = of.values().copied().collect();
    assert_eq!(ids.len(), due, "an event has two numbers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_after_a_kill_under_live_traffic() {
    let database = counters().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let workspace = Workspace::new(&database)
        .table("public.counter", "counter")
        .endpoint("main", &receiver.url("/"), "concurrency = 8")
        .endpoint("other", &other.url("/"), "");
    let mut daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 2);
    load.commits_more(200).await;
    let before = Counters::events_due(&database).await;
    receiver.wait_for(before, PATIENCE).await;
    assert!(done(&workspace, &REPLAY).await.contains("once more"));
    receiver.wait_until(PATIENCE, "some of it", |requests| repeated(requests).len() > 20).await;
    daemon.sigkill().await;
    receiver.disconnected().await;
    let daemon = workspace.start(&database).await;
    load.commits_more(20).await;
    load.stop().await;
    let due = Counters::events_due(&database).await;
    let requests = receiver
        .wait_until(PATIENCE, "all of it, and what is new", |requests| {
            Counters::complete(repeated(requests), due)
        })
        .await;
    Counters::verify(&database, repeated(&requests)).await;
    // The other one notices a kill, and nothing else.
    let others = Counters::arrived(&database, &other, PATIENCE).await;
    let repeats = Counters::verify(&database, &others).await;
    assert!(repeats.len() <= 2 * 32, "{} repeats", repeats.len());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_a_replay_begins_comes_in_its_order() {
    let database = counters().await;
    let receiver = Receiver::start().await;
    fail_in_part(&receiver);
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        PATIENT,
    );
    let mut daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 2);
    load.commits_more(200).await;
    some_wait(&workspace).await;
    receiver.answer(|_| Answer::Status(200));
    let said = done(&workspace, &REPLAY).await;
    assert!(said.contains("still to be delivered"), "{said}");
    receiver.wait_until(PATIENCE, "some of it", |requests| repeated(requests).len() > 50).await;
    daemon.sigkill().await;
    receiver.disconnected().await;
    let daemon = workspace.start(&database).await;
    load.commits_more(20).await;
    load.stop().await;
    let due = Counters::events_due(&database).await;
    let requests = receiver
        .wait_until(PATIENCE, "all of it, and what is new", |requests| {
            Counters::complete(repeated(requests), due)
        })
        .await;
    Counters::verify(&database, repeated(&requests)).await;
    assert_numbered(&requests, due);
    until_idle(&workspace).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_within_bounds_and_one_that_is_stopped_lose_nothing() {
    let database = counters().await;
    let receiver = Receiver::start().await;
    fail_in_part(&receiver);
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        PATIENT,
    );
    let daemon = workspace.start(&database).await;
    let load = Counters::start(&database, 2);
    load.commits_more(200).await;
    some_wait(&workspace).await;
    load.stop().await;
    let due = Counters::events_due(&database).await;
    // Of each record that fails, the first one was tried, and all others wait behind it.
    let failing = "select coalesce(sum(n), 0)::int8 from counter where id % 4 = 0";
    let failing: i64 = database.client().await.query_one(failing, &[]).await.unwrap().get(0);
    let what_fails_waits = async || {
        let state = endpoint(&workspace, "main").await;
        let parked = state["waiting"].as_i64().unwrap() + state["blocked"].as_i64().unwrap();
        (state["backlog"] == failing && parked == failing).then_some(())
    };
    eventually(PATIENCE, "what does not fail has come", what_fails_waits).await;
    let requests = receiver.wait_for(1, PATIENCE).await;

    // What fails stops nothing else, and it all still waits when the replay is ended.
    let said = done(&workspace, &REPLAY).await;
    assert!(said.contains("still to be delivered"), "{said}");
    let stop = ["deliveries", "replay", "--endpoint", "main", "--stop"];
    let stopped = workspace.run(&stop).await;
    assert!(stopped.stdout.contains("has ended") || stopped.stderr.contains("no replay"));
    eventually(PATIENCE, "what fails waits again", what_fails_waits).await;

    // Of what was delivered, just the creations up to one of them; of the rest, everything.
    receiver.answer(|_| Answer::Status(200));
    let delivered = requests.iter().filter(|request| !fails(request)).collect::<Vec<_>>();
    let creations = delivered.iter().filter(|request| request.json()["event"] == "counter.created");
    let mut creations: Vec<&str> = creations.map(|request| request.id()).collect();
    creations.sort_unstable();
    let last = creations[creations.len() / 2];
    let bounds = ["--until", last, "--events", "*.created"];
    let before = receiver.count();
    done(&workspace, &[&REPLAY[..], &bounds[..]].concat()).await;
    until_idle(&workspace).await;
    let requests = receiver.wait_for(before, PATIENCE).await;
    let replayed = &requests[before..];
    let again: BTreeSet<&str> = replayed
        .iter()
        .filter(|request| !fails(request) && sequence(request).is_none())
        .map(|request| request.id())
        .collect();
    let expected = creations[..=creations.len() / 2].iter().copied();
    assert_eq!(again, expected.collect());
    let rest = replayed.iter().filter(|request| fails(request)).map(|request| request.id());
    assert_eq!(rest.collect::<HashSet<_>>().len() as i64, failing);
    assert_numbered(&requests, due);
    // Of each record, nothing came before what is older, since the bounded replay began.
    let mut newest: HashMap<i64, i64> = HashMap::new();
    for request in replayed {
        let n = request.json()["data"]["n"].as_i64().unwrap();
        let newest = newest.entry(record(request)).or_default();
        assert!(*newest <= n, "record {}: {n} after {newest}", record(request));
        *newest = n;
    }
    daemon.stop().await;
}
