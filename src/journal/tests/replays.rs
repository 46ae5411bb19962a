//! Replays, and what was still to be delivered when they begin.

use super::orders::{BASE_US, done, refused, register, replay, retry, states, with_dead};
use super::*;

fn listed(seq: i64, sequence: u64) -> Listed {
    Listed { seq: Seq(seq), sequence }
}

fn waits(seq: i64, lane: i64) -> Outcome {
    let lanes = Lanes::one(lane);
    let kind = OutcomeKind::Waiting { due_at_ms: now() + 3_600_000, attempts: 3, lanes };
    Outcome { seq: Seq(seq), sequence: seq as u64, kind }
}

fn parks(seq: i64, lane: i64) -> Park {
    Park { seq: Seq(seq), sequence: seq as u64, attempts: 0, lanes: Lanes::one(lane) }
}

fn status(fixture: &Fixture) -> EndpointStatus {
    fixture.reader().status().unwrap().endpoints.remove(0)
}

fn stop() -> Wish {
    Wish::StopReplay { endpoint: "one".to_owned() }
}

/// Ten events on two lanes, all taken: 4 is dead, 3 waits with 7 behind it, 2 and 9 are on their way.
fn unfinished(journal: &Journal) -> EndpointId {
    let endpoint = with_dead(journal, 10, 2, &[4]);
    let mut settlement = Settlement::new(endpoint, Seq(10));
    settlement.sequence = 10;
    settlement.in_flight = vec![listed(2, 2), listed(9, 9)];
    settlement.outcomes = vec![waits(3, 1)];
    settlement.parks = vec![parks(7, 1)];
    block_on(journal.settle(settlement)).unwrap();
    endpoint
}

#[test]
fn a_replay_turns_back_and_takes_along_what_is_still_to_be_delivered() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let endpoint = unfinished(&journal);
    let until = Some(Point::Time(BASE_US + 6));
    let said = done(&fixture, &journal, &replay(Point::Time(BASE_US + 3), until));
    for words in ["of 4 events once more", &id_at(3).to_string(), "3 that were still"] {
        assert!(said.contains(words), "{said}");
    }
    let state = register(&journal, "one");
    assert_eq!((state.cursor, state.sequence), (Seq(2), 10));
    // What is older than the replay goes on by itself.
    assert_eq!((state.in_flight, state.parked), (vec![listed(2, 2)], vec![]));
    let pending = vec![listed(3, 3), listed(7, 7), listed(9, 9)];
    let expected = Replay { until: Seq(10), last: Seq(6), events: vec![], pending };
    assert_eq!(state.replay, Some(expected));
    assert_eq!(states(&fixture), [(4, "dead", 9)]);
    // 2, then 3 to 6, then 7 and 9.
    assert_eq!(status(&fixture).backlog, 7);
    let standing = |n| fixture.reader().event(id_at(n)).unwrap().unwrap().endpoints.remove(0).1;
    assert_eq!((standing(7), standing(8)), (Standing::Ahead, Standing::Done));
    let again = refused(&fixture, &journal, &replay(Point::Earliest, None));
    assert!(again.contains("under way") && again.contains("--stop"), "{again}");

    // What the stream has passed is like any other.
    let mut settlement = Settlement::new(endpoint, Seq(7));
    settlement.sequence = 10;
    settlement.in_flight = vec![listed(7, 7)];
    settlement.outcomes = vec![waits(3, 1)];
    block_on(journal.settle(settlement)).unwrap();
    let state = register(&journal, "one");
    assert_eq!((state.in_flight, state.waiting), (vec![listed(7, 7)], 1));
    assert_eq!(state.replay.unwrap().pending, [listed(9, 9)]);
    assert_eq!(status(&fixture).backlog, 3);

    // When the endpoint has come back to where it was, the replay is over.
    let mut settlement = Settlement::new(endpoint, Seq(10));
    settlement.sequence = 10;
    let kind = OutcomeKind::Succeeded;
    settlement.outcomes = [3, 4].map(|seq| Outcome { seq: Seq(seq), sequence: 0, kind }).to_vec();
    block_on(journal.settle(settlement)).unwrap();
    assert_eq!(register(&journal, "one").replay, None);
    assert_eq!((status(&fixture).backlog, states(&fixture)), (0, vec![]));
    done(&fixture, &journal, &replay(Point::Earliest, None));
    let replaying = register(&journal, "one").replay.unwrap();
    assert_eq!((replaying.until, replaying.last, replaying.pending), (Seq(10), Seq(10), vec![]));
}

#[test]
fn a_replay_that_is_stopped_gives_back_what_it_took_along() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    let endpoint = unfinished(&journal);
    refused(&fixture, &journal, &stop());
    done(&fixture, &journal, &replay(Point::Earliest, None));
    let mut settlement = Settlement::new(endpoint, Seq(5));
    settlement.sequence = 10;
    // 3 is taken again and waits for 1, which is sent once more.
    settlement.in_flight = vec![listed(1, 0), listed(3, 3)];
    block_on(journal.settle(settlement)).unwrap();
    let said = done(&fixture, &journal, &stop());
    assert!(said.contains("has ended; 2 deliveries"), "{said}");
    let state = register(&journal, "one");
    assert_eq!((state.cursor, state.sequence, state.replay), (Seq(10), 10, None));
    assert_eq!((state.in_flight, state.parked), (vec![], vec![(1, 4)]));
    let expected = [
        (1, "waiting", 0),
        (3, "blocked", 0),
        (4, "dead", 9),
        (7, "blocked", 0),
        (9, "blocked", 0),
    ];
    assert_eq!(states(&fixture), expected);
    assert_eq!(status(&fixture).backlog, 4);
    for (seq, next, sequence) in [(1, 3, 3), (3, 7, 7), (7, 9, 9)] {
        let mut settlement = Settlement::new(endpoint, Seq(10));
        settlement.sequence = 10;
        let kind = OutcomeKind::Succeeded;
        settlement.outcomes = vec![Outcome { seq: Seq(seq), sequence: 0, kind }];
        assert_eq!(block_on(journal.settle(settlement)).unwrap().promoted, [Seq(next)]);
        let due = block_on(journal.due(endpoint, now(), 10)).unwrap().deliveries;
        assert_eq!(due.iter().map(|due| due.sequence).collect::<Vec<_>>(), [sequence]);
    }
    refused(&fixture, &journal, &stop());
}

const MANY: i64 = 5_000;

/// One step of the last order, as if the daemon were killed behind it.
fn one_step(journal: &Journal, wish: &Wish) {
    let order = block_on(journal.orders()).unwrap().pop().unwrap().id;
    let step = OrderStep {
        order,
        wish: wish.clone(),
        endpoint: "one".to_owned(),
        last: true,
        progress: OrderProgress::default(),
    };
    assert!(!block_on(journal.carry_out(step)).unwrap().done);
}

/// The first event waits, and all others are blocked behind it.
fn many_blocked(journal: &Journal, many: i64) -> EndpointId {
    let endpoint = with_dead(journal, many as u64, 1, &[]);
    let mut settlement = Settlement::new(endpoint, Seq(many));
    settlement.sequence = many as u64;
    settlement.outcomes = vec![waits(1, 0)];
    settlement.parks = (2..=many).map(|seq| parks(seq, 0)).collect();
    block_on(journal.settle(settlement)).unwrap();
    endpoint
}

#[test]
fn killed_between_its_steps_a_replay_loses_and_doubles_nothing() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    let endpoint = many_blocked(&journal, MANY);
    let all: Vec<Listed> = (1..=MANY).map(|seq| listed(seq, seq as u64)).collect();
    let wish = replay(Point::Earliest, Some(Point::Time(BASE_US + 10)));
    let order = give_order(&fixture.path(), &wish).unwrap();
    one_step(&journal, &wish);
    assert_eq!(states(&fixture).len(), 3_000);
    writer.stop().unwrap();
    drop(journal);

    let (journal, writer) = fixture.open();
    block_on(crate::daemon::carry_out_orders(&journal, &[])).unwrap();
    let result = fixture.reader().order(order).unwrap().unwrap();
    assert!(!result.failed && result.sentence.contains("5000 that were"), "{}", result.sentence);
    let state = register(&journal, "one");
    assert_eq!((state.cursor, state.waiting + state.blocked), (Seq(0), 0));
    let replaying = state.replay.unwrap();
    assert_eq!((replaying.until, replaying.last), (Seq(MANY), Seq(10)));
    assert_eq!(replaying.pending, all);
    assert_eq!(status(&fixture).backlog, MANY as u64);
    // Another one is refused, since that one is done.
    refused(&fixture, &journal, &wish);

    // The same for its end.
    let mut settlement = Settlement::new(endpoint, Seq(2));
    settlement.sequence = MANY as u64;
    settlement.in_flight = vec![listed(2, 2)];
    block_on(journal.settle(settlement)).unwrap();
    give_order(&fixture.path(), &stop()).unwrap();
    one_step(&journal, &stop());
    writer.stop().unwrap();
    drop(journal);
    let (journal, _writer) = fixture.open();
    block_on(crate::daemon::carry_out_orders(&journal, &[])).unwrap();
    let state = register(&journal, "one");
    assert_eq!((state.cursor, state.replay), (Seq(MANY), None));
    assert_eq!((state.waiting, state.blocked, state.in_flight), (1, MANY as u64 - 2, vec![]));
    assert_eq!(state.parked, [(0, MANY as u32 - 1)]);
    assert_eq!(states(&fixture)[0], (2, "waiting", 0));
    assert_eq!(status(&fixture).backlog, MANY as u64 - 1);
}

#[test]
fn an_endpoint_that_starts_between_steps_finds_everything() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    many_blocked(&journal, MANY);
    let wish = replay(Point::Earliest, None);
    give_order(&fixture.path(), &wish).unwrap();
    one_step(&journal, &wish);
    // As after an error of the disk, where the order is tried again later.
    let state = register(&journal, "one");
    assert_eq!(state.replay.unwrap().pending.len(), MANY as usize);
    assert_eq!((state.parked, states(&fixture)), (vec![], vec![]));
    block_on(crate::daemon::carry_out_orders(&journal, &[])).unwrap();
    assert_eq!(register(&journal, "one").replay.unwrap().pending.len(), MANY as usize);
    let forget = Wish::Forget { endpoint: "one".to_owned() };
    let said = done(&fixture, &journal, &forget);
    assert!(said.contains("forgotten, and 5000 deliveries"), "{said}");
    assert_eq!(register(&journal, "one").replay, None);
    done(&fixture, &journal, &forget);
}

#[test]
fn a_dead_letter_that_a_replay_comes_to_is_sent_by_it() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    with_dead(&journal, 10, 1, &[2, 8]);
    done(&fixture, &journal, &replay(Point::Event(id_at(5)), Some(Point::Event(id_at(5)))));
    done(&fixture, &journal, &retry("one", Chosen::default()));
    let state = register(&journal, "one");
    assert_eq!(state.replay.unwrap().pending, [listed(8, 8)]);
    assert_eq!((state.waiting, state.parked), (1, vec![(0, 1)]));
    assert_eq!(states(&fixture), [(2, "waiting", 0)]);
}

#[test]
fn what_retention_takes_from_a_replay_is_counted_if_it_was_still_to_be_delivered() {
    let mut fixture = Fixture::new();
    fixture.options.retain = Duration::from_secs(3600);
    let (journal, _writer) = fixture.open();
    let endpoint = with_dead(&journal, 2_000, 1, &[]);
    let mut settlement = Settlement::new(endpoint, Seq(2_000));
    settlement.in_flight = vec![listed(5, 5), listed(1_500, 1_500)];
    settlement.outcomes = vec![waits(3, 0)];
    block_on(journal.settle(settlement)).unwrap();
    done(&fixture, &journal, &replay(Point::Earliest, None));
    execute(&journal, "UPDATE segments SET journaled_at_ms = 1 WHERE last_seq <= 1024").unwrap();
    eventually("the old ones are gone", || {
        fixture.reader().status().unwrap().events.first_seq == Some(Seq(1_025))
    });
    assert_eq!(status(&fixture).dropped, 2);
    let state = register(&journal, "one");
    assert_eq!(state.replay.unwrap().pending, [listed(1_500, 1_500)]);
    done(&fixture, &journal, &stop());
    assert_eq!(states(&fixture), [(1_500, "waiting", 0)]);
    assert_eq!(status(&fixture).dropped, 2);
}
