//! Events that walhook makes itself.

use std::collections::{BTreeSet, HashMap};

use crate::event::EventFilter;
use crate::journal::emit::QUEUED_REPORTS;

use super::*;

fn disabled(endpoint: &str) -> Report {
    Report::EndpointDisabled { endpoint: endpoint.to_owned(), reason: "it said 410".to_owned() }
}

fn identity() -> SourceIdentity {
    SourceIdentity {
        system_identifier: 7,
        database_oid: 5,
        database: "crm".to_owned(),
        timeline: 1,
        capture: CaptureKind::Replication,
        slot: "walhook".to_owned(),
    }
}

/// Name and envelope of every event, in order.
fn all(journal: &Journal) -> Vec<(String, serde_json::Value)> {
    let page = block_on(journal.page(Seq(0), usize::MAX, usize::MAX)).unwrap();
    let events = page.events();
    let json = |event| serde_json::from_slice(events.body(event)).unwrap();
    events.events().iter().map(|event| (event.name.to_string(), json(event))).collect()
}

fn filters(of: &[(&str, &[&str])]) -> HashMap<String, EventFilter> {
    let filter = |patterns: &&[&str]| EventFilter::new(patterns.iter()).unwrap();
    of.iter().map(|(name, patterns)| ((*name).to_owned(), filter(patterns))).collect()
}

#[test]
fn only_who_asks_is_told() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    journal.report(disabled("one"));
    journal.want_reports(true);
    journal.report(disabled("two"));
    journal.report(Report::DeliveryDead {
        endpoint: "ops".to_owned(),
        id: id_at(1),
        event: "walhook.delivery.dead".to_owned(),
        attempts: 1,
        error: "no".to_owned(),
    });
    journal.want_reports(false);
    journal.report(disabled("three"));
    writer.stop().unwrap();
    journal.report(disabled("four"));
    drop(journal);
    let (journal, _writer) = fixture.open();
    let all = all(&journal);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].1["data"]["endpoint"], "two");
}

#[test]
fn a_report_may_be_the_first_event_of_all() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    journal.want_reports(true);
    let mut watcher = journal.tail().watch();
    journal.report(disabled("one"));
    assert_eq!(block_on(watcher.changed()), Seq(1));
    assert_eq!(journal.tail().get(Seq(0)).unwrap().len(), 1);
    assert_eq!((journal.checkpoint(), journal.durable_lsn()), (None, Lsn::ZERO));
    writer.stop().unwrap();
    drop(journal);

    let (journal, _writer) = fixture.open();
    assert_eq!((journal.checkpoint(), journal.tail().last_seq()), (None, Seq(1)));
    let all_before = all(&journal);
    assert_eq!(all_before[0].0, "walhook.endpoint.disabled");
    assert_eq!(all_before[0].1["source"]["database"], serde_json::Value::Null);
    append_durably(&journal, 1, 1);
    assert_eq!(journal.tail().last_seq(), Seq(2));
    assert_eq!(block_on(journal.find_event(id_at(1))).unwrap(), Some(Seq(2)));
}

#[test]
fn reports_among_changes_leave_the_checkpoint_where_it_is() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    journal.want_reports(true);
    journal.set_identity(identity()).unwrap();
    for round in 0..20 {
        append(&journal, append_of(1 + round * 100, 100, |n| Lanes::one(n as i64)));
        journal.report(disabled("one"));
        journal.report(disabled("two"));
    }
    eventually("all are written", || journal.tail().last_seq() == Seq(2_040));
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(2_000)));
    journal.report(disabled("one"));
    eventually("alone, too", || journal.tail().last_seq() == Seq(2_041));
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(2_000)));
    writer.stop().unwrap();
    assert_eq!(journal.durable_lsn(), Lsn(20_000));
    drop(journal);

    let (journal, _writer) = fixture.open();
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(2_000)));
    let all = all(&journal);
    let changes = all.iter().filter(|(name, _)| name == "person.created");
    assert!(changes.map(|(_, event)| event["data"]["n"].as_u64().unwrap()).eq(1..=2_000));
    let reports: Vec<_> = all.iter().filter(|(name, _)| name != "person.created").collect();
    assert_eq!(reports.len(), 41);
    let ids: BTreeSet<_> = reports.iter().map(|(_, event)| event["id"].to_string()).collect();
    assert_eq!(ids.len(), 41);
    assert_eq!(reports[0].1["source"], serde_json::json!({"database":"crm","capture":"walhook"}));
    // They are found by their id like any other, and share a lane with those about the same endpoint.
    let id: EventId = reports[7].1["id"].as_str().unwrap().parse().unwrap();
    let seq = block_on(journal.find_event(id)).unwrap().unwrap();
    let found = block_on(journal.load(&[seq])).unwrap();
    assert_eq!((found[0].id, &*found[0].name), (id, "walhook.endpoint.disabled"));
    assert_eq!(found[0].lanes, disabled("two").lanes());
    assert_ne!(disabled("one").lanes(), disabled("two").lanes());
}

#[test]
fn reports_wait_for_a_full_disk_and_are_bounded() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    journal.want_reports(true);
    append_durably(&journal, 1, 10);
    execute(&journal, "PRAGMA max_page_count = 1").unwrap();
    append(&journal, append_of(11, 2_000, |_| Lanes::NONE));
    eventually("the trouble is told", || journal.trouble().is_some());
    // Besides those that wait, the writer may hold as many that it could not write.
    for _ in 0..5 * QUEUED_REPORTS {
        journal.report(disabled("one"));
    }
    execute(&journal, "PRAGMA max_page_count = 1073741823").unwrap();
    let last = || journal.tail().last_seq().0;
    eventually("the events are there", || last() >= 2_010 + QUEUED_REPORTS as i64);
    journal.make_durable().unwrap();
    writer.stop().unwrap();
    let reports = last() - 2_010;
    assert!(reports <= 2 * QUEUED_REPORTS as i64, "{reports}");
}

#[test]
fn what_retention_takes_is_counted_by_what_was_wanted_and_said_once() {
    let mut fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 100);
    for name in ["people", "companies", "ops", "gone"] {
        block_on(journal.register_endpoint(name, Start::Earliest)).unwrap();
    }
    writer.stop().unwrap();
    drop(journal);

    fixture.options.retain = Duration::from_secs(5);
    let (journal, writer) = fixture.open();
    journal.set_filters(filters(&[
        ("people", &["person.*"]),
        ("companies", &["company.*"]),
        ("ops", &["walhook.*"]),
    ]));
    journal.want_reports(true);
    let events = || fixture.reader().status().unwrap().events;
    eventually("the changes are gone", || events().first_seq.is_none_or(|first| first.0 > 100));
    // "ops" is behind, too: the reports it loses must not make new ones.
    eventually("the reports are there", || events().last_seq == Seq(102));
    eventually("the reports are gone", || events().count == 0);
    writer.stop().unwrap();
    assert_eq!(events().last_seq, Seq(102), "one for each that lost changes");
    let status = fixture.reader().status().unwrap();
    let dropped: Vec<_> = status.endpoints.iter().map(|e| (&*e.name, e.dropped)).collect();
    assert_eq!(dropped, [("companies", 0), ("gone", 100), ("ops", 2), ("people", 100)]);
}
