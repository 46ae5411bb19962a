use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake};

use super::*;
use crate::event::id::TransactionTag;
use crate::event::{EventBatch, EventId, Lanes};

/// Journals events of these names, the first of them numbered `first`.
fn route(routing: &Routing, first: i64, names: &[&str]) {
    let mut events = EventBatch::default();
    for (n, &name) in (first..).zip(names) {
        let id = EventId::new(n.unsigned_abs(), 0, TransactionTag::new("test", 1, 1, 1, n));
        let Ok(()) = events.push(id, name.into(), Lanes::NONE, 1, |_| Ok::<_, Infallible>(()));
    }
    routing.route(&StoredBatch::new(Seq(first), events));
    routing.wake();
}

fn routing() -> Arc<Routing> {
    Arc::new(Routing::new(Seq(0)))
}

fn follow(routing: &Arc<Routing>, endpoint: i64, pattern: &str, taken: i64) -> Follower {
    let filter = EventFilter::new([pattern]).unwrap();
    routing.follow(EndpointId(endpoint), &filter, Seq(taken))
}

fn next(follower: &mut Follower, taken: i64) -> (Course, Vec<(i64, i64)>) {
    let mut runs = VecDeque::new();
    let course = follower.next(Seq(taken), &mut runs);
    (course, runs.iter().map(|run| (run.first.0, run.last.0)).collect())
}

fn nothing(through: i64) -> (Course, Vec<(i64, i64)>) {
    (Course::Nothing(Seq(through)), Vec::new())
}

fn resting(pass: &Pass) -> Vec<i64> {
    let mut endpoints: Vec<_> = pass.endpoints.iter().map(|endpoint| endpoint.0).collect();
    endpoints.sort_unstable();
    endpoints
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    /// Whether there is something for the follower; otherwise it rings when there is.
    fn poll(self: &Arc<Bell>, follower: &Follower) -> bool {
        let waker = Waker::from(Arc::clone(self));
        pin!(follower.changed()).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn each_is_told_of_what_it_may_want_and_of_nothing_else() {
    let routing = routing();
    let mut person = follow(&routing, 1, "person.*", 0);
    let mut created = follow(&routing, 2, "*.created", 0);
    let mut all = follow(&routing, 3, "*", 0);
    let mut operator = follow(&routing, 4, "walhook.*", 0);
    assert_eq!(next(&mut person, 0), nothing(0));
    let names = ["person.created", "person.deleted", "note.created", "note.deleted"];
    route(&routing, 1, &names);
    route(&routing, 5, &["note.deleted", "person.deleted", "walhook.gap"]);
    let runs = |runs: &[(i64, i64)]| (Course::Runs, runs.to_vec());
    assert_eq!(next(&mut person, 0), runs(&[(1, 2), (6, 6)]));
    assert_eq!(next(&mut person, 1), runs(&[(1, 2), (6, 6)]), "the rest of a run is one of it");
    assert_eq!(next(&mut person, 2), runs(&[(6, 6)]));
    assert_eq!(next(&mut person, 6), nothing(7));
    assert_eq!(next(&mut created, 0), runs(&[(1, 1), (3, 3)]));
    assert_eq!(next(&mut all, 0), runs(&[(1, 6)]), "runs go on over batches");
    assert_eq!(next(&mut operator, 0), runs(&[(7, 7)]));
}

#[test]
fn a_name_that_nobody_wants_wakes_nobody() {
    let routing = routing();
    let (mut person, mut note) =
        (follow(&routing, 1, "person.*", 0), follow(&routing, 2, "note.*", 0));
    let (rung, silent) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    assert_eq!((next(&mut person, 0), next(&mut note, 0)), (nothing(0), nothing(0)));
    assert!(!rung.poll(&person) && !silent.poll(&note));
    route(&routing, 1, &["company.created"; 10]);
    assert_eq!((rung.rings(), silent.rings()), (0, 0));
    route(&routing, 11, &["person.created", "company.created", "person.deleted"]);
    assert_eq!((rung.rings(), silent.rings()), (1, 0), "once for all of them");
    assert!(rung.poll(&person) && !silent.poll(&note));
    assert_eq!(next(&mut person, 0).1, [(11, 11), (13, 13)]);
    assert_eq!(next(&mut note, 0), nothing(13));
    let routes = routing.routes();
    assert!(routes.names["company.created"].is_empty(), "it is known that nobody does");
}

#[test]
fn who_joins_reads_what_lies_before() {
    let routing = routing();
    let mut early = follow(&routing, 1, "person.*", 0);
    route(&routing, 1, &["person.created", "note.created"]);
    // The name is known by now, and this filter is not.
    let mut late = follow(&routing, 2, "*.created", 0);
    assert_eq!(next(&mut late, 0), (Course::Unknown(Seq(2)), vec![]));
    assert_eq!(next(&mut late, 2), nothing(2));
    route(&routing, 3, &["person.created", "person.deleted", "note.created"]);
    assert_eq!(next(&mut late, 2).1, [(3, 3), (5, 5)]);
    // One more of a filter that is known finds what is known.
    let mut same = follow(&routing, 3, "person.*", 1);
    assert_eq!(next(&mut same, 1).1, next(&mut early, 1).1);
    assert_eq!(next(&mut same, 1).1, [(3, 4)]);
}

#[test]
fn who_leaves_leaves_nothing_behind() {
    let routing = routing();
    let (one, other) = (follow(&routing, 1, "person.*", 0), follow(&routing, 2, "person.*", 0));
    let again = follow(&routing, 1, "person.*", 0);
    route(&routing, 1, &["person.created"]);
    assert_eq!(routing.routes().names["person.created"].len(), 1, "one group for all");
    drop((one, other));
    let mut again = again;
    assert_eq!(next(&mut again, 0).1, [(1, 1)], "another one of its name is not concerned");
    drop(again);
    assert!(routing.routes().groups.is_empty());
    assert!(routing.routes().names["person.created"].is_empty());
    route(&routing, 2, &["person.created"]);
    assert_eq!(next(&mut follow(&routing, 1, "person.*", 2), 2), nothing(2));
}

#[test]
fn only_those_pass_that_rest_and_have_nothing_to_do() {
    let routing = routing();
    let mut person = follow(&routing, 1, "person.*", 0);
    let mut note = follow(&routing, 2, "note.*", 0);
    let mut busy = follow(&routing, 3, "company.*", 0);
    for follower in [&mut person, &mut note, &mut busy] {
        assert_eq!(next(follower, 0), nothing(0));
    }
    person.rest(Seq(0));
    note.rest(Seq(0));
    route(&routing, 1, &["person.created", "thing.created"]);
    let pass = routing.pass();
    assert_eq!((resting(&pass), pass.to, pass.all), (vec![2], Seq(2), false));
    // The person's was written down meanwhile.
    assert_eq!(next(&mut person, 0).1, [(1, 1)]);
    assert_eq!(next(&mut person, 1), nothing(2));
    assert!(!person.is_resting());
    person.rest(Seq(1));
    routing.passed(Seq(2));
    assert_eq!(resting(&routing.pass()), [1], "what is saved is not saved again");
    routing.passed(Seq(2));
    assert_eq!((person.stir(), person.saved()), (Some(Seq(2)), Seq(2)));
    route(&routing, 3, &["thing.created"]);
    assert_eq!(resting(&routing.pass()), [2], "one that stirred is left alone");
    busy.rest(Seq(0));
    assert_eq!(resting(&routing.pass()), [2, 3]);
    drop((note, busy));
    assert_eq!(resting(&routing.pass()), [0; 0]);
}

#[test]
fn who_falls_far_behind_reads_the_stream() {
    let routing = routing();
    let mut slow = follow(&routing, 1, "person.*", 0);
    let mut quick = follow(&routing, 2, "person.*", 0);
    let cap = RUNS as i64;
    let (mut seq, mut taken) = (1, 0);
    while seq < 3 * cap {
        let names: Vec<&str> =
            (0..1_000).map(|n| ["person.created", "note.created"][n % 2]).collect();
        route(&routing, seq, &names);
        seq += 1_000;
        loop {
            match next(&mut quick, taken) {
                (Course::Runs, runs) => taken = runs.last().unwrap().1,
                course => break assert_eq!(course, nothing(seq - 1)),
            }
        }
    }
    let (Course::Unknown(since), _) = next(&mut slow, 0) else { panic!("it is known for ever") };
    assert!(since.0 > 0 && since.0 < seq - cap, "only the oldest are forgotten: {since}");
    assert_eq!(next(&mut slow, since.0).1[0], (since.0 + 2, since.0 + 2));
    assert!(slow.group.state().runs.len() <= RUNS);
    // Once nobody is behind, little is kept.
    assert_eq!(next(&mut slow, taken), nothing(seq - 1));
    route(&routing, seq, &["person.created", "note.created"].repeat(RUNS));
    slow.next(Seq(taken), &mut VecDeque::new());
    drop(slow);
    taken = seq + 2 * cap - 2;
    assert_eq!(next(&mut quick, taken), nothing(seq + 2 * cap - 1));
    seq += 2 * cap;
    for _ in 0..RUNS {
        route(&routing, seq, &["person.created", "note.created"]);
        quick.next(Seq(seq), &mut VecDeque::new());
        seq += 2;
    }
    assert!(quick.group.state().runs.len() <= 2 * RUNS_KEPT);
}
