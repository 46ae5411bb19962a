//! How fast requests go out, and when to give an endpoint up.

use std::time::Duration;

use super::Result;
use crate::config::error::{ConfigError, Located};
use crate::config::raw::RawBreaker;
use crate::delivery::{BreakerOptions, RateLimit};

const UNSUPPORTED: &str = "is not supported by this version of walhook: remove it";

pub(super) fn rate_limit(raw: Located<String>) -> Result<RateLimit> {
    Err(ConfigError::at(&raw.place, UNSUPPORTED))
}

pub(super) fn disable_after(raw: Option<Located<String>>) -> Result<Option<Duration>> {
    match raw {
        None => Ok(Some(Duration::from_secs(5 * 86_400))),
        Some(raw) => Err(ConfigError::at(&raw.place, UNSUPPORTED)),
    }
}

pub(in super::super) fn breaker(raw: Option<RawBreaker>) -> Result<BreakerOptions> {
    let Some(raw) = raw else { return Ok(BreakerOptions::default()) };
    let _ = (raw.failures, raw.min_requests, raw.window, raw.cool_down, raw.max_cool_down);
    Err(ConfigError::at(&raw.place, UNSUPPORTED))
}
