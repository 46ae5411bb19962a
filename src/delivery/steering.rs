//! What an answer's headers say of the receiver's own limits.
//!
//! Three ways of telling are in use, and each is understood:
//! - `X-RateLimit-Remaining` and `X-RateLimit-Reset`, or with a hyphen more `X-Rate-Limit-…`, which
//!   nobody ever wrote down: the reset is in seconds from now with some, a Unix time with others;
//! - `RateLimit-Remaining` and `RateLimit-Reset`, or `RateLimit: limit=…, remaining=…, reset=…`, of
//!   the older drafts of `draft-ietf-httpapi-ratelimit-headers`;
//! - `RateLimit: "policy";r=50;t=30` of its newer ones, with as many policies as the receiver has.
//!
//! The limit itself (`…-Limit`, `RateLimit-Policy`) is not read: what is left of it says more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::attempt::{Allowance, Steering};

/// The longest time until a reset that is believed.
const LONGEST_RESET: Duration = Duration::from_secs(24 * 3600);
/// Numbers of seconds from here on are Unix times: as a time from now it would be 31 years.
const UNIX_SECONDS: f64 = 1e9;
/// And from here on they count milliseconds.
const UNIX_MILLISECONDS: f64 = 1e12;
/// Limits looked at in one answer: more is nonsense.
const MOST_LIMITS: usize = 64;

const PAIRS: [(&str, &str); 3] = [
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
];

/// What the answer asks of the sender's pace. Whatever is not understood is as if it were not there;
/// of several limits the strictest counts.
pub(super) fn steering(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Steering {
    let throttle = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    // Most receivers tell nothing, and this is looked for in each answer.
    if !headers.keys().any(|name| is_limit(name.as_str())) {
        return Steering { throttle, allowance: None };
    }
    let pairs = PAIRS.iter().filter_map(|(remaining, reset)| {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Some(Allowance { remaining: count(text(remaining)?)?, reset: until(text(reset)?, now)? })
    });
    let fields = headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
    let told = fields.flat_map(|field| limits(field, now));
    let allowance = pairs.chain(told.take(MOST_LIMITS)).reduce(stricter);
    Steering { throttle, allowance }
}

/// Whether a header of that name is read here.
fn is_limit(name: &str) -> bool {
    name == "ratelimit" || name.ends_with("-remaining")
}

/// The one that lets fewer requests through in a time.
fn stricter(a: Allowance, b: Allowance) -> Allowance {
    if a.remaining == 0 && b.remaining == 0 {
        return if a.reset >= b.reset { a } else { b };
    }
    // a.remaining / a.reset <= b.remaining / b.reset
    let product = |allowance: Allowance, other: Allowance| {
        u128::from(allowance.remaining) * other.reset.as_millis().max(1)
    };
    if product(a, b) <= product(b, a) { a } else { b }
}

/// The limits in one `RateLimit` field, of whichever draft.
fn limits(field: &str, now: SystemTime) -> Vec<Allowance> {
    let mut found = Vec::new();
    // An older draft's are members of the list, a newer one's are parameters of each member.
    let mut older = Told::default();
    for member in split(field, ',') {
        let mut newer = Told::default();
        for part in split(member, ';') {
            let Some((key, value)) = part.split_once('=') else { continue };
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "r" => newer.remaining = count(value),
                "t" => newer.reset = until(value, now),
                "remaining" => older.remaining = count(value),
                "reset" => older.reset = until(value, now),
                _ => {}
            }
        }
        found.extend(newer.allowance());
    }
    found.extend(older.allowance());
    found
}

#[derive(Default)]
struct Told {
    remaining: Option<u64>,
    reset: Option<Duration>,
}

impl Told {
    fn allowance(self) -> Option<Allowance> {
        Some(Allowance { remaining: self.remaining?, reset: self.reset? })
    }
}

/// The parts between separators that stand outside quotes (RFC 9651, 3.3.3).
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        if escaped {
            escaped = false;
        } else {
            match c {
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => return !quoted && c == separator,
            }
        }
        false
    })
}

/// A number of requests. A negative one is none at all: some receivers count on below zero.
fn count(text: &str) -> Option<u64> {
    let text = text.split([',', ';']).next()?.trim();
    if let Some(digits) = text.strip_prefix('-') {
        return is_digits(digits).then_some(0);
    }
    // Too many digits for a number are a great many.
    is_digits(text).then(|| text.parse().unwrap_or(u64::MAX))
}

/// How long until a reset: seconds from now, or a Unix time in seconds or milliseconds, each with a
/// fraction or without.
fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.split([',', ';']).next()?.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    let seconds = if number < UNIX_SECONDS {
        number
    } else {
        let at = if number < UNIX_MILLISECONDS { number } else { number / 1e3 };
        at - now.duration_since(UNIX_EPOCH).ok()?.as_secs_f64()
    };
    // What is past has been reset.
    let reset = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST_RESET);
    Some(reset.min(LONGEST_RESET))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
