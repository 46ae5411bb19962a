//! Several events in one request.

use reqwest::Method;

use super::Result;
use crate::config::error::ConfigError;
use crate::config::raw::RawBatch;
use crate::delivery::BatchOptions;
use crate::event::Format;

pub(super) fn build(
    raw: Option<RawBatch>,
    _format: &Format,
    _method: &Method,
) -> Result<BatchOptions> {
    let Some(raw) = raw else { return Ok(BatchOptions::SINGLE) };
    let _ = (raw.max_events, raw.max_bytes, raw.max_wait);
    let message = "is not supported by this version of walhook: remove it";
    Err(ConfigError::at(&raw.place, message))
}
