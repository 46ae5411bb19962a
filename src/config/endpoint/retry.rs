//! When failed deliveries are tried again.

use std::time::Duration;

use super::{Holds, Result};
use crate::config::error::ConfigError;
use crate::config::raw::RawRetry;
use crate::config::units::parse_duration;
use crate::delivery::RetrySchedule;

pub(super) fn build(raw: RawRetry) -> Result<RetrySchedule> {
    let place = raw.place;
    let growing = [
        raw.initial.as_ref().map(|value| &value.place),
        raw.factor.as_ref().map(|value| &value.place),
        raw.max.as_ref().map(|value| &value.place),
        raw.give_up_after.as_ref().map(|value| &value.place),
    ];
    let growing = growing.into_iter().flatten().next().cloned();
    let jitter = raw.jitter.map_or(0.2, |jitter| jitter.value);
    let schedule = match (raw.schedule, growing) {
        (Some(_), Some(other)) => {
            let message = "stands beside `schedule`: keep either `schedule`, or `initial`, `factor`, `max` and `give_up_after`";
            return Err(ConfigError::at(&other, message));
        }
        (Some(schedule), None) => {
            let mut delays = Vec::with_capacity(schedule.value.len());
            for delay in schedule.value {
                delays.push(delay.try_map(|delay| parse_duration(&delay))?.value);
            }
            RetrySchedule::list(delays, jitter)
        }
        (None, Some(_)) => RetrySchedule::exponential(
            raw.initial.map_or(Duration::from_secs(5), |value| value.value),
            raw.factor.map_or(2.0, |value| value.value),
            raw.max.map_or(Duration::from_secs(3_600), |value| value.value),
            raw.give_up_after.map_or(Duration::from_secs(3 * 86_400), |value| value.value),
            jitter,
        ),
        (None, None) => {
            let message = "says nothing of when: write schedule = [\"5s\", \"5m\", …], or initial = \"…\" for growing delays";
            return Err(ConfigError::at(&place, message));
        }
    };
    schedule.map_err(|error| ConfigError::at(&place, Holds(error)))
}
