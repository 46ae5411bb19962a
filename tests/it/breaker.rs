//! A host that is down, and several endpoints there.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Answer, Database, Receiver, Workspace};

const PATIENCE: Duration = Duration::from_secs(60);
const PATHS: [&str; 3] = ["/a", "/b", "/c"];
const ROWS: usize = 40;
/// Shorter than the cool-down, of which chance takes off a tenth at most.
const PAUSE: Duration = Duration::from_millis(850);

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_one_host_share_its_breaker_and_its_probe() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    let (down, failed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_down, failures) = (Arc::clone(&down), Arc::clone(&failed));
    receiver.answer(move |_| {
        if !is_down.load(Ordering::SeqCst) {
            return Answer::Status(200);
        }
        failures.fetch_add(1, Ordering::SeqCst);
        Answer::Status(500)
    });
    let breaker = "[delivery]\nbreaker = { min_requests = 10, cool_down = '1s', \
                   max_cool_down = '1s' }";
    let mut workspace = Workspace::new(&database).table("public.person", "person").toml(breaker);
    for path in PATHS {
        // Were there no breaker, the schedule would be used up in a second.
        let schedule = ["'20ms'"; 50].join(", ");
        let more = format!("concurrency = 4\nretry = {{ schedule = [{schedule}], jitter = 0.0 }}");
        workspace = workspace.endpoint(&path[1..], &receiver.url(path), &more);
    }
    let daemon = workspace.start(&database).await;
    let rows = format!("insert into person select generate_series(1, {ROWS})");
    database.execute(&rows).await;

    // One request in a cool-down, and not one of each endpoint.
    let requests = receiver
        .wait_until(PATIENCE, "four probes alone", |requests| {
            let Some(newest) = requests.last_chunk::<5>() else { return false };
            newest.windows(2).all(|pair| pair[1].at - pair[0].at >= PAUSE)
        })
        .await;
    // Sooner it cannot have been: whoever pauses there is the machine.
    let opened = requests.iter().skip(9).position(|request| {
        requests.get(request.arrival + 1).is_some_and(|next| next.at - request.at >= PAUSE)
    });
    // What was under way when it opened is all that goes beyond.
    let opened = opened.unwrap() + 10;
    assert!((10..=10 + 3 * 4 + 1).contains(&opened), "{opened} requests before it opened");
    let crowd = requests.len() - opened;
    assert!(crowd <= 6, "{crowd} probes in four cool-downs");
    let tries = requests.iter().map(|request| request.attempt()).max().unwrap();
    assert!(tries <= 10, "{tries} attempts of one delivery");

    down.store(false, Ordering::SeqCst);
    let expected = PATHS.len() * ROWS;
    let delivered = |requests: usize| requests - failed.load(Ordering::SeqCst) >= expected;
    receiver.wait_until(PATIENCE, "every event", |requests| delivered(requests.len())).await;
    daemon.stop().await;
    // Nothing else was sent, and nothing else counts as an attempt.
    let failed = failed.load(Ordering::SeqCst);
    assert_eq!(receiver.count(), expected + failed);
    let status = workspace.run(&["status", "--json"]).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let sum = |key: &str| {
        let endpoints = status["endpoints"].as_array().unwrap();
        endpoints.iter().map(|endpoint| endpoint[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("succeeded"), sum("failed")), (expected as u64, failed as u64));
    for path in PATHS {
        let requests = receiver.requests_to(path);
        let attempts: HashSet<_> =
            requests.iter().map(|request| (request.id().to_owned(), request.attempt())).collect();
        assert_eq!(attempts.len(), requests.len(), "an attempt has a number twice");
    }
    receiver.assert_all_signed();
}
