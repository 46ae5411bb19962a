//! Events in, events out, outcomes back.

use super::*;

#[test]
fn events_come_out_as_they_went_in_from_the_tail_and_from_pages() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    assert_eq!(journal.checkpoint(), None);
    assert_eq!(journal.durable_lsn(), Lsn::ZERO);
    append(&journal, append_of(1, 2, |n| Lanes::two(n as i64, -1)));
    append(&journal, append_of(3, 1, |_| Lanes::NONE));
    journal.make_durable().unwrap();
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(3)));
    assert_eq!(journal.durable_lsn(), Lsn(30));
    assert_eq!(journal.tail().last_seq(), Seq(3));

    let from_tail = journal.tail().get(Seq(1)).unwrap();
    let page = block_on(journal.page(Seq(0), 100, 1 << 20)).unwrap();
    assert_eq!((page.first_seq(), page.last_seq(), page.len()), (Seq(1), Seq(3), 3));
    let numbers: Vec<_> = page.after(Seq(1)).map(|(seq, event)| (seq, event.id)).collect();
    assert_eq!(numbers, [(Seq(2), id_at(2)), (Seq(3), id_at(3))]);
    let second = page.get(Seq(2)).unwrap();
    let same = from_tail.get(Seq(2)).unwrap();
    assert_eq!((second.id, &*second.name), (same.id, "person.created"));
    assert_eq!((&second.body[..], second.lanes), (&body_of(2)[..], Lanes::two(2, -1)));
    assert_eq!((&same.body[..], same.lanes), (&body_of(2)[..], Lanes::two(2, -1)));
    assert_eq!(second.committed_at_us, same.committed_at_us);
    assert_eq!(page.get(Seq(3)).unwrap().lanes, Lanes::NONE);
    assert!(page.get(Seq(4)).is_none() && page.get(Seq(0)).is_none());

    let loaded = block_on(journal.load(&[Seq(3), Seq(99), Seq(1)])).unwrap();
    assert_eq!(loaded.iter().map(|event| event.seq).collect::<Vec<_>>(), [Seq(3), Seq(1)]);
    assert_eq!(loaded[1].body, body_of(1));
    writer.stop().unwrap();
}

#[test]
fn pages_are_bounded_by_events_and_bytes_and_never_empty_without_need() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 20);
    let length = |after, events, bytes| {
        let page = block_on(journal.page(Seq(after), events, bytes)).unwrap();
        (page.first_seq().0, page.len())
    };
    assert_eq!(length(0, 7, 1 << 20), (1, 7));
    assert_eq!(length(7, 100, body_of(1).len() * 3 + 5), (8, 3));
    assert_eq!(length(7, 100, 0), (8, 1));
    assert_eq!(length(20, 100, 1 << 20), (21, 0));
}

#[test]
fn a_restart_goes_on_where_the_last_one_ended() {
    let fixture = Fixture::new();
    let identity = SourceIdentity {
        system_identifier: u64::MAX - 5,
        database_oid: u32::MAX,
        database: "c\"rm".to_owned(),
        timeline: 3,
        capture: CaptureKind::Outbox,
        slot: "walhook".to_owned(),
    };
    let (journal, writer) = fixture.open();
    assert_eq!(journal.identity(), None);
    journal.set_identity(identity.clone()).unwrap();
    append_durably(&journal, 1, 5);
    append(&journal, Append { checkpoint: checkpoint_at(9), ..Append::default() });
    writer.stop().unwrap();
    assert!(journal.set_identity(identity.clone()).unwrap_err().is_closed());
    assert!(journal.append(Append::default(), Instant::now()).unwrap_err().is_closed());
    drop(journal);

    let (journal, _writer) = fixture.open();
    assert_eq!(journal.identity(), Some(identity));
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(9)));
    assert_eq!(journal.durable_lsn(), Lsn(90));
    assert_eq!(journal.tail().last_seq(), Seq(5));
    append_durably(&journal, 10, 1);
    assert_eq!(journal.tail().last_seq(), Seq(6));
    assert!(journal.tail().get(Seq(2)).is_none());
    assert_eq!(journal.tail().get(Seq(5)).unwrap().first_seq(), Seq(6));
}

#[test]
fn watchers_learn_of_events_that_are_in_the_tail_by_then() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let mut watcher = journal.tail().watch();
    append(&journal, append_of(1, 3, |_| Lanes::NONE));
    let last = block_on(async { tokio::time::timeout(PATIENCE, watcher.changed()).await });
    assert_eq!(last.unwrap(), Seq(3));
    assert_eq!(journal.tail().get(Seq(0)).unwrap().len(), 3);
}

#[test]
fn who_falls_behind_the_tail_goes_on_with_pages() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let big = |n: u64| {
        let mut events = EventBatch::default();
        let write = |buffer: &mut Vec<u8>| {
            buffer.resize(3 << 20, b'0' + (n % 10) as u8);
            Ok::<_, ()>(())
        };
        events.push(id_at(n), "a.b".into(), Lanes::NONE, 0, write).unwrap();
        Append { events, checkpoint: checkpoint_at(n), ..Append::default() }
    };
    for n in 1..=12 {
        append(&journal, big(n));
    }
    journal.make_durable().unwrap();
    assert!(journal.tail().get(Seq(0)).is_none(), "36 MiB are more than the tail keeps");
    assert!(journal.tail().get(Seq(11)).is_some());
    let mut seen = 0;
    while seen < 12 {
        let batch = match journal.tail().get(Seq(seen)) {
            Some(batch) => batch,
            None => block_on(journal.page(Seq(seen), 100, 4 << 20)).unwrap(),
        };
        for (seq, _) in batch.after(Seq(seen)) {
            assert_eq!(seq.0, seen + 1);
            let body = batch.get(seq).unwrap().body;
            assert_eq!(body.len(), 3 << 20);
            assert!(body.iter().all(|&byte| byte == b'0' + (seq.0 % 10) as u8));
            seen = seq.0;
        }
    }
}

#[test]
fn a_full_queue_gives_the_append_back_by_its_deadline() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    // Another program writes to the file, so the writer has to wait.
    let other = rusqlite::Connection::open(fixture.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let half = |n| {
        let mut events = EventBatch::default();
        let write = |buffer: &mut Vec<u8>| {
            buffer.resize(4 << 20, b' ');
            Ok::<_, ()>(())
        };
        events.push(id_at(n), "a.b".into(), Lanes::NONE, 0, write).unwrap();
        Append { events, checkpoint: checkpoint_at(n), ..Append::default() }
    };
    let mut taken = 0;
    let started = Instant::now();
    let back = loop {
        assert!(taken < 8, "the queue has no bound");
        let wait = Duration::from_millis(40);
        match journal.append(half(taken + 1), Instant::now() + wait).unwrap() {
            Ok(()) => taken += 1,
            Err(back) => break back,
        }
    };
    assert_eq!(back.checkpoint, checkpoint_at(taken + 1));
    assert!(started.elapsed() < PATIENCE);
    other.execute_batch("ROLLBACK").unwrap();
    append(&journal, back);
    journal.make_durable().unwrap();
    assert_eq!(journal.tail().last_seq(), Seq(taken as i64 + 1));
}

#[test]
fn endpoints_start_where_they_are_told_and_are_known_again() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 5);
    block_on(async {
        let now = journal.register_endpoint("now", Start::Now).await.unwrap();
        let earliest = journal.register_endpoint("earliest", Start::Earliest).await.unwrap();
        let after = journal.register_endpoint("after", Start::After(Seq(3))).await.unwrap();
        let beyond = journal.register_endpoint("beyond", Start::After(Seq(99))).await.unwrap();
        let cursors = [&now, &earliest, &after, &beyond].map(|state| state.cursor.0);
        assert_eq!(cursors, [5, 0, 3, 5]);
        let again = journal.register_endpoint("earliest", Start::Now).await.unwrap();
        assert_eq!(again, earliest);
        journal.set_disabled(after.endpoint, Some("answered 410 Gone")).await.unwrap();
        let unknown = journal.set_disabled(EndpointId(99), None).await.unwrap_err();
        assert!(unknown.to_string().contains("no endpoint 99"), "{unknown}");
        let unknown = journal.settle(Settlement::new(EndpointId(99), Seq(1))).await.unwrap_err();
        assert!(!unknown.is_retryable());
    });
    writer.stop().unwrap();
    let (journal, _writer) = fixture.open();
    let after = block_on(journal.register_endpoint("after", Start::Now)).unwrap();
    assert_eq!(after.disabled.as_deref(), Some("answered 410 Gone"));
    block_on(journal.set_disabled(after.endpoint, None)).unwrap();
    let after = block_on(journal.register_endpoint("after", Start::Now)).unwrap();
    assert_eq!((after.disabled, after.cursor), (None, Seq(3)));
}

#[test]
fn a_retry_is_found_when_due_and_what_it_held_is_released_with_it() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append(&journal, append_of(1, 4, |n| Lanes::one(n as i64 % 2)));
    journal.make_durable().unwrap();
    let state = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap();
    let endpoint = state.endpoint;

    // 1 failed, 3 is of the same record, 2 was delivered, 4 is in flight.
    let mut settlement = Settlement::new(endpoint, Seq(4));
    settlement.in_flight = vec![Listed { seq: Seq(4), sequence: 0 }];
    let waiting =
        |due_at_ms, attempts| OutcomeKind::Waiting { due_at_ms, attempts, lanes: Lanes::one(1) };
    settlement.outcomes = vec![
        Outcome { seq: Seq(1), sequence: 0, kind: waiting(1000, 1) },
        Outcome { seq: Seq(2), sequence: 0, kind: OutcomeKind::Succeeded },
    ];
    settlement.parks = vec![Park { seq: Seq(3), sequence: 0, attempts: 0, lanes: Lanes::one(1) }];
    settlement.attempts = vec![attempt(Seq(1), Some("500")), attempt(Seq(2), None)];
    let settled = block_on(journal.settle(settlement)).unwrap();
    let expected = Settled { promoted: vec![], freed_lanes: vec![(1, 2)], next_due_ms: Some(1000) };
    assert_eq!(settled, expected);
    writer.stop().unwrap();

    let (journal, _writer) = fixture.open();
    let state = block_on(journal.register_endpoint("one", Start::Now)).unwrap();
    assert_eq!(
        (state.cursor, state.in_flight),
        (Seq(4), vec![Listed { seq: Seq(4), sequence: 0 }])
    );
    assert_eq!((state.parked, state.waiting, state.blocked), (vec![(1, 2)], 1, 1));
    assert_eq!(state.next_due_ms, Some(1000));

    let early = block_on(journal.due(endpoint, 999, 10)).unwrap();
    assert_eq!((early.deliveries.len(), early.next_due_ms), (0, Some(1000)));
    let due = block_on(journal.due(endpoint, 1000, 10)).unwrap();
    assert_eq!(due.deliveries.len(), 1);
    assert_eq!((due.deliveries[0].seq, due.deliveries[0].attempts), (Seq(1), 1));
    assert_eq!(due.deliveries[0].event.body, body_of(1));
    assert_eq!(due.next_due_ms, None);
    let taken = block_on(journal.due_except(endpoint, 1000, 10, &[Seq(1)])).unwrap();
    assert_eq!((taken.deliveries.len(), taken.next_due_ms), (0, None));

    // It dies: what it held is due at once, and it is listed.
    let mut settlement = Settlement::new(endpoint, Seq(4));
    let kind = OutcomeKind::Dead { attempts: 2, lanes: Lanes::one(1) };
    settlement.outcomes = vec![Outcome { seq: Seq(1), sequence: 0, kind }];
    settlement.attempts = vec![attempt(Seq(1), Some("timed out"))];
    let settled = block_on(journal.settle(settlement)).unwrap();
    assert_eq!((settled.promoted, settled.freed_lanes), (vec![Seq(3)], vec![(1, 1)]));
    let due = block_on(journal.due(endpoint, now(), 10)).unwrap();
    assert_eq!((due.deliveries[0].seq, due.deliveries[0].attempts), (Seq(3), 0));

    let reader = fixture.reader();
    let dead = reader.dead(Some("one"), Seq(0), 10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].seq, dead[0].id, dead[0].attempts), (Seq(1), id_at(1), 2));
    assert!(reader.dead(Some("other"), Seq(0), 10).unwrap().is_empty());
    assert!(reader.dead(None, Seq(1), 10).unwrap().is_empty());
    let status = reader.status().unwrap();
    let one = &status.endpoints[0];
    assert_eq!((one.waiting, one.blocked, one.dead, one.in_flight), (1, 0, 1, 0));
    assert_eq!((one.succeeded, one.failed, one.backlog), (1, 2, 1));
    assert_eq!(one.last_error.as_deref(), Some("timed out"));
    assert!(one.last_success_at_ms.is_some() && one.last_failure_at_ms.is_some());
    assert_eq!(status.events.count, 4);
    assert_eq!(status.checkpoint, Some(checkpoint_at(4)));
    let attempts = reader.attempts(2).unwrap();
    assert_eq!(attempts.iter().map(|a| a.seq.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(attempts[0].error.as_deref(), Some("timed out"));
    assert_eq!(attempts[0].response.as_deref(), Some(&b"no"[..]));
    assert_eq!((attempts[1].id, attempts[1].status), (Some(id_at(2)), Some(200)));
}

#[test]
fn a_park_whose_hindrance_is_settled_with_it_is_due_at_once() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 3);
    let endpoint = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap().endpoint;
    let mut settlement = Settlement::new(endpoint, Seq(1));
    let kind = OutcomeKind::Waiting { due_at_ms: 5, attempts: 1, lanes: Lanes::one(8) };
    settlement.outcomes = vec![Outcome { seq: Seq(1), sequence: 0, kind }];
    block_on(journal.settle(settlement)).unwrap();
    let mut settlement = Settlement::new(endpoint, Seq(3));
    settlement.outcomes = vec![Outcome { seq: Seq(1), sequence: 0, kind: OutcomeKind::Succeeded }];
    settlement.parks = vec![
        Park { seq: Seq(2), sequence: 0, attempts: 0, lanes: Lanes::two(8, 9) },
        Park { seq: Seq(3), sequence: 0, attempts: 0, lanes: Lanes::NONE },
    ];
    let settled = block_on(journal.settle(settlement)).unwrap();
    assert_eq!(settled.promoted, [Seq(2), Seq(3)]);
    assert_eq!(settled.freed_lanes, [(8, 1), (9, 1)]);
}

#[test]
fn events_are_found_by_id_whatever_order_ids_come_in() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    // Descending batches, as another way of capture might yield them.
    for first in (0..5).rev().map(|batch| 1 + batch * 700) {
        append(&journal, append_of(first, 700, |_| Lanes::NONE));
    }
    journal.make_durable().unwrap();
    let check = |journal: &Journal| {
        for (n, seq) in [(2801, 1), (3500, 700), (2101, 701), (1, 2801), (700, 3500)] {
            assert_eq!(block_on(journal.find_event(id_at(n))).unwrap(), Some(Seq(seq)), "{n}");
        }
        assert_eq!(block_on(journal.find_event(id_at(4000))).unwrap(), None);
    };
    check(&journal);
    writer.stop().unwrap();
    drop(journal);
    let (journal, _writer) = fixture.open();
    append(&journal, append_of(5000, 2000, |_| Lanes::NONE));
    journal.make_durable().unwrap();
    check(&journal);
    assert_eq!(block_on(journal.find_event(id_at(6999))).unwrap(), Some(Seq(5500)));
}

#[test]
fn what_is_due_in_order_ends_with_the_first_that_is_not() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 9);
    let endpoint = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap().endpoint;
    let (now, later) = (now(), now() + 60_000);
    let lanes = |seq: i64| Lanes::one(seq % 2);
    let waiting = |seq: i64, due_at_ms| {
        let kind = OutcomeKind::Waiting { due_at_ms, attempts: 1, lanes: lanes(seq) };
        Outcome { seq: Seq(seq), sequence: seq.unsigned_abs(), kind }
    };
    let park = |seq: i64| Park {
        seq: Seq(seq),
        sequence: seq.unsigned_abs(),
        attempts: u32::from(seq < 5),
        lanes: lanes(seq),
    };
    let dead = OutcomeKind::Dead { attempts: 2, lanes: lanes(1) };
    let mut settlement = Settlement::new(endpoint, Seq(9));
    settlement.outcomes =
        vec![Outcome { seq: Seq(1), sequence: 1, kind: dead }, waiting(2, now), waiting(3, now)];
    settlement.parks = vec![park(4), park(5)];
    // By its own time 8 would be due before those behind 7.
    settlement.outcomes.extend([waiting(7, later)]);
    settlement.parks.extend([park(9)]);
    settlement.outcomes.extend([waiting(8, now)]);
    block_on(journal.settle(settlement)).unwrap();
    let due = |until_ms, limit| {
        let due = block_on(journal.due_in_order(endpoint, until_ms, limit)).unwrap();
        let found: Vec<_> = due.deliveries.iter().map(|due| (due.seq.0, due.attempts)).collect();
        (found, due.next_due_ms)
    };
    // What is blocked goes with what blocks it; dead ones hold nothing.
    assert_eq!(due(now, 3), (vec![(2, 1), (3, 1), (4, 1)], Some(now)));
    assert_eq!(due(now - 1, 100), (vec![], Some(now)));
    let (found, next) = due(now, 100);
    // 7 comes behind 3 on its lane, so it is due no sooner than it says itself.
    assert_eq!(found, [(2, 1), (3, 1), (4, 1), (5, 0)]);
    assert_eq!(next, Some(later));
    let (found, next) = due(later, 100);
    assert_eq!(found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 3, 4, 5, 7, 8, 9]);
    assert_eq!(next, None);
}
