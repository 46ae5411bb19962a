//! Whose turn it is: of several daemons on one outbox, one works.

use std::sync::Arc;

use super::PATIENCE;
use crate::harness::{Capture, Counters, Receiver, Workspace};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_one_works_and_the_other_takes_over() {
    let database = Arc::new(Capture::Outbox.database().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let workspace = || {
        Workspace::new(&database).table("public.counter", "counter").endpoint(
            "main",
            &receiver.url("/"),
            "",
        )
    };
    let (first, second) = (workspace(), workspace());
    let daemon = first.start(&database).await;
    let client = database.client().await;
    let worker = Capture::Outbox.reader(&client, "").await;
    let mut standing_by = second.spawn();
    standing_by.says("outbox", PATIENCE).await;
    standing_by.says("another", PATIENCE).await;
    let load = Counters::start(&database, 4);
    load.commits_more(300).await;
    assert_eq!(Capture::Outbox.reader(&client, "").await, worker, "{}", standing_by.stderr());
    assert!(standing_by.is_running(), "{}", standing_by.stderr());
    // Its journal is its own, so it delivers what it has taken before it leaves for good.
    load.stop().await;
    let due = Counters::events_due(&database).await;
    receiver.wait_for(due, PATIENCE).await;
    super::drained(&database).await;
    daemon.stop().await;

    standing_by.follows(Capture::Outbox, &client, "", worker).await;
    let load = Counters::start(&database, 4);
    load.commits_more(300).await;
    load.stop().await;
    let requests = Counters::arrived(&database, &receiver, PATIENCE).await;
    let repeats = Counters::verify(&database, &requests).await;
    assert!(repeats.is_empty(), "{} repeats", repeats.len());
    standing_by.stop().await;
}

/// The one at work is killed: its connection's end is what lets the other in.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_is_replaced() {
    let database = Capture::Outbox.database().await;
    database.execute("create table person (id serial primary key, name text)").await;
    let receiver = Receiver::start().await;
    let workspace = || {
        Workspace::new(&database).table("public.person", "person").endpoint(
            "main",
            &receiver.url("/"),
            "",
        )
    };
    let (first, second) = (workspace(), workspace());
    let mut daemon = first.start(&database).await;
    let client = database.client().await;
    let worker = Capture::Outbox.reader(&client, "").await;
    let standing_by = second.spawn();
    standing_by.says("another", PATIENCE).await;
    database.execute("insert into person (name) values ('Ada')").await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.sigkill().await;
    standing_by.follows(Capture::Outbox, &client, "", worker).await;
    database.execute("insert into person (name) values ('Grace')").await;
    let named = |name: &'static str| {
        move |requests: &[Arc<crate::harness::Request>]| {
            requests.iter().any(|request| request.json()["data"]["name"] == name)
        }
    };
    receiver.wait_until(PATIENCE, "the change afterwards", named("Grace")).await;
    // The first one, alive again, waits in its turn.
    let mut again = first.spawn();
    again.says("another", PATIENCE).await;
    database.execute("insert into person (name) values ('Edsger')").await;
    receiver.wait_until(PATIENCE, "the last change", named("Edsger")).await;
    assert!(again.is_running(), "{}", again.stderr());
    standing_by.stop().await;
    again.stop().await;
}
