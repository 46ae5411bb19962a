//! One text for each JSON value, whoever wrote it: keys sorted, numbers written out as Postgres's
//! numeric writes them.

use serde_json::Value;

/// An exponent beyond this is left as it is; nobody wants that many zeros.
const LARGEST_EXPONENT: i64 = 20_000;

/// The value's canonical text. Of two equal keys the last counts, as in jsonb.
pub(crate) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => out.push_str(&plain(&number.to_string())),
        Value::Array(values) => {
            out.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (place, (key, value)) in entries.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// `1e+3` is `1000`, `1.50e1` is `15.0`, `-0` is `0`; trailing zeros stay, being digits of a numeric.
fn plain(number: &str) -> String {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().unwrap_or(i64::MAX)),
        None => (number, 0),
    };
    if exponent.abs() > LARGEST_EXPONENT {
        return number.to_owned();
    }
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all = format!("{whole}{fraction}");
    let mut scale = fraction.len() as i64 - exponent;
    while scale < 0 {
        all.push('0');
        scale += 1;
    }
    let scale = scale as usize;
    if all.len() <= scale {
        all.insert_str(0, &"0".repeat(scale + 1 - all.len()));
    }
    let (whole, fraction) = all.split_at(all.len() - scale);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let zero = whole == "0" && fraction.bytes().all(|digit| digit == b'0');
    let sign = if zero { "" } else { sign };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Fails loudly if the rules above are wrong: they decide what counts as a difference.
pub(crate) fn check_itself() {
    for (text, expected) in [
        ("1e+3", "1000"),
        ("1.50e1", "15.0"),
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("1.5e-3", "0.0015"),
        ("120", "120"),
        ("-12.50", "-12.50"),
        ("0e5", "0"),
    ] {
        assert_eq!(plain(text), expected, "{text}");
    }
    let value: Value = serde_json::from_str(r#"{"b":1e1,"a":[null,"x\u0001"],"b":2}"#).unwrap();
    assert_eq!(canonical(&value), r#"{"a":[null,"x\u0001"],"b":2}"#);
}
