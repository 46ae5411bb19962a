//! What people order.

use super::*;

pub(super) const BASE_US: i64 = 1_700_000_000_000_000;

/// Carries out one order for all it concerns, and says what came of it.
pub(super) fn carry_out(fixture: &Fixture, journal: &Journal, wish: &Wish) -> OrderResult {
    let id = give_order(&fixture.path(), wish).unwrap();
    assert!(fixture.reader().order(id).unwrap().is_none());
    block_on(async {
        let orders = journal.orders().await.unwrap();
        assert_eq!(orders.last().map(|order| order.id), Some(id));
        crate::daemon::carry_out_orders(journal, &[]).await.unwrap();
        assert!(journal.orders().await.unwrap().is_empty());
    });
    fixture.reader().order(id).unwrap().unwrap()
}

pub(super) fn done(fixture: &Fixture, journal: &Journal, wish: &Wish) -> String {
    let result = carry_out(fixture, journal, wish);
    assert!(!result.failed, "{}", result.sentence);
    result.sentence
}

pub(super) fn refused(fixture: &Fixture, journal: &Journal, wish: &Wish) -> String {
    let result = carry_out(fixture, journal, wish);
    assert!(result.failed, "{}", result.sentence);
    result.sentence
}

pub(super) fn retry(endpoint: &str, chosen: Chosen) -> Wish {
    Wish::Retry { endpoint: Some(endpoint.to_owned()), chosen }
}

pub(super) fn replay(since: Point, until: Option<Point>) -> Wish {
    Wish::Replay { endpoint: "one".to_owned(), since, until, events: Vec::new() }
}

pub(super) fn register(journal: &Journal, name: &str) -> EndpointState {
    block_on(journal.register_endpoint(name, Start::Earliest)).unwrap()
}

/// `count` events, of which those of `dead` are so for the endpoint that is returned; events share
/// `lanes` lanes in turn.
pub(super) fn with_dead(journal: &Journal, count: u64, lanes: u64, dead: &[i64]) -> EndpointId {
    append(journal, append_of(1, count, |n| Lanes::one((n % lanes) as i64)));
    journal.make_durable().unwrap();
    let endpoint = register(journal, "one").endpoint;
    let mut settlement = Settlement::new(endpoint, Seq(count as i64));
    settlement.outcomes = dead
        .iter()
        .map(|&seq| {
            let lanes = Lanes::one(seq % lanes as i64);
            let kind = OutcomeKind::Dead { attempts: 9, lanes };
            Outcome { seq: Seq(seq), sequence: seq as u64, kind }
        })
        .collect();
    block_on(journal.settle(settlement)).unwrap();
    endpoint
}

pub(super) fn states(fixture: &Fixture) -> Vec<(i64, &'static str, u32)> {
    let filter = DeliveryFilter { limit: 100_000, ..DeliveryFilter::default() };
    let (entries, more) = fixture.reader().deliveries(&filter).unwrap();
    assert!(!more);
    let number = |entry: &DeliveryEntry| entry.committed_at_us - BASE_US;
    let line =
        |entry: &DeliveryEntry| (number(entry), entry.row.state.as_str(), entry.row.attempts);
    entries.iter().map(line).collect()
}

#[test]
fn dead_letters_go_again_in_the_order_of_their_lanes() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let endpoint = with_dead(&journal, 10, 2, &[1, 2, 3, 5]);
    // 7 waits, and 9 behind it.
    let mut settlement = Settlement::new(endpoint, Seq(10));
    let kind =
        OutcomeKind::Waiting { due_at_ms: now() + 60_000, attempts: 3, lanes: Lanes::one(1) };
    settlement.outcomes = vec![Outcome { seq: Seq(7), sequence: 7, kind }];
    settlement.parks = vec![Park { seq: Seq(9), sequence: 9, attempts: 0, lanes: Lanes::one(1) }];
    block_on(journal.settle(settlement)).unwrap();

    let since_us = Some(BASE_US + 2);
    let said = done(&fixture, &journal, &retry("one", Chosen { since_us, ..Chosen::default() }));
    assert_eq!(said, "3 dead deliveries of endpoint one are sent again");
    let expected = [
        (1, "dead", 9),
        (2, "waiting", 0),
        (3, "waiting", 0),
        (5, "blocked", 0),
        (7, "blocked", 3),
        (9, "blocked", 0),
    ];
    assert_eq!(states(&fixture), expected);
    let state = register(&journal, "one");
    assert_eq!((state.waiting, state.blocked, state.dead), (2, 3, 1));
    assert_eq!(state.parked, [(0, 1), (1, 4)]);

    // One that comes back now goes before all of them.
    let ids = vec![id_at(1)];
    done(&fixture, &journal, &retry("one", Chosen { ids, ..Chosen::default() }));
    let due = block_on(journal.due(endpoint, now(), 10)).unwrap();
    let mut due: Vec<_> = due.deliveries.iter().map(|due| (due.seq.0, due.sequence)).collect();
    due.sort_unstable();
    assert_eq!(due, [(1, 1), (2, 2)], "3 waits behind 1 again");

    // Each success lets the next one go.
    for (seq, next) in [(1, 3), (3, 5), (5, 7), (7, 9)] {
        let mut settlement = Settlement::new(endpoint, Seq(10));
        let kind = OutcomeKind::Succeeded;
        settlement.outcomes = vec![Outcome { seq: Seq(seq), sequence: 0, kind }];
        assert_eq!(block_on(journal.settle(settlement)).unwrap().promoted, [Seq(next)]);
    }
}

#[test]
fn thousands_of_dead_letters_go_again_in_steps() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let dead: Vec<i64> = (1..=7_000).collect();
    with_dead(&journal, 7_000, 7, &dead);
    let wish = Wish::Retry { endpoint: None, chosen: Chosen::default() };
    assert!(done(&fixture, &journal, &wish).starts_with("7000 dead deliveries"));
    let state = register(&journal, "one");
    assert_eq!((state.waiting, state.blocked, state.dead), (7, 6_993, 0));
    assert_eq!(state.parked.len(), 7);
    assert!(states(&fixture)[..7].iter().all(|(_, state, _)| *state == "waiting"));
    assert_eq!(done(&fixture, &journal, &wish), "no delivery is dead");
}

#[test]
fn dead_letters_are_chosen_by_name_time_and_id_and_can_be_forgotten() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    with_dead(&journal, 10, 10, &[1, 2, 3, 4, 5]);
    let discard = |chosen| Wish::Discard { endpoint: Some("one".to_owned()), chosen };
    let named = |name: &str| Chosen { events: vec![name.to_owned()], ..Chosen::default() };
    assert!(done(&fixture, &journal, &discard(named("note.*"))).starts_with("no dead delivery"));
    let (since_us, until_us) = (Some(BASE_US + 2), Some(BASE_US + 3));
    let both = Chosen { since_us, until_us, ..named("person.*") };
    let said = done(&fixture, &journal, &discard(both));
    assert_eq!(said, "2 dead deliveries of endpoint one are forgotten");
    let one = Chosen { ids: vec![id_at(5)], ..Chosen::default() };
    done(&fixture, &journal, &discard(one));
    assert_eq!(states(&fixture), [(1, "dead", 9), (4, "dead", 9)]);
    let wrong = refused(&fixture, &journal, &discard(named("a..b")));
    assert!(wrong.contains("a..b"), "{wrong}");
    let unknown = refused(&fixture, &journal, &retry("two", Chosen::default()));
    assert!(unknown.contains("no endpoint two"), "{unknown}");
}

#[test]
fn a_replay_of_nothing_is_refused() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let endpoint = register(&journal, "one").endpoint;
    let empty = refused(&fixture, &journal, &replay(Point::Earliest, None));
    assert!(empty.contains("keeps no event"), "{empty}");
    append_durably(&journal, 1, 10);
    let ahead = refused(&fixture, &journal, &replay(Point::Earliest, None));
    assert!(ahead.contains("not been given any"), "{ahead}");
    block_on(journal.settle(Settlement::new(endpoint, Seq(10)))).unwrap();
    let late = refused(&fixture, &journal, &replay(Point::Time(BASE_US + 11), None));
    assert!(late.contains("not been given any"), "{late}");
    let backwards = replay(Point::Time(BASE_US + 7), Some(Point::Time(BASE_US + 5)));
    let backwards = refused(&fixture, &journal, &backwards);
    assert!(backwards.contains("between"), "{backwards}");
    let unknown = refused(&fixture, &journal, &replay(Point::Event(id_at(99)), None));
    assert!(unknown.contains("oldest still kept") && unknown.contains(&id_at(1).to_string()));
}

#[test]
fn what_a_replay_repeats_is_not_lost_when_it_goes() {
    let mut fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    let endpoint = with_dead(&journal, 3_000, 10, &[]);
    let mut settlement = Settlement::new(endpoint, Seq(2_900));
    settlement.in_flight = vec![Listed { seq: Seq(5), sequence: 5 }];
    // The endpoint was turned back and then taken out of the configuration.
    execute(&journal, "UPDATE endpoints SET cursor = 2900").unwrap();
    block_on(journal.settle(settlement)).unwrap();
    done(&fixture, &journal, &replay(Point::Earliest, None));
    writer.stop().unwrap();
    drop(journal);
    fixture.options.retain = Duration::from_millis(100);
    let (_journal, _writer) = fixture.open();
    eventually("all are gone", || fixture.reader().status().unwrap().events.count == 0);
    // A hundred that were never taken, and the one that was on its way.
    assert_eq!(fixture.reader().status().unwrap().endpoints[0].dropped, 101);
}

#[test]
fn what_was_on_its_way_when_it_was_lost_is_counted() {
    let mut fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    let endpoint = with_dead(&journal, 3_000, 10, &[]);
    let mut settlement = Settlement::new(endpoint, Seq(3_000));
    settlement.in_flight = vec![Listed { seq: Seq(5), sequence: 5 }];
    block_on(journal.settle(settlement)).unwrap();
    writer.stop().unwrap();
    drop(journal);
    fixture.options.retain = Duration::from_millis(100);
    let (journal, _writer) = fixture.open();
    eventually("all are gone", || fixture.reader().status().unwrap().events.count == 0);
    for _ in 0..2 {
        assert_eq!(register(&journal, "one").in_flight, []);
        assert_eq!(fixture.reader().status().unwrap().endpoints[0].dropped, 1);
    }
}

#[test]
fn endpoints_are_switched_off_and_on_and_forgotten() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let endpoint = with_dead(&journal, 20, 20, &[1]);
    let mut settlement = Settlement::new(endpoint, Seq(20));
    let outcome = |seq: i64| {
        let due_at_ms = now() + 3_600_000;
        let kind = OutcomeKind::Waiting { due_at_ms, attempts: 1, lanes: Lanes::one(seq) };
        Outcome { seq: Seq(seq), sequence: 0, kind }
    };
    settlement.outcomes = (2..=5).map(outcome).collect();
    settlement.attempts = vec![attempt(Seq(2), Some("no"))];
    block_on(journal.settle(settlement)).unwrap();
    let named = || "one".to_owned();
    let reason = "the receiver moves".to_owned();
    done(&fixture, &journal, &Wish::Disable { endpoint: named(), reason });
    let state = register(&journal, "one");
    assert_eq!(state.disabled.as_deref(), Some("the receiver moves"));
    assert!(state.failing_since_ms.is_some());
    let said = done(&fixture, &journal, &retry("one", Chosen::default()));
    assert!(said.contains("once it is enabled"), "{said}");

    let said = done(&fixture, &journal, &Wish::Enable { endpoint: named() });
    assert!(said.contains("enabled again") && said.contains("4 deliveries"), "{said}");
    let state = register(&journal, "one");
    assert_eq!((state.disabled, state.failing_since_ms), (None, None));
    assert_eq!(block_on(journal.due(endpoint, now(), 10)).unwrap().deliveries.len(), 5);
    let said = done(&fixture, &journal, &Wish::Enable { endpoint: named() });
    assert!(said.contains("already"), "{said}");

    let said = done(&fixture, &journal, &Wish::Forget { endpoint: named() });
    assert!(said.contains("forgotten, and 5 deliveries"), "{said}");
    assert!(fixture.reader().status().unwrap().endpoints.is_empty());
    let state = register(&journal, "one");
    assert_eq!((state.cursor, state.waiting, state.dead), (Seq(0), 0, 0));
    assert!(fixture.reader().attempts(1).unwrap().is_empty());
}

#[test]
fn an_order_of_a_newer_walhook_is_refused_not_waited_for() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let sql = "INSERT INTO orders (given_at_ms, wish) VALUES (1, '{\"order\":\"dance\"}')";
    execute(&journal, sql).unwrap();
    block_on(crate::daemon::carry_out_orders(&journal, &[])).unwrap();
    let result = fixture.reader().order(1).unwrap().unwrap();
    assert!(result.failed && result.sentence.contains("dance"), "{}", result.sentence);
}

#[test]
fn orders_are_given_while_the_journal_is_written() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    register(&journal, "one");
    let path = fixture.path();
    let giver = std::thread::spawn(move || {
        for _ in 0..50 {
            give_order(&path, &Wish::Enable { endpoint: "one".to_owned() }).unwrap();
        }
    });
    for n in 0..200 {
        append(&journal, append_of(1 + n * 10, 10, |_| Lanes::NONE));
    }
    giver.join().unwrap();
    journal.make_durable().unwrap();
    assert_eq!(journal.trouble().map(|error| error.to_string()), None);
    block_on(crate::daemon::carry_out_orders(&journal, &[])).unwrap();
    for order in 1..=50 {
        assert!(!fixture.reader().order(order).unwrap().unwrap().failed);
    }
}

#[test]
fn an_endpoint_starts_behind_an_event() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 2_000);
    let start = |name: &str, n| block_on(journal.register_endpoint(name, Start::AfterId(id_at(n))));
    assert_eq!(start("one", 1_234).unwrap().cursor, Seq(1_234));
    let error = start("two", 2_001).unwrap_err();
    assert!(error.is_unknown_start(), "{error}");
    let said = error.to_string();
    assert!(said.contains(&id_at(1).to_string()) && said.contains("earliest"), "{said}");
    // Once it is known, its place counts, whatever the start.
    assert_eq!(start("one", 2_001).unwrap().cursor, Seq(1_234));
}

#[test]
fn an_event_is_shown_with_its_attempts() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let endpoint = with_dead(&journal, 10, 10, &[3]);
    let mut settlement = Settlement::new(endpoint, Seq(10));
    let mut batch = attempt(Seq(1), Some("no"));
    batch.others = vec![Seq(2), Seq(3)];
    batch.head = Some("HTTP/1.1 500 No".to_owned());
    settlement.attempts = vec![batch, attempt(Seq(3), Some("no again")), attempt(Seq(4), None)];
    block_on(journal.settle(settlement)).unwrap();
    block_on(journal.register_endpoint("two", Start::After(Seq(2)))).unwrap();

    let event = fixture.reader().event(id_at(3)).unwrap().unwrap();
    assert_eq!((event.seq, event.name.as_str()), (Seq(3), "person.created"));
    assert_eq!(event.body, body_of(3));
    let errors: Vec<_> = event.attempts.iter().map(|a| a.error.as_deref()).collect();
    assert_eq!(errors, [Some("no"), Some("no again")]);
    assert_eq!(event.attempts[0].others, [Seq(2), Seq(3)]);
    assert_eq!(event.attempts[0].head.as_deref(), Some("HTTP/1.1 500 No"));
    assert_eq!(event.endpoints.len(), 2);
    assert!(
        matches!(event.endpoints[0].1, Standing::Listed(row) if row.state == DeliveryState::Dead)
    );
    assert_eq!(event.endpoints[1], ("two".to_owned(), Standing::Ahead));
    let event = fixture.reader().event(id_at(4)).unwrap().unwrap();
    assert_eq!(event.endpoints[0].1, Standing::Done);
    assert!(fixture.reader().event(id_at(99)).unwrap().is_none());
}
