use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;

use super::breaker::BreakerOptions;
use super::*;

use HostAnswer::{Alive, Failing};

const SECOND: Duration = Duration::from_secs(1);

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn host() -> Host {
    Hosts::new(BreakerOptions::default()).of(&url("http://example.com/a"))
}

/// Sends and lands that many, one after another, and says what the last one changed.
fn answers(host: &Host, now: Instant, answer: HostAnswer, times: usize) -> Turn {
    let mut turn = Turn::Unchanged;
    for _ in 0..times {
        let ticket = host.try_start(now).unwrap();
        turn = host.landed(ticket, answer, now);
    }
    turn
}

/// Opens it, and returns when its cool-down ends.
fn open(host: &Host, now: Instant) -> Instant {
    assert!(matches!(answers(host, now, Failing, 20), Turn::Opened { .. }));
    match host.permit(now) {
        Permit::After(until) => until,
        other => panic!("it is open, not {other:?}"),
    }
}

#[test]
fn it_opens_when_the_share_of_failures_is_reached_by_enough_requests() {
    let now = Instant::now();
    let host = host();
    assert_eq!(answers(&host, now, Failing, 19), Turn::Unchanged, "too few");
    assert!(matches!(answers(&host, now, Failing, 1), Turn::Opened { .. }));
    let host = self::host();
    answers(&host, now, Alive, 9);
    assert_eq!(answers(&host, now, Failing, 20), Turn::Unchanged, "20 of 29 are less than 0.7");
    assert!(matches!(answers(&host, now, Failing, 1), Turn::Opened { .. }), "21 of 30");
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let now = Instant::now();
    let host = host();
    answers(&host, now, Failing, 19);
    assert_eq!(answers(&host, now + 31 * SECOND, Failing, 19), Turn::Unchanged);
    assert!(matches!(answers(&host, now + 60 * SECOND, Failing, 1), Turn::Opened { .. }));
}

#[test]
fn a_busy_host_that_dies_is_noticed_within_a_hundred_requests() {
    let now = Instant::now();
    let host = host();
    answers(&host, now, Alive, 100_000);
    assert_eq!(answers(&host, now, Failing, 69), Turn::Unchanged);
    assert!(matches!(answers(&host, now, Failing, 1), Turn::Opened { .. }));
}

#[test]
fn one_probe_decides_and_the_cool_down_doubles_to_its_maximum() {
    let mut now = Instant::now();
    let host = host();
    now = open(&host, now);
    for expected in [2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(host.permit(now - Duration::from_millis(1)), Permit::After(now));
        assert!(host.try_start(now - Duration::from_millis(1)).is_none());
        assert_eq!(host.permit(now), Permit::One);
        let probe = host.try_start(now).unwrap();
        assert!(probe.is_probe());
        assert_eq!(host.permit(now), Permit::Probing);
        assert!(host.try_start(now).is_none());
        let Turn::Opened { cool_down } = host.landed(probe, Failing, now) else { panic!("open") };
        let expected = Duration::from_secs(expected);
        assert!(cool_down <= expected && cool_down >= expected.mul_f64(0.9), "{cool_down:?}");
        now += cool_down;
    }
    let probe = host.try_start(now).unwrap();
    assert_eq!(host.landed(probe, Alive, now), Turn::Closed);
    assert_eq!(host.permit(now), Permit::Any);
    assert_eq!(answers(&host, now, Failing, 19), Turn::Unchanged, "the window was forgotten");
}

#[test]
fn a_host_that_takes_probes_and_nothing_else_is_left_alone_longer_each_time() {
    let now = Instant::now();
    let host = host();
    let flap = |now| {
        let until = open(&host, now);
        assert_eq!(answers(&host, until, Alive, 1), Turn::Closed);
        (until, until - now)
    };
    let (now, first) = flap(now);
    let (now, second) = flap(now);
    assert!(first <= SECOND && second > SECOND.mul_f64(1.7), "{first:?} {second:?}");
    let (_, later) = flap(now + 31 * SECOND);
    assert!(later <= SECOND, "it held for the length of the window: {later:?}");
}

#[test]
fn answers_to_requests_from_before_a_turn_change_nothing() {
    let now = Instant::now();
    let host = host();
    let before = |count| (0..count).map(|_| host.try_start(now).unwrap()).collect::<Vec<_>>();
    let mut sent = before(60);
    let until = open(&host, now);
    for answer in [Alive, Failing] {
        assert_eq!(host.landed(sent.pop().unwrap(), answer, now), Turn::Unchanged);
    }
    let probe = host.try_start(until).unwrap();
    for answer in [Alive, Failing] {
        assert_eq!(host.landed(sent.pop().unwrap(), answer, until), Turn::Unchanged);
        assert_eq!(host.permit(until), Permit::Probing);
    }
    assert_eq!(host.landed(probe, Alive, until), Turn::Closed);
    for ticket in sent {
        assert_eq!(host.landed(ticket, Failing, until), Turn::Unchanged);
    }
    assert_eq!(host.permit(until), Permit::Any);
    assert_eq!(answers(&host, until, Failing, 19), Turn::Unchanged);
}

#[test]
fn a_probe_that_comes_to_nothing_leaves_its_place_to_the_next() {
    let now = Instant::now();
    let host = host();
    let until = open(&host, now);
    drop(host.try_start(until).unwrap());
    assert_eq!(host.permit(until), Permit::One);
    let probe = host.try_start(until).unwrap();
    assert_eq!(host.landed(probe, HostAnswer::None, until), Turn::Unchanged);
    assert_eq!(answers(&host, until, Alive, 1), Turn::Closed);
}

#[test]
fn hosts_are_told_apart_by_name_and_port_and_forgotten_with_their_last_endpoint() {
    let now = Instant::now();
    let hosts = Hosts::new(BreakerOptions::default());
    let first = hosts.of(&url("https://example.com/a"));
    open(&first, now);
    for same in ["https://EXAMPLE.com:443/b?c", "https://example.com./", "https://u:p@example.com"]
    {
        assert_ne!(hosts.of(&url(same)).permit(now), Permit::Any, "{same}");
    }
    for other in ["https://example.com:8443/a", "http://example.com/a", "https://example.org/a"] {
        assert_eq!(hosts.of(&url(other)).permit(now), Permit::Any, "{other}");
    }
    let twin = hosts.of(&url("https://example.com/z"));
    drop(first);
    assert_ne!(hosts.of(&url("https://example.com/a")).permit(now), Permit::Any);
    drop(twin);
    assert_eq!(hosts.of(&url("https://example.com/a")).permit(now), Permit::Any);
    assert!(lock(&hosts.known).len() <= 2, "nothing is kept of hosts that nobody uses");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_woken_even_if_it_changed_before_they_waited() {
    let now = Instant::now();
    let hosts = Hosts::new(BreakerOptions::default());
    let sender = hosts.of(&url("http://a/1"));
    let mut waiting = hosts.of(&url("http://a/2"));
    let until = open(&sender, now);
    timeout(SECOND, waiting.changed()).await.expect("it opened");
    let probe = sender.try_start(until).unwrap();
    assert!(timeout(SECOND, waiting.changed()).await.is_err(), "nothing to be done yet");
    drop(probe);
    timeout(SECOND, waiting.changed()).await.expect("the place is free");
    assert_eq!(answers(&sender, until, Alive, 1), Turn::Closed);
    timeout(SECOND, waiting.changed()).await.expect("it closed");
    assert!(timeout(SECOND, waiting.changed()).await.is_err());
}

/// Endpoints of one host on several threads, each with requests that vanish, fail and succeed: there
/// is never more than one probe, and after every turn someone gets the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_endpoints_share_one_probe_and_none_is_lost() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PROBES: usize = 400;
    let options = BreakerOptions {
        min_requests: 3,
        cool_down: Duration::from_micros(200),
        max_cool_down: Duration::from_micros(200),
        ..BreakerOptions::default()
    };
    let hosts = Hosts::new(options);
    let (probing, probes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let endpoints: Vec<_> = (0..8u64)
        .map(|number| {
            let (mut host, probing, probes) =
                (hosts.of(&url("http://a/")), Arc::clone(&probing), Arc::clone(&probes));
            tokio::spawn(async move {
                let mut step = number;
                while probes.load(Ordering::SeqCst) < PROBES {
                    step += 1;
                    let ticket = match host.permit(Instant::now()) {
                        Permit::Any | Permit::One => host.try_start(Instant::now()),
                        Permit::After(until) => {
                            tokio::select! {
                                () = tokio::time::sleep_until(until) => {}
                                () = host.changed() => {}
                            }
                            continue;
                        }
                        // Nothing else wakes it.
                        Permit::Probing => {
                            host.changed().await;
                            continue;
                        }
                    };
                    let Some(ticket) = ticket else { continue };
                    let probe = ticket.is_probe();
                    if probe {
                        assert_eq!(probing.fetch_add(1, Ordering::SeqCst), 0, "a second probe");
                        probes.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::task::yield_now().await;
                    if probe {
                        probing.fetch_sub(1, Ordering::SeqCst);
                    }
                    match step % 5 {
                        0 => drop(ticket),
                        1 if probe => drop(host.landed(ticket, Alive, Instant::now())),
                        2 => drop(host.landed(ticket, HostAnswer::None, Instant::now())),
                        _ => drop(host.landed(ticket, Failing, Instant::now())),
                    }
                }
            })
        })
        .collect();
    let all = futures_util::future::join_all(endpoints);
    for ended in timeout(Duration::from_secs(60), all).await.expect("someone waits for ever") {
        ended.unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Start,
    Land { which: usize, answer: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u64..2_000).prop_map(Step::Wait),
        4 => Just(Step::Start),
        4 => (any::<usize>(), prop_oneof![1 => Just(0u8), 5 => Just(1), 1 => Just(2), 1 => Just(3)])
            .prop_map(|(which, answer)| Step::Land { which, answer }),
    ]
}

/// The same, told naively: every answer is kept, and looked through from the start.
#[derive(Default)]
struct Model {
    /// Since it last closed: when, and whether it failed.
    answers: Vec<(Instant, bool)>,
    open_until: Option<Instant>,
    probing: bool,
    turns: usize,
}

proptest! {
    #[test]
    fn it_does_what_a_naive_model_does(steps in prop::collection::vec(step(), 1..400)) {
        let options = BreakerOptions {
            failures: 0.5,
            min_requests: 4,
            window: 5 * SECOND,
            cool_down: SECOND,
            max_cool_down: 4 * SECOND,
        };
        let host = Hosts::new(options).of(&url("http://a/"));
        let mut now = Instant::now();
        let mut model = Model::default();
        let mut flying: Vec<(Ticket, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Start => {
                    let ticket = host.try_start(now);
                    let probe = model.open_until.is_some();
                    let may = !model.probing && model.open_until.is_none_or(|until| until <= now);
                    prop_assert_eq!(ticket.is_some(), may);
                    if let Some(ticket) = ticket {
                        prop_assert_eq!(ticket.is_probe(), probe);
                        model.probing = probe;
                        flying.push((ticket, model.turns));
                    }
                }
                Step::Land { which, answer } if !flying.is_empty() => {
                    let (ticket, turns) = flying.swap_remove(which % flying.len());
                    let probe = ticket.is_probe();
                    let answer = match answer {
                        0 => Some(Alive),
                        1 => Some(Failing),
                        2 => Some(HostAnswer::None),
                        _ => None,
                    };
                    let turn = match answer {
                        Some(answer) => host.landed(ticket, answer, now),
                        None => {
                            drop(ticket);
                            Turn::Unchanged
                        }
                    };
                    let stale = turns != model.turns;
                    model.probing &= !probe || stale;
                    let counts = matches!(answer, Some(Alive | Failing)) && !stale;
                    let failed = answer == Some(Failing);
                    let mut opens = counts && probe && failed;
                    if counts && !probe {
                        model.answers.push((now, failed));
                        let recent: Vec<_> = model.answers.iter().rev().take(100)
                            .filter(|(at, _)| now - *at <= options.window).collect();
                        let failures = recent.iter().filter(|(_, failed)| *failed).count();
                        opens = failed && recent.len() >= 4 && failures * 2 >= recent.len();
                    }
                    let closes = counts && probe && !failed;
                    prop_assert_eq!(matches!(turn, Turn::Opened { .. }), opens);
                    prop_assert_eq!(turn == Turn::Closed, closes);
                    if let Turn::Opened { cool_down } = turn {
                        prop_assert!(cool_down >= SECOND.mul_f64(0.9) && cool_down <= 4 * SECOND);
                        model.open_until = Some(now + cool_down);
                    }
                    if closes {
                        model.open_until = None;
                    }
                    if opens || closes {
                        model.turns += 1;
                        model.answers.clear();
                    }
                }
                Step::Land { .. } => {}
            }
            let expected = match model.open_until {
                None => Permit::Any,
                Some(_) if model.probing => Permit::Probing,
                Some(until) if now < until => Permit::After(until),
                Some(_) => Permit::One,
            };
            prop_assert_eq!(host.permit(now), expected);
        }
    }
}
