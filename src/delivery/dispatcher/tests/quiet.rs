//! Endpoints that most events do not concern: what they get, and how their cursors move.

use super::*;

fn picky(url: Url, name: &str, pattern: &str) -> EndpointOptions {
    let mut options = options(url);
    options.name = name.to_owned();
    options.filter = EventFilter::new([pattern]).unwrap();
    options
}

fn sequences(received: &[Received]) -> Vec<u64> {
    let header = |request: &Received| request.header("webhook-sequence").parse().unwrap();
    received.iter().map(header).collect()
}

/// Waits until the cursor has passed all events.
async fn passed(bed: &Bed, name: &str) {
    let last = Seq(bed.next - 1);
    until(|| bed.status(name).cursor == last).await;
}

/// Ends it as a crash would.
async fn kill(running: Running) {
    running.task.abort();
    let _ = running.task.await;
}

#[tokio::test]
async fn cursors_pass_what_is_not_wanted_and_numbers_have_no_gap() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    let running = bed.run(picky(receiver.url(), "crm", "*.deleted")).await;
    let idle = bed.run(picky(receiver.url(), "idle", "invoice.*")).await;
    for round in 1..=5 {
        // Every hundredth is deleted.
        bed.append(100, 100);
        passed(&bed, "crm").await;
        passed(&bed, "idle").await;
        assert_eq!(receiver.count(), round);
    }
    kill(running).await;
    kill(idle).await;
    bed.reopen();
    bed.append(100, 100);
    let running = bed.run(picky(receiver.url(), "crm", "*.deleted")).await;
    let idle = bed.run(picky(receiver.url(), "idle", "invoice.*")).await;
    bed.append(1, 1);
    passed(&bed, "idle").await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    idle.stop(Stop::Drain).await;
    assert_eq!(numbers(&receiver.received()), [100, 200, 300, 400, 500, 600, 601].into());
    assert_eq!(sequences(&receiver.received()), [1, 2, 3, 4, 5, 6, 7]);
    let (crm, idle) = (bed.status("crm"), bed.status("idle"));
    assert_eq!((crm.sequence, crm.backlog, crm.dropped), (7, 0, 0));
    assert_eq!((idle.sequence, idle.backlog, idle.dropped), (0, 0, 0));
}

#[tokio::test]
async fn another_filter_counts_from_where_the_cursor_is() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    bed.append(50, 10);
    let running = bed.run(picky(receiver.url(), "crm", "*.deleted")).await;
    bed.append(53, 10);
    bed.delivered("crm").await;
    kill(running).await;
    assert_eq!(receiver.count(), 10);
    let running = bed.run(picky(receiver.url(), "crm", "*.created")).await;
    bed.append(10, 10);
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    let mut sequences = sequences(&receiver.received());
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=19).collect::<Vec<_>>());
    assert!(!numbers(&receiver.received()).contains(&101), "what was passed stays passed");
}

#[tokio::test]
async fn the_cursor_of_one_that_is_disabled_stays() {
    let receiver = Receiver::start(|_| answer(410)).await;
    let mut bed = Bed::new();
    let gone = bed.run(picky(receiver.url(), "gone", "*.deleted")).await;
    let idle = bed.run(picky(receiver.url(), "idle", "invoice.*")).await;
    bed.append(1, 1);
    // What it refused is kept for the day it is enabled.
    until(|| bed.status("gone").disabled.is_some() && bed.status("gone").waiting == 1).await;
    let disabled_at = bed.status("gone").cursor;
    assert_eq!(disabled_at, Seq(1));
    // While the other one's is moved on, twice.
    bed.append(10, 100);
    passed(&bed, "idle").await;
    bed.append(10, 100);
    passed(&bed, "idle").await;
    assert_eq!(bed.status("gone").cursor, disabled_at);
    gone.stop(Stop::Drain).await;
    idle.stop(Stop::Drain).await;
    assert!(bed.status("gone").cursor < Seq(21));
}

/// More than the tail keeps in memory, every second of them deleted.
fn append_large(bed: &mut Bed, count: i64) {
    let mut events = EventBatch::default();
    for n in bed.next..bed.next + count {
        let id = EventId::new(n.unsigned_abs(), 0, TransactionTag::new("test", 1, 1, 1, n));
        let name = ["person.deleted", "person.created"][usize::from(n % 2 == 0)];
        let write = |out: &mut Vec<u8>| {
            let (start, filler) = (format!(r#"{{"n":{n},"key":{n},"filler":""#), 1 << 20);
            out.extend_from_slice(start.as_bytes());
            out.resize(out.len() + filler, b'x');
            out.extend_from_slice(br#""}"#);
            Ok::<_, ()>(())
        };
        events.push(id, name.into(), Lanes::one(n), n, write).unwrap();
        bed.commit(std::mem::take(&mut events));
    }
    bed.next += count;
}

#[tokio::test]
async fn what_left_the_memory_is_read_from_the_file() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    let options = picky(receiver.url(), "crm", "*.deleted");
    let dispatcher = Dispatcher::start(options, bed.journal.clone(), &hosts()).await.unwrap();
    append_large(&mut bed, 40);
    until(|| bed.journal.tail().last_seq() == Seq(40)).await;
    assert!(bed.journal.tail().get(Seq(0)).is_none());
    let (stop, told) = watch::channel(Stop::Run);
    let running = Running { stop, task: tokio::spawn(dispatcher.run(told)) };
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_eq!(numbers(&receiver.received()), (1..=40).step_by(2).collect());
    let mut sequences = sequences(&receiver.received());
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_retention_took_is_missing_in_the_numbers() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    bed.writer.take().unwrap().stop().unwrap();
    let mut small = JournalOptions::new(bed.directory.path().join("walhook.db"));
    small.max_size_bytes = 4 << 20;
    let (journal, writer) = Journal::open(small).unwrap();
    (bed.journal, bed.writer) = (journal, Some(writer));
    let mut options = picky(receiver.url(), "crm", "*.deleted");
    bed.journal.set_filters([("crm".to_owned(), options.filter.clone())].into());
    options.concurrency = 1;
    let dispatcher = Dispatcher::start(options, bed.journal.clone(), &hosts()).await.unwrap();
    append_large(&mut bed, 40);
    until(|| bed.journal.tail().last_seq() == Seq(40)).await;
    let in_memory = (0..40).find(|&n| bed.journal.tail().get(Seq(n)).is_some()).unwrap() + 1;
    assert!(in_memory > 10);
    until(|| bed.reader().status().unwrap().events.first_seq >= Some(Seq(in_memory))).await;
    let (stop, told) = watch::channel(Stop::Run);
    let running = Running { stop, task: tokio::spawn(dispatcher.run(told)) };
    passed(&bed, "crm").await;
    running.stop(Stop::Drain).await;
    assert_eq!(
        numbers(&receiver.received()),
        (1..=40).step_by(2).filter(|n| *n >= in_memory).collect()
    );
    let lost = (1..in_memory).step_by(2).count() as u64;
    assert_eq!(sequences(&receiver.received()), (lost + 1..=20).collect::<Vec<_>>());
    assert!(bed.status("crm").dropped >= lost);
}
