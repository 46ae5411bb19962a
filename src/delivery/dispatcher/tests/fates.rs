//! Whatever comes of requests, and however the daemon ends in between: order, at-least-once, numbers
//! and bounds. No network; the clock is paused and jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use rand::Rng as _;

use super::*;
use crate::delivery::dispatcher::courier::Script;
use crate::delivery::endpoint::{BatchOptions, RateLimit};

const LANES: i64 = 5;
const SLOTS: usize = 3;
const EVENTS: i64 = 60;
const BODY: usize = 20;

/// The receiver's side, and all that is known of what should happen.
struct World {
    rng: StdRng,
    ordering: Ordering,
    batch: BatchOptions,
    reader: JournalReader,
    /// The lanes of the events that are wanted, and the number each is to have.
    wanted: BTreeMap<Seq, (Lanes, u64)>,
    accepted: BTreeSet<Seq>,
    /// A later event of their lane was sent without them: they may never be sent again.
    passed: BTreeSet<Seq>,
    flying: usize,
    requests: usize,
    /// Whether everything succeeds.
    calm: bool,
}

impl World {
    fn slots(&self) -> usize {
        if self.ordering == Ordering::Strict { 1 } else { SLOTS }
    }

    fn keys(&self, seq: Seq) -> Vec<i64> {
        match self.ordering {
            Ordering::Record => self.wanted[&seq].0.as_slice().to_vec(),
            Ordering::Strict => vec![0],
            Ordering::None => vec![],
        }
    }

    fn is_done(&self, seq: Seq) -> bool {
        let after = Seq(seq.0 - 1);
        self.accepted.contains(&seq)
            || self.reader.dead(None, after, 1).unwrap().first().is_some_and(|dead| dead.seq == seq)
    }

    /// A request comes in.
    fn start(&mut self, parcel: &Parcel) -> (Duration, Verdict) {
        self.requests += 1;
        self.flying += 1;
        assert!(self.flying <= self.slots());
        assert!(!parcel.events.is_empty() && parcel.events.len() <= self.batch.max_events);
        let bytes: usize = parcel.events.iter().map(|one| one.event.body.len()).sum();
        assert!(bytes <= self.batch.max_bytes || parcel.events.len() == 1);
        let seqs: Vec<Seq> = parcel.events.iter().map(|one| one.event.seq).collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
        for numbered in &parcel.events {
            let seq = numbered.event.seq;
            assert_eq!(Some(numbered.sequence), self.wanted.get(&seq).map(|known| known.1));
            assert!(!self.passed.contains(&seq), "{seq} is sent after a later one");
            let keys = self.keys(seq);
            let earlier: Vec<Seq> = self.wanted.range(..seq).map(|(&seq, _)| seq).collect();
            for earlier in earlier {
                let shares = self.keys(earlier).iter().any(|key| keys.contains(key));
                if shares && !seqs.contains(&earlier) && self.passed.insert(earlier) {
                    assert!(self.is_done(earlier), "{seq} is sent before {earlier}");
                }
            }
        }
        let after = self.rng.random_bool(0.3).then(|| self.some_time(5_000));
        let verdict = match self.rng.random_range(0..100) {
            _ if self.calm => Verdict::Succeeded,
            0..55 => Verdict::Succeeded,
            55..75 => Verdict::Retry { after },
            75..83 => {
                let ids = parcel.events.iter().map(|one| one.event.id);
                Verdict::Partly { failed: ids.filter(|_| self.rng.random_bool(0.5)).collect() }
            }
            83..91 => Verdict::Split,
            91..94 => Verdict::Abort,
            94..96 => Verdict::Disable { delivered: self.rng.random_bool(0.5) },
            // Never, as far as anybody waits for it.
            _ => return (Duration::from_secs(600), Verdict::Retry { after: None }),
        };
        (self.some_time(300), verdict)
    }

    /// It is answered.
    fn end(&mut self, parcel: &Parcel, verdict: Verdict) -> Attempt {
        let accepted = |one: &Numbered| match &verdict {
            Verdict::Succeeded | Verdict::Disable { delivered: true } => true,
            Verdict::Partly { failed } => !failed.contains(&one.event.id),
            _ => false,
        };
        let seqs = |accepted: bool, is: &dyn Fn(&Numbered) -> bool| -> Vec<Seq> {
            let events = parcel.events.iter().filter(|one| is(one) == accepted);
            events.map(|one| one.event.seq).collect()
        };
        self.accepted.extend(seqs(true, &accepted));
        let failed = seqs(false, &accepted).len();
        let record = AttemptRecord {
            seq: parcel.events[0].event.seq,
            others: parcel.events[1..].iter().map(|one| one.event.seq).collect(),
            failed_events: failed.try_into().unwrap(),
            attempt: parcel.number,
            started_at_ms: 1,
            duration_us: 1,
            status: None,
            error: (failed > 0).then(|| "no".to_owned()),
            head: None,
            response: None,
        };
        let alive = matches!(verdict, Verdict::Succeeded | Verdict::Partly { .. });
        let host = if alive { HostAnswer::Alive } else { HostAnswer::Failing };
        let throttle = !alive && self.rng.random_bool(0.2);
        let steering = Steering { throttle, ..Steering::default() };
        Attempt { verdict, host, steering, record }
    }

    fn some_time(&mut self, most_ms: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(0..most_ms))
    }
}

/// A request on its way; it may be cut off.
struct Flight(Arc<Mutex<World>>);

impl Drop for Flight {
    fn drop(&mut self) {
        if let Ok(mut world) = self.0.lock() {
            world.flying -= 1;
        }
    }
}

fn script(world: &Arc<Mutex<World>>) -> Script {
    let world = Arc::clone(world);
    Arc::new(move |parcel| {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let (time, verdict) = world.lock().unwrap().start(&parcel);
            let flight = Flight(Arc::clone(&world));
            tokio::time::sleep(time).await;
            let attempt = world.lock().unwrap().end(&parcel, verdict);
            drop(flight);
            attempt
        })
    })
}

struct Story {
    bed: Bed,
    world: Arc<Mutex<World>>,
    rng: StdRng,
    options: EndpointOptions,
    hosts: Hosts,
    wall: (Instant, i64),
}

impl Story {
    fn new(seed: u64, ordering: Ordering, max_events: usize) -> Story {
        let bed = Bed::new();
        let mut rng = StdRng::seed_from_u64(seed);
        let batch = BatchOptions {
            max_events,
            max_bytes: rng.random_range(1..=max_events + 1) * BODY,
            max_wait: Duration::from_millis(rng.random_range(0..3) * 100),
        };
        let mut options = options("http://127.0.0.1:9/".parse().unwrap());
        options.ordering = ordering;
        options.concurrency = SLOTS;
        options.batch = batch;
        options.filter = EventFilter::new(["*.created"]).unwrap();
        options.retry = every(1_000, rng.random_range(2..6));
        options.rate_limit = rng
            .random_bool(0.3)
            .then(|| RateLimit { requests: 20, period: Duration::from_secs(1) });
        let world = World {
            rng: StdRng::seed_from_u64(seed ^ 1),
            ordering,
            batch,
            reader: bed.reader(),
            wanted: BTreeMap::new(),
            accepted: BTreeSet::new(),
            passed: BTreeSet::new(),
            flying: 0,
            requests: 0,
            calm: false,
        };
        let hosts = Hosts::new(BreakerOptions::default());
        let wall = (Instant::now(), crate::clock::now_ms());
        Story { bed, world: Arc::new(Mutex::new(world)), rng, options, hosts, wall }
    }

    fn append(&mut self) {
        let count = self.rng.random_range(0..20).min(EVENTS + 1 - self.bed.next);
        let mut world = self.world.lock().unwrap();
        let mut events = Vec::new();
        for seq in self.bed.next..self.bed.next + count {
            let lanes = match self.rng.random_range(0..10) {
                0 if self.rng.random_bool(0.3) => Lanes::BARRIER,
                0 => Lanes::NONE,
                1 | 2 => {
                    let two = (self.rng.random_range(0..LANES), self.rng.random_range(0..LANES));
                    Lanes::two(two.0, two.1)
                }
                // One of them is hot.
                3..7 => Lanes::one(0),
                _ => Lanes::one(self.rng.random_range(0..LANES)),
            };
            let wanted = self.rng.random_bool(0.8);
            if wanted {
                let number = world.wanted.len() as u64 + 1;
                world.wanted.insert(Seq(seq), (lanes, number));
            }
            events.push((lanes, wanted));
        }
        drop(world);
        self.bed.append_with(&events);
    }

    async fn run(&self) -> Running {
        let courier = Courier::Scripted(script(&self.world));
        let (options, journal) = (self.options.clone(), self.bed.journal.clone());
        let mut dispatcher =
            Dispatcher::with(options, journal, &self.hosts, courier).await.unwrap();
        dispatcher.wall = Some(self.wall);
        let (stop, told) = watch::channel(Stop::Run);
        Running { stop, task: tokio::spawn(dispatcher.run(told)) }
    }

    async fn some_time(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..most_ms))).await;
    }

    /// The daemon runs for a while and ends somehow.
    async fn round(&mut self) {
        let running = self.run().await;
        for _ in 0..self.rng.random_range(0..6) {
            self.append();
            self.some_time(2_000).await;
        }
        match self.rng.random_range(0..4) {
            0 => running.stop(Stop::Now).await,
            1 => running.stop(Stop::Drain).await,
            _ => {
                running.task.abort();
                // A panic in there is a failure of the test.
                if let Err(error) = running.task.await
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        if self.rng.random_bool(0.3) {
            self.bed.reopen();
        }
        self.enable().await;
        if self.rng.random_bool(0.2) {
            self.order_again().await;
        }
    }

    /// Somebody wants what is dead to be sent again, though later ones of its lanes were.
    async fn order_again(&mut self) {
        {
            let mut world = self.world.lock().unwrap();
            for dead in world.reader.dead(None, Seq(0), usize::MAX).unwrap() {
                world.passed.remove(&dead.seq);
            }
        }
        let wish = Wish::Retry { endpoint: Some("crm".to_owned()), chosen: Chosen::default() };
        give_order(self.bed.journal.path(), &wish).unwrap();
        let configured = ["crm".to_owned()];
        crate::daemon::carry_out_orders(&self.bed.journal, &configured).await.unwrap();
    }

    async fn enable(&mut self) {
        let state = self.bed.journal.register_endpoint("crm", Start::Earliest).await.unwrap();
        if state.disabled.is_some() {
            self.bed.journal.set_disabled(state.endpoint, None).await.unwrap();
        }
    }

    async fn tell(mut self) {
        for _ in 0..self.rng.random_range(1..8) {
            self.round().await;
        }
        while self.bed.next <= EVENTS {
            self.append();
        }
        self.world.lock().unwrap().calm = true;
        let running = self.run().await;
        let last = Seq(self.bed.next - 1);
        let mut turns = 0;
        loop {
            let status = self.bed.status("crm");
            let left = status.waiting + status.blocked + status.in_flight;
            if status.cursor == last && left == 0 {
                break;
            }
            turns += 1;
            assert!(turns < 20_000 && !running.task.is_finished(), "stuck: {status:?}");
            self.some_time(1_000).await;
        }
        running.stop(Stop::Drain).await;
        let state = self.bed.journal.register_endpoint("crm", Start::Earliest).await.unwrap();
        let world = self.world.lock().unwrap();
        for &seq in world.wanted.keys() {
            assert!(world.is_done(seq), "{seq} is lost");
        }
        assert_eq!(world.flying, 0);
        assert_eq!(state.sequence, world.wanted.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("WALHOOK_FATES").map_or(40, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn order_numbers_and_bounds_hold_whatever_comes_of_requests(
        seed: u64,
        ordering in 0..3usize,
        max_events in 1..9usize,
    ) {
        let ordering = [Ordering::Record, Ordering::Strict, Ordering::None][ordering];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async { Story::new(seed, ordering, max_events).tell().await });
    }
}
