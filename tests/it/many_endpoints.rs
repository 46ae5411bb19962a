//! Many endpoints, each of which wants little of what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use serde_json::Value;

use crate::harness::{Answer, Database, Receiver, Request, Workspace, eventually, pause};

const PATIENCE: Duration = Duration::from_secs(120);
const ENDPOINTS: usize = 60;
const CONCURRENCY: usize = 2;
/// Names of events; nobody but the endpoints that want everything wants the last two.
const NAMES: usize = 14;
const WANTED: usize = NAMES - 2;
/// So many of the endpoints want everything.
const GREEDY: usize = 3;
const KEYS: usize = 5;
const KILLS: usize = 6;
const EVENTS_AT_ONCE: usize = 60;

fn path(endpoint: usize) -> String {
    format!("/e{endpoint}")
}

fn pattern(endpoint: usize) -> String {
    match endpoint {
        ..GREEDY => "thing_*.*".to_owned(),
        _ => format!("thing_{}.done", endpoint % WANTED),
    }
}

/// What an endpoint is to get of `events` numbered events.
fn due(endpoint: usize, events: usize) -> BTreeSet<usize> {
    let wants = |n: &usize| endpoint < GREEDY || n % NAMES == endpoint % WANTED;
    (0..events).filter(wants).collect()
}

fn number(request: &Request) -> usize {
    usize::try_from(request.json()["data"]["n"].as_u64().unwrap()).unwrap()
}

/// Emits events, each in a transaction of its own.
async fn emit(database: &Database, from: usize) {
    let to = from + EVENTS_AT_ONCE - 1;
    let sql = format!(
        "do $$ begin for n in {from}..{to} loop
             perform pg_logical_emit_message(true, 'walhook', format(
                 '{{\"event\":\"thing_%s.done\",\"key\":%s,\"data\":{{\"n\":%s}}}}',
                 n % {NAMES}, n % {KEYS}, n));
             commit;
         end loop; end $$"
    );
    database.execute(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_none_of_what_each_of_many_wants() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| {
        let delay = Duration::from_micros(rand::rng().random_range(0..5_000));
        Answer::After(delay, Box::new(Answer::Status(200)))
    });
    let mut workspace = Workspace::new(&database).table("public.person", "person");
    for endpoint in 0..ENDPOINTS {
        let more = format!("concurrency = {CONCURRENCY}\nevents = ['{}']", pattern(endpoint));
        let name = format!("e{endpoint}");
        workspace = workspace.endpoint(&name, &receiver.url(&path(endpoint)), &more);
    }
    workspace.start(&database).await.stop().await;

    let (mut events, mut kills) = (0, Vec::new());
    while kills.len() < KILLS {
        let before = receiver.count();
        let mut daemon = workspace.spawn();
        emit(&database, events).await;
        events += EVENTS_AT_ONCE;
        receiver.wait_for(before + 1, PATIENCE).await;
        // Some die amid it all, some when the cursors of the quiet have been moved on.
        pause(Duration::from_millis(rand::rng().random_range(0..1_500))).await;
        assert!(daemon.is_running(), "it ended by itself: {}", daemon.stderr());
        daemon.sigkill().await;
        receiver.disconnected().await;
        kills.push(receiver.count());
    }
    let daemon = workspace.spawn();
    emit(&database, events).await;
    events += EVENTS_AT_ONCE;
    let all: usize = (0..ENDPOINTS).map(|endpoint| due(endpoint, events).len()).sum();
    let requests = receiver
        .wait_until(PATIENCE, "everything for everybody", |requests| {
            let got = requests.iter().map(|request| (&request.path, request.id()));
            requests.len() >= all && got.collect::<BTreeSet<_>>().len() >= all
        })
        .await;
    // Everybody has passed everything, also what it did not want: those cursors follow within a second.
    let backlogs = eventually(PATIENCE, "nothing waits", async || {
        let status = workspace.run(&["status", "--json"]).await;
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        let endpoints = status["endpoints"].as_array().unwrap().clone();
        endpoints.iter().all(|endpoint| endpoint["backlog"] == 0).then_some(endpoints)
    })
    .await;
    assert_eq!(backlogs.len(), ENDPOINTS);
    assert!(backlogs.iter().all(|endpoint| endpoint["dropped"] == 0), "{backlogs:?}");
    daemon.stop().await;
    let mut repeats = 0;
    for endpoint in 0..ENDPOINTS {
        let path = path(endpoint);
        let got: Vec<_> = requests.iter().filter(|request| request.path == path).collect();
        repeats += verify(endpoint, &got, &kills, events);
    }
    println!("{all} deliveries to {ENDPOINTS} endpoints, {repeats} repeats after {KILLS} kills");
    receiver.assert_all_signed();
}

/// Fails the test unless the endpoint got all it wants and nothing else, in the order of each key
/// and numbered without a gap; what comes again comes after a kill. Answers how many came again.
fn verify(endpoint: usize, got: &[&Arc<Request>], kills: &[usize], events: usize) -> usize {
    let (mut sequences, mut newest) = (BTreeMap::new(), BTreeMap::new());
    let mut repeats = vec![0; kills.len() + 1];
    for request in got {
        let n = number(request);
        let sequence: u64 = request.header("webhook-sequence").unwrap().parse().unwrap();
        if let Some(known) = sequences.insert(n, sequence) {
            assert_eq!(known, sequence, "another number for {n}");
            repeats[kills.partition_point(|&kill| kill <= request.arrival)] += 1;
            continue;
        }
        if let Some(before) = newest.insert(n % KEYS, n) {
            assert!(before < n, "endpoint {endpoint}: {n} came after {before}");
        }
    }
    assert!(sequences.keys().copied().eq(due(endpoint, events)), "endpoint {endpoint}");
    let count = sequences.len() as u64;
    assert!(sequences.into_values().eq(1..=count), "endpoint {endpoint}: numbers with a gap");
    assert_eq!(repeats[0], 0, "repeats before the first kill");
    // Two requests were under way, and what came of as many more was not written down.
    assert!(repeats.iter().all(|&count| count <= 2 * CONCURRENCY), "{endpoint}: {repeats:?}");
    repeats.into_iter().sum()
}
