//! Several events in one request.

use std::time::Duration;

use reqwest::Method;

use super::{Result, within};
use crate::config::error::{ConfigError, Located};
use crate::config::raw::RawBatch;
use crate::delivery::BatchOptions;
use crate::event::Format;

/// Events in one request.
const MAX_EVENTS: u32 = 1_000;
const DEFAULT_EVENTS: u32 = 100;
/// Bytes of bodies in one request: it is in memory as often as `concurrency` says.
const MIN_BYTES: u64 = 1 << 10;
const MAX_BYTES: u64 = 16 << 20;
const DEFAULT_BYTES: u64 = 1 << 20;
/// How long an event may wait for others.
const MAX_WAIT: Duration = Duration::from_secs(60);

pub(super) fn build(
    raw: Option<RawBatch>,
    format: &Format,
    method: &Method,
) -> Result<BatchOptions> {
    let Some(raw) = raw else { return Ok(BatchOptions::SINGLE) };
    if !format.can_batch() {
        let other = match format {
            Format::Template(_) => "a `template`".to_owned(),
            _ => format!("format = {:?}", format.name()),
        };
        let message = format_args!(
            "has no meaning with {other}, which makes a request of each event: remove one of the two"
        );
        return Err(ConfigError::at(&raw.place, message));
    }
    if *method == Method::GET {
        let message = "has no meaning with method = \"GET\", whose requests have no body: remove one of the two";
        return Err(ConfigError::at(&raw.place, message));
    }
    let max_events = between(raw.max_events, 1, MAX_EVENTS, DEFAULT_EVENTS)?;
    let max_bytes = match raw.max_bytes {
        None => DEFAULT_BYTES,
        Some(bytes) if (MIN_BYTES..=MAX_BYTES).contains(&bytes.value) => bytes.value,
        Some(bytes) => {
            let message = "is not between \"1KiB\" and \"16MiB\": write a size in between";
            return Err(ConfigError::at(&bytes.place, message));
        }
    };
    let max_wait = match raw.max_wait {
        Some(wait) if max_events == 1 && !wait.value.is_zero() => {
            let message = "has no effect with max_events = 1, for there is nothing to wait for: remove one of the two";
            return Err(ConfigError::at(&wait.place, message));
        }
        Some(wait) => within(wait, Duration::ZERO, MAX_WAIT)?,
        None => Duration::ZERO,
    };
    Ok(BatchOptions {
        max_events: max_events as usize,
        max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
        max_wait,
    })
}

fn between(number: Option<Located<u32>>, least: u32, most: u32, default: u32) -> Result<u32> {
    match number {
        None => Ok(default),
        Some(number) if (least..=most).contains(&number.value) => Ok(number.value),
        Some(number) => Err(ConfigError::at(
            &number.place,
            format_args!("is {}: write a number from {least} to {most}", number.value),
        )),
    }
}
