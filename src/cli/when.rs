//! Times as people write them: a moment, or how long ago.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::clock::now_ms;
use crate::config::parse_duration;

/// What the commands' help says of times.
pub(super) const HELP: &str = "Times: RFC 3339 (2025-02-10T15:30:00Z), without an offset in this machine's time zone \
                               (2025-02-10, 2025-02-10T15:30), or how long ago (90s, 2h, 3d).";

/// A moment, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When(pub i64);

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(When(at.as_microsecond()));
        }
        let local = text.parse::<DateTime>().ok();
        let local = local.or_else(|| text.parse::<Date>().ok().map(|date| date.at(0, 0, 0, 0)));
        if let Some(local) = local {
            let at: Zoned = local
                .to_zoned(TimeZone::system())
                .map_err(|error| format!("is no time here: {error}"))?;
            return Ok(When(at.timestamp().as_microsecond()));
        }
        let ago = parse_duration(text.strip_suffix(" ago").unwrap_or(text)).map_err(|_| {
            "is no time: write one such as 2025-02-10T15:30:00Z, or how long ago, such as 2h"
                .to_owned()
        })?;
        let ago_us = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        Ok(When((now_ms() * 1_000).saturating_sub(ago_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_durations_are_understood() {
        let at = |text: &str| text.parse::<When>().unwrap().0;
        assert_eq!(at("2025-02-10T15:30:50.123456Z"), 1_739_201_450_123_456);
        assert_eq!(at("2025-02-10T16:30:50+01:00"), 1_739_201_450_000_000);
        let hour = now_ms() * 1_000 - at("1h");
        assert!((3_590_000_000..=3_600_000_000).contains(&hour), "{hour}");
        assert!((at("2025-02-10") - 1_739_145_600_000_000).abs() <= 15 * 3_600_000_000);
        assert_eq!(at("2025-02-10T00:00"), at("2025-02-10"));
        for text in ["", "yesterday", "2h30", "evt_1"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}
