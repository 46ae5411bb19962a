//! The oldest events go.

use super::*;

#[test]
fn old_events_go_with_their_attempts_and_numbers_are_not_used_again() {
    let mut fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 3000);
    let endpoint = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap().endpoint;
    let mut settlement = Settlement::new(endpoint, Seq(2000));
    settlement.attempts = (1..=2000).map(|seq| attempt(Seq(seq), None)).collect();
    settlement.in_flight =
        vec![Listed { seq: Seq(1999), sequence: 0 }, Listed { seq: Seq(2000), sequence: 0 }];
    let waiting = OutcomeKind::Waiting { due_at_ms: 1, attempts: 1, lanes: Lanes::one(1) };
    settlement.outcomes = vec![Outcome { seq: Seq(5), sequence: 0, kind: waiting }];
    settlement.parks = vec![Park { seq: Seq(6), sequence: 0, attempts: 0, lanes: Lanes::one(1) }];
    block_on(journal.settle(settlement)).unwrap();
    writer.stop().unwrap();
    drop(journal);

    fixture.options.retain = Duration::from_millis(100);
    let (journal, writer) = fixture.open();
    eventually("all are gone", || fixture.reader().status().unwrap().events.count == 0);
    eventually("so are the attempts", || fixture.reader().attempts(1).unwrap().is_empty());
    let status = fixture.reader().status().unwrap();
    // A thousand it had not reached, one waiting and one blocked.
    assert_eq!(status.endpoints[0].dropped, 1002);
    assert_eq!((status.endpoints[0].waiting, status.endpoints[0].blocked), (0, 0));
    assert_eq!(status.events.last_seq, Seq(3000));
    let state = block_on(journal.register_endpoint("one", Start::Now)).unwrap();
    assert_eq!((state.in_flight, state.parked), (vec![], vec![]));

    // The retry that was in hand meanwhile fails again: there is nothing to retry any more.
    let mut settlement = Settlement::new(endpoint, Seq(3000));
    settlement.outcomes = vec![Outcome { seq: Seq(5), sequence: 0, kind: waiting }];
    let settled = block_on(journal.settle(settlement)).unwrap();
    assert_eq!(settled.next_due_ms, None);
    // With the two that were on their way when the endpoint was last served.
    assert_eq!(fixture.reader().status().unwrap().endpoints[0].dropped, 1005);
    writer.stop().unwrap();
    drop(journal);
    fixture.options.retain = Duration::from_secs(3600);
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 3001, 1);
    assert_eq!(journal.tail().last_seq(), Seq(3001));
    let page = block_on(journal.page(Seq(0), 10, 1 << 20)).unwrap();
    assert_eq!((page.first_seq(), page.len()), (Seq(3001), 1));
}

#[test]
fn what_is_younger_stays() {
    let mut fixture = Fixture::new();
    fixture.options.retain = Duration::from_secs(3600);
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 3000);
    // The first two segments were journaled long ago.
    execute(&journal, "UPDATE segments SET journaled_at_ms = 1 WHERE last_seq <= 2048").unwrap();
    let kept = || fixture.reader().status().unwrap().events;
    eventually("the old ones are gone", || kept().first_seq == Some(Seq(2049)));
    assert_eq!(kept().count, 952);
    assert_eq!(block_on(journal.find_event(id_at(2048))).unwrap(), None);
    assert_eq!(block_on(journal.find_event(id_at(2049))).unwrap(), Some(Seq(2049)));
}

#[test]
fn the_file_stays_below_its_limit_under_load() {
    let mut fixture = Fixture::new();
    fixture.options.max_size_bytes = 2 << 20;
    let (journal, _writer) = fixture.open();
    let endpoint = block_on(journal.register_endpoint("slow", Start::Earliest)).unwrap().endpoint;
    let mut first = 1;
    for _ in 0..40 {
        append(&journal, append_of(first, 1000, |n| Lanes::one(n as i64)));
        first += 1000;
    }
    journal.make_durable().unwrap();
    let status = || fixture.reader().status().unwrap();
    eventually("the size is below the limit", || status().size_bytes <= 2 << 20);
    let status = status();
    assert!(status.events.count > 1000, "only what is needed goes: {:?}", status.events);
    assert_eq!(status.events.last_seq, Seq(40_000));
    // Nothing is lost uncounted.
    assert_eq!(status.endpoints[0].dropped + status.events.count, 40_000);
    let page = block_on(journal.page(Seq(0), 10, 1 << 20)).unwrap();
    assert_eq!(Some(page.first_seq()), status.events.first_seq);
    block_on(journal.settle(Settlement::new(endpoint, Seq(40_000)))).unwrap();
}

#[test]
fn what_was_blocked_behind_a_pruned_one_is_due() {
    let mut fixture = Fixture::new();
    fixture.options.retain = Duration::from_secs(3600);
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 2000);
    let endpoint = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap().endpoint;
    let mut settlement = Settlement::new(endpoint, Seq(2000));
    let due_at_ms = now() + 3_600_000;
    let kind = OutcomeKind::Waiting { due_at_ms, attempts: 1, lanes: Lanes::one(1) };
    settlement.outcomes = vec![Outcome { seq: Seq(7), sequence: 0, kind }];
    settlement.parks =
        vec![Park { seq: Seq(1500), sequence: 0, attempts: 0, lanes: Lanes::one(1) }];
    block_on(journal.settle(settlement)).unwrap();
    execute(&journal, "UPDATE segments SET journaled_at_ms = 1 WHERE last_seq <= 1024").unwrap();
    eventually("the blocked one is due", || {
        let due = block_on(journal.due(endpoint, now(), 10)).unwrap();
        due.deliveries.iter().map(|delivery| delivery.seq).eq([Seq(1500)])
    });
}
