//! When requests go out that are slowed by options or answers. No network; the clock is paused and
//! jumps, so what is measured is what was meant.

use std::time::UNIX_EPOCH;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::delivery::dispatcher::courier::Script;
use crate::delivery::endpoint::RateLimit;
use crate::delivery::steering::steering;

/// An attempt with this verdict.
fn attempt(parcel: &Parcel, verdict: Verdict, steering: Steering) -> Attempt {
    let failed = if verdict == Verdict::Succeeded { 0 } else { parcel.events.len() };
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
    Attempt { verdict, host: HostAnswer::Alive, steering, record }
}

/// Runs until all events are delivered.
async fn deliver(bed: &Bed, options: EndpointOptions, script: Script) {
    let (courier, hosts) = (Courier::Scripted(script), hosts());
    let mut dispatcher =
        Dispatcher::with(options, bed.journal.clone(), &hosts, courier).await.unwrap();
    dispatcher.wall = Some((Instant::now(), crate::clock::now_ms()));
    let (stop, told) = watch::channel(Stop::Run);
    let running = Running { stop, task: tokio::spawn(dispatcher.run(told)) };
    let last = Seq(bed.next - 1);
    let mut turns = 0;
    loop {
        let status = bed.status("crm");
        if status.cursor == last && status.waiting + status.blocked + status.in_flight == 0 {
            break;
        }
        turns += 1;
        assert!(turns < 20_000 && !running.task.is_finished(), "stuck: {status:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    running.stop(Stop::Drain).await;
}

async fn bed(events: i64) -> Bed {
    let mut bed = Bed::new();
    bed.append(events, events);
    // In real time: the clock of these tests runs ahead of the journal's thread.
    bed.journal.make_durable().unwrap();
    assert_eq!(bed.journal.tail().last_seq(), Seq(events));
    bed
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spreads_requests_evenly() {
    let bed = bed(60).await;
    let mut limited = options("http://127.0.0.1:9/".parse().unwrap());
    limited.rate_limit = Some(RateLimit { requests: 10, period: Duration::from_secs(1) });
    // So many that no request waits for the journal, which takes real time.
    limited.concurrency = 1_000;
    let starts = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&starts);
    let script: Script = Arc::new(move |parcel| {
        let number = {
            let mut starts = log.lock().unwrap();
            starts.push(Instant::now());
            starts.len()
        };
        Box::pin(async move {
            // Answers that come late or fail change nothing.
            tokio::time::sleep(Duration::from_millis(number as u64 * 37 % 400)).await;
            attempt(&parcel, Verdict::Succeeded, Steering::default())
        })
    });
    deliver(&bed, limited, script).await;
    let starts = starts.lock().unwrap();
    assert_eq!(starts.len(), 60);
    for (at, pair) in starts.windows(2).enumerate() {
        let gap = pair[1] - pair[0];
        let even = Duration::from_millis(95)..=Duration::from_millis(105);
        assert!(even.contains(&gap), "{gap:?} between request {at} and the next one");
    }
    let all = starts[59] - starts[0];
    let due = Duration::from_millis(5_900);
    assert!(all.abs_diff(due) <= Duration::from_millis(20), "{all:?}");
}

/// How a receiver tells of its limit.
type Words = fn(left: u64, reset: Duration, at: SystemTime) -> Vec<(&'static str, String)>;

/// A receiver that takes 20 requests in 10 seconds tells so, and never has to refuse one.
async fn allowance(words: Words) {
    const LIMIT: u64 = 20;
    const WINDOW: Duration = Duration::from_secs(10);
    let bed = bed(70).await;
    let mut slowed = options("http://127.0.0.1:9/".parse().unwrap());
    slowed.concurrency = 4;
    let began = Instant::now();
    // When the window began, how many requests came in it, and how many were refused.
    let state = Arc::new(Mutex::new((began, 0, 0)));
    let log = Arc::clone(&state);
    let script: Script = Arc::new(move |parcel| {
        let now = Instant::now();
        let mut state = log.lock().unwrap();
        let (window, count, refused) = &mut *state;
        if now - *window >= WINDOW {
            (*window, *count) = (now, 0);
        }
        *count += 1;
        let is_refused = *count > LIMIT;
        *refused += u64::from(is_refused);
        let (left, reset) = (LIMIT.saturating_sub(*count), *window + WINDOW - now);
        drop(state);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000) + began.elapsed();
            let reset = reset.saturating_sub(Duration::from_millis(50));
            let mut headers = HeaderMap::new();
            for (name, value) in words(left, reset, at) {
                let value = HeaderValue::from_str(&value).unwrap();
                headers.append(HeaderName::from_static(name), value);
            }
            let (status, verdict) = match is_refused {
                true => (StatusCode::TOO_MANY_REQUESTS, Verdict::Retry { after: None }),
                false => (StatusCode::OK, Verdict::Succeeded),
            };
            let steering = steering(status, &headers, at);
            assert!(steering.allowance.is_some(), "{headers:?}");
            attempt(&parcel, verdict, steering)
        })
    });
    deliver(&bed, slowed, script).await;
    let (_, _, refused) = *state.lock().unwrap();
    assert_eq!(refused, 0, "it is slowed before it fails");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_receivers_limit_is_not_overdrawn() {
    // In whole seconds, which never promise a reset too early.
    fn seconds(reset: Duration) -> u64 {
        reset.as_secs() + 1
    }
    allowance(|left, reset, _| {
        vec![
            ("x-ratelimit-limit", "20".to_owned()),
            ("x-ratelimit-remaining", left.to_string()),
            ("x-ratelimit-reset", seconds(reset).to_string()),
        ]
    })
    .await;
    allowance(|left, reset, at| {
        let at = (at + reset).duration_since(UNIX_EPOCH).unwrap();
        vec![
            ("x-rate-limit-remaining", left.to_string()),
            ("x-rate-limit-reset", (at.as_secs() + 1).to_string()),
        ]
    })
    .await;
    allowance(|left, reset, _| {
        vec![
            ("ratelimit-policy", r#""burst";q=20;w=10"#.to_owned()),
            ("ratelimit", format!(r#""burst";r={left};t={}"#, seconds(reset))),
        ]
    })
    .await;
    allowance(|left, reset, _| {
        vec![("ratelimit", format!("limit=20, remaining={left}, reset={}", seconds(reset)))]
    })
    .await;
}
