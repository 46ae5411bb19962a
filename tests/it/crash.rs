//! The daemon is killed again and again, and nothing is lost, doubled at will or out of order.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::harness::{Answer, Counters, Database, Receiver, Workspace, pause};

const KILLS: usize = 32;
const CONCURRENCY: usize = 8;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load_lose_nothing() {
    let database = Arc::new(Database::create().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    // An answer takes a moment, so that kills find requests under way.
    receiver.answer(|_| {
        let delay = Duration::from_micros(rand::rng().random_range(0..5_000));
        Answer::After(delay, Box::new(Answer::Status(200)))
    });
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        &format!("concurrency = {CONCURRENCY}"),
    );
    // Makes the slot, so that none of the kills can come before there is one.
    workspace.start(&database).await.stop().await;
    let load = Counters::start(&database, 4);

    // How many requests had come at each kill.
    let mut kills = Vec::new();
    while kills.len() < KILLS {
        let mut daemon = workspace.spawn();
        // Some die while they are still starting, most while they deliver.
        if rand::rng().random_bool(0.75) {
            receiver.wait_for(receiver.count() + 1, PATIENCE).await;
        }
        pause(Duration::from_millis(rand::rng().random_range(0..400))).await;
        assert!(daemon.is_running(), "it ended by itself: {}", daemon.stderr());
        daemon.sigkill().await;
        receiver.disconnected().await;
        kills.push(receiver.count());
    }
    load.stop().await;
    let daemon = workspace.spawn();
    let due = Counters::events_due(&database).await;
    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    daemon.stop().await;

    let repeats = Counters::verify(&database, &requests).await;
    println!("{due} events, {} repeats after {KILLS} kills", repeats.len());
    for (index, &killed_at) in kills.iter().enumerate() {
        let next = kills.get(index + 1).copied().unwrap_or(usize::MAX);
        let after = repeats.iter().filter(|&&arrival| (killed_at..next).contains(&arrival)).count();
        assert!(after <= 2 * CONCURRENCY, "{after} repeats after kill {index}");
    }
    let before = repeats.iter().filter(|&&arrival| arrival < kills[0]).count();
    assert_eq!(before, 0, "repeats before the first kill");
    assert_eq!(receiver.count(), due + repeats.len(), "requests beyond what happened");
    receiver.assert_all_signed();
}
