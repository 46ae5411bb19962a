//! walhook tells about itself through an ordinary endpoint that subscribes to `walhook.*`.

use serde_json::Value;
use walhook::throwaway::Options;

use crate::harness::{Answer, Daemon, Database, Receiver, eventually, slot_state};
use crate::refusals::{Fixture, PATIENCE, drop_slot, own_cluster};

/// What the endpoint gets that is told of all others.
const OPS: &str = "events = ['walhook.*']";

/// A fixture with such an endpoint, "ops", at `/ops`.
async fn told(database: Database) -> Fixture {
    let fixture = Fixture::on(database).await;
    let workspace = fixture.workspace.endpoint("ops", &fixture.receiver.url("/ops"), OPS);
    Fixture { workspace, ..fixture }
}

/// One more endpoint. One that fails is at a receiver of its own, so that nobody else's host suffers.
fn add(fixture: Fixture, receiver: &Receiver, name: &str, more: &str) -> Fixture {
    let url = receiver.url(&format!("/{name}"));
    let workspace = fixture.workspace.endpoint(name, &url, more);
    Fixture { workspace, ..fixture }
}

/// The first report of this name that fits.
async fn report(receiver: &Receiver, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(PATIENCE, name, async || {
        let events = receiver.requests_to("/ops").into_iter().map(|request| request.json());
        events.into_iter().find(|event| event["event"] == name && fits(&event["data"]))
    })
    .await
}

/// The names of all events that came to a path.
fn names(receiver: &Receiver, path: &str) -> Vec<String> {
    let requests = receiver.requests_to(path);
    requests.iter().map(|r| r.json()["event"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_endpoint_and_a_dead_delivery_are_told_to_who_asked() {
    let fixture = told(Database::create().await).await;
    let bad = Receiver::start().await;
    let fixture = add(fixture, &bad, "gone", "");
    let fixture = add(fixture, &bad, "failing", "retry = { schedule = ['50ms'], jitter = 0 }");
    bad.answer(|request| Answer::Status(if request.path == "/gone" { 410 } else { 500 }));
    let daemon = fixture.start().await;
    fixture.insert("Ada").await;

    let disabled = report(&fixture.receiver, "walhook.endpoint.disabled", |_| true).await;
    assert_eq!(disabled["data"]["endpoint"], "gone");
    assert!(disabled["data"]["reason"].as_str().unwrap().contains("410"), "{disabled}");
    let source = serde_json::json!({"database": fixture.database.name(), "capture": "walhook"});
    assert_eq!(disabled["source"], source);
    let dead = report(&fixture.receiver, "walhook.delivery.dead", |_| true).await;
    let failed = bad.requests_to("/failing")[0].json();
    assert_eq!(dead["data"]["endpoint"], "failing");
    assert_eq!(dead["data"]["attempts"], 2);
    assert_eq!(dead["data"]["event"]["id"], failed["id"]);
    assert_eq!(dead["data"]["event"]["name"], "person.created");
    assert!(dead["data"]["error"].as_str().unwrap().contains("500"), "{dead}");
    // Nobody else hears of it, though they asked for everything.
    fixture.insert("Grace").await;
    eventually(PATIENCE, "both changes", async || {
        (names(&fixture.receiver, "/").len() >= 2).then_some(())
    })
    .await;
    daemon.stop().await;
    assert_eq!(names(&fixture.receiver, "/"), ["person.created", "person.created"]);
    assert!(names(&bad, "/failing").iter().all(|name| name == "person.created"));
    fixture.receiver.assert_all_signed();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_and_recovers_is_told() {
    let bad = Receiver::start().await;
    let fixture = add(told(Database::create().await).await, &bad, "failing", "");
    bad.answer(|_| Answer::Status(500));
    let daemon = fixture.start().await;
    fixture.insert("Ada").await;
    let failing = report(&fixture.receiver, "walhook.endpoint.failing", |_| true).await;
    assert_eq!(failing["data"]["endpoint"], "failing");
    bad.answer(|_| Answer::Status(200));
    let recovered = report(&fixture.receiver, "walhook.endpoint.recovered", |_| true).await;
    assert_eq!(recovered["data"]["endpoint"], "failing");
    assert_eq!(recovered["data"]["since"], failing["data"]["since"]);
    daemon.stop().await;
    let reports = names(&fixture.receiver, "/ops");
    assert_eq!(reports, ["walhook.endpoint.failing", "walhook.endpoint.recovered"]);
}

/// A receiver of reports that fails itself must not be told of that for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_dies_begets_none() {
    let fixture = Fixture::new().await;
    let more = format!("{OPS}\nretry = {{ schedule = ['50ms'], jitter = 0 }}");
    let (ops, bad) = (Receiver::start().await, Receiver::start().await);
    let fixture = add(fixture, &ops, "ops", &more);
    let fixture = add(fixture, &bad, "failing", "retry = { schedule = ['50ms'], jitter = 0 }");
    ops.answer(|_| Answer::Status(500));
    bad.answer(|_| Answer::Status(500));
    let daemon = fixture.start().await;
    fixture.insert("Ada").await;
    let dead = |endpoint: &'static str| {
        let workspace = &fixture.workspace;
        async move || {
            let status = workspace.run(&["status", "--json"]).await;
            let status: Value = serde_json::from_str(&status.stdout).ok()?;
            let endpoints = status["endpoints"].as_array()?;
            let endpoint = endpoints.iter().find(|its| its["name"] == endpoint)?;
            (endpoint["dead"].as_u64()? > 0).then_some(())
        }
    };
    eventually(PATIENCE, "the report is dead", dead("ops")).await;
    daemon.stop().await;
    let reports = names(&ops, "/ops");
    let dead = reports.iter().filter(|name| *name == "walhook.delivery.dead").count();
    assert_eq!(dead, 2, "one, tried twice: {reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_the_server_keeps_is_told_and_that_it_is_gone() {
    let cluster = own_cluster(Options::new()).await;
    let fixture = told(Database::create_on(&cluster, "crm").await).await;
    let workspace = fixture.workspace.toml("[source]\nlag_warning = '1MiB'");
    let fixture = Fixture { workspace, ..fixture };
    let daemon = fixture.start().await;
    // The server keeps the log from the beginning of the oldest open transaction on.
    let open = fixture.database.client().await;
    open.batch_execute("begin; insert into person (name) values ('slow')").await.unwrap();
    let noise = "create table noise as select repeat('x', 1000) from generate_series(1, 5000)";
    fixture.database.execute(noise).await;
    let lag = report(&fixture.receiver, "walhook.slot.lag", |_| true).await;
    let data = &lag["data"];
    assert_eq!((&data["slot"], &data["recovered"]), (&Value::from("crm"), &Value::from(false)));
    assert_eq!(data["limitBytes"], 1 << 20);
    assert!(data["retainedBytes"].as_u64().unwrap() > 1 << 20, "{lag}");
    daemon.says("keeps much log for the slot", PATIENCE).await;

    open.batch_execute("commit").await.unwrap();
    let recovered = eventually(2 * PATIENCE, "the log is gone", async || {
        // Lets the server notice that nothing is open any more.
        fixture.database.execute("checkpoint").await;
        let events = fixture.receiver.requests_to("/ops").into_iter().map(|r| r.json());
        events.into_iter().find(|event| event["data"]["recovered"] == true)
    })
    .await;
    assert!(recovered["data"]["retainedBytes"].as_u64().unwrap() < 1 << 20, "{recovered}");
    daemon.says("keeps little log for the slot again", PATIENCE).await;
    daemon.stop().await;
    assert_eq!(names(&fixture.receiver, "/ops"), ["walhook.slot.lag", "walhook.slot.lag"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_retention_takes_are_a_gap() {
    let fixture = told(Database::create().await).await;
    let bad = Receiver::start().await;
    bad.answer(|_| Answer::Status(410));
    let fixture = add(fixture, &bad, "gone", "");
    let fixture = add(fixture, &bad, "indifferent", "events = ['company.*']");
    let workspace = fixture.workspace.toml("[journal]\nretain = '10s'");
    let fixture = Fixture { workspace, ..fixture };
    let daemon = fixture.start().await;
    fixture
        .database
        .execute("insert into person (name) select 'x' from generate_series(1, 20)")
        .await;
    let gap = report(&fixture.receiver, "walhook.gap", |_| true).await;
    assert_eq!(gap["data"]["endpoint"], "gone");
    let events = gap["data"]["events"].as_u64().unwrap();
    assert!((1..=20).contains(&events), "{gap}");
    assert!(gap["data"]["reason"].as_str().unwrap().contains("journal.retain"), "{gap}");
    daemon.says("endpoint=\"gone\" dropped=", PATIENCE).await;
    daemon.stop().await;
    for request in fixture.receiver.requests_to("/ops") {
        let event = request.json();
        assert!(event["event"] != "walhook.gap" || event["data"]["endpoint"] == "gone", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_was_accepted_is_a_gap() {
    let fixture = told(Database::create().await).await;
    fixture.run_once().await;
    drop_slot(&fixture).await;
    fixture.insert("lost").await;
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    let client = fixture.database.client().await;
    let before = slot_state(&client, fixture.slot()).await.and_then(|state| state.reader);
    let daemon = Daemon::spawn(fixture.workspace.command(&["run", "--accept-gap"]));
    daemon.streams(&client, fixture.slot(), before).await;
    let gap = report(&fixture.receiver, "walhook.gap", |_| true).await;
    let reason = gap["data"]["reason"].as_str().unwrap();
    assert!(reason.contains("accepted") && reason.contains("the slot has moved to"), "{gap}");
    assert!(!reason.contains("--accept-gap"), "nothing is left to be done: {gap}");
    assert_eq!(gap["data"].as_object().unwrap().len(), 1, "{gap}");
    daemon.stop().await;
    // It is said once, and the stream goes on.
    let daemon = fixture.start().await;
    fixture.insert("afterwards").await;
    eventually(PATIENCE, "the change afterwards", async || {
        let requests = fixture.receiver.requests_to("/");
        requests.iter().any(|r| r.json()["data"]["name"] == "afterwards").then_some(())
    })
    .await;
    daemon.stop().await;
    assert_eq!(names(&fixture.receiver, "/ops"), ["walhook.gap"]);
}
