//! The circuit breaker of an endpoint: when nothing but failures comes back, stop asking for a
//! while.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row, of whatever deliveries, that open it.
const FAILURES_TO_OPEN: u32 = 20;
const FIRST_COOL_DOWN: Duration = Duration::from_secs(1);
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(60);

/// Pure state; the caller brings the time.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// How long it stays open the next time it opens.
    cool_down: Duration,
    /// The receiver asked for quiet until then (`Retry-After`).
    quiet_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// The cool-down is over: one attempt decides. `probing` while it is on its way.
    HalfOpen {
        probing: bool,
    },
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// As much as there are slots for.
    Any,
    /// A single attempt, the probe.
    One,
    /// Nothing before this time.
    After(Instant),
    /// Nothing until the probe has come back.
    Probing,
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Unchanged,
    Opened { cool_down: Duration },
    Closed,
}

impl Breaker {
    pub(super) fn new() -> Breaker {
        Breaker {
            state: State::Closed { failures: 0 },
            cool_down: FIRST_COOL_DOWN,
            quiet_until: None,
        }
    }

    pub(super) fn permit(&mut self, now: Instant) -> Permit {
        if let Some(until) = self.quiet_until {
            if now < until {
                return Permit::After(until);
            }
            self.quiet_until = None;
        }
        match self.state {
            State::Closed { .. } => Permit::Any,
            State::Open { until } if now < until => Permit::After(until),
            State::Open { .. } => {
                self.state = State::HalfOpen { probing: false };
                Permit::One
            }
            State::HalfOpen { probing: false } => Permit::One,
            State::HalfOpen { probing: true } => Permit::Probing,
        }
    }

    /// An attempt goes out. Returns whether it is the probe.
    pub(super) fn started(&mut self) -> bool {
        let probe = matches!(self.state, State::HalfOpen { .. });
        if probe {
            self.state = State::HalfOpen { probing: true };
        }
        probe
    }

    pub(super) fn succeeded(&mut self) -> Turn {
        let was = self.state;
        self.state = State::Closed { failures: 0 };
        self.cool_down = FIRST_COOL_DOWN;
        if matches!(was, State::Closed { .. }) { Turn::Unchanged } else { Turn::Closed }
    }

    /// An attempt failed; `probe` as [`started`](Breaker::started) said. Failures of attempts that
    /// were sent before it opened change nothing.
    pub(super) fn failed(&mut self, probe: bool, now: Instant) -> Turn {
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                self.state = State::Closed { failures: failures + 1 };
                Turn::Unchanged
            }
            State::HalfOpen { .. } if !probe => Turn::Unchanged,
            State::Closed { .. } | State::HalfOpen { .. } => {
                let cool_down = self.cool_down;
                self.state = State::Open { until: now + cool_down };
                self.cool_down = (cool_down * 2).min(LONGEST_COOL_DOWN);
                Turn::Opened { cool_down }
            }
            State::Open { .. } => Turn::Unchanged,
        }
    }

    /// The receiver asked to be left alone for that long.
    pub(super) fn keep_quiet(&mut self, now: Instant, wait: Duration) {
        let until = now + wait.min(LONGEST_COOL_DOWN);
        self.quiet_until = Some(self.quiet_until.map_or(until, |known| known.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, now: Instant, times: u32) -> Turn {
        let mut turn = Turn::Unchanged;
        for _ in 0..times {
            let probe = breaker.started();
            turn = breaker.failed(probe, now);
        }
        turn
    }

    #[test]
    fn opens_after_twenty_in_a_row_and_only_then() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        assert_eq!(fail(&mut breaker, now, 19), Turn::Unchanged);
        assert_eq!(breaker.succeeded(), Turn::Unchanged);
        assert_eq!(fail(&mut breaker, now, 19), Turn::Unchanged);
        assert_eq!(breaker.permit(now), Permit::Any);
        assert_eq!(fail(&mut breaker, now, 1), Turn::Opened { cool_down: FIRST_COOL_DOWN });
        assert_eq!(breaker.permit(now), Permit::After(now + FIRST_COOL_DOWN));
        assert_eq!(breaker.failed(false, now), Turn::Unchanged, "sent before it opened");
    }

    #[test]
    fn one_probe_decides_and_the_cool_down_doubles_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new();
        fail(&mut breaker, now, 20);
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            let Permit::After(until) = breaker.permit(now) else { panic!("it is open") };
            now = until;
            assert_eq!(breaker.permit(now), Permit::One);
            assert!(breaker.started());
            assert_eq!(breaker.permit(now), Permit::Probing);
            assert_eq!(breaker.failed(false, now), Turn::Unchanged, "not the probe");
            let cool_down = Duration::from_secs(expected);
            assert_eq!(breaker.failed(true, now), Turn::Opened { cool_down });
        }
        now += LONGEST_COOL_DOWN;
        assert_eq!(breaker.permit(now), Permit::One);
        breaker.started();
        assert_eq!(breaker.succeeded(), Turn::Closed);
        assert_eq!(breaker.permit(now), Permit::Any);
        let turn = fail(&mut breaker, now, 20);
        assert_eq!(turn, Turn::Opened { cool_down: FIRST_COOL_DOWN });
    }

    #[test]
    fn quiet_is_kept_as_asked_but_not_longer_than_a_minute() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.keep_quiet(now, Duration::from_secs(7));
        breaker.keep_quiet(now, Duration::from_secs(3));
        assert_eq!(breaker.permit(now), Permit::After(now + Duration::from_secs(7)));
        breaker.keep_quiet(now, Duration::from_secs(86_400));
        assert_eq!(breaker.permit(now), Permit::After(now + LONGEST_COOL_DOWN));
        assert_eq!(breaker.permit(now + LONGEST_COOL_DOWN), Permit::Any);
    }
}
