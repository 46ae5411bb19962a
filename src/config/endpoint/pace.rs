//! How fast requests go out, and when to give an endpoint up.

use std::time::Duration;

use super::Result;
use crate::config::error::{ConfigError, Located};
use crate::config::raw::RawBreaker;
use crate::config::ready::within;
use crate::config::units::parse_duration;
use crate::delivery::{BreakerOptions, RateLimit};

const LONGEST_RATE_PERIOD: Duration = Duration::from_secs(7 * 86_400);
const MOST_RATE_REQUESTS: u32 = 10_000_000;
const LEAST_DISABLE_AFTER: Duration = Duration::from_secs(60);
const LONGEST_DISABLE_AFTER: Duration = Duration::from_secs(365 * 86_400);
const MOST_MIN_REQUESTS: u32 = 10_000;
const LONGEST_BREAKER_TIME: Duration = Duration::from_secs(86_400);

/// `50/s`, or `100/10s`: so many requests in such a time.
pub(super) fn rate_limit(raw: Located<String>) -> Result<RateLimit> {
    Ok(raw.try_map(|text| parse_rate(&text))?.value)
}

fn parse_rate(text: &str) -> Result<RateLimit, String> {
    let wrong = || {
        format!(
            "is {text:?}, which is no rate: write requests and a time, such as \"50/s\" or \"100/10s\""
        )
    };
    let (requests, period) = text.split_once('/').ok_or_else(wrong)?;
    let (requests, period) = (requests.trim(), period.trim());
    if requests.is_empty() || !requests.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let requests = requests.parse().unwrap_or(u32::MAX);
    // A unit by itself is one of it.
    let unit = period.bytes().all(|byte| byte.is_ascii_alphabetic());
    let period = parse_duration(&if unit { format!("1{period}") } else { period.to_owned() })
        .map_err(|_| wrong())?;
    if requests == 0 || period.is_zero() {
        return Err(format!(
            "is {text:?}, which lets nothing through: write at least one request in a time longer than zero"
        ));
    }
    if requests > MOST_RATE_REQUESTS || period > LONGEST_RATE_PERIOD {
        return Err(format!(
            "is {text:?}, which is too much: write at most {MOST_RATE_REQUESTS} requests, and a time of at most \"7d\""
        ));
    }
    Ok(RateLimit { requests, period })
}

/// A duration, or `never`.
pub(super) fn disable_after(raw: Option<Located<String>>) -> Result<Option<Duration>> {
    let Some(raw) = raw else { return Ok(Some(Duration::from_secs(5 * 86_400))) };
    if raw.value == "never" {
        return Ok(None);
    }
    let parsed = raw
        .try_map(|text| parse_duration(&text).map_err(|error| format!("{error}, or \"never\"")))?;
    within(parsed, LEAST_DISABLE_AFTER, LONGEST_DISABLE_AFTER).map(Some)
}

pub(in super::super) fn breaker(raw: Option<RawBreaker>) -> Result<BreakerOptions> {
    let default = BreakerOptions::default();
    let Some(raw) = raw else { return Ok(default) };
    let failures = match raw.failures {
        Some(share) if !(share.value > 0.0 && share.value <= 1.0) => {
            let message = format_args!(
                "is {}: write the share of failures above 0 and at most 1, such as 0.7",
                share.value
            );
            return Err(ConfigError::at(&share.place, message));
        }
        Some(share) => share.value,
        None => default.failures,
    };
    let min_requests = match raw.min_requests {
        Some(number) if !(1..=MOST_MIN_REQUESTS).contains(&number.value) => {
            return Err(ConfigError::at(
                &number.place,
                format_args!("is {}: write a number from 1 to {MOST_MIN_REQUESTS}", number.value),
            ));
        }
        Some(number) => number.value,
        None => default.min_requests,
    };
    let time = |raw: Option<Located<Duration>>, default: Duration| match raw {
        Some(raw) => within(raw, Duration::from_millis(1), LONGEST_BREAKER_TIME),
        None => Ok(default),
    };
    let window = time(raw.window, default.window)?;
    let cool_down = time(raw.cool_down, default.cool_down)?;
    let longest_at = raw.max_cool_down.as_ref().map(|time| time.place.clone());
    // Who wants a long one need not say it twice.
    let max_cool_down = time(raw.max_cool_down, default.max_cool_down.max(cool_down))?;
    match longest_at {
        Some(place) if max_cool_down < cool_down => {
            let message =
                "is shorter than `cool_down`, the first of them: write one at least as long";
            return Err(ConfigError::at(&place, message));
        }
        _ => {}
    }
    Ok(BreakerOptions { failures, min_requests, window, cool_down, max_cool_down })
}
