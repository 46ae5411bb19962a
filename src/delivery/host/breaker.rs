//! The breaker itself: plain data; the caller brings the time.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use super::HostAnswer;

/// When a host counts as failing, and for how long it is left alone then.
///
/// The defaults open at a share of 0.7, as Convoy's do (70 % of at least 10 requests in 5 minutes
/// open its breaker for 30 s; Braze, too, stops for a cool-down when "most" requests to a host
/// fail): a host that still takes every second request is better served by retries. The rest is for
/// a sender that has many requests on their way at once. Twenty requests are asked for and not ten,
/// since one dropped connection fails all that were on it. The window is 30 s: two requests that run
/// into the timeout of 15 s one after the other. The first cool-down is a second and not thirty,
/// because most outages are restarts, and a probe costs one request; it doubles with each failed
/// probe up to a minute, so that a host that is down for a day gets one request a minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerOptions {
    /// Opens when this share of the window's requests failed, above 0 and at most 1.
    pub failures: f64,
    /// And there were at least that many, 1 or more.
    pub min_requests: u32,
    /// How far back requests count. Of more than a hundred (or `min_requests`, where that is more)
    /// the latest count: the good answers of a busy host must not hide for half a minute that it
    /// died.
    pub window: Duration,
    /// How long it stays open at first; twice as long after each probe that fails, and where it
    /// opens again within `window` of closing.
    pub cool_down: Duration,
    /// The longest it stays open.
    pub max_cool_down: Duration,
}

impl Default for BreakerOptions {
    fn default() -> BreakerOptions {
        BreakerOptions {
            failures: 0.7,
            min_requests: 20,
            window: Duration::from_secs(30),
            cool_down: Duration::from_secs(1),
            max_cool_down: Duration::from_secs(60),
        }
    }
}

/// The latest requests that count, unless `min_requests` are more.
const LATEST: usize = 100;
/// What cool-downs are cut to, so that a point in time can be made of them.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(7 * 86_400);
/// The share of a cool-down that chance may take off, so that many hosts behind one dead proxy are
/// not all probed at the same moment.
const JITTER: f64 = 0.1;

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::delivery) enum Permit {
    /// As much as there are slots for.
    Any,
    /// A single request, the probe.
    One,
    /// Nothing before this time.
    After(Instant),
    /// Nothing until the probe has come back.
    Probing,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::delivery) enum Turn {
    Unchanged,
    /// Nothing is sent for so long.
    Opened {
        cool_down: Duration,
    },
    Closed,
}

#[derive(Debug)]
pub(super) struct Breaker {
    options: BreakerOptions,
    state: State,
    /// Counts the turns. Answers to requests of another round change nothing.
    round: u64,
    /// How long it stays open the next time it opens.
    cool_down: Duration,
    /// When it last closed.
    closed_at: Option<Instant>,
    /// Outcomes of this round, the oldest first.
    window: VecDeque<Outcome>,
    /// How many of these are failures.
    failed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    at: Instant,
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Left alone until then; after it, whoever asks first sends the probe.
    Open {
        until: Instant,
    },
    /// The probe came to nothing: whoever asks first sends another.
    Ready,
    Probing,
}

impl Breaker {
    pub(super) fn new(mut options: BreakerOptions) -> Breaker {
        options.cool_down = options.cool_down.min(LONGEST_COOL_DOWN);
        options.max_cool_down = options.max_cool_down.clamp(options.cool_down, LONGEST_COOL_DOWN);
        Breaker {
            options,
            state: State::Closed,
            round: 0,
            cool_down: options.cool_down,
            closed_at: None,
            window: VecDeque::new(),
            failed: 0,
        }
    }

    pub(super) fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Closed => Permit::Any,
            State::Open { until } if now < until => Permit::After(until),
            State::Open { .. } | State::Ready => Permit::One,
            State::Probing => Permit::Probing,
        }
    }

    /// Leave to send one request: its round, and whether it is the probe.
    pub(super) fn try_start(&mut self, now: Instant) -> Option<(u64, bool)> {
        match self.permit(now) {
            Permit::Any => Some((self.round, false)),
            Permit::One => {
                self.state = State::Probing;
                Some((self.round, true))
            }
            Permit::After(_) | Permit::Probing => None,
        }
    }

    /// A request of that round is over.
    pub(super) fn landed(
        &mut self,
        round: u64,
        probe: bool,
        answer: HostAnswer,
        now: Instant,
    ) -> Turn {
        if round != self.round {
            return Turn::Unchanged;
        }
        match (self.state, answer) {
            (State::Closed, HostAnswer::Alive) => self.count(false, now),
            (State::Closed, HostAnswer::Failing) => self.count(true, now),
            (State::Probing, HostAnswer::Alive) if probe => {
                self.state = State::Closed;
                self.closed_at = Some(now);
                self.round += 1;
                Turn::Closed
            }
            (State::Probing, HostAnswer::Failing) if probe => self.open(now),
            (State::Probing, HostAnswer::None) if probe => {
                self.state = State::Ready;
                Turn::Unchanged
            }
            _ => Turn::Unchanged,
        }
    }

    /// The probe of that round will never land.
    pub(super) fn abandoned(&mut self, round: u64) {
        if round == self.round && self.state == State::Probing {
            self.state = State::Ready;
        }
    }

    fn count(&mut self, failed: bool, now: Instant) -> Turn {
        let min_requests = self.options.min_requests.max(1) as usize;
        let latest = LATEST.max(min_requests);
        while let Some(oldest) = self.window.front()
            && (self.window.len() >= latest
                || now.saturating_duration_since(oldest.at) > self.options.window)
        {
            self.failed -= usize::from(oldest.failed);
            self.window.pop_front();
        }
        self.window.push_back(Outcome { at: now, failed });
        self.failed += usize::from(failed);
        let share = self.failed as f64 / self.window.len() as f64;
        if !failed || self.window.len() < min_requests || share < self.options.failures {
            return Turn::Unchanged;
        }
        if self.closed_at.is_none_or(|at| now.saturating_duration_since(at) > self.options.window) {
            self.cool_down = self.options.cool_down;
        }
        self.open(now)
    }

    fn open(&mut self, now: Instant) -> Turn {
        let cool_down = self.cool_down.mul_f64(1.0 - JITTER * rand::rng().random::<f64>());
        self.cool_down = self.cool_down.saturating_mul(2).min(self.options.max_cool_down);
        self.state = State::Open { until: now + cool_down };
        self.round += 1;
        self.window = VecDeque::new();
        self.failed = 0;
        Turn::Opened { cool_down }
    }
}
