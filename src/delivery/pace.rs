//! How fast an endpoint gets its requests: as its options say, and slower where its answers ask for
//! it.
//!
//! Four things slow it, and the strictest counts: the rate limit of its options; `Retry-After`; what
//! the receiver tells of its own limit; and a throttle, which takes slots away where the receiver is
//! overloaded and gives them back one by one. Plain data; the caller brings the time.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::attempt::{Allowance, Steering};
use super::endpoint::RateLimit;

/// The longest an answer may keep the whole endpoint quiet. A delivery that was asked to wait for
/// hours waits for hours; but the next one may be welcome (the answer may have been about one
/// record, or a mistake), and one request in a minute is no burden to find out.
const LONGEST_QUIET: Duration = Duration::from_secs(60);
/// How much earlier than its turn a request may go. Timers are as coarse as that: without it, each
/// late wake-up would be lost time, and the rate always below the one asked for.
const TOLERANCE: Duration = Duration::from_millis(2);
/// What a rate's period is cut to, so that a point in time can be made of it.
const LONGEST_PERIOD: Duration = Duration::from_secs(365 * 86_400);
/// An allowance is stretched over the time until its reset when less is left of it than this, or
/// than twice the requests that may be on their way at once.
const SCARCE: u64 = 10;
/// A reset that moved by less belongs to the same allowance: most are told in whole seconds.
const SAME_RESET: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pace {
    limit: Option<Limit>,
    quiet_until: Option<Instant>,
    budget: Option<Budget>,
    throttle: Throttle,
    /// Requests on their way.
    in_flight: usize,
    last_started: Option<Instant>,
}

impl Pace {
    /// At most `slots` requests at once, and no more than `rate`.
    pub(super) fn new(rate: Option<RateLimit>, slots: usize) -> Pace {
        Pace {
            limit: rate.and_then(Limit::new),
            quiet_until: None,
            budget: None,
            throttle: Throttle::new(slots),
            in_flight: 0,
            last_started: None,
        }
    }

    /// How many requests may be on their way at once now, at least 1.
    pub(super) fn slots(&self) -> usize {
        self.throttle.slots
    }

    /// Whether a request may be sent now; otherwise none before the time returned. Takes nothing.
    pub(super) fn permit(&mut self, now: Instant) -> Result<(), Instant> {
        self.quiet_until = self.quiet_until.filter(|until| now < *until);
        self.budget = self.budget.filter(|budget| now < budget.resets_at);
        let limit = self.limit.as_ref().and_then(|limit| limit.next_at);
        let told = self.budget.and_then(|budget| budget.next_at(self.throttle.most));
        let next = limit.max(self.quiet_until).max(told);
        next.filter(|next| now < *next).map_or(Ok(()), Err)
    }

    /// A request goes out. Each is to [land](Pace::landed) once.
    pub(super) fn started(&mut self, now: Instant) {
        self.in_flight += 1;
        self.last_started = Some(now);
        if let Some(limit) = &mut self.limit {
            limit.take(now);
        }
        if let Some(budget) = &mut self.budget {
            budget.left = budget.left.saturating_sub(1);
            budget.since = now;
        }
    }

    /// A request came back. `after` is its `Retry-After`.
    pub(super) fn landed(
        &mut self,
        after: Option<Duration>,
        steering: &Steering,
        success: bool,
        now: Instant,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(after) = after {
            self.quiet_until = self.quiet_until.max(Some(now + after.min(LONGEST_QUIET)));
        }
        self.throttle.landed(steering.throttle, success, self.in_flight);
        if let Some(told) = steering.allowance {
            let since = self.last_started.unwrap_or(now);
            self.budget = Some(Budget::told(self.budget, told, self.in_flight, since, now));
        }
    }
}

/// A rate limit, kept by the generic cell rate algorithm: evenly, without bursts.
#[derive(Debug)]
struct Limit {
    cells: RateLimiter<NotKeyed, InMemoryState, Given, StateInformationMiddleware>,
    /// What a request takes.
    weight: NonZeroU32,
    /// When the limiter was made: what its times count from.
    made_at: Option<Instant>,
    /// When the next may go.
    next_at: Option<Instant>,
}

/// The time as the caller says it, in nanoseconds.
#[derive(Debug, Default)]
struct Given(AtomicU64);

impl Clock for Given {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

impl Limit {
    /// None where the rate is higher than time can tell.
    fn new(rate: RateLimit) -> Option<Limit> {
        let each = rate.period.min(LONGEST_PERIOD) / rate.requests.max(1);
        // A request takes as many cells as make one cell no longer than the tolerance, so that the
        // burst can be set as finely as that.
        let weight = each.as_nanos().div_ceil(TOLERANCE.as_nanos()).clamp(1, u32::MAX.into());
        let weight = NonZeroU32::new(u32::try_from(weight).unwrap_or(u32::MAX))?;
        let cell = each / weight.get();
        let early = TOLERANCE.as_nanos().checked_div(cell.as_nanos())?;
        let burst = weight.saturating_add(u32::try_from(early).unwrap_or(u32::MAX));
        let quota = Quota::with_period(cell)?.allow_burst(burst);
        let cells = RateLimiter::direct_with_clock(quota, Given::default()).with_middleware();
        Some(Limit { cells, weight, made_at: None, next_at: None })
    }

    fn take(&mut self, now: Instant) {
        let made_at = *self.made_at.get_or_insert(now);
        let since = now.saturating_duration_since(made_at);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.cells.clock().0.fetch_max(nanos, Ordering::Relaxed);
        // What another one would have to wait for; asked only when it has to, for it takes.
        self.next_at = match self.cells.check_n(self.weight) {
            Ok(Ok(state)) if state.remaining_burst_capacity() >= self.weight.get() => None,
            Ok(_) => match self.cells.check_n(self.weight) {
                Ok(Err(not_until)) => {
                    Some(now + not_until.wait_time_from(self.cells.clock().now()))
                }
                _ => None,
            },
            Err(_) => None,
        };
    }
}

/// What the receiver told of its own limit, counted on since.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: u64,
    resets_at: Instant,
    /// When the last request went out.
    since: Instant,
}

impl Budget {
    /// `told` by an answer, while `in_flight` others are on their way, of which the receiver may
    /// have counted none.
    fn told(
        known: Option<Budget>,
        told: Allowance,
        in_flight: usize,
        since: Instant,
        now: Instant,
    ) -> Budget {
        // Told in whole seconds, none is less than one.
        let reset = match told.reset {
            Duration::ZERO => Duration::from_secs(1),
            reset => reset.min(Duration::from_secs(86_400)),
        };
        let mut left = told.remaining.saturating_sub(in_flight as u64);
        let mut resets_at = now + reset;
        if let Some(known) = known
            && now < known.resets_at
            && resets_at <= known.resets_at + SAME_RESET
        {
            resets_at = known.resets_at.min(resets_at);
            // Answers overtake each other: of several on their way the strictest is believed.
            if in_flight > 0 {
                left = left.min(known.left);
            }
        }
        Budget { left, resets_at, since }
    }

    /// When the next may go: at once while there is plenty, then evenly until the reset.
    fn next_at(&self, slots: usize) -> Option<Instant> {
        if self.left > SCARCE.max(2 * slots as u64) {
            return None;
        }
        let time = self.resets_at.saturating_duration_since(self.since);
        let share = time / u32::try_from(self.left).unwrap_or(u32::MAX).saturating_add(1);
        Some(self.since + share.min(LONGEST_QUIET))
    }
}

/// Additive increase, multiplicative decrease, as TCP has it.
#[derive(Debug)]
struct Throttle {
    slots: usize,
    most: usize,
    /// Requests that were on their way when slots were taken away: they say nothing of the new pace.
    old: usize,
    /// Successes since the last change.
    successes: usize,
}

impl Throttle {
    fn new(slots: usize) -> Throttle {
        let most = slots.max(1);
        Throttle { slots: most, most, old: 0, successes: 0 }
    }

    fn landed(&mut self, throttle: bool, success: bool, in_flight: usize) {
        if self.old > 0 {
            self.old -= 1;
            return;
        }
        if throttle {
            self.slots = (self.slots / 2).max(1);
            self.old = in_flight;
            self.successes = 0;
        } else if success && self.slots < self.most {
            self.successes += 1;
            if self.successes >= self.slots {
                self.slots += 1;
                self.successes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
