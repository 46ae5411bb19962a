use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const OK: Steering = Steering { throttle: false, allowance: None };
const THROTTLED: Steering = Steering { throttle: true, allowance: None };

fn rate(requests: u32, period: Duration) -> Option<RateLimit> {
    Some(RateLimit { requests, period })
}

fn told(remaining: u64, reset: Duration) -> Steering {
    Steering { throttle: false, allowance: Some(Allowance { remaining, reset }) }
}

/// Sends whenever it may for that long, on a timer that is late by up to `late`. Answers come at
/// once.
fn send(pace: &mut Pace, mut now: Instant, time: Duration, late: &[Duration]) -> Vec<Instant> {
    let end = now + time;
    let mut sent = Vec::new();
    let mut late = late.iter().cycle();
    while now < end {
        match pace.permit(now) {
            Ok(()) => {
                pace.started(now);
                pace.landed(None, &OK, true, now);
                sent.push(now);
                now += Duration::from_micros(1);
            }
            Err(until) => {
                assert!(until > now);
                now = until + late.next().copied().unwrap_or_default();
            }
        }
    }
    sent
}

#[test]
fn fifty_a_second_are_one_every_twenty_milliseconds() {
    let now = Instant::now();
    let mut pace = Pace::new(rate(50, SECOND), 32);
    let sent = send(&mut pace, now, 2 * SECOND, &[]);
    assert!((100..=101).contains(&sent.len()), "{}", sent.len());
    for pair in sent.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= 20 * MS - TOLERANCE && gap <= 20 * MS, "{gap:?}");
    }
}

#[test]
fn an_idle_time_saves_nothing_up() {
    let now = Instant::now();
    let mut pace = Pace::new(rate(1, 60 * SECOND), 32);
    assert_eq!(send(&mut pace, now, MS, &[]).len(), 1);
    assert_eq!(send(&mut pace, now + 3600 * SECOND, 59 * SECOND, &[]).len(), 1);
}

#[test]
fn late_timers_cost_nothing_of_a_high_rate() {
    let now = Instant::now();
    for requests in [500, 2_000, 20_000] {
        let mut pace = Pace::new(rate(requests, SECOND), 32);
        let sent = send(&mut pace, now, 5 * SECOND, &[MS, Duration::ZERO, MS * 3 / 2]).len();
        let most = 5 * requests as usize;
        assert!(sent * 100 >= most * 99 && sent <= most + 50, "{sent} of {most}");
    }
}

#[test]
fn asking_takes_nothing() {
    let now = Instant::now();
    let mut pace = Pace::new(rate(1, SECOND), 1);
    for _ in 0..10 {
        assert_eq!(pace.permit(now), Ok(()));
    }
    pace.started(now);
    let until = pace.permit(now).unwrap_err();
    assert_eq!(pace.permit(now), Err(until));
    assert_eq!(pace.permit(until), Ok(()));
}

#[test]
fn rates_of_any_size_neither_panic_nor_stop() {
    let now = Instant::now();
    for (requests, period) in [
        (u32::MAX, Duration::from_nanos(1)),
        (u32::MAX, SECOND),
        (1, Duration::MAX),
        (0, Duration::ZERO),
        (0, SECOND),
    ] {
        let mut pace = Pace::new(rate(requests, period), 0);
        for _ in 0..3 {
            pace.started(now);
        }
        let until = pace.permit(now).err().unwrap_or(now);
        assert!(until <= now + 4 * LONGEST_PERIOD);
        assert_eq!(pace.permit(until), Ok(()));
    }
}

#[test]
fn quiet_is_kept_as_asked_but_not_longer_than_a_minute() {
    let now = Instant::now();
    let mut pace = Pace::new(None, 4);
    for seconds in [7, 3] {
        pace.started(now);
        pace.landed(Some(seconds * SECOND), &OK, false, now);
    }
    assert_eq!(pace.permit(now), Err(now + 7 * SECOND));
    pace.started(now);
    pace.landed(Some(Duration::from_secs(86_400)), &OK, false, now);
    assert_eq!(pace.permit(now), Err(now + LONGEST_QUIET));
    assert_eq!(pace.permit(now + LONGEST_QUIET), Ok(()));
}

#[test]
fn an_overloaded_receiver_gets_half_and_its_slots_back_one_by_one() {
    let now = Instant::now();
    let mut pace = Pace::new(None, 32);
    let flight = |pace: &mut Pace, steering: &Steering, success| {
        let count = pace.slots();
        (0..count).for_each(|_| pace.started(now));
        (0..count).for_each(|_| pace.landed(None, steering, success, now));
    };
    for expected in [16, 8, 4, 2, 1, 1] {
        flight(&mut pace, &THROTTLED, false);
        assert_eq!(pace.slots(), expected, "once for all that were on their way");
    }
    flight(&mut pace, &OK, false);
    assert_eq!(pace.slots(), 1, "other failures give nothing back");
    for expected in 2..=32 {
        flight(&mut pace, &OK, true);
        assert_eq!(pace.slots(), expected);
    }
    flight(&mut pace, &OK, true);
    assert_eq!(pace.slots(), 32);
    let mut strict = Pace::new(None, 1);
    flight(&mut strict, &THROTTLED, false);
    assert_eq!(strict.slots(), 1);
}

#[test]
fn a_limit_that_is_used_up_is_waited_for() {
    let now = Instant::now();
    let mut pace = Pace::new(None, 4);
    pace.started(now);
    pace.landed(None, &told(0, 5 * SECOND), true, now);
    assert_eq!(pace.permit(now), Err(now + 5 * SECOND));
    assert_eq!(pace.permit(now + 5 * SECOND), Ok(()));
    // Told in whole seconds, it is still less than one.
    let now = now + 10 * SECOND;
    pace.started(now);
    pace.landed(None, &told(0, Duration::ZERO), false, now);
    assert_eq!(pace.permit(now), Err(now + SECOND));
}

#[test]
fn a_limit_for_hours_is_asked_about_once_a_minute() {
    let start = Instant::now();
    let mut now = start;
    let mut pace = Pace::new(None, 32);
    let mut sent = 0;
    while now < start + 3600 * SECOND {
        match pace.permit(now) {
            Ok(()) => {
                pace.started(now);
                sent += 1;
                now += MS;
                pace.landed(None, &told(0, 86_400 * 365 * SECOND), false, now);
            }
            Err(until) => now = until,
        }
    }
    assert!((55..=61).contains(&sent), "{sent}");
}

#[test]
fn what_is_left_is_stretched_to_the_reset() {
    let now = Instant::now();
    let mut pace = Pace::new(None, 4);
    pace.started(now);
    pace.landed(None, &told(9, 10 * SECOND), true, now);
    let sent = send(&mut pace, now, 10 * SECOND, &[]);
    assert_eq!(sent.len(), 9);
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] > 900 * MS));
    // With plenty left there is no reason to be slow.
    pace.landed(None, &told(1_000_000, 3600 * SECOND), true, now + 10 * SECOND);
    assert!(send(&mut pace, now + 11 * SECOND, MS, &[]).len() >= 1_000);
}

#[test]
fn requests_on_their_way_are_counted_against_what_is_left() {
    let now = Instant::now();
    let mut pace = Pace::new(None, 8);
    (0..8).for_each(|_| pace.started(now));
    // Answers overtake each other; the higher numbers are older.
    for remaining in [9, 12, 10, 14, 11, 13, 15] {
        pace.landed(None, &told(remaining, 10 * SECOND), true, now);
        assert!(pace.budget.unwrap().left <= 8);
    }
    // Nothing else is on its way: what the last one says is exact.
    pace.landed(None, &told(8, 10 * SECOND), true, now);
    assert_eq!(pace.budget.unwrap().left, 8);
}

proptest! {
    /// Over no interval more than rate and tolerance allow, however late the timers are.
    #[test]
    fn never_more_than_the_rate(
        requests in 1u32..5_000,
        period_ms in 1u64..20_000,
        late_us in prop::collection::vec(0u64..5_000, 1..20),
        idle_ms in 0u64..5_000,
    ) {
        let now = Instant::now();
        let period = Duration::from_millis(period_ms);
        let mut pace = Pace::new(rate(requests, period), 32);
        let late: Vec<_> = late_us.into_iter().map(Duration::from_micros).collect();
        let each = period / requests;
        // About a thousand requests.
        let mut sent = send(&mut pace, now, (each * 500).min(period * 5), &late);
        let again = now + each * 500 + Duration::from_millis(idle_ms);
        sent.extend(send(&mut pace, again, (each * 500).min(period * 5), &late));
        for (i, first) in sent.iter().enumerate() {
            for (j, last) in sent.iter().enumerate().skip(i) {
                let allowed = ((*last - *first) + TOLERANCE).as_nanos() / each.as_nanos() + 1;
                // One more, for what is rounded off when a request is cut into cells.
                prop_assert!((j - i + 1) as u128 <= allowed + 1, "{} in {:?}", j - i + 1, *last - *first);
            }
        }
    }

    /// Whatever a receiver says, there is a way on: the wait is bounded, and after it one may go.
    #[test]
    fn no_answer_stops_it_for_good(
        answers in prop::collection::vec(
            (any::<bool>(), any::<bool>(), prop::option::of(any::<u64>()),
             prop::option::of((any::<u64>(), any::<u64>())), 0u64..200_000),
            1..60,
        ),
        slots in 0usize..40,
    ) {
        let mut now = Instant::now();
        let mut pace = Pace::new(rate(100, SECOND), slots);
        for (throttle, success, after, allowance, wait_ms) in answers {
            let allowance = allowance.map(|(remaining, reset)| Allowance {
                remaining,
                reset: Duration::from_secs(reset),
            });
            pace.started(now);
            let steering = Steering { throttle, allowance };
            pace.landed(after.map(Duration::from_secs), &steering, success, now);
            prop_assert!((1..=slots.max(1)).contains(&pace.slots()));
            if let Err(until) = pace.permit(now) {
                prop_assert!(until > now && until <= now + 70 * SECOND);
                prop_assert_eq!(pace.permit(until), Ok(()));
            }
            now += Duration::from_millis(wait_ms);
        }
    }
}
