//! Conditions (`when`) over real changes, with and without old values.

use std::time::Duration;

use crate::harness::{Capture, Receiver, Workspace, under_both_captures};

under_both_captures!(conditions_pick_from_what_is_known_of_a_change);

const PATIENCE: Duration = Duration::from_secs(60);

/// Endpoint, its condition, and the events it is to get from a slot, each as `<event> <id>`. The
/// endpoint that gets everything comes last.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "changed",
        "event.endsWith('.updated') && 'email' in updatedFields",
        &["full.updated 1", "full.updated 3"],
    ),
    (
        "from",
        "has(previous.email) && previous.email == 'ann@a.example'",
        // Of a delete there is no `previous`: what was is in `data`.
        &["full.updated 1"],
    ),
    (
        "gone",
        "event.endsWith('.deleted') && data.email == 'new@a.example'",
        // Of the other table only the key is known.
        &["full.deleted 1"],
    ),
    // Null is a value, and no number.
    (
        "null",
        "data.email == null && event.endsWith('.created')",
        &["full.created 2", "plain.created 2"],
    ),
    (
        "old",
        "data.age > 40",
        &[
            "full.created 1",
            "full.deleted 1",
            "full.updated 1",
            "plain.created 1",
            "plain.updated 1",
        ],
    ),
    // More digits than a double has: a text, which is no number, and equals none.
    (
        "exact",
        "data.pay == '12345678901234567890.5'",
        &["full.created 3", "full.updated 3", "plain.created 3", "plain.updated 3"],
    ),
    ("number", "data.pay > 2.0", &[]),
    (
        "in",
        "'x' in data.tags",
        &[
            "full.created 1",
            "full.deleted 1",
            "full.updated 1",
            "plain.created 1",
            "plain.updated 1",
        ],
    ),
    (
        "time",
        "timestamp(data.at) > timestamp('2025-01-01T00:00:00Z') && event.endsWith('.created')",
        &["full.created 1", "plain.created 1"],
    ),
    ("table", "source.table == 'plain' && event.endsWith('.deleted')", &["plain.deleted 1"]),
];

/// The events a case expects. Triggers see all of both rows, so that one table is like the other.
fn expected(capture: Capture, of_slot: &[&str]) -> Vec<String> {
    let mut expected: Vec<String> = of_slot.iter().map(|&event| event.to_owned()).collect();
    if capture == Capture::Outbox {
        let full = of_slot.iter().filter(|event| event.starts_with("full."));
        expected.extend(full.map(|event| event.replacen("full", "plain", 1)));
    }
    expected.sort();
    expected.dedup();
    expected
}

async fn conditions_pick_from_what_is_known_of_a_change(capture: Capture) {
    let database = capture.database().await;
    let receiver = Receiver::start().await;
    let mut workspace = Workspace::new(&database);
    for table in ["full", "plain"] {
        let create = format!(
            "create table \"{table}\" (id int primary key, email text, age int, pay numeric,
                 tags jsonb, at timestamptz)"
        );
        database.execute(&create).await;
        workspace = workspace.table(&format!("public.{table}"), table);
    }
    database.execute("alter table \"full\" replica identity full").await;
    for (name, when, _) in CASES {
        let more = format!("when = \"{when}\"");
        workspace = workspace.endpoint(name, &receiver.url(&format!("/{name}")), &more);
    }
    workspace = workspace.endpoint("all", &receiver.url("/all"), "");
    workspace.run(&["check"]).await.assert(0, &[]);
    let daemon = workspace.start(&database).await;
    for table in ["full", "plain"] {
        let story = format!(
            "begin;
             insert into \"{table}\" values
                 (1, 'ann@a.example', 41, 1.5, '[\"x\", 1]', '2025-06-01T12:00:00+02'),
                 (2, null, null, null, null, null),
                 (3, 'eve@a.example', 7, 12345678901234567890.5, '\"x\"', '2024-12-31T00:00:00Z');
             update \"{table}\" set email = 'new@a.example' where id = 1;
             update \"{table}\" set email = 'ev@a.example' where id = 3;
             delete from \"{table}\" where id = 1;
             commit"
        );
        database.execute(&story).await;
    }
    let expected = |of_slot: &[&str]| expected(capture, of_slot);
    let due = 12 + CASES.iter().map(|(_, _, events)| expected(events).len()).sum::<usize>();
    receiver.wait_for(due, PATIENCE).await;
    daemon.says("`when` cannot be judged", PATIENCE).await;
    let finished = daemon.stop().await;
    for (name, when, of_slot) in CASES {
        let expected = expected(of_slot);
        let requests = receiver.requests_to(&format!("/{name}"));
        let mut events: Vec<_> = requests
            .iter()
            .map(|request| {
                let event = request.json();
                format!("{} {}", event["event"].as_str().unwrap(), event["data"]["id"])
            })
            .collect();
        events.sort();
        assert_eq!(events, expected, "{name}: {when}");
        // What did not match has no number: a receiver sees no gap.
        let mut numbers: Vec<u64> = requests
            .iter()
            .map(|request| request.header("webhook-sequence").unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=expected.len() as u64).collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(receiver.requests_to("/all").len(), 12);
    // Said once at the first failure, and in the end how many there were since.
    let complaints = |endpoint: &str| -> Vec<String> {
        let named = format!("endpoint=\"{endpoint}\"");
        let lines = finished.stderr.lines();
        let of_it = lines.filter(|line| line.contains("cannot be judged") && line.contains(&named));
        of_it.map(str::to_owned).collect()
    };
    let old = complaints("old");
    assert_eq!(old.len(), 2, "{}", finished.stderr);
    assert!(old[0].contains("events=1 ") && !old[0].contains("ann@"), "{old:?}");
    // Two nulls, and a delete of which the key alone is known: three in all.
    let later = match capture {
        Capture::Replication => "events=2 ",
        Capture::Outbox => "events=1 ",
    };
    assert!(old[1].contains(later), "{old:?}");
    assert!(complaints("all").is_empty() && complaints("table").is_empty());
}
