//! Cursors of endpoints that rest.

use std::collections::VecDeque;

use super::*;

fn take(follower: &mut Follower, taken: Seq) -> (Course, usize) {
    let mut runs = VecDeque::new();
    let course = follower.next(taken, &mut runs);
    (course, runs.len())
}

#[test]
fn the_cursor_moves_while_its_endpoint_rests_and_no_further() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    let cursor = |name: &str| {
        let status = fixture.reader().status().unwrap();
        status.endpoints.into_iter().find(|endpoint| endpoint.name == name).unwrap().cursor
    };
    let follow = |name: &str, pattern: &str| {
        let endpoint = block_on(journal.register_endpoint(name, Start::Now)).unwrap().endpoint;
        let mut follower =
            journal.tail().follow(endpoint, &EventFilter::new([pattern]).unwrap(), Seq(0));
        assert_eq!(take(&mut follower, Seq(0)), (Course::Nothing(Seq(0)), 0));
        follower
    };
    let mut note = follow("note", "note.*");
    let mut busy = follow("busy", "note.*");
    let mut person = follow("person", "person.*");
    let mut leaving = follow("leaving", "note.*");
    note.rest(Seq(0));
    person.rest(Seq(0));
    leaving.rest(Seq(0));
    append_durably(&journal, 1, 100);
    eventually("its cursor is moved", || cursor("note") == Seq(100));
    eventually("this one's, too", || cursor("leaving") == Seq(100));
    assert_eq!(cursor("busy"), Seq(0), "it did not say that all is done");
    assert_eq!(cursor("person"), Seq(0), "there is something for it");
    assert_eq!(leaving.stir(), Some(Seq(100)));
    drop(leaving);
    // Who begins to rest only after the events catches up.
    assert_eq!(take(&mut busy, Seq(0)), (Course::Nothing(Seq(100)), 0));
    busy.rest(Seq(0));
    eventually("its cursor is moved, too", || cursor("busy") == Seq(100));
    append_durably(&journal, 101, 100);
    eventually("it is moved again", || cursor("note") == Seq(200));
    assert_eq!((cursor("leaving"), cursor("person")), (Seq(100), Seq(0)));
    assert_eq!(take(&mut person, Seq(0)), (Course::Runs, 1));
    writer.stop().unwrap();
    drop((journal, note, busy, person));
    let (journal, _writer) = fixture.open();
    let state = block_on(journal.register_endpoint("note", Start::Now)).unwrap();
    assert_eq!((state.cursor, state.sequence), (Seq(200), 0));
}

#[test]
fn only_what_is_asked_for_is_read() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 100);
    let run = |first, last| Run { first: Seq(first), last: Seq(last) };
    let pick = |runs: &[Run], events, bytes| {
        let picked = block_on(journal.pick(runs.to_vec(), events, bytes)).unwrap();
        let spans = picked.batches.iter().map(|batch| (batch.first_seq().0, batch.last_seq().0));
        (spans.collect::<Vec<_>>(), picked.through.0)
    };
    let runs = [run(3, 5), run(50, 50), run(90, 120)];
    assert_eq!(pick(&runs, 1000, 1 << 20), (vec![(3, 5), (50, 50), (90, 100)], 120));
    assert_eq!(pick(&runs, 5, 1 << 20), (vec![(3, 5), (50, 50), (90, 90)], 90));
    assert_eq!(pick(&runs, 3, 1 << 20), (vec![(3, 5)], 5));
    assert_eq!(pick(&runs, 1000, 1), (vec![(3, 3)], 3));
    execute(&journal, "DELETE FROM events WHERE seq < 91").unwrap();
    assert_eq!(pick(&runs[..2], 1000, 1 << 20), (vec![], 50));
    assert_eq!(pick(&runs, 5, 1 << 20), (vec![(91, 95)], 95));
}

#[test]
fn a_page_that_was_read_is_there_for_others() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 100);
    let page = |after| block_on(journal.shared_page(Seq(after), 10, 1 << 20)).unwrap();
    let first = page(0);
    assert_eq!((first.first_seq(), first.last_seq()), (Seq(1), Seq(10)));
    assert!(Arc::ptr_eq(&first, &page(0)) && Arc::ptr_eq(&first, &page(9)));
    assert_eq!(page(10).first_seq(), Seq(11));
    for after in (0..100).step_by(10) {
        assert_eq!(page(after).last_seq(), Seq(after + 10));
    }
    assert!(!Arc::ptr_eq(&first, &page(0)), "few are kept");
    assert!(page(100).is_empty());
    append_durably(&journal, 101, 1);
    assert_eq!(page(100).len(), 1, "that there was nothing is not kept");
}

#[test]
fn what_was_picked_is_there_for_others() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 100);
    let run = |first, last| Run { first: Seq(first), last: Seq(last) };
    let pick = |runs: &[Run], events| {
        let picked = block_on(journal.shared_pick(runs.to_vec(), events, 1 << 20)).unwrap();
        let spans = picked.batches.iter().map(|batch| (batch.first_seq().0, batch.last_seq().0));
        (spans.collect::<Vec<_>>(), picked.through.0)
    };
    let runs = [run(3, 5), run(50, 59), run(90, 100)];
    assert_eq!(pick(&runs, 8), (vec![(3, 5), (50, 54)], 54));
    execute(&journal, "DELETE FROM events WHERE seq < 70").unwrap();
    assert_eq!(pick(&runs, 8), (vec![(3, 5), (50, 54)], 54));
    assert_eq!(pick(&[run(4, 4), run(52, 59)], 8), (vec![(3, 5), (50, 54)], 54));
    assert_eq!(pick(&[run(51, 51), run(53, 53)], 8), (vec![(50, 54)], 53), "once");
    assert_eq!(pick(&[run(5, 5), run(7, 7)], 8), (vec![(3, 5)], 5), "7 was not looked for");
    assert_eq!(pick(&[run(55, 59), run(90, 100)], 8), (vec![(90, 97)], 97), "it is gone");
    assert_eq!(pick(&[run(54, 59), run(90, 100)], 8), (vec![(50, 54)], 54));
    assert_eq!(pick(&[run(55, 59), run(90, 91)], 8), (vec![(90, 97)], 91));
}
