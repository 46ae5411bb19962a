//! When a failed delivery is tried again. The only file that touches the `backoff` crate, which is
//! unmaintained upstream.

use std::fmt;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use rand::Rng;

/// No delay is longer, whatever a schedule or a receiver asks for.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The delays between the attempts of one delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySchedule {
    shape: Shape,
    /// 0.2 spreads a delay evenly over 80 % to 120 % of it.
    jitter: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    List(Vec<Duration>),
    Exponential { initial: Duration, factor: f64, max: Duration, give_up_after: Duration },
}

impl Default for RetrySchedule {
    /// That of Standard Webhooks: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, ±20 %.
    fn default() -> RetrySchedule {
        let seconds = [
            5 * SECOND,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            14 * HOUR,
            20 * HOUR,
            24 * HOUR,
        ];
        let delays = seconds.into_iter().map(Duration::from_secs).collect();
        RetrySchedule { shape: Shape::List(delays), jitter: 0.2 }
    }
}

impl RetrySchedule {
    /// These delays, one after each failed attempt; after the last one's failure the delivery is
    /// dead. An empty list means a single attempt.
    pub fn list(delays: Vec<Duration>, jitter: f64) -> Result<RetrySchedule, InvalidSchedule> {
        check_jitter(jitter)?;
        if delays.iter().any(|&delay| delay > LONGEST_DELAY) {
            return Err(InvalidSchedule("a retry delay is longer than 7 days"));
        }
        Ok(RetrySchedule { shape: Shape::List(delays), jitter })
    }

    /// `initial`, then always `factor` times the delay before, at most `max`, until the delays
    /// (without jitter) would add up to more than `give_up_after`.
    pub fn exponential(
        initial: Duration,
        factor: f64,
        max: Duration,
        give_up_after: Duration,
        jitter: f64,
    ) -> Result<RetrySchedule, InvalidSchedule> {
        check_jitter(jitter)?;
        if initial < Duration::from_millis(1) {
            return Err(InvalidSchedule("the initial retry delay is shorter than 1 ms"));
        }
        if !(1.0..=1_000.0).contains(&factor) {
            return Err(InvalidSchedule("the retry factor is not between 1 and 1000"));
        }
        if max < initial || max > LONGEST_DELAY {
            return Err(InvalidSchedule(
                "the longest retry delay is not between the initial one and 7 days",
            ));
        }
        let shape = Shape::Exponential { initial, factor, max, give_up_after };
        Ok(RetrySchedule { shape, jitter })
    }

    /// How long to wait after attempt number `attempt` (the first is 1) has failed; `None` when it
    /// was the last.
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Option<Duration> {
        let exact = match &self.shape {
            Shape::List(delays) => {
                let place = usize::try_from(attempt.saturating_sub(1)).ok()?;
                *delays.get(place)?
            }
            &Shape::Exponential { initial, factor, max, give_up_after } => {
                exponential_delay(attempt, initial, factor, max, give_up_after)?
            }
        };
        let spread = 1.0 + self.jitter * rng.random_range(-1.0..=1.0);
        Some(exact.mul_f64(spread).min(LONGEST_DELAY))
    }
}

fn exponential_delay(
    attempt: u32,
    initial: Duration,
    factor: f64,
    max: Duration,
    give_up_after: Duration,
) -> Option<Duration> {
    let mut steps = ExponentialBackoff {
        current_interval: initial,
        initial_interval: initial,
        randomization_factor: 0.0,
        multiplier: factor,
        max_interval: max,
        // The crate measures from when the value was made; ours ends by the sum of the delays.
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut sum = Duration::ZERO;
    for number in 1..=attempt.max(1) {
        let delay = steps.next_backoff()?.min(max);
        // From here on every delay is the same: count instead of stepping.
        let repeats = if delay == max || factor == 1.0 { attempt.max(1) - number } else { 0 };
        sum = sum.saturating_add(delay.saturating_mul(repeats.saturating_add(1)));
        if sum > give_up_after {
            return None;
        }
        if number + repeats == attempt.max(1) {
            return Some(delay);
        }
    }
    None
}

fn check_jitter(jitter: f64) -> Result<(), InvalidSchedule> {
    if (0.0..=1.0).contains(&jitter) {
        Ok(())
    } else {
        Err(InvalidSchedule("the retry jitter is not between 0 and 1"))
    }
}

/// A retry schedule that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSchedule(&'static str);

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidSchedule {}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn seconds(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    #[test]
    fn default_schedule_has_nine_delays_with_jitter() {
        let mut rng = StdRng::seed_from_u64(1);
        let schedule = RetrySchedule::default();
        let mut differ = false;
        for _ in 0..200 {
            let first = schedule.delay(1, &mut rng).unwrap();
            assert!((seconds(4)..=seconds(6)).contains(&first), "{first:?}");
            differ |= first != schedule.delay(1, &mut rng).unwrap();
            let last = schedule.delay(9, &mut rng).unwrap();
            assert!((seconds(69_120)..=seconds(103_680)).contains(&last), "{last:?}");
        }
        assert!(differ);
        assert_eq!(schedule.delay(10, &mut rng), None);
        assert_eq!(schedule.delay(u32::MAX, &mut rng), None);
    }

    #[test]
    fn exponential_grows_to_its_maximum_and_gives_up() {
        let mut rng = StdRng::seed_from_u64(1);
        let schedule =
            RetrySchedule::exponential(seconds(1), 2.0, seconds(8), seconds(40), 0.0).unwrap();
        let delays: Vec<Option<u64>> = (1..=8)
            .map(|attempt| schedule.delay(attempt, &mut rng).map(|delay| delay.as_secs()))
            .collect();
        // 1 + 2 + 4 + 8 + 8 + 8 = 31, and another 8 is 39.
        assert_eq!(delays, [Some(1), Some(2), Some(4), Some(8), Some(8), Some(8), Some(8), None]);
        let steady = RetrySchedule::exponential(
            seconds(1),
            1.0,
            seconds(1),
            Duration::from_secs(1_000_000),
            0.0,
        )
        .unwrap();
        assert_eq!(steady.delay(1_000_000, &mut rng), Some(seconds(1)));
        assert_eq!(steady.delay(1_000_001, &mut rng), None);
        assert_eq!(steady.delay(u32::MAX, &mut rng), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(RetrySchedule::list(vec![], 0.0).is_ok());
        for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(RetrySchedule::list(vec![], jitter).is_err());
        }
        assert!(RetrySchedule::list(vec![Duration::MAX], 0.0).is_err());
        let exponential = |initial, factor, max| {
            RetrySchedule::exponential(initial, factor, max, seconds(60), 0.1)
        };
        assert!(exponential(Duration::ZERO, 2.0, seconds(1)).is_err());
        assert!(exponential(seconds(2), 2.0, seconds(1)).is_err());
        assert!(exponential(seconds(1), 0.5, seconds(2)).is_err());
        assert!(exponential(seconds(1), f64::NAN, seconds(2)).is_err());
        assert!(exponential(seconds(1), 2.0, Duration::MAX).is_err());
    }
}
