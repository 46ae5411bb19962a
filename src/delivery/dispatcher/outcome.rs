//! What came of a request.

use std::collections::HashSet;

use super::*;

use crate::delivery::attempt::Verdict;
use crate::event::{Lanes, Report};
use crate::journal::{DueDelivery, Listed};

/// What becomes of those events of a request that were not accepted.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// They are tried again on the schedule, but not before that long.
    Retry { after: Option<Duration> },
    /// They are given up.
    Dead,
    /// They go first when the endpoint is enabled again.
    Kept,
}

/// The lanes of those events of a request that are tried again: who stands behind them, waits.
#[derive(Default)]
struct Held(HashSet<i64>);

impl Held {
    /// Whether one of the lanes was held before; all of them are from now on.
    fn add(&mut self, lanes: Lanes) -> bool {
        let lanes = lanes.as_slice();
        let held = lanes.iter().any(|lane| self.0.contains(lane));
        self.0.extend(lanes);
        held
    }
}

/// Whether an event is about walhook itself.
fn is_own(name: &str) -> bool {
    name.starts_with("walhook.")
}

impl Dispatcher {
    /// A request came back.
    pub(super) fn landed(&mut self, landing: Landing) {
        let Landing { launch, attempt } = landing;
        let Launch { parcel, tries, parked, bytes, ticket } = launch;
        let Attempt { verdict, host, steering, record } = attempt;
        let now = Instant::now();
        self.flying -= 1;
        self.flying_bytes -= bytes;
        let split = verdict == Verdict::Split && parcel.events.len() > 1;
        let success = matches!(verdict, Verdict::Succeeded | Verdict::Partly { .. })
            || verdict == Verdict::Disable { delivered: true };
        let after = if let Verdict::Retry { after } = verdict { after } else { None };
        let error = record.error.as_deref().unwrap_or(match verdict {
            Verdict::Disable { .. } => {
                "took a delivery and asked, by `webhook-delivery: disable`, for no more"
            }
            _ => "a part of the events was refused",
        });
        let own = parcel.events.iter().all(|numbered| is_own(&numbered.event.name));
        let result = health::Result {
            success,
            failure: !success && !split,
            host,
            after,
            steering,
            error,
            own,
        };
        let lasting = self.health.landed(ticket, result, now, self.now_ms());
        if let Verdict::Disable { .. } = verdict {
            self.disable(error.to_owned(), own);
        } else if let Some(reason) = lasting
            && !self.disabled
        {
            self.disable(reason, own);
        }
        let flown = Flown { parcel, tries, parked };
        match verdict {
            Verdict::Split if split => self.split(flown, bytes),
            Verdict::Succeeded | Verdict::Disable { delivered: true } => self.accepted(flown),
            Verdict::Partly { failed } => {
                let failed: HashSet<_> = failed.into_iter().collect();
                let fate = Fate::Retry { after: None };
                self.failed(&flown, fate, error, |event| failed.contains(&event.event.id));
            }
            Verdict::Abort => self.failed(&flown, Fate::Dead, error, |_| true),
            Verdict::Disable { delivered: false } => {
                self.failed(&flown, Fate::Kept, error, |_| true);
            }
            Verdict::Retry { .. } | Verdict::Split => {
                self.failed(&flown, Fate::Retry { after }, error, |_| true);
            }
        }
        self.attempts.push(record);
        if !split {
            self.gathering_since.get_or_insert(now);
        }
    }

    fn disable(&mut self, reason: String, own: bool) {
        // The requests that were on their way may all say it.
        if !self.disabled {
            tracing::warn!(
                endpoint = &*self.name,
                reason,
                "the endpoint is disabled; `walhook endpoints enable {}` sends it what it missed",
                self.name
            );
        }
        if !self.disabled && !own {
            let (endpoint, reason) = (self.name.to_string(), reason.clone());
            self.journal.report(Report::EndpointDisabled { endpoint, reason });
        }
        self.disabled = true;
        self.disable = Some(reason);
    }

    fn accepted(&mut self, flown: Flown) {
        for numbered in &flown.parcel.events {
            self.finish(flown.parked, numbered, Ended::Succeeded);
        }
    }

    fn finish(&mut self, parked: bool, numbered: &Numbered, ended: Ended) {
        let Numbered { event, sequence } = numbered;
        if parked {
            let listed = Listed { seq: event.seq, sequence: *sequence };
            self.window.finish_parked(listed, event.lanes, ended);
        } else {
            self.window.finish(event.seq, ended);
        }
    }

    /// The parcel was too large: its events are sent again at once, in smaller ones, and no later
    /// one is as large.
    fn split(&mut self, flown: Flown, bytes: usize) {
        let Flown { parcel, tries, parked } = flown;
        // At least one event of two does not fit into half of their size.
        let limit = bytes.max(parcel.events.len()) / 2;
        if limit < self.window.limits().bytes {
            self.window.limit_bytes(limit);
            tracing::warn!(
                endpoint = &*self.name,
                events = parcel.events.len(),
                bytes,
                "the endpoint finds requests with that much in them too large: from now on at most \
                 {limit} bytes of events go into one; set `max_bytes` of its `batch` to what it takes"
            );
        }
        if parked {
            let again = parcel.events.into_iter().zip(tries).map(|(numbered, tries)| {
                self.window.put_back_parked();
                let Numbered { event, sequence } = numbered;
                DueDelivery { seq: event.seq, sequence, attempts: tries - 1, event }
            });
            let again = again.collect();
            self.retries.put_back(again);
            self.retry_is_next = true;
        } else {
            self.hurried += parcel.events.len();
            let again = parcel.events.into_iter().map(|numbered| (numbered.event.seq, numbered));
            self.window.put_back(again.collect());
        }
    }

    /// Some or all events of a request were not accepted.
    fn failed(
        &mut self,
        flown: &Flown,
        fate: Fate,
        error: &str,
        refused: impl Fn(&Numbered) -> bool,
    ) {
        let now_ms = self.now_ms();
        let mut held = Held::default();
        // One due time for all that were tried as often, so that they go together again.
        let mut dues: Vec<(u32, Option<i64>)> = Vec::new();
        for (at, numbered) in flown.parcel.events.iter().enumerate() {
            if !refused(numbered) {
                self.finish(flown.parked, numbered, Ended::Succeeded);
                continue;
            }
            let attempts = flown.tries.get(at).copied().unwrap_or(1);
            tracing::debug!(
                endpoint = &*self.name,
                event = %numbered.event.id,
                attempt = attempts,
                error,
                "an attempt failed"
            );
            let due_at_ms = match fate {
                Fate::Dead => None,
                Fate::Kept => Some(now_ms),
                Fate::Retry { after } => match dues.iter().find(|(tried, _)| *tried == attempts) {
                    Some(&(_, due_at_ms)) => due_at_ms,
                    None => {
                        let due_at_ms = self.due_at_ms(attempts, after, now_ms);
                        dues.push((attempts, due_at_ms));
                        due_at_ms
                    }
                },
            };
            let ended = match due_at_ms {
                None => {
                    self.dead(numbered, attempts, error);
                    Ended::Dead { attempts }
                }
                Some(_) if self.ordering != Ordering::None && held.add(numbered.event.lanes) => {
                    Ended::Blocked { attempts }
                }
                Some(due_at_ms) => Ended::Waiting { due_at_ms, attempts },
            };
            self.finish(flown.parked, numbered, ended);
        }
    }

    /// When a delivery is due again that was tried so often; never when that was the last time.
    fn due_at_ms(&mut self, attempts: u32, after: Option<Duration>, now_ms: i64) -> Option<i64> {
        let delay = self.schedule.delay(attempts, &mut self.rng)?;
        // Asked for less, it still gets the schedule's time: it would soon be used up.
        let delay = after.map_or(delay, |after| delay.max(after));
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Some(now_ms.saturating_add(delay_ms))
    }

    fn dead(&mut self, numbered: &Numbered, attempts: u32, error: &str) {
        let event = &numbered.event;
        if let Some(line) = self.deaths.line(Instant::now()) {
            let name = &*self.name;
            let more = match line.last {
                true => format!(
                    "; others of the next minute are not named here: see `walhook deliveries list \
                     --endpoint {name}`"
                ),
                false => String::new(),
            };
            tracing::warn!(
                endpoint = name,
                event = %event.id,
                name = &*event.name,
                attempts,
                unnamed = (line.count > 1).then(|| line.count - 1),
                error,
                "a delivery is dead: it is not tried again by itself{more}"
            );
        }
        if !is_own(&event.name) {
            self.journal.report(Report::DeliveryDead {
                endpoint: self.name.to_string(),
                id: event.id,
                event: event.name.to_string(),
                attempts,
                error: error.to_owned(),
            });
        }
    }
}

/// A request that is over.
struct Flown {
    parcel: Parcel,
    tries: Vec<u32>,
    parked: bool,
}
