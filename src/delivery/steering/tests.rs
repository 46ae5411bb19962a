use proptest::prelude::*;
use reqwest::header::{HeaderName, HeaderValue};

use super::*;

const NOW_S: u64 = 1_750_000_000;

fn told(headers: &[(&str, &str)]) -> Option<Allowance> {
    let now = UNIX_EPOCH + Duration::from_secs(NOW_S);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    steering(StatusCode::OK, &map, now).allowance
}

fn left(remaining: u64, reset_s: u64) -> Option<Allowance> {
    Some(Allowance { remaining, reset: Duration::from_secs(reset_s) })
}

#[test]
fn each_way_of_telling_is_understood() {
    for (headers, expected) in [
        (vec![("X-Rate-Limit-Remaining", "7"), ("X-Rate-Limit-Reset", "30")], left(7, 30)),
        (vec![("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "1750000030")], left(7, 30)),
        (vec![("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "1750000030000")], left(7, 30)),
        (vec![("RateLimit-Remaining", "7"), ("RateLimit-Reset", " 30 ")], left(7, 30)),
        (vec![("RateLimit", "limit=100, remaining=7, reset=30")], left(7, 30)),
        (vec![("RateLimit", "limit=100;w=60, Remaining=7 ,reset=30")], left(7, 30)),
        (vec![("RateLimit", "\"default\";r=7;t=30")], left(7, 30)),
        (vec![("RateLimit", "\"a, b;r=1\\\";t=2\" ; t=30; r=7;pk=:cHsdsRa894==:")], left(7, 30)),
        (vec![("RateLimit", "\"burst\";r=50;t=10, \"daily\";r=7;t=3600")], left(7, 3600)),
        (vec![("RateLimit", "\"a\";r=1;t=1"), ("RateLimit", "\"b\";r=0;t=5")], left(0, 5)),
        (
            vec![
                ("RateLimit", "\"a\";r=9;t=1"),
                ("X-RateLimit-Remaining", "1"),
                ("X-RateLimit-Reset", "1"),
            ],
            left(1, 1),
        ),
    ] {
        assert_eq!(told(&headers), expected, "{headers:?}");
    }
}

#[test]
fn odd_numbers_are_made_the_best_of() {
    let pair = |remaining: &str, reset: &str| {
        told(&[("X-RateLimit-Remaining", remaining), ("X-RateLimit-Reset", reset)])
    };
    let tenth = |remaining, tenths: u64| {
        Some(Allowance { remaining, reset: Duration::from_millis(tenths * 100) })
    };
    assert_eq!(pair("0", "0.5"), tenth(0, 5));
    assert_eq!(pair("-3", "5"), left(0, 5), "counted on below zero");
    assert_eq!(pair("5, 10;w=1", "5"), left(5, 5));
    assert_eq!(pair("5", "1749999999"), left(5, 0), "past");
    assert_eq!(pair("5", "9999999999"), left(5, 86_400), "in three hundred years");
    assert_eq!(pair("5", "99999999999999999999999999"), left(5, 86_400));
    assert_eq!(pair("99999999999999999999999999", "5"), left(u64::MAX, 5));
    assert_eq!(pair("5", &"9".repeat(400)), left(5, 86_400));
    for (remaining, reset) in [
        ("", "5"),
        ("5", ""),
        ("many", "5"),
        ("5", "soon"),
        ("5", "-5"),
        ("5", "inf"),
        ("5", "1e3"),
        ("5", "1.2.3"),
        ("0x5", "5"),
        ("5", "Sun, 15 Jun 2025 15:06:45 GMT"),
    ] {
        assert_eq!(pair(remaining, reset), None, "{remaining} {reset}");
    }
    assert_eq!(told(&[("X-RateLimit-Remaining", "5")]), None, "no telling until when");
    assert_eq!(told(&[("RateLimit", "\"a\";r=5")]), None);
    assert_eq!(told(&[("RateLimit", "\"a;r=5;t=5")]), None, "a quote that never ends");
    assert_eq!(told(&[("RateLimit-Policy", "\"a\";q=5;w=5")]), None);
    assert_eq!(told(&[]), None);
}

#[test]
fn overload_and_nothing_else_throttles() {
    for status in 100..600 {
        let status = StatusCode::from_u16(status).unwrap();
        let throttle = steering(status, &HeaderMap::new(), SystemTime::now()).throttle;
        assert_eq!(throttle, [429, 502, 503, 504].contains(&status.as_u16()), "{status}");
    }
}

proptest! {
    #[test]
    fn nothing_said_panics_or_is_believed_for_more_than_a_day(
        fields in prop::collection::vec(
            (0usize..7, prop_oneof!["[ -~\\t\\x80-\\xff]*", "[\"\\\\;,=rt0-9 .-]*", "-?[0-9]{1,30}(\\.[0-9]*)?"]),
            0..8,
        ),
        now_s in prop_oneof![Just(0), any::<u32>().prop_map(u64::from)],
    ) {
        let names = [
            "ratelimit", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-remaining",
            "x-ratelimit-reset", "x-rate-limit-remaining", "x-rate-limit-reset",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(names[*name], value);
            }
        }
        let now = UNIX_EPOCH + Duration::from_secs(now_s);
        let told = steering(StatusCode::OK, &headers, now).allowance;
        prop_assert!(told.is_none_or(|told| told.reset <= LONGEST_RESET));
    }

    #[test]
    fn the_strictest_of_several_counts(limits in prop::collection::vec((0u64..100, 1u64..100), 1..10)) {
        let field: Vec<_> = limits.iter().map(|(r, t)| format!("\"x\";r={r};t={t}")).collect();
        let found = told(&[("RateLimit", &field.join(", "))]).unwrap();
        let reset_s = found.reset.as_secs();
        prop_assert!(limits.contains(&(found.remaining, reset_s)));
        for (remaining, other_s) in limits {
            prop_assert!(found.remaining * other_s <= remaining * reset_s);
        }
    }
}
