//! `rate_limit`, `disable_after` and the breaker.

use super::*;
use crate::delivery::{BreakerOptions, RateLimit};

fn endpoint(line: &str) -> String {
    file("", "", line, "")
}

fn breaker(line: &str) -> String {
    file("", "", "", &format!("[delivery]\nbreaker = {{ {line} }}"))
}

#[test]
fn a_rate_is_requests_and_a_time() {
    for (text, requests, seconds) in [
        ("50/s", 50, 1),
        ("600/m", 600, 60),
        ("1/h", 1, 3_600),
        ("100/10s", 100, 10),
        (" 5 / 1m30s ", 5, 90),
        ("10000000/7d", 10_000_000, 604_800),
    ] {
        let config = parse(&endpoint(&format!("rate_limit = \"{text}\""))).unwrap();
        let rate = RateLimit { requests, period: Duration::from_secs(seconds) };
        assert_eq!(config.endpoints[0].rate_limit, Some(rate), "{text}");
    }
    assert_eq!(parse(&endpoint("")).unwrap().endpoints[0].rate_limit, None);
}

#[test]
fn an_endpoint_is_disabled_after_a_time_or_never() {
    let after = |text| parse(&endpoint(text)).unwrap().endpoints[0].disable_after;
    assert_eq!(after(""), Some(Duration::from_secs(5 * 86_400)));
    assert_eq!(after("disable_after = \"12h\""), Some(Duration::from_secs(12 * 3_600)));
    assert_eq!(after("disable_after = \"never\""), None);
}

#[test]
fn the_breaker_has_defaults_and_takes_numbers() {
    let default = parse(&endpoint("")).unwrap().breaker;
    assert_eq!(default, BreakerOptions::default());
    let text = breaker(
        "failures = 0.5, min_requests = 7, window = \"1m\", cool_down = \"2s\", max_cool_down = \"5m\"",
    );
    let seconds = Duration::from_secs;
    assert_eq!(
        parse(&text).unwrap().breaker,
        BreakerOptions {
            failures: 0.5,
            min_requests: 7,
            window: seconds(60),
            cool_down: seconds(2),
            max_cool_down: seconds(300),
        }
    );
    assert_eq!(
        parse(&breaker("cool_down = \"2m\"")).unwrap().breaker,
        BreakerOptions { cool_down: seconds(120), max_cool_down: seconds(120), ..default }
    );
}

#[test]
fn wrong_numbers_get_one_sentence() {
    let rate = "which is no rate: write requests and a time, such as \"50/s\" or \"100/10s\"";
    let none = "which lets nothing through: write at least one request in a time longer than zero";
    let much = "which is too much: write at most 10000000 requests, and a time of at most \"7d\"";
    let mut cases = Vec::new();
    for (text, why) in [
        ("50", rate),
        ("50/", rate),
        ("/s", rate),
        ("fast", rate),
        ("-1/s", rate),
        ("1.5/s", rate),
        ("50/10", rate),
        ("50/fortnight", rate),
        ("50/s/s", rate),
        ("0/s", none),
        ("5/0s", none),
        ("10000001/s", much),
        ("99999999999999999999/s", much),
        ("1/8d", much),
    ] {
        cases.push((
            endpoint(&format!("rate_limit = \"{text}\"")),
            format!("8: `endpoint.rate_limit` is \"{text}\", {why}"),
        ));
    }
    for (text, said) in [
        (
            "\"soon\"",
            "is \"soon\", which is no duration: write a whole number with a unit (ms, s, m, h, d, w), such as \"15s\" or \"1h30m\", or \"never\"",
        ),
        ("\"5s\"", "is too short: write a duration from \"1m\" to \"365d\""),
        ("\"400d\"", "is too long: write a duration from \"1m\" to \"365d\""),
    ] {
        cases.push((
            endpoint(&format!("disable_after = {text}")),
            format!("8: `endpoint.disable_after` {said}"),
        ));
    }
    let share = "write the share of failures above 0 and at most 1, such as 0.7";
    for (text, said) in [
        ("failures = 0", format!(".failures` is 0: {share}")),
        ("failures = 1.1", format!(".failures` is 1.1: {share}")),
        ("failures = nan", format!(".failures` is NaN: {share}")),
        ("min_requests = 0", ".min_requests` is 0: write a number from 1 to 10000".into()),
        ("window = \"0s\"", ".window` is too short: write a duration from \"1ms\" to \"1d\"".into()),
        (
            "cool_down = \"2s\", max_cool_down = \"1s\"",
            ".max_cool_down` is shorter than `cool_down`, the first of them: write one at least as long".into(),
        ),
        ("cooldown = \"2s\"", ".cooldown` is an unknown key: did you mean `cool_down`?".into()),
    ] {
        cases.push((breaker(text), format!("12: `delivery.breaker{said}")));
    }
    for (text, sentence) in cases {
        let said = parse(&text).err().unwrap_or_else(|| panic!("accepted: {text}")).to_string();
        assert_eq!(said, format!("conf/walhook.toml:{sentence}"), "{text}");
    }
}
