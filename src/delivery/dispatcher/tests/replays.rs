//! Replays to an endpoint that was failing: what waited comes with them, in order.

use super::*;
use crate::journal::{Point, Wish, give_order};

/// Orders a replay while no dispatcher is at work.
async fn replay(bed: &Bed, until: Option<Point>, events: &[&str]) {
    let events = events.iter().map(|&pattern| pattern.to_owned()).collect();
    let wish = Wish::Replay { endpoint: "crm".to_owned(), since: Point::Earliest, until, events };
    let order = give_order(bed.journal.path(), &wish).unwrap();
    crate::daemon::carry_out_orders(&bed.journal, &[]).await.unwrap();
    let result = bed.reader().order(order).unwrap().unwrap();
    assert!(!result.failed, "{}", result.sentence);
}

fn sequence(received: &Received) -> Option<i64> {
    let header = received.headers.get("webhook-sequence")?;
    Some(header.to_str().unwrap().parse().unwrap())
}

/// 200 events on ten keys, taken by an endpoint that fails every event of every third key.
async fn failing_in_part(bed: &mut Bed) -> (Receiver, Arc<AtomicU16>) {
    let share = Arc::new(AtomicU16::new(100));
    let failing = Arc::clone(&share);
    let rng = Mutex::new(StdRng::seed_from_u64(5));
    let receiver = Receiver::start(move |request| {
        let failing = match failing.load(Atomic::Relaxed) {
            100 => field(request, "key") % 3 == 0,
            share => rng.lock().unwrap().random_bool(f64::from(share) / 100.0),
        };
        answer(if failing { 500 } else { 200 })
    })
    .await;
    bed.append(200, 10);
    let mut options = options(receiver.url());
    options.retry = every(3_600_000, 200);
    let running = bed.run(options).await;
    until(|| {
        let status = bed.status("crm");
        status.cursor == Seq(200) && status.in_flight == 0 && status.waiting == 4
    })
    .await;
    running.stop(Stop::Drain).await;
    assert_eq!(bed.status("crm").blocked, 76);
    (receiver, share)
}

#[tokio::test]
async fn a_replay_comes_in_order_with_what_was_waiting_and_blocked() {
    let mut bed = Bed::new();
    let (receiver, failing) = failing_in_part(&mut bed).await;
    failing.store(20, Atomic::Relaxed);
    replay(&bed, None, &[]).await;
    let before = receiver.count();
    let running = bed.run(options(receiver.url())).await;
    bed.append(50, 10);
    until(|| receiver.count() > before + 60).await;
    running.task.abort();
    let _ = running.task.await;
    bed.reopen();
    let running = bed.run(options(receiver.url())).await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    let received = &receiver.received()[before..];
    assert_order(received);
    assert_eq!(numbers(received), (1..=250).collect());
    for request in received {
        let n = field(request, "n");
        let waited = n <= 200 && field(request, "key") % 3 != 0;
        assert_eq!(sequence(request), (!waited).then_some(n), "event {n}");
    }
}

#[tokio::test]
async fn a_replay_ends_at_its_bound_but_loses_nothing_behind_it() {
    let mut bed = Bed::new();
    let (receiver, failing) = failing_in_part(&mut bed).await;
    failing.store(0, Atomic::Relaxed);
    // Events of key 0 are deletions, all others creations; commit times are the numbers.
    replay(&bed, Some(Point::Time(100)), &["person.created"]).await;
    let before = receiver.count();
    let running = bed.run(options(receiver.url())).await;
    bed.append(10, 10);
    let status = bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_eq!((status.backlog, status.replaying), (0, None));
    let received = &receiver.received()[before..];
    assert_order(received);
    let waited = |n: i64| n % 10 % 3 == 0;
    let expected = (1..=210).filter(|&n| n <= 100 || waited(n) || n > 200);
    assert_eq!(numbers(received), expected.collect());
    assert_eq!(received.len(), numbers(received).len());
    let numbered: BTreeSet<i64> = received.iter().filter_map(sequence).collect();
    assert_eq!(numbered, (1..=210).filter(|&n| waited(n) || n > 200).collect());
}
