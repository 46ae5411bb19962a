//! Durations such as `5m` and sizes such as `10GiB`.

use std::time::Duration;

/// Reads a duration: whole numbers with a unit (`ms`, `s`, `m`, `h`, `d`, `w`), one or more, such
/// as `250ms`, `15s` or `1h30m`. The error is a predicate that says what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| {
        Err(format!(
            "is {text:?}, which {why}: write a whole number with a unit (ms, s, m, h, d, w), such as \"15s\" or \"1h30m\""
        ))
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return wrong("is no duration");
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits == 0 {
            return wrong("is no duration");
        }
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "" if !after.starts_with(['.', ',']) => return wrong("has no unit"),
            _ => return wrong("is no duration"),
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
        // A thousand years: more is a mistake, and sums of such durations cannot overflow.
        match part.and_then(|ms| total_ms.checked_add(ms)) {
            Some(ms) if ms <= 31_536_000_000_000 => total_ms = ms,
            _ => return wrong("is too long"),
        }
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a size in bytes: a whole number with a unit (`B`, `kB`, `MB`, `GB`, `TB` in powers of
/// 1,000, `KiB`, `MiB`, `GiB`, `TiB` in powers of 1,024), such as `10GiB`. The error is a
/// predicate that says what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = |why: &str| {
        Err(format!(
            "is {text:?}, which {why}: write a whole number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as \"512MiB\""
        ))
    };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    if digits == 0 {
        return wrong("is no size");
    }
    let (number, unit) = trimmed.split_at(digits);
    let unit_bytes: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "" => return wrong("has no unit"),
        _ => return wrong("is no size"),
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_bytes)) {
        // What SQLite's and Postgres's signed numbers can hold.
        Some(bytes) if i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => wrong("is too large"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("1h30m", 5_400_000),
            (" 0s ", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, why) in [
            ("", "is no duration"),
            ("15", "has no unit"),
            ("soon", "is no duration"),
            ("1.5s", "is no duration"),
            ("-5s", "is no duration"),
            ("5 seconds", "has no unit"),
            ("5sec", "is no duration"),
            ("99999999999999999999s", "is too long"),
            ("99999999999999w", "is too long"),
            ("٣s", "is no duration"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0B", 0),
            ("1kB", 1_000),
            ("1KiB", 1_024),
            ("1MiB", 1 << 20),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("2tb", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("", "is no size"),
            ("1024", "has no unit"),
            ("1.5GiB", "is no size"),
            ("-1MiB", "is no size"),
            ("1 parsec", "is no size"),
            ("9999999999TiB", "is too large"),
            ("9223372036854775808B", "is too large"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_written_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
