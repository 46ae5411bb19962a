//! The dispatcher on a real journal file, against a real receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering as Atomic};

use rand::Rng as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use url::Url;

use super::*;
use crate::capture::Position;
use crate::delivery::attempt::{HostAnswer, Steering, Verdict};
use crate::delivery::host::BreakerOptions;
use crate::delivery::receiver::{Raw, Received, Receiver, answer, raw_receiver};
use crate::event::id::TransactionTag;
use crate::event::{EventBatch, EventFilter, EventId, Lanes};
use crate::journal::{
    Append, Checkpoint, Chosen, EndpointStatus, JournalOptions, JournalReader, JournalWriter,
    Start, Wish, give_order,
};
use crate::postgres::lsn::Lsn;

mod fates;
mod health;
mod quiet;
mod replays;
mod steered;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bed {
    directory: TempDir,
    journal: Journal,
    /// Held until the end: it writes.
    writer: Option<JournalWriter>,
    next: i64,
}

struct Running {
    stop: watch::Sender<Stop>,
    task: JoinHandle<Result<(), DeliveryError>>,
}

impl Running {
    async fn stop(self, how: Stop) {
        self.stop.send_replace(how);
        self.task.await.unwrap().unwrap();
    }
}

impl Bed {
    fn new() -> Bed {
        let directory = TempDir::new().unwrap();
        let (journal, writer) =
            Journal::open(JournalOptions::new(directory.path().join("walhook.db"))).unwrap();
        Bed { directory, journal, writer: Some(writer), next: 1 }
    }

    /// As if the process had been started again.
    fn reopen(&mut self) {
        self.writer.take().unwrap().stop().unwrap();
        let path = self.directory.path().join("walhook.db");
        let (journal, writer) = Journal::open(JournalOptions::new(path)).unwrap();
        (self.journal, self.writer) = (journal, Some(writer));
    }

    /// Journals that many events; `n` is on lane and key `n % keys`.
    fn append(&mut self, count: i64, keys: i64) {
        let mut events = EventBatch::default();
        for n in self.next..self.next + count {
            let key = n % keys;
            let tag = TransactionTag::new("test", 1, 1, 1, n);
            let id = EventId::new(n.unsigned_abs(), 0, tag);
            let name: Arc<str> =
                format!("person.{}", if key == 0 { "deleted" } else { "created" }).into();
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(format!(r#"{{"n":{n},"key":{key}}}"#).as_bytes());
                Ok::<_, ()>(())
            };
            events.push(id, name, Lanes::one(key), n, write).unwrap();
        }
        self.next += count;
        self.commit(events);
    }

    /// Journals events with these lanes, each of a name that is created or one that is deleted.
    fn append_with(&mut self, lanes: &[(Lanes, bool)]) {
        let mut events = EventBatch::default();
        for (n, &(lanes, created)) in (self.next..).zip(lanes) {
            let id = EventId::new(n.unsigned_abs(), 0, TransactionTag::new("test", 1, 1, 1, n));
            let name = if created { "person.created" } else { "person.deleted" };
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(format!(r#"{{"n":{n:>15}}}"#).as_bytes());
                Ok::<_, ()>(())
            };
            events.push(id, name.into(), lanes, n, write).unwrap();
        }
        self.next += i64::try_from(lanes.len()).unwrap();
        self.commit(events);
    }

    fn commit(&self, events: EventBatch) {
        let lsn = Lsn(self.next.unsigned_abs());
        let position = Position { commit_lsn: lsn, ordinal: 0 };
        let checkpoint = Checkpoint { position, resume_lsn: lsn };
        let deadline = std::time::Instant::now() + PATIENCE;
        self.journal
            .append(Append { events, checkpoint, ..Append::default() }, deadline)
            .unwrap()
            .unwrap();
    }

    async fn run(&self, options: EndpointOptions) -> Running {
        let dispatcher = Dispatcher::start(options, self.journal.clone(), &hosts()).await.unwrap();
        let (stop, told) = watch::channel(Stop::Run);
        Running { stop, task: tokio::spawn(dispatcher.run(told)) }
    }

    fn reader(&self) -> JournalReader {
        Journal::open_read_only(self.journal.path()).unwrap()
    }

    fn status(&self, name: &str) -> EndpointStatus {
        let status = self.reader().status().unwrap();
        status.endpoints.into_iter().find(|endpoint| endpoint.name == name).unwrap()
    }

    /// Waits until nothing is left to do for the endpoint.
    async fn delivered(&self, name: &str) -> EndpointStatus {
        let last = Seq(self.next - 1);
        until(|| {
            let status = self.status(name);
            status.cursor == last && status.waiting + status.blocked + status.in_flight == 0
        })
        .await;
        self.status(name)
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn options(url: Url) -> EndpointOptions {
    let mut options = EndpointOptions::new("crm", url);
    options.networks.private = true;
    options.start = Start::Earliest;
    options.concurrency = 8;
    options.retry = every(10, 200);
    options
}

fn hosts() -> Hosts {
    Hosts::new(BreakerOptions::default())
}

fn every(delay_ms: u64, times: usize) -> RetrySchedule {
    RetrySchedule::list(vec![Duration::from_millis(delay_ms); times], 0.5).unwrap()
}

fn field(received: &Received, name: &str) -> i64 {
    received.json()[name].as_i64().unwrap()
}

/// On each key no event may be asked for after a later one was.
fn assert_order(received: &[Received]) {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for request in received {
        let (n, key) = (field(request, "n"), field(request, "key"));
        let last = last.entry(key).or_insert(n);
        assert!(*last <= n, "{n} of key {key} after {last}");
        *last = n;
    }
}

fn numbers(received: &[Received]) -> BTreeSet<i64> {
    received.iter().map(|request| field(request, "n")).collect()
}

/// A receiver that fails at random, and which events it accepted, in order.
async fn moody(seed: u64, failures: f64) -> (Receiver, Arc<Mutex<Vec<i64>>>) {
    let rng = Mutex::new(StdRng::seed_from_u64(seed));
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&accepted);
    let receiver = Receiver::start(move |request| {
        if rng.lock().unwrap().random_bool(failures) {
            return answer(500);
        }
        log.lock().unwrap().push(field(request, "n"));
        answer(200)
    })
    .await;
    (receiver, accepted)
}

#[tokio::test]
async fn order_per_record_under_random_failures() {
    let (receiver, accepted) = moody(1, 0.3).await;
    let mut bed = Bed::new();
    bed.append(150, 10);
    let running = bed.run(options(receiver.url())).await;
    bed.append(150, 10);
    let status = bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_order(&receiver.received());
    let accepted = accepted.lock().unwrap();
    assert_eq!(accepted.len(), 300, "nothing is sent again after a success");
    assert_eq!(accepted.iter().copied().collect::<BTreeSet<_>>(), (1..=300).collect());
    assert_eq!(status.succeeded, 300);
    assert_eq!(status.failed as usize, receiver.count() - 300);
}

#[tokio::test]
async fn dead_after_the_schedule_and_the_record_goes_on() {
    let receiver =
        Receiver::start(|request| answer(if field(request, "n") == 1 { 500 } else { 200 })).await;
    let mut bed = Bed::new();
    bed.append(6, 2);
    let mut options = options(receiver.url());
    options.retry = every(10, 2);
    let running = bed.run(options).await;
    let status = bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_eq!((status.dead, status.succeeded, status.failed), (1, 5, 3));
    let received = receiver.received();
    assert_order(&received);
    let first: Vec<&Received> = received.iter().filter(|r| field(r, "n") == 1).collect();
    let attempts: Vec<&str> = first.iter().map(|r| r.header("webhook-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert!(first.iter().all(|r| r.header("webhook-id") == first[0].header("webhook-id")));
    let dead = bed.reader().dead(None, Seq(0), 10).unwrap();
    assert_eq!((dead[0].seq, dead[0].attempts), (Seq(1), 3));
}

#[tokio::test]
async fn gone_disables_until_enabled() {
    let status = Arc::new(AtomicU16::new(410));
    let says = Arc::clone(&status);
    let receiver = Receiver::start(move |_| answer(says.load(Atomic::Relaxed))).await;
    let mut bed = Bed::new();
    bed.append(20, 1);
    let running = bed.run(options(receiver.url())).await;
    until(|| bed.status("crm").disabled.is_some()).await;
    running.stop(Stop::Drain).await;
    assert_eq!(receiver.count(), 1);
    assert!(bed.status("crm").disabled.unwrap().contains("410"));

    status.store(200, Atomic::Relaxed);
    bed.reopen();
    let dispatcher =
        Dispatcher::start(options(receiver.url()), bed.journal.clone(), &hosts()).await.unwrap();
    assert!(dispatcher.is_disabled());
    let (stop, told) = watch::channel(Stop::Run);
    let task = tokio::spawn(dispatcher.run(told));
    bed.append(1, 1);
    stop.send_replace(Stop::Drain);
    task.await.unwrap().unwrap();
    assert_eq!(receiver.count(), 1, "nothing is sent while it is disabled");

    let endpoint = bed.journal.register_endpoint("crm", Start::Now).await.unwrap().endpoint;
    bed.journal.set_disabled(endpoint, None).await.unwrap();
    let running = bed.run(options(receiver.url())).await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_order(&receiver.received());
    assert_eq!(numbers(&receiver.received()), (1..=21).collect(), "nothing was lost");
}

#[tokio::test]
async fn breaker_pauses_and_resumes() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    let receiver = Receiver::start(move |_| {
        let down = is_down.load(Atomic::Relaxed);
        log.lock().unwrap().push((Instant::now(), down));
        answer(if down { 503 } else { 200 })
    })
    .await;
    let mut bed = Bed::new();
    bed.append(200, 200);
    let mut options = options(receiver.url());
    options.concurrency = 4;
    let running = bed.run(options).await;
    // Of those after the 20 it takes to open it.
    let pause = |requests: &[(Instant, bool)]| {
        let opened = requests.get(19..).unwrap_or_default();
        opened.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default()
    };
    // It opens, and the first probe fails, too.
    until(|| pause(&requests.lock().unwrap()) > Duration::from_millis(900)).await;
    down.store(false, Atomic::Relaxed);
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    let requests = requests.lock().unwrap();
    let failures = requests.iter().filter(|(_, down)| *down).count();
    assert!((21..=24).contains(&failures), "{failures}");
    assert!(pause(&requests) > Duration::from_millis(1_500), "the second pause is longer");
}

#[tokio::test]
async fn starting_again_and_again_loses_nothing_and_keeps_the_order() {
    let (receiver, accepted) = moody(2, 0.2).await;
    let mut bed = Bed::new();
    bed.append(400, 7);
    let mut rng = StdRng::seed_from_u64(3);
    for round in 0..12 {
        let running = bed.run(options(receiver.url())).await;
        let enough = receiver.count() + rng.random_range(1..40);
        until(|| receiver.count() >= enough || bed.status("crm").cursor == Seq(400)).await;
        match round % 3 {
            0 => running.task.abort(),
            1 => running.stop(Stop::Now).await,
            _ => running.stop(Stop::Drain).await,
        }
        if round % 4 == 3 {
            bed.reopen();
        }
    }
    let running = bed.run(options(receiver.url())).await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_order(&receiver.received());
    let accepted = accepted.lock().unwrap();
    assert_eq!(accepted.iter().copied().collect::<BTreeSet<_>>(), (1..=400).collect());
    // Eight rounds ended without a drain, each with at most 2 * 8 outcomes not written down.
    assert!(accepted.len() <= 400 + 9 * 16, "{}", accepted.len());
}

#[tokio::test]
async fn a_dead_endpoint_delays_no_neighbour() {
    let (nowhere, task) = raw_receiver(Raw::Silence).await;
    let receiver = Receiver::start(|_| answer(204)).await;
    let mut bed = Bed::new();
    let mut dead = options(nowhere);
    dead.name = "dead".to_owned();
    dead.timeout = PATIENCE;
    let dead = bed.run(dead).await;
    let running = bed.run(options(receiver.url())).await;
    bed.append(1_000, 100);
    let started = Instant::now();
    bed.delivered("crm").await;
    assert!(started.elapsed() < PATIENCE / 2);
    assert_eq!(receiver.count(), 1_000);
    assert_eq!(bed.status("dead").succeeded, 0);
    running.stop(Stop::Drain).await;
    dead.stop(Stop::Now).await;
    task.abort();
}

#[tokio::test]
async fn drain_finishes_what_is_on_its_way_and_sends_nothing_new() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    bed.append(20, 20);
    receiver.open(false);
    let mut few = options(receiver.url());
    few.concurrency = 4;
    let running = bed.run(few.clone()).await;
    until(|| receiver.count() == 4).await;
    running.stop.send_replace(Stop::Drain);
    receiver.open(true);
    running.task.await.unwrap().unwrap();
    assert_eq!(receiver.count(), 4);
    let status = bed.status("crm");
    assert_eq!((status.cursor, status.in_flight, status.succeeded), (Seq(4), 0, 4));
    let running = bed.run(few).await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_eq!(receiver.count(), 20, "nothing is repeated");
}

#[tokio::test]
async fn strict_order_holds_everything_and_attempts_survive_a_restart() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let receiver =
        Receiver::start(move |_| answer(if is_down.load(Atomic::Relaxed) { 500 } else { 200 }))
            .await;
    let mut bed = Bed::new();
    bed.append(30, 30);
    let mut strict = options(receiver.url());
    strict.ordering = Ordering::Strict;
    let running = bed.run(strict.clone()).await;
    until(|| receiver.count() >= 3).await;
    running.stop(Stop::Drain).await;
    let tried = receiver.count();
    assert_eq!(numbers(&receiver.received()), [1].into());
    assert_eq!(bed.status("crm").cursor, Seq(1));
    bed.reopen();
    down.store(false, Atomic::Relaxed);
    let running = bed.run(strict).await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    let received = receiver.received();
    assert_eq!(received[tried].header("webhook-attempt"), (tried + 1).to_string());
    let order: Vec<i64> = received[tried..].iter().map(|request| field(request, "n")).collect();
    assert_eq!(order, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn in_strict_order_dead_letters_that_are_ordered_go_before_all_else() {
    let (dies, fails) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let (is_dying, is_failing) = (Arc::clone(&dies), Arc::clone(&fails));
    let receiver = Receiver::start(move |request| {
        let fails = match field(request, "n") {
            3 | 5 => is_dying.load(Atomic::Relaxed),
            _ => false,
        };
        // Once it is ordered, 5 needs another try.
        let again = field(request, "n") == 5 && is_failing.swap(fails, Atomic::Relaxed);
        answer(if fails || again { 500 } else { 200 })
    })
    .await;
    let mut bed = Bed::new();
    bed.append(10, 3);
    let mut strict = options(receiver.url());
    strict.ordering = Ordering::Strict;
    strict.retry = every(10, 0);
    let running = bed.run(strict.clone()).await;
    assert_eq!(bed.delivered("crm").await.dead, 2);
    running.stop(Stop::Drain).await;
    let tried = receiver.count();

    dies.store(false, Atomic::Relaxed);
    fails.store(true, Atomic::Relaxed);
    bed.append(3, 3);
    let chosen = Chosen::default();
    let wish = Wish::Retry { endpoint: Some("crm".to_owned()), chosen };
    give_order(bed.journal.path(), &wish).unwrap();
    crate::daemon::carry_out_orders(&bed.journal, &["crm".to_owned()]).await.unwrap();
    strict.retry = every(100, 3);
    let running = bed.run(strict).await;
    assert_eq!(bed.delivered("crm").await.dead, 0);
    running.stop(Stop::Drain).await;
    let received = &receiver.received()[tried..];
    let order: Vec<i64> = received.iter().map(|request| field(request, "n")).collect();
    assert_eq!(order, [3, 5, 5, 11, 12, 13]);
    let numbers: Vec<_> = received.iter().map(|r| r.header("webhook-sequence")).collect();
    assert_eq!(numbers, ["3", "5", "5", "11", "12", "13"]);
}

#[tokio::test]
async fn without_order_a_failing_event_holds_nothing() {
    let receiver =
        Receiver::start(|request| answer(if field(request, "n") == 1 { 500 } else { 200 })).await;
    let mut bed = Bed::new();
    bed.append(10, 1);
    let mut free = options(receiver.url());
    free.ordering = Ordering::None;
    free.retry = every(3_600_000, 1);
    let running = bed.run(free).await;
    until(|| bed.status("crm").succeeded == 9).await;
    running.stop(Stop::Drain).await;
    let status = bed.status("crm");
    assert_eq!((status.waiting, status.blocked), (1, 0));
}

#[tokio::test]
async fn only_what_is_wanted_is_sent_and_the_cursor_passes_the_rest() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    bed.append(1_000, 100);
    bed.reopen();
    let mut picky = options(receiver.url());
    picky.filter = EventFilter::new(["*.deleted"]).unwrap();
    let running = bed.run(picky.clone()).await;
    bed.append(1_005, 100);
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    let expected: BTreeSet<i64> = (1..=2_005).filter(|n| n % 100 == 0).collect();
    assert_eq!(numbers(&receiver.received()), expected);
    assert_eq!(receiver.count(), expected.len());
}

#[tokio::test]
async fn receivers_may_ask_for_time() {
    asked_for_time(|| "1".to_owned()).await;
    // In whole seconds, too: at least one of two is left.
    asked_for_time(|| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2))).await;
}

async fn asked_for_time(after: fn() -> String) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&times);
    let receiver = Receiver::start(move |_| {
        let mut times = log.lock().unwrap();
        times.push(Instant::now());
        if times.len() > 1 {
            return answer(200);
        }
        let mut busy = answer(429);
        busy.headers_mut().insert("retry-after", after().parse().unwrap());
        busy
    })
    .await;
    let mut bed = Bed::new();
    bed.append(1, 1);
    let running = bed.run(options(receiver.url())).await;
    until(|| receiver.count() >= 1).await;
    bed.append(5, 5);
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_secs(1), "nothing else is sent meanwhile");
}

#[tokio::test]
async fn a_journal_that_ends_ends_the_dispatcher() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut bed = Bed::new();
    receiver.open(false);
    let running = bed.run(options(receiver.url())).await;
    bed.append(3, 1);
    until(|| receiver.count() == 1).await;
    bed.writer.take().unwrap().stop().unwrap();
    receiver.open(true);
    let error = running.task.await.unwrap().unwrap_err();
    assert!(!error.is_configuration());
    assert!(error.to_string().contains("crm"), "{error}");
}

/// A dispatcher that is not running, on as many events.
async fn idle(bed: &mut Bed, count: i64, change: impl FnOnce(&mut EndpointOptions)) -> Dispatcher {
    bed.append(count, count);
    until(|| bed.journal.tail().last_seq() == Seq(count)).await;
    let mut options = options("http://127.0.0.1:9/".parse().unwrap());
    change(&mut options);
    Dispatcher::start(options, bed.journal.clone(), &hosts()).await.unwrap()
}

fn landing(launch: Launch, verdict: Verdict) -> Landing {
    let error = (verdict != Verdict::Succeeded).then(|| "no".to_owned());
    let record = AttemptRecord {
        seq: launch.parcel.events[0].event.seq,
        others: Vec::new(),
        failed_events: u32::from(error.is_some()),
        attempt: launch.parcel.number,
        started_at_ms: 1,
        duration_us: 1,
        status: None,
        error,
        head: None,
        response: None,
    };
    let (host, steering) = (HostAnswer::Alive, Steering::default());
    Landing { launch, attempt: Attempt { verdict, host, steering, record } }
}

async fn settle(dispatcher: &mut Dispatcher) {
    let settled = dispatcher.settle().await;
    dispatcher.settled(settled).unwrap();
}

#[tokio::test]
async fn gone_is_written_down_even_if_it_comes_during_a_settlement() {
    let mut bed = Bed::new();
    let mut dispatcher = idle(&mut bed, 2, |_| {}).await;
    let now = Instant::now();
    let first = dispatcher.next_launch(now).unwrap();
    let second = dispatcher.next_launch(now).unwrap();
    dispatcher.landed(landing(first, Verdict::Succeeded));
    let settling = dispatcher.settle();
    dispatcher.landed(landing(second, Verdict::Disable { delivered: false }));
    dispatcher.settled(settling.await).unwrap();
    settle(&mut dispatcher).await;
    assert_eq!(bed.status("crm").disabled.as_deref(), Some("no"));
    assert!(dispatcher.is_drained());
}

#[tokio::test]
async fn a_journal_error_is_waited_out_no_longer_than_said() {
    let mut bed = Bed::new();
    let mut dispatcher = idle(&mut bed, 1, |_| {}).await;
    let now = Instant::now();
    dispatcher.journal_pause = Some(now + JOURNAL_PAUSE);
    assert_eq!(dispatcher.wake_at(now, true, false), now + JOURNAL_PAUSE);
}

#[tokio::test]
async fn who_may_take_nothing_does_not_ask_for_its_turn_again() {
    let mut bed = Bed::new();
    let mut dispatcher = idle(&mut bed, 2, |options| {
        options.ordering = Ordering::Strict;
        options.retry = every(3_600_000, 1);
    })
    .await;
    let now = Instant::now();
    let first = dispatcher.next_launch(now).unwrap();
    dispatcher.landed(landing(first, Verdict::Retry { after: None }));
    settle(&mut dispatcher).await;
    // As after a long run of events that are not wanted, which ended with the one that failed.
    dispatcher.intake.interrupted();
    assert!(dispatcher.next_launch(now).is_none());
    assert!(dispatcher.wake_at(now, true, false) > now + Duration::from_millis(100));
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_not_tried_again() {
    let receiver =
        Receiver::start(|request| answer(if field(request, "key") == 0 { 500 } else { 200 })).await;
    let mut bed = Bed::new();
    bed.append(20, 4);
    let running = bed.run(options(receiver.url())).await;
    until(|| bed.status("crm").succeeded == 15 && bed.status("crm").blocked == 4).await;
    running.stop(Stop::Drain).await;
    let count = receiver.count();
    let mut picky = options(receiver.url());
    picky.filter = EventFilter::new(["*.created"]).unwrap();
    let running = bed.run(picky).await;
    bed.delivered("crm").await;
    running.stop(Stop::Drain).await;
    assert_eq!(receiver.count(), count);
    assert_eq!(bed.status("crm").dead, 0);
}
