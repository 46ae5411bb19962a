//! Capture by triggers that fill an outbox: what is its own. What it shares with replication is in
//! the tests that run under both.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Capture, Database, Receiver, eventually};
use crate::refusals::Fixture;

mod alike;
mod application;
mod growth;
mod many_sessions;
mod switch;
mod turns;

const PATIENCE: Duration = Duration::from_secs(120);

/// A database with people, followed by an outbox, and a receiver.
async fn fixture() -> Fixture {
    Fixture::on(Capture::Outbox.database().await).await
}

/// The same with an endpoint "ops" for what walhook tells about itself, at `/ops`.
async fn told() -> Fixture {
    let fixture = fixture().await;
    let ops = fixture.receiver.url("/ops");
    let workspace = fixture.workspace.endpoint("ops", &ops, "events = ['walhook.*']");
    Fixture { workspace, ..fixture }
}

/// The events that came to a path, each once, in the order of their first arrival.
fn events(receiver: &Receiver, path: &str) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let requests = receiver.requests_to(path).into_iter();
    requests
        .filter(|request| seen.insert(request.id().to_owned()))
        .map(|request| request.json())
        .collect()
}

/// Waits for this event at a path.
async fn event(
    receiver: &Receiver,
    path: &str,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    eventually(PATIENCE, what, async || events(receiver, path).into_iter().find(|it| fits(it)))
        .await
}

/// Waits until the outbox is empty.
async fn drained(database: &Database) {
    let client = database.client().await;
    eventually(PATIENCE, "the outbox is empty", async || {
        (Capture::Outbox.left_behind(&client, "").await == 0).then_some(())
    })
    .await;
}
