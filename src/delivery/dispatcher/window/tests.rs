use super::*;
use crate::journal::OutcomeKind;

mod world;

const SINGLE: Limits = Limits { events: 1, bytes: 1 };

fn from<'a>(cursor: i64, parked: &'a [(i64, u32)], any_waiting: bool) -> Beginning<'a> {
    Beginning {
        cursor: Seq(cursor),
        sequence: cursor.unsigned_abs(),
        replay_until: Seq(0),
        parked,
        any_waiting,
    }
}

fn window(ordering: Ordering) -> Window<Seq> {
    Window::new(ordering, SINGLE, from(0, &[], false))
}

fn batching(ordering: Ordering, events: usize) -> Window<Seq> {
    Window::new(ordering, Limits { events, bytes: 100 }, from(0, &[], false))
}

fn take(window: &mut Window<Seq>, seq: i64, lanes: Lanes) {
    window.take(Seq(seq), lanes, 1, |_| Seq(seq));
}

fn parcels(window: &mut Window<Seq>) -> Vec<Vec<i64>> {
    std::iter::from_fn(|| window.has_parcel().then(|| parcel(window))).collect()
}

fn parcel(window: &mut Window<Seq>) -> Vec<i64> {
    window.start().iter().map(|seq| seq.0).collect()
}

/// All that may go, by itself.
fn started(window: &mut Window<Seq>) -> Vec<i64> {
    parcels(window).concat()
}

fn listed(seq: i64) -> Listed {
    Listed { seq: Seq(seq), sequence: seq.unsigned_abs() }
}

fn parked(seq: i64, lanes: Lanes) -> Park {
    Park { seq: Seq(seq), sequence: seq.unsigned_abs(), attempts: 0, lanes }
}

fn waiting(attempts: u32) -> Ended {
    Ended::Waiting { due_at_ms: 0, attempts }
}

#[test]
fn a_lane_is_released_by_the_commit_and_not_before() {
    let mut window = window(Ordering::Record);
    for (seq, lane) in [(1, 10), (2, 10), (3, 20)] {
        take(&mut window, seq, Lanes::one(lane));
    }
    assert_eq!(started(&mut window), [1, 3]);
    window.finish(Seq(1), Ended::Succeeded);
    assert!(started(&mut window).is_empty());
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.in_flight), (Seq(1), vec![]));
    assert!(started(&mut window).is_empty());
    window.committed(&[], false);
    assert_eq!(started(&mut window), [2]);
    window.finish(Seq(3), Ended::Succeeded);
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.in_flight), (Seq(3), vec![listed(2)]));
}

#[test]
fn a_failure_parks_all_that_stands_behind_it_and_nothing_else() {
    let mut window = window(Ordering::Record);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::two(10, 20));
    take(&mut window, 3, Lanes::one(20));
    take(&mut window, 4, Lanes::two(20, 30));
    take(&mut window, 5, Lanes::one(40));
    take(&mut window, 6, Lanes::NONE);
    assert_eq!(started(&mut window), [1, 5, 6]);
    window.finish(Seq(1), waiting(1));
    let settling = window.settle();
    let parks: Vec<i64> = settling.parks.iter().map(|park| park.seq.0).collect();
    assert_eq!(parks, [2, 3, 4]);
    assert_eq!((settling.cursor, settling.in_flight), (Seq(4), vec![]));
    // What comes meanwhile waits for the commit, and is parked with the next settlement.
    take(&mut window, 7, Lanes::one(30));
    assert!(!window.has_news());
    window.committed(&[(10, 2), (20, 3), (30, 1)], true);
    assert!(window.has_news());
    let settling = window.settle();
    assert_eq!(settling.parks, [parked(7, Lanes::one(30))]);
    window.committed(&[(30, 2)], true);
    assert_eq!(window.held(), 0);
    assert_eq!(window.parked_lanes(), 3);
}

#[test]
fn nothing_is_parked_behind_someone_still_on_the_way() {
    let mut window = window(Ordering::Record);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::one(20));
    take(&mut window, 3, Lanes::two(10, 20));
    assert_eq!(started(&mut window), [1, 2]);
    window.finish(Seq(1), waiting(1));
    assert_eq!(window.settle().parks, []);
    window.committed(&[(10, 1)], true);
    window.finish(Seq(2), Ended::Succeeded);
    // 2 leaves with this very settlement, so 3 is first but for what is parked.
    assert_eq!(window.settle().parks, [parked(3, Lanes::two(10, 20))]);
}

#[test]
fn in_strict_order_what_retention_took_on_its_way_holds_nothing() {
    let mut window = batching(Ordering::Strict, 1);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::one(20));
    assert_eq!(started(&mut window), [1]);
    window.finish(Seq(1), waiting(1));
    window.settle();
    window.committed(&[(10, 1)], true);
    assert!(!window.has_parcel());
    // Retention takes 1 while it is tried again; the journal does not keep it when it fails.
    window.start_parked();
    window.finish_parked(listed(1), Lanes::one(10), waiting(2));
    window.settle();
    window.committed(&[], false);
    assert_eq!(started(&mut window), [2]);
}

#[test]
fn the_last_parked_one_of_a_lane_gives_way_to_what_is_held() {
    let mut window: Window<Seq> = Window::new(Ordering::Record, SINGLE, from(5, &[(10, 1)], true));
    window.start_parked();
    window.finish_parked(listed(2), Lanes::one(10), Ended::Succeeded);
    take(&mut window, 6, Lanes::one(10));
    let settling = window.settle();
    assert_eq!(settling.parks, []);
    assert_eq!(settling.in_flight, [], "6 is beyond the cursor");
    assert!(started(&mut window).is_empty());
    window.committed(&[(10, 0)], false);
    assert_eq!(started(&mut window), [6]);
}

#[test]
fn strict_order_waits_in_memory() {
    let mut window = window(Ordering::Strict);
    take(&mut window, 1, Lanes::one(10));
    assert_eq!(started(&mut window), [1]);
    take(&mut window, 2, Lanes::one(20));
    assert!(window.is_barred());
    window.finish(Seq(1), waiting(1));
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.parks), (Seq(1), vec![]));
    let kind = OutcomeKind::Waiting { due_at_ms: 0, attempts: 1, lanes: Lanes::one(10) };
    assert_eq!(settling.outcomes, [Outcome { seq: Seq(1), sequence: 1, kind }]);
    window.committed(&[(10, 1)], true);
    assert!(started(&mut window).is_empty());
    assert!(!window.has_news());
    window.start_parked();
    window.finish_parked(listed(1), Lanes::one(10), Ended::Dead { attempts: 2 });
    window.settle();
    window.committed(&[(10, 0)], false);
    assert_eq!(started(&mut window), [2]);
}

#[test]
fn lanes_thought_parked_are_freed_when_nothing_is() {
    for ordering in [Ordering::Record, Ordering::Strict] {
        let mut window: Window<Seq> = Window::new(ordering, SINGLE, from(5, &[(10, 3)], true));
        window.nothing_parked();
        take(&mut window, 6, Lanes::one(10));
        assert_eq!(started(&mut window), [6], "{ordering:?}");
    }
}

#[test]
fn a_barrier_waits_for_all_before_it_and_all_behind_wait_for_its_commit() {
    let mut window = window(Ordering::Record);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::one(10));
    take(&mut window, 3, Lanes::BARRIER);
    assert!(window.is_barred());
    assert_eq!(started(&mut window), [1]);
    window.finish(Seq(1), Ended::Succeeded);
    window.settle();
    window.committed(&[], false);
    assert_eq!(started(&mut window), [2]);
    window.finish(Seq(2), waiting(1));
    window.settle();
    assert!(started(&mut window).is_empty(), "2 is not written down yet");
    window.committed(&[(10, 1)], true);
    assert_eq!(started(&mut window), [3]);
    // Taken although it is barred, as a start may do.
    take(&mut window, 4, Lanes::one(20));
    assert!(started(&mut window).is_empty());
    window.finish(Seq(3), waiting(1));
    window.settle();
    assert!(window.is_barred() && started(&mut window).is_empty());
    window.committed(&[(Lanes::BARRIER.as_slice()[0], 1)], true);
    assert!(!window.is_barred());
    assert_eq!(started(&mut window), [4]);
    take(&mut window, 5, Lanes::BARRIER);
    window.finish(Seq(4), Ended::Succeeded);
    window.settle();
    window.committed(&[], true);
    assert_eq!(window.settle().parks, [parked(5, Lanes::BARRIER)]);
}

#[test]
fn what_is_passed_over_moves_the_cursor() {
    let mut window = window(Ordering::Record);
    window.skip(Seq(1));
    assert_eq!(window.cursor(), Seq(1));
    take(&mut window, 2, Lanes::one(1));
    window.skip(Seq(3));
    assert_eq!(window.cursor(), Seq(1));
    started(&mut window);
    window.finish(Seq(2), Ended::Succeeded);
    assert_eq!(window.settle().cursor, Seq(3));
}

#[test]
fn events_of_one_record_share_a_parcel_in_order() {
    let mut window = batching(Ordering::Record, 4);
    for (seq, lane) in [(1, 10), (2, 10), (3, 20), (4, 10), (5, 20), (6, 30)] {
        take(&mut window, seq, Lanes::one(lane));
        assert_eq!(window.is_complete(), seq >= 4);
    }
    assert_eq!(parcel(&mut window), [1, 2, 3, 4]);
    // 5 stands behind one that is on its way; 6 is free.
    assert_eq!(parcels(&mut window), [[6]]);
    window.finish(Seq(1), waiting(1));
    window.finish(Seq(2), Ended::Blocked { attempts: 1 });
    window.finish(Seq(3), Ended::Succeeded);
    window.finish(Seq(4), Ended::Blocked { attempts: 1 });
    let settling = window.settle();
    let parks: Vec<_> = settling.parks.iter().map(|park| (park.seq.0, park.attempts)).collect();
    assert_eq!(parks, [(2, 1), (4, 1)]);
    assert_eq!(settling.outcomes.len(), 2);
    assert_eq!((settling.cursor, settling.sequence), (Seq(4), 4));
    window.committed(&[(10, 3), (20, 0)], true);
    take(&mut window, 7, Lanes::two(10, 20));
    assert_eq!(parcel(&mut window), [5], "7 must be parked behind 1");
}

#[test]
fn who_stands_behind_two_joins_only_with_both() {
    let mut window = batching(Ordering::Record, 3);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::one(20));
    take(&mut window, 3, Lanes::two(10, 20));
    take(&mut window, 4, Lanes::one(20));
    assert_eq!(parcels(&mut window), [[1, 2, 3]]);
    let mut window =
        Window::new(Ordering::Record, Limits { events: 3, bytes: 100 }, from(0, &[(20, 1)], true));
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::two(10, 20));
    assert_eq!(parcels(&mut window), [[1]], "something is parked on 20");
}

#[test]
fn a_parcel_is_complete_by_its_bytes_too() {
    let mut window = batching(Ordering::Strict, 100);
    for seq in 1..=3 {
        window.take(Seq(seq), Lanes::NONE, 40, |_| Seq(seq));
    }
    assert!(window.is_complete());
    assert_eq!(parcel(&mut window), [1, 2]);
    assert!(!window.has_parcel(), "in strict order one goes after the other");
    assert!(window.is_barred());
}

#[test]
fn a_barrier_goes_alone() {
    let mut window = batching(Ordering::Record, 10);
    take(&mut window, 1, Lanes::one(10));
    take(&mut window, 2, Lanes::BARRIER);
    take(&mut window, 3, Lanes::one(10));
    assert_eq!(parcels(&mut window), [[1]]);
    window.finish(Seq(1), Ended::Succeeded);
    window.settle();
    window.committed(&[], false);
    assert!(window.is_complete());
    assert_eq!(parcels(&mut window), [[2]]);
    window.finish(Seq(2), Ended::Succeeded);
    window.settle();
    window.committed(&[], false);
    assert_eq!(parcels(&mut window), [[3]]);
}

#[test]
fn a_parcel_that_was_too_large_goes_again_in_two() {
    for ordering in [Ordering::Record, Ordering::Strict, Ordering::None] {
        let mut window = batching(ordering, 4);
        for seq in 1..=6 {
            take(&mut window, seq, Lanes::one(10));
        }
        assert_eq!(parcel(&mut window), [1, 2, 3, 4], "{ordering:?}");
        window.limit_bytes(2);
        window.put_back((1..=4).map(|seq| (Seq(seq), Seq(seq))).collect());
        assert_eq!(window.in_flight(), 0);
        assert_eq!(parcel(&mut window), [1, 2], "{ordering:?}");
        assert_eq!(window.has_parcel(), ordering == Ordering::None);
        window.finish(Seq(1), Ended::Succeeded);
        window.finish(Seq(2), Ended::Succeeded);
        window.settle();
        window.committed(&[], false);
        assert_eq!(parcel(&mut window), [3, 4], "{ordering:?}");
    }
}

#[test]
fn numbers_have_no_gap_but_where_retention_took_something() {
    let mut window = window(Ordering::None);
    let mut numbers = Vec::new();
    for seq in [1, 3, 4, 9] {
        match seq {
            3 => {}
            _ => window.take(Seq(seq), Lanes::NONE, 1, |sequence| {
                numbers.push(sequence);
                Seq(seq)
            }),
        }
        if seq == 1 {
            // 2 is not wanted.
            window.skip(Seq(2));
            window.skip(Seq(3));
        }
    }
    // 5, 6, 7 and 8 were gone.
    assert_eq!(numbers, [1, 2, 7]);
    assert_eq!(window.settle().sequence, 0);
    started(&mut window);
    window.committed(&[], false);
    window.finish(Seq(1), Ended::Succeeded);
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.sequence), (Seq(3), 1));
    window.committed(&[], false);
    window.finish(Seq(4), Ended::Succeeded);
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.sequence), (Seq(8), 6));
    window.committed(&[], false);
    window.finish(Seq(9), Ended::Succeeded);
    assert_eq!(window.settle().sequence, 7);
}

#[test]
fn a_replay_has_no_numbers_and_keeps_what_was_on_its_way() {
    let beginning = Beginning { sequence: 9, replay_until: Seq(9), ..from(3, &[], false) };
    let mut window: Window<Seq> = Window::new(Ordering::Record, SINGLE, beginning);
    for seq in [2, 8] {
        window.restore(listed(seq), Lanes::one(10), 1, Seq(seq));
    }
    assert_eq!((window.taken(), window.cursor()), (Seq(3), Seq(3)));
    take(&mut window, 5, Lanes::one(20));
    assert_eq!(started(&mut window), [2, 5]);
    window.finish(Seq(2), Ended::Succeeded);
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.sequence), (Seq(4), 9));
    assert_eq!(settling.in_flight, [listed(8)], "8 is beyond the cursor, and never taken again");
    window.committed(&[], false);
    assert_eq!(started(&mut window), [8]);
    window.finish(Seq(8), Ended::Succeeded);
    window.finish(Seq(5), Ended::Succeeded);
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.in_flight), (Seq(5), vec![]));
    let repeated = settling.outcomes.iter().map(|outcome| outcome.sequence);
    assert_eq!(repeated.collect::<Vec<_>>(), [8, 0]);
    window.committed(&[], false);
    window.skip(Seq(9));
    window.take(Seq(10), Lanes::NONE, 1, |sequence| {
        assert_eq!(sequence, 10);
        Seq(10)
    });
}

#[test]
fn what_was_still_to_be_delivered_keeps_its_number_in_a_replay() {
    let beginning = Beginning { sequence: 9, replay_until: Seq(9), ..from(3, &[], false) };
    let mut window: Window<Seq> = Window::new(Ordering::Record, SINGLE, beginning);
    let pending = Listed { seq: Seq(5), sequence: 4 };
    window.take_pending(pending, Lanes::one(10), 1, |sequence| {
        assert_eq!(sequence, 4);
        Seq(5)
    });
    take(&mut window, 6, Lanes::one(10));
    assert_eq!(started(&mut window), [5], "6 waits for it");
    window.finish(Seq(5), Ended::Waiting { due_at_ms: 1, attempts: 1 });
    let settling = window.settle();
    assert_eq!((settling.cursor, settling.sequence), (Seq(6), 9));
    assert_eq!(settling.outcomes[0].sequence, 4);
    assert_eq!(settling.parks[0].sequence, 0);
}
