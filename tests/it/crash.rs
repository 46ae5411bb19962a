//! The daemon is killed again and again, and nothing is lost, doubled at will or out of order.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;

use crate::harness::{
    Answer, Capture, Counters, Receiver, Request, Workspace, eventually, pause, under_both_captures,
};

under_both_captures!(kills_under_load_lose_nothing, kills_amid_batches_lose_nothing);

const KILLS: usize = 32;
const CONCURRENCY: usize = 8;
const PATIENCE: Duration = Duration::from_secs(120);
/// For all that gathered while the daemon was killed again and again.
const LONG_PATIENCE: Duration = Duration::from_secs(300);

async fn kills_under_load_lose_nothing(capture: Capture) {
    let database = Arc::new(capture.database().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    // An answer takes a moment, so that kills find requests under way.
    receiver.answer(|_| {
        let delay = Duration::from_micros(rand::rng().random_range(0..5_000));
        Answer::After(delay, Box::new(Answer::Status(200)))
    });
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        &format!("concurrency = {CONCURRENCY}"),
    );
    // Makes the slot, so that none of the kills can come before there is one.
    workspace.start(&database).await.stop().await;
    let load = Counters::start(&database, 4);

    // How many requests had come at each kill.
    let mut kills = Vec::new();
    while kills.len() < KILLS {
        let mut daemon = workspace.spawn();
        // Some die while they are still starting, most while they deliver.
        if rand::rng().random_bool(0.75) {
            receiver.wait_for(receiver.count() + 1, PATIENCE).await;
        }
        pause(Duration::from_millis(rand::rng().random_range(0..400))).await;
        assert!(daemon.is_running(), "it ended by itself: {}", daemon.stderr());
        daemon.sigkill().await;
        receiver.disconnected().await;
        kills.push(receiver.count());
    }
    load.stop().await;
    let daemon = workspace.spawn();
    let due = Counters::events_due(&database).await;
    let requests = Counters::arrived(&database, &receiver, LONG_PATIENCE).await;
    daemon.stop().await;

    let repeats = Counters::verify(&database, &requests).await;
    println!("{due} events, {} repeats after {KILLS} kills", repeats.len());
    for (index, &killed_at) in kills.iter().enumerate() {
        let next = kills.get(index + 1).copied().unwrap_or(usize::MAX);
        let after = repeats.iter().filter(|&&arrival| (killed_at..next).contains(&arrival)).count();
        assert!(after <= 2 * CONCURRENCY, "{after} repeats after kill {index}");
    }
    let before = repeats.iter().filter(|&&arrival| arrival < kills[0]).count();
    assert_eq!(before, 0, "repeats before the first kill");
    assert_eq!(receiver.count(), due + repeats.len(), "requests beyond what happened");
    receiver.assert_all_signed();
}

/// Beyond as many, a batch is too large for the receiver.
const TOO_MANY: usize = 25;

/// A batch as it came.
struct Batch {
    arrival: usize,
    id: String,
    /// Id, row and number of each event, and whether it was accepted.
    events: Vec<(String, i64, i64, bool)>,
    sequences: Vec<u64>,
}

impl Batch {
    fn of(request: &Request) -> Batch {
        let id = request.id().to_owned();
        let json = request.json();
        let json = json.as_array().expect("a batch is an array");
        let whole = json.len() <= TOO_MANY && !is_failing(request);
        let refused = is_partly(request).then(|| json.len() - 1);
        let events = json.iter().enumerate().map(|(at, event)| {
            let number = |name: &str| event["data"][name].as_i64().unwrap();
            let accepted = whole && refused != Some(at);
            (event["id"].as_str().unwrap().to_owned(), number("id"), number("n"), accepted)
        });
        let events: Vec<_> = events.collect();
        let mut sequences = Vec::new();
        for range in request.header("webhook-sequence").unwrap().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            sequences.extend(first.parse::<u64>().unwrap()..=last.parse().unwrap());
        }
        Batch { arrival: request.arrival, id, events, sequences }
    }

    fn answer(&self, request: &Request) -> Answer {
        if self.events.len() > TOO_MANY {
            return Answer::Status(413);
        }
        if is_failing(request) {
            return Answer::Status(500);
        }
        let refused = self.events.iter().filter(|(.., accepted)| !accepted).map(|(id, ..)| id);
        let refused: Vec<_> = refused.collect();
        let body = serde_json::json!({ "failed": refused }).to_string();
        Answer::Full(200, Vec::new(), body.into_bytes())
    }
}

/// Some batches fail, at first.
fn is_failing(request: &Request) -> bool {
    request.attempt() == 1 && request.id().ends_with(['0', '1'])
}

/// The last event of some others is refused, at first.
fn is_partly(request: &Request) -> bool {
    request.attempt() == 1 && request.id().ends_with(['2', '3'])
}

/// Batches fail in all ways, and the daemon is killed amid them: what each receiver of the row's
/// story accepts is in order, whole, and numbered the same whenever it comes.
async fn kills_amid_batches_lose_nothing(capture: Capture) {
    let database = Arc::new(capture.database().await);
    Counters::create_table(&database).await;
    let receiver = Receiver::start().await;
    let batches: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let log = Arc::clone(&batches);
    receiver.answer(move |request| {
        let batch = Batch::of(request);
        let answer = batch.answer(request);
        log.lock().unwrap().push(batch);
        let delay = Duration::from_micros(rand::rng().random_range(0..10_000));
        Answer::After(delay, Box::new(answer))
    });
    let workspace = Workspace::new(&database).table("public.counter", "counter").endpoint(
        "main",
        &receiver.url("/"),
        "concurrency = 4\nbatch = { max_events = 40, max_wait = '20ms' }",
    );
    workspace.start(&database).await.stop().await;
    let load = Counters::start(&database, 4);
    let mut kills = Vec::new();
    while kills.len() < KILLS / 2 {
        let mut daemon = workspace.spawn();
        if rand::rng().random_bool(0.75) {
            receiver.wait_for(receiver.count() + 1, PATIENCE).await;
        }
        pause(Duration::from_millis(rand::rng().random_range(0..400))).await;
        assert!(daemon.is_running(), "it ended by itself: {}", daemon.stderr());
        daemon.sigkill().await;
        receiver.disconnected().await;
        kills.push(receiver.count());
    }
    load.stop().await;
    let daemon = workspace.spawn();
    let due = Counters::events_due(&database).await;
    eventually(LONG_PATIENCE, "every event", async || {
        let batches = batches.lock().unwrap();
        let accepted = batches.iter().flat_map(|batch| &batch.events).filter(|event| event.3);
        (accepted.map(|event| &event.0).collect::<BTreeSet<_>>().len() >= due).then_some(())
    })
    .await;
    daemon.stop().await;
    receiver.assert_all_signed();

    let mut batches = batches.lock().unwrap();
    batches.sort_unstable_by_key(|batch| batch.arrival);
    assert!(batches.iter().any(|batch| batch.events.len() > 1), "there was no batch");
    let repeats = verify_batches(&batches, &kills);
    println!("{due} events, {} batches, {repeats} repeats", batches.len());
}

/// Fails the test unless each row's story is told in order: a change is sent when the one before it
/// was accepted, or with it; and what was accepted comes again only after a kill, and then on from
/// there. Answers how many events were accepted more than once.
fn verify_batches(batches: &[Batch], kills: &[usize]) -> usize {
    // Of each row the last change accepted, ever and since the last kill.
    let mut ever: HashMap<i64, i64> = HashMap::new();
    let mut since: HashMap<i64, i64> = HashMap::new();
    let mut kills = kills.iter().peekable();
    let (mut numbers, mut known) = (HashMap::new(), HashMap::new());
    let (mut members, mut repeats) = (HashMap::new(), 0);
    for batch in batches {
        while kills.next_if(|&&kill| batch.arrival >= kill).is_some() {
            since.clear();
        }
        assert_eq!(batch.sequences.len(), batch.events.len());
        let ids: Vec<&str> = batch.events.iter().map(|(id, ..)| id.as_str()).collect();
        assert_eq!(members.entry(&batch.id).or_insert_with(|| ids.clone()), &ids, "another batch");
        assert_eq!(known.entry(ids).or_insert(&batch.id), &&batch.id, "the same one, another id");
        // As if all were accepted: that is what whoever sends it hopes.
        let mut hoped: HashMap<i64, i64> = HashMap::new();
        for ((id, row, n, accepted), &sequence) in batch.events.iter().zip(&batch.sequences) {
            assert_eq!(*numbers.entry(id).or_insert(sequence), sequence, "another number");
            let before = hoped.get(row).or_else(|| since.get(row));
            match before {
                Some(before) => assert_eq!(*n, before + 1, "row {row}, in {}", batch.arrival),
                None => assert!(*n <= ever.get(row).unwrap_or(&0) + 1, "row {row}: {n} is early"),
            }
            hoped.insert(*row, *n);
            if *accepted {
                since.insert(*row, *n);
                let ever = ever.entry(*row).or_default();
                repeats += usize::from(*n <= *ever);
                *ever = (*ever).max(*n);
            }
        }
    }
    let numbers: BTreeSet<u64> = numbers.into_values().collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "a number is missing");
    let events: i64 = ever.values().sum();
    assert_eq!(events, numbers.len() as i64, "not every event was accepted");
    repeats
}
